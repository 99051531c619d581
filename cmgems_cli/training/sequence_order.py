"""The order of training sequences: computed for any position, never stored."""

from __future__ import annotations

import numpy as np

from cmgems_cli import draws
from cmgems_cli.kernels import kernel


@kernel()
def training_order(first: int, count: int, n_train: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training sequences number `first` … `first + count - 1` of the endless training stream.

    The stream concatenates one keyed permutation of all training sequences per epoch. Any part of it can be
    computed directly, so a resumed run replays nothing.

    Returns
    -------
    sequence_indices, epochs : int64, shape (count,)
    """
    sequence_indices = np.empty(count, np.int64)
    epochs = np.empty(count, np.int64)
    for i in range(count):
        epoch = (first + i) // n_train
        stream = draws.key(seed, draws.EPOCH_ORDER, epoch, 0)
        sequence_indices[i] = draws.permuted((first + i) % n_train, n_train, stream)
        epochs[i] = epoch
    return sequence_indices, epochs
