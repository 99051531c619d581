"""What `predict` and `embed` say alike: what is run over what, how far it is, what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmgems_cli.console import Console, duration

if TYPE_CHECKING:
    from cmgems_cli.inference.loading import Model
    from cmgems_cli.inference.record_readers import Source
    from cmgems_cli.inference.survey import Input


def announce(console: Console, model: Model, data: Input) -> None:
    """Say what is run over what, and warn where a classifier is asked of lengths it has not seen."""
    found, cut = data.survey, data.cutting
    where = f"{model.parameters:,} parameters on {model.device} in {model.precision}"
    windows = f"windows of {cut.window:,} bases, one every {cut.stride:,}" if cut.window else ""
    if found is None:
        console.say(f"{where}; {data.name}{f' in {windows}' if windows else ''}")
    elif windows:
        console.say(f"{where}; {data.name}: {found.rows:,} {windows}, in {found.sequences:,} sequence(s)")
    else:
        console.say(f"{where}; {data.name}: {found.sequences:,} sequence(s)")
    longest = cut.window or (min(found.longest_bases, cut.max_bases) if found else 0)
    if model.trained_tokens and longest - cut.k + 1 > model.trained_tokens:
        console.warn(
            f"rows of up to {longest:,} bases, but the classifier was fine-tuned on"
            f" {model.trained_tokens + cut.k - 1:,} at most: what it says of longer ones is a guess"
        )


@contextmanager
def rows_bar(
    console: Console, title: str, data: Input, *, to_screen: bool
) -> Iterator[Callable[[float], None]]:
    """Show progress with its rate, unless the results themselves go to the screen."""
    if to_screen and sys.stdout.isatty():
        yield lambda rows: None
        return
    total = data.survey.rows if data.survey else 0
    with console.progress(title, total, data.unit) as bar:

        def advance(rows: float) -> None:
            if not rows:
                return
            if data.tally_before.rows and not bar.skipped:
                # The first of its own rows began before the clock is set, and do not count towards the speed.
                bar.start_at(data.tally_before.rows + rows)
                return
            seconds = time.perf_counter() - bar.started
            fresh = bar.done - bar.skipped + rows
            bar.advance(rows, note=f"{fresh / max(seconds, 1e-9):,.0f} {data.unit}/s")

        yield advance


def close(console: Console, data: Input, seconds: float, out: Path | None) -> None:
    """Say what came of it, and what was odd about the input."""
    tally = data.tally
    if tally.truncated:
        console.warn(f"{tally.truncated:,} sequences were cut to {data.cutting.max_bases:,} bases")
    if data.left_out:
        console.say(f"{data.left_out:,} windows without a known k-mer (all N) were left out")
    elif tally.unknown:
        console.warn(f"{tally.unknown:,} sequences without a known k-mer (too short, or all N) got no values")
    fresh = data.done - data.done_before
    words = f"{fresh:,} {data.unit} in {duration(seconds)} ({fresh / max(seconds, 1e-9):,.0f} a second)"
    if data.done_before:
        words += f", with the {data.done_before:,} from before {data.done:,}"
    console.say(words if out is None else f"{words}, written to {out}")


def task_of(model: Model, data: Input, source: Source, **more: Any) -> dict[str, Any] | None:
    """Return what decides the rows of a run; None for input that cannot be read from its start again."""
    if not source.rereadable:
        return None
    cut = data.cutting
    return {
        "model": model.digest,
        "input_sha256": source.sha256,
        "window": cut.window,
        "stride": cut.stride,
        "truncate": cut.truncate,
        "device": model.device.type,
        "precision": model.precision,
        "max_batch_tokens": model.max_batch_tokens,
        **more,
    }


def described(model: Model, data: Input, source: Source, seconds: float) -> dict[str, Any]:
    """Return what the JSON object of either command holds."""
    tally = data.tally
    return {
        "model": model.digest,
        "input_sha256": source.sha256,
        "sequences": tally.sequences,
        "rows": data.done,
        "left_out": data.left_out,
        "without_values": tally.unknown - data.left_out,
        "truncated": tally.truncated,
        "window": data.cutting.window,
        "stride": data.cutting.stride,
        "device": str(model.device),
        "precision": model.precision,
        "rows_per_s": round((data.done - data.done_before) / max(seconds, 1e-9), 1),
    }
