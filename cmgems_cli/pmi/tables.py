"""Read a table of k-mer counts written by another program: KMC, Jellyfish, or any that writes rows."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from cmgems_cli.errors import InputError
from cmgems_cli.genome.codec import complement_codes
from cmgems_cli.genome.vocabulary import BASES, MAX_K, MIN_K, kmers

# Above any count of a k-mer of up to 8 bases in any known genome; the sum of 4**8 larger counts could overflow int64.
_LARGEST_COUNT = 2**46

_LONGEST_COUNT = 20

# ours: no row is longer; a longer line is cut and refused.
_LINE_BYTES = 1 << 12

_SEPARATOR = re.compile(r" *[,;\t] *| +")
_FLOAT = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?([eE]\+?[0-9]{1,2})?")

# Last column in the headers of other programs.
_COUNT_WORDS = {"count", "counts", "n", "freq", "frequency", "number", "abundance", "occurrences", "value"}
_LETTERS_OF_KMERS = set("ACGTUN")

# Each end of a sequence adds at most 1 to the difference of sums. Measured: it is 2e-7 of all counts for human chr20
# (6 runs), and 6e-4 to 0.26 for tables capped or cut at their 5 to 1,000 largest counts. ours: no refusal for up to 20
# sequences; a warning below 200 kb per sequence on average, a refusal below 20 kb.
_FEW_ENDS = 40
_FRACTION_OF_ENDS = 1e-5
_FRACTION_OF_SHORT_SEQUENCES = 1e-4

# ours: so many occurrences are neither equal nor absent by chance.
_LARGE = 1000

# KMC stores one byte per k-mer by default: -cs<value>, default 255.
KMC_LARGEST_COUNT = 255

# ours: a single-strand table holds only the smaller k-mer of each reverse-complement pair with probability
# 2^-pairs, so with this many pairs both strands were merged. So they were if one k-mer alone is present in
# more than this fraction of the possible pairs.
_PAIRS_FOR_CERTAINTY = 20
_DENSE_FRACTION = 0.5


@dataclass(frozen=True)
class KmerTable:
    """Counts of all k-mers as read from a file.

    Attributes
    ----------
    path : Path
        The file they were read from.
    k : int
        Bases per k-mer.
    counts : int64, shape (4^k,), occurrences
        By k-mer code; 0 for k-mers missing from the file.
    sha256 : str
        Hash of the file's bytes.
    """

    path: Path
    k: int
    counts: np.ndarray
    sha256: str


def read_kmer_table(path: Path) -> KmerTable:
    """Read rows of `kmer,count` in any of the usual layouts.

    Separated by commas, semicolons, tabs or spaces, with or without quotes and a header; below a header rows may be
    numbered, as R and pandas do.

    Parameters
    ----------
    path : Path
        A CSV file, or the output of `kmc_tools transform DB dump FILE` after `kmc -b -ci1 -cs4294967295`,
        or of `jellyfish dump -c DB` after `jellyfish count` without -C.

    Returns
    -------
    KmerTable
        k is the length of the first k-mer. k-mers missing from the file count 0.

    Raises
    ------
    InputError
        For a missing, empty or binary file, another layout, k-mers of several lengths or outside 3 … 8
        bases, letters other than ACGT, a repeated k-mer, a count that is not a whole number from 0 on; and
        for well-formed tables with wrong counts: both strands merged, counts capped at 255.
    """
    if not path.is_file():
        _refuse(path, "is not a file", "give a table with `kmer,count` rows")
    counts: np.ndarray | None = None
    code_of: dict[str, int] = {}
    named: set[str] = set()
    header = False
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(iter(lambda: stream.readline(_LINE_BYTES), b""), start=1):
                hasher.update(line)
                cells = _cells(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                if not cells:
                    continue
                if not named and not header and _is_header(cells):
                    header = True
                    continue
                kmer, count = _row(path, number, cells, header)
                if counts is None:
                    code_of = {name: code for code, name in enumerate(kmers(len(kmer)))}
                    counts = np.zeros(len(code_of), dtype=np.int64)
                if kmer not in code_of:
                    _refuse_kmer(path, number, kmer, len(next(iter(code_of))))
                if kmer in named:
                    _refuse(path, f"names {kmer} twice (again in line {number})", "give each k-mer one row")
                named.add(kmer)
                counts[code_of[kmer]] = count
    except UnicodeDecodeError:
        _refuse(path, "is not text", "give an uncompressed table with `kmer,count` rows")
    except OSError as error:
        _refuse(path, f"cannot be read ({error.strerror})", "give a table with `kmer,count` rows")
    if counts is None or not counts.any():
        _refuse(path, "holds no k-mer that occurs", "give a table with `kmer,count` rows")
    k = len(next(iter(named)))
    _check_strands(path, counts, k)
    _check_saturation(path, counts)
    return KmerTable(path=path, k=k, counts=counts, sha256=hasher.hexdigest())


def check_balance(table: KmerTable, warn: Callable[[str], None]) -> None:
    """Check that no counts were capped or left out.

    In whole sequences, every (k-1)-mer follows as many bases as precede it, except at the ends. So the counts of the
    k-mers that begin with it and of those that end with it have equal sums.

    Parameters
    ----------
    table : KmerTable
    warn : callable
        Called with a sentence about sums that differ slightly.

    Raises
    ------
    InputError
        If they differ by more than the ends of sequences can explain.
    """
    counts, k = table.counts, table.k
    begins, ends = counts.reshape(-1, 4).sum(axis=1), counts.reshape(4, -1).sum(axis=0)
    difference, total = int(np.abs(begins - ends).sum()), int(counts.sum())
    remedy = "dump all counts: `kmc -b -ci1 -cs4294967295`, `jellyfish dump -c` without limits"
    if difference > max(_FEW_ENDS, _FRACTION_OF_ENDS * total):
        problem = (
            f"has counts that do not balance: those of the {k}-mers that begin and that end with each {k - 1}-mer"
            f" differ by {difference / total:.2g} of all"
        )
        if difference > _FRACTION_OF_SHORT_SEQUENCES * total:
            _refuse(
                table.path,
                f"{problem}; they were capped or left out, or are of short sequences",
                f"{remedy}; give short sequences to `cmgems prepare-genome`",
            )
        warn(
            f"{table.path} {problem}; that is right for sequences of {2 * total // difference:,} bases on average,"
            f" otherwise {remedy}"
        )
    # What the sums cannot show: a k-mer of one letter begins and ends with the same (k-1)-mer.
    largest = int(counts.max())
    if (
        int((counts == largest).sum()) > 1
        and largest > _LARGE
        and (counts != counts[complement_codes(k)]).any()
    ):
        warn(
            f"{table.path} has the largest count, {largest:,}, more than once; if counts were capped, {remedy}"
        )
    one_letter = np.arange(4) * ((4**k - 1) // 3)
    for code in one_letter[(counts[one_letter] == 0) & (begins[one_letter // 4] > _LARGE)].tolist():
        warn(f"{table.path} has no {kmers(k)[code]}; if high counts were left out, {remedy}")


def _cells(line: str) -> list[str]:
    """Split a line at commas, semicolons, tabs and spaces; quotes are removed."""
    line = line.rstrip().rstrip(",;").lstrip(" ")
    return [cell.strip("\"'") for cell in _SEPARATOR.split(line)] if line else []


def _is_header(cells: list[str]) -> bool:
    """Return whether the first line names columns: no cell is like a k-mer, or the last one says count."""
    like_a_kmer = any(cell and set(cell.upper()) <= _LETTERS_OF_KMERS for cell in cells)
    return not cells[0].startswith(">") and (cells[-1].lower() in _COUNT_WORDS or not like_a_kmer)


def _row(path: Path, number: int, cells: list[str], header: bool) -> tuple[str, int]:
    if cells[0].startswith(">"):
        _refuse(path, "is in FASTA layout", "dump one row per k-mer: `jellyfish dump -c`")
    # R and pandas number the rows of a table with a header.
    if len(cells) == 3 and (not cells[0] or (header and cells[0].isdigit())):
        cells = cells[1:]
    if len(cells) != 2:
        _refuse(
            path, f"has {','.join(cells)[:40]!r} in line {number}", "give two fields per row, `kmer,count`"
        )
    kmer, count = cells[0].upper(), _whole_number(cells[1])
    if count is None:
        _refuse(path, f"has the count {cells[1][:40]!r} in line {number}", "give whole numbers from 0 on")
    if not MIN_K <= len(kmer) <= MAX_K:
        _refuse_kmer(path, number, kmer, None)
    return kmer, count


def _whole_number(cell: str) -> int | None:
    """Return a count written as 100000, 100000.0 or 1e+05 (as R writes it); None for anything else."""
    digits = cell.lstrip("0") or "0"
    if cell.isascii() and cell.isdigit():
        number = int(digits[:_LONGEST_COUNT])
    elif _FLOAT.fullmatch(cell) and float(cell).is_integer():
        number = int(float(cell))
    else:
        return None
    return number if number <= _LARGEST_COUNT else None


def _refuse_kmer(path: Path, number: int, kmer: str, k: int | None) -> NoReturn:
    shown = repr(kmer if len(kmer) <= 40 else kmer[:40] + "…")
    if not set(kmer) <= set(BASES):
        _refuse(path, f"has {shown} in line {number}", "give k-mers of the letters A, C, G and T")
    if k is None:
        _refuse(
            path,
            f"has the {len(kmer)}-mer {shown} in line {number}",
            f"give k-mers of {MIN_K} to {MAX_K} bases",
        )
    _refuse(
        path, f"has the {len(kmer)}-mer {shown} in line {number} among {k}-mers", "give k-mers of one length"
    )


def _check_strands(path: Path, counts: np.ndarray, k: int) -> None:
    """Refuse a table in which no k-mer occurs together with its reverse complement."""
    codes, complement = np.arange(4**k), complement_codes(k)
    alphabetical = np.argsort(np.argsort(kmers(k)))
    present = counts > 0
    if (present & present[complement] & (codes != complement)).any():
        return
    single = present & (codes != complement)
    pairs = int(single.sum())
    all_smaller = bool((alphabetical[single] < alphabetical[complement[single]]).all())
    n_pairs = int((codes < complement).sum())
    if (all_smaller and pairs >= _PAIRS_FOR_CERTAINTY) or pairs > max(
        _DENSE_FRACTION * n_pairs, _PAIRS_FOR_CERTAINTY
    ):
        _refuse(
            path,
            "counts each k-mer together with its reverse complement, which hides the counts of one strand",
            "count one strand: `kmc -b`, or `jellyfish count` without -C",
        )


def _check_saturation(path: Path, counts: np.ndarray) -> None:
    """Refuse a table that holds KMC's default limit as its largest count, more than once."""
    if counts.max() == KMC_LARGEST_COUNT and int((counts == KMC_LARGEST_COUNT).sum()) > 1:
        _refuse(
            path,
            f"has counts capped at {KMC_LARGEST_COUNT}, KMC's default limit",
            "count with `kmc -b -ci1 -cs4294967295`",
        )


def _refuse(path: Path, problem: str, remedy: str) -> NoReturn:
    raise InputError(f"{path} {problem}; {remedy}")
