"""From what a user names to columns of paired scores: the input of every test in `bench.statistics`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import NamedTuple

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.comparing import published
from cmgems_cli.comparing.scores import METRICS, Score, in_print, read_scores
from cmgems_cli.errors import InputError, UsageError

PAPER = "paper:"

# How many rows a message spells out before it only counts.
ROWS_SHOWN = 3


class Row(NamedTuple):
    """What is paired: one task, at one training-set size."""

    bench: str
    task: str
    shots: int | None

    def __str__(self) -> str:
        return f"{self.bench} {self.task}" + ("" if self.shots is None else f" {self.shots} shots")


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
    """

    named: str
    model: str
    scores: list[Score]


@dataclass(frozen=True)
class Paired:
    """Scores of several models on the same rows.

    Attributes
    ----------
    metric : str
        mcc, accuracy or f1.
    labels : list of str
        One name a model: its own, or what the user wrote where two sources hold models of one name.
    rows : list of Row
        Sorted, so that neither file order nor the order of the sources changes a result.
    columns : list of lists of float
        One a model, along `rows`: means over seeds, on the scale the paper prints (MCC × 100).
    seeds : list of str
        How many values were averaged a row, one text a model: "1", "3", or "2 to 3".
    left_out : list of str
        One sentence for each model whose rows were left out because another model lacks them.
    """

    metric: str
    labels: list[str]
    rows: list[Row]
    columns: list[list[float]]
    seeds: list[str]
    left_out: list[str]


def read_source(named: str) -> Source:
    """Read the scores of one model.

    Parameters
    ----------
    named : str
        paper:NAME for a published column, else a scores artifact or a scores CSV; PATH:MODEL chooses one
        model of a file that holds several.

    Raises
    ------
    InputError
        If nothing is there, or it holds no readable scores, or not the model asked for.
    UsageError
        If it holds several models and none was chosen.
    """
    if named.startswith(PAPER):
        scores = published.published_scores(named.removeprefix(PAPER))
        return Source(named, scores[0].model, scores)
    path, chosen = _path_and_model(named)
    if path.is_dir():
        read_manifest(path, "scores")
        path = path / "scores.csv"
    scores = read_scores(path)
    models = list(dict.fromkeys(score.model for score in scores))
    if chosen is None:
        if len(models) > 1:
            raise UsageError(
                f"{named} holds {len(models)} models ({_some(models)}); needed one:"
                f" write {named}:MODEL, for example {named}:{models[0]}"
            )
        return Source(named, models[0], scores)
    if chosen not in models:
        raise InputError(f"{path} has no model {chosen!r}; it holds: {', '.join(models)}")
    return Source(named, chosen, [score for score in scores if score.model == chosen])


def _path_and_model(named: str) -> tuple[Path, str | None]:
    """Split PATH:MODEL where PATH exists; both halves may hold colons of their own."""
    if Path(named).exists():
        return Path(named), None
    for index in _colons(named):
        if Path(named[:index]).exists() and named[index + 1 :]:
            return Path(named[:index]), named[index + 1 :]
    hint = f"; did you mean {PAPER}{named.lower()}?" if named.lower() in published.published_models() else ""
    raise InputError(
        f"{named} does not exist; needed a scores folder (made by `cmgems evaluate`), a scores CSV"
        f" or {PAPER}NAME{hint}"
    )


def _colons(text: str) -> Iterator[int]:
    return (index for index, letter in enumerate(text) if letter == ":" and index)


def pair(sources: Sequence[Source], metric: str | None = None, *, common: bool = False) -> Paired:
    """Average over seeds and line the models up by (bench, task, shots).

    Parameters
    ----------
    sources : sequence of Source
        Two or more.
    metric : str, optional
        mcc, accuracy or f1. Left out: mcc, or the first of the others that the models share rows of
        where they share none of mcc (few-shot tables hold accuracy only).
    common : bool, default False
        Leave out the rows that a model lacks, instead of refusing.

    Raises
    ------
    InputError
        If a model lacks rows that another has (and `common` is false), or no row is shared by all:
        with the rows, the first few by name.
    """
    if metric is None:
        metric = next((name for name in METRICS if _shared(_averages(sources, name))), METRICS[0])
    averages = _averages(sources, metric)
    labels = _labels(sources)
    shared = _shared(averages)
    every = sorted(set().union(*averages), key=_row_order)
    lacking = {
        label: [row for row in every if row not in column]
        for label, column in zip(labels, averages, strict=True)
    }
    if not shared or (len(shared) < len(every) and not common):
        raise InputError(_refusal(sources, metric, lacking, len(shared)))
    left_out = [
        f"{label} lacks {_counted(missing)}: left out for all"
        for label, missing in lacking.items()
        if missing
    ]
    return Paired(
        metric=metric,
        labels=labels,
        rows=shared,
        columns=[[in_print(column[row][0], metric) for row in shared] for column in averages],
        seeds=[_span([column[row][1] for row in shared]) for column in averages],
        left_out=left_out,
    )


def _averages(sources: Sequence[Source], metric: str) -> list[dict[Row, tuple[float, int]]]:
    """Return, for each source, row -> (mean over seeds, number of seeds)."""
    columns: list[dict[Row, tuple[float, int]]] = []
    for source in sources:
        values: dict[Row, list[float]] = {}
        for score in source.scores:
            if score.metric == metric:
                values.setdefault(Row(score.bench, score.task, score.shots), []).append(score.value)
        columns.append({row: (fsum(found) / len(found), len(found)) for row, found in values.items()})
    return columns


def _shared(columns: Sequence[dict[Row, tuple[float, int]]]) -> list[Row]:
    return sorted(set(columns[0]).intersection(*columns[1:]), key=_row_order)


def _row_order(row: Row) -> tuple[str, str, int]:
    return (row.bench, row.task, -1 if row.shots is None else row.shots)


def _labels(sources: Sequence[Source]) -> list[str]:
    names = [source.model for source in sources]
    labels = [source.model if names.count(source.model) == 1 else source.named for source in sources]
    return [
        label if labels.count(label) == 1 else f"{label} ({labels[: index + 1].count(label)})"
        for index, label in enumerate(labels)
    ]


def _refusal(sources: Sequence[Source], metric: str, lacking: dict[str, list[Row]], n_shared: int) -> str:
    without = [
        f"{label} has no {metric} (it has: {', '.join(sorted({score.metric for score in source.scores}))})"
        for label, source in zip(lacking, sources, strict=True)
        if not any(score.metric == metric for score in source.scores)
    ]
    others = [name for name in METRICS if name != metric and _shared(_averages(sources, name))]
    hint = f"; try --metric {others[0]}" if others else ""
    if without:
        return f"{'; '.join(without)}; needed the same metric of every model{hint}"
    gaps = "; ".join(f"{label} lacks {_counted(missing)}" for label, missing in lacking.items() if missing)
    if n_shared:
        hint = f", or add --common to compare on the {n_shared} they share"
    return f"the rows of {metric} do not pair: {gaps}; needed the same tasks and shots of every model{hint}"


def _counted(rows: Sequence[Row]) -> str:
    return f"{len(rows)} row{'' if len(rows) == 1 else 's'} ({_some([str(row) for row in rows])})"


def _some(names: Sequence[str]) -> str:
    more = len(names) - ROWS_SHOWN
    return ", ".join(names[:ROWS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _span(counts: Sequence[int]) -> str:
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
