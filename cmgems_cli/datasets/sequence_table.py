"""CSV and TSV tables with a column `sequence`, in every way they are written, read in one pass (method, section 7)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from cmgems_cli.datasets.dna_check import DnaCheck
from cmgems_cli.datasets.text_lines import LONGEST_LINE
from cmgems_cli.errors import InputError
from cmgems_cli.files import LFS_ADVICE, LFS_POINTER
from cmgems_cli.safe_text import from_spreadsheet_cell


class SequenceTable:
    """A table of sequences: UTF-8, comma or tab, quoted or not; the first line names the columns.

    Blank lines are skipped, columns are named in any case of letters.

    Parameters
    ----------
    lines : iterable of str
        Of the file, as from `lines_of`. The header is read at once.
    path : Path
        For messages.
    needed : str
        What the file should have been, for messages.
    required : sequence of str, default ("sequence",)
        Columns of which there has to be one each.

    Attributes
    ----------
    line : int
        The line last read, from 1.
    names : list of str
        The columns, as written.

    Raises
    ------
    InputError
        If there is no line, or a column is missing or not unique.
    """

    def __init__(
        self, lines: Iterable[str], path: Path, needed: str, required: Sequence[str] = ("sequence",)
    ) -> None:
        self.path, self.line, self._needed = path, 0, needed
        self._lines, self._row_characters = self._not_blank(lines), 0
        # Python's own limit of 131,072 is below many sequences; lines and rows have one.
        csv.field_size_limit(LONGEST_LINE)
        with self._one_line_errors():
            header = next(self._lines, None)
            if header is None:
                raise InputError(f"{path} is empty; {needed}")
            if header.encode().startswith(LFS_POINTER):
                raise InputError(f"{path} is {LFS_ADVICE}")
            self._delimiter = "\t" if "\t" in header else ","
            names = next(csv.reader([header], delimiter=self._delimiter, strict=True))
        self.names = [name.strip() for name in names]
        self._columns = [name.casefold() for name in self.names]
        for name in required:
            if self._columns.count(name) != 1:
                raise self.without(name)

    def cell(self, cells: Sequence[str], place: int) -> str:
        """Return the text of a cell, without the apostrophe of `spreadsheet_cell`."""
        return from_spreadsheet_cell(cells[place].strip())

    def column(self, *names: str) -> int | None:
        """Return the place of the first of these columns that the table has; None if it has none."""
        return next((self._columns.index(name) for name in names if name in self._columns), None)

    def rows(self) -> Iterator[tuple[bytes, list[str]]]:
        """Yield each row's sequence (upper-case letters, k-mers joined) and all its cells.

        Raises
        ------
        InputError
            If there is no row, or one has another number of fields than the header, repeats the header, or has
            a sequence of anything but letters, or k-mers that do not overlap: the message names the line. Also
            if the sequences are RNA or protein.
        """
        place = self._columns.index("sequence")
        empty, dna = True, DnaCheck(self.path)
        for cells in self.cells():
            empty = False
            text = cells[place].strip()
            if text.casefold() == self._columns[place]:
                raise self.wrong("repeats the header, as in files that were joined; remove it")
            sequence = self._bases(text)
            dna.add(sequence)
            yield sequence, cells
        dna.finish()
        if empty:
            raise InputError(
                f"{self.path} has a header and no rows; needed a sequence in every line after it"
            )

    def cells(self) -> Iterator[list[str]]:
        """Yield the cells of each row as they are (`cell` cleans one), whatever columns the table has.

        Raises
        ------
        InputError
            If a row has another number of fields than the header; the message names the line.
        """
        # strict: a quote that is never closed would otherwise swallow the rest of the file.
        reader = csv.reader(self._lines, delimiter=self._delimiter, strict=True)
        while True:
            with self._one_line_errors():
                cells = next(reader, None)
            if cells is None:
                return
            self._row_characters = 0
            if len(cells) != len(self._columns):
                raise self.wrong(
                    f"has {len(cells)} fields, its header {len(self._columns)}; correct or remove the line"
                )
            yield cells

    def wrong(self, words: str) -> InputError:
        """Return the error that says what is wrong with the line last read."""
        return InputError(f"{self.path} line {self.line} {words}")

    def _not_blank(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self.line += 1
            self._row_characters += len(line)
            if self._row_characters > LONGEST_LINE:
                raise self.wrong(
                    f"ends no row after {LONGEST_LINE:,} characters; close its quotes, or give long sequences as FASTA"
                )
            if line and not line.isspace():
                yield line

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except csv.Error as error:
            raise self.wrong(f"is not a readable row ({error}); {self._needed}") from None

    def without(self, name: str) -> InputError:
        """Return the error that says that the table lacks a column, or has more than one of this name."""
        if any(len(cell) > 4 and set(cell) <= set("acgtn ") for cell in self._columns):
            return InputError(
                f"{self.path} starts with a sequence, without a header; {self._needed}: add that line"
            )
        many = "more than one column" if name in self._columns else "no column"
        header = ", ".join(self.names)[:60]
        return InputError(f"{self.path} has {many} {name!r} (its first line: {header!r}); {self._needed}")

    def _bases(self, text: str) -> bytes:
        if " " in text:
            text = self._joined_kmers(text)
        if text and not (text.isascii() and text.isalpha()):
            other = next(letter for letter in text if not (letter.isascii() and letter.isalpha()))
            raise self.wrong(f"has {other!r} in its sequence; a sequence has letters only: correct the line")
        return text.upper().encode("ascii")

    def _joined_kmers(self, text: str) -> str:
        """Turn overlapping k-mers, one space between, into bases; k is the length of the first."""
        k = text.find(" ")
        period = k + 1
        n_kmers = (len(text) + 1) // period
        # Letter j of every k-mer is text[j::period]: whole columns are compared, no k-mer is cut out.
        columns = [text[j::period] for j in range(k)]
        evenly = len(text) == n_kmers * period - 1 and text[k::period] == " " * (n_kmers - 1)
        if not evenly or any(one[1:] != following[:-1] for one, following in pairwise(columns)):
            single = " ".join(text.split())
            if single != text:
                return self._joined_kmers(single)
            raise self.wrong(f"has k-mers that do not overlap by all but one base ({text[: 2 * k + 1]!r} …)")
        return text[:k] + columns[-1][1:]
