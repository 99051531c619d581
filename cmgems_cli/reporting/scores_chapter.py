"""Scores in a report: models side by side, the paper's Figures 3 and 4, differences, mean ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.comparing.evaluated_runs import evaluated_runs
from cmgems_cli.comparing.grouping import (
    Runs,
    TaskKey,
    by_task,
    key_of,
    mean,
    mean_sd_text,
    means,
    span,
    standard_deviation,
)
from cmgems_cli.comparing.pairing import PAPER
from cmgems_cli.comparing.published import GROUPS, fraction_of_best, published_column, published_tasks
from cmgems_cli.comparing.scores import KMER_LINEAR, Score, as_printed, in_print
from cmgems_cli.comparing.tables import BEST, ReportTable, make_report, no_linear, no_random_weights
from cmgems_cli.comparing.trials_table import trials_table
from cmgems_cli.datasets.benchmark import Benchmark
from cmgems_cli.metrics import metric_of
from cmgems_cli.readable import counted
from cmgems_cli.reporting import figures
from cmgems_cli.reporting.comparison_chapter import Compared, comparison_parts, file_name
from cmgems_cli.reporting.elements import Folded, Notes, Part, Picture, Section, Table, Text, listed
from cmgems_cli.reporting.plot_style import rendered, style
from cmgems_cli.reporting.predictions_chapter import prediction_parts
from cmgems_cli.reporting.sources import PUBLISHED, Run, benchmarks_of

Tasks = Mapping[TaskKey, Runs]


def score_sections(
    runs: Sequence[Run], colours: Mapping[str, int], comparisons: Mapping[str, Compared]
) -> list[Section]:
    """Return a section for each benchmark that any run has scores of.

    Parameters
    ----------
    runs : sequence of Run
        All of the report's: models too, since Figure 4 needs their mask rates.
    colours : mapping, label -> int
        Colour number of a model in every picture.
    comparisons : mapping, benchmark -> Compared
        From `compare_runs`.
    """
    return [
        _section(benchmark, runs, colours, comparisons.get(name))
        for name, benchmark in benchmarks_of(runs).items()
    ]


def _section(
    benchmark: Benchmark, runs: Sequence[Run], colours: Mapping[str, int], compared: Compared | None
) -> Section:
    bench = benchmark.name
    # In the order given, since the others are compared with the last one.
    scored = [run for run in runs if run.scores(bench)]
    own = [run for run in scored if run.kind == "scores"]
    table = _side_by_side(benchmark, scored)
    with_paper = any(column.startswith(PAPER) for column in table.table.columns)
    parts: list[Part] = [table, _meaning(benchmark, scored, with_paper=with_paper)]
    if missing := _missing(benchmark, scored):
        parts.append(Notes(missing))
    if benchmark.published.best_of and own:
        parts += _fractions(benchmark, own, colours)
    parts += _mask_rates(benchmark, own, runs)
    if compared is not None:
        parts += comparison_parts(benchmark, scored, colours, compared)
    parts += prediction_parts(own, colours, bench)
    reports = {run.label: _in_full(benchmark, run, runs) for run in own}
    parts += [
        Folded(f"{label}: all tables of its evaluation", tables) for label, (tables, _) in reports.items()
    ]
    parts += _notes({label: notes for label, (_, notes) in reports.items()})
    return Section(f"Scores: {benchmark.title}", parts)


def _grouped(benchmark: Benchmark, run: Run) -> dict[TaskKey, dict[int | None, float]]:
    return by_task(run.scores(benchmark.name), benchmark.metric)


def _side_by_side(benchmark: Benchmark, runs: Sequence[Run]) -> Table:
    """Return one row per task, one column per model, and columns of the paper."""
    metric, published = benchmark.metric, benchmark.published
    columns = {run.label: _grouped(benchmark, run) for run in runs}
    if linear := _linear(benchmark, runs):
        columns[KMER_LINEAR] = by_task(linear, metric)
    own_keys = [key for run in runs if run.kind == "scores" for key in columns[run.label]]
    keys = list(dict.fromkeys(own_keys or [key for column in columns.values() for key in column]))
    titles = [f"{label} ({_n_runs(column, keys)})" for label, column in columns.items()]
    given = {run.source.model for run in runs if run.kind == PUBLISHED and run.source}
    paper = {
        f"paper: {name}": {
            key: cell.score.value for key, cell in published_column(name, published.tables[0]).items()
        }
        for name in published.columns
        if name not in given
    }
    paper = {name: cells for name, cells in paper.items() if cells.keys() & set(keys)}
    rows: list[list[str | None]] = [
        [
            key.label,
            *(mean_sd_text(column.get(key, {}).values(), metric, sample=True) for column in columns.values()),
            *(as_printed(cells[key], metric) if key in cells else None for cells in paper.values()),
        ]
        for key in keys
    ]
    if len(keys) > 1:
        every = [*map(means, columns.values()), *paper.values()]
        rows.append([f"mean of the {len(keys)}", *(_over(column, keys, metric) for column in every)])
    sources = [run.tag for run in runs] + ([f"paper, Table {published.tables[0]}"] if paper else [])
    title = f"{metric_of(metric).heading} on the test split"
    return Table(ReportTable(title, ["task", *titles, *paper], rows), sources)


def _linear(benchmark: Benchmark, runs: Sequence[Run]) -> list[Score]:
    """Return the scores of `kmer-linear` that the evaluations of these models made; empty if it is among the models."""
    if any(score.model == KMER_LINEAR for run in runs for score in run.scores(benchmark.name)):
        return []
    made = [score for run in runs for score in run.linear(benchmark.name)]
    # Each evaluation has them; equal rows give equal scores.
    return list({(key_of(score), score.seed, score.metric): score for score in reversed(made)}.values())


def _missing(benchmark: Benchmark, runs: Sequence[Run]) -> list[str]:
    """Return which baselines none of these runs has, and how to make them."""
    notes = []
    models = {score.model for run in runs for score in run.scores(benchmark.name)}
    own = [run for run in runs if run.kind == "scores"]
    if own and KMER_LINEAR not in models and not _linear(benchmark, runs):
        notes.append(no_linear(benchmark))
    if own and models != {KMER_LINEAR} and not any(run.from_random_weights for run in runs):
        notes.append(no_random_weights(benchmark))
    return notes


def _n_runs(column: Tasks, keys: Sequence[TaskKey]) -> str:
    runs = [column[key] for key in keys if key in column]
    if not runs or any(None in one for one in runs):
        return "published"
    numbers = span(map(len, runs))
    return f"{numbers} run{'' if numbers == '1' else 's'}"


def _over(values: Mapping[TaskKey, float], keys: Sequence[TaskKey], metric: str) -> str | None:
    """Return the mean over tasks of a model that has them all."""
    return as_printed(mean(values[key] for key in keys), metric) if values.keys() >= set(keys) else None


def _meaning(benchmark: Benchmark, runs: Sequence[Run], *, with_paper: bool) -> Text:
    scores = [score for run in runs for score in run.scores(benchmark.name)]
    seeds = sorted({score.seed for score in scores if score.seed is not None})
    words = "± is the sample standard deviation over fine-tuning runs"
    words += f" (seeds {', '.join(map(str, seeds))}); models were pretrained once." if seeds else "."
    if len(seeds) == 1:
        words = f"One fine-tuning run each (seed {seeds[0]}): a difference of a point or two may be chance."
    if any(score.shots is not None for score in scores):
        words += " Every run draws its own training rows where the pool allows it."
    words += " A dash: no value. Means are given for models that have every task."
    return Text(words + (" The paper's values are as printed." if with_paper else ""))


# ------------------------------------------------------------------ Figure 3


def _fractions(benchmark: Benchmark, runs: Sequence[Run], colours: Mapping[str, int]) -> list[Part]:
    """Draw the paper's Figure 3 for these models; the published ones over the same tasks."""
    metric, published = benchmark.metric, benchmark.published
    columns = {run.label: _grouped(benchmark, run) for run in runs}
    common = set.intersection(*(set(column) for column in columns.values()))
    groups: dict[str, tuple[str, list[figures.Bar]]] = {}
    alt = []
    for group in GROUPS:
        bars = []
        for label, column in columns.items():
            tasks = {key: column[key] for key in column if key in common}
            ours = fraction_of_best(means(tasks), group, published)
            if ours is None:
                continue
            sd = _sd_of_fraction(benchmark, tasks, group)
            bars.append(figures.Bar(label, colours[label], ours.fraction, sd))
            title = f"{group}, {counted(ours.n_tasks, 'task')}"
            best = f"{ours.best_model}, {as_printed(ours.best_mean, metric)}"
        if not bars:
            continue
        for name in published.columns:
            cells = published_column(name, published.tables[0])
            values = {key: cell.score.value for key, cell in cells.items() if key in common}
            theirs = fraction_of_best(values, group, published)
            if theirs is not None:
                bars.append(figures.Bar(f"paper: {name}", 0, theirs.fraction, None, own=False))
        groups[title] = (best, bars)
        alt.append(f"{group}: " + ", ".join(f"{bar.label} {100 * bar.value:.1f} %" for bar in bars))
    if not groups:
        return []
    with style():
        svg, png = rendered(figures.fractions_of_best(groups))
    title = f"Fraction of the {BEST}"
    caption = (
        f"{title} (the paper's Figure 3, from these runs): mean {metric_of(metric).printed_title} over the tasks of a"
        " species group, divided by the best mean over the same tasks among"
        f" {listed(published.best_of)} as published. Bars: mean over fine-tuning seeds; whiskers: ± sample standard"
        " deviation over the seeds that every task has, if there are two or more. Dashed: 90 %, the paper's mark."
        " Hatched: the paper's own models over the same tasks."
    )
    table = published.tables[0]
    if any(not common.issuperset(published_tasks(group, table)) for group in GROUPS):
        every = ", ".join(f"{len(published_tasks(group, table))} {group}" for group in GROUPS)
        caption += f" These are not all of the paper's tasks ({every})."
    if any(set(column) != common for column in columns.values()):
        caption += f" Only the {counted(len(common), 'task')} that all of the models have are counted."
    sources = [*(run.tag for run in runs), f"paper, Table {table}"]
    return [Picture("share-of-best", title, caption, "; ".join(alt) + ".", svg, png, sources)]


