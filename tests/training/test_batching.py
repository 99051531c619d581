"""Micro-batches: every sequence once, within the bound, laid out as a person would do it by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.errors import UsageError
from cmgems_cli.training.batching import BATCH_OVERHEAD_TOKENS, length_bucketed_batches
from cmgems_cli.training.collation import collate_masked
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


def test_lay_out_masked_by_hand() -> None:
    # Sequences 10 11 12 | 20 | 30 31; positions 1 of the first and 0 of the last are predicted.
    token_ids = np.array([10, 4, 12, 20, 4, 31], np.int32)
    offsets = np.array([0, 3, 4, 6])
    batches = [np.array([0, 2]), np.array([1])]
    long, short = collate_masked(token_ids, offsets, np.array([1, 4]), np.array([11, 30], np.int32), batches)
    assert long.input_ids.tolist() == [[2, 10, 4, 12, 3], [2, 4, 31, 3, 0]]
    assert long.attention_mask is not None
    assert long.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert long.masked_index.tolist() == [2, 6]
    assert long.labels.tolist() == [11, 30]
    assert short.input_ids.tolist() == [[2, 20, 3]]
    assert short.attention_mask is None
    assert short.masked_index.tolist() == []
    assert (long.index, short.index) == (0, 1)


@given(st.data())
def test_lay_out_masked_matches_a_slow_layout(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=2, max_size=20))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    token_ids = np.arange(5, 5 + offsets[-1], dtype=np.int32)
    masked = np.array(data.draw(st.lists(st.booleans(), min_size=len(token_ids), max_size=len(token_ids))))
    masked_index = np.flatnonzero(masked)
    labels = token_ids[masked_index] + 1000
    batches = length_bucketed_batches(np.array(lengths) + 2, 40, multiple_of=2)
    laid_out = [
        collate_masked(token_ids, offsets, masked_index, labels, batches, rank=r, world_size=2)
        for r in (0, 1)
    ]
    ordered = [laid_out[i % 2][i // 2] for i in range(len(batches))]
    seen = 0
    for index, (rows, batch) in enumerate(zip(batches, ordered, strict=True)):
        assert batch.index == index
        width = batch.input_ids.shape[1]
        expected_index, expected_labels = [], []
        for row, sequence in enumerate(rows):
            own = token_ids[offsets[sequence] : offsets[sequence + 1]].tolist()
            expected = [2, *own, 3] + [0] * (width - len(own) - 2)
            assert batch.input_ids[row].tolist() == expected
            for position in range(len(own)):
                if masked[offsets[sequence] + position]:
                    expected_index.append(row * width + 1 + position)
                    expected_labels.append(own[position] + 1000)
        assert batch.masked_index.tolist() == expected_index
        assert batch.labels.tolist() == expected_labels
        seen += len(expected_labels)
    assert seen == len(labels)
