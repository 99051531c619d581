"""From one table of labelled sequences to train, dev and test in GUE's layout, without leakage (method, section 7).

By cluster, sequences that are near-duplicates, or are connected by further ones, are in one split. By chromosome, all
rows of a chromosome are. Stratified, each row is drawn by itself. Every label has about the same share of each split.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli import draws
from cmgems_cli.artifacts import Manifest, environment
from cmgems_cli.datasets.benchmark import SPLITS
from cmgems_cli.datasets.containment import clusters
from cmgems_cli.datasets.labelled_table import LabelledRows
from cmgems_cli.datasets.labels import are_lists, are_measured, listed, ordered, value_of
from cmgems_cli.datasets.leakage import Leakage, leakage, leakage_note, leakage_stats
from cmgems_cli.datasets.shots import random_numbers
from cmgems_cli.datasets.split_options import SplitOptions
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.contig_names import canonical_name
from cmgems_cli.option_fields import recipe_fields
from cmgems_cli.outputs import Output
from cmgems_cli.row_writer import RowWriter

# Columns that hold a chromosome, and those that may hold an interval, in the order in which they are looked for.
CHROMOSOME_COLUMNS = ("chromosome", "chrom", "#chrom", "chr", "contig", "seqname", "seqnames", "seqid")
INTERVAL_COLUMNS = ("interval", "region", "locus", "name", "id", "header")
_INTERVAL = re.compile(r">?([^:\s]+):[\d,]+(?:-|\.\.)[\d,]+")

# ours: measured values are strata by tenths of their order.
STRATA_OF_VALUES = 10
# ours: how many labels a manifest counts one by one.
LABELS_COUNTED = 50

TRAIN, DEV, TEST = range(3)


class EmptySplitError(InputError):
    """A division leaves a split without rows; `counts` has the rows of each, in words."""

    def __init__(self, message: str, counts: str) -> None:
        super().__init__(message)
        self.counts = counts


@dataclass(frozen=True, eq=False)
class TaskSplit:
    """A table divided into train, dev and test.

    Attributes
    ----------
    rows : LabelledRows
    split : int64, shape (n_rows,)
        `TRAIN`, `DEV` or `TEST`.
    params : dict
        What was chosen.
    counted : dict
        What is known of the groups: clusters, or the chromosomes of each split.
    leakage : list of Leakage
        Between the splits, counted afterwards.
    """

    rows: LabelledRows
    split: NDArray[np.int64]
    params: dict[str, Any]
    counted: dict[str, Any]
    leakage: list[Leakage]

    def labels_of(self, split: int) -> Counter[str]:
        """Return the number of rows of each label in a split."""
        return Counter(self.rows.labels[row] for row in np.flatnonzero(self.split == split).tolist())

    def notes(self) -> list[str]:
        """Return what a user of the task should know."""
        repeats = len(self.rows.sequences) - len(set(self.rows.sequences))
        notes = [f"rows that repeat an earlier sequence: {repeats:,}"] if repeats else []
        if not are_measured(labels := ordered(set(self.rows.labels))):
            for number, name in enumerate(SPLITS):
                if lacking := [label for label in labels if label not in self.labels_of(number)]:
                    notes.append(f"{name} has no row with the label {listed(lacking)}")
        return [*notes, *filter(None, [leakage_note(self.leakage)])]

    def stats(self) -> dict[str, Any]:
        """Return the counts, as the manifest has them."""
        counts = [self.labels_of(split) for split in (TRAIN, DEV, TEST)]
        labels = ordered(set(self.rows.labels))
        by_label = {
            label: {name: counts[number][label] for number, name in enumerate(SPLITS)} for label in labels
        }
        return {
            "rows": len(self.rows.labels),
            **{f"n_{name}": counts[number].total() for number, name in enumerate(SPLITS)},
            **({"rows_of_label": by_label} if len(labels) <= LABELS_COUNTED else {}),
            **self.counted,
            "leakage": leakage_stats(self.leakage),
            "notes": self.notes(),
        }


def split_rows(rows: LabelledRows, options: SplitOptions, *, seed: int = 42) -> TaskSplit:
    """Divide the rows of a table.

    Parameters
    ----------
    rows : LabelledRows
    options : SplitOptions
    seed : int, default 42

    Raises
    ------
    UsageError
        If options contradict each other, or a chromosome is unknown.
    InputError
        If the table has no chromosomes to divide by, or a split would be empty (`EmptySplitError`), or a label would be
        missing in train.
    """
    shares = np.array([1 - options.dev - options.test, options.dev, options.test])
    if shares.min() <= 0:
        raise UsageError(
            f"`dev={options.dev:g}` and `test={options.test:g}`: needed both above 0, and below 1 together"
        )
    named = (options.column, options.dev_chromosomes, options.test_chromosomes)
    if options.by != "chromosome" and any(named):
        raise UsageError("`column`, `dev_chromosomes` and `test_chromosomes` need `by=chromosome`")
    strata = _strata(rows.labels)
    counted: dict[str, Any] = {}
    if options.by == "chromosome":
        names = _chromosomes(rows, options.column)
        split = _by_chromosome(rows, names, strata, shares, options, seed)
        counted["chromosomes"] = {
            name: list(dict.fromkeys(names[row] for row in np.flatnonzero(split == number).tolist()))
            for number, name in enumerate(SPLITS)
        }
    elif options.by == "cluster":
        groups = clusters(rows.sequences, threshold=options.containment)
        sizes = np.bincount(groups)
        counted |= {"clusters": len(sizes), "largest_cluster": int(sizes.max())}
        split = assign_groups(groups, strata, shares, seed=seed)
    else:
        split = _by_row(strata, shares, seed)
    _check(rows, split, options)
    of_split = {
        name: [rows.sequences[row] for row in np.flatnonzero(split == number).tolist()]
        for number, name in enumerate(SPLITS)
    }
    params = {**recipe_fields(options), "seed": seed}
    return TaskSplit(rows, split, params, counted, leakage(of_split))


def assign_groups(
    groups: NDArray[np.int64], strata: NDArray[np.int64], shares: NDArray[np.float64], *, seed: int
) -> NDArray[np.int64]:
    """Return the split of each row, so that groups stay whole and splits get their shares of every stratum.

    The largest group comes first, equally large ones in a random order. Each goes to the split that lacks the largest
    part of its rows of these strata, among those that have room for it; train always has.

    Parameters
    ----------
    groups, strata : int64, shape (n_rows,)
        Numbers from 0.
    shares : float64, shape (3,)
        Of train, dev and test.
    seed : int

    Returns
    -------
    int64, shape (n_rows,)
    """
    counts = np.zeros((int(groups.max()) + 1, int(strata.max()) + 1))
    np.add.at(counts, (groups, strata), 1)
    sizes = counts.sum(axis=1)
    wanted = shares[:, None] * counts.sum(axis=0)
    lacking, per_row = wanted.copy(), 1 / np.maximum(wanted, 1e-9)
    room = wanted.sum(axis=1)
    split = np.empty(len(sizes), np.int64)
    for group in np.lexsort((_numbers(np.arange(len(sizes)), seed), -sizes)).tolist():
        need = (lacking * per_row) @ counts[group]
        # Half a row: shares of whole rows are rarely whole.
        need[room + 0.5 < sizes[group]] = -np.inf
        if np.isneginf(need[TRAIN:]).all():
            need[TRAIN] = 0
        split[group] = chosen = int(np.argmax(need))
        lacking[chosen] -= counts[group]
        room[chosen] -= sizes[group]
    return split[groups]


def write_task(task: TaskSplit, out: Path, *, overwrite: bool = False) -> Manifest:
    """Write train.csv, dev.csv and test.csv as an artifact of the kind `task`, all of it or nothing.

    Raises
    ------
    OverwriteError
        If `out` may not be written.
    """
    started = time.perf_counter()
    output = Output(out, "task", params=task.params, inputs={"table": task.rows.sha256})
    with output.claim(overwrite=overwrite) as claim:
        if claim.done is not None:
            return claim.done
        files = write_rows(task, claim.folder)
        return claim.finish(stats=task.stats(), files=files, environment=environment(started))


def write_rows(task: TaskSplit, folder: Path) -> list[str]:
    """Write train.csv, dev.csv and test.csv to a folder; return their names."""
    files = [f"{name}.csv" for name in SPLITS]
    for number, name in enumerate(files):
        with (folder / name).open("w", encoding="utf-8", newline="") as stream:
            writer = RowWriter(stream)
            writer.row(task.rows.columns)
            writer.rows(task.rows.cells[row] for row in np.flatnonzero(task.split == number).tolist())
    return files


def _numbers(keys: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    numbers: NDArray[np.uint64] = random_numbers(np.uint64(seed), draws.TASK_SPLIT, keys, np.zeros_like(keys))
    return numbers


def _strata(labels: Sequence[str]) -> NDArray[np.int64]:
    """Return a number for each row: of its label, or of the tenth that its measured value is in."""
    if are_measured(list(set(labels))):
        ranks = np.argsort(np.argsort([float(value_of(label)) for label in labels], kind="stable"))
        return ranks * STRATA_OF_VALUES // len(labels)
    number_of = {label: number for number, label in enumerate(ordered(set(labels)))}
    return np.array([number_of[label] for label in labels], dtype=np.int64)


def _by_row(strata: NDArray[np.int64], shares: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    split = np.full(len(strata), TRAIN, np.int64)
    numbers = _numbers(np.arange(len(strata)), seed)
    for stratum in range(int(strata.max()) + 1):
        rows = np.flatnonzero(strata == stratum)
        rows = rows[np.argsort(numbers[rows], kind="stable")]
        n_dev, n_test = round(shares[DEV] * len(rows)), round(shares[TEST] * len(rows))
        split[rows[:n_test]] = TEST
        split[rows[n_test : n_test + n_dev]] = DEV
    return split


def _chromosomes(rows: LabelledRows, column: str | None) -> list[str]:
    """Return each row's chromosome as it is written first; names of one chromosome are made equal."""
    columns = [name.casefold() for name in rows.columns]
    if column is not None and column.casefold() not in columns:
        raise UsageError(
            f"{rows.path} has no column {column!r} (it has: {', '.join(rows.columns)}); give one of these as `column`"
        )
    names = [column.casefold()] if column else [name for name in CHROMOSOME_COLUMNS if name in columns]
    first_cells = dict(zip(columns, rows.cells[0], strict=True))
    names += [
        name for name in INTERVAL_COLUMNS if name in columns and _INTERVAL.match(first_cells.get(name, ""))
    ]
    if not names:
        raise InputError(
            f"{rows.path} has no column with chromosomes (it has: {', '.join(rows.columns)}); needed one such as"
            " chrom, or a name such as chr1:100-200: give it as `column`, or split `by=cluster`"
        )
    place = columns.index(names[0])
    written: dict[str, str] = {}
    chromosomes = []
    for number, cells in enumerate(rows.cells, start=1):
        match = _INTERVAL.match(cells[place])
        name = match[1] if match else cells[place]
        if not name or (
            match is None and names[0] not in (*CHROMOSOME_COLUMNS, column and column.casefold())
        ):
            raise InputError(
                f"{rows.path} row {number:,} has {cells[place]!r} in its column {rows.columns[place]!r}; needed a"
                " chromosome, or an interval such as chr1:100-200"
            )
        chromosomes.append(written.setdefault(canonical_name(name), name))
    return chromosomes


