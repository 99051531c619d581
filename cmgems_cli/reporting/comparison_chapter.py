"""Scores of two and more models in comparison: tests, differences task by task, mean ranks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt

from cmgems_cli.comparing.comparison import ModelComparison, compare_models, comparison_tables, p_text, signed
from cmgems_cli.comparing.grouping import by_task
from cmgems_cli.comparing.one_task import OneTask, announcement, compare_on_one_task, one_task_tables
from cmgems_cli.comparing.pairing import pair
from cmgems_cli.comparing.scores import in_print, rounded
from cmgems_cli.comparing.statistics import CONFIDENCE, RESAMPLES, Friedman, compare
from cmgems_cli.datasets.benchmark import Benchmark
from cmgems_cli.errors import InputError
from cmgems_cli.metrics import metric_of
from cmgems_cli.readable import counted
from cmgems_cli.reporting import figures
from cmgems_cli.reporting.elements import Notes, Part, Picture, Table
from cmgems_cli.reporting.plot_style import rendered, style
from cmgems_cli.reporting.sources import PUBLISHED, Run, benchmarks_of

# ours: fewer runs have too few different resamples for an interval to mean anything.
LEAST_SEEDS = 5

# ours: the usual level
ALPHA = 0.05


# The tests of the last run against each of the others, or why there are none. `OneTask` if they share one task, and
# its rows or seeds can be tested.
Compared = ModelComparison | OneTask | str


def comparison_parts(
    benchmark: Benchmark, runs: Sequence[Run], colours: Mapping[str, int], compared: Compared
) -> list[Part]:
    """Compare the last run with each of the others on the tasks that all have, as `cmgems ttest --common` does.

    On one task in common: over its rows and over seeds.

    Parameters
    ----------
    benchmark : Benchmark
    runs : sequence of Run
        Two or more with scores on it; the last is the reference.
    colours : mapping, label -> int
        Colour number of a model in every picture.
    compared : Compared
        From `compare_runs`.
    """
    tags = [run.tag for run in runs]
    if isinstance(compared, str):
        return [Notes([compared])]
    if isinstance(compared, OneTask):
        tables = [Table(table, tags) for table in one_task_tables(compared)]
        notes = [f"{announcement(compared)}.", *(f"{note}." for note in compared.notes)]
        return [*tables, Notes([notes[0][0].upper() + notes[0][1:], *notes[1:]])]
    parts: list[Part] = [Table(table, tags) for table in comparison_tables(compared)]
    parts.append(Notes(_remarks(compared)))
    parts += [_differences(benchmark, compared, index, runs) for index in range(len(runs) - 1)]
    if compared.ranking:
        parts.append(_ranks(benchmark, compared, compared.ranking, colours, tags))
    return parts


def compare_runs(runs: Sequence[Run], seed: int) -> dict[str, Compared]:
    """Return the comparison on each benchmark that two or more runs have scores of, by its name.

    Parameters
    ----------
    runs : sequence of Run
        The last with scores on a benchmark is the reference.
    seed : int
        Of bootstrap and sign flips.
    """
    scored = {name: [run for run in runs if run.scores(name)] for name in benchmarks_of(runs)}
    return {name: _compared(name, some, seed) for name, some in scored.items() if len(some) > 1}


def _compared(bench: str, runs: Sequence[Run], seed: int) -> Compared:
    sources = [
        replace(
            run.source,
            model=run.label,
            scores=run.scores(bench),
            folder=None if run.kind == PUBLISHED else run.folder,
        )
        for run in runs
        if run.source
    ]
    try:
        paired = pair(sources, common=True)
        if len(paired.rows) == 1:
            on_one = compare_on_one_task(sources, paired, seed=seed)
            if on_one.has_tests:
                return on_one
    except InputError as error:
        return f"Not compared: {str(error).split('; needed')[0]}."
    return compare_models(paired, seed=seed)


def file_name(name: str) -> str:
    """Return a name as part of a file's.

    >>> file_name("my bench/2")
    'my-bench-2'
    """
    return re.sub(r"[^\w.]+", "-", name)


def _remarks(compared: ModelComparison) -> list[str]:
    n_tasks = len(compared.paired.rows)
    remarks = [f"{sentence}." for sentence in [*compared.paired.left_out, *compared.notes()]]
    remarks.append(
        f"n = {counted(n_tasks, 'task')}, each a mean over its runs; difference: {compared.reference} minus the other."
        f" All tests are two-sided and paired by task. 95 % BCa: bootstrap interval of the mean difference"
        f" ({RESAMPLES:,} resamples of the tasks, seed {compared.seed}). The tests treat tasks as independent draws,"
        " which tasks of one benchmark are not entirely, and do not account for chance in pretraining."
    )
    if n_tasks < LEAST_SEEDS + 1:
        remarks.append(f"With {counted(n_tasks, 'task')} no test has much power: read the rows, not the p.")
    return remarks


def _differences(benchmark: Benchmark, compared: ModelComparison, index: int, runs: Sequence[Run]) -> Picture:
    """Draw the differences of the reference and another model, task by task."""
    paired, test, other, reference = compared.paired, compared.tests[index], runs[index], runs[-1]
    metric = metric_of(paired.metric)
    others, ours = (by_task(run.scores(benchmark.name), metric.name) for run in (other, reference))
    rows, intervals = [], 0
    for place, key in enumerate(paired.rows):
        mean = paired.columns[-1][place] - paired.columns[index][place]
        seeds = sorted(others[key].keys() & ours[key].keys() - {None}, key=str)
        pairs = [[in_print(column[key][one], metric.name) for one in seeds] for column in (others, ours)]
        alike = others[key].keys() == ours[key].keys()
        single = [b - a for a, b in zip(*pairs, strict=True)] if alike else []
        interval = None
        if len(single) >= LEAST_SEEDS:
            interval = compare(pairs, seed=compared.seed)[0].interval
            intervals += interval is not None
        rows.append(figures.Difference(key.label, mean, interval, single))
    n = len(rows)
    overall = figures.Difference(f"mean of {n}" if n > 1 else "mean", test.difference, test.interval, [])
    first, last = paired.labels[index], compared.reference
    with style():
        drawn = figures.differences(rows, overall, f"{metric.heading}: {last} minus {first}")
        svg, png = rendered(drawn)
    caption = (
        f"{metric.heading} of {last} minus {first}, task by task;"
        f" {'left' if metric.lower_is_better else 'right'} of the line {last} is better. Dots:"
        f" differences of means over fine-tuning runs ({first}: {_n_runs(other, compared, index)}; {last}:"
        f" {_n_runs(reference, compared, -1)}). "
    )
    if any(row.single for row in rows):
        caption += "Small strokes: runs of the same seed. "
    if intervals:
        caption += f"Lines: {100 * CONFIDENCE:.0f} % BCa bootstrap intervals over these runs. "
    if intervals < n:
        caption += (
            f"No interval for tasks with under {LEAST_SEEDS} pairs of runs, or whose pairs all differ alike. "
        )
    caption += "Diamond: mean over tasks"
    caption += f" with the {100 * CONFIDENCE:.0f} % BCa interval over tasks." if test.interval else "."
    alt = "; ".join(f"{row.label} {signed(row.mean, metric.decimals)}" for row in (*rows, overall))
    name = f"differences-{file_name(benchmark.name)}-{other.tag}-{reference.tag}"
    title = f"Differences: {last} minus {first}"
    return Picture(name, title, caption, f"{alt}.", svg, png, [reference.tag, other.tag])


def _n_runs(run: Run, compared: ModelComparison, index: int) -> str:
    return "as published" if run.kind == PUBLISHED else f"{compared.paired.seeds[index]} per task"


def critical_difference(n_models: int, n_rows: int) -> float:
    """Return the difference of two mean ranks that is significant by Nemenyi's test at the 5 % level.

    Parameters
    ----------
    n_models, n_rows : int
        Ranked models, at least 2, and the tasks that they were ranked on.

    Returns
    -------
    float
        q · sqrt(k (k + 1) / (6 n)), q from the studentised range (Demšar 2006, J. Mach. Learn. Res. 7).

    Examples
    --------
    >>> round(critical_difference(4, 14), 2)  # Demšar's worked example prints 1.25, with q rounded to 2.569
    1.25
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - ALPHA, n_models, float("inf"))) / sqrt(2)
    return q * sqrt(n_models * (n_models + 1) / (6 * n_rows))


def _ranks(
    benchmark: Benchmark,
    compared: ModelComparison,
    ranking: Friedman,
    colours: Mapping[str, int],
    tags: list[str],
) -> Picture:
    paired = compared.paired
    critical = critical_difference(len(paired.labels), len(paired.rows))
    ranks = dict(zip(paired.labels, ranking.mean_ranks, strict=True))
    with style():
        svg, png = rendered(figures.mean_ranks(ranks, colours, critical))
    p = "has no answer for one task" if ranking.p is None else f"p {p_text(ranking.p)}"
    caption = (
        f"Mean ranks by {metric_of(paired.metric).printed_title} over {counted(len(paired.rows), 'task')} (1 = best,"
        f" tied models get the mean of their ranks). Friedman test: chi² = {rounded(ranking.chi2, 2)}, {p}. Thick"
        f" bars join models whose mean ranks differ by less than Nemenyi's critical difference at the 5 % level,"
        f" {critical:.2f}: on these tasks the difference is not significant."
    )
    alt = "; ".join(f"{label} {rank:.2f}" for label, rank in ranks.items())
    return Picture(
        f"mean-ranks-{file_name(benchmark.name)}", "Mean ranks", caption, f"{alt}.", svg, png, tags
    )
