"""The first lines of a report: which runs it is of, from when, and what they found."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cmgems_cli.comparing.comparison import ModelComparison, p_text, signed
from cmgems_cli.comparing.grouping import TaskKey, by_task, mean, means
from cmgems_cli.comparing.one_task import OneTask
from cmgems_cli.comparing.scores import KMER_LINEAR, as_printed, rounded
from cmgems_cli.comparing.statistics import CONFIDENCE
from cmgems_cli.datasets.benchmark import Benchmark
from cmgems_cli.metrics import METRICS, Metric, metric_of, printed_perplexity
from cmgems_cli.readable import counted
from cmgems_cli.reporting.comparison_chapter import ALPHA, Compared
from cmgems_cli.reporting.elements import Notes, Section, Text, listed
from cmgems_cli.reporting.methods import task_of
from cmgems_cli.reporting.sources import Run, benchmarks_of
from cmgems_cli.training.metrics_log import METRICS as METRICS_FILE
from cmgems_cli.training.metrics_log import read_metrics

# ours: a summary is short; the chapters below have all runs.
LINES_OF_A_KIND = 5

_KINDS = {
    "corpus": ("corpus", "corpora"),
    "pmi": ("ranking of k-mers", "rankings of k-mers"),
    "model": ("pretrained model", "pretrained models"),
    "classifier": ("classifier", "classifiers"),
    "scores": ("evaluation", "evaluations"),
    "paper": ("published column", "published columns"),
}


def summary_section(runs: Sequence[Run], comparisons: Mapping[str, Compared]) -> Section:
    """Return the summary.

    Parameters
    ----------
    runs : sequence of Run
        At least one.
    comparisons : mapping, benchmark -> Compared
        From `compare_runs`.
    """
    found = [
        *_shortened([_pretrained(run) for run in runs if run.kind == "model"], "pretrained model"),
        *[
            line
            for name, benchmark in benchmarks_of(runs).items()
            for line in _scored(benchmark, runs, comparisons.get(name))
        ],
        *_shortened([_classified(run) for run in runs if run.kind == "classifier"], "classifier"),
    ]
    return Section("Summary", [Text(_opening(runs)), *([Notes(found)] if found else [])])


def _opening(runs: Sequence[Run]) -> str:
    kinds = [run.kind for run in runs]
    counts = []
    for kind in dict.fromkeys(kinds):
        one, several = _KINDS.get(kind, (f"{kind} artifact", f"{kind} artifacts"))
        number = kinds.count(kind)
        counts.append(f"{number:,} {one if number == 1 else several}")
    return f"{listed(counts)}{_when(runs)}."


def _when(runs: Sequence[Run]) -> str:
    """Return the days on which the runs finished, as far as they recorded it."""
    recorded = [str(run.manifest.environment.get("finished_at", ""))[:10] for run in runs if run.manifest]
    days = sorted(filter(None, recorded))
    if not days:
        return ""
    return f", made {days[0]}" if days[0] == days[-1] else f", made {days[0]} to {days[-1]}"


def _shortened(lines: Sequence[str | None], what: str) -> list[str]:
    known = [line for line in lines if line]
    left = len(known) - LINES_OF_A_KIND
    return known if left <= 0 else [*known[:LINES_OF_A_KIND], f"{counted(left, f'more {what}')}: see below."]


def _pretrained(run: Run) -> str | None:
    """Say where pretraining arrived, next to what k-mer frequencies alone would give."""
    evaluated = [one for one in read_metrics(run.folder / METRICS_FILE) if "valid_perplexity" in one]
    if not evaluated:
        return None
    value, unigram = evaluated[-1]["valid_perplexity"], run.made.stats.get("unigram_perplexity")
    words = f"{run.label}: validation perplexity {printed_perplexity(value)}"
    words += f" after {counted(run.made.stats['steps'], 'step')}"
    if unigram is None:
        return f"{words}."
    learnt = "below" if value < unigram else "not below: nothing of context was learnt"
    return f"{words}; k-mer frequencies alone give {printed_perplexity(unigram)} ({learnt})."


def _classified(run: Run) -> str:
    stats = run.made.stats
    shown = [
        f"{metric.printed_title} {as_printed(stats[name], name)}"
        for name, metric in METRICS.items()
        if metric.shown and name in stats
    ]
    rows = f" on {counted(stats['n_test'], 'test row')}" if "n_test" in stats else ""
    collapsed = "; it predicted the same for every row" if stats.get("collapsed") else ""
    return f"{run.label} on {task_of(run)}: {', '.join(shown)}{rows}{collapsed}."


# ------------------------------------------------------------------ scores


def _scored(benchmark: Benchmark, runs: Sequence[Run], compared: Compared | None) -> list[str]:
    """Say the means of the models over the tasks that all have, and how the last differs from each of the others."""
    scored = [run for run in runs if run.scores(benchmark.name)]
    metric = metric_of(benchmark.metric)
    columns = {run.label: means(by_task(run.scores(benchmark.name), metric.name)) for run in scored}
    if scored[-1].label != KMER_LINEAR and (linear := scored[-1].linear(benchmark.name)):
        columns.setdefault(KMER_LINEAR, means(by_task(linear, metric.name)))
    common = set.intersection(*(set(column) for column in columns.values()))
    if not common:
        return []
    parts = [
        f"{label} {as_printed(mean(column[key] for key in common), metric.name)}"
        for label, column in columns.items()
    ]
    over = f"on {_rows(common)}" if len(common) == 1 else f"mean over {_rows(common)}"
    lines = [f"{benchmark.title}, {metric.printed_title}, {over}: {', '.join(parts)}."]
    if isinstance(compared, ModelComparison):
        lines += _over_tasks(compared, metric)
    elif isinstance(compared, OneTask):
        lines += _over_rows(compared, metric)
    return lines


def _rows(keys: Collection[TaskKey]) -> str:
    """Return a number of rows of a table of scores in words: tasks, or tasks at several numbers of shots."""
    tasks = len({(key.bench, key.task) for key in keys})
    words = counted(tasks, "task")
    return words if tasks == len(keys) else f"{len(keys)} rows ({words} at several numbers of shots)"


def _over_tasks(compared: ModelComparison, metric: Metric) -> list[str]:
    lines = []
    for label, test in zip(compared.paired.labels, compared.tests, strict=False):
        difference = signed(test.difference, metric.decimals)
        line = f"{compared.reference} minus {label}: {difference} {metric.printed_title}"
        p = test.p if test.holm_p is None else test.holm_p
        if p is not None:
            verdict = "significant" if p < ALPHA else "not significant"
            adjusted = "Holm-adjusted " if len(compared.tests) > 1 else ""
            line += f", {verdict} ({adjusted}p {p_text(p)}, paired t-test over"
            line += f" {_rows(compared.paired.rows)})"
        else:
            line += f"; {test.note}"
        lines.append(f"{line}.")
    return _shortened(lines, "comparison")


def _over_rows(compared: OneTask, metric: Metric) -> list[str]:
    lines = []
    for label, runs, test in zip(compared.labels, compared.runs, compared.row_tests, strict=False):
        if test is None or test.difference is None or test.interval is None:
            continue
        low, high = test.interval
        zero = ", which contains 0" if low <= 0 <= high else ""
        lines.append(
            f"{compared.reference} minus {label}: {signed(test.difference, metric.decimals)}"
            f" {metric.printed_title}, {100 * CONFIDENCE:.0f} % interval {rounded(low, metric.decimals)} to"
            f" {rounded(high, metric.decimals)}{zero} ({counted(test.n_rows, 'test row')} of"
            f" {_tested_runs(test.seeds, several=max(len(runs), len(compared.runs[-1])) > 1)})."
        )
    return _shortened(lines, "comparison")


def _tested_runs(seeds: tuple[int, int], *, several: bool) -> str:
    """Name the runs whose rows are compared, the reference's first: the means above may be over further seeds.

    >>> _tested_runs((42, 42), several=True), _tested_runs((1, 2), several=False)
    ('the runs with seed 42 alone', 'the runs with seeds 2 and 1')
    """
    of_model, of_reference = seeds
    words = f"seed {of_model}" if of_model == of_reference else f"seeds {of_reference} and {of_model}"
    return f"the runs with {words}{' alone' if several else ''}"
