"""The report of an evaluation: means over seeds beside the published columns, for screen and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, sqrt
from statistics import stdev

from cmgems_cli.comparing.published import (
    GROUPS,
    STATE_OF_THE_ART,
    PublishedScore,
    group_of,
    published_column,
    published_models,
    sota_share,
)
from cmgems_cli.comparing.scores import PRINTED_DECIMALS, Score, as_printed, in_print, rounded

# What each benchmark is judged by in the paper.
MAIN_METRIC = {"gue": "mcc", "fewshot": "accuracy"}
# paper: Table 2 (10K steps) and Table 6 (1K steps) hold GUE, Table 4 the few-shot datasets.
GUE_TABLES = (2, 6)
FEWSHOT_TABLE = 4

Key = tuple[str, int | None]
Values = dict[Key, list[float]]


@dataclass(frozen=True)
class ReportTable:
    """One table of a report.

    Attributes
    ----------
    title : str
    columns : list of str
    rows : list of lists of str or None
        None: there is no value.
    wide : bool
        Too many columns for a screen: for the file alone.
    """

    title: str
    columns: list[str]
    rows: list[list[str | None]]
    wide: bool = False


@dataclass(frozen=True)
class Report:
    """What an evaluation found.

    Attributes
    ----------
    title : str
    tables : list of ReportTable
    notes : list of str
        What a reader of the numbers should know.
    """

    title: str
    tables: list[ReportTable]
    notes: list[str] = field(default_factory=list)


def make_report(
    bench: str,
    model: str,
    scores: Sequence[Score],
    baseline: Sequence[Score] | None = None,
    missing: Mapping[str, str] | None = None,
) -> Report:
    """Make the report of a model's scores.

    Parameters
    ----------
    bench : str
        gue or fewshot.
    model : str
        The model's name.
    scores : sequence of Score
        Of this model, of any tasks and seeds; at least one.
    baseline : sequence of Score, optional
        Of the same architecture from random weights.
    missing : mapping, task -> str, optional
        Tasks without data, and why.
    """
    make = _gue if bench == "gue" else _fewshot
    report = make(model, scores, baseline)
    report.notes.extend(_notes(bench, scores, baseline, missing or {}))
    return report


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    parts = [f"# {report.title}"]
    for table in report.tables:
        lines = [table.columns, ["---"] + ["---:"] * (len(table.columns) - 1)]
        lines += [["–" if cell is None else cell for cell in row] for row in table.rows]
        parts += [f"## {table.title}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    if report.notes:
        parts += ["## Notes", "\n".join(f"- {note}" for note in report.notes)]
    return "\n\n".join(parts) + "\n"


# ------------------------------------------------------------------ GUE


def _gue(model: str, scores: Sequence[Score], baseline: Sequence[Score] | None) -> Report:
    mcc, accuracy, f1 = (_values(scores, metric) for metric in ("mcc", "accuracy", "f1"))
    beside = _values(baseline or [], "mcc")
    tasks = _tasks(scores)
    tables = [_per_task(model, tasks, mcc, accuracy, f1, beside), _per_species(model, tasks, mcc, beside)]
    shares = [
        (group, share)
        for group in GROUPS
        if (share := sota_share({task: _mean(mcc[task, None]) for task in tasks}, group))
    ]
    if shares:
        tables.append(
            ReportTable(
                "Share of the best published model",
                ["species", "tasks", model, "best published", "MCC × 100", "share"],
                [
                    [
                        group,
                        str(share.n_tasks),
                        as_printed(share.mean, "mcc"),
                        share.best_model,
                        as_printed(share.best_mean, "mcc"),
                        f"{rounded(100 * share.share, 2)} %",
                    ]
                    for group, share in shares
                ],
            )
        )
    tables += [_beside_published(model, tasks, mcc, table) for table in GUE_TABLES]
    return Report(f"GUE: {model}", tables)


def _per_task(
    model: str, tasks: Mapping[str, str], mcc: Values, accuracy: Values, f1: Values, beside: Values
) -> ReportTable:
    columns = ["task", "species", "runs", "MCC × 100", "accuracy", "macro-F1"]
    columns += ["random weights"] if beside else []
    rows: list[list[str | None]] = []
    for task, species in tasks.items():
        key = (task, None)
        row = [task, species, str(len(mcc[key])), _spread(mcc[key], "mcc")]
        row += [_spread(accuracy[key], "accuracy"), _spread(f1[key], "f1")]
        best = _best_published(task)
        rows.append(
            [
                *row,
                *([_spread(beside.get(key), "mcc")] if beside else []),
                None if best is None else as_printed(best, "mcc"),
                None if best is None or best <= 0 else f"{rounded(100 * _mean(mcc[key]) / best, 1)} %",
            ]
        )
    return ReportTable(f"{model}: test scores by task", [*columns, "best published", "share"], rows)


def _best_published(task: str) -> float | None:
    """Return the best MCC of the state-of-the-art models on a task (paper, Table 2)."""
    cells = (published_column(name, GUE_TABLES[0]).get((task, None)) for name in STATE_OF_THE_ART)
    values = [cell.score.value for cell in cells if cell]
    return max(values) if values else None


def _per_species(model: str, tasks: Mapping[str, str], mcc: Values, beside: Values) -> ReportTable:
    """Return means over tasks: this model, its baseline and the published ones, over the same tasks."""
    parts = {
        species: [task for task in tasks if tasks[task] == species]
        for species in dict.fromkeys(tasks.values())
    }
    if len([species for species in parts if group_of(species) != "human"]) > 1:
        parts["non-human"] = [task for task in tasks if group_of(tasks[task]) != "human"]
    if len(parts) > 1:
        parts["all"] = list(tasks)
    ours = {task: _mean(mcc[task, None]) for task in tasks}
    rows: list[list[str | None]] = [[model, *(_over_tasks(ours, part) for part in parts.values())]]
    if beside:
        others = {task: _mean(beside[task, None]) for task in tasks if (task, None) in beside}
        rows.append(["random weights", *(_over_tasks(others, part) for part in parts.values())])
    for name in dict.fromkeys(name for table in GUE_TABLES for name in published_models(table)):
        column = {
            task: cell.score.value
            for table in reversed(GUE_TABLES)
            for (task, _), cell in published_column(name, table).items()
        }
        rows.append([f"paper: {name}", *(_over_tasks(column, part) for part in parts.values())])
    titles = [f"{name} ({len(part)})" for name, part in parts.items()]
    return ReportTable("MCC × 100: mean ± sd over tasks", ["model", *titles], rows)


def _over_tasks(values: Mapping[str, float], tasks: Sequence[str]) -> str | None:
    """Return mean ± population sd, as the paper's Table 3 gives it; None unless every task has a value."""
    if not tasks or any(task not in values for task in tasks):
        return None
    chosen = [values[task] for task in tasks]
    mean = _mean(chosen)
    sd = sqrt(fsum((value - mean) ** 2 for value in chosen) / len(chosen))
    text = as_printed(mean, "mcc")
    return text if len(chosen) == 1 else f"{text} ± {as_printed(sd, 'mcc')}"


