"""Tensors of micro-batches: what is where, as a person would write it by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.training.batching import length_bucketed_batches
from cmgems_cli.training.collation import collate_masked


def test_masked_sequences_are_collated_as_by_hand() -> None:
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
def test_collating_equals_a_slow_way_for_any_masks(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=2, max_size=20))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    token_ids = np.arange(5, 5 + offsets[-1], dtype=np.int32)
    masked = np.array(data.draw(st.lists(st.booleans(), min_size=len(token_ids), max_size=len(token_ids))))
    masked_index = np.flatnonzero(masked)
    labels = token_ids[masked_index] + 1000
    batches = length_bucketed_batches(np.array(lengths) + 2, 40, multiple_of=2)
    collated = [
        collate_masked(token_ids, offsets, masked_index, labels, batches, rank=r, world_size=2)
        for r in (0, 1)
    ]
    ordered = [collated[i % 2][i // 2] for i in range(len(batches))]
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
