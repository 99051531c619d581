"""`cmgems explain`: how a classifier's output changes with each base of its input."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from cmgems_cli.commands.inference_progress import close, described, rows_bar, survey_and_announce, task_of
from cmgems_cli.errors import UsageError
from cmgems_cli.explaining.explain_options import ExplainOptions, SummaryOptions
from cmgems_cli.inference.inference_options import InferenceOptions, RegionOptions
from cmgems_cli.modeling.model_source import check_order
from cmgems_cli.option_fields import recipe_fields
from cmgems_cli.options import InputPath, Shared, takes

if TYPE_CHECKING:
    from cmgems_cli.console import Console
    from cmgems_cli.explaining.effects_output import EffectsWriter
    from cmgems_cli.explaining.motifs import Motifs
    from cmgems_cli.inference.loading import Model
    from cmgems_cli.inference.resumable_output import PartialFiles
    from cmgems_cli.inference.survey import Input


@takes("out seed device overwrite resume json quiet config", out="stdout")
def explain(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder that finetune wrote.", show_default=False)
    ],
    sequences: InputPath = None,
    *,
    regions: RegionOptions,
    explained: ExplainOptions,
    summary: SummaryOptions,
    options: InferenceOptions,
    io: Shared,
) -> None:
    """Substitute every base of each sequence; writes how far each change moves the model's output.

    The output is the log-odds of a class or label, in nats, or the value of a
    regression. One line per base: the effect of A, C, G and T in its place, and
    the importance of the base, minus the mean effect of the three others. Effects
    are exact: every mutant is computed. With --out X.tsv X.npz has the arrays.
    --figure draws the first sequences, --motifs lists what many have in common.

    Example: cmgems explain finetuned/prom promoters.fa --strand both --out why.tsv
    """
    started = time.perf_counter()
    console = io.console()
    if io.json and io.out is None:
        raise UsageError("--json prints one object on stdout, where the table would go: give --out too")
    check_order(model, sequences, "INPUT")
    explained.check()
    summary.check()
    from cmgems_cli.explaining.effects import followed
    from cmgems_cli.explaining.effects_output import SCRATCH, EffectsWriter, Stored, columns, write_npz
    from cmgems_cli.explaining.motifs import motif_columns
    from cmgems_cli.explaining.summary_output import check_summaries, write_summaries
    from cmgems_cli.inference.loading import load_model
    from cmgems_cli.inference.output_formats import TableWriter
    from cmgems_cli.inference.region_source import source_of
    from cmgems_cli.inference.resumable_output import check_files, partial_files

    outs, reads = _outs(io.out), [model, sequences, regions.regions, regions.genome]
    if outs:
        check_files(outs, overwrite=io.overwrite, reads=reads)
    check_summaries(summary, overwrite=io.overwrite, reads=reads)
    source = source_of(sequences, regions)
    opened = load_model(
        model,
        classes=True,
        device=io.device,
        precision=options.precision,
        max_batch_tokens=options.max_batch_tokens,
    )
    quantity, label = followed(opened, explained.label)
    data = survey_and_announce(console, opened, source, options)
    which = f"of the most probable {quantity.target.member} of each row" if label is None else ""
    console.say(
        f"following the {quantity.words_of(label) if label is not None else f'{quantity.words} {which}'}"
    )
    windows = options.window is not None
    names = columns(explained, quantity, windows=windows, regions=data.regions)
    began = time.perf_counter()
    with rows_bar(console, "explaining", data, to_screen=io.out is None) as advance:
        if not outs:
            table = TableWriter(console.stdout(), "tsv", names, late=True)
            with TemporaryFile() as effects, TemporaryFile() as their_rows:
                kept = (effects, their_rows) if summary.figure or summary.motifs else None
                writer = EffectsWriter(table, kept, quantity, windows=windows)
                _run(opened, data, explained, io.seed, writer, None, advance)
                found = write_summaries(summary, Stored(effects, their_rows), quantity, io.seed)
        else:
            task = task_of(opened, data, source, seed=io.seed, **recipe_fields(explained))
            scratch = [f"{outs[0].name}.{name}" for name in SCRATCH]
            with partial_files(outs, task, resume=io.resume, scratch=scratch) as partial:
                tsv, npz, values, rows = partial.streams
                table = TableWriter(tsv, "tsv", names, header=not partial.blocks)
                writer = EffectsWriter(table, (values, rows), quantity, windows=windows)
                _run(opened, data, explained, io.seed, writer, partial, advance)
                write_npz(npz, Stored(values, rows), quantity, explained)
                found = write_summaries(summary, Stored(values, rows), quantity, io.seed)
    seconds = time.perf_counter() - began
    if found is not None and io.out is not None:
        _show(console, found)
    close(console, data, seconds, io.out)
    console.result(
        {
            **described(opened, data, source, seconds),
            **recipe_fields(explained),
            "quantity": quantity.described,
            "out": str(io.out),
            "figure": summary.figure and str(summary.figure),
            "motifs": found and motif_columns(found),
            "elapsed_s": round(time.perf_counter() - started, 3),
        }
    )


def _show(console: Console, found: Motifs) -> None:
    from cmgems_cli.explaining.motifs import motif_columns

    table = motif_columns(found)
    rows = [list(row) for row in zip(*table.values(), strict=True)]
    console.table(f"most important k-mers of {found.n_rows:,} sequences", list(table), rows)


def _outs(out: Path | None) -> list[Path]:
    """Return the files to write: the table and the arrays."""
    if out is None:
        return []
    if out.suffix.lower() != ".tsv":
        raise UsageError(
            f"`out={out}` does not end in .tsv; explain writes FILE.tsv, and the arrays to FILE.npz"
        )
    return [out, out.with_suffix(".npz")]


def _run(
    model: Model,
    data: Input,
    options: ExplainOptions,
    seed: int,
    writer: EffectsWriter,
    partial: PartialFiles | None,
    advance: Callable[[float], None],
) -> None:
    from cmgems_cli.explaining.effects import explain_rows
    from cmgems_cli.explaining.rows import rows_of

    rows = rows_of(data, skip=partial.blocks if partial else 0)
    for together in explain_rows(model, rows, options, seed=seed, truncate=data.tiling.truncate):
        for effects in together:
            writer.write(effects)
        if partial:
            partial.block_done(blocks=len(together))
        advance(data.newly_done(len(together)))
    advance(data.newly_done(0))