def _beside_published(model: str, tasks: Mapping[str, str], mcc: Values, table: int) -> ReportTable:
    names = published_models(table)
    columns = {name: published_column(name, table) for name in names}
    rows: list[list[str | None]] = []
    for task in tasks:
        cells = [columns[name].get((task, None)) for name in names]
        if any(cells):
            printed = [as_printed(cell.score.value, "mcc") if cell else None for cell in cells]
            rows.append([task, as_printed(_mean(mcc[task, None]), "mcc"), *printed])
    return ReportTable(
        f"MCC × 100 beside Table {table} of the paper", ["task", model, *names], rows, wide=True
    )


# ------------------------------------------------------------------ few-shot


def _fewshot(model: str, scores: Sequence[Score], baseline: Sequence[Score] | None) -> Report:
    accuracy, mcc = _values(scores, "accuracy"), _values(scores, "mcc")
    beside = _values(baseline or [], "accuracy")
    names = published_models(FEWSHOT_TABLE)
    published = {name: published_column(name, FEWSHOT_TABLE) for name in names}
    # The models Table 4 is about: DNABERT as published, and the paper's own.
    chosen = [name for name in (names[0], names[-1]) if name in published]
    columns = ["dataset", "shots", "runs", "accuracy", "MCC × 100"]
    rows: list[list[str | None]] = []
    wide: list[list[str | None]] = []
    for key in accuracy:
        task, shots = key
        ours = _spread(accuracy[key], "accuracy")
        row = [task, str(shots), str(len(accuracy[key])), ours, _spread(mcc[key], "mcc")]
        if beside:
            row.append(_spread(beside.get(key), "accuracy"))
        cells = {name: _cell(published[name].get(key)) for name in names}
        rows.append([*row, *(cells[name] for name in chosen)])
        wide.append([f"{task}, {shots} shots", ours, *cells.values()])
    if beside:
        columns.append("random weights")
    return Report(
        f"Few-shot: {model}",
        [
            ReportTable(
                f"{model}: test scores by dataset and shots",
                [*columns, *(f"paper: {name}" for name in chosen)],
                rows,
            ),
            ReportTable(
                f"Accuracy beside Table {FEWSHOT_TABLE} of the paper",
                ["task", model, *names],
                wide,
                wide=True,
            ),
        ],
    )


