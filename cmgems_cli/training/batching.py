"""Make micro-batches from a step's ragged sequences: length-sorted and padded, or packed if the device can.

Half the sequences have 512 tokens and the others any number from 7: in random order a quarter of every batch
would be padding. Sorting by length within one optimizer step reduces it to 1 to 2.5 % (docs/method.md). The
loss is normalised over the whole step, so the choice of micro-batches does not change the gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numba import njit

from cmgems_cli.errors import UsageError
from cmgems_cli.genome.vocabulary import CLS, PAD, SEP
from cmgems_cli.modeling.encoder import Packing

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class MicroBatch:
    """The input of one forward pass.

    Attributes
    ----------
    input_ids : int64 tensor, shape (sequences, longest)
        [CLS] tokens [SEP], padded with [PAD].
    attention_mask : int64 tensor of the same shape, Packing or None
        1 on real tokens; None without padding, so that attention uses its fastest kernel. A packed batch, of
        shape (1, tokens), has the `Packing` of its sequences.
    masked_index : int64 tensor, shape (masked,)
        Indices of the masked tokens in the flattened `input_ids`.
    labels : int64 tensor, shape (masked,)
        The original token ids there.
    index : int
        Number of this micro-batch within the step, over all processes.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | Packing | None
    masked_index: torch.Tensor
    labels: torch.Tensor
    index: int

    def to(self, device: torch.device) -> MicroBatch:
        """Return a copy of the batch on `device`, as `on_device` does."""
        return on_device(self, device)


AnyBatch = TypeVar("AnyBatch", bound="DataclassInstance")


def on_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """Return a copy of a batch (a dataclass with tensor fields) on `device`.

    Copies to CUDA go through pinned memory and are asynchronous.
    """
    if device.type == "cpu":
        return batch
    moved = {field.name: _moved(getattr(batch, field.name), device) for field in fields(batch)}
    return replace(batch, **moved)


def _moved(value: object, device: torch.device) -> object:
    if isinstance(value, torch.Tensor):
        return value.pin_memory().to(device, non_blocking=True)
    if isinstance(value, Packing):
        bounds, positions = (tensor.pin_memory().to(device, non_blocking=True) for tensor in value[:2])
        return Packing(bounds, positions, value.longest)
    return value


def n_real_tokens(attention_mask: torch.Tensor | Packing | None, input_ids: torch.Tensor) -> int:
    """Count the tokens of a micro-batch, including special tokens, excluding padding and filler.

    Parameters
    ----------
    attention_mask : int64 tensor of the shape of `input_ids`, Packing or None
    input_ids : int64 tensor, shape (sequences, longest)
    """
    if isinstance(attention_mask, Packing):
        return int(attention_mask.bounds[-2])
    return input_ids.numel() if attention_mask is None else int(attention_mask.sum())


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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def _fill(input_ids: np.ndarray, token_ids: np.ndarray, starts: np.ndarray, n_tokens: np.ndarray) -> None:
    for row in range(len(starts)):
        start, n = starts[row], n_tokens[row]
        input_ids[row, 0] = CLS
        for i in range(n):
            input_ids[row, 1 + i] = token_ids[start + i]
        input_ids[row, 1 + n] = SEP


@njit(cache=True, nogil=True)
def _fill_masked(
    flat_masked: np.ndarray,
    source: np.ndarray,
    row_starts: np.ndarray,
    offsets: np.ndarray,
    masked_bounds: np.ndarray,
    masked_index: np.ndarray,
    rows: np.ndarray,
) -> None:
    filled = 0
    for row in range(len(rows)):
        sequence = rows[row]
        for j in range(masked_bounds[sequence], masked_bounds[sequence + 1]):
            flat_masked[filled] = row_starts[row] + 1 + masked_index[j] - offsets[sequence]
            source[filled] = j
            filled += 1


