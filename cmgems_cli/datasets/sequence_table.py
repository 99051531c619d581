"""CSV and TSV tables with a column `sequence`, in every way they are written, read in one pass (method, section 7)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from cmgems_cli.errors import InputError


class SequenceTable:
    """A table of sequences: UTF-8, comma or tab, quoted or not; the first line names the columns.

    Blank lines and a byte order mark are skipped, columns are named in any case of letters.

    Parameters
    ----------
    lines : iterable of str
        Of the file, with their ends. The header is read at once.
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

    Raises
    ------
    InputError
        If there is no line, no text, or a column is missing or not unique.
    """

    def __init__(
        self, lines: Iterable[str], path: Path, needed: str, required: Sequence[str] = ("sequence",)
    ) -> None:
        self.path, self.line, self._needed = path, 0, needed
        self._lines = self._not_blank(lines)
        with self._one_line_errors():
            header = next(self._lines, None)
            if header is None:
                raise InputError(f"{path} is empty; {needed}")
            self._delimiter = "\t" if "\t" in header else ","
            names = next(csv.reader([header], delimiter=self._delimiter, strict=True))
        names = [name.strip() for name in names]
        self._columns = [name.casefold() for name in names]
        for name in required:
            if self._columns.count(name) != 1:
                raise self._without(name, names)

    def column(self, *names: str) -> int | None:
        """Return the place of the first of these columns that the table has; None if it has none."""
        return next((self._columns.index(name) for name in names if name in self._columns), None)

    def rows(self) -> Iterator[tuple[bytes, list[str]]]:
        """Yield each row's sequence (upper-case letters, k-mers joined) and all its cells.

        Raises
        ------
        InputError
            If there is no row, or one has another number of fields than the header, a sequence of anything but
            letters, or k-mers that do not overlap. The message names the line.
        """
        place = self._columns.index("sequence")
        # strict: a quote that is never closed would otherwise swallow the rest of the file.
        reader = csv.reader(self._lines, delimiter=self._delimiter, strict=True)
        empty = True
        with self._one_line_errors():
            for cells in reader:
                if len(cells) != len(self._columns):
                    raise self.wrong(
                        f"has {len(cells)} fields, its header {len(self._columns)}; correct or remove the line"
                    )
                empty = False
                yield self._bases(cells[place].strip()), cells
        if empty:
            raise InputError(
                f"{self.path} has a header and no rows; needed a sequence in every line after it"
            )

    def wrong(self, words: str) -> InputError:
        """Return the error that says what is wrong with the line last read."""
        return InputError(f"{self.path} line {self.line} {words}")

    def _not_blank(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self.line += 1
            if self.line == 1:
                line = line.removeprefix("\ufeff")
            if line and not line.isspace():
                yield line

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except UnicodeDecodeError:
            raise InputError(
                f"{self.path} is not UTF-8 text; {self._needed}: decompress it or save it as text"
            ) from None
        except csv.Error as error:
            advice = ": give long sequences as FASTA" if "field limit" in str(error) else ""
            raise self.wrong(f"is not a readable row ({error}); {self._needed}{advice}") from None

    def _without(self, name: str, names: list[str]) -> InputError:
        if any(len(cell) > 4 and set(cell) <= set("acgtn ") for cell in self._columns):
            return InputError(
                f"{self.path} starts with a sequence, without a header; {self._needed}: add that line"
            )
        many = "more than one column" if name in self._columns else "no column"
        header = ", ".join(names)[:60]
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
