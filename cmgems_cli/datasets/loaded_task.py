"""A task ready to train: its splits encoded, its recipe complete, and what a reader of its scores should know."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.artifacts import MADE_BY, MANIFEST, is_finished, read_manifest
from cmgems_cli.datasets.dev_split import with_dev
from cmgems_cli.datasets.leakage import Leakage, leakage_note, leakage_of_tables
from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.datasets.shots import check_pool, draw_shots, pool_note
from cmgems_cli.datasets.splits import Table, read_splits
from cmgems_cli.datasets.targets import Target
from cmgems_cli.datasets.task_files import POOL, TEST, TaskFiles
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.genome.strands import reverse_complements
from cmgems_cli.genome.tokenization import KMER_SPECIALS, SpecialIds, Tokenization
from cmgems_cli.metrics import problem_of

# Artifacts that hold labelled sequences.
_DATA_KIND = re.compile(rb'"kind":\s*"(fewshot|task)"')


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """Encoded sequences and their labels.

    Attributes
    ----------
    token_ids : int32, shape (n_tokens,)
        All sequences, concatenated, without special tokens.
    offsets : int64, shape (strands * n_rows + 1,)
        Where each sequence starts. With two strands, sequence n_rows + i is the reverse complement of row i.
    labels : array of n_rows rows
        As in `Table`: classes from 0, a 0 or 1 for each label, or values.
    specials : SpecialIds
        What surrounds and pads the rows.
    strands : int
        1, or 2 with the reverse complements of all rows.
    """

    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    labels: NDArray[Any]
    specials: SpecialIds = KMER_SPECIALS
    strands: int = 1

    def __len__(self) -> int:
        return len(self.labels)

    def read_on(self, strands: int) -> EncodedSplit:
        """Return the split with this number of strands, at most its own; nothing is copied."""
        if strands == self.strands:
            return self
        offsets = self.offsets[: len(self) + 1]
        return replace(self, token_ids=self.token_ids[: offsets[-1]], offsets=offsets, strands=strands)

    def lengths(self) -> NDArray[np.int64]:
        """Return the positions of each sequence, special tokens included: int64, shape (strands * n_rows,)."""
        return np.diff(self.offsets) + self.specials.positions


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
    tokenization : Tokenization
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
    leakage : tuple of Leakage
        What the splits have in common, by the whole pool where rows are drawn from one.
    name : str
        The task's, or that of its folder.
    """

    train: EncodedSplit
    dev: EncodedSplit | None
    test: EncodedSplit
    label_names: tuple[str, ...]
    tokenization: Tokenization
    recipe: Recipe
    notes: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)
    shots: int | None = None
    pool: Table | None = None
    warnings: tuple[str, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    leakage: tuple[Leakage, ...] = ()
    name: str = ""

    def class_weights(self) -> NDArray[np.float32]:
        """Return rows / (classes * rows of the class) of the training split: shape (n_classes,), mean 1 over its rows.

        Classes without training rows do not count, and get 0.

        Raises
        ------
        UsageError
            If the rows do not have one class each.
        """
        if self.target.problem in ("multilabel", "regression"):
            raise UsageError(
                f"`class_weights=balanced` needs one class per row, and this is {self.target.problem}"
            )
        rows = np.bincount(self.train.labels, minlength=len(self.label_names))
        weights = np.zeros(len(rows), np.float32)
        weights[rows > 0] = len(self.train) / ((rows > 0).sum() * rows[rows > 0])
        return weights

    def tried(self, recipe: Recipe) -> LoadedTask:
        """Return the task with a recipe that is one combination of its own's choices."""
        strands = 2 if recipe.averages else 1
        return replace(
            self,
            recipe=recipe,
            train=self.train.read_on(2 if recipe.augments else 1),
            dev=None if self.dev is None else self.dev.read_on(strands),
            test=self.test.read_on(strands),
        )

    @property
    def target(self) -> Target:
        """What a model of the task predicts."""
        return Target(problem_of(self.train.labels, len(self.label_names)), self.label_names)

    def drawn(self, seed: int) -> LoadedTask:
        """Return the task of the run with this seed: shots are drawn by it, all rows are the same for every seed.

        Raises
        ------
        InputError
            As `draw_shots`.
        """
        rows = self.rows_drawn(seed)
        if self.pool is None or rows is None:
            return self
        train = self.pool.take(rows)
        encoded, _ = _encoded(train, self.tokenization, self.recipe, both_strands=self.recipe.augments)
        return replace(self, train=encoded, tables={**self.tables, "train": train})

    def rows_drawn(self, seed: int) -> NDArray[np.int64] | None:
        """Return the drawn rows of `pool`: int64, shape (n,); None: all rows are used (raises as `draw_shots`)."""
        if self.pool is None or self.shots is None:
            return None
        return draw_shots(self.pool, self.shots, seed)


def load_task(
    task: TaskFiles, changes: Mapping[str, Any], *, tokenization: Tokenization, positions: int
) -> LoadedTask:
    """Read, check and encode the files of a task.

    Parameters
    ----------
    task : TaskFiles
    changes : mapping, field of `Recipe` -> value
        Replacements in the task's recipe, from `FinetuneOptions.changes`.
    tokenization : Tokenization
        Of the model.
    positions : int
        The model's longest input, special tokens included.

    Raises
    ------
    InputError
        As `read_splits`, if a file differs from the manifest of its few-shot artifact, or if a pool holds fewer
        rows per class than are to be drawn.
    UsageError
        If a change does not fit the model or the task.
    """
    recipe = recipe_of_task(task, changes, tokenization=tokenization, positions=positions)
    assert recipe.max_tokens is not None
    splits = read_splits(
        task.files,
        problem=recipe.problem,
        tokenization=tokenization,
        max_tokens=recipe.max_tokens,
        truncate=recipe.truncate,
    )
    if task.dev_fraction is not None:
        splits = with_dev(splits, task.dev_fraction)
    for split, path in task.files.items():
        _check_manifest(path, splits.tables[split].sha256)
    # As published: before a dev split was made of some.
    published = {split: splits.tables[split].counts.rows for split in task.files}
    notes = [*_published_notes(task, published, len(splits.label_names)), *splits.notes()]
    if task.dev_fraction is not None:
        notes.append(
            f"dev is {splits.rows['dev']:,} of train's {published['train']:,} rows, drawn class by class: the"
            f" benchmark has no dev split"
        )
    leaks = leakage_of_tables(splits.tables)
    if note := leakage_note(leaks):
        notes.append(note)
    pool = splits.tables.get(POOL)
    if pool is not None:
        if task.shots is not None:
            check_pool(pool, task.shots)
            notes.append(pool_note(pool, task.shots))
        else:
            fewest = min(pool.counts.rows_of_label)
            known = recipe_of_task(
                task, changes, tokenization=tokenization, positions=positions, rows_per_class=fewest
            )
            recipe = replace(known, max_tokens=recipe.max_tokens)
    encoded = {}
    for split, table in splits.tables.items():
        both = recipe.augments if split in ("train", POOL) else recipe.averages
        encoded[split], truncated = _encoded(table, tokenization, recipe, both_strands=both)
        if truncated:
            notes.append(f"{split} sequences cut to the longest input: {truncated:,}")
    return LoadedTask(
        encoded["train" if pool is None else POOL],
        encoded.get("dev"),
        encoded[TEST],
        splits.label_names,
        tokenization,
        recipe,
        tuple(notes),
        {split: splits.tables[split].sha256 for split in task.files},
        task.shots,
        pool,
        warnings=tuple(splits.warnings()),
        tables={"train": splits.tables["train"] if pool is None else pool, **splits.tables},
        leakage=leaks,
        name=task.name,
    )


def _check_manifest(path: Path, sha256: str) -> None:
    """Compare a file with the manifest of the artifact of data that it belongs to, if it does."""
    path = path.absolute()
    for folder in path.parents[:2]:
        kind = _DATA_KIND.search((folder / MANIFEST).read_bytes()) if is_finished(folder) else None
        if kind is None:
            continue
        manifest = read_manifest(folder, kind[1].decode())
        expected = manifest.files.get(path.relative_to(folder).as_posix())
        if expected is not None and expected["sha256"] != sha256:
            raise InputError(
                f"{path} does not have the sha256 of its manifest: the artifact is damaged; make it again with"
                f" `{MADE_BY[manifest.kind]}`"
            )


def recipe_of_task(
    task: TaskFiles,
    changes: Mapping[str, Any],
    *,
    tokenization: Tokenization,
    positions: int,
    rows_per_class: int = sys.maxsize,
) -> Recipe:
    """Return the recipe of a task with every change applied; parameters as for `load_task`.

    `rows_per_class` is needed for a pool of which all rows are trained on.

    Raises
    ------
    UsageError
        If a change does not fit the model or the task.
    """
    special = tokenization.specials.positions
    longest = positions - special
    if changes.get("max_tokens", 0) > longest:
        raise UsageError(
            f"`max_tokens={changes['max_tokens']}`: the model has {positions} positions, {longest} without its"
            f" {special} special tokens"
        )
    if "eval_every" in changes and not task.has_dev:
        raise UsageError("`eval_every`: this run has no dev split to evaluate; leave the option out")
    rows = None if task.has_dev else task.shots or rows_per_class
    recipe = task.benchmark.recipe_of(task.definition, rows).changed(changes)
    if recipe.freeze and (others := [name for name in recipe.choices if name != "pool"]):
        raise UsageError(
            f"`freeze=True` chooses the penalty and `pool` on dev, and no other option: give one `{others[0]}`"
        )
    if recipe.choices and not task.has_dev:
        name, values = next(iter(recipe.choices.items()))
        raise UsageError(
            f"`{name}={','.join(map(str, values))}`: this run has no dev split to choose on; give one value"
        )
    # The limits of published recipes count k-mers.
    limit = recipe.max_tokens if tokenization.k or "max_tokens" in changes else None
    return replace(recipe, max_tokens=min(limit or longest, longest))


def _encoded(
    table: Table, tokenization: Tokenization, recipe: Recipe, *, both_strands: bool
) -> tuple[EncodedSplit, int]:
    """Encode the rows of a table; also return how many were cut, of tokens whose length is known only now."""
    assert recipe.max_tokens is not None
    token_ids, offsets = table.encode(tokenization)
    if both_strands:
        reverse, more = tokenization.encode(reverse_complements(table.bases, table.offsets), table.offsets)
        token_ids = np.concatenate([token_ids, reverse])
        offsets = np.concatenate([offsets, offsets[-1] + more[1:]])
    lengths = np.diff(offsets)
    too_long = int((lengths > recipe.max_tokens).sum())
    if too_long:
        if not recipe.truncate:
            raise InputError(
                f"{table.path}: {too_long:,} of {len(lengths):,} sequences are longer than {recipe.max_tokens:,}"
                f" tokens, the longest {int(lengths.max()):,}: add `truncate=True` to truncate them"
            )
        place = np.arange(len(token_ids)) - np.repeat(offsets[:-1], lengths)
        token_ids = token_ids[place < recipe.max_tokens]
        offsets = offsets_of(np.minimum(lengths, recipe.max_tokens))
    strands = 2 if both_strands else 1
    return EncodedSplit(token_ids, offsets, table.labels, tokenization.specials, strands), too_long


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
