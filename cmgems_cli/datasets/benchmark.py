"""A benchmark as a value: its tasks, their published recipes, and how its scores are reported (method, section 7)."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.errors import UsageError

# Where a data set keeps its whole train and test files, next to its folders of each number of shots.
FULL_DATASET = "full-dataset"
TABLE_ENDINGS = (".csv", ".tsv")
FASTA_ENDINGS = (".fna", ".fa", ".fasta")
PARQUET_ENDING = ".parquet"
SPLITS = ("train", "dev", "test")


def is_file_of_rows(name: str) -> bool:
    """Return whether a file's name is that of labelled sequences.

    >>> is_file_of_rows("train.CSV"), is_file_of_rows("train.fna.gz"), is_file_of_rows("train.txt")
    (True, True, False)
    """
    return name.casefold().removesuffix(".gz").endswith((*TABLE_ENDINGS, *FASTA_ENDINGS, PARQUET_ENDING))


@dataclass(frozen=True)
class TaskDefinition:
    """One task of a benchmark, as its file declares it.

    Attributes
    ----------
    name : str
        In scores and options: `tf/0`, `prom-core`.
    path : str
        Its folder, relative to the benchmark's data; `/` separates the parts.
    group : str
        Species or other group that means are taken over; empty without one.
    classes : int or None
        Published number of labels.
    rows : mapping, split -> int
        Published numbers of rows, where they are known.
    recipe : mapping, field of `Recipe` -> value
        What differs from the benchmark's recipe.
    default : bool
        Whether the task runs when no tasks are named.
    """

    name: str
    path: str
    group: str = ""
    classes: int | None = None
    rows: Mapping[str, int] = field(default_factory=dict, hash=False)
    recipe: Mapping[str, Any] = field(default_factory=dict, hash=False)
    default: bool = True


@dataclass(frozen=True)
class Published:
    """The paper's columns that a benchmark's scores are shown with.

    Attributes
    ----------
    tables : tuple of int
        Tables of the paper that have the benchmark's tasks; the first is the main one.
    columns : tuple of str
        Models of these tables that short tables show.
    best_of : tuple of str
        Models the best of which is the state of the art.
    """

    tables: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    best_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class HubSource:
    """Where a benchmark's data are on a hub.

    Attributes
    ----------
    repository : str
        OWNER/NAME of a data set; `{task}` in it stands for a task's name.
    files : tuple of str
        Patterns of the files in it, with `{split}`, perhaps `{task}`, and `*` for any letters; the first that a
        repository has is fetched.
    revision : str
        A commit, or main for the latest.
    licence : str
        What is known of it where the repository names none.
    """

    repository: str
    files: tuple[str, ...]
    revision: str = "main"
    licence: str = "not given there"


@dataclass(frozen=True)
class Benchmark:
    """Tasks with their recipes, and how their scores are reported.

    Attributes
    ----------
    name : str
        In scores, folders and options. Empty: data that belong to no benchmark.
    title : str
        In reports.
    metric : str
        The main metric.
    tasks : tuple of TaskDefinition
    seeds : tuple of int
        One run each, unless others are asked for.
    shots : tuple of int or None
        Training rows per class that are drawn, unless others are asked for; None: all rows.
    recipe : Recipe
        Of runs on all rows, before a task's own changes.
    recipe_by_shots : tuple of (int or None, Recipe)
        Of runs on drawn rows: the first whose number of shots is not exceeded; None: no limit.
    published : Published
    data_from : str
        The command that downloads the data, if there is one.
    root : Path or None
        The folder that paths of tasks are relative to; None: it has to be given.
    shipped : bool
        Part of this package, so that its name alone tells all of it.
    source : HubSource or None
        Where `cmgems fetch` gets the data.
    dev_fraction : float or None
        Part of train that is the dev split of tasks whose data have none.
    """

    name: str
    title: str
    metric: str
    tasks: tuple[TaskDefinition, ...]
    seeds: tuple[int, ...]
    shots: tuple[int | None, ...]
    recipe: Recipe
    recipe_by_shots: tuple[tuple[int | None, Recipe], ...]
    published: Published = Published()
    data_from: str = ""
    root: Path | None = None
    shipped: bool = False
    source: HubSource | None = None
    dev_fraction: float | None = None

    def task(self, name: str) -> TaskDefinition:
        """Return the task of that name, in any case of letters; part of a name is enough if it fits one task only.

        Raises
        ------
        UsageError
            If it fits no task, or more than one.
        """
        wanted = alike(name.strip())
        by_name = {alike(task.name): task for task in self.tasks}
        if wanted in by_name:
            return by_name[wanted]
        partly = [task for known, task in by_name.items() if wanted in known.split("/")]
        if len(partly) == 1:
            return partly[0]
        if partly:
            could = ", ".join(task.name for task in partly)
            raise UsageError(f"{name!r} could be {could}: give the task's full name")
        # Compared with the whole name and with its last part alone, so that a slip in either finds it.
        parts = {part: task.name for known, task in by_name.items() for part in (known, known.split("/")[-1])}
        close = dict.fromkeys(parts[part] for part in difflib.get_close_matches(wanted, parts, n=5))
        offered = ", ".join(close or (task.name for task in self.tasks))
        said = "close are" if close else "known are"
        raise UsageError(f"{name!r} is not a task of {self.title}; {said}: {offered}")

    def selected(self, names: str | None, own: Iterable[str] = ()) -> list[TaskDefinition]:
        """Return the tasks of a comma-separated list, in its order, each once; None: the default ones.

        Parameters
        ----------
        names : str or None
        own : iterable of str
            Folders of the user's in the benchmark's data folder: each is a task of its own under its exact name.

        Raises
        ------
        UsageError
            If a name fits no task, or more than one.
        """
        if names is None:
            return [task for task in self.tasks if task.default]
        listed = [name for name in (part.strip() for part in names.split(",")) if name]
        if not listed:
            raise UsageError(f"{names!r} names no task; give at least one, such as {self.tasks[0].name}")
        known = {alike(task.name) for task in self.tasks}
        mine = {name.casefold(): TaskDefinition(name, name) for name in own if alike(name) not in known}
        chosen = [mine.get(name.casefold()) or self.task(name) for name in listed]
        return list({task.name: task for task in chosen}.values())

    def recipe_of(self, task: TaskDefinition, rows_per_class: int | None = None) -> Recipe:
        """Return the recipe of a task's runs.

        Parameters
        ----------
        task : TaskDefinition
        rows_per_class : int, optional
            Training rows per class, of a run without a dev split; None: a run on all rows that has one.
        """
        own = task.recipe if rows_per_class is None or self.shots != (None,) else {}
        if rows_per_class is None:
            return self.recipe.changed(own)
        recipe = next(
            recipe for limit, recipe in self.recipe_by_shots if limit is None or rows_per_class <= limit
        )
        return recipe.changed({name: value for name, value in own.items() if name != "eval_every"})

    def task_at(self, path: Path) -> TaskDefinition | None:
        """Return the task whose data a path seems to hold, by the names of its last folders; None if none does.

        The file's own name, folders of a number of shots, and `full-dataset` may follow the task's folder. Where
        `fetch` makes the folders, that of the benchmark has to come before it: tasks have names such as enhancers.
        """
        path = path.absolute()
        folder = path.parent if is_file_of_rows(path.name) else path
        parts = [alike(part) for part in folder.parts]
        while parts:
            for task in self.tasks:
                ending = alike(f"{self.name}/{task.path}" if self.source else task.path).split("/")
                if parts[-len(ending) :] == ending:
                    return task
            if not (parts[-1].isdecimal() or parts[-1] == FULL_DATASET):
                return None
            parts.pop()
        return None


def alike(name: str) -> str:
    """Return a name with the case of letters and `_` or `-` made equal."""
    return name.casefold().replace("_", "-")
