"""Columns of paired scores from the models that a user named: the input of the tests in `comparing.statistics`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cmgems_cli.artifacts import MANIFEST, SCHEMA, Manifest, is_finished, parse_manifest, read_manifest
from cmgems_cli.comparing import published
from cmgems_cli.comparing.evaluated_runs import evaluated_runs, scores_of_classifier
from cmgems_cli.comparing.grouping import Runs, TaskKey, by_task, means, span
from cmgems_cli.comparing.scores import KMER_LINEAR, SCORES, Score, in_print, read_scores
from cmgems_cli.datasets.benchmark import Benchmark
from cmgems_cli.datasets.benchmark_file import no_benchmark, shipped, shipped_names
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.metrics import METRICS
from cmgems_cli.readable import counted

PAPER = "paper:"

# ours: how many tasks a message names before it only counts.
TASKS_SHOWN = 3

# Recorded in a scores artifact of a benchmark that is not part of this package: its file may be missing later.
RECORDED = ("title", "metric")


@dataclass(frozen=True)
class Source:
    """The scores of one model.

    Attributes
    ----------
    named : str
        What the user wrote: a path, PATH:MODEL or paper:NAME.
    model : str
        The model's name in the scores.
    scores : list of Score
        All of its rows, of all metrics and seeds.
    recorded : mapping
        Parameters of the artifact, if the scores are of one.
    folder : Path or None
        Of the artifact, which may have the predictions of its runs.
    single : bool
        Whether it is one run of `cmgems finetune`, and so has one task only.
    """

    named: str
    model: str
    scores: list[Score]
    recorded: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    single: bool = False

    def benchmarks(self) -> dict[str, Benchmark]:
        """Return the benchmarks of the scores by name, in order."""
        return {
            bench: benchmark_of(bench, self.recorded) for bench in _distinct(s.bench for s in self.scores)
        }

    def of(self, bench: str) -> list[Score]:
        """Return the scores of one benchmark."""
        return [score for score in self.scores if score.bench == bench]


def benchmark_of(bench: str, recorded: Mapping[str, Any]) -> Benchmark:
    """Return the benchmark of scores: one of this package, or what the artifact recorded of another.

    Parameters
    ----------
    bench : str
        Its name in the scores.
    recorded : mapping
        Parameters of a scores artifact; empty without one.
    """
    if bench in shipped_names():
        return shipped(bench)
    known = {name: recorded[name] for name in RECORDED if recorded.get(name)}
    return replace(no_benchmark(), **{"name": bench, "title": bench, **known})


def recorded_of(benchmark: Benchmark) -> dict[str, str]:
    """Return what a scores artifact has to record of a benchmark for `benchmark_of`."""
    return {} if benchmark.shipped else {name: getattr(benchmark, name) for name in RECORDED}


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Paired:
    """Scores of several models on the same tasks.

    Attributes
    ----------
    metric : str
        A name of `METRICS`.
    labels : list of str
        One name per model: its own, or what the user wrote if two sources hold models of one name.
    rows : list of TaskKey
        Sorted, so that neither file order nor the order of the sources changes a result.
    columns : list of lists of float
        One per model, along `rows`: means over seeds, on the printed scale (MCC × 100).
    seeds : list of str
        Number of values averaged per row, one text per model: "1", "3", or "2 to 3".
    left_out : list of str
        One sentence for each model whose rows were left out because another model lacks them.
    """

    metric: str
    labels: list[str]
    rows: list[TaskKey]
    columns: list[list[float]]
    seeds: list[str]
    left_out: list[str]


_NEEDED = (
    f"a scores folder (made by `cmgems evaluate`), a folder of `cmgems finetune`, a scores CSV or {PAPER}NAME"
)


def read_source(named: str) -> Source:
    """Read the scores of one model.

    Parameters
    ----------
    named : str
        paper:NAME for a published column, else a scores artifact, a classifier artifact or a scores CSV; PATH:MODEL
        chooses one model of a file that holds several.

    Raises
    ------
    InputError
        If it does not exist, or holds no readable scores, or not the chosen model.
    UsageError
        If it holds several models and none was chosen.
    """
    if named.startswith(PAPER):
        scores = published.published_scores(named.removeprefix(PAPER))
        return Source(named, scores[0].model, scores)
    path, chosen = _path_and_model(named)
    if not path.is_dir():
        return _chosen(named, path, chosen, {})
    kind = parse_manifest(path / MANIFEST).kind if is_finished(path) else "scores"
    if kind in SCHEMA and kind not in ("scores", "classifier"):
        raise InputError(f"{path} is a {kind} artifact; needed {_NEEDED}")
    if kind == "classifier":
        manifest = read_manifest(path, "classifier")
        name = chosen or path.absolute().name
        return Source(named, name, scores_of_classifier(manifest, name), manifest.params, path, single=True)
    source = source_of_artifact(named, path, read_manifest(path, "scores", verify=True), chosen)
    return replace(source, folder=path)


def source_of_artifact(named: str, folder: Path, manifest: Manifest, chosen: str | None = None) -> Source:
    """Read the scores of a scores artifact whose manifest was read (errors as `read_source`)."""
    return _chosen(named, folder / SCORES, chosen, manifest.params)


def from_random_weights(manifest: Manifest) -> bool:
    """Return whether the scores of an artifact are of a model that was not pretrained."""
    if manifest.params.get("model") == KMER_LINEAR:
        return False
    # A preset, which is not a folder and so not an input, has random weights too.
    return manifest.params.get("init") == "random" or "model" not in manifest.inputs


def _chosen(named: str, path: Path, chosen: str | None, recorded: Mapping[str, Any]) -> Source:
    scores = read_scores(path)
    models = _distinct(score.model for score in scores)
    if chosen is None:
        if len(models) > 1:
            raise UsageError(
                f"{named} holds {len(models)} models ({_some(models)}); needed one:"
                f" write {named}:MODEL, for example {named}:{models[0]}"
            )
        return Source(named, models[0], scores, recorded)
    if chosen not in models:
        raise InputError(f"{path} has no model {chosen!r}; it holds: {', '.join(models)}")
    return Source(named, chosen, [score for score in scores if score.model == chosen], recorded)


def _path_and_model(named: str) -> tuple[Path, str | None]:
    """Split PATH:MODEL where PATH exists; both halves may hold colons of their own."""
    if Path(named).exists():
        return Path(named), None
    for index in _colons(named):
        if Path(named[:index]).exists() and named[index + 1 :]:
            return Path(named[:index]), named[index + 1 :]
    hint = f"; did you mean {PAPER}{named.lower()}?" if named.lower() in published.published_models() else ""
    raise InputError(f"{named} does not exist; needed {_NEEDED}{hint}")


def _colons(text: str) -> Iterator[int]:
    return (index for index, letter in enumerate(text) if letter == ":" and index)


def pair(sources: Sequence[Source], metric: str | None = None, *, common: bool = False) -> Paired:
    """Average over seeds, and pair the models by task (benchmark, task, shots).

    Parameters
    ----------
    sources : sequence of Source
        Two or more.
    metric : str, optional
        A name of `METRICS`. By default the main metric of the benchmark; if the models have no task of it in
        common, the first metric of which they have.
    common : bool, default False
        Leave out the tasks that a model lacks, instead of refusing.

    Raises
    ------
    InputError
        If a model lacks tasks that another has (and `common` is false), or the models have no task in common: with
        the tasks, the first few by name.
    """
    if metric is None:
        wanted = default_metrics(sources)
        metric = next((name for name in wanted if _shared(_columns(sources, name))), wanted[0])
    columns = _columns(sources, metric)
    labels = _labels(sources)
    shared = _shared(columns)
    every = _sorted(set().union(*columns))
    lacking = {
        label: [row for row in every if row not in column]
        for label, column in zip(labels, columns, strict=True)
    }
    if not shared or (len(shared) < len(every) and not common):
        raise InputError(_refusal(sources, metric, lacking, len(shared)))
    left_out = [
        f"{label} lacks {_named(missing)}: left out for all" for label, missing in lacking.items() if missing
    ]
    return Paired(
        metric=metric,
        labels=labels,
        rows=shared,
        columns=[_values(means(column), shared, metric) for column in columns],
        seeds=[span(len(column[row]) for row in shared) for column in columns],
        left_out=left_out,
    )


def with_tasks_named_alike(sources: Sequence[Source]) -> list[Source]:
    """Return the sources with runs of `finetune` named as an evaluation names the task of the same test file.

    Raises
    ------
    InputError
        As `read_manifest`.
    """
    if not any(source.single for source in sources) or all(source.single for source in sources):
        return list(sources)
    names = {
        run.test: run.key
        for source in sources
        if source.folder is not None and not source.single
        for run in evaluated_runs(source.folder)
    }
    return [_renamed(source, names) if source.single else source for source in sources]


def _renamed(source: Source, names: Mapping[str, TaskKey]) -> Source:
    assert source.folder is not None
    key = next((names[run.test] for run in evaluated_runs(source.folder) if run.test in names), None)
    if key is None or key.shots != source.recorded.get("shots"):
        return source
    return replace(source, scores=[replace(one, bench=key.bench, task=key.task) for one in source.scores])


def default_metrics(sources: Sequence[Source]) -> list[str]:
    """Return the metrics in the order in which they are tried: main metrics of common benchmarks, then the others."""
    benchmarks = [source.benchmarks() for source in sources]
    common = [one for bench, one in benchmarks[-1].items() if all(bench in others for others in benchmarks)]
    return _distinct([*(benchmark.metric for benchmark in common), *METRICS])


def _columns(sources: Sequence[Source], metric: str) -> list[Mapping[TaskKey, Runs]]:
    return [by_task(source.scores, metric) for source in sources]


def _values(column: Mapping[TaskKey, float], rows: Sequence[TaskKey], metric: str) -> list[float]:
    return [in_print(column[row], metric) for row in rows]


def _shared(columns: Sequence[Mapping[TaskKey, Runs]]) -> list[TaskKey]:
    return _sorted(set(columns[0]).intersection(*columns[1:]))


def _sorted(rows: Iterable[TaskKey]) -> list[TaskKey]:
    return sorted(rows, key=lambda row: row.order)


def _labels(sources: Sequence[Source]) -> list[str]:
    names = [source.model for source in sources]
    labels = [source.model if names.count(source.model) == 1 else source.named for source in sources]
    return [
        label if labels.count(label) == 1 else f"{label} ({labels[: index + 1].count(label)})"
        for index, label in enumerate(labels)
    ]


def _refusal(
    sources: Sequence[Source], metric: str, lacking: Mapping[str, list[TaskKey]], n_shared: int
) -> str:
    without = [
        f"{label} has no {metric} (it has: {', '.join(sorted({score.metric for score in source.scores}))})"
        for label, source in zip(lacking, sources, strict=True)
        if not any(score.metric == metric for score in source.scores)
    ]
    others = [name for name in METRICS if name != metric and _shared(_columns(sources, name))]
    hint = f"; try `metric={others[0]}`" if others else ""
    if without:
        return f"{'; '.join(without)}; needed the same metric of every model{hint}"
    gaps = "; ".join(f"{label} lacks {_named(missing)}" for label, missing in lacking.items() if missing)
    if n_shared:
        hint = f", or add `common=True` to compare on the {n_shared} they have in common"
    return f"the rows of {metric} do not pair: {gaps}; needed the same tasks and shots of every model{hint}"


def _named(rows: Sequence[TaskKey]) -> str:
    return f"{counted(len(rows), 'row')} ({_some([str(row) for row in rows])})"


def _some(names: Sequence[str]) -> str:
    more = len(names) - TASKS_SHOWN
    return ", ".join(names[:TASKS_SHOWN]) + (f" and {more} more" if more > 0 else "")
