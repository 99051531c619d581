"""`cmgems predict`: class probabilities of sequences, or of windows along a genome."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cmgems_cli.commands.inference_progress import close, described, rows_bar, survey_and_announce, task_of
from cmgems_cli.console import Console
from cmgems_cli.errors import UsageError
from cmgems_cli.inference.inference_options import (
    HitOptions,
    InferenceOptions,
    PredictionFormat,
    RegionOptions,
    Strand,
)
from cmgems_cli.modeling.model_source import check_order
from cmgems_cli.option_fields import option
from cmgems_cli.options import InputPath, Shared, takes
from cmgems_cli.readable import counted


@takes("out device overwrite resume json quiet config", out="stdout")
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Folder that finetune wrote.", show_default=False)
    ],
    sequences: InputPath = None,
    *,
    regions: RegionOptions,
    options: InferenceOptions,
    strand: Strand = option(
        "forward", "--strand", "reverse: read each row as its reverse complement; both: two rows of each."
    ),
    hits: HitOptions,
    table: PredictionFormat | None = option(
        None, "--format", "Format of the result.", shown="by the name of --out; tsv on stdout"
    ),
    header: bool = option(True, "--header/--no-header", "Name the columns; a strict BED file does not."),
    io: Shared,
) -> None:
    """Classify sequences; writes name, predicted label and per-class probabilities, in input order.

    With --window one row per window, with start and end (0-based, half-open):
    name, start, end are the first columns, as in BED. A sequence's last window
    is cut short at its end. With --regions they are chrom, start, end, name,
    strand: places in the genome. bed: each row with its score; bedgraph and
    bigwig: the mean over the windows of each base. k-mers with N are [UNK]; a window of nothing else
    is left out, a whole sequence of nothing else has empty cells.

    Example: cmgems predict finetuned/prom hg38.fa.gz --window 70 --stride 35 --out scan.tsv
    """
    started = time.perf_counter()
    console = io.console()
    check_order(model, sequences, "INPUT")
    if io.json and io.out is None:
        raise UsageError("--json prints one object on stdout, where the predictions would go: give --out too")
    from cmgems_cli.inference.loading import load_model
    from cmgems_cli.inference.prediction import write_predictions
    from cmgems_cli.inference.prediction_output import (
        TRACKS,
        check_options,
        check_target,
        chosen_class,
        needs_class,
        prediction_format,
        sink_of,
    )
    from cmgems_cli.inference.region_source import source_of
    from cmgems_cli.inference.resumable_output import check_files, partial_files
    from cmgems_cli.inference.tracks import OrderedSource

    kind = prediction_format(io.out, table)
    check_options(hits, kind, intervals=bool(options.window or regions.regions))
    if io.out is not None:
        reads = [model, sequences, regions.regions, regions.genome]
        check_files([io.out], overwrite=io.overwrite, reads=reads)
    source = source_of(sequences, regions)
    if kind in TRACKS or (hits.merge and not regions.regions):
        source = OrderedSource(source)
    opened = load_model(
        model,
        classes=True,
        device=io.device,
        precision=options.precision,
        max_batch_tokens=options.max_batch_tokens,
    )
    target = opened.target
    check_target(target, hits, kind)
    about = target.names[chosen_class(target, hits.label)] if needs_class(hits, kind) else None
    data = survey_and_announce(console, opened, source, options, strand)
    if about is not None and target.problem != "regression":
        console.say(f"values are probabilities of the class {about}")
    began = time.perf_counter()
    with rows_bar(console, "predicting", data, to_screen=io.out is None) as advance:
        if io.out is None:
            sink = sink_of(console.stdout(), kind, data, source, target, hits, header=header, late=True)
            counts = write_predictions(opened, data, sink, advance=advance)
        else:
            chosen = {"class": about, "min_prob": hits.min_prob, "top": hits.top, "merge": hits.merge}
            task = task_of(opened, data, source, format=kind, header=header, **chosen)
            with partial_files([io.out], task, resume=io.resume) as partial:
                stream, saved = partial.streams[0], partial.saved if partial.blocks else None
                resumed = saved and saved["sink"]
                sink = sink_of(stream, kind, data, source, target, hits, header=header, resumed=resumed)
                before = (partial.blocks, saved["counts"]) if saved else None
                counts = write_predictions(
                    opened, data, sink, before=before, block_done=partial.block_done, advance=advance
                )
    seconds = time.perf_counter() - began
    if io.out is not None and target.problem != "regression":
        total = data.done if opened.target.problem == "multilabel" else sum(counts.values())
        written = f"{counted(sink.hits or 0, 'hit')} of the class {about} in {io.out}"
        title = f"predicted labels of all rows; {written}" if hits.chooses else f"labels in {io.out}"
        _show(console, title, counts, total)
    close(console, data, seconds, io.out)
    report = described(opened, data, source, seconds)
    elapsed_s = round(time.perf_counter() - started, 3)
    chose = {} if about is None else {"class": about, "hits": sink.hits}
    console.result({**report, "labels": counts, **chose, "out": str(io.out), "elapsed_s": elapsed_s})


def _show(console: Console, title: str, counts: dict[str, int], total: int) -> None:
    rows = [[label, count, f"{100 * count / max(1, total):.1f} %"] for label, count in counts.items()]
    console.table(title, ["label", "rows", "share"], rows)
