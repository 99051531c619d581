"""The formats that are written: tables row by row, arrays of a length known at the end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from cmgems_cli.errors import OverwriteError, UsageError

TableFormat = Literal["tsv", "csv", "jsonl"]
TABLE_FORMATS: tuple[TableFormat, ...] = ("tsv", "csv", "jsonl")

ARRAY_SUFFIXES = (".npy", ".safetensors")

# The one tensor of a safetensors file.
EMBEDDINGS = "embeddings"

# Room for a safetensors header, whose numbers are only known at the end.
_HEADER_BYTES = 512


def check_out_file(out: Path, *, overwrite: bool) -> None:
    """Refuse an output file before any work is done on its behalf.

    Raises
    ------
    OverwriteError
        If `out` exists and `overwrite` is false, or if it is no plain file.
    """
    if out.exists() and not out.is_file():
        kind = "a folder" if out.is_dir() else "no plain file"
        raise OverwriteError(f"{out} is {kind}; give --out the name of a file")
    if out.exists() and not overwrite:
        raise OverwriteError(f"{out} exists; add --overwrite to replace it or choose another --out")


def table_format(out: Path | None, chosen: TableFormat | None) -> TableFormat:
    """Return the format that was asked for, or else the one that the file's name says; TSV for stdout.

    Raises
    ------
    UsageError
        If neither says.
    """
    if chosen is not None:
        return chosen
    if out is None:
        return "tsv"
    for known in TABLE_FORMATS:
        if out.suffix.lower() == f".{known}":
            return known
    raise UsageError(f"--out {out} does not end in .tsv, .csv or .jsonl; rename it or give --format")


class TableWriter:
    """Writes rows as TSV, CSV or JSON lines, in UTF-8.

    Parameters
    ----------
    stream : binary file
    kind : tsv, csv or jsonl
    columns : sequence of str
    header : bool, default True
        Whether the first line names the columns; JSON lines name them each.
    """

    def __init__(
        self, stream: IO[bytes], kind: TableFormat, columns: Sequence[str], *, header: bool = True
    ) -> None:
        self._stream, self._kind, self._columns = stream, kind, columns
        if header and kind != "jsonl":
            self.write([columns])

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows: None is an empty cell, or null."""
        text = io.StringIO(newline="")
        if self._kind == "jsonl":
            for row in rows:
                named = dict(zip(self._columns, row, strict=True))
                text.write(json.dumps(named, ensure_ascii=False) + "\n")
        else:
            delimiter = "\t" if self._kind == "tsv" else ","
            csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
        self._stream.write(text.getvalue().encode())


class ArrayWriter:
    """Writes a float32 array of unknown length row by row, as .npy or .safetensors.

    Parameters
    ----------
    stream : binary file
        Seekable: its header is written again at the end.
    suffix : str
        One of `ARRAY_SUFFIXES`.
    shape_of_row : tuple of int
        The array's shape without its first axis.
    metadata : dict of str, optional
        For the header of a safetensors file.
    rows : int, default 0
        How many are there already: `stream` is at its end, and holds nothing else.

    Attributes
    ----------
    rows : int
        Written so far.
    """

    def __init__(
        self,
        stream: IO[bytes],
        suffix: str,
        shape_of_row: tuple[int, ...],
        metadata: dict[str, str] | None = None,
        rows: int = 0,
    ) -> None:
        self._stream, self._suffix, self._shape_of_row = stream, suffix, shape_of_row
        self._metadata = metadata or {}
        self.rows = rows
        self._header_end = self._write_header()
        self._stream.seek(0, 2)

    def write(self, rows: np.ndarray) -> None:
        """Append rows: float32, shape (n, *shape_of_row)."""
        assert rows.shape[1:] == self._shape_of_row
        self._stream.write(np.ascontiguousarray(rows, "<f4").data)
        self.rows += len(rows)

    def finish(self) -> None:
        """Write the header again, now that the number of rows is known."""
        assert self._write_header() == self._header_end
        self._stream.seek(0, 2)

    def _write_header(self) -> int:
        self._stream.seek(0)
        shape = (self.rows, *self._shape_of_row)
        if self._suffix == ".npy":
            # numpy leaves room for the first axis to grow.
            described = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._stream, described)
        else:
            size = 4 * int(np.prod(shape, dtype=np.int64))
            tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
            text = json.dumps({"__metadata__": self._metadata, EMBEDDINGS: tensor})
            # Blanks behind the header are part of the format.
            self._stream.write(_HEADER_BYTES.to_bytes(8, "little") + text.encode().ljust(_HEADER_BYTES))
        return self._stream.tell()
