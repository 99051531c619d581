"""The most important k-mers of many explained sequences, how enriched they are, and motifs of them in MEME format.

Importance of a k-mer: the mean, over its occurrences, of the sum of the importance of its bases. Enrichment: its
occurrences in the sequences over those in dinucleotide-shuffled copies of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.explaining.edits import COLUMN_OF_BYTE, LETTERS
from cmgems_cli.explaining.shuffling import shuffle_dinucleotides
from cmgems_cli.kernels import kernel

# ours: shuffled copies per sequence; their mean count is then known to a third at one occurrence, to 3 % at 100.
SHUFFLES = 10

# ours: k-mers that occur in fewer sequences are left out, and in less than 1 % of all: a mean of fewer values is noise.
LEAST_ROWS, LEAST_FRACTION = 3, 0.01

# ours: added to both counts of an enrichment.
PSEUDOCOUNT = 0.5

# ours: weight of the background in a motif's column, in occurrences.
BACKGROUND_WEIGHT = 1.0

# Letters of each sequence (uint8, shape (n,)) and their importance (float32, shape (n,)); can be read twice.
Rows = Callable[[], Iterable[tuple[NDArray[np.uint8], NDArray[np.float32]]]]


@dataclass(frozen=True, eq=False)
class Motif:
    """A k-mer with its neighbours.

    Attributes
    ----------
    kmer : str
    importance : float
        Mean over the occurrences.
    occurrences, rows : int
        Occurrences, and sequences that have one.
    controls : float
        Mean number of occurrences in the shuffled sequences.
    sites : int
        Occurrences of the k-mer, and of k-mers that differ in one base and are important too.
    matrix : float64, shape (k, 4)
        Frequencies of A, C, G, T at each position of the sites, weighted by their importance.
    """

    kmer: str
    importance: float
    occurrences: int
    rows: int
    controls: float
    sites: int
    matrix: NDArray[np.float64]

    @property
    def enrichment(self) -> float:
        """Occurrences over those in shuffled sequences."""
        return (self.occurrences + PSEUDOCOUNT) / (self.controls + PSEUDOCOUNT)


@dataclass(frozen=True, eq=False)
class Motifs:
    """The motifs of some sequences, most important first.

    Attributes
    ----------
    motifs : list of Motif
    background : float64, shape (4,)
        Frequencies of A, C, G, T in the sequences.
    n_rows : int
        Number of sequences.
    """

    motifs: list[Motif]
    background: NDArray[np.float64]
    n_rows: int


def find_motifs(rows: Rows, k: int, *, most: int = 10, seed: int = 42) -> Motifs:
    """Find the most important k-mers.

    A k-mer is left out if a more important one is the same except for one base, or shifted by up to k / 2.

    Parameters
    ----------
    rows : callable
        Returns the letters of each sequence, uint8 of shape (n,), with their importance, float32 of shape (n,).
    k : int, bases
        2 to 10.
    most : int, default 10
        Number of motifs.
    seed : int, default 42
        Of the shuffles.
    """
    counts, totals = np.zeros(4**k, np.int64), np.zeros(4**k)
    in_rows, seen_in = np.zeros(4**k, np.int64), np.full(4**k, -1, np.int64)
    controls, of_controls = np.zeros(4**k, np.int64), np.zeros(4**k)
    letters_seen = np.zeros(len(LETTERS) + 1, np.int64)
    n_rows = 0
    for letters, importance in rows():
        columns = COLUMN_OF_BYTE[letters]
        letters_seen += np.bincount(columns, minlength=len(letters_seen))
        _count(columns, importance, k, n_rows, counts, totals, in_rows, seen_in)
        for draw in range(SHUFFLES):
            shuffled = COLUMN_OF_BYTE[shuffle_dinucleotides(letters, (seed, n_rows, draw))]
            _count(shuffled, np.zeros_like(importance), k, -1, controls, of_controls, in_rows, seen_in)
        n_rows += 1
    background = (letters_seen[:4] + 1) / (letters_seen[:4] + 1).sum()
    enough = in_rows >= max(LEAST_ROWS, LEAST_FRACTION * n_rows)
    mean = np.divide(totals, counts, out=np.zeros(4**k), where=counts > 0)
    chosen = _distinct(np.flatnonzero(enough & (mean > 0)), mean, k, most)
    matrices, sites = _matrices(rows, chosen, mean, k, background)
    found = [
        Motif(
            kmer_of(code, k),
            float(mean[code]),
            int(counts[code]),
            int(in_rows[code]),
            float(controls[code] / SHUFFLES),
            int(sites[number]),
            matrices[number],
        )
        for number, code in enumerate(chosen)
    ]
    return Motifs(found, background, n_rows)


def kmer_of(code: int, k: int) -> str:
    """Return the k-mer of a code: two bits per base, A C G T = 0 1 2 3, the first base highest.

    >>> kmer_of(0b00011011, 4)
    'ACGT'
    """
    return "".join(LETTERS[(code >> (2 * (k - 1 - i))) & 3] for i in range(k))


@kernel()
def _count(columns, importance, k, row, counts, totals, in_rows, seen_in):  # type: ignore[no-untyped-def]
    """Count the k-mers of a sequence and add up their importance; `row` -1 does not count sequences."""
    code, known, mask = 0, 0, (1 << (2 * k)) - 1
    for i in range(len(columns)):
        if columns[i] > 3 or np.isnan(importance[i]):
            known = 0
            continue
        code = ((code << 2) | columns[i]) & mask
        known += 1
        if known < k:
            continue
        counts[code] += 1
        total = 0.0
        for j in range(i - k + 1, i + 1):
            total += importance[j]
        totals[code] += total
        if row >= 0 and seen_in[code] != row:
            seen_in[code] = row
            in_rows[code] += 1


def _distinct(codes: NDArray[np.int64], mean: NDArray[np.float64], k: int, most: int) -> list[int]:
    """Return the most important k-mers of which none is another one shifted or changed in one base."""
    chosen: list[int] = []
    for code in codes[np.argsort(-mean[codes], kind="stable")].tolist():
        if len(chosen) == most:
            break
        kmer = kmer_of(code, k)
        if not any(_alike(kmer, kmer_of(other, k)) for other in chosen):
            chosen.append(code)
    return chosen


def _alike(one: str, other: str) -> bool:
    k = len(one)
    for shift in range(k // 2 + 1):
        for a, b in ((one[shift:], other[: k - shift]), (other[shift:], one[: k - shift])):
            if sum(x != y for x, y in zip(a, b, strict=True)) <= (shift == 0):
                return True
    return False


def _matrices(
    rows: Rows, chosen: list[int], mean: NDArray[np.float64], k: int, background: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the matrices of motifs, float64 of shape (n, k, 4), and their numbers of sites, int64 of shape (n,)."""
    weights, sites = np.zeros((len(chosen), k, 4)), np.zeros(len(chosen), np.int64)
    # The motif whose site a k-mer is: the chosen one itself, or an important neighbour of the first that has it.
    motif_of = np.full(4**k, -1, np.int64)
    for number, code in reversed(list(enumerate(chosen))):
        for at in range(k):
            for base in range(4):
                near = (code & ~(3 << (2 * at))) | (base << (2 * at))
                if mean[near] > 0:
                    motif_of[near] = number
    for number, code in enumerate(chosen):
        motif_of[code] = number
    for letters, importance in rows():
        _add_sites(COLUMN_OF_BYTE[letters], importance, k, motif_of, weights, sites)
    with np.errstate(invalid="ignore", divide="ignore"):
        per_site = sites / weights.sum((1, 2)) * k
    weighted = np.nan_to_num(weights * per_site[:, None, None]) + BACKGROUND_WEIGHT * background
    return weighted / weighted.sum(2, keepdims=True), sites


