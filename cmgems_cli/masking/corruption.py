"""BERT's 80/10/10 corruption of masked positions, and the labels to predict there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cmgems_cli import draws
from cmgems_cli.genome.vocabulary import FIRST_KMER, MASK
from cmgems_cli.kernels import kernel
from cmgems_cli.masking.strategies import check_batch

# BERT (Devlin et al. 2019), adopted by DNABERT and the paper; the remaining tenth stays unchanged.
MASK_FRACTION, RANDOM_FRACTION = 0.8, 0.1


def corrupt_batch(
    token_ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    masked: NDArray[np.bool_],
    *,
    k: int,
    seed: int,
    epochs: NDArray[np.int64],
    sequence_indices: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int32]]:
    """Replace masked tokens: 80 % by `[MASK]`, 10 % by a random k-mer, 10 % unchanged (method, section 4).

    The random k-mer is uniform over all 4^k, including the original, and never a special token. The result
    depends only on the seed, the epoch, the sequence's index and the position.

    Parameters
    ----------
    token_ids, offsets, k, seed, epochs, sequence_indices
        As in `strategies.mask_batch`.
    masked : bool or uint8, shape (total,)
        Non-zero where a position is masked.

    Returns
    -------
    input_ids : int32, shape (total,)
        Input of the model; a new array.
    masked_index : int64, shape (m,), ascending
        Indices of the masked positions in the concatenation.
    labels : int32, shape (m,)
        The original token ids there. Other positions have no label (-100 in a padded layout).

    Raises
    ------
    ValueError
        If the shapes of the arrays do not match.
    """
    check_batch(token_ids, offsets, k=k, epochs=epochs, sequence_indices=sequence_indices)
    if masked.shape != token_ids.shape:
        raise ValueError(f"`masked` has shape {masked.shape}; needed that of `token_ids`, {token_ids.shape}")
    masked_index = np.flatnonzero(masked)
    labels = token_ids[masked_index]
    input_ids = token_ids.copy()
    _corrupt(input_ids, offsets, masked_index, 4**k, np.uint64(seed), epochs, sequence_indices)
    return input_ids, masked_index, labels


@kernel()
def _corrupt(
    input_ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    masked_index: NDArray[np.int64],
    n_kmers: int,
    seed: int,
    epochs: NDArray[np.int64],
    sequence_indices: NDArray[np.int64],
) -> None:
    done = 0
    for s in range(len(offsets) - 1):
        stream = draws.key(seed, draws.CORRUPTION, epochs[s], sequence_indices[s])
        while done < len(masked_index) and masked_index[done] < offsets[s + 1]:
            index = masked_index[done]
            position = index - offsets[s]
            drawn = draws.uniform(stream, 2 * position)
            if drawn < MASK_FRACTION:
                input_ids[index] = MASK
            elif drawn < MASK_FRACTION + RANDOM_FRACTION:
                input_ids[index] = FIRST_KMER + draws.below(stream, 2 * position + 1, n_kmers)
            done += 1