def _cell(published: PublishedScore | None) -> str | None:
    if published is None:
        return None
    text = as_printed(published.score.value, "accuracy")
    return text if published.sd is None else f"{text} ± {as_printed(published.sd, 'accuracy')}"


# ------------------------------------------------------------------ both


def _values(scores: Iterable[Score], metric: str) -> Values:
    """Return the values of a metric by (task, shots), one a seed."""
    values: Values = {}
    for score in scores:
        if score.metric == metric:
            values.setdefault((score.task, score.shots), []).append(score.value)
    return values


def _tasks(scores: Iterable[Score]) -> dict[str, str]:
    """Return the species of each task, in the order of the scores."""
    return {score.task: score.species for score in scores}


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _spread(values: Sequence[float] | None, metric: str) -> str | None:
    """Return mean ± sample sd over runs, as the paper prints this metric; the mean alone of one run."""
    if not values:
        return None
    text = as_printed(_mean(values), metric)
    if len(values) == 1:
        return text
    sd = rounded(in_print(stdev(values), metric), PRINTED_DECIMALS[metric])
    return f"{text} ± {sd}"


def _notes(
    bench: str, scores: Sequence[Score], baseline: Sequence[Score] | None, missing: Mapping[str, str]
) -> list[str]:
    main = [score for score in scores if score.metric == MAIN_METRIC[bench]]
    seeds = {score.seed for score in main}
    notes = ["± over runs is the sample standard deviation over seeds, over tasks the population's."]
    if len(seeds) == 1:
        notes.append("One seed: differences between models of a point or two may be chance; add --seeds.")
    if baseline is None:
        notes.append(
            "No baseline: evaluate the same architecture from random weights (--init random) to see what"
            " pretraining gave."
        )
    elif {(s.task, s.shots) for s in main} - {(s.task, s.shots) for s in baseline}:
        notes.append("The baseline lacks some of the tasks.")
    collapsed = [score for score in main if score.note.startswith("one class")]
    if collapsed:
        named = ", ".join(dict.fromkeys(score.task for score in collapsed))
        notes.append(
            f"Collapsed, one class predicted for every row: {len(collapsed)} of {len(main)} runs ({named})."
        )
    by_note: dict[str, dict[str, None]] = {}
    for score in main:
        for note in score.note.split("; "):
            if note and not note.startswith("one class"):
                shots = "" if score.shots is None else f" {score.shots} shots"
                by_note.setdefault(note, {})[f"{score.task}{shots}"] = None
    notes += [f"{', '.join(tasks)}: {note}." for note, tasks in by_note.items()]
    notes += [f"Not run, {name}: {why}." for name, why in missing.items()]
    return notes
