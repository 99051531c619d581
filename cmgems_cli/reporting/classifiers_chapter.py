"""What a report shows of single fine-tuned classifiers: their test scores and their learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cmgems_cli.comparing.scores import as_printed
from cmgems_cli.comparing.tables import ReportTable
from cmgems_cli.comparing.trials_table import TRIALS, trials_table
from cmgems_cli.metrics import METRICS
from cmgems_cli.reporting import finetuning_figure
from cmgems_cli.reporting.elements import Notes, Part, Picture, Section, Table, Text, listed
from cmgems_cli.reporting.finetuning_figure import FinetuningCurve
from cmgems_cli.reporting.methods import task_of
from cmgems_cli.reporting.plot_style import rendered, style
from cmgems_cli.reporting.predictions_chapter import prediction_parts
from cmgems_cli.reporting.sources import Run
from cmgems_cli.training.metrics_log import METRICS as METRICS_FILE
from cmgems_cli.training.metrics_log import read_metrics

# ours: more points than this tell the eye nothing; longer runs are drawn as means over steps.
POINTS = 200


def classifiers_section(runs: Sequence[Run]) -> Section | None:
    """Return the classifiers among the runs; None without any."""
    chosen = [run for run in runs if run.kind == "classifier"]
    if not chosen:
        return None
    parts: list[Part] = [
        _scores(chosen),
        Text("Single fine-tuning run per model; seed-to-seed variation is not shown."),
        *_trials(chosen),
        *_curves(chosen),
        *prediction_parts(chosen, {run.label: number for number, run in enumerate(chosen)}),
    ]
    notes = _notes(chosen)
    return Section("Classifiers", parts + ([Notes(notes)] if notes else []))


def _scores(chosen: Sequence[Run]) -> Table:
    metrics = [name for name in METRICS if METRICS[name].shown and any(name in r.made.stats for r in chosen)]
    rows: list[list[str | None]] = []
    for run in chosen:
        params, stats = run.made.params, run.made.stats
        scores = [as_printed(stats[metric], metric) if metric in stats else None for metric in metrics]
        shots = "" if params.get("shots") is None else f", {params['shots']} shots"
        counts = [None if stats.get(name) is None else f"{stats[name]:,}" for name in ("n_train", "n_test")]
        weights = "random" if params.get("init") == "random" else "pretrained"
        rows.append([run.label, f"{task_of(run)}{shots}", weights, str(params["seed"]), *scores, *counts])
    titles = [METRICS[name].printed_title for name in metrics]
    columns = ["classifier", "task", "weights", "seed", *titles, "train rows", "test rows"]
    return Table(ReportTable("Test scores", columns, rows), [run.tag for run in chosen])


def _trials(chosen: Sequence[Run]) -> list[Part]:
    table = trials_table({run.label: run.made for run in chosen})
    return [Table(table, [run.tag for run in chosen if TRIALS in run.made.stats])] if table else []


def _notes(chosen: Sequence[Run]) -> list[str]:
    """Return each note once, with the classifiers that it is about."""
    about: dict[str, list[str]] = {}
    for run in chosen:
        notes = list(run.made.stats.get("notes", []))
        if run.made.stats.get("collapsed"):
            notes.append("collapsed, the same was predicted for every row")
        for note in notes:
            about.setdefault(note, []).append(run.label)
    everyone = [run.label for run in chosen]
    return [
        f"{'All' if len(everyone) > 1 and labels == everyone else listed(labels)}: {note}."
        for note, labels in about.items()
    ]


# ------------------------------------------------------------------ learning curves


def _curves(chosen: Sequence[Run]) -> list[Part]:
    """Draw the curves of each task's classifiers together; a frozen model has none."""
    tasks: dict[str, list[Run]] = {}
    for run in chosen:
        if METRICS_FILE in run.made.files:
            tasks.setdefault(task_of(run), []).append(run)
    pictures: list[Part] = []
    for number, (task, group) in enumerate(tasks.items(), start=1):
        curves = [_curve(run, colour) for colour, run in enumerate(group)]
        title = f"Fine-tuning on {task}"
        with style():
            svg, png = rendered(finetuning_figure.finetuning_curves(curves))
        caption = (
            f"Loss of {listed([run.label for run in group])} by step. Left: on the training rows of each step"
        )
        window = max(curve.window for curve in curves)
        caption += f", means over up to {window:,} steps." if window > 1 else "."
        caption += (
            " Right: on the dev split; a dot marks the model that was tested."
            if any(curve.dev for curve in curves)
            else " There was no dev split to watch; the last model was tested."
        )
        alt = "; ".join(_in_words(curve) for curve in curves)
        tags = [run.tag for run in group]
        pictures.append(Picture(f"fine-tuning-{number}", title, caption, f"{alt}.", svg, png, tags))
    return pictures


def _curve(run: Run, colour: int) -> FinetuningCurve:
    records = [record for record in read_metrics(run.folder / METRICS_FILE) if record.get("loss") is not None]
    window = max(1, math.ceil(len(records) / POINTS))
    parts = [records[start : start + window] for start in range(0, len(records), window)]
    evaluated = [record for record in records if "dev_loss" in record]
    return FinetuningCurve(
        run.label,
        colour,
        window,
        [part[-1]["step"] for part in parts],
        [sum(record["loss"] for record in part) / len(part) for part in parts],
        [(record["step"], record["dev_loss"]) for record in evaluated],
        run.made.stats.get("best_step"),
    )


def _in_words(curve: FinetuningCurve) -> str:
    words = f"{curve.label}: training loss from {curve.losses[0]:.3f} to {curve.losses[-1]:.3f}"
    if curve.dev:
        words += f", dev loss from {curve.dev[0][1]:.3f} to {curve.dev[-1][1]:.3f}"
    return words if curve.best_step is None else f"{words}, tested after step {curve.best_step:,}"
