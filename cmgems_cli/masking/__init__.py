"""The paper's method: masking strategies, curricula and corruption (method, section 4).

This module defines their names and codes without heavy imports, so that commands can offer them as choices.
"""

from __future__ import annotations

from enum import IntEnum

# Values of the parameter `strategy`. The first three and random-mask stay the same throughout a run (except
# that random-mask's spans grow); cm-step and cm-gems move from an easy strategy to `global`.
STRATEGIES = ("random", "genemask", "global", "cm-step", "cm-gems", "random-mask")

# Strategies that ignore ranks.
WITHOUT_RANKS = ("random", "random-mask")


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
