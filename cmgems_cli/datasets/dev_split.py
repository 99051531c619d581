"""A dev split for benchmarks that publish train and test only: a keyed part of train, class by class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cmgems_cli import draws
from cmgems_cli.datasets.shots import random_numbers, sequence_hashes
from cmgems_cli.datasets.splits import Counts, Splits, Table

# ours: the part of train is the same for every run, so that their scores compare.
_SEED = np.uint64(42)


def with_dev(splits: Splits, fraction: float) -> Splits:
    """Return the splits of a task with a part of train as dev; parameters as `split_off_dev`."""
    train, dev = split_off_dev(splits.tables["train"], fraction)
    return replace(splits, tables={"train": train, "dev": dev, "test": splits.tables["test"]})


def split_off_dev(train: Table, fraction: float) -> tuple[Table, Table]:
    """Split a table into train and dev.

    A pure function of the rows, whatever their order in the file: every row gets a random number made from its
    sequence, and the lowest of each class are dev. Rows of equal sequences stay on one side.

    Parameters
    ----------
    train : Table
        As published.
    fraction : float, in (0, 1)
        Of each class, rounded, at least one row of a class of two or more.

    Returns
    -------
    (Table, Table)
        Train, whose `counts` are still those of the file, and dev.
    """
    hashes = sequence_hashes(train)
    numbers = random_numbers(_SEED, draws.DEV_SPLIT, hashes, np.zeros(len(hashes), np.int64))
    is_dev = np.zeros(len(train), bool)
    for label in range(len(train.label_names)):
        rows = np.flatnonzero(train.labels == label)
        wanted = min(max(1, round(fraction * len(rows))), len(rows) - 1)
        if wanted > 0:
            is_dev |= (train.labels == label) & (numbers <= np.sort(numbers[rows])[wanted - 1])
    is_dev = np.isin(hashes, hashes[is_dev])
    dev = train.take(np.flatnonzero(is_dev))
    # Unusual rows are counted once, where they were read.
    of_label = np.bincount(dev.labels, minlength=len(train.label_names))
    counts = Counts(len(dev), tuple(of_label.tolist()), 0, 0, 0, 0, 0, 0)
    return train.take(np.flatnonzero(~is_dev)), replace(dev, counts=counts)
