"""Mask statistics: against counting in plain Python, and on masks a person checks by eye."""

import math
from collections import Counter
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.mask_viewer import tally as statistics
from cmgems_cli.mask_viewer.tally import MaskTally, busiest_window
from cmgems_cli.pmi.ranking import UNRANKED
from tests.masking.batches import batches


def hidden_bases(masked: list[bool], k: int) -> int:
    """Count the bases all of whose tokens are masked, base by base."""
    n = len(masked)
    bases = range(n + k - 1) if n else []
    return sum(all(masked[t] for t in range(max(0, base - k + 1), min(n, base + 1))) for base in bases)


def spans(masked: list[bool]) -> list[int]:
    return [len(list(run)) for hidden, run in groupby(masked) if hidden]


@settings(max_examples=150)
@given(batches(), st.integers(0, 2**32), st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_a_tally_is_what_plain_counting_gives(batch, mask_seed, fraction) -> None:
    rng = np.random.default_rng(mask_seed)
    ways = [batch.masked(), rng.random(len(batch.token_ids)) < fraction]
    lengths = np.diff(batch.offsets)
    longest = int(lengths.max()) + 3
    tally = MaskTally(2, batch.k, longest)
    tally.add(batch.token_ids, batch.offsets, ways)
    tokens = [part.tolist() for part in batch.split(batch.token_ids)]
    assert (tally.sequences, tally.tokens) == (len(lengths), len(batch.token_ids))
    assert tally.bases == sum(n + batch.k - 1 for n in lengths if n)
    at = Counter(position for part in tokens for position in range(len(part)))
    assert tally.seen_at_position.tolist() == [at[position] for position in range(longest)]
    seen = Counter(token for part in tokens for token in part)
    assert tally.seen_of_kmer.tolist() == [seen[5 + code] for code in range(4**batch.k)]
    for way, masked in enumerate(ways):
        parts = [part.tolist() for part in batch.split(masked)]
        hidden = Counter(p for part in parts for p, flag in enumerate(part) if flag)
        assert tally.masked_at_position[way].tolist() == [hidden[position] for position in range(longest)]
        of = Counter(
            token
            for ids, part in zip(tokens, parts, strict=True)
            for token, flag in zip(ids, part, strict=True)
            if flag
        )
        assert tally.masked_of_kmer[way].tolist() == [of[5 + code] for code in range(4**batch.k)]
        assert tally.hidden_bases[way] == sum(hidden_bases(part, batch.k) for part in parts)
        assert tally.untouched_sequences[way] == sum(not any(part) for part in parts)
        found = Counter(length for part in parts for length in spans(part))
        assert tally.span_lengths[way].tolist() == [found[length] for length in range(longest + 1)]
        for other, masked_too in enumerate(ways):
            assert tally.masked_by_both[way, other] == sum(
                a and b for a, b in zip(masked.tolist(), masked_too.tolist(), strict=True)
            )


@given(batches())
def test_batches_add_up(batch) -> None:
    masked = batch.masked()
    longest = int(np.diff(batch.offsets).max())
    whole, parts = MaskTally(1, batch.k, longest), MaskTally(1, batch.k, longest)
    whole.add(batch.token_ids, batch.offsets, [masked])
    for s, (ids, flags) in enumerate(zip(batch.split(batch.token_ids), batch.split(masked), strict=True)):
        parts.add(ids, np.array([0, len(batch.split(batch.token_ids)[s])]), [flags])
    for name, value in vars(whole).items():
        assert np.array_equal(value, getattr(parts, name)), name


def by_eye() -> MaskTally:
    """3-mers: 7 tokens AAA, the middle five masked in one way, the first in the other; 2 tokens, none."""
    tally = MaskTally(2, 3, 7)
    tokens = np.array([5] * 7 + [6, 6], np.int32)
    first = np.array([0, 1, 1, 1, 1, 1, 0, 0, 0], bool)
    second = np.array([1, 0, 0, 0, 0, 0, 0, 0, 0], bool)
    tally.add(tokens, np.array([0, 7, 9]), [first, second])
    return tally


def test_shares_by_eye() -> None:
    tally = by_eye()
    assert tally.masked_fraction().tolist() == [5 / 9, 1 / 9]
    # A 3-mer is hidden by five masked tokens about it; the first base stands in the first token only.
    assert tally.hidden_bases.tolist() == [3, 1]
    assert tally.bases == 9 + 4
    assert tally.untouched_sequences.tolist() == [1, 1]
    assert tally.position_fraction()[0].tolist() == [0, 0.5, 1, 1, 1, 1, 0]
    assert tally.position_fraction()[1].tolist() == [0.5, 0, 0, 0, 0, 0, 0]
    assert tally.kmer_fraction()[0, :2].tolist() == [5 / 7, 0]
    assert np.isnan(tally.kmer_fraction()[0, 2:]).all()
    assert tally.overlap().tolist() == [[1, 0], [0, 1]]
    assert tally.span_mean().tolist() == [5, 1]


def test_nothing_masked_has_no_spans_and_no_overlap() -> None:
    tally = MaskTally(1, 3, 4)
    tally.add(np.array([5, 6], np.int32), np.array([0, 2]), [np.zeros(2, bool)])
    assert np.isnan(tally.span_mean()).all()
    assert np.isnan(tally.overlap()).all()
    assert tally.span_quantile(0.5) == [0]
    assert np.isnan(tally.position_fraction()[0, 2:]).all()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_quantiles_of_span_lengths(lengths, fraction) -> None:
    tally = MaskTally(1, 3, 20)
    for length in lengths:
        tally.span_lengths[0, length] += 1
    assert tally.span_quantile(fraction) == [sorted(lengths)[math.ceil(fraction * len(lengths)) - 1]]


def test_groups_along_the_ranking() -> None:
    tally = MaskTally(1, 3, 1)
    ranks = np.full(5 + 64, UNRANKED, np.int32)
    ranks[[5, 6, 7, 8]] = [2, 4, 1, 3]
    tally.seen_of_kmer[:5] = [10, 20, 30, 40, 50]
    tally.masked_of_kmer[0, :5] = [1, 2, 6, 4, 50]
    # Best two: codes 2 and 0; the others: codes 3 and 1; code 4 is not ranked.
    assert tally.rank_fraction(ranks, 2).tolist() == [[7 / 40, 6 / 60]]
    assert np.isnan(tally.rank_fraction(ranks, 5)[0, 4])


def test_extreme_kmers_are_of_those_seen_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "LEAST_SEEN", 10)
    tally = MaskTally(1, 3, 1)
    tally.seen_of_kmer[:6] = [9, 10, 20, 20, 10, 30]
    tally.masked_of_kmer[0, :6] = [9, 5, 10, 0, 0, 15]
    assert tally.extreme_kmers(0, 3, most=True).tolist() == [5, 2, 1]
    assert tally.extreme_kmers(0, 2, most=False).tolist() == [3, 4]


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 45))
def test_the_busiest_window_is_the_leftmost_of_the_most_masked(flags, width) -> None:
    masked = np.array(flags, bool)
    starts = range(max(1, len(flags) - width + 1))
    assert busiest_window([masked, ~masked, masked], width) == max(
        starts, key=lambda start: (sum(flags[start : start + width]), -start)
    )


def test_batches_that_do_not_fit_are_refused() -> None:
    tally = MaskTally(1, 3, 4)
    with pytest.raises(ValueError, match="a sequence has 5 tokens, not 4 at most"):
        tally.add(np.full(5, 5, np.int32), np.array([0, 5]), [np.zeros(5, bool)])
    with pytest.raises(ValueError, match="needed one entry per variant"):
        tally.add(np.full(4, 5, np.int32), np.array([0, 4]), [np.zeros(4, bool)] * 2)
