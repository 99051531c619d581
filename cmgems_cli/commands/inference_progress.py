"""What `predict` and `embed` say alike: what is run over what, how far it is, what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmgems_cli.console import Console
from cmgems_cli.readable import counted, duration, rate

if TYPE_CHECKING:
    from cmgems_cli.inference.inference_options import InferenceOptions, Strand
    from cmgems_cli.inference.loading import Model
    from cmgems_cli.inference.record_readers import Source
    from cmgems_cli.inference.survey import Input


def survey_and_announce(
    console: Console, model: Model, source: Source, options: InferenceOptions, strand: Strand = "forward"
) -> Input:
    """Return the input of a command, checked, after reporting on it (errors as `survey_input`)."""
    from cmgems_cli.inference.row_blocks import tiling_options
    from cmgems_cli.inference.survey import survey_input

    tiling = tiling_options(
        model.tokenization,
        model.max_tokens,
        window=options.window,
        stride=options.stride,
        truncate=options.truncate,
        strand=strand,
    )
    data = survey_input(source, tiling)
    announce(console, model, data)
    for note in source.notes():
        console.say(note)
    return data


def announce(console: Console, model: Model, data: Input) -> None:
    """Report the model and its input; warn if rows are longer than those the classifier was fine-tuned on."""
    counted, tiling = data.survey, data.tiling
    setup = f"{model.parameters:,} parameters on {model.device} in {model.precision}"
    windows = f"windows of {tiling.window:,} bases, one every {tiling.stride:,}" if tiling.window else ""
    if counted is None:
        console.say(f"{setup}; {data.name}{f' in {windows}' if windows else ''}")
    elif windows:
        console.say(f"{setup}; {data.name}: {counted.rows:,} {windows}, in {counted.sequences:,} sequence(s)")
    else:
        console.say(f"{setup}; {data.name}: {counted.sequences:,} sequence(s)")
    longest = tiling.window or (min(counted.longest_bases, tiling.max_bases) if counted else 0)
    if model.trained_tokens and tiling.tokenization.fewest_tokens(longest) > model.trained_tokens:
        trained = tiling.tokenization.most_bases(model.trained_tokens)
        console.warn(
            f"rows of up to {longest:,} bases, but the classifier was fine-tuned on {trained:,} at most: its"
            " predictions for longer ones are unreliable"
        )


@contextmanager
def rows_bar(
    console: Console, title: str, data: Input, *, to_screen: bool
) -> Iterator[Callable[[float], None]]:
    """Show progress and speed, unless the results go to the screen."""
    if to_screen and sys.stdout.isatty():
        yield lambda rows: None
        return
    total = data.survey.rows if data.survey else 0
    with console.progress(title, total, data.unit) as bar:

        def advance(rows: float) -> None:
            if not rows:
                return
            if data.tally_before.rows and not bar.skipped:
                # The first new rows were begun before the clock starts, so they do not count towards the speed.
                bar.start_at(data.tally_before.rows + rows)
                return
            bar.advance(rows, note=rate(bar.rate(rows), data.unit))

        yield advance


def close(console: Console, data: Input, seconds: float, out: Path | None) -> None:
    """Report the number of rows and the speed, and warn about truncated or unknown sequences."""
    tally = data.tally
    if tally.truncated:
        were = "was" if tally.truncated == 1 else "were"
        console.warn(
            f"{counted(tally.truncated, 'sequence')} {were} truncated to {counted(data.tiling.max_bases, 'base')}"
        )
    if data.left_out:
        were = "was" if data.left_out == 1 else "were"
        console.say(f"{counted(data.left_out, 'window')} without a known k-mer (all N) {were} omitted")
    elif tally.unknown:
        sequences = counted(tally.unknown, "sequence")
        console.warn(f"{sequences} without a known k-mer (too short, or all N) got no values")
    if 2 * tally.known_tokens < tally.tokens:
        unknown = 100 * (1 - tally.known_tokens / tally.tokens)
        console.warn(f"{unknown:.0f} % of all tokens are [UNK]: the values say little about these sequences")
    new_rows = data.done - data.done_before
    rows = counted(new_rows, data.unit.removesuffix("s"))
    words = f"{rows} in {duration(seconds)} ({new_rows / max(seconds, 1e-9):,.0f} per second)"
    if data.done_before:
        words += f"; {data.done:,} with the {data.done_before:,} of the earlier run"
    console.say(words if out is None else f"{words}, written to {out}")


def task_of(model: Model, data: Input, source: Source, **options: Any) -> dict[str, Any] | None:
    """Return the values that determine the rows of a run; None for input that cannot be read twice."""
    if not source.rereadable:
        return None
    tiling = data.tiling
    return {
        "model": model.digest,
        "input_sha256": source.sha256,
        "window": tiling.window,
        "stride": tiling.stride,
        "truncate": tiling.truncate,
        "strand": tiling.strand,
        "device": model.device.type,
        "precision": model.precision,
        "max_batch_tokens": model.max_batch_tokens,
        **options,
    }


def described(model: Model, data: Input, source: Source, seconds: float) -> dict[str, Any]:
    """Return the values of the JSON object that both commands print."""
    tally = data.tally
    return {
        "model": model.digest,
        "input_sha256": source.sha256,
        "sequences": tally.sequences,
        "rows": data.done,
        "left_out": data.left_out,
        "without_values": tally.unknown - data.left_out,
        "truncated": tally.truncated,
        "window": data.tiling.window,
        "stride": data.tiling.stride,
        "strand": data.tiling.strand,
        "device": str(model.device),
        "precision": model.precision,
        "rows_per_s": round((data.done - data.done_before) / max(seconds, 1e-9), 1),
    }
