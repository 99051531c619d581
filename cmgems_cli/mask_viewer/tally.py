"""Counts of masks over many sequences: fraction masked, spans, positions, k-mers and overlap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.genome.vocabulary import FIRST_KMER
from cmgems_cli.kernels import kernel
from cmgems_cli.masking.strategies import check_batch
from cmgems_cli.pmi.ranking import UNRANKED

# ours: a fraction of fewer occurrences is inaccurate (its standard error is up to 5 %).
LEAST_SEEN = 100


class MaskTally:
    """Counts over sequences masked by several variants, accumulated batch by batch.

    Parameters
    ----------
    n_variants : int
        Number of mask variants.
    k : int, bases
    longest : int, tokens
        Length of the longest sequence that will be added.

    Attributes
    ----------
    sequences, tokens, bases : int
        Added so far; a sequence of n > 0 tokens has n + k - 1 bases.
    seen_at_position : int64, shape (longest,)
        Sequences that reach each position.
    seen_of_kmer : int64, shape (4^k,)
        Occurrences of each k-mer, by its code.
    masked_at_position : int64, shape (n_variants, longest)
    masked_of_kmer : int64, shape (n_variants, 4^k)
        Masked occurrences; `[UNK]` does not count as a k-mer.
    masked_by_both : int64, shape (n_variants, n_variants)
        Tokens that both variants mask; on the diagonal, those that one variant masks.
    hidden_bases : int64, shape (n_variants,)
        Bases that no visible token contains: only these have to be predicted.
    untouched_sequences : int64, shape (n_variants,)
        Sequences without any masked token.
    span_lengths : int64, shape (n_variants, longest + 1)
        Spans (runs of consecutive masked tokens), by their length in tokens.
    """

    def __init__(self, n_variants: int, k: int, longest: int) -> None:
        self.k = k
        self.sequences = self.tokens = self.bases = 0
        self.seen_at_position = np.zeros(longest, np.int64)
        self.seen_of_kmer = np.zeros(4**k, np.int64)
        self.masked_at_position = np.zeros((n_variants, longest), np.int64)
        self.masked_of_kmer = np.zeros((n_variants, 4**k), np.int64)
        self.masked_by_both = np.zeros((n_variants, n_variants), np.int64)
        self.hidden_bases = np.zeros(n_variants, np.int64)
        self.untouched_sequences = np.zeros(n_variants, np.int64)
        self.span_lengths = np.zeros((n_variants, longest + 1), np.int64)

    def add(
        self, token_ids: NDArray[np.int32], offsets: NDArray[np.int64], masks: Sequence[NDArray[np.bool_]]
    ) -> None:
        """Add a batch.

        Parameters
        ----------
        token_ids : int32, shape (total,)
            The sequences one after the other, without special tokens.
        offsets : int64, shape (n + 1,)
            Where each begins.
        masks : sequence of bool arrays, shape (total,)
            One per variant, True where a position is masked.

        Raises
        ------
        ValueError
            If the arrays do not fit each other, `k` or `longest`.
        """
        check_batch(token_ids, offsets, k=self.k)
        lengths = np.diff(offsets)
        if lengths.size and lengths.max() > len(self.seen_at_position):
            raise ValueError(
                f"a sequence has {lengths.max()} tokens, not {len(self.seen_at_position)} at most"
            )
        stacked = np.array(masks, np.bool_)
        if stacked.shape != (len(self.hidden_bases), len(token_ids)):
            raise ValueError(f"masks have the shape {stacked.shape}; needed one entry per variant and token")
        self.sequences += len(lengths)
        self.tokens += len(token_ids)
        self.bases += int((lengths + self.k - 1)[lengths > 0].sum())
        _count_seen(token_ids, offsets, self.seen_at_position, self.seen_of_kmer)
        for variant, masked in enumerate(stacked):
            hidden, untouched = _count_masked(
                token_ids,
                offsets,
                masked,
                self.k,
                self.masked_at_position[variant],
                self.masked_of_kmer[variant],
                self.span_lengths[variant],
            )
            self.hidden_bases[variant] += hidden
            self.untouched_sequences[variant] += untouched
            for other in range(len(stacked)):
                self.masked_by_both[variant, other] += np.count_nonzero(masked & stacked[other])

    def masked_fraction(self) -> NDArray[np.float64]:
        """Return the fraction of tokens that each variant masks. float64, shape (n_variants,)."""
        return np.diagonal(self.masked_by_both) / max(1, self.tokens)

    def overlap(self) -> NDArray[np.float64]:
        """Return the fraction of the tokens masked by variant i that variant j also masks.

        float64, shape (n_variants, n_variants).

        Independent variants overlap by the masked fraction of j. NaN where i masks nothing.
        """
        return _fractions(self.masked_by_both, np.diagonal(self.masked_by_both)[:, None])

    def position_fraction(self) -> NDArray[np.float64]:
        """Return the fraction of sequences masked at each position; NaN where none reaches.

        float64, shape (n_variants, longest).
        """
        return _fractions(self.masked_at_position, self.seen_at_position)

    def kmer_fraction(self) -> NDArray[np.float64]:
        """Return the fraction of each k-mer's occurrences that is masked; NaN if it does not occur.

        float64, shape (n_variants, 4^k).
        """
        return _fractions(self.masked_of_kmer, self.seen_of_kmer)

    def rank_fraction(self, rank_of_token: NDArray[np.int32], n_groups: int) -> NDArray[np.float64]:
        """Return the masked fraction of groups of k-mers, from the best-ranked group to the worst.

        Parameters
        ----------
        rank_of_token : int32, shape (5 + 4^k,)
        n_groups : int
            As equal as can be in k-mers; unranked k-mers are in none.

        Returns
        -------
        float64, shape (n_variants, n_groups)
            NaN for a group that does not occur.
        """
        ranks = rank_of_token[FIRST_KMER:]
        ranked = np.flatnonzero(ranks != UNRANKED)
        groups = np.array_split(ranked[np.argsort(ranks[ranked])], n_groups)
        masked = np.stack([self.masked_of_kmer[:, group].sum(axis=1) for group in groups], axis=1)
        return _fractions(masked, np.array([self.seen_of_kmer[group].sum() for group in groups]))

    def span_mean(self) -> NDArray[np.float64]:
        """Return the mean length of spans in tokens; NaN without spans. float64, shape (n_variants,)."""
        lengths = np.arange(self.span_lengths.shape[1])
        return _fractions((self.span_lengths * lengths).sum(axis=1), self.span_lengths.sum(axis=1))

    def span_quantile(self, fraction: float) -> list[int]:
        """Return for each variant the length that at least `fraction` of its spans do not exceed; 0 without spans."""
        cumulated = self.span_lengths.cumsum(axis=1)
        return [int(np.searchsorted(row, fraction * row[-1])) if row[-1] else 0 for row in cumulated]

    def extreme_kmers(self, variant: int, count: int, *, most: bool) -> NDArray[np.int64]:
        """Return the codes (int64, shape (n,)) of the frequent k-mers that a variant masks most, or least.

        Of equal fractions the more frequent k-mer comes first. At least `LEAST_SEEN` occurrences are needed.
        """
        often = np.flatnonzero(self.seen_of_kmer >= LEAST_SEEN)
        fraction = self.kmer_fraction()[variant, often]
        return often[np.lexsort((-self.seen_of_kmer[often], -fraction if most else fraction))][:count]


def busiest_window(masks: Sequence[NDArray[np.bool_]], width: int) -> int:
    """Return the start of the leftmost `width` positions of a sequence with the most masked tokens.

    Parameters
    ----------
    masks : sequence of bool arrays, shape (n,)
    width : int

    Examples
    --------
    >>> busiest_window([np.array([False, False, True, True, False])], 2)
    2
    """
    masked = np.sum(masks, axis=0)
    if len(masked) <= width:
        return 0
    sums = np.concatenate([[0], np.cumsum(masked)])
    return int(np.argmax(sums[width:] - sums[:-width]))


def _fractions(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide, with NaN where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


@kernel()
def _count_seen(token_ids, offsets, at_position, of_kmer):  # type: ignore[no-untyped-def]
    for s in range(len(offsets) - 1):
        for at in range(offsets[s], offsets[s + 1]):
            at_position[at - offsets[s]] += 1
            if token_ids[at] >= FIRST_KMER:
                of_kmer[token_ids[at] - FIRST_KMER] += 1


@kernel()
def _count_masked(token_ids, offsets, masked, k, at_position, of_kmer, span_lengths):  # type: ignore[no-untyped-def]
    """Add one variant's counts; return the number of hidden bases and of sequences without a mask."""
    hidden = untouched = 0
    for s in range(len(offsets) - 1):
        begin, n = offsets[s], offsets[s + 1] - offsets[s]
        position = 0
        touched = False
        while position < n:
            if not masked[begin + position]:
                position += 1
                continue
            touched = True
            first = position
            while position < n and masked[begin + position]:
                at_position[position] += 1
                token_id = token_ids[begin + position]
                if token_id >= FIRST_KMER:
                    of_kmer[token_id - FIRST_KMER] += 1
                position += 1
            span_lengths[position - first] += 1
            # Base b stands in the tokens b - k + 1 … b as far as there are such.
            first_hidden = 0 if first == 0 else first + k - 1
            last_hidden = n + k - 2 if position == n else position - 1
            hidden += max(0, last_hidden - first_hidden + 1)
        untouched += not touched
    return hidden, untouched
