"""Which positions a model has to predict: strategies, curricula, corruption (method, section 4).

The names and codes live here, free of heavy imports, so that a command can offer them as choices.
"""

from __future__ import annotations

from enum import IntEnum

# What `--strategy` accepts. The first three and random-mask mask one way throughout (but for
# random-mask's spans, which grow); cm-step and cm-gems go from an easy strategy to `global`.
STRATEGIES = ("random", "genemask", "global", "cm-step", "cm-gems", "random-mask")


# Those that never look at a rank.
WITHOUT_RANKS = ("random", "random-mask")


class Strategy(IntEnum):
    """How one sequence is masked in one step: what `mask_batch` takes for each sequence, as uint8."""

    RANDOM = 0
    GENEMASK = 1
    GLOBAL = 2
    RANDOM_MASK = 3

    @property
    def label(self) -> str:
        """Its name as `--strategy` has it: `random-mask`."""
        return self.name.lower().replace("_", "-")
