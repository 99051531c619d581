"""`cmgems predict`: class probabilities of sequences, or of windows along a genome."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from cmgems_cli import options
from cmgems_cli.commands.inference_progress import announce, close, described, rows_bar, task_of
from cmgems_cli.console import Console
from cmgems_cli.errors import UsageError


def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder that finetune wrote.", show_default=False)
    ],
    sequences: options.InputPath,
    window: options.Window = None,
    stride: options.Stride = None,
    truncate: options.TruncateInput = False,
    table: Annotated[
        Literal["tsv", "csv", "jsonl"] | None,
        typer.Option("--format", help="Of the result.", show_default="by the name of --out; tsv on stdout"),
    ] = None,
    header: Annotated[
        bool, typer.Option("--header/--no-header", help="Name the columns; a strict BED file does not.")
    ] = True,
    max_batch_tokens: options.InferenceBatchTokens = None,
    precision: options.InferencePrecision = "fp32",
    out: options.Out = None,
    device: options.Device = "auto",
    overwrite: options.Overwrite = False,
    resume: options.ResumeRows = True,
    json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Classify sequences: name, label and one probability a class, in their order.

    With --window one row a window, with start and end (0-based, half-open):
    name, start, end are the first columns, as in BED. A sequence's last window
    is cut short at its end. k-mers with N are [UNK]; a window of nothing else
    is left out, a whole sequence of nothing else has empty cells.

    Example: cmgems predict finetuned/prom hg38.fa.gz --window 70 --stride 35 --out scan.tsv
    """
    started = time.perf_counter()
    console = Console(quiet=quiet, json=json)
    if json and out is None:
        raise UsageError("--json prints one object on stdout, where the predictions would go: give --out too")
    from cmgems_cli.inference.loading import load_model
    from cmgems_cli.inference.output_formats import TableWriter, check_out_file, table_format
    from cmgems_cli.inference.prediction import columns, write_predictions
    from cmgems_cli.inference.record_readers import Source
    from cmgems_cli.inference.resumable_output import partial_files
    from cmgems_cli.inference.row_blocks import tiling_options
    from cmgems_cli.inference.survey import survey_input

    kind = table_format(out, table)
    if out is not None:
        check_out_file(out, overwrite=overwrite)
    source = Source(sequences)
    opened = load_model(
        model, classes=True, device=device, precision=precision, max_batch_tokens=max_batch_tokens
    )
    data = survey_input(
        source, tiling_options(opened.k, opened.max_tokens, window=window, stride=stride, truncate=truncate)
    )
    announce(console, opened, data)
    names = columns(opened.label_names, windows=window is not None)
    began = time.perf_counter()
    with rows_bar(console, "predicting", data, to_screen=out is None) as advance:
        if out is None:
            writer = TableWriter(sys.stdout.buffer, kind, names, header=header)
            counts = write_predictions(opened, data, writer, advance=advance)
        else:
            task = task_of(opened, data, source, format=kind, header=header)
            with partial_files([out], task, resume=resume) as partial:
                writer = TableWriter(partial.streams[0], kind, names, header=header and not partial.blocks)
                before = (partial.blocks, partial.kept) if partial.blocks else None
                counts = write_predictions(
                    opened, data, writer, before=before, block_done=partial.block_done, advance=advance
                )
    seconds = time.perf_counter() - began
    if out is not None:
        _show(console, out, counts)
    close(console, data, seconds, out)
    report = described(opened, data, source, seconds)
    elapsed_s = round(time.perf_counter() - started, 3)
    console.result({**report, "labels": counts, "out": str(out), "elapsed_s": elapsed_s})


def _show(console: Console, out: Path, counts: dict[str, int]) -> None:
    total = sum(counts.values())
    rows = [[label, count, f"{100 * count / total:.1f} %"] for label, count in counts.items()]
    console.table(f"labels in {out}", ["label", "rows", "share"], rows)
