"""What a training run reports while it runs."""

from __future__ import annotations

from typing import Any

from cmgems_cli.training.event_files import EventFiles


class Observer:
    """Receives a run's progress on the main process; this one ignores it.

    Attributes
    ----------
    events : EventFiles or None
        Get every record of metrics.jsonl.
    """

    events: EventFiles | None = None

    def resumed(self, step: int) -> None:
        """The run resumes after `step`."""

    def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
        """A step is done: its record of metrics.jsonl, and its real tokens."""

    def advanced(self, amount: float) -> None:
        """A part of a run without steps is done, in the unit of the run."""

    def switched(self, step: int, before: float, after: float) -> None:
        """The curriculum leaves genemask after `step`: perplexity at the last two evaluations."""

    def warned(self, message: str) -> None:
        """Something may be wrong."""
