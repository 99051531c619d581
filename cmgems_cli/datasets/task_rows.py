"""From a path to the rows a classifier is trained, chosen and tested on, and the recipe they call for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cmgems_cli.artifacts import sha256_of_file
from cmgems_cli.datasets.shots import check_pool, draw_shots, pool_note
from cmgems_cli.datasets.splits import Splits, Table, read_splits
from cmgems_cli.datasets.task_files import SPLITS, fewshot_files_of, find_split, named_by_folders
from cmgems_cli.datasets.tasks import (
    FEW_SHOTS,
    MANY_SHOTS,
    MOST_FEW_SHOTS,
    SPECIAL_POSITIONS,
    FewshotTask,
    Recipe,
    fewshot_task_at,
    gue_task_at,
    row_notes,
)
from cmgems_cli.datasets.tasks import Task as GueTask
from cmgems_cli.errors import InputError, UsageError

# ours: what EMP's recipe is, the most general of GUE's, for data that are of no known task.
OWN_DATA = Recipe(max_tokens=512, epochs=3, max_steps=None, warmup_steps=50, eval_every=200)

# A pool of which rows are drawn, and the test: what a few-shot run reads.
POOL, TEST = "pool", "test"


@dataclass(frozen=True)
class FoundTask:
    """What a path holds, before any row is read.

    Attributes
    ----------
    files : dict, split -> Path
        train, dev and test; or pool and test, for a few-shot run.
    known : Task, FewshotTask or None
        The benchmark's task, where the path is that of one.
    shots : int or None
        Rows a class to draw from the pool; None: all rows there are.
    name : str
        The known task's, or the folder's or file's.
    """

    files: dict[str, Path]
    known: GueTask | FewshotTask | None
    shots: int | None
    name: str

    @property
    def few_shot(self) -> bool:
        """Whether rows are drawn from a pool, and the last model is the one that counts."""
        return POOL in self.files

    @property
    def label(self) -> str:
        """A name for folders: `tf-0`, `splice-40-10`."""
        name = self.name.replace("/", "-")
        return name if self.shots is None else f"{name}-{self.shots}"


def find_task(data: Path, shots: int | None = None) -> FoundTask:
    """Tell what is at a path, by names alone.

    Parameters
    ----------
    data : Path
        A folder with train, dev and test files; or one few-shot train file, near which its test lies.
    shots : int, optional
        Rows a class. Of a file in a folder named after a number of shots, that number when left out. With
        a folder, rows are drawn from its train split and the dev split is left alone: a few-shot run.

    Raises
    ------
    InputError
        If there is nothing at `data`, or a split is missing.
    """
    if not data.exists():
        raise InputError(
            f"{data} does not exist; needed a folder with train, dev and test.csv, or a few-shot TSV"
            " (GUE: `cmgems fetch gue`)"
        )
    known = gue_task_at(data)
    if data.is_dir():
        name = known.name if known else data.absolute().name
        splits = SPLITS if shots is None else ("train", TEST)
        files = {split: find_split(data, split) for split in splits}
        if shots is not None:
            files = {POOL: files["train"], TEST: files[TEST]}
        return FoundTask(files, known, shots, name)
    near = fewshot_files_of(data)
    at = fewshot_task_at(data)
    name, named_shots = (at[0].name, at[1]) if at else named_by_folders(near)
    return FoundTask({POOL: near.train, TEST: near.test}, at[0] if at else None, shots or named_shots, name)


@dataclass(frozen=True, eq=False)
class TaskRows:
    """The rows of one run.

    Attributes
    ----------
    found : FoundTask
    train, test : Table
    dev : Table or None
    recipe : Recipe
        As published, or ours for data of no known task.
    max_tokens : int, tokens
        The longest sequence that was let through, special tokens not counted.
    notes : tuple of str
        What a reader of the scores should know about the data.
    sha256 : dict, split -> str
        Of the files read.
    """

    found: FoundTask
    train: Table
    dev: Table | None
    test: Table
    recipe: Recipe
    max_tokens: int
    notes: tuple[str, ...]
    sha256: dict[str, str]


@dataclass(frozen=True, eq=False)
class TaskData:
    """The files of a task, read and checked once, for any number of runs.

    Attributes
    ----------
    found : FoundTask
    splits : Splits
    max_tokens : int, tokens
        The longest sequence that was let through, special tokens not counted.
    notes : tuple of str
        What a reader of the scores should know about the files.
    sha256 : dict, split -> str
        Of the files read.
    """

    found: FoundTask
    splits: Splits
    max_tokens: int
    notes: tuple[str, ...]
    sha256: dict[str, str]

    def rows(self, seed: int) -> TaskRows:
        """Return the rows of the run with this seed: a few-shot run's are drawn by it.

        Raises
        ------
        InputError
            As `fewshot.draw_shots`.
        """
        tables, found = self.splits.tables, self.found
        if not found.few_shot:
            return self._as_rows(tables, _published(found, None))
        pool, test = tables[POOL], tables[TEST]
        if found.shots is None:
            rows_a_class = int(np.bincount(pool.labels, minlength=len(pool.label_names)).min())
            return self._as_rows({"train": pool, TEST: test}, _published(found, rows_a_class))
        train = pool.take(draw_shots(pool, found.shots, seed))
        note = pool_note(pool, found.shots)
        return self._as_rows({"train": train, TEST: test}, _published(found, found.shots), note)

    def _as_rows(self, tables: dict[str, Table], recipe: Recipe, *notes: str) -> TaskRows:
        return TaskRows(
            self.found,
            tables["train"],
            tables.get("dev"),
            tables[TEST],
            recipe,
            self.max_tokens,
            (*self.notes, *notes),
            self.sha256,
        )


def read_task_data(
    found: FoundTask, *, k: int, positions: int, max_tokens: int | None = None, truncate: bool = False
) -> TaskData:
    """Read and check the files of a task.

    Parameters
    ----------
    found : FoundTask
        From `find_task`.
    k : int, bases
        Of the model.
    positions : int
        The model's longest input, [CLS] and [SEP] included.
    max_tokens : int, tokens, optional
        Longest sequence to take, special tokens not counted; the recipe's, as far as the model reaches, when
        left out.
    truncate : bool, default False
        Cut longer ones, and say how many, instead of refusing them.

    Raises
    ------
    InputError
        As `datasets.read_splits`, or if a pool holds fewer rows of a class than are to be drawn.
    UsageError
        If `max_tokens` is more than the model can take.
    """
    reach = positions - SPECIAL_POSITIONS
    if max_tokens is not None and max_tokens > reach:
        raise UsageError(
            f"--max-tokens {max_tokens}: the model has {positions} positions, {reach} without [CLS] and [SEP]"
        )
    longest = max_tokens or min(reach, _published(found, found.shots).sequence_tokens)
    splits = read_splits(found.files, k=k, max_tokens=longest, truncate=truncate)
    notes = row_notes(splits.rows, getattr(found.known, "rows", None) if not found.few_shot else None)
    classes, known = len(splits.label_names), found.known
    if known is not None and known.classes and classes != known.classes:
        notes.append(f"{classes} labels in train, published are {known.classes}")
    if found.shots is not None:
        check_pool(splits.tables[POOL], found.shots)
    sha256 = {split: sha256_of_file(path) for split, path in found.files.items()}
    return TaskData(found, splits, longest, (*notes, *splits.notes()), sha256)


def _published(found: FoundTask, shots: int | None) -> Recipe:
    """Return the recipe of a known task, or ours; few-shot recipes depend on the number of shots."""
    if found.few_shot:
        return FEW_SHOTS if shots is not None and shots <= MOST_FEW_SHOTS else MANY_SHOTS
    return found.known.recipe if isinstance(found.known, GueTask) else OWN_DATA


def changed(
    recipe: Recipe,
    *,
    epochs: int | None = None,
    max_steps: int | None = None,
    warmup_steps: int | None = None,
    learning_rate: float | None = None,
    global_batch: int | None = None,
    eval_every: int | None = None,
) -> Recipe:
    """Return a recipe with what was asked for otherwise; None leaves the published value.

    Raises
    ------
    UsageError
        If `eval_every` is given for a recipe without a dev split.
    """
    if eval_every is not None and recipe.eval_every is None:
        raise UsageError("--eval-every: a few-shot run has no dev split to evaluate; leave the option out")
    given: dict[str, Any] = {
        "epochs": epochs,
        "max_steps": max_steps,
        "warmup_steps": warmup_steps,
        "learning_rate": learning_rate,
        "global_batch": global_batch,
        "eval_every": eval_every,
    }
    return replace(recipe, **{name: value for name, value in given.items() if value is not None})
