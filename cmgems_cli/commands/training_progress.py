"""The progress of a training run, on a bar and in lines above it."""

from __future__ import annotations

import time
from typing import Any

from cmgems_cli.console import Bar, Console
from cmgems_cli.metrics import printed_perplexity
from cmgems_cli.readable import rate
from cmgems_cli.training.event_files import EventFiles
from cmgems_cli.training.observer import Observer


class TrainingProgress(Observer):
    """Shows each step of a run on `bar`, and what happens as lines; `events` get the metrics."""

    def __init__(self, console: Console, bar: Bar, events: EventFiles | None = None) -> None:
        self._console, self._bar, self.events = console, bar, events
        self._evaluated = ""
        self._tokens, self._since = 0, time.perf_counter()

    def resumed(self, step: int) -> None:
        """Start the bar after `step`."""
        self._console.say(f"resuming after step {step:,}")
        self._bar.start_at(step)
        self._since = time.perf_counter()

    def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
        """Advance the bar; the latest evaluation stays visible."""
        self._tokens += n_tokens
        if "valid_perplexity" in record:
            self._evaluated = f"perplexity {printed_perplexity(record['valid_perplexity'])}"
        elif "dev_loss" in record:
            self._evaluated = ", ".join(_of_dev(record))
        words = [
            f"loss {record['loss']:.3f}" if record["loss"] is not None else "",
            self._evaluated,
            f"masked {100 * record['masked_fraction']:.1f} %" if "masked_fraction" in record else "",
            record.get("strategy", ""),
            rate(self._tokens / (time.perf_counter() - self._since), "tokens"),
        ]
        self._bar.advance(1, note=" · ".join(word for word in words if word))

    def advanced(self, amount: float) -> None:
        """Advance the bar."""
        self._bar.advance(amount)

    def switched(self, step: int, before: float, after: float) -> None:
        """Say that the curriculum switched, and why."""
        self._console.say(
            f"step {step:,}: perplexity {before:,.1f} → {after:,.1f}, a drop below the threshold:"
            " the curriculum switches from genemask to global"
        )

    def warned(self, message: str) -> None:
        """Print the warning."""
        self._console.warn(message)


def _of_dev(record: dict[str, Any]) -> list[str]:
    """Return the loss of the last evaluation and what else it has of the dev split."""
    titles = {"dev_accuracy": "accuracy", "dev_r2": "R²"}
    shown = [f"{title} {record[name]:.3f}" for name, title in titles.items() if name in record]
    return [f"dev loss {record['dev_loss']:.3f}", *shown]
