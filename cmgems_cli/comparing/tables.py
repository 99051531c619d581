"""The report of an evaluation: means over seeds, with published columns, for the screen and as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cmgems_cli.comparing.grouping import Runs, TaskKey, by_task, key_of, mean_sd_text, means, with_sd
from cmgems_cli.comparing.published import (
    GROUPS,
    PublishedScore,
    best_published,
    fraction_of_best,
    group_of,
    published_column,
    published_models,
)
from cmgems_cli.comparing.scores import KMER_LINEAR, Score, as_printed, rounded
from cmgems_cli.datasets import leakage
from cmgems_cli.datasets.benchmark import Benchmark
from cmgems_cli.errors import InputError
from cmgems_cli.markdown import escaped, table
from cmgems_cli.metrics import METRICS, metric_of

RANDOM_WEIGHTS = "random weights"
BEST = "best k-mer model of the paper"
# Notes of scores, of classes and of a regression.
COLLAPSED = ("one class predicted for every row", "one value predicted for every row")


@dataclass(frozen=True)
class ReportTable:
    """One table of a report.

    Attributes
    ----------
    title : str
    columns : list of str
    rows : list of lists of str or None
        None: no value.
    wide : bool
        Too many columns for a screen: only written to files.
    published : tuple of int
        Tables of the paper whose values it shows.
    """

    title: str
    columns: list[str]
    rows: list[list[str | None]]
    wide: bool = False
    published: tuple[int, ...] = ()


@dataclass(frozen=True)
class Report:
    """The results of an evaluation.

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


@dataclass(frozen=True)
class _Results:
    """The scores of an evaluation, grouped."""

    benchmark: Benchmark
    model: str
    scores: Sequence[Score]
    baseline: Sequence[Score]
    linear: Sequence[Score]

    @property
    def metric(self) -> str:
        """The benchmark's, or the first that there is if that is for tasks of another kind."""
        main, names = metric_of(self.benchmark.metric), {score.metric for score in self.scores}
        alike = any(main.problems & METRICS[name].problems for name in names if name in METRICS)
        found = next((name for name in METRICS if name in names), None)
        return main.name if alike or found is None else found

    @property
    def tasks(self) -> list[TaskKey]:
        return list(dict.fromkeys(map(key_of, self.scores)))

    @property
    def metrics(self) -> list[str]:
        """The main metric first."""
        names = {score.metric for score in self.scores}
        return [name for name in dict.fromkeys([self.metric, *METRICS]) if name in names]

    def of_width(self, *, wide: bool) -> list[str]:
        """Return the metrics of the table for a screen, or of the one that is only written to files."""
        return [one for one in self.metrics if (one == self.metric or METRICS[one].shown) != wide]

    @property
    def groups(self) -> dict[TaskKey, str]:
        return {key_of(score): score.species for score in self.scores}


def make_report(
    benchmark: Benchmark,
    model: str,
    scores: Sequence[Score],
    baseline: Sequence[Score] | None = None,
    missing: Mapping[str, str] | None = None,
    *,
    random_weights: bool = False,
    linear: Sequence[Score] | None = None,
) -> Report:
    """Make the report of a model's scores.

    Parameters
    ----------
    benchmark : Benchmark
        Its main metric comes first, and its published columns are shown.
    model : str
        The model's name.
    scores : sequence of Score
        Of this model, of any tasks and seeds; at least one.
    baseline : sequence of Score, optional
        Of the same architecture from random weights.
    missing : mapping, task -> str, optional
        Tasks without data, and why.
    random_weights : bool, default False
        The model is itself a baseline of random weights.
    linear : sequence of Score, optional
        Of the baseline `kmer-linear`.

    Raises
    ------
    InputError
        If there is no score of the benchmark's main metric.
    """
    results = _Results(benchmark, model, scores, baseline or [], linear or [])
    if results.metric not in results.metrics:
        raise InputError(
            f"the scores of {model} have no {results.metric}, which {benchmark.title} is judged by"
        )
    tables = [
        _by_task(results),
        _further(results),
        _over_tasks(results),
        _fractions(results),
        *(_with_published(results, number) for number in benchmark.published.tables),
    ]
    wants_baseline = baseline is None and not random_weights and model != KMER_LINEAR
    notes = _notes(results, missing or {}, wants_baseline=wants_baseline)
    if linear is None and model != KMER_LINEAR:
        notes.append(no_linear(benchmark))
    return Report(f"{benchmark.title}: {model}", [one for one in tables if one.rows], notes)


def no_linear(benchmark: Benchmark) -> str:
    """Return the sentence that says how to get the scores of `kmer-linear`, which a report lacks."""
    return (
        f"No {KMER_LINEAR}: scores of logistic regression on k-mer counts are missing; `cmgems evaluate {KMER_LINEAR}"
        f" --bench {_named(benchmark)}` makes them."
    )


