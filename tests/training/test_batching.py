"""Micro-batches: every sequence once, within the bound, laid out as a person would do it by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.errors import UsageError
from cmgems_cli.training.batching import BATCH_OVERHEAD_TOKENS, length_bucketed_batches
from cmgems_cli.training.sequence_order import training_order


@given(st.lists(st.integers(3, 512), min_size=1, max_size=80), st.integers(512, 4096), st.integers(1, 4))
def test_cut_uses_every_sequence_once_within_the_bound(
    lengths: list[int], bound: int, processes: int
) -> None:
    if len(lengths) < processes:
        with pytest.raises(UsageError, match="sequences per step are too few"):
            length_bucketed_batches(np.array(lengths), bound, multiple_of=processes)
        return
    batches = length_bucketed_batches(np.array(lengths), bound, multiple_of=processes)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert len(batches) % processes == 0 or all(len(batch) == 1 for batch in batches)
    assert len(batches) >= processes
    for batch in batches:
        sizes = np.array(lengths)[batch]
        assert len(batch) * sizes.max() <= bound
        assert list(sizes) == sorted(sizes, reverse=True)


@given(st.lists(st.integers(3, 60), min_size=1, max_size=8), st.integers(60, 200))
def test_cut_is_the_cheapest_of_all_possible_cuts(lengths: list[int], bound: int) -> None:
    ordered = sorted(lengths, reverse=True)

    def cost(sizes: list[list[int]]) -> int:
        return sum(len(part) * part[0] + BATCH_OVERHEAD_TOKENS for part in sizes)

    possible = []
    for places in range(2 ** (len(ordered) - 1)):
        parts = [[ordered[0]]]
        for i, length in enumerate(ordered[1:]):
            if places >> i & 1:
                parts.append([length])
            else:
                parts[-1].append(length)
        if all(len(part) * part[0] <= bound for part in parts):
            possible.append(cost(parts))
    found = [[lengths[i] for i in batch] for batch in length_bucketed_batches(np.array(lengths), bound)]
    assert cost(found) == min(possible)


def test_cut_refuses_a_bound_below_one_sequence() -> None:
    with pytest.raises(UsageError, match="`max_batch_tokens=100` is below the longest sequence"):
        length_bucketed_batches(np.array([512, 7]), 100)


def test_sorted_batches_waste_little_where_naive_ones_waste_a_quarter() -> None:
    generator = np.random.default_rng(0)
    lengths = np.where(generator.random(250) < 0.5, 512, generator.integers(7, 513, 250))
    padded = sum(len(batch) * lengths[batch].max() for batch in length_bucketed_batches(lengths, 8192))
    naive = sum(len(part) * part.max() for part in np.array_split(lengths, 16))
    assert 1 - lengths.sum() / padded < 0.025
    assert 1 - lengths.sum() / naive > 0.2


def test_the_training_stream_passes_once_over_all_sequences_per_epoch() -> None:
    indices, epochs = training_order(0, 30, 10, 42)
    for epoch in range(3):
        part = indices[10 * epoch : 10 * epoch + 10]
        assert sorted(part) == list(range(10))
        assert set(epochs[10 * epoch : 10 * epoch + 10]) == {epoch}
    assert list(indices[:10]) != list(indices[10:20])
    assert list(training_order(0, 10, 10, 43)[0]) != list(indices[:10])


@given(st.integers(0, 1000), st.integers(1, 50), st.integers(1, 100), st.integers(0, 2**62))
def test_the_training_stream_can_be_entered_anywhere(first: int, count: int, n_train: int, seed: int) -> None:
    whole, whole_epochs = training_order(0, first + count, n_train, seed)
    indices, epochs = training_order(first, count, n_train, seed)
    assert np.array_equal(indices, whole[first:])
    assert np.array_equal(epochs, whole_epochs[first:])
