"""The first sequences of a pretraining run, masked by several variants as in the run."""

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
from cmgems_cli.readable import meant
from cmgems_cli.training.sequence_order import training_order

# ours: about 1.6 M tokens of 510-token sequences at once.
_SEQUENCES_AT_ONCE = 4096


@dataclass(frozen=True)
class MaskVariant:
    """A strategy and its way to look up ranks (`content` or `position`)."""

    strategy: Strategy
    rank_by: str = "content"

    @property
    def strategy_name(self) -> str:
        """The strategy as `--strategy` has it: `random-mask`."""
        return self.strategy.label

    @property
    def name(self) -> str:
        """Displayed name: `global`, or `global (position)`."""
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
    """Return the variants of comma-separated strategies, in any case, for `rank_by` content, position or both.

    Raises
    ------
    UsageError
        If a name is unknown or names a curriculum.

    Examples
    --------
    >>> [variant.name for variant in mask_variants_of("random,global", "both")]
    ['random', 'global', 'global (position)']
    """
    variants: list[MaskVariant] = []
    lookups = ("content", "position") if rank_by == "both" else (rank_by,)
    for part in filter(None, map(str.strip, strategies.split(","))):
        name = part.casefold()
        if name in STRATEGIES and name not in SINGLE:
            raise UsageError(f"`strategies`: {name} is {INFO[name].made_of}; name those")
        if name not in SINGLE:
            raise UsageError(
                f"`strategies`: {part!r} is unknown; choose {', '.join(SINGLE)}{meant(name, SINGLE)}"
            )
        # Without ranks the lookup makes no difference.
        variants += [
            MaskVariant(SINGLE[name], lookup)
            for lookup in (("content",) if name in WITHOUT_RANKS else lookups)
        ]
    if not variants:
        raise UsageError(f"`strategies={strategies}` names none; give some, such as random,genemask,global")
    return sorted(dict.fromkeys(variants), key=lambda variant: variant.rank_by)


@dataclass(frozen=True, eq=False)
class MaskSample:
    """The first training sequences of a run, and their masks by each variant in its first epoch.

    Attributes
    ----------
    corpus : Corpus
    rank_of_token : int32, shape (5 + 4^k,)
    variants : list of MaskVariant
    mask_rate : float
    seed : int
        Seed of the run.
    sequence_indices : int64, shape (n,)
        Rows of the corpus's windows, in training order.
    """

    corpus: Corpus
    rank_of_token: NDArray[np.int32]
    variants: list[MaskVariant]
    mask_rate: float
    seed: int
    sequence_indices: NDArray[np.int64]

    @classmethod
    def of_run(
        cls,
        corpus: Corpus,
        rank_of_token: NDArray[np.int32],
        variants: Sequence[MaskVariant],
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
        variants : sequence of MaskVariant
        n_sequences : int
        mask_rate : float, default 0.15
        seed : int, default 42
        """
        sequence_indices, _ = training_order(0, min(n_sequences, corpus.n_train), corpus.n_train, seed)
        return cls(corpus, rank_of_token, list(variants), mask_rate, seed, sequence_indices)

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
                np.full(len(indices), variant.strategy, np.uint8),
                self.rank_of_token,
                k=k,
                mask_rate=self.mask_rate,
                rank_by=variant.rank_by,
                seed=self.seed,
                epochs=np.zeros(len(indices), np.int64),
                sequence_indices=indices,
                span_limit=span_limit,
            )
            for variant in self.variants
        ]
        return token_ids, offsets, masks

    def tally(self, advance: Callable[[float], None] = lambda n: None) -> MaskTally:
        """Count the masks of all sequences; `advance` is called with the number of newly counted sequences."""
        n = len(self.sequence_indices)
        longest = int(self.corpus.windows["n_tokens"][self.sequence_indices].max(initial=0))
        tally = MaskTally(len(self.variants), self.corpus.k, longest)
        for first in range(0, n, _SEQUENCES_AT_ONCE):
            tally.add(*self.masked(first, _SEQUENCES_AT_ONCE))
            advance(min(_SEQUENCES_AT_ONCE, n - first))
        return tally
