"""Loss spikes: which step's loss is too high, and which steps are then left out."""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Collection, Mapping
from statistics import median
from typing import Any

from cmgems_cli.errors import UsageError

# Megatron-LM compares a loss with 100 earlier ones too.
WINDOW = 100
# ours: fewer losses than this say too little of the next; a loss is then compared with that of guessing.
LEAST = 20
# ours (docs/log.md): the highest loss of four undisturbed runs was 1.10 times the median of the 100 before.
FACTOR = 1.5
# ours: PaLM (Chowdhery et al. 2022, section 5.1) went back about 100 steps of a run 25 times as long. AdamW's first
# moment (0.9) forgets a gradient within about 10 steps.
STEPS_BEFORE = 10
# ours: a run that needs more than this needs another learning rate.
MOST_RETURNS = 10


class LossWatch:
    """Compares the loss of each step with the median of the losses before, under the same masking strategy.

    Its state follows from the records of metrics.jsonl alone.

    Parameters
    ----------
    factor : float
        A loss above `factor` times the median is a spike.
    guessing : float
        Loss of guessing, taken for the median of the first steps.

    Attributes
    ----------
    risen_at : int or None
        The step where the present spike began; losses of a spike do not enter the median.
    """

    def __init__(self, factor: float, guessing: float) -> None:
        self._factor, self._guessing = factor, guessing
        self._losses: deque[float] = deque(maxlen=WINDOW)
        self._strategy: Any = None
        self.risen_at: int | None = None

    def usual(self, strategy: Any) -> float:
        """Return the loss that a step under `strategy` is compared with."""
        known = strategy == self._strategy and len(self._losses) >= LEAST
        return median(self._losses) if known else self._guessing

    def limit(self, strategy: Any) -> float:
        """Return the loss above which a step under `strategy` begins a spike."""
        return self._factor * self.usual(strategy) if self.risen_at is None else math.inf

    def observe(self, record: Mapping[str, Any]) -> bool:
        """Take the record of a step in; return whether a spike began there."""
        loss, strategy = record["loss"], record.get("strategy")
        if loss is None:
            return False
        if loss > self._factor * self.usual(strategy):
            begun = self.risen_at is None
            self.risen_at = self.risen_at or record["step"]
            return begun
        if strategy != self._strategy:
            self._losses.clear()
        self.risen_at, self._strategy = None, strategy
        self._losses.append(loss)
        return False


def steps_to_leave_out(step: int) -> range:
    """Return the steps that a spike at `step` is blamed on: itself and `STEPS_BEFORE` before."""
    return range(max(1, step - STEPS_BEFORE), step + 1)


def parse_steps(text: str | None, steps: int) -> frozenset[int]:
    """Return the steps that a text such as "4100-4300,5000" names.

    Raises
    ------
    UsageError
        If it does not name steps of a run of `steps` steps.

    Examples
    --------
    >>> sorted(parse_steps("3-5,9", 10))
    [3, 4, 5, 9]
    """
    chosen: set[int] = set()
    for part in (text or "").split(",") if text else ():
        match = re.fullmatch(r"\s*(\d{1,18})(?:-(\d{1,18}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= steps:
            raise UsageError(
                f"`skip_steps` is {text!r}; needed steps of 1 to {steps}, such as 4100-4300 or 4100-4300,5000"
            )
        chosen.update(range(first, last + 1))
    return frozenset(chosen)


def as_ranges(steps: Collection[int]) -> str | None:
    """Return steps as a text that `parse_steps` reads, None if there are none.

    >>> as_ranges({9, 3, 4, 5})
    '3-5,9'
    """
    ranges: list[list[int]] = []
    for step in sorted(steps):
        if ranges and step == ranges[-1][1] + 1:
            ranges[-1][1] = step
        else:
            ranges.append([step, step])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges) or None
