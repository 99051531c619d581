"""What the methods paragraph says of evaluations, and of the tests that compare them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.comparing import row_tests
from cmgems_cli.comparing.comparison import ModelComparison
from cmgems_cli.comparing.evaluated_runs import RUNS, evaluated_runs
from cmgems_cli.comparing.grouping import key_of, span
from cmgems_cli.comparing.one_task import OneTask
from cmgems_cli.comparing.pairing import RECORDED, Source
from cmgems_cli.comparing.scores import KMER_LINEAR, Score
from cmgems_cli.comparing.statistics import CONFIDENCE, RESAMPLES
from cmgems_cli.datasets.benchmark import Benchmark
from cmgems_cli.metrics import METRICS, metric_of
from cmgems_cli.readable import counted
from cmgems_cli.reporting.comparison_chapter import Compared
from cmgems_cli.reporting.elements import listed
from cmgems_cli.reporting.sources import PUBLISHED, Run, benchmarks_of

# Names in print.
_METRICS = {"mcc": "the Matthews correlation coefficient"}

# Parameters of an evaluation that are not changes of a recipe.
_NO_CHANGES = ("bench", "model", "tasks", "shots", "seeds", "init", "grid", "freeze", "C", *RECORDED)

_INTERVAL = f"{100 * CONFIDENCE:.0f} %"


def machines_of(runs: Sequence[Run]) -> str:
    """Return where runs were computed and how precisely, after a semicolon; empty if none recorded it."""
    machines = {
        f"{run.made.environment['device']}, {run.made.environment.get('precision', 'precision unknown')}"
        for run in runs
        if run.made.environment.get("device")
    }
    return f"; {listed(sorted(machines))}" if machines else ""


# ------------------------------------------------------------------ evaluations


def score_sentences(runs: Sequence[Run]) -> list[str]:
    """Return how the scores of each benchmark were made: by fine-tuning, of frozen models, by `kmer-linear`."""
    sentences = []
    for benchmark in benchmarks_of(runs).values():
        chosen = [run for run in runs if run.kind == "scores" and run.scores(benchmark.name)]
        linear = [run for run in chosen if _is_linear(run)]
        linear += [_linear_of(run, benchmark) for run in chosen if run.linear(benchmark.name)]
        models = [run for run in chosen if not _is_linear(run)]
        tuned = [run for run in models if not run.made.params.get("freeze")]
        frozen = [run for run in models if run.made.params.get("freeze")]
        if tuned:
            words = f"The {_models(tuned)} {'was' if len(tuned) == 1 else 'were'} fine-tuned on"
            sentences += [f"{words} {_runs(benchmark, tuned)}", _recipes(benchmark, tuned)]
        if frozen:
            words = f"A {_regression(frozen, benchmark)} on embeddings of the frozen {_models(frozen)} was fitted on"
            sentences.append(f"{words} {_runs(benchmark, frozen)}")
            sentences += _choices(frozen, benchmark, _penalty)
            if changes := _changes(frozen):
                sentences.append(f"The recipe of each task was {changes}.")
        if linear:
            words = f"The baseline {KMER_LINEAR}, a {_regression(linear, benchmark)} on k-mer counts, was fitted on"
            sentences.append(f"{words} {_runs(benchmark, linear)}")
            sentences += _choices(linear, benchmark, _kmer_choices)
    return sentences


def _is_linear(run: Run) -> bool:
    return run.made.params.get("model") == KMER_LINEAR


def _linear_of(run: Run, benchmark: Benchmark) -> Run:
    """Return the evaluation of `kmer-linear` that a model's made too."""
    folder = run.folder / RUNS / KMER_LINEAR
    source = Source(str(folder), KMER_LINEAR, run.linear(benchmark.name))
    return Run(run.tag, str(folder), KMER_LINEAR, run.kind, read_manifest(folder), source)


def _models(runs: Sequence[Run]) -> str:
    return f"{'model' if len(runs) == 1 else 'models'} {listed([run.label for run in runs])}"


def _scores_of(runs: Sequence[Run], benchmark: Benchmark) -> list[Score]:
    return [score for run in runs for score in run.scores(benchmark.name)]


def _tasks(runs: Sequence[Run], benchmark: Benchmark) -> tuple[list[str], list[str]]:
    """Return the names of the tasks of the benchmark, and of the user's own that were scored in the same way."""
    names = list(dict.fromkeys(score.task for score in _scores_of(runs, benchmark)))
    known = {task.name for task in benchmark.tasks} if benchmark.shipped else set(names)
    return [name for name in names if name in known], [name for name in names if name not in known]


