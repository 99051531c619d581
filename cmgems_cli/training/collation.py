"""Collate the sequences of a micro-batch into tensors: padded, or packed one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from cmgems_cli.genome.tokenization import KMER_SPECIALS, SpecialIds
from cmgems_cli.genome.vocabulary import CLS, PAD, SEP, SPECIAL_POSITIONS
from cmgems_cli.kernels import kernel
from cmgems_cli.modeling.encoder import Packing
from cmgems_cli.training.batching import LENGTH_STEP, LOOSE_SHAPE, PackedShape

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
        The original token ids there; `IGNORED` in rows that fill up a packed batch.
    index : int
        Number of this micro-batch within the step, over all processes.
    rows : int64 array, shape (sequences,)
        Numbers of the sequences within the step.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | Packing | None
    masked_index: torch.Tensor
    labels: torch.Tensor
    index: int
    rows: np.ndarray

    @property
    def n_targets(self) -> int:
        """Number of masked tokens. Reading it waits for the device."""
        return int((self.labels != IGNORED).sum())

    def to(self, device: torch.device) -> MicroBatch:
        """Return a copy of the batch on `device`, as `on_device` does."""
        return on_device(self, device)


# What torch's cross-entropy ignores.
IGNORED = -100

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
    tensor = value.bounds if isinstance(value, Packing) else value
    if isinstance(tensor, torch.Tensor) and tensor.device == device:
        return value
    if isinstance(value, torch.Tensor):
        return value.pin_memory().to(device, non_blocking=True)
    if isinstance(value, Packing):
        bounds, positions = (tensor.pin_memory().to(device, non_blocking=True) for tensor in value[:2])
        return Packing(bounds, positions, value.longest, value.n_sequences)
    return value


def n_real_tokens(attention_mask: torch.Tensor | Packing | None, input_ids: torch.Tensor) -> int:
    """Count the tokens of a micro-batch, including special tokens, excluding padding and filler.

    Parameters
    ----------
    attention_mask : int64 tensor of the shape of `input_ids`, Packing or None
    input_ids : int64 tensor, shape (sequences, longest)
    """
    if isinstance(attention_mask, Packing):
        return int(attention_mask.bounds[attention_mask.n_sequences])
    return input_ids.numel() if attention_mask is None else int(attention_mask.sum())


@kernel()
def _fill(
    input_ids: np.ndarray,
    token_ids: np.ndarray,
    starts: np.ndarray,
    n_tokens: np.ndarray,
    prefix: np.ndarray,
    suffix: np.ndarray,
) -> None:
    for row in range(len(starts)):
        start, n = starts[row], n_tokens[row]
        for i in range(len(prefix)):
            input_ids[row, i] = prefix[i]
        for i in range(n):
            input_ids[row, len(prefix) + i] = token_ids[start + i]
        for i in range(len(suffix)):
            input_ids[row, len(prefix) + n + i] = suffix[i]


@kernel()
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
    token_ids: np.ndarray, offsets: np.ndarray, rows: np.ndarray, specials: SpecialIds = KMER_SPECIALS
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
    specials : SpecialIds
        Those of k-mers by default.

    Returns
    -------
    input_ids : int64 tensor, shape (b, longest)
        [CLS] tokens [SEP], padded with [PAD].
    attention_mask : int64 tensor of the same shape, or None
        1 on real tokens; None without padding.
    """
    return pad_spans(token_ids, offsets[rows], offsets[rows + 1] - offsets[rows], specials)


