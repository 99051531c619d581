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
from cmgems_cli.genome.codec import kmer_codes
from cmgems_cli.genome.vocabulary import BASES

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
    in_rows, controls = np.zeros(4**k, np.int64), np.zeros(4**k, np.int64)
    letters_seen = np.zeros(len(LETTERS) + 1, np.int64)
    n_rows = 0
    for letters, importance in rows():
        letters_seen += np.bincount(COLUMN_OF_BYTE[letters], minlength=len(letters_seen))
        here = _occurrences(letters, importance, k)
        np.add.at(counts, here.codes, 1)
        np.add.at(totals, here.codes, here.totals)
        in_rows[np.unique(here.codes)] += 1
        for draw in range(SHUFFLES):
            shuffled = kmer_codes(shuffle_dinucleotides(letters, (seed, n_rows, draw)), k)
            np.add.at(controls, shuffled[shuffled >= 0], 1)
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
    """Return the k-mer of a code of `kmer_codes`.

    >>> kmer_of(0b00011011, 4)
    'ATCG'
    """
    return "".join(BASES[(code >> (2 * (k - 1 - i))) & 3] for i in range(k))


@dataclass(frozen=True, eq=False)
class _Occurrences:
    """The k-mers of a sequence whose bases are known and have an importance.

    Attributes
    ----------
    starts, codes : int64, shape (n,)
    totals : float64, shape (n,)
        Sum of the importance of the bases of each.
    """

    starts: NDArray[np.int64]
    codes: NDArray[np.int64]
    totals: NDArray[np.float64]


def _occurrences(letters: NDArray[np.uint8], importance: NDArray[np.float32], k: int) -> _Occurrences:
    if len(letters) < k:
        return _Occurrences(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    # A base without an importance counts like one that is not known.
    codes = kmer_codes(np.where(np.isnan(importance), np.uint8(ord("N")), letters), k).astype(np.int64)
    starts = np.flatnonzero(codes >= 0)
    totals = np.lib.stride_tricks.sliding_window_view(importance.astype(np.float64), k).sum(1)
    return _Occurrences(starts, codes[starts], totals[starts])


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
        here = _occurrences(letters, importance, k)
        site = np.flatnonzero((motif_of[here.codes] >= 0) & (here.totals > 0))
        motif, window = motif_of[here.codes[site]], here.starts[site][:, None] + np.arange(k)
        np.add.at(sites, motif, 1)
        where = (motif[:, None], np.arange(k), COLUMN_OF_BYTE[letters[window]])
        np.add.at(weights, where, here.totals[site][:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        per_site = sites / weights.sum((1, 2)) * k
    weighted = np.nan_to_num(weights * per_site[:, None, None]) + BACKGROUND_WEIGHT * background
    return weighted / weighted.sum(2, keepdims=True), sites


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
