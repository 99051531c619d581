"""The scores of Tables 2, 4 and 6 of the paper, and what is derived from them.

`data/published_scores.csv` holds the tables cell by cell. Every mean the paper prints under them follows
from the cells, halves rounded up, but one: Table 6 prints 70.57 as the human mean of GeneMask 1K
(dnabert-genemask-1k), whose twelve cells average 70.48. The functions here give what the cells give.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from math import fsum
from pathlib import Path

from cmgems_cli.comparing.scores import TIMES_100, Score
from cmgems_cli.errors import InputError

PUBLISHED_CSV = Path(__file__).resolve().parents[1] / "data" / "published_scores.csv"

# paper, section 5.4: "SoTA-Best represents the best result among the three k-mer-based SoTA models".
STATE_OF_THE_ART = ("dnabert-120k", "nt-500m-human", "dnabert2-kmer-120k")

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
class SotaShare:
    """How close a model comes to the best published model of a species group (paper RQ1, Figure 3).

    Attributes
    ----------
    share : float
        `mean / best_mean`.
    mean, best_mean : float
        Mean MCC over the tasks, as a fraction, of the model and of the best published one.
    best_model : str
        Which of `STATE_OF_THE_ART` has the best mean over these tasks.
    n_tasks : int
        Tasks that both means run over.
    """

    share: float
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
    metric = TIMES_100.get(row["metric"], row["metric"])
    divisor = 100 if row["metric"] in TIMES_100 else 1
    score = Score(
        bench=row["bench"],
        task=row["task"],
        species=row["species"],
        shots=int(row["shots"]) if row["shots"] else None,
        seed=None,
        metric=metric,
        value=float(row["value"]) / divisor,
        n_train=None,
        n_test=None,
        model=row["model"],
        note=f"paper, Table {row['table']}",
    )
    return PublishedScore(int(row["table"]), score, float(row["std"]) / divisor if row["std"] else None)


def published_models(table: int | None = None) -> tuple[str, ...]:
    """Return the models of one table, or of all, in the order of their columns."""
    names = (cell.score.model for cell in published_cells() if table in (None, cell.table))
    return tuple(dict.fromkeys(names))


def published_column(model: str, table: int) -> dict[tuple[str, int | None], PublishedScore]:
    """Return a model's cells in one table by (task, shots); empty if the table does not have the model."""
    return {
        (cell.score.task, cell.score.shots): cell
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
def published_tasks(group: str) -> tuple[str, ...]:
    """Return the GUE tasks of a species group in the order of Table 2: 12 human, 15 non-human."""
    cells = (cell.score for cell in published_cells() if cell.table == 2)
    return tuple(dict.fromkeys(score.task for score in cells if group_of(score.species) == group))


def group_mean(model: str, group: str, tasks: Collection[str] | None = None) -> float:
    """Return a published model's mean MCC over the GUE tasks of a species group.

    Parameters
    ----------
    model : str
        A name of `published_models()`.
    group : str
        human or non-human.
    tasks : collection of str, optional
        Average over these tasks of the group only, to stand beside a model that ran no others.

    Returns
    -------
    float
        A fraction; `as_printed` gives the paper's digits.

    Raises
    ------
    InputError
        If the model has no GUE value there.
    """
    wanted = {task for task in published_tasks(group) if tasks is None or task in tasks}
    values = [
        score.value for score in published_scores(model) if score.bench == "gue" and score.task in wanted
    ]
    if not values:
        raise InputError(
            f"the paper has no GUE score of {model} on these {group} tasks; choose another model"
        )
    return fsum(values) / len(values)


def sota_share(values: Mapping[str, float], group: str) -> SotaShare | None:
    """Return a model's share of the best published model's mean (paper RQ1: 93.97 % for LOGO CM-GEMS 10K).

    Parameters
    ----------
    values : mapping, task -> MCC as a fraction
        The model's GUE scores, averaged over seeds. Tasks the paper does not report (virus/covid) and
        tasks of the other group are left out.
    group : str
        human or non-human.

    Returns
    -------
    SotaShare or None
        None if the model has no task of the group. Of a model that ran only some of the tasks, both
        means, and the choice of the best published model, are over these.
    """
    tasks = [task for task in published_tasks(group) if task in values]
    if not tasks:
        return None
    means = {name: group_mean(name, group, tasks) for name in STATE_OF_THE_ART}
    best = max(means, key=lambda name: means[name])
    mean = fsum(values[task] for task in tasks) / len(tasks)
    return SotaShare(mean / means[best], mean, best, means[best], len(tasks))
