"""The data of one fine-tuning step: rows of labelled sequences, as padded or packed micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cmgems_cli import draws
from cmgems_cli.datasets.loaded_task import EncodedSplit
from cmgems_cli.kernels import kernel
from cmgems_cli.modeling.encoder import Packing
from cmgems_cli.modeling.head_outputs import no_labels
from cmgems_cli.training.batching import length_bucketed_batches, pack_batches
from cmgems_cli.training.collation import on_device, pack, pad
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.sequence_order import training_order


@dataclass(frozen=True)
class LabelledBatch:
    """The input of one forward pass of a classifier.

    Attributes
    ----------
    input_ids : int64 tensor, shape (rows, longest)
    attention_mask : int64 tensor of the same shape, Packing or None
        As in `MicroBatch`.
    labels : int64 or float32 tensor, shape (rows,), or int64 tensor, shape (rows, n_labels)
        As `Outputs.loss` takes them; `no_labels` in the batch of a process that has no rows of a step.
    rows : int64 array, shape (rows,)
        Which sequences of the data these are: rows, or reverse complements of rows (`EncodedSplit.strands`).
    index : int
        Which micro-batch of the step this is, over all processes.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor | Packing | None
    labels: torch.Tensor
    rows: NDArray[np.int64]
    index: int

    def to(self, device: torch.device) -> LabelledBatch:
        """Return the batch on `device`."""
        return on_device(self, device)


def collate(
    data: EncodedSplit,
    rows: NDArray[np.int64],
    parts: Sequence[NDArray[np.int64]],
    processes: Processes,
    *,
    packed: bool = False,
) -> list[LabelledBatch]:
    """Return this process's micro-batches: part i goes to process i mod `world_size`.

    Parameters
    ----------
    data : EncodedSplit
    rows : int64, shape (n,)
        The sequences wanted.
    parts : list of int64 arrays
        Indices into `rows`, from `length_bucketed_batches`, or from `pack_batches` to be packed.
    processes : Processes
    packed : bool, default False
    """
    batches = []
    for index in range(processes.rank, len(parts), processes.world_size):
        chosen = rows[parts[index]]
        input_ids, mask = _collated(data, chosen, packed)
        labels = torch.from_numpy(data.labels[chosen % len(data)])
        batches.append(LabelledBatch(input_ids, mask, labels, chosen, index))
    return batches


def _collated(
    data: EncodedSplit, rows: NDArray[np.int64], packed: bool
) -> tuple[torch.Tensor, torch.Tensor | Packing | None]:
    if packed:
        return pack(data.token_ids, data.offsets, rows)
    return pad(data.token_ids, data.offsets, rows, data.specials)


@dataclass(frozen=True)
class LabelledStep:
    """One step's data.

    Attributes
    ----------
    batches : list of LabelledBatch
        Those of this process.
    n_targets : int
        Rows of the whole step, over all processes.
    n_tokens : int
        Real tokens of the whole step, [CLS] and [SEP] included, padding not.
    epoch : int
        From 1 on.
    """

    batches: list[LabelledBatch]
    n_targets: int
    n_tokens: int
    epoch: int


@dataclass(frozen=True, eq=False)
class FinetuneBatches:
    """Makes the data of any step of a run, in any order.

    Each epoch is a keyed permutation of all rows; its last step has the rest. Of data with two strands, each row is
    read as its reverse complement or not by a draw that is a function of seed, epoch and row.

    Attributes
    ----------
    data : EncodedSplit
    global_batch : int
        Rows per step.
    max_batch_tokens : int
        Bound on a micro-batch, padding included.
    seed : int
    processes : Processes
    fixed_cut : bool
        Make the same micro-batches for any number of processes. Required with dropout: its random draws depend
        on the micro-batch, so the batches must not depend on the number of processes. Some processes may then
        get none.
    packed : bool
        Pack micro-batches instead of padding them (`encoder.packs_sequences`).
    """

    data: EncodedSplit
    global_batch: int
    max_batch_tokens: int
    seed: int
    processes: Processes
    fixed_cut: bool
    packed: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the data."""
        return -(-len(self.data) // self.global_batch)

    def rows_of(self, step: int) -> NDArray[np.int64]:
        """Return the rows of step `step` (from 1): int64, shape (n,), n at most `global_batch`."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        done = place * self.global_batch
        count = min(self.global_batch, len(self.data) - done)
        rows, _ = training_order(epoch * len(self.data) + done, count, len(self.data), self.seed)
        return np.asarray(rows)

    def make(self, step: int) -> LabelledStep:
        """Make step `step` (from 1)."""
        rows = self.sequences_of(step)
        parts = self._parts(rows)
        batches = collate(self.data, rows, parts, self.processes, packed=self.packed)
        if not batches:
            batches = [self._nothing(rows[parts[0][:1]], self.processes.rank)]
        epoch = (step - 1) // self.steps_per_epoch + 1
        return LabelledStep(batches, len(rows), int(self.data.lengths()[rows].sum()), epoch)

    def sequences_of(self, step: int) -> NDArray[np.int64]:
        """Return the sequences of step `step` (from 1), each a row of `rows_of` on a strand: int64, shape (n,)."""
        rows = self.rows_of(step)
        if self.data.strands == 1:
            return rows
        epoch = (step - 1) // self.steps_per_epoch
        return np.asarray(_on_drawn_strands(rows, len(self.data), epoch, self.seed))

    @property
    def idle_processes(self) -> int:
        """Number of processes without rows of the first step."""
        return max(0, self.processes.world_size - len(self._parts(self.rows_of(1))))

    def _parts(self, rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        shared_by = 1 if self.fixed_cut else min(self.processes.world_size, len(rows))
        lengths = self.data.lengths()[rows]
        return (pack_batches if self.packed else length_bucketed_batches)(
            lengths, self.max_batch_tokens, multiple_of=shared_by
        )

    def _nothing(self, rows: NDArray[np.int64], index: int) -> LabelledBatch:
        """Return a batch whose loss and gradients are 0, for a process without rows of the step."""
        input_ids, mask = _collated(self.data, rows, self.packed)
        labels = no_labels(torch.from_numpy(self.data.labels[rows % len(self.data)]))
        return LabelledBatch(input_ids, mask, labels, rows, index)


@kernel()
def _on_drawn_strands(rows: np.ndarray, n_rows: int, epoch: int, seed: int) -> np.ndarray:
    """Return each row's number, or that of its reverse complement, by its own bit of the epoch's stream."""
    stream = draws.key(seed, draws.STRANDS, epoch, 0)
    sequences = np.empty_like(rows)
    for i in range(len(rows)):
        sequences[i] = rows[i] + draws.below(stream, rows[i], 2) * n_rows
    return sequences


def evaluation_batches(
    data: EncodedSplit, max_batch_tokens: int, processes: Processes, *, packed: bool = False
) -> list[LabelledBatch]:
    """Return this process's micro-batches of all sequences; the same ones for any number of processes."""
    parts = (pack_batches if packed else length_bucketed_batches)(data.lengths(), max_batch_tokens)
    return collate(data, np.arange(data.strands * len(data)), parts, processes, packed=packed)
