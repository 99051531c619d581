"""Labelled sequences that a small model can learn to tell apart."""

import numpy as np

from cmgems_cli.datasets.loaded_task import EncodedSplit


def rows(count: int, seed: int) -> EncodedSplit:
    """Sequences of 0 to 14 tokens of 3-mers; in those of class 1 one token stands often."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    lengths = draw.integers(0, 15, count)
    lengths[0] = 0  # a row shorter than one k-mer
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int64)
    token_ids = draw.integers(5, 69, int(offsets[-1])).astype(np.int32)
    marked = np.repeat(labels, lengths) & (draw.random(len(token_ids)) < 0.4)
    return EncodedSplit(np.where(marked, np.int32(7), token_ids), offsets, labels.astype(np.int64))


TRAIN, DEV, TEST = rows(43, 1), rows(30, 2), rows(30, 3)
