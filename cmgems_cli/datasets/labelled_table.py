"""One pass over a file of labelled sequences, whichever way it is written (method, section 7)."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TextIO

from cmgems_cli.errors import InputError

NEEDED = "needed a CSV or TSV file whose first line is sequence,label"


@dataclass
class Rows:
    """The rows of a file in its order, and what was odd about them; filled by `read_rows`.

    Attributes
    ----------
    path : Path
        The file.
    max_bases : int
        Longer sequences are cut to this.
    sequences : list of bytes
        Upper-case letters.
    labels : list of str
        As written, without the spaces around.
    duplicates, contradictory : int
        Rows whose sequence stood in an earlier row; sequences with more than one label. Of sequences that
        were cut, what is left counts: it is what a model sees.
    too_long : int
        Sequences that were cut.
    longest : int, bases
        Length of the longest sequence before it was cut.
    lower_case, kmer_rows, blank_lines, crlf_lines, byte_order_mark, ignored_columns
        As in `datasets.Counts`.
    line : int
        The line last read, from 1 on.
    """

    path: Path
    max_bases: int
    sequences: list[bytes] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    duplicates: int = 0
    contradictory: int = 0
    too_long: int = 0
    longest: int = 0
    lower_case: int = 0
    kmer_rows: int = 0
    blank_lines: int = 0
    crlf_lines: int = 0
    byte_order_mark: bool = False
    ignored_columns: tuple[str, ...] = ()
    line: int = 0


def read_rows(path: Path, *, max_bases: int) -> Rows:
    """Read a CSV or TSV file of labelled sequences in one pass.

    Parameters
    ----------
    path : Path
        UTF-8, comma or tab, quoted or not; the first line names the columns.
    max_bases : int
        Cut longer sequences to this; their number is in the result.

    Raises
    ------
    InputError
        If the file is missing, empty, not text or not a table, has no header, other columns or no rows; or
        a row has another number of fields, no label, a sequence of anything but letters, or k-mers that do
        not overlap. The message names the line.
    """
    rows = Rows(path, max_bases)
    if path.is_dir():
        raise InputError(f"{path} is a folder; {NEEDED}")
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            _fill(rows, stream)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; {NEEDED}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; {NEEDED}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; {NEEDED}: decompress it or save it as text") from None
    except csv.Error as error:
        raise InputError(f"{path} line {rows.line} is not a readable row ({error}); {NEEDED}") from None
    if not rows.sequences:
        raise InputError(f"{path} has a header and no rows; needed a sequence in every line after it")
    return rows


def _fill(rows: Rows, stream: TextIO) -> None:
    lines = lines_of(rows, stream)
    header = next(lines, None)
    if header is None:
        raise InputError(f"{rows.path} is empty; {NEEDED}")
    delimiter = "\t" if "\t" in header else ","
    names = next(csv.reader([header], delimiter=delimiter, strict=True))
    sequence_column, label_column = _columns(rows, [name.strip() for name in names])
    label_of: dict[bytes, str] = {}
    contradictory: set[bytes] = set()
    # strict: a quote that is never closed would otherwise swallow the rest of the file.
    for cells in csv.reader(lines, delimiter=delimiter, strict=True):
        if len(cells) != len(names):
            raise wrong(rows, f"has {len(cells)} fields, its header {len(names)}; correct or remove the line")
        label = cells[label_column].strip()
        if not label:
            raise wrong(rows, "has no label; add one or remove the line")
        sequence = sequence_of(rows, cells[sequence_column].strip())
        earlier = label_of.setdefault(sequence, label)
        if earlier != label:
            contradictory.add(sequence)
        rows.sequences.append(sequence)
        rows.labels.append(label)
    rows.duplicates = len(rows.sequences) - len(label_of)
    rows.contradictory = len(contradictory)


def lines_of(rows: Rows, stream: TextIO) -> Iterator[str]:
    """Pass on all lines but blank ones, counting."""
    for line in stream:
        rows.line += 1
        if rows.line == 1 and line.startswith("\ufeff"):
            rows.byte_order_mark = True
            line = line.removeprefix("\ufeff")
        rows.crlf_lines += line.endswith("\r\n")
        if line.isspace() or not line:
            rows.blank_lines += 1
        else:
            yield line


def _columns(rows: Rows, names: list[str]) -> tuple[int, int]:
    """Find the columns of sequence and label in the header."""
    lower = [name.casefold() for name in names]
    found = ", ".join(names)[:60]
    for name in ("sequence", "label"):
        if lower.count(name) == 1:
            continue
        if any(len(cell) > 4 and set(cell) <= set("acgtn ") for cell in lower):
            raise InputError(f"{rows.path} starts with a sequence, without a header; {NEEDED}: add that line")
        many = "more than one column" if name in lower else "no column"
        raise InputError(f"{rows.path} has {many} {name!r} (its first line: {found!r}); {NEEDED}")
    rows.ignored_columns = tuple(
        name for name, low in zip(names, lower, strict=True) if low not in ("sequence", "label")
    )
    return lower.index("sequence"), lower.index("label")


def sequence_of(rows: Rows, text: str) -> bytes:
    """Return the bases of one cell: upper case, k-mers joined, cut to the longest allowed."""
    if " " in text:
        rows.kmer_rows += 1
        text = _join_kmers(rows, text)
    if text and not (text.isascii() and text.isalpha()):
        other = next(letter for letter in text if not (letter.isascii() and letter.isalpha()))
        raise wrong(rows, f"has {other!r} in its sequence; a sequence has letters only: correct the line")
    upper = text.upper()
    rows.lower_case += upper != text
    if len(upper) > rows.max_bases:
        rows.too_long += 1
        rows.longest = max(rows.longest, len(upper))
        upper = upper[: rows.max_bases]
    return upper.encode("ascii")


def _join_kmers(rows: Rows, text: str) -> str:
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
            return _join_kmers(rows, single)
        raise wrong(rows, f"has k-mers that do not overlap by all but one base ({text[: 2 * k + 1]!r} …)")
    return text[:k] + columns[-1][1:]


def wrong(rows: Rows, words: str) -> InputError:
    """Return the error that says what is wrong with the line last read."""
    return InputError(f"{rows.path} line {rows.line} {words}")