def _sd_of_fraction(benchmark: Benchmark, tasks: Tasks, group: str) -> float | None:
    each = [fraction_of_best(values, group, benchmark.published) for values in _by_common_seed(tasks)]
    return standard_deviation([one.fraction for one in each if one], sample=True)


def _by_common_seed(tasks: Tasks) -> list[dict[TaskKey, float]]:
    """Return the values of each seed that every task has."""
    seeds = set.intersection(*(set(runs) for runs in tasks.values()))
    return [{key: runs[seed] for key, runs in tasks.items()} for seed in seeds]


# ------------------------------------------------------------------ Figure 4


def _mask_rates(benchmark: Benchmark, own: Sequence[Run], runs: Sequence[Run]) -> list[Part]:
    """Draw the paper's Figure 4 if scored models of several mask rates are among the runs."""
    metric = metric_of(benchmark.metric)
    model_of = {run.made.digest: run for run in runs if run.kind == "model"}
    scored = [(run, m) for run in own if (m := model_of.get(run.made.inputs.get("model", "")))]
    if len({model.made.params["mask_rate"] for _, model in scored}) < 2:
        return []
    columns = [_grouped(benchmark, run) for run, _ in scored]
    keys = sorted(set.intersection(*(set(column) for column in columns)), key=lambda key: key.label)
    if not keys:
        return [
            Notes(["The models of different mask rates have no task in common: no picture of the mask rate."])
        ]
    lines: dict[str, list[tuple[int, float, float | None]]] = {}
    for (_, model), column in zip(scored, columns, strict=True):
        params, tasks = model.made.params, {key: column[key] for key in keys}
        label = f"{params['model']} {params['strategy']}, {100 * params['mask_rate']:g} %"
        value = in_print(mean(means(tasks).values()), metric.name)
        each = [in_print(mean(values.values()), metric.name) for values in _by_common_seed(tasks)]
        lines.setdefault(label, []).append((params["steps"], value, standard_deviation(each, sample=True)))
    with style():
        svg, png = rendered(figures.mask_rates(lines, f"mean {metric.printed_title}"))
    shown = "; ".join(
        f"{label}: " + ", ".join(f"{value:.3g} at {steps:,} steps" for steps, value, _ in sorted(points))
        for label, points in lines.items()
    )
    caption = (
        f"Mask rate (the paper's Figure 4, from these runs): mean {metric.printed_title} over"
        f" {counted(len(keys), 'task')} ({'; '.join(key.label for key in keys)}) by steps of pretraining, one line"
        " per model, strategy and mask rate. Whiskers: ± sample standard deviation over fine-tuning seeds; each"
        " model was pretrained once."
    )
    sources = [tag for run, model in scored for tag in (run.tag, model.tag)]
    name = f"mask-rate-{file_name(benchmark.name)}"
    return [Picture(name, "Mask rate", caption, f"{shown}.", svg, png, list(dict.fromkeys(sources)))]


