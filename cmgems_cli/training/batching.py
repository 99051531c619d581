"""From a step's ragged sequences to micro-batches: length-sorted and padded, or packed where the device can.

Half the sequences are 512 tokens long and half anything from 7: taken as they come, a quarter of every
batch is padding. Sorted by length within one optimizer step, 1 to 2.5 % is (docs/method.md). The loss is
normalised over the whole step, so the cutting changes no gradient.
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
    """What one forward pass takes.

    Attributes
    ----------
    input_ids : int64 tensor, shape (sequences, longest)
        [CLS] tokens [SEP], padded with [PAD].
    attention_mask : int64 tensor of the same shape, Packing or None
        1 on real tokens; None where nothing is padded, so that attention takes its fastest kernel. Where the
        sequences of a packed batch, of shape (1, tokens), lie.
    masked_index : int64 tensor, shape (masked,)
        Where in the flattened `input_ids` the masked tokens are.
    labels : int64 tensor, shape (masked,)
        The token ids that belong there.
    index : int
        Which micro-batch of the step this is, over all processes.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | Packing | None
    masked_index: torch.Tensor
    labels: torch.Tensor
    index: int

    def to(self, device: torch.device) -> MicroBatch:
        """Return the batch on `device`; to CUDA through pinned memory, without waiting for the copy."""
        return on_device(self, device)


AnyBatch = TypeVar("AnyBatch", bound="DataclassInstance")


def on_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """Return a batch, a dataclass some of whose fields are tensors, on `device`.

    To CUDA through pinned memory, without waiting for the copy.
    """
    if device.type == "cpu":
        return batch
    moved = {field.name: _moved(getattr(batch, field.name), device) for field in fields(batch)}
    return replace(batch, **moved)


def _moved(value: object, device: torch.device) -> object:
    if isinstance(value, torch.Tensor):
        return value.pin_memory().to(device, non_blocking=True)
    if isinstance(value, Packing):
        bounds, positions = (part.pin_memory().to(device, non_blocking=True) for part in value[:2])
        return Packing(bounds, positions, value.longest)
    return value


def n_real_tokens(attention_mask: torch.Tensor | Packing | None, input_ids: torch.Tensor) -> int:
    """Return the tokens of a micro-batch, special tokens included, padding and filler not."""
    if isinstance(attention_mask, Packing):
        return int(attention_mask.bounds[-2])
    return input_ids.numel() if attention_mask is None else int(attention_mask.sum())


# ours: what starting a micro-batch costs, in tokens: padding is saved until one more batch costs as much.
BATCH_OVERHEAD_TOKENS = 256


def length_bucketed_batches(
    lengths: np.ndarray, max_batch_tokens: int, *, multiple_of: int = 1
) -> list[np.ndarray]:
    """Cut sequences, longest first, into the micro-batches of least padding and least number.

    The cuts minimise the sum of padded tokens plus `BATCH_OVERHEAD_TOKENS` a batch.

    Parameters
    ----------
    lengths : int64, shape (sequences,), tokens
        With [CLS] and [SEP].
    max_batch_tokens : int, tokens
        Bound on sequences x longest of one micro-batch.
    multiple_of : int, default 1
        Number of processes: batches are halved until every process gets the same number, or no batch
        has two sequences; each gets at least one.

    Returns
    -------
    list of int64 arrays
        Indices into `lengths`. Ties keep their order, so the cut depends on nothing but its arguments.

    Raises
    ------
    UsageError
        If one sequence alone is above the bound, or there are fewer sequences than processes.
    """
    order = np.argsort(-lengths, kind="stable")
    _check_shareable(lengths, max_batch_tokens, multiple_of)
    bounds = _cheapest_cuts(lengths[order], max_batch_tokens, BATCH_OVERHEAD_TOKENS)
    batches = [order[start:stop] for start, stop in pairwise(bounds)]
    while len(batches) % multiple_of:
        # Halve the batch of most padded tokens that has something to halve.
        sizes = [len(batch) * int(lengths[batch[0]]) if len(batch) > 1 else 0 for batch in batches]
        largest = int(np.argmax(sizes))
        if not sizes[largest]:
            break
        half = (len(batches[largest]) + 1) // 2
        batches[largest : largest + 1] = [batches[largest][:half], batches[largest][half:]]
    return batches


# ours: packed batches end in filler up to a multiple of this, and name a longest sequence of a multiple of
# `LENGTH_STEP`: matrix kernels are chosen anew for every size, which takes longer than to run them.
SIZE_STEP = 512
LENGTH_STEP = 128