def _runs(benchmark: Benchmark, runs: Sequence[Run]) -> str:
    """Return the end of a sentence: tasks, training rows, seeds, machines, and what is reported."""
    scores = _scores_of(runs, benchmark)
    known, own = _tasks(runs, benchmark)
    where = [f"{counted(len(known), 'task')} of {benchmark.title} ({', '.join(known)})"] if known else []
    where += [f"{counted(len(own), 'own task')} ({', '.join(own)})"] if own else []
    shots = sorted({score.shots for score in scores if score.shots is not None})
    seeds = list(dict.fromkeys(score.seed for score in scores if score.seed is not None))
    made = {(run.tag, key_of(score), score.seed) for run in runs for score in run.scores(benchmark.name)}
    times = span(Counter((tag, key) for tag, key, _ in made).values())
    words = listed(where)
    words += f" with {listed([str(n) for n in shots])} training rows per class" if shots else ""
    words += f", {'once' if times == '1' else f'{times} times each'}"
    words += f" ({'seed' if len(seeds) == 1 else 'seeds'} {_numbers(seeds)}{machines_of(runs)})"
    words += ", and tested once per run; reported is"
    return f"{words} {_METRICS.get(benchmark.metric, metric_of(benchmark.metric).title)} on the test split."


def _recipes(benchmark: Benchmark, runs: Sequence[Run]) -> str:
    """Return whose recipe the tasks were trained by: published are only those of the paper's benchmarks."""
    known, own = _tasks(runs, benchmark)
    changes = f", {found}" if (found := _changes(runs)) else ""
    if not benchmark.shipped:
        return f"Each task was trained by the recipe of its benchmark{changes}."
    if not benchmark.published.tables:
        return f"Each task was trained by the recipe of cmgems for {benchmark.title}{changes}."
    of_own = f"the recipe of the {benchmark.title} benchmark"
    if not own:
        return f"Each task was trained by its published recipe{changes}."
    if not known:
        return f"Each task was trained by {of_own}{changes}."
    published = f"Each task of {benchmark.title} was trained by its published recipe"
    return f"{published}, and {listed(own)} by {of_own}{changes}."


def _changes(runs: Sequence[Run]) -> str:
    changed = {
        f"{option} = {_value(value)}"
        for run in runs
        # A single run records its whole recipe.
        if "tasks" in run.made.params
        for option, value in run.made.params.items()
        if option not in _NO_CHANGES and value is not None
    }
    return f"changed in {', '.join(sorted(changed))}" if changed else ""


def _value(value: Any) -> str:
    """Return the value of an option in words; several were tried, and the best on dev was tested."""
    if isinstance(value, list | tuple):
        return " or ".join(map(_value, value))
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _regression(runs: Sequence[Run], benchmark: Benchmark) -> str:
    """Return the kind of linear model: ridge regression of measured values, logistic regression of classes."""
    metrics = {score.metric for score in _scores_of(runs, benchmark)} & METRICS.keys()
    kinds = {"ridge" if "regression" in METRICS[name].problems else "logistic" for name in metrics}
    return f"{' or '.join(sorted(kinds)) or 'logistic'} regression"


def _choices(
    runs: Sequence[Run], benchmark: Benchmark, said: Callable[[Mapping[str, Any]], str]
) -> list[str]:
    """Return what was chosen on dev, and what was fixed for tasks without a dev split; one sentence of each grid."""
    sentences = []
    for run in runs:
        folders = [one.folder for one in evaluated_runs(run.folder) if one.key.bench == benchmark.name]
        for params in [read_manifest(folder).params for folder in folders] or [run.made.params]:
            grid = params.get("grid", params)
            if isinstance(grid, Mapping) and isinstance(grid.get("C"), list):
                sentences.append(said(grid))
    return list(dict.fromkeys(sentences))


def _penalty(grid: Mapping[str, Any]) -> str:
    values = _numbers(grid["C"])
    return (
        f"Chosen on dev was C ({values})."
        if len(grid["C"]) > 1
        else f"Tasks without a dev split had C {values}."
    )


