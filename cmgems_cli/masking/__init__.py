"""The paper's method: masking strategies, curricula and corruption (method, section 4).

This module defines their names and codes without heavy imports, so that commands can offer them as choices.
A new strategy needs an entry in `StrategyName` and `INFO`, and either a member of `Strategy` with a branch in
`strategies._mask_sequences` or a rule in `curriculum`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, NamedTuple, get_args

from cmgems_cli.palette import BLUE, GREEN, GREY, VERMILION

# Values of the parameter `strategy`. The first three and random-mask stay the same throughout a run (except
# that random-mask's spans grow); cm-step and cm-gems move from an easy strategy to `global`.
StrategyName = Literal["random", "genemask", "global", "cm-step", "cm-gems", "random-mask"]
STRATEGIES: tuple[StrategyName, ...] = get_args(StrategyName)

# How ranks are looked up: by k-mer, or by position as in the released code (ablation only).
RankBy = Literal["content", "position"]


class StrategyInfo(NamedTuple):
    """What people read about a strategy.

    Attributes
    ----------
    printed_name : str
        As in a publication.
    masks : str
        Which tokens it masks, for model cards.
    uses_ranks : bool
        False if it ignores k-mer ranks.
    colour : str
        Of its curve (#rrggbb); empty for a curriculum.
    made_of : str
        The strategies that a curriculum uses, in words; empty for a single strategy.
    """

    printed_name: str
    masks: str
    uses_ranks: bool = True
    colour: str = ""
    made_of: str = ""


# By `StrategyName`; in the order of `STRATEGIES`.
INFO: dict[str, StrategyInfo] = {
    "random": StrategyInfo(
        "random span masking (DNABERT)",
        "spans of k tokens at random positions",
        uses_ranks=False,
        colour=GREY,
    ),
    "genemask": StrategyInfo(
        "GENEMASK",
        "spans at random positions, the better-ranked half around their best-ranked k-mer (GENEMASK)",
        colour=BLUE,
    ),
    "global": StrategyInfo(
        "GLOBAL", "around the best-ranked k-mers of the whole sequence (GLOBAL)", colour=VERMILION
    ),
    "cm-step": StrategyInfo(
        "CM-STEP",
        "GLOBAL in a fraction of sequences that grows from 0 to 1, random spans in the others (CM-Step)",
        made_of="random and global",
    ),
    "cm-gems": StrategyInfo(
        "CM-GEMS",
        "GENEMASK, then GLOBAL once validation perplexity stopped falling (CM-GEMS)",
        made_of="genemask, then global",
    ),
    "random-mask": StrategyInfo(
        "RandomMask", "random spans that grow longer in stages (RandomMask)", uses_ranks=False, colour=GREEN
    ),
}

# Strategies that ignore ranks.
WITHOUT_RANKS = tuple(name for name in STRATEGIES if not INFO[name].uses_ranks)


class Strategy(IntEnum):
    """How one sequence is masked in one step: one code (uint8) per sequence for `mask_batch`."""

    RANDOM = 0
    GENEMASK = 1
    GLOBAL = 2
    RANDOM_MASK = 3

    @property
    def label(self) -> str:
        """Its name as in `STRATEGIES`, for example `random-mask`."""
        return self.name.lower().replace("_", "-")


# The strategies without the curricula, by name.
SINGLE = {strategy.label: strategy for strategy in Strategy}