def pack_batches(lengths: np.ndarray, max_batch_tokens: int, *, multiple_of: int = 1) -> list[np.ndarray]:
    """Share sequences among the fewest packed micro-batches, about equal in tokens, in their order.

    Parameters
    ----------
    lengths : int64, shape (sequences,), tokens
        With [CLS] and [SEP].
    max_batch_tokens : int, tokens
        Bound on the sum of lengths of one micro-batch.
    multiple_of : int, default 1
        Number of processes: every one gets the same number of micro-batches.

    Returns
    -------
    list of int64 arrays
        Indices into `lengths`; none is empty.

    Raises
    ------
    UsageError
        As `length_bucketed_batches`.
    """
    _check_shareable(lengths, max_batch_tokens, multiple_of)
    ends = np.cumsum(lengths)
    n_batches = multiple_of * -(-int(ends[-1]) // (max_batch_tokens * multiple_of))
    while True:
        n_batches = min(n_batches, len(lengths))
        # Each begins with the first sequence that starts at or after its share of the tokens.
        wanted = ends[-1] * np.arange(n_batches + 1) / n_batches
        bounds = np.searchsorted(np.append(0, ends), wanted)
        # No two begin with the same one.
        places = np.arange(n_batches + 1)
        bounds = np.maximum.accumulate(bounds - places) + places
        bounds = np.minimum(bounds, len(lengths) - n_batches + places)
        batches = [np.arange(start, stop) for start, stop in pairwise(bounds)]
        if max(int(lengths[batch].sum()) for batch in batches) <= max_batch_tokens:
            return batches
        n_batches += multiple_of


def _check_shareable(lengths: np.ndarray, max_batch_tokens: int, processes: int) -> None:
    if lengths.max() > max_batch_tokens:
        raise UsageError(
            f"--max-batch-tokens {max_batch_tokens} is below the longest sequence ({lengths.max()} tokens)"
        )
    if len(lengths) < processes:
        raise UsageError(f"{len(lengths)} sequences a step cannot be shared by {processes} processes")


@njit(cache=True, nogil=True)
def _cheapest_cuts(lengths: np.ndarray, max_batch_tokens: int, overhead: int) -> np.ndarray:
    """Return where to cut descending `lengths`, 0 and the end included, by dynamic programming."""
    n = len(lengths)
    cost = np.zeros(n + 1, np.int64)
    first = np.zeros(n + 1, np.int64)
    for stop in range(1, n + 1):
        cost[stop] = np.iinfo(np.int64).max
        # A longer batch starts at a longer sequence: once one is too large, so are all further ones.
        for start in range(stop - 1, -1, -1):
            padded = (stop - start) * lengths[start]
            if padded > max_batch_tokens:
                break
            if cost[start] + padded + overhead < cost[stop]:
                cost[stop], first[stop] = cost[start] + padded + overhead, start
    bounds = np.empty(n + 1, np.int64)
    count, place = 0, n
    while place > 0:
        bounds[count] = place
        count, place = count + 1, first[place]
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
    """Lay chosen sequences out as one padded batch.

    Parameters
    ----------
    token_ids : int32, shape (total,)
        All sequences, concatenated, without special tokens.
    offsets : int64, shape (sequences + 1,)
        Where each sequence starts.
    rows : int64, shape (b,)
        The sequences wanted.

    Returns
    -------
    input_ids : int64 tensor, shape (b, longest)
        [CLS] tokens [SEP], padded with [PAD].
    attention_mask : int64 tensor of the same shape, or None
        1 on real tokens; None where nothing is padded.
    """
    return pad_spans(token_ids, offsets[rows], offsets[rows + 1] - offsets[rows])


def pad_spans(
    token_ids: np.ndarray, starts: np.ndarray, n_tokens: np.ndarray, *, width: int = 0
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Lay spans of `token_ids`, which may overlap, out as one padded batch.

    Parameters
    ----------
    token_ids : int32, shape (total,)
        Without special tokens.
    starts, n_tokens : int64, shape (b,)
        Where each span begins, and its length.
    width : int, default 0, tokens
        Pad to this at least.

    Returns
    -------
    input_ids, attention_mask
        As from `pad`.
    """
    sizes = n_tokens + 2
    input_ids = np.full((len(starts), max(width, int(sizes.max()))), PAD, np.int64)
    _fill(input_ids, token_ids, starts, n_tokens)
    if sizes.min() == input_ids.shape[1]:
        return torch.from_numpy(input_ids), None
    real = np.arange(input_ids.shape[1]) < sizes[:, None]
    return torch.from_numpy(input_ids), torch.from_numpy(real.astype(np.int64))


def pack(token_ids: np.ndarray, offsets: np.ndarray, rows: np.ndarray) -> tuple[torch.Tensor, Packing]:
    """Lay chosen sequences out as one packed batch.

    Parameters
    ----------
    token_ids, offsets, rows
        As in `pad`.

    Returns
    -------
    input_ids : int64 tensor, shape (1, tokens)
        [CLS] tokens [SEP] of each sequence one after the other, then at least one [PAD].
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
        place, n = starts[row], n_tokens[row]
        input_ids[place] = CLS
        for i in range(n):
            input_ids[place + 1 + i] = token_ids[sources[row] + i]
        input_ids[place + 1 + n] = SEP
        for i in range(n + 2):
            positions[place + i] = i


def collate_masked(
    token_ids: np.ndarray,
    offsets: np.ndarray,
    masked_index: np.ndarray,
    labels: np.ndarray,
    batches: Sequence[np.ndarray],
    *,
    packed: bool = False,
    rank: int = 0,
    world: int = 1,
) -> list[MicroBatch]:
    """Lay this process's share of the step's micro-batches out as tensors.

    Parameters
    ----------
    token_ids : int32, shape (total,)
        Corrupted token ids of all sequences of the step, concatenated, without special tokens.
    offsets : int64, shape (sequences + 1,)
        Where each sequence starts.
    masked_index : int64, shape (masked,), ascending
        Flat positions in `token_ids` that are predicted.
    labels : int32, shape (masked,)
        Original token ids there.
    batches : list of int64 arrays
        From `length_bucketed_batches` or `pack_batches`. Micro-batch i goes to process i mod `world`.
    """
    masked_bounds = np.searchsorted(masked_index, offsets)
    laid_out = []
    for index in range(rank, len(batches), world):
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
        laid_out.append(
            MicroBatch(
                input_ids,
                attention_mask,
                torch.from_numpy(flat_masked),
                torch.from_numpy(labels[source].astype(np.int64)),
                index,
            )
        )
    return laid_out