@kernel()
def _add_sites(columns, importance, k, motif_of, weights, sites):  # type: ignore[no-untyped-def]
    code, known, mask = 0, 0, (1 << (2 * k)) - 1
    for i in range(len(columns)):
        if columns[i] > 3 or np.isnan(importance[i]):
            known = 0
            continue
        code = ((code << 2) | columns[i]) & mask
        known += 1
        if known < k or motif_of[code] < 0:
            continue
        total = 0.0
        for j in range(i - k + 1, i + 1):
            total += importance[j]
        if total <= 0:
            continue
        sites[motif_of[code]] += 1
        for j in range(k):
            weights[motif_of[code], j, columns[i - k + 1 + j]] += total


def meme_text(motifs: Motifs) -> str:
    """Return motifs in the minimal MEME format, version 4 (meme-suite.org/meme/doc/meme-format.html).

    Only the strand of the sequences was read: `strands: +`.
    """
    frequencies = " ".join(
        f"{letter} {value:.6f}" for letter, value in zip(LETTERS, motifs.background, strict=True)
    )
    lines = [
        "MEME version 4", "", f"ALPHABET= {LETTERS}", "", "strands: +", "", "Background letter frequencies",
        frequencies,
    ]  # fmt: skip
    for number, motif in enumerate(motifs.motifs, 1):
        k = len(motif.kmer)
        lines += [
            "",
            f"MOTIF {motif.kmer} cmgems-{number}",
            f"letter-probability matrix: alength= 4 w= {k} nsites= {motif.sites} E= 0",
            *(" ".join(f"{value:.6f}" for value in _rounded(row)) for row in motif.matrix),
        ]
    return "\n".join(lines) + "\n"


def _rounded(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a column's frequencies in steps of 10^-6 that add up to 1."""
    rounded = np.round(row, 6)
    rounded[rounded.argmax()] += 1 - rounded.sum()
    return rounded


def motif_columns(motifs: Motifs) -> dict[str, list[object]]:
    """Return the table of motifs by columns: kmer, importance, occurrences, sequences, controls, enrichment, sites."""
    return {
        "kmer": [one.kmer for one in motifs.motifs],
        "importance": [round(one.importance, 6) for one in motifs.motifs],
        "occurrences": [one.occurrences for one in motifs.motifs],
        "sequences": [one.rows for one in motifs.motifs],
        "controls": [one.controls for one in motifs.motifs],
        "enrichment": [round(one.enrichment, 3) for one in motifs.motifs],
        "sites": [one.sites for one in motifs.motifs],
    }
