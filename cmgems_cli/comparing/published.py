"""The scores of Tables 2, 4 and 6 of the paper, and means and fractions derived from them.

`data/published_scores.csv` holds the tables cell by cell. Every mean the paper prints under them follows
from the cells, halves rounded up, with one exception: Table 6 prints 70.57 as the human mean of GeneMask 1K
(dnabert-genemask-1k), whose twelve cells average 70.48. The functions here give what the cells give.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cmgems_cli.comparing.grouping import TaskKey, key_of, mean
from cmgems_cli.comparing.scores import Score, natural
from cmgems_cli.datasets.benchmark import Published
from cmgems_cli.errors import InputError

PUBLISHED_CSV = Path(__file__).resolve().parents[1] / "data" / "published_scores.csv"

# paper, Tables 2 and 6: the two blocks of rows, each with its mean.
GROUPS = ("human", "non-human")


@dataclass(frozen=True)
class PublishedScore:
    """One cell of one table of the paper.

    Attributes
    ----------
    table : int
        2, 4 or 6.
    score : Score
        The value in its natural unit (MCC as a fraction), without seed and counts.
    sd : float or None
        Standard deviation over ten runs, in the unit of the value; Table 4 only.
    """

    table: int
    score: Score
    sd: float | None


@dataclass(frozen=True)
class FractionOfBest:
    """How close a model comes to the best published model of a species group (paper RQ1, Figure 3).

    Attributes
    ----------
    fraction : float
        `mean / best_mean`.
    mean, best_mean : float
        Means over the tasks, in the natural unit, of the model and of the best published one.
    best_model : str
        Which of the benchmark's `best_of` has the best mean over these tasks.
    n_tasks : int
        Tasks that both means are taken over.
    """

    fraction: float
    mean: float
    best_model: str
    best_mean: float
    n_tasks: int


@cache
def published_cells() -> tuple[PublishedScore, ...]:
    """Return every cell of Tables 2, 4 and 6, in the order of the tables."""
    with PUBLISHED_CSV.open(encoding="utf-8", newline="") as stream:
        return tuple(_cell(row) for row in csv.DictReader(stream))


def _cell(row: Mapping[str, str]) -> PublishedScore:
    metric, value = natural(row["metric"], float(row["value"]))
    score = Score(
        bench=row["bench"],
        task=row["task"],
        species=row["species"],
        shots=int(row["shots"]) if row["shots"] else None,
        seed=None,
        metric=metric,
        value=value,
        n_train=None,
        n_test=None,
        model=row["model"],
        note=f"paper, Table {row['table']}",
    )
    sd = natural(row["metric"], float(row["std"]))[1] if row["std"] else None
    return PublishedScore(int(row["table"]), score, sd)


def published_models(table: int | None = None) -> tuple[str, ...]:
    """Return the models of one table, or of all, in the order of their columns."""
    names = (cell.score.model for cell in published_cells() if table in (None, cell.table))
    return tuple(dict.fromkeys(names))


@cache
def published_column(model: str, table: int) -> dict[TaskKey, PublishedScore]:
    """Return a model's cells in one table by task; empty if the table does not have the model."""
    return {
        key_of(cell.score): cell
        for cell in published_cells()
        if cell.table == table and cell.score.model == model
    }


def published_scores(model: str) -> list[Score]:
    """Return all of a model's published values, each task once however many tables print it.

    Parameters
    ----------
    model : str
        A name of `published_models()`, in any case.

    Returns
    -------
    list of Score
        GUE values (metric mcc) and few-shot values (metric accuracy), as far as the paper has them.

    Raises
    ------
    InputError
        If no table has the model (with the closest names and the list), or if two tables disagree.
    """
    name = model.lower()
    if name not in published_models():
        raise InputError(unknown_model(model))
    return merged(cell.score for cell in published_cells() if cell.score.model == name)


def merged(scores: Iterable[Score]) -> list[Score]:
    """Keep one of the values that several tables print for the same (task, shots, metric).

    Raises
    ------
    InputError
        If two of them differ.
    """
    kept: dict[tuple[str, str, str, int | None, str], Score] = {}
    for score in scores:
        first = kept.setdefault((score.model, score.bench, score.task, score.shots, score.metric), score)
        if first.value != score.value:
            raise InputError(
                f"published values disagree for {score.model} {score.task} {score.metric}: {first.value:g}"
                f" ({first.note}) and {score.value:g} ({score.note}); needed one value: install cmgems again"
            )
    return list(kept.values())


def unknown_model(model: str) -> str:
    """Return the sentence for a `paper:` name that no table has."""
    from difflib import get_close_matches

    close = get_close_matches(model.lower(), published_models(), n=3, cutoff=0.6)
    guess = f"; did you mean {' or '.join(f'paper:{name}' for name in close)}?" if close else ";"
    return f"no published column is called {model!r}{guess} published: {', '.join(published_models())}"


def group_of(species: str) -> str:
    """Return the block of Tables 2 and 6 that a species belongs to: human, or non-human for all others."""
    return "human" if species == "human" else "non-human"


@cache
def published_tasks(group: str, table: int) -> tuple[TaskKey, ...]:
    """Return the tasks of a species group, in the order of a table (Table 2: 12 human, 15 non-human)."""
    cells = (cell.score for cell in published_cells() if cell.table == table)
    return tuple(dict.fromkeys(key_of(score) for score in cells if group_of(score.species) == group))


def best_published(tasks: Collection[TaskKey], published: Published) -> tuple[str, float] | None:
    """Return the model of `published.best_of` with the best mean over these tasks, and this mean.

    Returns
    -------
    (str, float) or None
        The mean in the natural unit; the paper's digits are those of `as_printed`. None if there are no tasks, or no
        model of `best_of` has them all.
    """
    columns = {name: published_column(name, published.tables[0]) for name in published.best_of}
    column_means = {
        name: mean(column[key].score.value for key in tasks)
        for name, column in columns.items()
        if tasks and all(key in column for key in tasks)
    }
    return max(column_means.items(), key=lambda item: item[1], default=None)


def fraction_of_best(
    values: Mapping[TaskKey, float], group: str, published: Published
) -> FractionOfBest | None:
    """Return a model's mean as a fraction of the best published model's (paper RQ1: 93.97 % for LOGO CM-GEMS 10K).

    Parameters
    ----------
    values : mapping, task -> float
        The model's scores in the natural unit, averaged over seeds. Tasks that the paper does not report
        (virus/covid) and tasks of the other group are left out.
    group : str
        human or non-human.
    published : Published
        Of the benchmark.

    Returns
    -------
    FractionOfBest or None
        None if the model has no task of the group. Of a model that ran only some of the tasks, both means, and the
        choice of the best published model, are over these.
    """
    if not published.best_of:
        return None
    tasks = [key for key in published_tasks(group, published.tables[0]) if key in values]
    best = best_published(tasks, published)
    if best is None:
        return None
    ours = mean(values[key] for key in tasks)
    return FractionOfBest(ours / best[1], ours, *best, len(tasks))