# ------------------------------------------------------------------ each model in full


def _in_full(benchmark: Benchmark, run: Run, runs: Sequence[Run]) -> tuple[list[Part], list[str]]:
    """Return the evaluation's own tables, folded, and its notes."""
    baseline = _baseline(benchmark, run, runs)
    report = make_report(
        benchmark,
        run.label,
        run.scores(benchmark.name),
        baseline.scores(benchmark.name) if baseline else None,
        dict.fromkeys(run.made.stats.get("missing_tasks", []), "no data"),
        random_weights=run.from_random_weights,
        linear=run.linear(benchmark.name) or None,
    )
    sources = [run.tag, *([baseline.tag] if baseline else [])]
    tables: list[Part] = [
        Table(replace(table, title=_titled(run, table.title)), sources + _of_paper(table))
        for table in report.tables
    ]
    made = {
        f"{one.key.label}, seed {one.seed}": read_manifest(one.folder)
        for one in evaluated_runs(run.folder)
        if one.key.bench == benchmark.name
    }
    if trials := trials_table(made):
        tables.append(Table(replace(trials, title=_titled(run, trials.title)), [run.tag]))
    # Those about all models are stated once, above.
    notes = [
        note
        for note in report.notes
        if not note.startswith(("±", "One seed", "No baseline", f"No {KMER_LINEAR}"))
    ]
    return tables, notes