def _by_chromosome(
    rows: LabelledRows,
    names: list[str],
    strata: NDArray[np.int64],
    shares: NDArray[np.float64],
    options: SplitOptions,
    seed: int,
) -> NDArray[np.int64]:
    known = {canonical_name(name): name for name in names}
    wanted: dict[str, int] = {}
    for number, text, option_name in (
        (DEV, options.dev_chromosomes, "dev_chromosomes"),
        (TEST, options.test_chromosomes, "test_chromosomes"),
    ):
        for part in filter(None, (part.strip() for part in (text or "").split(","))):
            name = canonical_name(part)
            if name not in known:
                raise UsageError(
                    f"`{option_name}={part}`: {rows.path} has no such chromosome; it has"
                    f" {listed(list(known.values()), most=30)}"
                )
            if wanted.setdefault(name, number) != number:
                raise UsageError(f"{part} is in `dev_chromosomes` and in `test_chromosomes`; give it to one")
    split = np.array([wanted.get(canonical_name(name), -1) for name in names], dtype=np.int64)
    open_rows = np.flatnonzero(split < 0)
    chosen = np.array(
        [0, 0 if options.dev_chromosomes else shares[DEV], 0 if options.test_chromosomes else shares[TEST]]
    )
    if not len(open_rows) or not chosen.any():
        split[open_rows] = TRAIN
        return split
    chosen *= len(split) / len(open_rows)
    chosen[TRAIN] = max(0.0, 1 - chosen.sum())
    order = {
        name: number for number, name in enumerate(dict.fromkeys(names[row] for row in open_rows.tolist()))
    }
    groups = np.array([order[names[row]] for row in open_rows.tolist()], dtype=np.int64)
    assigned = assign_groups(groups, strata[open_rows], chosen, seed=seed)
    for number in (DEV, TEST):
        in_train = Counter(groups[assigned == TRAIN].tolist())
        # No chromosome is as small as the split: the smallest one it is.
        if chosen[number] and len(in_train) > 1 and not (assigned == number).any():
            assigned[groups == min(in_train, key=lambda group: in_train[group])] = number
    split[open_rows] = assigned
    return split


def _check(rows: LabelledRows, split: NDArray[np.int64], options: SplitOptions) -> None:
    """Check that every split has rows, and train every label of a classification task."""
    sizes = np.bincount(split, minlength=len(SPLITS)).tolist()
    if not all(sizes):
        counts = ", ".join(f"{name} {size:,}" for name, size in zip(SPLITS, sizes, strict=True))
        more = {
            "chromosome": "name other chromosomes, or split `by=cluster`",
            "cluster": "too few sequences, or most near-duplicates of each other: raise `containment`, or split"
            " `by=stratified`",
            "stratified": "give more rows, or larger fractions",
        }[options.by]
        raise EmptySplitError(
            f"{rows.path} divided by {options.by} leaves a split without rows ({counts}); {more}", counts
        )
    labels = set(rows.labels)
    if are_measured(list(labels)) or are_lists(list(labels)):
        return
    lacking = labels - {rows.labels[row] for row in np.flatnonzero(split == TRAIN).tolist()}
    if lacking:
        raise InputError(
            f"{rows.path} divided by {options.by} leaves train without the label {listed(ordered(lacking))}; give more"
            " rows of it, or divide in another way"
        )
