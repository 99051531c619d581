"""The data of a pretraining step: its sequences, masked by the current strategy, as micro-batches.

Each process makes its batches at the step that needs them, from (seed, step). There is no loader whose
buffered batches would outlive a switch of strategy, and nothing to replay on resume.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.vocabulary import SPECIAL_POSITIONS
from cmgems_cli.masking import Strategy
from cmgems_cli.masking.corruption import corrupt_batch
from cmgems_cli.masking.curriculum import Curriculum
from cmgems_cli.masking.strategies import mask_batch
from cmgems_cli.training.batching import LOOSE_SHAPE, PackedShape, length_bucketed_batches, pack_batches
from cmgems_cli.training.collation import MicroBatch, collate_masked
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.sequence_order import training_order


@dataclass(frozen=True)
class Step:
    """One step's data.

    Attributes
    ----------
    batches : list of MicroBatch
        Those of this process.
    n_targets : int
        Masked tokens of the whole step, over all processes.
    n_tokens : int
        Real tokens of the whole step, including [CLS] and [SEP], excluding padding.
    masked_fraction : float
        Masked tokens / maskable tokens of the whole step.
    labels : int32, shape (n_targets,)
        All labels of the whole step.
    """

    batches: list[MicroBatch]
    n_targets: int
    n_tokens: int
    masked_fraction: float
    labels: np.ndarray


@dataclass(frozen=True)
class PretrainBatches:
    """Makes the data of any step of a run, in any order.

    Attributes
    ----------
    corpus : Corpus
    rank_of_token : int32, shape (5 + 4^k,)
        From the PMI artifact; all unranked for strategies that use no ranks.
    mask_rate : float
    rank_by : str
        content, or position (the released variant).
    global_batch : int
        Sequences per step.
    max_batch_tokens : int
        Maximum of tokens per micro-batch, including padding.
    seed : int
    processes : Processes
    packed : bool
        Pack micro-batches instead of padding them (`encoder.packs_sequences`).
    shape : PackedShape
        What packed micro-batches are filled up to.
    """

    corpus: Corpus
    rank_of_token: np.ndarray
    mask_rate: float
    rank_by: str
    global_batch: int
    max_batch_tokens: int
    seed: int
    processes: Processes
    packed: bool = False
    shape: PackedShape = LOOSE_SHAPE

    def training_step(self, step: int, curriculum: Curriculum) -> Step:
        """Make training step `step` (1-based) under the current strategy of the curriculum."""
        indices, epochs = self._order(step)
        codes = curriculum.strategy_codes(step, epochs, indices)
        return self._make(indices, epochs, codes, self.mask_rate, self.rank_by, curriculum.span_limit(step))

    def sequences_of(self, step: int) -> np.ndarray:
        """Return the training sequences of a step: int64, shape (global_batch,)."""
        return self._order(step)[0]

    def _order(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        first = (step - 1) * self.global_batch
        return training_order(first, self.global_batch, self.corpus.n_train, self.seed)

    def sample_at_step(self, indices: np.ndarray, step: int, curriculum: Curriculum) -> Step:
        """Mask the sequences `indices` (int64, shape (n,)) as training step `step` would, with epoch 0's draws."""
        epochs = np.zeros(len(indices), np.int64)
        codes = curriculum.strategy_codes(step, epochs, indices)
        return self._make(indices, epochs, codes, self.mask_rate, self.rank_by, curriculum.span_limit(step))

    def sample_fixed(self, indices: np.ndarray, strategy: Strategy, mask_rate: float) -> Step:
        """Mask the sequences `indices` (int64, shape (n,)) by one strategy, ranks by content, with epoch 0's draws."""
        codes = np.full(len(indices), strategy, np.uint8)
        return self._make(indices, np.zeros(len(indices), np.int64), codes, mask_rate, "content", 0)

    def _make(
        self,
        indices: np.ndarray,
        epochs: np.ndarray,
        codes: np.ndarray,
        mask_rate: float,
        rank_by: str,
        span_limit: int,
    ) -> Step:
        token_ids, offsets = self.corpus.token_ids(indices)
        masked = mask_batch(
            token_ids,
            offsets,
            codes,
            self.rank_of_token,
            k=self.corpus.k,
            mask_rate=mask_rate,
            rank_by=rank_by,
            seed=self.seed,
            epochs=epochs,
            sequence_indices=indices,
            span_limit=span_limit,
        )
        input_ids, masked_index, labels = corrupt_batch(
            token_ids,
            offsets,
            masked,
            k=self.corpus.k,
            seed=self.seed,
            epochs=epochs,
            sequence_indices=indices,
        )
        lengths = np.diff(offsets) + SPECIAL_POSITIONS
        rank, world_size = self.processes.rank, self.processes.world_size
        batch_rows = (pack_batches if self.packed else length_bucketed_batches)(
            lengths, self.max_batch_tokens, multiple_of=world_size
        )
        batches = collate_masked(
            input_ids,
            offsets,
            masked_index,
            labels,
            batch_rows,
            packed=self.packed,
            shape=self.shape,
            rank=rank,
            world_size=world_size,
        )
        return Step(batches, len(labels), int(lengths.sum()), len(labels) / max(1, len(token_ids)), labels)