def pad_spans(
    token_ids: np.ndarray,
    starts: np.ndarray,
    n_tokens: np.ndarray,
    specials: SpecialIds = KMER_SPECIALS,
    *,
    width: int = 0,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Collate spans of `token_ids`, which may overlap, into one padded batch.

    Parameters
    ----------
    token_ids : int32, shape (total,)
        Without special tokens.
    starts, n_tokens : int64, shape (b,)
        Where each span begins, and its length.
    specials : SpecialIds
    width : int, default 0, tokens
        Smallest width to pad to.

    Returns
    -------
    input_ids, attention_mask
        As returned by `pad`: int64 tensors, shape (b, longest).
    """
    sizes = n_tokens + specials.positions
    input_ids = np.full((len(starts), max(width, int(sizes.max()))), specials.padding, np.int64)
    prefix, suffix = (np.array(ids, np.int64) for ids in (specials.prefix, specials.suffix))
    _fill(input_ids, token_ids, starts, n_tokens, prefix, suffix)
    if sizes.min() == input_ids.shape[1]:
        return torch.from_numpy(input_ids), None
    real = np.arange(input_ids.shape[1]) < sizes[:, None]
    return torch.from_numpy(input_ids), torch.from_numpy(real.astype(np.int64))


def pack(
    token_ids: np.ndarray, offsets: np.ndarray, rows: np.ndarray, shape: PackedShape = LOOSE_SHAPE
) -> tuple[torch.Tensor, Packing]:
    """Collate selected sequences into one packed batch.

    Parameters
    ----------
    token_ids, offsets, rows
        As in `pad`.
    shape : PackedShape
        What to fill up to.

    Returns
    -------
    input_ids : int64 tensor, shape (1, tokens)
        Concatenated [CLS] tokens [SEP] of all sequences, then at least one [PAD].
    packing : Packing
    """
    n_tokens = offsets[rows + 1] - offsets[rows]
    ends = np.cumsum(n_tokens + SPECIAL_POSITIONS)
    end, step = int(ends[-1]), shape.size_step
    total = (end // step + 1) * step
    starts = np.append(0, ends)
    input_ids, positions = np.full(total, PAD, np.int64), np.zeros(total, np.int64)
    _fill_packed(input_ids, positions, starts, token_ids, offsets[rows], n_tokens)
    longest = shape.longest or max(int(n_tokens.max()) + SPECIAL_POSITIONS, total - end)
    longest = -(-longest // LENGTH_STEP) * LENGTH_STEP
    # No sequence of filler is longer than the longest real one may be.
    most = max(shape.sequences, len(rows)) + (-(-step // longest) if shape.longest else 1)
    bounds = np.append(starts, np.arange(end + longest, total, longest))
    bounds = np.append(bounds, np.full(most + 1 - len(bounds), total))
    packing = Packing(
        *(torch.from_numpy(bounds.astype(np.int32)), torch.from_numpy(positions)[None], longest, len(rows))
    )
    return torch.from_numpy(input_ids)[None], packing


@kernel()
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
        for i in range(n + SPECIAL_POSITIONS):
            positions[start + i] = i


def collate_masked(
    token_ids: np.ndarray,
    offsets: np.ndarray,
    masked_index: np.ndarray,
    labels: np.ndarray,
    batches: Sequence[np.ndarray],
    *,
    packed: bool = False,
    shape: PackedShape = LOOSE_SHAPE,
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
    shape : PackedShape
        What to fill packed ones up to.
    rank, world_size : int, default 0 and 1
        Number of this process, and of all processes.
    """
    masked_bounds = np.searchsorted(masked_index, offsets)
    collated = []
    for index in range(rank, len(batches), world_size):
        rows = batches[index]
        attention_mask: torch.Tensor | Packing | None
        if packed:
            input_ids, attention_mask = pack(token_ids, offsets, rows, shape)
            row_starts = attention_mask.bounds.numpy().astype(np.int64)
        else:
            input_ids, attention_mask = pad(token_ids, offsets, rows)
            row_starts = np.arange(len(rows)) * input_ids.shape[1]
        n_masked = int((masked_bounds[rows + 1] - masked_bounds[rows]).sum())
        n_rows = max(1, -(-n_masked // shape.row_step)) * shape.row_step if packed else n_masked
        # Rows left over are of the last token, which is filler.
        flat_masked, source = np.full(n_rows, input_ids.numel() - 1), np.empty(n_masked, np.int64)
        _fill_masked(flat_masked, source, row_starts, offsets, masked_bounds, masked_index, rows)
        targets = np.full(n_rows, IGNORED, np.int64)
        targets[:n_masked] = labels[source]
        collated.append(
            MicroBatch(
                input_ids,
                attention_mask,
                torch.from_numpy(flat_masked),
                torch.from_numpy(targets),
                index,
                rows,
            )
        )
    return collated