def no_random_weights(benchmark: Benchmark) -> str:
    """Return the sentence that says how to get the scores of random weights, which a report lacks."""
    return (
        "No baseline: evaluate the same architecture from random weights to see the effect of pretraining: `cmgems"
        f" evaluate MODEL --init random --bench {_named(benchmark)}`."
    )


def _named(benchmark: Benchmark) -> str:
    """Return what --bench has to be given; what a user's own was given is not recorded."""
    return benchmark.name if benchmark.shipped else "BENCH"


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    parts = [f"# {escaped(report.title)}"]
    for one in report.tables:
        parts += [f"## {escaped(one.title)}", table(one.columns, one.rows, numbers=True)]
    if report.notes:
        parts += ["## Notes", "\n".join(f"- {escaped(note)}" for note in report.notes)]
    return "\n\n".join(parts) + "\n"


# ------------------------------------------------------------------ tables


def _by_task(results: _Results) -> ReportTable:
    """Return one row per task, one column per metric; columns without any value are left out."""
    tasks, groups, metric = results.tasks, results.groups, results.metric
    values = {name: by_task(results.scores, name) for name in results.of_width(wide=False)}
    baseline = by_task(results.baseline, metric)
    with_shots = any(key.shots is not None for key in tasks)
    # A column of one group says nothing where the number of shots tells the rows apart.
    with_groups = not with_shots or len(set(groups.values())) > 1
    columns: dict[str, list[str | None]] = {
        "task": [key.task for key in tasks],
        "group": [groups[key] or None if with_groups else None for key in tasks],
        "shots": [None if key.shots is None else str(key.shots) for key in tasks],
        "runs": [str(max(len(column.get(key, {})) for column in values.values())) for key in tasks],
        **{metric_of(name).printed_title: _spreads(column, tasks, name) for name, column in values.items()},
        KMER_LINEAR: _spreads(by_task(results.linear, metric), tasks, metric),
        RANDOM_WEIGHTS: _spreads(baseline, tasks, metric),
        **(published := _published_columns(results, means(values[metric]))),
    }
    shown = {title: column for title, column in columns.items() if any(column)}
    rows = [list(row) for row in zip(*shown.values(), strict=True)]
    title = f"{results.model}: test scores by task{' and shots' if with_shots else ''}"
    tables = results.benchmark.published.tables[:1] if published.keys() & shown.keys() else ()
    return ReportTable(title, list(shown), rows, published=tables)


def _further(results: _Results) -> ReportTable:
    """Return one row per task with the metrics that the first table leaves out."""
    columns = {
        metric_of(name).heading: _spreads(by_task(results.scores, name), results.tasks, name)
        for name in results.of_width(wide=True)
    }
    labels = [key.label for key in results.tasks]
    rows = [list(row) for row in zip(labels, *columns.values(), strict=True)] if columns else []
    return ReportTable(f"{results.model}: further metrics", ["task", *columns], rows, wide=True)


def _spreads(column: Mapping[TaskKey, Runs], tasks: Sequence[TaskKey], metric: str) -> list[str | None]:
    return [mean_sd_text(column.get(key, {}).values(), metric, sample=True) for key in tasks]


def _published_columns(results: _Results, ours: Mapping[TaskKey, float]) -> dict[str, list[str | None]]:
    """Return the best published model and the fraction of it, or the columns that the benchmark shows."""
    published, metric = results.benchmark.published, results.metric
    if published.best_of:
        best = {key: found[1] for key in results.tasks if (found := best_published([key], published))}
        return {
            BEST: [as_printed(best[key], metric) if key in best else None for key in results.tasks],
            "fraction": [
                _percent(ours[key] / best[key], 1) if key in ours and best.get(key, 0) > 0 else None
                for key in results.tasks
            ],
        }
    cells = {f"paper: {name}": published_column(name, published.tables[0]) for name in published.columns}
    return {name: _printed_cells(column, results.tasks, metric) for name, column in cells.items()}


def _printed_cells(
    column: Mapping[TaskKey, PublishedScore], tasks: Sequence[TaskKey], metric: str
) -> list[str | None]:
    return [
        with_sd(cell.score.value, cell.sd, metric) if (cell := column.get(key)) else None for key in tasks
    ]


def _over_tasks(results: _Results) -> ReportTable:
    """Return means over tasks: of this model, of its baseline and of the published ones, over the same tasks."""
    metric, published = results.metric, results.benchmark.published
    parts = _parts(results) if len({key.task for key in results.tasks}) > 1 else {}
    columns = {results.model: means(by_task(results.scores, metric))}
    if results.linear:
        columns[KMER_LINEAR] = means(by_task(results.linear, metric))
    if results.baseline:
        columns[RANDOM_WEIGHTS] = means(by_task(results.baseline, metric))
    own = set(columns)
    for name in dict.fromkeys(name for number in published.tables for name in published_models(number)):
        columns[f"paper: {name}"] = {
            key: cell.score.value
            for number in reversed(published.tables)
            for key, cell in published_column(name, number).items()
        }
    rows = [
        [name, *(_over(column, part, metric) for part in parts.values())] for name, column in columns.items()
    ]
    shown = [row for row in rows if any(row[1:])]
    titles = [f"{name} ({len(part)})" for name, part in parts.items()]
    tables = {
        # As above: the first table that has the value.
        next(number for number in published.tables if key in published_column(name, number))
        for name in (str(row[0]).removeprefix("paper: ") for row in shown if row[0] not in own)
        for key in results.tasks
        if key in columns[f"paper: {name}"]
    }
    return ReportTable(
        f"{metric_of(metric).heading}: mean ± sd over tasks",
        ["model", *titles],
        shown,
        published=tuple(sorted(tables)),
    )


