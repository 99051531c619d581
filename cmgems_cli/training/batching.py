"""Divide a step's sequences into micro-batches: sorted by length and padded, or packed if the device can.

Half the sequences have 512 tokens and the others any number from 7: in random order a quarter of every batch
would be padding. Sorting by length within one optimizer step reduces it to 1 to 2.5 % (docs/method.md). The
loss is normalised over the whole step, so the choice of micro-batches does not change the gradient.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cmgems_cli.errors import UsageError
from cmgems_cli.kernels import kernel

# ours: the fixed cost of a micro-batch, in tokens. Batches are split while that saves more padding than this.
BATCH_OVERHEAD_TOKENS = 256


def length_bucketed_batches(
    lengths: np.ndarray, max_batch_tokens: int, *, multiple_of: int = 1
) -> list[np.ndarray]:
    """Divide sequences, sorted by length, into micro-batches with little padding.

    Minimises the total of padded tokens plus `BATCH_OVERHEAD_TOKENS` per batch.

    Parameters
    ----------
    lengths : int64, shape (sequences,), tokens
        With [CLS] and [SEP].
    max_batch_tokens : int, tokens
        Maximum of sequences x longest in one micro-batch.
    multiple_of : int, default 1
        Number of processes: batches are halved until every process gets the same number of them, or every
        batch holds one sequence. Each process gets at least one batch.

    Returns
    -------
    list of int64 arrays, shape (b,)
        Indices into `lengths`. Equal lengths keep their order, so the result depends only on the arguments.

    Raises
    ------
    UsageError
        If a single sequence exceeds `max_batch_tokens`, or there are fewer sequences than processes.
    """
    order = np.argsort(-lengths, kind="stable")
    _check_shareable(lengths, max_batch_tokens, multiple_of)
    bounds = _cheapest_bounds(lengths[order], max_batch_tokens, BATCH_OVERHEAD_TOKENS)
    batches = [order[start:stop] for start, stop in pairwise(bounds)]
    while len(batches) % multiple_of:
        # Halve the batch with the most padded tokens among those with two or more sequences.
        sizes = [len(batch) * int(lengths[batch[0]]) if len(batch) > 1 else 0 for batch in batches]
        largest = int(np.argmax(sizes))
        if not sizes[largest]:
            break
        half = (len(batches[largest]) + 1) // 2
        batches[largest : largest + 1] = [batches[largest][:half], batches[largest][half:]]
    return batches


# ours: packed batches are filled up to a multiple of this, and their longest sequence is rounded up to a
# multiple of `LENGTH_STEP`: kernels are selected anew for every size, which takes longer than running them.
SIZE_STEP = 512
LENGTH_STEP = 128
# ours: what a card's matrix units multiply at a time.
ROW_STEP = 64


@dataclass(frozen=True)
class PackedShape:
    """The sizes that packed micro-batches are filled up to.

    Attributes
    ----------
    size_step : int, tokens
        Tokens are filled up to a multiple of this.
    row_step : int
        Masked positions are filled up to a multiple of this.
    sequences : int
        Bounds have the entries of at least so many sequences.
    longest : int, tokens
        What the longest sequence is taken to be; 0: its length, rounded up.
    """

    size_step: int = SIZE_STEP
    row_step: int = ROW_STEP
    sequences: int = 0
    longest: int = 0


# Of code that is not compiled.
LOOSE_SHAPE = PackedShape()


def fixed_shape(max_batch_tokens: int, sequences: int, longest: int) -> PackedShape:
    """Return a shape so coarse that the micro-batches of a run have a handful of sizes: compiled code needs that.

    Filling up to a sixteenth of the largest micro-batch costs a thirty-second of it on average.

    Parameters
    ----------
    max_batch_tokens : int, tokens
    sequences : int
        In a step.
    longest : int, tokens
        With [CLS] and [SEP].

    Examples
    --------
    >>> fixed_shape(131_072, 250, 512)
    PackedShape(size_step=8192, row_step=8192, sequences=250, longest=512)
    """
    step = SIZE_STEP
    while 32 * step <= max_batch_tokens:
        step *= 2
    return PackedShape(step, step, sequences, -(-longest // LENGTH_STEP) * LENGTH_STEP)


def pack_batches(lengths: np.ndarray, max_batch_tokens: int, *, multiple_of: int = 1) -> list[np.ndarray]:
    """Divide sequences, in their order, into as few packed micro-batches as possible, with about equal tokens.

    Parameters
    ----------
    lengths : int64, shape (sequences,), tokens
        With [CLS] and [SEP].
    max_batch_tokens : int, tokens
        Maximum of the total length of one micro-batch.
    multiple_of : int, default 1
        Number of processes: each gets the same number of micro-batches.

    Returns
    -------
    list of int64 arrays, shape (b,)
        Indices into `lengths`; no batch is empty.

    Raises
    ------
    UsageError
        As for `length_bucketed_batches`.
    """
    _check_shareable(lengths, max_batch_tokens, multiple_of)
    ends = np.cumsum(lengths)
    n_batches = multiple_of * -(-int(ends[-1]) // (max_batch_tokens * multiple_of))
    while True:
        n_batches = min(n_batches, len(lengths))
        # Each batch begins with the first sequence that starts at or after its equal part of the tokens.
        targets = ends[-1] * np.arange(n_batches + 1) / n_batches
        bounds = np.searchsorted(np.append(0, ends), targets)
        # No two batches begin with the same sequence.
        numbers = np.arange(n_batches + 1)
        bounds = np.maximum.accumulate(bounds - numbers) + numbers
        bounds = np.minimum(bounds, len(lengths) - n_batches + numbers)
        batches = [np.arange(start, stop) for start, stop in pairwise(bounds)]
        if max(int(lengths[batch].sum()) for batch in batches) <= max_batch_tokens:
            return batches
        n_batches += multiple_of


def _check_shareable(lengths: np.ndarray, max_batch_tokens: int, processes: int) -> None:
    if lengths.max() > max_batch_tokens:
        raise UsageError(
            f"`max_batch_tokens={max_batch_tokens}` is below the longest sequence ({lengths.max()} tokens)"
        )
    if len(lengths) < processes:
        raise UsageError(
            f"{len(lengths)} sequences per step are too few for {processes} processes; raise `global_batch`"
        )


@kernel()
def _cheapest_bounds(lengths: np.ndarray, max_batch_tokens: int, overhead: int) -> np.ndarray:
    """Return the bounds of the cheapest batches of descending `lengths` by dynamic programming."""
    n = len(lengths)
    cost = np.zeros(n + 1, np.int64)
    first = np.zeros(n + 1, np.int64)
    for stop in range(1, n + 1):
        cost[stop] = np.iinfo(np.int64).max
        # A longer batch starts with a longer sequence: once one is too large, so are all longer ones.
        for start in range(stop - 1, -1, -1):
            padded = (stop - start) * lengths[start]
            if padded > max_batch_tokens:
                break
            if cost[start] + padded + overhead < cost[stop]:
                cost[stop], first[stop] = cost[start] + padded + overhead, start
    bounds = np.empty(n + 1, np.int64)
    count, stop = 0, n
    while stop > 0:
        bounds[count] = stop
        count, stop = count + 1, first[stop]
    bounds[count] = 0
    return bounds[: count + 1][::-1].copy()