def _kmer_choices(grid: Mapping[str, Any]) -> str:
    k, penalty, scaled, merged = (grid.get(name, []) for name in ("k", "C", "scaled", "strands_merged"))
    if max(map(len, (k, penalty, scaled, merged))) > 1:
        return (
            f"Chosen on dev were k ({_numbers(k)}), C ({_numbers(penalty)}), the scaling of the counts"
            f" ({' or '.join('by the largest of each k-mer' if one else 'none' for one in scaled)})"
            f" and the strands ({' or '.join('merged' if one else 'separate' for one in merged)})."
        )
    return (
        f"Tasks without a dev split had k {_numbers(k)}, C {_numbers(penalty)},"
        f" counts {'divided by the largest of each k-mer' if any(scaled) else 'as they are'}"
        f" and {'merged' if any(merged) else 'separate'} strands."
    )


def _numbers(numbers: Sequence[float]) -> str:
    """Return numbers as a range if they are consecutive.

    >>> _numbers([42, 43, 44]), _numbers([0.1, 1.0])
    ('42 to 44', '0.1 and 1')
    """
    ordered = sorted(numbers)
    if len(ordered) > 2 and ordered == list(range(int(ordered[0]), int(ordered[-1]) + 1)):
        return f"{ordered[0]} to {ordered[-1]}"
    return listed([f"{one:g}" if isinstance(one, float) else str(one) for one in ordered])


# ------------------------------------------------------------------ tests


def comparison_sentences(runs: Sequence[Run], comparisons: Mapping[str, Compared], seed: int) -> list[str]:
    """Return the tests in the report's tables: over tasks, or over the rows and the seeds of one task.

    Parameters
    ----------
    runs : sequence of Run
    comparisons : mapping, benchmark -> Compared
        From `compare_runs`.
    seed : int
        Of bootstrap and sign flips.
    """
    benchmarks = benchmarks_of(runs)
    over_tasks: dict[str, list[str]] = {}
    sentences = []
    for name, compared in comparisons.items():
        if isinstance(compared, ModelComparison):
            over_tasks.setdefault(_over_tasks(compared, seed), []).append(benchmarks[name].title)
        elif isinstance(compared, OneTask):
            sentences.append(_on_one_task(compared, seed))
    several = len(sentences) + len(over_tasks) > 1
    sentences = [
        f"On {listed(titles)}, models were {words}." if several else f"Models were {words}."
        for words, titles in over_tasks.items()
    ] + sentences
    return sentences + (
        ["Published values are those of [1]."] if any(r.kind == PUBLISHED for r in runs) else []
    )


def _over_tasks(compared: ModelComparison, seed: int) -> str:
    found, ranking = compared.tests, compared.ranking
    adjusted = " (Holm-adjusted)" if len(found) > 1 else ""
    tests = [f"a paired t-test{adjusted}"] if any(test.p is not None for test in found) else []
    tests += ["Wilcoxon's signed-rank test", "a sign-flip permutation test"]
    words = f"compared over tasks, runs averaged first, by {listed(tests)}, all two-sided"
    if any(test.interval for test in found):
        words += f"; the interval of the mean difference is a {_INTERVAL} BCa bootstrap interval"
        words += f" ({RESAMPLES:,} resamples, seed {seed})"
    if any(test.cohens_dz is not None for test in found):
        words += "; the size of the difference is Cohen's d_z"
    if ranking:
        by = "" if ranking.p is None else " by Friedman's test"
        words += f"; mean ranks{by} with Nemenyi's critical difference"
    return words


def _on_one_task(compared: OneTask, seed: int) -> str:
    rows = [test for test in compared.row_tests if test]
    seeds = [test for test in compared.seed_tests if test]
    over = []
    if rows:
        tests = ["exact McNemar test"] if any(test.mcnemar for test in rows) else []
        if any(test.interval for test in rows):
            resamples = f"{row_tests.RESAMPLES:,} resamples, seed {seed}"
            tests.append(
                f"paired bootstrap of the difference with its {_INTERVAL} percentile interval, {resamples}"
            )
        tests += ["DeLong's test of AUROC"] if any(test.delong for test in rows) else []
        over.append(f"over the rows of its test split ({_adjusted(tests, len(compared.row_tests))})")
    if seeds:
        tests = list(dict.fromkeys(test.test for test in seeds))
        over.append(f"over seeds ({_adjusted(tests, len(compared.seed_tests))})")
    return f"On {compared.key}, models were compared {' and '.join(over)}, all tests two-sided."


def _adjusted(tests: Sequence[str], n_models: int) -> str:
    """Join tests, and say that the p of several models are adjusted."""
    return "; ".join(tests) + ("; p Holm-adjusted" if n_models > 1 else "")