def _parts(results: _Results) -> dict[str, list[TaskKey]]:
    """Return the sets of tasks that means are taken over: by shots or by group, and all together."""
    tasks, groups = results.tasks, results.groups
    parts: dict[str, list[TaskKey]] = {}
    for key in tasks:
        name = groups[key] if key.shots is None else f"{key.shots} shots"
        if name:
            parts.setdefault(name, []).append(key)
    if results.benchmark.published.best_of and len(parts.keys() - {GROUPS[0]}) > 1:
        parts[GROUPS[1]] = [key for key in tasks if group_of(groups[key]) == GROUPS[1]]
    if not any(len(part) == len(tasks) for part in parts.values()):
        parts["all"] = tasks
    return parts


def _over(values: Mapping[TaskKey, float], tasks: Sequence[TaskKey], metric: str) -> str | None:
    """Return mean ± population sd, as in Table 3 of the paper; None unless every task has a value."""
    if any(key not in values for key in tasks):
        return None
    return mean_sd_text([values[key] for key in tasks], metric, sample=False)


def _fractions(results: _Results) -> ReportTable:
    """Return the fractions of the best published model, by the paper's groups of species (Figure 3)."""
    metric, published = results.metric, results.benchmark.published
    values = means(by_task(results.scores, metric))
    rows: list[list[str | None]] = [
        [
            group,
            str(found.n_tasks),
            as_printed(found.mean, metric),
            found.best_model,
            as_printed(found.best_mean, metric),
            _percent(found.fraction, 2),
        ]
        for group in GROUPS
        if (found := fraction_of_best(values, group, published))
    ]
    columns = ["group", "tasks", results.model, BEST, metric_of(metric).printed_title, "fraction"]
    return ReportTable(f"Fraction of the {BEST}", columns, rows, published=published.tables[:1])


def _percent(fraction: float, decimals: int) -> str:
    return f"{rounded(100 * fraction, decimals)} %"


def _with_published(results: _Results, number: int) -> ReportTable:
    """Return every column of a table of the paper next to the model's."""
    metric, names = results.metric, published_models(number)
    columns = [_printed_cells(published_column(name, number), results.tasks, metric) for name in names]
    ours = _spreads(by_task(results.scores, metric), results.tasks, metric)
    labels = [key.label for key in results.tasks]
    rows = [list(row) for row in zip(labels, ours, *columns, strict=True) if any(row[2:])]
    title = f"{metric_of(metric).heading}, with Table {number} of the paper"
    return ReportTable(title, ["task", results.model, *names], rows, wide=True, published=(number,))


# ------------------------------------------------------------------ notes


def _notes(results: _Results, missing: Mapping[str, str], *, wants_baseline: bool) -> list[str]:
    main = [score for score in results.scores if score.metric == results.metric]
    notes = ["± over runs is the sample standard deviation over seeds, over tasks the population's."]
    if len({score.seed for score in main}) == 1:
        notes.append("One seed: differences between models of a point or two may be chance; run more seeds.")
    if wants_baseline:
        notes.append(no_random_weights(results.benchmark))
    elif results.baseline and set(map(key_of, main)) - set(map(key_of, results.baseline)):
        notes.append("The baseline lacks some of the tasks.")
    collapsed = [score for score in main if score.note.startswith(COLLAPSED)]
    if collapsed:
        notes.append(
            f"Collapsed, {collapsed[0].note.split('; ')[0]}: {len(collapsed)} of {len(main)} runs"
            f" ({_labels(collapsed)})."
        )
    by_note: dict[str, list[Score]] = {}
    for score in main:
        for note in score.note.split("; "):
            if note and note not in COLLAPSED:
                by_note.setdefault(note, []).append(score)
    leaks = {note: by_note.pop(note) for note in list(by_note) if note.startswith(leakage.NOTE_START)}
    if leaks:
        counts = [
            f"{_labels(scores)} {note.removeprefix(leakage.NOTE_START)}" for note, scores in leaks.items()
        ]
        notes.append(f"{leakage.TITLE}: {'; '.join(counts)}.")
    notes += [f"{_labels(scores)}: {note}." for note, scores in by_note.items()]
    notes += [f"Not run, {name}: {why}." for name, why in missing.items()]
    return notes


def _labels(scores: Iterable[Score]) -> str:
    return "; ".join(dict.fromkeys(key_of(score).label for score in scores))
