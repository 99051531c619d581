import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from cmgems_cli.genome.vocabulary import MASK
from tests.masking import reference
from tests.masking.batches import batch_of, batches


@given(batches())
@settings(max_examples=200, deadline=None)
def test_kernel_equals_reference(batch):
    masked = batch.masked()
    input_ids, masked_index, labels = batch.corrupted(masked)
    seen, expected_labels = [], []
    for s, token_ids in enumerate(batch.split(batch.token_ids)):
        keys = {"seed": batch.seed, "epoch": int(batch.epochs[s]), "index": int(batch.indices[s])}
        positions = np.flatnonzero(batch.split(masked)[s]).tolist()
        ids, labels_here = reference.corrupt(token_ids.tolist(), positions, k=batch.k, **keys)
        seen += ids
        expected_labels += labels_here.values()
    assert input_ids.tolist() == seen
    assert labels.tolist() == expected_labels
    assert masked_index.tolist() == np.flatnonzero(masked).tolist()
    assert (input_ids.dtype, masked_index.dtype, labels.dtype) == (np.int32, np.int64, np.int32)


@given(batches())
@settings(max_examples=50, deadline=None)
def test_labels_are_the_originals_and_the_rest_is_untouched(batch):
    masked, before = batch.masked(), batch.token_ids.copy()
    input_ids, masked_index, labels = batch.corrupted(masked)
    assert np.array_equal(batch.token_ids, before)
    assert np.array_equal(labels, before[masked_index])
    assert np.array_equal(input_ids[~masked], before[~masked])


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_batching_and_order_change_nothing(batch, shuffler):
    order = list(range(len(batch.codes)))
    shuffler.shuffle(order)
    parts = batch.split(batch.corrupted(batch.masked())[0])
    together = batch.reordered(order)
    assert np.array_equal(together.corrupted(together.masked())[0], np.concatenate([parts[s] for s in order]))


def corrupted_alike(n, k=6):
    """A batch whose every token is masked, originally token id 5 throughout."""
    batch = batch_of([500] * (n // 500), k)
    batch.token_ids[:] = 5
    return batch.corrupted(np.ones(n, dtype=bool))[0]


def test_shares_are_80_10_10():
    n = 500_000
    input_ids = corrupted_alike(n)
    # A random k-mer is the original once in 4^6 times.
    shares = {0.8: input_ids == MASK, 0.1 * 4095 / 4096: input_ids > 5, 0.1 * 4097 / 4096: input_ids == 5}
    for share, there in shares.items():
        assert abs(there.mean() - share) < 4 * math.sqrt(share * (1 - share) / n)


def test_a_replacement_is_never_a_special_token():
    input_ids = corrupted_alike(500_000, k=3)
    assert set(np.unique(input_ids)) == {MASK, *range(5, 69)}


def test_replacements_are_uniform_over_the_kmers():
    input_ids = corrupted_alike(1_000_000, k=3)
    # Token id 5 also holds what stayed; all others were drawn.
    counts = np.bincount(input_ids, minlength=69)[6:]
    assert counts.sum() > 90_000
    assert chisquare(counts).pvalue > 0.001


def test_epochs_and_seeds_draw_anew_but_not_from_the_masks():
    batch = batch_of([510], 6)
    everything = np.ones(510, dtype=bool)
    input_ids = batch.corrupted(everything)[0]
    assert not np.array_equal(replace(batch, epochs=batch.epochs + 1).corrupted(everything)[0], input_ids)
    assert not np.array_equal(replace(batch, seed=43).corrupted(everything)[0], input_ids)
    # What a position becomes does not depend on which others are masked.
    half = np.arange(510) % 2 == 0
    assert np.array_equal(batch.corrupted(half)[0][half], input_ids[half])


def test_masked_may_be_bytes():
    batch = batch_of([510, 30], 6)
    masked = batch.masked()
    for one, other in zip(batch.corrupted(masked), batch.corrupted(masked.astype(np.uint8)), strict=True):
        assert np.array_equal(one, other)


def test_what_does_not_fit_is_refused():
    batch = batch_of([10, 10], 6)
    with pytest.raises(ValueError, match="`masked` has shape"):
        batch.corrupted(np.ones(19, dtype=bool))
    with pytest.raises(ValueError, match="epochs"):
        replace(batch, epochs=np.zeros(1, np.int64)).corrupted(np.ones(20, dtype=bool))
