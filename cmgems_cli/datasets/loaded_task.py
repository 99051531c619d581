"""A task ready to train: its splits encoded, its recipe complete, and what a reader of its scores should know."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.artifacts import MANIFEST, is_finished, read_manifest
from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.datasets.shots import check_pool, draw_shots, pool_note
from cmgems_cli.datasets.splits import Table, read_splits
from cmgems_cli.datasets.task_files import POOL, TEST, TaskFiles
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.vocabulary import SPECIAL_POSITIONS


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """Encoded sequences and their classes.

    Attributes
    ----------
    token_ids : int32, shape (n_tokens,)
        All sequences, concatenated, without special tokens.
    offsets : int64, shape (n_rows + 1,)
        Where each sequence starts.
    labels : int64, shape (n_rows,)
        Classes, from 0.
    """

    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def lengths(self) -> NDArray[np.int64]:
        """Return the positions of each row, [CLS] and [SEP] included: int64, shape (n_rows,)."""
        return np.diff(self.offsets) + SPECIAL_POSITIONS


@dataclass(frozen=True, eq=False)
class LoadedTask:
    """A task ready to train.

    Attributes
    ----------
    train, test : EncodedSplit
    dev : EncodedSplit or None
        Required if the recipe evaluates.
    label_names : tuple of str
        The classes by number.
    k : int, bases
        Of the encoding.
    recipe : Recipe
        With every change applied; `max_tokens` is the limit that the sequences were checked against.
    notes : tuple of str
        What a reader of the scores should know about the data.
    warnings : tuple of str
        Those notes that make the scores doubtful.
    sha256 : mapping, split -> str
        Of the files.
    shots : int or None
        Rows per class that `drawn` takes from `pool`.
    pool : Table or None
    tables : mapping, split -> Table
        The rows of train, dev and test as letters.
    """

    train: EncodedSplit
    dev: EncodedSplit | None
    test: EncodedSplit
    label_names: tuple[str, ...]
    k: int
    recipe: Recipe
    notes: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    shots: int | None = None
    pool: Table | None = None
    warnings: tuple[str, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)

    def drawn(self, seed: int) -> LoadedTask:
        """Return the task of the run with this seed: shots are drawn by it, all rows are the same for every seed.

        Raises
        ------
        InputError
            As `draw_shots`.
        """
        if self.pool is None or self.shots is None:
            return self
        train = self.pool.take(draw_shots(self.pool, self.shots, seed))
        return replace(self, train=_encoded(train, self.k), tables={**self.tables, "train": train})


def load_task(task: TaskFiles, changes: Mapping[str, Any], *, k: int, positions: int) -> LoadedTask:
    """Read, check and encode the files of a task.

    Parameters
    ----------
    task : TaskFiles
    changes : mapping, field of `Recipe` -> value
        Replacements in the task's recipe, from `FinetuneOptions.changes`.
    k : int, bases
        Of the model.
    positions : int
        The model's longest input, [CLS] and [SEP] included.

    Raises
    ------
    InputError
        As `read_splits`, if a file differs from the manifest of its few-shot artifact, or if a pool holds fewer
        rows per class than are to be drawn.
    UsageError
        If a change does not fit the model or the task.
    """
    recipe = recipe_of_task(task, changes, positions=positions)
    splits = read_splits(task.files, k=k, max_tokens=recipe.max_tokens, truncate=recipe.truncate)
    for split, path in task.files.items():
        _check_manifest(path, splits.tables[split].sha256)
    notes = [*_published_notes(task, splits.rows, len(splits.label_names)), *splits.notes()]
    pool = splits.tables.get(POOL)
    if pool is not None:
        if task.shots is not None:
            check_pool(pool, task.shots)
            notes.append(pool_note(pool, task.shots))
        else:
            fewest = min(pool.counts.rows_of_label)
            known = recipe_of_task(task, changes, positions=positions, rows_per_class=fewest)
            recipe = replace(known, max_tokens=recipe.max_tokens)
    dev = splits.tables.get("dev")
    return LoadedTask(
        _encoded(splits.tables["train"] if pool is None else pool, k),
        None if dev is None else _encoded(dev, k),
        _encoded(splits.tables[TEST], k),
        splits.label_names,
        k,
        recipe,
        tuple(notes),
        {split: table.sha256 for split, table in splits.tables.items()},
        task.shots,
        pool,
        warnings=tuple(splits.warnings()),
        tables={"train": splits.tables["train"] if pool is None else pool, **splits.tables},
    )


def _check_manifest(path: Path, sha256: str) -> None:
    """Compare a file with the manifest of the few-shot artifact that it belongs to, if it does."""
    path = path.absolute()
    for folder in path.parents[:2]:
        if not is_finished(folder) or b'"fewshot"' not in (folder / MANIFEST).read_bytes():
            continue
        expected = read_manifest(folder, "fewshot").files.get(path.relative_to(folder).as_posix())
        if expected is not None and expected["sha256"] != sha256:
            raise InputError(
                f"{path} does not have the sha256 of its manifest: the artifact is damaged; make it again with"
                " `cmgems build-fewshot`"
            )


def recipe_of_task(
    task: TaskFiles, changes: Mapping[str, Any], *, positions: int, rows_per_class: int = sys.maxsize
) -> Recipe:
    """Return the recipe of a task with every change applied; parameters as for `load_task`.

    `rows_per_class` is needed for a pool of which all rows are trained on.

    Raises
    ------
    UsageError
        If a change does not fit the model or the task.
    """
    longest = positions - SPECIAL_POSITIONS
    if changes.get("max_tokens", 0) > longest:
        raise UsageError(
            f"`max_tokens={changes['max_tokens']}`: the model has {positions} positions, {longest} without [CLS]"
            " and [SEP]"
        )
    if "eval_every" in changes and not task.has_dev:
        raise UsageError("`eval_every`: this run has no dev split to evaluate; leave the option out")
    rows = None if task.has_dev else task.shots or rows_per_class
    recipe = task.benchmark.recipe_of(task.definition, rows).changed(changes)
    return replace(recipe, max_tokens=min(recipe.max_tokens, longest))


def _encoded(table: Table, k: int) -> EncodedSplit:
    return EncodedSplit(*table.encode(k), table.labels)


def _published_notes(task: TaskFiles, rows: Mapping[str, int], n_labels: int) -> list[str]:
    """Return where the data differ from what was published: a note, never an error."""
    published = task.definition.rows if task.has_dev else {}
    notes = [
        f"{split} has {rows[split]:,} rows, published are {number:,}"
        for split, number in published.items()
        if split in rows and rows[split] != number
    ]
    classes = task.definition.classes
    if classes is not None and n_labels != classes:
        notes.append(f"{n_labels} labels in train, published are {classes}")
    return notes