def _of_paper(table: ReportTable) -> list[str]:
    """Return the paper's tables that a table has values of, as a source."""
    numbers = [str(number) for number in table.published]
    return [f"paper, Table{'s' if len(numbers) > 1 else ''} {listed(numbers)}"] if numbers else []


def _notes(notes: Mapping[str, Sequence[str]]) -> list[Part]:
    """Return the notes of all models, those that all have in common once."""
    shared = [
        note for note in next(iter(notes.values()), []) if all(note in others for others in notes.values())
    ]
    own = [f"{label}: {note}" for label, of_model in notes.items() for note in of_model if note not in shared]
    return [Notes([*shared, *own])] if shared or own else []


def _titled(run: Run, title: str) -> str:
    return title if run.label in title else f"{run.label}: {title}"


def _baseline(benchmark: Benchmark, run: Run, runs: Sequence[Run]) -> Run | None:
    """Return the scores of random weights of the same architecture, if they are among the runs."""
    model = next(
        (r for r in runs if r.kind == "model" and r.made.digest == run.made.inputs.get("model")), None
    )
    if run.from_random_weights or model is None:
        return None
    fitting = (
        other
        for other in runs
        if other.kind == "scores"
        and other.from_random_weights
        and other.scores(benchmark.name)
        and other.made.params.get("model") == model.made.params.get("model")
    )
    return next(fitting, None)