def pad(
    token_ids: np.ndarray, offsets: np.ndarray, rows: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Collate selected sequences into one padded batch.

    Parameters
    ----------
    token_ids : int32, shape (total,)
        All sequences, concatenated, without special tokens.
    offsets : int64, shape (sequences + 1,)
        Where each sequence starts.
    rows : int64, shape (b,)
        The selected sequences.

    Returns
    -------
    input_ids : int64 tensor, shape (b, longest)
        [CLS] tokens [SEP], padded with [PAD].
    attention_mask : int64 tensor of the same shape, or None
        1 on real tokens; None without padding.
    """
    return pad_spans(token_ids, offsets[rows], offsets[rows + 1] - offsets[rows])


def pad_spans(
    token_ids: np.ndarray, starts: np.ndarray, n_tokens: np.ndarray, *, width: int = 0
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Collate spans of `token_ids`, which may overlap, into one padded batch.

    Parameters
    ----------
    token_ids : int32, shape (total,)
        Without special tokens.
    starts, n_tokens : int64, shape (b,)
        Where each span begins, and its length.
    width : int, default 0, tokens
        Smallest width to pad to.

    Returns
    -------
    input_ids, attention_mask
        As returned by `pad`: int64 tensors, shape (b, longest).
    """
    sizes = n_tokens + 2
    input_ids = np.full((len(starts), max(width, int(sizes.max()))), PAD, np.int64)
    _fill(input_ids, token_ids, starts, n_tokens)
    if sizes.min() == input_ids.shape[1]:
        return torch.from_numpy(input_ids), None
    real = np.arange(input_ids.shape[1]) < sizes[:, None]
    return torch.from_numpy(input_ids), torch.from_numpy(real.astype(np.int64))


def pack(token_ids: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> tuple[torch.Tensor, Packing]:
    """Collate selected sequences into one packed batch.

    Parameters
    ----------
    token_ids, offsets, rows
        As in `pad`.

    Returns
    -------
    input_ids : int64 tensor, shape (1, tokens)
        Concatenated [CLS] tokens [SEP] of all sequences, then at least one [PAD].
    packing : Packing
    """
    n_tokens = offsets[rows + 1] - offsets[rows]
    ends = np.cumsum(n_tokens + 2)
    total = (int(ends[-1]) // SIZE_STEP + 1) * SIZE_STEP
    starts = np.append(0, ends)
    input_ids, positions = np.full(total, PAD, np.int64), np.zeros(total, np.int64)
    _fill_packed(input_ids, positions, starts, token_ids, offsets[rows], n_tokens)
    longest = max(int(n_tokens.max()) + 2, total - int(ends[-1]))
    packing = Packing(
        torch.from_numpy(np.append(starts, total).astype(np.int32)),
        torch.from_numpy(positions)[None],
        -(-longest // LENGTH_STEP) * LENGTH_STEP,
    )
    return torch.from_numpy(input_ids)[None], packing


@njit(cache=True, nogil=True)
def _fill_packed(
    input_ids: np.ndarray,
    positions: np.ndarray,
    starts: np.ndarray,
    token_ids: np.ndarray,
    sources: np.ndarray,
    n_tokens: np.ndarray,
) -> None:
    for row in range(len(sources)):
        start, n = starts[row], n_tokens[row]
        input_ids[start] = CLS
        for i in range(n):
            input_ids[start + 1 + i] = token_ids[sources[row] + i]
        input_ids[start + 1 + n] = SEP
        for i in range(n + 2):
            positions[start + i] = i


def collate_masked(
    token_ids: np.ndarray,
    offsets: np.ndarray,
    masked_index: np.ndarray,
    labels: np.ndarray,
    batches: Sequence[np.ndarray],
    *,
    packed: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> list[MicroBatch]:
    """Collate this process's micro-batches of a step into tensors.

    Parameters
    ----------
    token_ids : int32, shape (total,)
        Corrupted token ids of all sequences of the step, concatenated, without special tokens.
    offsets : int64, shape (sequences + 1,)
        Where each sequence starts.
    masked_index : int64, shape (masked,), ascending
        Indices into `token_ids` of the tokens to predict.
    labels : int32, shape (masked,)
        Original token ids there.
    batches : list of int64 arrays
        From `length_bucketed_batches` or `pack_batches`. Micro-batch i is for process i mod `world_size`.
    packed : bool, default False
        Pack the micro-batches instead of padding them.
    rank, world_size : int, default 0 and 1
        Number of this process, and of all processes.
    """
    masked_bounds = np.searchsorted(masked_index, offsets)
    collated = []
    for index in range(rank, len(batches), world_size):
        rows = batches[index]
        attention_mask: torch.Tensor | Packing | None
        if packed:
            input_ids, attention_mask = pack(token_ids, offsets, rows)
            row_starts = attention_mask.bounds.numpy().astype(np.int64)
        else:
            input_ids, attention_mask = pad(token_ids, offsets, rows)
            row_starts = np.arange(len(rows)) * input_ids.shape[1]
        n_masked = int((masked_bounds[rows + 1] - masked_bounds[rows]).sum())
        flat_masked, source = np.empty(n_masked, np.int64), np.empty(n_masked, np.int64)
        _fill_masked(flat_masked, source, row_starts, offsets, masked_bounds, masked_index, rows)
        collated.append(
            MicroBatch(
                input_ids,
                attention_mask,
                torch.from_numpy(flat_masked),
                torch.from_numpy(labels[source].astype(np.int64)),
                index,
            )
        )
    return collated
