"""Tables of a tally of masks, and the same figures as one JSON object."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.genome.intervals import GenomicInterval, intervals_of
from cmgems_cli.genome.vocabulary import BASES, FIRST_KMER, kmers
from cmgems_cli.mask_viewer.samples import MaskSample
from cmgems_cli.mask_viewer.tally import LEAST_SEEN, MaskTally, busiest_window
from cmgems_cli.pmi.ranking import UNRANKED

# Ranks are shown as tenths of the ranked k-mers, 0 the best; unranked k-mers have no tenth.
TENTHS = 10
NO_TENTH = -1

# ours: enough to see a pattern, few enough to read.
EXTREMES = 5


@dataclass(frozen=True, eq=False)
class Excerpt:
    """Part of a sequence with its masks.

    Attributes
    ----------
    number : int
        Number of the sequence in the run, from 1.
    interval : GenomicInterval
        Interval of the whole sequence.
    n_tokens : int
        Length of the whole sequence.
    first : int
        Position at which the excerpt begins.
    bases : str
        First base of the k-mer at each position.
    tenths : int64, shape (len(bases),)
        0 … 9 by the k-mer's rank, or `NO_TENTH`.
    masks : list of bool arrays, shape (len(bases),)
        One per variant.
    """

    number: int
    interval: GenomicInterval
    n_tokens: int
    first: int
    bases: str
    tenths: NDArray[np.int64]
    masks: list[NDArray[np.bool_]]


def excerpts(sample: MaskSample, count: int, width: int | None) -> list[Excerpt]:
    """Cut an excerpt from each of the first sequences of a sample.

    Parameters
    ----------
    sample : MaskSample
    count : int
        Number of sequences.
    width : int or None, tokens
        Length of the excerpt, which is the most heavily masked part, all variants together; None: the whole
        sequence.
    """
    tenths_of_token = rank_tenths(sample.rank_of_token)
    token_ids, offsets, masks = sample.masked(0, count)
    intervals = intervals_of(sample.corpus, sample.sequence_indices[:count])
    letters = np.array(list(BASES))
    cut = []
    for s, interval in enumerate(intervals):
        begin, end = int(offsets[s]), int(offsets[s + 1])
        first = 0 if width is None else busiest_window([masked[begin:end] for masked in masks], width)
        part = slice(begin + first, end if width is None else min(end, begin + first + width))
        first_bases = (token_ids[part] - FIRST_KMER) >> (2 * (sample.corpus.k - 1))
        cut.append(
            Excerpt(
                s + 1,
                interval,
                end - begin,
                first,
                "".join(letters[first_bases]),
                tenths_of_token[token_ids[part]],
                [masked[part] for masked in masks],
            )
        )
    return cut


def rank_tenths(rank_of_token: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the tenth of the ranking of each token, 0 for the best; `NO_TENTH` for unranked tokens.

    Parameters
    ----------
    rank_of_token : int32, shape (n_tokens,)

    Returns
    -------
    int64, shape (n_tokens,)

    Examples
    --------
    >>> rank_tenths(np.array([2147483647, 1, 10, 11, 20], np.int32)).tolist()
    [-1, 0, 4, 5, 9]
    """
    ranked = rank_of_token != UNRANKED
    n_ranked = max(1, int(rank_of_token.max(initial=1, where=ranked)))
    return np.where(ranked, (rank_of_token.astype(np.int64) - 1) * TENTHS // n_ranked, NO_TENTH)


def percent(fraction: float, decimals: int = 1) -> str:
    """Format a fraction: 12.3 %; a dash for NaN."""
    return "–" if math.isnan(fraction) else f"{100 * fraction:.{decimals}f} %"


def summary_rows(tally: MaskTally) -> list[list[str]]:
    """Return the table of figures: one row per figure, its name first, then one value per variant."""
    spans = tally.span_lengths.sum(axis=1)
    positions, of_kmers = tally.position_fraction(), tally.kmer_fraction()
    often_positions = tally.seen_at_position >= LEAST_SEEN
    often_kmers = tally.seen_of_kmer >= LEAST_SEEN
    medians, longest = tally.span_quantile(0.5), tally.span_quantile(1.0)
    sequences = max(1, tally.sequences)
    rows: list[tuple[str, list[str]]] = [
        ("tokens masked", [percent(fraction) for fraction in tally.masked_fraction()]),
        ("bases hidden", [percent(n / max(1, tally.bases)) for n in tally.hidden_bases]),
        ("unmasked sequences", [percent(n / sequences) for n in tally.untouched_sequences]),
        ("spans per sequence", [f"{n / sequences:.1f}" for n in spans]),
        ("span length, mean", ["–" if math.isnan(mean) else f"{mean:.1f}" for mean in tally.span_mean()]),
        ("span length, median", [str(length) for length in medians]),
        ("span length, longest", [str(length) for length in longest]),
        ("positions mostly masked", _numbers(positions[:, often_positions] > 0.5)),
        ("positions never masked", _numbers(positions[:, often_positions] == 0)),
        ("k-mers mostly masked", _numbers(of_kmers[:, often_kmers] > 0.5)),
        ("k-mers never masked", _numbers(of_kmers[:, often_kmers] == 0)),
    ]
    return [[name, *values] for name, values in rows]


def extreme_rows(tally: MaskTally) -> list[list[str]]:
    """Return the k-mers that each variant masks most and least: one row per rank, one cell per variant."""
    names, fraction = kmers(tally.k), tally.kmer_fraction()
    rows = []
    for most, word in ((True, "most"), (False, "least")):
        columns = [
            [f"{names[code]} {percent(fraction[variant, code], 0)}" for code in codes.tolist()]
            for variant, codes in enumerate(
                tally.extreme_kmers(variant, EXTREMES, most=most) for variant in range(len(fraction))
            )
        ]
        for index in range(max(map(len, columns))):
            rows.append([word if index == 0 else "", *(column[index] for column in columns)])
    return rows


def overlap_rows(sample: MaskSample, tally: MaskTally) -> list[list[str]]:
    """Return the table of overlaps: the tokens that the row's variant masks, and the column's too."""
    return [
        [variant.name, *(percent(fraction, 0) for fraction in row)]
        for variant, row in zip(sample.variants, tally.overlap(), strict=True)
    ]


def as_object(sample: MaskSample, tally: MaskTally, shown: list[Excerpt], n_groups: int) -> dict[str, Any]:
    """Return all figures as JSON types; undefined fractions are null.

    `kmers` holds, in the order of token ids, every k-mer, its rank (null if it has none) and its number of
    occurrences; `kmer_masked` of a variant how many of those are masked, `position_fraction` the fraction of
    sequences masked at each position, `rank_fraction` the masked fraction of equal groups of k-mers, best first,
    `span_lengths` the number of spans of each length from 1 token on.
    """
    positions, groups = tally.position_fraction(), tally.rank_fraction(sample.rank_of_token, n_groups)
    masked_fractions, mean, overlap = tally.masked_fraction(), tally.span_mean(), tally.overlap()
    medians, longest = tally.span_quantile(0.5), tally.span_quantile(1.0)
    ranks = sample.rank_of_token[FIRST_KMER:]
    variants = [
        {
            "name": variant.name,
            "strategy": variant.strategy_name,
            "rank_by": variant.rank_by if variant.uses_ranks else None,
            "masked_fraction": float(masked_fractions[number]),
            "hidden_bases_fraction": int(tally.hidden_bases[number]) / max(1, tally.bases),
            "unmasked_sequences_fraction": int(tally.untouched_sequences[number]) / max(1, tally.sequences),
            "span_mean": _or_none(mean[number]),
            "span_median": medians[number],
            "span_longest": longest[number],
            "span_lengths": tally.span_lengths[number, 1 : longest[number] + 1].tolist(),
            "overlap": {
                other.name: _or_none(overlap[number, column]) for column, other in enumerate(sample.variants)
            },
            "position_fraction": [_or_none(fraction) for fraction in positions[number]],
            "rank_fraction": [_or_none(fraction) for fraction in groups[number]],
            "kmer_masked": tally.masked_of_kmer[number].tolist(),
        }
        for number, variant in enumerate(sample.variants)
    ]
    return {
        "k": tally.k,
        "mask_rate": sample.mask_rate,
        "seed": sample.seed,
        "sequences": tally.sequences,
        "tokens": tally.tokens,
        "variants": variants,
        "kmers": {
            "kmer": kmers(tally.k),
            "rank": [None if rank == UNRANKED else rank for rank in ranks.tolist()],
            "count": tally.seen_of_kmer.tolist(),
        },
        "shown": [
            {
                "contig": one.interval.contig,
                "start": one.interval.start,
                "end": one.interval.end,
                "first": one.first,
                "bases": one.bases,
                "masked": {
                    variant.name: (np.flatnonzero(masked) + one.first).tolist()
                    for variant, masked in zip(sample.variants, one.masks, strict=True)
                },
            }
            for one in shown
        ],
    }


def _numbers(flags: NDArray[np.bool_]) -> list[str]:
    return [f"{n:,}" for n in flags.sum(axis=1)]


def _or_none(number: float) -> float | None:
    return None if math.isnan(number) else round(float(number), 6)
