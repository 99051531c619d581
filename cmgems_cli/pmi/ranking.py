"""The ranking of all k-mers by normalised PMI: the only writer and the only reader of `kmers.csv`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cmgems_cli.artifacts import Manifest, read_manifest
from cmgems_cli.errors import InputError
from cmgems_cli.genome.vocabulary import FIRST_KMER, MAX_K, MIN_K, kmers, vocabulary_size

# The rank of tokens without one: higher than every rank.
UNRANKED = np.int32(2**31 - 1)

KMERS_CSV = "kmers.csv"
# ours: bytes of the longest row; `write_kmers` needs up to 90.
_LONGEST_ROW = 128

COLUMNS = ("rank", "kmer", "count", "pmi_nats", "npmi_nats")


@dataclass(frozen=True, repr=False)
class Ranking:
    """The content of a `pmi` artifact.

    Attributes
    ----------
    k : int
        Bases per k-mer.
    rank_of_token : int32, shape (5 + 4^k,)
        By token id; 1 = highest NPMI; special tokens and rare k-mers are UNRANKED.
    counts : int64, shape (4^k,), occurrences
        By k-mer code.
    pmi_nats, npmi_nats : float64, shape (4^k,), nats
        By k-mer code; NaN where the k-mer is unranked.
    manifest : Manifest
        Params, inputs and stats of the artifact.
    """

    k: int
    rank_of_token: np.ndarray
    counts: np.ndarray
    pmi_nats: np.ndarray
    npmi_nats: np.ndarray
    manifest: Manifest

    def __repr__(self) -> str:
        return f"<Ranking: {self.n_ranked:,} of {4**self.k:,} {self.k}-mers>"

    @property
    def n_ranked(self) -> int:
        """Number of k-mers that have a rank."""
        return int((self.rank_of_token != UNRANKED).sum())

    def codes_by_rank(self) -> np.ndarray:
        """Return the codes of the ranked k-mers, best first (int64, shape (n_ranked,))."""
        return best_first(self.npmi_nats)[: self.n_ranked]


def best_first(npmi: np.ndarray) -> np.ndarray:
    """Return all k-mer codes in order of `kmers.csv`.

    Parameters
    ----------
    npmi : float64, shape (4^k,), nats
        By k-mer code, NaN where unranked.

    Returns
    -------
    int64, shape (4^k,)
        Highest NPMI first, ties by token id; then the unranked ones by token id.
    """
    return np.argsort(-npmi, kind="stable")  # NaN sorts last; stable keeps ties in order of codes


def write_kmers(path: Path, k: int, counts: np.ndarray, pmi: np.ndarray, npmi: np.ndarray) -> None:
    """Write `kmers.csv`: all 4^k k-mers by rank, unranked ones last and by token id.

    Parameters
    ----------
    path : Path
        The file to write.
    k : int
        Bases per k-mer.
    counts : int64, shape (4^k,), occurrences
        By k-mer code.
    pmi, npmi : float64, shape (4^k,), nats
        By k-mer code, NaN where unranked (written as empty fields, like the rank). All digits are written,
        so reading restores the exact numbers.
    """
    names = kmers(k)
    order = best_first(npmi)
    rows = zip(
        (names[code] for code in order.tolist()),
        counts[order].tolist(),
        pmi[order].tolist(),
        npmi[order].tolist(),
        strict=True,
    )
    lines = [",".join(COLUMNS)]
    for rank, (kmer, count, pmi_of_kmer, npmi_of_kmer) in enumerate(rows, start=1):
        if math.isnan(npmi_of_kmer):
            lines.append(f",{kmer},{count},,")
        else:
            lines.append(f"{rank},{kmer},{count},{pmi_of_kmer!r},{npmi_of_kmer!r}")
    path.write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")


def no_ranks(k: int) -> np.ndarray:
    """Return the ranks of a vocabulary without a ranking: UNRANKED everywhere (int32, shape (5 + 4^k,))."""
    return np.full(vocabulary_size(k), UNRANKED, np.int32)


def read_ranking(folder: Path, corpus_k: int | None = None) -> Ranking:
    """Read a `pmi` artifact.

    Parameters
    ----------
    folder : Path
        Output of `cmgems build-pmi`.
    corpus_k : int, optional
        Bases per token of the corpus that is masked by the ranking.

    Returns
    -------
    Ranking
        Its arrays are indexed by token id or k-mer code, not by row of the file.

    Raises
    ------
    InputError
        If `folder` is not a finished pmi artifact, or `kmers.csv` violates its specification: other columns,
        not every k-mer exactly once, ranks other than 1, 2, 3, … by falling NPMI, a field that is not a number;
        or if it ranks other k-mers than the corpus has.
    """
    manifest = read_manifest(folder, "pmi", verify=True)
    path = folder / KMERS_CSV
    k = manifest.params.get("k")
    if not isinstance(k, int) or not MIN_K <= k <= MAX_K:
        raise _damaged(folder, f"its manifest gives k = {k!r}, not {MIN_K} to {MAX_K}")
    if corpus_k not in (None, k):
        raise InputError(
            f"{folder} ranks {k}-mers, but the corpus was cut for {corpus_k}-mers; make both with one `k`"
        )
    size = path.stat().st_size
    if size > _LONGEST_ROW * (4**k + 1):
        raise _damaged(path, f"it has {size:,} bytes, too many for 4^{k} rows")
    try:
        header, *lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError) as error:  # missing, not ASCII, or empty
        raise _damaged(path, str(error)) from None
    if header != ",".join(COLUMNS):
        raise _damaged(path, f"its columns are {header[:60]!r}, not {','.join(COLUMNS)}")
    rows = [line.split(",") for line in lines]
    if len(rows) != 4**k or any(len(row) != len(COLUMNS) for row in rows):
        raise _damaged(path, f"it is not a table of 4^{k} = {4**k:,} rows with {len(COLUMNS)} fields each")
    ranks, names, counts, pmi, npmi = zip(*rows, strict=True)
    code_of = {kmer: code for code, kmer in enumerate(kmers(k))}
    codes = np.array([code_of.get(kmer, -1) for kmer in names], dtype=np.int64)
    if not np.array_equal(np.sort(codes), np.arange(4**k)):
        raise _damaged(path, f"it does not hold every {k}-mer exactly once")
    n_ranked = len(rows) - ranks.count("")
    if ranks != (*map(str, range(1, n_ranked + 1)), *[""] * (len(rows) - n_ranked)):
        raise _damaged(path, "its ranks are not 1, 2, 3, … followed by empty fields")
    ranking = Ranking(
        k=k,
        rank_of_token=no_ranks(k),
        counts=np.zeros(4**k, dtype=np.int64),
        pmi_nats=np.full(4**k, np.nan),
        npmi_nats=np.full(4**k, np.nan),
        manifest=manifest,
    )
    ranked = codes[:n_ranked]
    ranking.rank_of_token[FIRST_KMER + ranked] = np.arange(1, n_ranked + 1)
    ranking.counts[codes] = _numbers(path, counts, int, np.int64)
    ranking.pmi_nats[ranked] = _numbers(path, pmi[:n_ranked], float, np.float64)
    ranking.npmi_nats[ranked] = _numbers(path, npmi[:n_ranked], float, np.float64)
    if ranking.counts.min() < 0 or any(pmi[n_ranked:]) or any(npmi[n_ranked:]):
        raise _damaged(path, "it holds a negative count or the score of an unranked k-mer")
    if (np.diff(ranking.npmi_nats[ranked]) > 0).any():
        raise _damaged(path, "its NPMIs do not fall from rank to rank")
    return ranking


def origin_note(pmi: Path, ranked: Manifest, corpus: Path, masked: Manifest) -> str | None:
    """Describe that a ranking is not known to be of the corpus that it masks; None if it is.

    Parameters
    ----------
    pmi : Path
    ranked : Manifest
        That of `pmi`.
    corpus : Path
    masked : Manifest
        That of `corpus`.
    """
    of = ranked.inputs.get("corpus")
    if of == masked.digest:
        return None
    source = f"another corpus ({of[:12]})" if of else "a table of counts"
    return (
        f"{pmi} was made from {source}, not from {corpus} ({masked.digest[:12]}), so its ranks may not be those of the"
        f" sequences masked here; `cmgems build-pmi {corpus}` ranks their k-mers"
    )


def _numbers(
    path: Path, fields: Sequence[str], convert: Callable[[str], float], dtype: type[np.generic]
) -> np.ndarray:
    try:
        numbers = np.array([convert(field) for field in fields], dtype=dtype)
    except (ValueError, OverflowError) as error:
        raise _damaged(path, str(error)) from None
    if not np.isfinite(numbers).all():
        raise _damaged(path, "it holds a score that is not finite")
    return numbers


def _damaged(path: Path, problem: str) -> InputError:
    return InputError(f"{path} is damaged: {problem}; make it again with `cmgems build-pmi`")
