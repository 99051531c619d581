"""Read a table of k-mer counts that another program made: KMC, Jellyfish, or anything that writes rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from cmgems_cli.artifacts import sha256_of_file
from cmgems_cli.errors import InputError
from cmgems_cli.genome.vocabulary import BASES, MAX_K, MIN_K, kmers

# Counts of k-mers of up to 8 bases are below this in any genome known; the sum of 4**8 of more would overflow int64.
_LARGEST_COUNT = 2**46

# KMC keeps one byte per k-mer unless told otherwise: -cs<value>, default 255.
KMC_LARGEST_COUNT = 255

# By chance a table of one strand holds only the smaller of each reverse-complement pair with a probability of
# 2^-pairs; this many make it certain. A table that is this dense cannot lack every second strand either.
_PAIRS_FOR_CERTAINTY = 20
_DENSE_SHARE = 0.5


@dataclass(frozen=True)
class KmerTable:
    """Counts of all k-mers as read from a file.

    Attributes
    ----------
    path : Path
        Where they came from.
    k : int
        Bases per k-mer.
    counts : int64, shape (4^k,), occurrences
        By k-mer code; 0 for k-mers the file does not name.
    sha256 : str
        Of the file's bytes.
    """

    path: Path
    k: int
    counts: np.ndarray
    sha256: str


def read_kmer_table(path: Path) -> KmerTable:
    """Read rows of `kmer,count`, also separated by tabs or spaces, in either case, with or without a header.

    Parameters
    ----------
    path : Path
        A CSV file, or what `kmc_tools transform DB dump FILE` or `jellyfish dump -c DB` wrote after
        `kmc -b -ci1 -cs4294967295` or `jellyfish count` without -C.

    Returns
    -------
    KmerTable
        k is the length of the first k-mer. k-mers that are not named count 0.

    Raises
    ------
    InputError
        For a missing, empty or binary file, another layout, k-mers of several lengths or outside 3 … 8
        bases, letters other than ACGT, a k-mer named twice, a count that is not a whole number from 0 on;
        and for tables that look right but are not: both strands merged, counts cut off at 255.
    """
    if not path.is_file():
        _refuse(path, "is not a file", "give a table with `kmer,count` rows")
    counts: np.ndarray | None = None
    code_of: dict[str, int] = {}
    named: set[str] = set()
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                fields = line.replace(",", " ").split()
                if not fields or (not named and _is_header(fields)):
                    continue
                kmer, count = _row(path, number, line, fields)
                if counts is None:
                    code_of = {name: code for code, name in enumerate(kmers(len(kmer)))}
                    counts = np.zeros(len(code_of), dtype=np.int64)
                if kmer not in code_of:
                    _refuse_kmer(path, number, kmer, len(next(iter(code_of))))
                if kmer in named:
                    _refuse(path, f"names {kmer} twice (again in line {number})", "give each k-mer one row")
                named.add(kmer)
                counts[code_of[kmer]] = count
        sha256 = sha256_of_file(path)
    except UnicodeDecodeError:
        _refuse(path, "is not text", "give an uncompressed table with `kmer,count` rows")
    except OSError as error:
        _refuse(path, f"cannot be read ({error.strerror})", "give a table with `kmer,count` rows")
    if counts is None or not counts.any():
        _refuse(path, "holds no k-mer that occurs", "give a table with `kmer,count` rows")
    k = len(next(iter(named)))
    _check_strands(path, counts, k)
    _check_saturation(path, counts)
    return KmerTable(path=path, k=k, counts=counts, sha256=sha256)


def _is_header(fields: list[str]) -> bool:
    return [field.strip('"').lower() for field in fields] == ["kmer", "count"]


def _row(path: Path, number: int, line: str, fields: list[str]) -> tuple[str, int]:
    if line.startswith(">"):
        _refuse(path, "is in FASTA layout", "dump one row a k-mer: `jellyfish dump -c`")
    if len(fields) != 2:
        _refuse(path, f"has {line[:40].strip()!r} in line {number}", "give two fields a row, `kmer,count`")
    kmer, count = fields[0].upper(), fields[1]
    if not count.isascii() or not count.isdigit() or int(count[:20]) > _LARGEST_COUNT:
        _refuse(path, f"has the count {count[:40]!r} in line {number}", "give whole numbers from 0 on")
    if not MIN_K <= len(kmer) <= MAX_K:
        _refuse_kmer(path, number, kmer, None)
    return kmer, int(count)


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
    """Refuse a table in which a k-mer and its reverse complement never both occur."""
    codes = np.arange(4**k)
    complement = np.zeros_like(codes)
    for at in range(k):  # A T C G = 0 1 2 3: the complement flips the low bit
        complement = complement * 4 + ((codes >> (2 * at)) & 3 ^ 1)
    alphabetical = np.argsort(np.argsort(kmers(k)))
    present = counts > 0
    if (present & present[complement] & (codes != complement)).any():
        return
    single = present & (codes != complement)
    pairs = int(single.sum())
    all_smaller = bool((alphabetical[single] < alphabetical[complement[single]]).all())
    n_pairs = int((codes < complement).sum())
    if (all_smaller and pairs >= _PAIRS_FOR_CERTAINTY) or pairs > max(
        _DENSE_SHARE * n_pairs, _PAIRS_FOR_CERTAINTY
    ):
        _refuse(
            path,
            "counts each k-mer together with its reverse complement, which hides what one strand holds",
            "count one strand: `kmc -b`, or `jellyfish count` without -C",
        )


def _check_saturation(path: Path, counts: np.ndarray) -> None:
    """Refuse a table whose largest count is KMC's default limit, more than once."""
    if counts.max() == KMC_LARGEST_COUNT and int((counts == KMC_LARGEST_COUNT).sum()) > 1:
        _refuse(
            path,
            f"has counts cut off at {KMC_LARGEST_COUNT}, KMC's default limit",
            "count with `kmc -b -ci1 -cs4294967295`",
        )


def _refuse(path: Path, found: str, remedy: str) -> NoReturn:
    raise InputError(f"{path} {found}; {remedy}")
