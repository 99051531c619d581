"""Named sequences from FASTA, CSV or TSV, plain or gzip, a file or standard input, piece by piece."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

from cmgems_cli.datasets.labelled_table import Rows, lines_of, sequence_of, wrong
from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta import STANDARD_INPUT, FastaFile, check_is_fasta, check_is_text, check_readable
from cmgems_cli.genome.fasta_stream import SequenceChunk, sequence_chunks

NEEDED = "needed FASTA, or a CSV or TSV file whose first line names a column 'sequence'"

# Columns of a table that name its sequences, the first of them that is there.
NAME_COLUMNS = ("name", "id")

_BLANKS = b" \t\r\n"


class Source:
    """Where sequences come from.

    What a file holds is told from its first letters, never from its name. In a table the column `sequence`
    holds bases or overlapping k-mers with spaces between, a column `name` or `id` the names; without one,
    rows are numbered from 0. Other columns are passed over.

    Parameters
    ----------
    path : Path
        `STANDARD_INPUT` for what is piped in.

    Attributes
    ----------
    path : Path
    name : str
        For messages.
    rereadable : bool
        Whether `pieces` may be asked for more than once.
    sha256 : str
        Of the raw bytes; complete once `pieces` is exhausted.

    Raises
    ------
    InputError
        If there is no such readable file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        piped = path == STANDARD_INPUT
        self.name = "standard input" if piped else str(path)
        if not piped:
            if not path.exists():
                raise InputError(f"{path} does not exist; {NEEDED}")
            check_readable(path)
        self.rereadable = not piped and path.is_file()
        self.sha256 = ""

    def pieces(self) -> Iterator[SequenceChunk]:
        """Yield all sequences in their order.

        Raises
        ------
        InputError
            If the file is empty, neither FASTA nor a table, truncated or corrupt, a record has no name, or
            a row is not what its header promises. The message names the line.
        """
        shown = Path(self.name)
        file = FastaFile(self.path)
        with closing(_texts(file)) as texts:
            head = b""
            for head in texts:
                if head.lstrip(_BLANKS):
                    break
            start = head.lstrip(_BLANKS)
            if not start:
                raise InputError(f"{self.name} is empty; {NEEDED}")
            check_is_text(start, shown, NEEDED)
            if start.startswith(b">"):
                check_is_fasta(start, shown)
                yield from sequence_chunks(_chained(start, texts), shown)
            else:
                yield from _table_pieces(_Lines(_chained(head, texts)), shown)
        self.sha256 = file.sha256


def _texts(file: FastaFile) -> Generator[bytes, None, None]:
    with closing(file.chunks()) as chunks:
        for chunk in chunks:
            yield chunk.text.tobytes()


def _chained(head: bytes, texts: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from texts


class _Lines(io.RawIOBase):
    """The parts of a text as a file that can be read."""

    def __init__(self, texts: Iterator[bytes]) -> None:
        self._texts = texts
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            text = next(self._texts, None)
            if text is None:
                return 0
            self._left = memoryview(text)
        n = min(len(buffer), len(self._left))
        buffer[:n] = self._left[:n]
        self._left = self._left[n:]
        return n


def _table_pieces(raw: _Lines, shown: Path) -> Iterator[SequenceChunk]:
    rows = Rows(shown, max_bases=sys.maxsize)
    try:
        with io.TextIOWrapper(io.BufferedReader(raw), encoding="utf-8", newline="") as stream:
            yield from _read_table(rows, lines_of(rows, stream))
    except UnicodeDecodeError:
        raise InputError(f"{shown} is not UTF-8 text; {NEEDED}") from None
    except csv.Error as error:
        advice = "; give long sequences as FASTA" if "field limit" in str(error) else ""
        raise wrong(rows, f"is not a readable row ({error}){advice}") from None
    if not rows.line:
        raise InputError(f"{shown} is empty; {NEEDED}")


def _read_table(rows: Rows, lines: Iterator[str]) -> Iterator[SequenceChunk]:
    header = next(lines)
    delimiter = "\t" if "\t" in header else ","
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter, strict=True))]
    sequence_column, name_column = _columns(names, rows.path)
    number = 0
    for cells in csv.reader(lines, delimiter=delimiter, strict=True):
        if len(cells) != len(names):
            raise wrong(rows, f"has {len(cells)} fields, its header {len(names)}; correct or remove the line")
        name = str(number) if name_column is None else cells[name_column].strip()
        yield SequenceChunk(name, sequence_of(rows, cells[sequence_column].strip()), True)
        number += 1
    if not number:
        raise InputError(f"{rows.path} has a header and no rows; needed a sequence in every line after it")


def _columns(names: list[str], path: Path) -> tuple[int, int | None]:
    """Find the columns of sequences and of their names in a table's header."""
    lower = [name.casefold() for name in names]
    if lower.count("sequence") != 1:
        found = ", ".join(names)[:60]
        if any(len(cell) > 4 and set(cell) <= set("acgtn ") for cell in lower):
            raise InputError(f"{path} starts with a sequence, without a header; {NEEDED}: add that line")
        many = "more than one column" if "sequence" in lower else "no column"
        raise InputError(f"{path} has {many} 'sequence' (its first line: {found!r}); {NEEDED}")
    named = [lower.index(name) for name in NAME_COLUMNS if name in lower]
    return lower.index("sequence"), named[0] if named else None
