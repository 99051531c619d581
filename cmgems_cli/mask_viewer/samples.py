"""The sequences a pretraining run sees first, masked in several ways as it would mask them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import UsageError
from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.mask_viewer.tally import MaskTally
from cmgems_cli.masking import INFO, SINGLE, STRATEGIES, WITHOUT_RANKS, Strategy
from cmgems_cli.masking.curriculum import RANDOM_MASK_GROWTH, RANDOM_MASK_STAGE_ENDS
from cmgems_cli.masking.strategies import mask_batch
from cmgems_cli.training.sequence_order import training_order

# ours: about 1.6 M tokens of 510-token sequences at once.
_SEQUENCES_AT_ONCE = 4096


@dataclass(frozen=True)
class MaskVariant:
    """A way of masking: a strategy, and how it looks ranks up (`content` or `position`)."""

    strategy: Strategy
    rank_by: str = "content"

    @property
    def strategy_name(self) -> str:
        """The strategy as `--strategy` has it: `random-mask`."""
        return self.strategy.label

    @property
    def name(self) -> str:
        """For people: `global`, or `global (position)`."""
        return self.strategy_name + (" (position)" if self.rank_by == "position" else "")

    @property
    def uses_ranks(self) -> bool:
        """Whether k-mer ranks are needed."""
        return INFO[self.strategy_name].uses_ranks

    @property
    def colour(self) -> str:
        """Colour (#rrggbb) of its curve."""
        return INFO[self.strategy_name].colour


def mask_variants_of(strategies: str, rank_by: str) -> list[MaskVariant]:
    """Return the ways of masking that a list of strategies and `content`, `position` or `both` stand for.

    Raises
    ------
    UsageError
        If a name is no single strategy.

    Examples
    --------
    >>> [way.name for way in mask_variants_of("random,global", "both")]
    ['random', 'global', 'global (position)']
    """
    ways: list[MaskVariant] = []
    lookups = ("content", "position") if rank_by == "both" else (rank_by,)
    for name in [part.strip() for part in strategies.split(",") if part.strip()]:
        if name in STRATEGIES and name not in SINGLE:
            raise UsageError(f"--strategies: {name} is {INFO[name].made_of}; name those")
        if name not in SINGLE:
            raise UsageError(f"--strategies: {name!r} is unknown; choose {', '.join(SINGLE)}")
        # Without ranks there is but one way.
        ways += [
            MaskVariant(SINGLE[name], lookup)
            for lookup in (("content",) if name in WITHOUT_RANKS else lookups)
        ]
    if not ways:
        raise UsageError(f"--strategies {strategies!r} names none; give some, such as random,genemask,global")
    return sorted(dict.fromkeys(ways), key=lambda way: way.rank_by)


@dataclass(frozen=True, eq=False)
class MaskSample:
    """The first training sequences of a run, and how each way masks them in the run's first epoch.

    Attributes
    ----------
    corpus : Corpus
    rank_of_token : int32, shape (5 + 4^k,)
    ways : list of MaskVariant
    mask_rate : float
    seed : int
        Of the run.
    sequence_indices : int64, shape (n,)
        Rows of the corpus's windows, in the order of training.
    """

    corpus: Corpus
    rank_of_token: NDArray[np.int32]
    ways: list[MaskVariant]
    mask_rate: float
    seed: int
    sequence_indices: NDArray[np.int64]

    @classmethod
    def of_run(
        cls,
        corpus: Corpus,
        rank_of_token: NDArray[np.int32],
        ways: Sequence[MaskVariant],
        *,
        n_sequences: int,
        mask_rate: float = 0.15,
        seed: int = 42,
    ) -> MaskSample:
        """Sample the first `n_sequences` sequences that `pretrain` with this seed sees, or all.

        Parameters
        ----------
        corpus : Corpus
        rank_of_token : int32, shape (5 + 4^k,)
        ways : sequence of MaskVariant
        n_sequences : int
        mask_rate : float, default 0.15
        seed : int, default 42
        """
        sequence_indices, _ = training_order(0, min(n_sequences, corpus.n_train), corpus.n_train, seed)
        return cls(corpus, rank_of_token, list(ways), mask_rate, seed, sequence_indices)

    def masked(
        self, first: int, count: int
    ) -> tuple[NDArray[np.int32], NDArray[np.int64], list[NDArray[np.bool_]]]:
        """Return the token ids, the offsets and one mask per variant of some sequences.

        Dtypes and shapes are those of `mask_batch`. random-mask has the spans of its last stage, the longest.
        """
        indices = self.sequence_indices[first : first + count]
        token_ids, offsets = self.corpus.token_ids(indices)
        k = self.corpus.k
        span_limit = k + RANDOM_MASK_GROWTH * (len(RANDOM_MASK_STAGE_ENDS) - 1)
        masks = [
            mask_batch(
                token_ids,
                offsets,
                np.full(len(indices), way.strategy, np.uint8),
                self.rank_of_token,
                k=k,
                mask_rate=self.mask_rate,
                rank_by=way.rank_by,
                seed=self.seed,
                epochs=np.zeros(len(indices), np.int64),
                sequence_indices=indices,
                span_limit=span_limit,
            )
            for way in self.ways
        ]
        return token_ids, offsets, masks

    def tally(self, advance: Callable[[float], None] = lambda n: None) -> MaskTally:
        """Count the masks of all sequences; `advance` is told the number of sequences newly done."""
        n = len(self.sequence_indices)
        longest = int(self.corpus.windows["n_tokens"][self.sequence_indices].max(initial=0))
        tally = MaskTally(len(self.ways), self.corpus.k, longest)
        for first in range(0, n, _SEQUENCES_AT_ONCE):
            tally.add(*self.masked(first, _SEQUENCES_AT_ONCE))
            advance(min(_SEQUENCES_AT_ONCE, n - first))
        return tally
