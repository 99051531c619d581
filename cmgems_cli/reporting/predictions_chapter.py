"""What models predict on test splits, in pictures: curves, calibration and confusion matrices, task by task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cmgems_cli.artifacts import is_finished, read_manifest
from cmgems_cli.comparing.curves import TOLERANCE, confusion
from cmgems_cli.comparing.evaluated_runs import PREDICTIONS, RUNS, EvaluatedRun, evaluated_runs
from cmgems_cli.comparing.grouping import TaskKey, span
from cmgems_cli.comparing.scores import KMER_LINEAR, as_printed
from cmgems_cli.metrics import CALIBRATION_BINS, METRICS, Problem
from cmgems_cli.readable import counted
from cmgems_cli.reporting import task_figures
from cmgems_cli.reporting.comparison_chapter import file_name
from cmgems_cli.reporting.elements import Folded, Notes, Part, Picture, Text, listed
from cmgems_cli.reporting.plot_style import rendered, style
from cmgems_cli.reporting.sources import Run
from cmgems_cli.reporting.task_figures import CLASSES_DRAWN, CLASSES_WITH_COUNTS, TestedModel
from cmgems_cli.training.run_files import read_predictions

# ours: more curves hide each other.
MOST_MODELS = 6

# A task and the sha256 of its test file: models are drawn together only on the same rows.
OnRows = tuple[TaskKey, str]


def prediction_parts(runs: Sequence[Run], colours: Mapping[str, int], bench: str | None = None) -> list[Part]:
    """Return one folded picture per task with its predictions: nothing for runs that kept none.

    Parameters
    ----------
    runs : sequence of Run
        Classifiers, or scores; the evaluations' `kmer-linear` is drawn with their models.
    colours : mapping, label -> int
        Colour number of a model in every picture.
    bench : str, optional
        Only tasks of this benchmark.

    Raises
    ------
    InputError
        If predictions are damaged.
    """
    tasks: dict[OnRows, dict[str, tuple[str, list[EvaluatedRun]]]] = {}
    for label, tag, folder in _folders(runs):
        for run in evaluated_runs(folder):
            if bench is None or run.key.bench == bench:
                models = tasks.setdefault((run.key, run.test), {})
                # Each evaluation has the runs of `kmer-linear`; equal rows give equal scores.
                owner, kept = models.setdefault(label, (tag, []))
                if owner == tag:
                    kept.append(run)
    if not tasks:
        return []
    drawn = [_picture(at, models, colours) for at, models in sorted(tasks.items(), key=_order)]
    words = list(dict.fromkeys(words for _, words in drawn))
    pictures: list[Part] = [*map(Text, words), *(picture for picture, _ in drawn)]
    parts: list[Part] = [Folded(f"Predictions in pictures: {counted(len(tasks), 'task')}", pictures)]
    most = max(map(len, tasks.values()))
    if most > MOST_MODELS:
        parts.append(Notes([f"The pictures have the last {MOST_MODELS} of {most} models."]))
    return parts


def _folders(runs: Sequence[Run]) -> Iterable[tuple[str, str, Path]]:
    """Yield label, tag and folder of each model, those of `kmer-linear` last."""
    for run in runs:
        yield run.label, run.tag, run.folder
    for run in runs:
        made = run.folder / RUNS / KMER_LINEAR
        if run.kind == "scores" and is_finished(made):
            yield KMER_LINEAR, run.tag, made


def _order(item: tuple[OnRows, object]) -> tuple[tuple[str, str, int], str]:
    key, test = item[0]
    return key.order, test


def _picture(
    at: OnRows, models: Mapping[str, tuple[str, list[EvaluatedRun]]], colours: Mapping[str, int]
) -> tuple[Picture, str]:
    """Return the picture of a task, and how pictures of its kind are to be read."""
    key, test = at
    chosen = list(models.items())[-MOST_MODELS:]
    drawn = [
        TestedModel(
            label,
            None if label == KMER_LINEAR else colours.get(label),
            [read_predictions(_whole(run)) for run in runs],
        )
        for label, (_, runs) in chosen
    ]
    target, n_rows = drawn[0].runs[0].target, len(drawn[0].runs[0].labels)
    n_runs = span(len(model.runs) for model in drawn)
    of_runs = "" if n_runs == "1" else f", means over {n_runs} runs of each model"
    caption = f"{n_rows:,} rows of the test split{of_runs}."
    with style():
        if target.problem == "regression":
            rows = task_figures.spread_rows(drawn[0].runs[0].labels)
            svg, png = rendered(task_figures.values(drawn, rows))
            if len(rows) < n_rows:
                caption += f" Drawn are {len(rows):,} of them, evenly spaced in the order of their values."
            names = ["pearson", "rmse"]
        else:
            svg, png = rendered(task_figures.classes(drawn))
            names = ["auroc", "auprc", "ece"]
    alt = "; ".join(f"{METRICS[name].title}: {_values(drawn, name)}" for name in names)
    if target.problem in ("binary", "multiclass") and len(target.names) <= CLASSES_WITH_COUNTS:
        alt += "; " + "; ".join(f"{model.label}: {_counts(model)}" for model in drawn)
    name = f"predictions-{file_name(key.bench)}-{file_name(key.label)}-{test[:8]}"
    tags = list(dict.fromkeys(tag for _, (tag, _) in chosen))
    # Data of no benchmark are paired by their test file and named after their folder.
    named = {run.data for _, (_, runs) in chosen for run in runs}
    title = named.pop() if not key.bench and len(named) == 1 else ""
    return Picture(name, title or key.label, caption, f"{alt}.", svg, png, tags), _words(target.problem)


def _whole(run: EvaluatedRun) -> Path:
    """Return where the predictions of a run are, if its files are those of its manifest."""
    read_manifest(run.folder, verify=True)
    return run.folder / PREDICTIONS


def _words(problem: Problem) -> str:
    if problem == "regression":
        return "Predicted against true values, in their unit; on the grey line the two are equal."
    mean = {"multilabel": ", means over the labels", "multiclass": ", means of each class against the rest"}
    words = (
        f"The areas under the first two curves are AUROC and AUPRC{mean.get(problem, '')}. Points"
        f" within {TOLERANCE} of the line that the others make are left out. Calibration: accuracy of the predictions"
        f" whose confidence, the probability of what is predicted, is in one of {CALIBRATION_BINS} bins; on the"
        " grey line the two are equal."
    )
    if problem != "multilabel":
        words += (
            " Matrices: rows by true and predicted class, the bluer the larger their fraction of the true class (for"
            f" up to {CLASSES_DRAWN} classes, with numbers for up to {CLASSES_WITH_COUNTS})."
        )
    return words


def _values(models: Sequence[TestedModel], metric: str) -> str:
    values = [(model.label, model.value(metric)) for model in models]
    return listed([f"{label} {'undefined' if v is None else as_printed(v, metric)}" for label, v in values])


def _counts(model: TestedModel) -> str:
    names, counts = model.runs[0].target.names, confusion(model.runs)
    return ", ".join(
        f"true {true} as {predicted} {counts[row, column]:,.0f}"
        for row, true in enumerate(names)
        for column, predicted in enumerate(names)
    )
