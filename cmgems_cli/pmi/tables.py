"""Read a table of k-mer counts written by another program: KMC, Jellyfish, or any that writes rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from cmgems_cli.artifacts import sha256_of_file
from cmgems_cli.errors import InputError
from cmgems_cli.genome.vocabulary import BASES, MAX_K, MIN_K, kmers

# Above any count of a k-mer of up to 8 bases in any known genome; the sum of 4**8 larger counts could overflow int64.
_LARGEST_COUNT = 2**46

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
    """Read rows of `kmer,count`, separated by commas, tabs or spaces, in either case, with or without a header.

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
        _refuse(path, "is in FASTA layout", "dump one row per k-mer: `jellyfish dump -c`")
    if len(fields) != 2:
        _refuse(path, f"has {line[:40].strip()!r} in line {number}", "give two fields per row, `kmer,count`")
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
    """Refuse a table in which no k-mer occurs together with its reverse complement."""
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
