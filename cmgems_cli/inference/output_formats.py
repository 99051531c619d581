"""Output formats: tables written row by row, and arrays whose length is known at the end."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from cmgems_cli.errors import UsageError
from cmgems_cli.growing_array import GrowingArray
from cmgems_cli.inference.inference_options import TableFormat
from cmgems_cli.row_writer import RowWriter

Format = TypeVar("Format", bound=str)

ARRAY_SUFFIXES = (".npy", ".safetensors")

# The one tensor of a safetensors file.
EMBEDDINGS = "embeddings"

# Bytes reserved for a safetensors header, whose numbers are only known at the end.
_HEADER_BYTES = 512


def format_of(
    out: Path | None, format: Format | None, known: Sequence[Format], *, more_endings: Iterable[str] = ()
) -> Format:
    """Return the requested format, or else the one given by the file name; TSV for stdout.

    Parameters
    ----------
    out : Path or None
        None for stdout.
    format : str or None
        One of `known`.
    known : sequence of str
        The formats by their suffixes, `tsv` among them.
    more_endings : iterable of str, optional
        Of formats that the caller knows by itself: for the message.

    Raises
    ------
    UsageError
        If neither gives a format.
    """
    if format is not None:
        return format
    name = ".tsv" if out is None else out.name.lower()
    for one in known:
        if name.endswith(f".{one}"):
            return one
    *others, last = (*(f".{one}" for one in known), *more_endings)
    raise UsageError(f"`out={out}` does not end in {', '.join(others)} or {last}; rename it or give `format`")


class TableWriter:
    """Writes rows as TSV, CSV or JSON lines, in UTF-8.

    Parameters
    ----------
    stream : binary file
    kind : tsv, csv or jsonl
    columns : sequence of str
    header : bool, default True
        Whether the first line names the columns; JSON lines always name them.
    late : bool, default False
        Write that line with the first rows, so that a command that fails before them has written nothing. For streams
        that no later run continues.
    """

    def __init__(
        self,
        stream: IO[bytes],
        kind: TableFormat,
        columns: Sequence[str],
        *,
        header: bool = True,
        late: bool = False,
    ) -> None:
        self._stream, self._kind, self._columns = stream, kind, columns
        self._waiting = [columns] if header and kind != "jsonl" else []
        if not late:
            self.write([])

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows; None becomes an empty cell, or null. Names that a spreadsheet would run are escaped."""
        text = io.StringIO(newline="")
        if self._kind == "jsonl":
            for row in rows:
                named = dict(zip(self._columns, row, strict=True))
                text.write(json.dumps(named, ensure_ascii=False) + "\n")
        else:
            delimiter = "\t" if self._kind == "tsv" else ","
            RowWriter(text, delimiter=delimiter).rows(chain(self._waiting, rows))
            self._waiting = []
        self._stream.write(text.getvalue().encode())


class SafetensorsArray(GrowingArray):
    """A growing array in a .safetensors file with one tensor, `EMBEDDINGS`.

    Parameters
    ----------
    metadata : dict of str
        Stored in the header of the file.
    others
        As in `GrowingArray`.
    """

    def __init__(self, metadata: dict[str, str], *others: Any, **named: Any) -> None:
        self._metadata = metadata
        super().__init__(*others, **named)

    def _header(self, shape: tuple[int, ...]) -> bytes:
        size = 4 * int(np.prod(shape, dtype=np.int64))
        tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
        text = json.dumps({"__metadata__": self._metadata, EMBEDDINGS: tensor})
        # Blanks after the header are part of the format.
        return _HEADER_BYTES.to_bytes(8, "little") + text.encode().ljust(_HEADER_BYTES)


def array_writer(
    stream: IO[bytes], suffix: str, row_shape: tuple[int, ...], metadata: dict[str, str], rows: int = 0
) -> GrowingArray:
    """Return a writer of a float32 array that grows by rows, as .npy or .safetensors.

    Parameters
    ----------
    suffix : str
        One of `ARRAY_SUFFIXES`.
    metadata : dict of str
        Stored in the header of a .safetensors file.
    stream, row_shape, rows
        As in `GrowingArray`.
    """
    dtype = np.dtype("<f4")
    if suffix == ".npy":
        return GrowingArray(stream, dtype, row_shape, rows)
    return SafetensorsArray(metadata, stream, dtype, row_shape, rows)
