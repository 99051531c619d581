"""Effects as a table with one line per base, and as arrays in a .npz file.

While a command runs, the values of all bases are kept in a scratch file of records and the rows in one of JSON lines:
the arrays, the figure and the motifs are made of them at the end, in bounded memory.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cmgems_cli.explaining.edits import LETTERS
from cmgems_cli.explaining.effects import Effects, importance_of
from cmgems_cli.explaining.explain_options import ExplainOptions
from cmgems_cli.explaining.rows import place_of
from cmgems_cli.inference.output_formats import TableWriter
from cmgems_cli.inference.quantity import Quantity

# ours: a thousand times finer than effects that mean anything.
DECIMALS = 6

# Names of the scratch files.
SCRATCH = ("values.scratch", "rows.scratch")

# One record per base.
_RECORD = np.dtype([("base", "S1"), ("substitutions", "<f4", (4,)), ("deletion", "<f4"), ("block", "<f4")])

# ours: records read at a time.
_CHUNK = 1 << 16

# The date of every member of a .npz file: equal content gives equal bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


def columns(options: ExplainOptions, quantity: Quantity, *, windows: bool, regions: bool) -> list[str]:
    """Return the columns of the table: where the base is, then base, label, log_odds, A, C, G, T, importance …;
    of a regression value in place of label and log_odds.

    Where: name, (start and end of the window,) position; of regions of a genome chrom, start, end, name, strand, as in
    BED, where start and end are those of the base.
    """
    where = ["name", *(["start", "end"] if windows else []), "position"]
    if regions:
        where = ["chrom", "start", "end", "name", "strand"]
    extra = [*(["deletion"] if options.deletions else []), *(["block"] if options.block else [])]
    output = [*([] if quantity.is_value else ["label"]), quantity.column]
    return [*where, "base", *output, *LETTERS, "importance", *extra]


def table_rows(effects: Effects, quantity: Quantity, *, windows: bool) -> Iterator[tuple[Any, ...]]:
    """Yield the lines of one row in these `columns`; None without a value."""
    row = effects.row
    label = quantity.names[effects.label] if effects.label >= 0 else None
    contig, strand, at = place_of(row)
    where: list[tuple[Any, ...]]
    if contig is not None:
        where = [(contig, position, position + 1, row.name, strand) for position in at.tolist()]
    else:
        span = (row.start, row.end) if windows else ()
        where = [(row.name, *span, position) for position in at.tolist()]
    arrays = [*effects.substitutions.T, effects.importance]
    arrays += [values for values in (effects.deletions, effects.blocks) if values is not None]
    values = [_rounded(array) for array in arrays]
    output = [*([] if quantity.is_value else [label]), *_rounded(np.array([effects.output]))]
    bases = row.letters.tobytes().decode("ascii", "replace")
    for place, base, *numbers in zip(where, bases, *values, strict=True):
        yield (*place, base, *output, *numbers)


def _rounded(values: NDArray[Any]) -> list[float | None]:
    # 0.0 + : no -0.0.
    return [
        None if value != value else 0.0 + round(value, DECIMALS)
        for value in values.astype(np.float64).tolist()
    ]


@dataclass(frozen=True)
class StoredRow:
    """A row of the scratch files.

    Attributes
    ----------
    name : str
    contig : str or None
        Record of the genome, if the row is a region of one.
    strand : str
        + or -.
    start, end : int, bases
        Interval in the sequence or in the genome, 0-based, half-open.
    length : int, bases
    label : int
        -1 for a row without a known k-mer.
    output : float
        Log-odds in nats, or the predicted value.
    """

    name: str
    contig: str | None
    strand: str
    start: int
    end: int
    length: int
    label: int
    output: float


class EffectsWriter:
    """Writes the table and the scratch files, row by row.

    Parameters
    ----------
    table : TableWriter
    scratch : (binary file, binary file), optional
        The scratch files of values and of rows; None keeps nothing for arrays.
    quantity : Quantity
        What was followed.
    windows : bool
        Whether rows are windows.
    """

    def __init__(
        self,
        table: TableWriter,
        scratch: tuple[IO[bytes], IO[bytes]] | None,
        quantity: Quantity,
        *,
        windows: bool,
    ) -> None:
        self._table, self._scratch = table, scratch
        self._quantity, self._windows = quantity, windows

    def write(self, effects: Effects) -> None:
        """Write the effects of one row."""
        self._table.write(table_rows(effects, self._quantity, windows=self._windows))
        if self._scratch is None:
            return
        values, rows = self._scratch
        row = effects.row
        records = np.zeros(len(row.letters), _RECORD)
        records["base"] = row.letters.view("S1")
        records["substitutions"] = effects.substitutions
        records["deletion"] = np.nan if effects.deletions is None else effects.deletions
        records["block"] = np.nan if effects.blocks is None else effects.blocks
        values.write(records.tobytes())
        place, n = place_of(row), len(row.letters)
        start = int(place.positions.min()) if n else row.start
        stored = StoredRow(
            row.name, place.contig, place.strand, start, start + n, n, effects.label, effects.output
        )
        rows.write((json.dumps(vars(stored)) + "\n").encode())


class Stored:
    """The rows and values of the scratch files.

    Parameters
    ----------
    values, rows : seekable binary files
    """

    def __init__(self, values: IO[bytes], rows: IO[bytes]) -> None:
        self._values, self._rows = values, rows

    def rows(self) -> Iterator[StoredRow]:
        """Yield the rows, in order."""
        self._rows.flush()
        self._rows.seek(0)
        while line := self._rows.readline():
            yield StoredRow(**json.loads(line))

    def __iter__(self) -> Iterator[tuple[StoredRow, NDArray[Any]]]:
        """Yield each row with its records: structured, shape (length,)."""
        at = 0
        self._values.flush()
        for row in self.rows():
            self._values.seek(at)
            n_bytes = row.length * _RECORD.itemsize
            at += n_bytes
            yield row, np.frombuffer(self._values.read(n_bytes), _RECORD)

    def records(self) -> Iterator[NDArray[Any]]:
        """Yield the records of all bases in chunks: arrays of dtype `_RECORD`, shape (n,)."""
        self._values.flush()
        self._values.seek(0)
        while content := self._values.read(_CHUNK * _RECORD.itemsize):
            yield np.frombuffer(content, _RECORD)


def write_npz(stream: IO[bytes], stored: Stored, quantity: Quantity, options: ExplainOptions) -> None:
    """Write all effects as arrays, which `numpy.load` opens.

    Arrays, for n rows with b bases in total: `names`, text of shape (n,); `starts`, `ends`, int64, (n,), the interval
    in the sequence; for regions of a genome, whose interval is that in the genome, also `contigs` and `strands`, text,
    (n,); `offsets`, int64, (n + 1,), where the bases of each row begin; `labels`, int64, (n,), the class
    or label followed, an index into `label_names`, -1 for a row without values; `quantity`, text, what the numbers are;
    `log_odds`, float64, (n,), nats, or of a regression `value`; `bases`, S1, (b,); `substitutions`, float32, (b, 4),
    for A, C, G, T; `importance`, float32, (b,); `deletions` and `blocks`, float32, (b,), if requested.
    """
    n = bases = 0
    width, contig_width = 1, 0
    for row in stored.rows():
        n, bases, width = n + 1, bases + row.length, max(width, len(row.name))
        contig_width = max(contig_width, len(row.contig or ""))
    of_regions: list[tuple[str, str, Any]] = [
        ("contigs", f"<U{contig_width}", lambda row: row.contig),
        ("strands", "<U1", lambda row: row.strand),
    ]

    def of_rows(dtype: str, value: Any) -> Iterator[NDArray[Any]]:
        return (np.array([value(row)], dtype) for row in stored.rows())

    def offsets() -> Iterator[NDArray[Any]]:
        at = 0
        yield np.array([0], "<i8")
        for row in stored.rows():
            at += row.length
            yield np.array([at], "<i8")

    def of_bases(name: str) -> Iterator[NDArray[Any]]:
        return (np.ascontiguousarray(records[name]) for records in stored.records())

    importance = (importance_of(records["substitutions"]) for records in stored.records())
    # Of a command that was killed after it had written all.
    stream.seek(0)
    stream.truncate()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, kind, value in (
            ("names", f"<U{width}", lambda row: row.name),
            ("starts", "<i8", lambda row: row.start),
            ("ends", "<i8", lambda row: row.end),
            ("labels", "<i8", lambda row: row.label),
            (quantity.column, "<f8", lambda row: row.output),
            *(of_regions if contig_width else []),
        ):
            _member(archive, name, kind, (n,), of_rows(kind, value))
        for name, texts in (("label_names", quantity.names), ("quantity", (quantity.described,))):
            longest = max(len(text) for text in texts)
            _member(archive, name, f"<U{longest}", (len(texts),), [np.array(texts)])
        _member(archive, "offsets", "<i8", (n + 1,), offsets())
        _member(archive, "bases", "S1", (bases,), of_bases("base"))
        _member(archive, "substitutions", "<f4", (bases, 4), of_bases("substitutions"))
        _member(archive, "importance", "<f4", (bases,), importance)
        if options.deletions:
            _member(archive, "deletions", "<f4", (bases,), of_bases("deletion"))
        if options.block:
            _member(archive, "blocks", "<f4", (bases,), of_bases("block"))


def _member(
    archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...], chunks: Iterable[NDArray[Any]]
) -> None:
    with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
        header = {"descr": npy.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(member, header)
        for chunk in chunks:
            member.write(chunk.astype(dtype, copy=False).tobytes())
