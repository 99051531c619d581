"""The rows of few-shot runs, drawn from a pool (method, section 7)."""

from __future__ import annotations

import numpy as np
from numba import uint64
from numpy.typing import NDArray

from cmgems_cli import draws
from cmgems_cli.datasets.splits import Table
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.kernels import kernel

# The 64-bit FNV-1a hash (Fowler, Noll and Vo): where it starts and its multiplier.
_FNV_START = np.uint64(0xCBF29CE484222325)
_FNV_PRIME = np.uint64(0x100000001B3)


def draw_shots(pool: Table, shots: int, seed: int) -> NDArray[np.int64]:
    """Draw `shots` rows of every class, without replacement.

    A pure function of the pool's rows, whatever their order in the file, and of the seed: every row gets a
    random number made from (seed, its sequence and label), and the lowest of each class are drawn. Runs with
    other seeds, or of other datasets, change nothing; from one pool, 10 shots are among the 50 of that seed.

    Parameters
    ----------
    pool : Table
        Rows to draw from.
    shots : int
        Rows of each class.
    seed : int
        Of this run.

    Returns
    -------
    int64, shape (n_classes * shots,)
        Row indices, class by class, each class in the order it was drawn.

    Raises
    ------
    InputError
        If a class has fewer rows than `shots`.
    UsageError
        If rows do not have one class each.
    """
    check_pool(pool, shots)
    numbers = _numbers_of(pool, seed)
    chosen = []
    for label in range(len(pool.label_names)):
        rows = np.flatnonzero(pool.labels == label)
        chosen.append(rows[np.argsort(numbers[rows], kind="stable")[:shots]])
    return np.concatenate(chosen).astype(np.int64)


def check_pool(pool: Table, shots: int) -> None:
    """Check that a pool has at least `shots` rows of each label.

    Raises
    ------
    InputError
        If it has fewer.
    UsageError
        If rows do not have one class each.
    """
    if pool.problem in ("multilabel", "regression"):
        raise UsageError(
            f"`shots={shots}` are rows per class, and {pool.path} is {pool.problem}; leave it out"
        )
    rows_of_label = np.bincount(pool.labels, minlength=len(pool.label_names))
    scarcest = int(np.argmin(rows_of_label))
    if rows_of_label[scarcest] < shots:
        raise InputError(
            f"{pool.path} has {rows_of_label[scarcest]:,} rows with the label {pool.label_names[scarcest]!r};"
            f" needed {shots:,} of each label: ask for fewer `shots` or give a larger pool"
        )


def pool_note(pool: Table, shots: int) -> str:
    """Return what the draws are made from, for a reader of the scores.

    Runs from a pool of exactly `shots` rows per class share all their rows: a standard deviation over them holds
    the initialisation and the order of training only.
    """
    sizes = np.bincount(pool.labels, minlength=len(pool.label_names)).tolist()
    if set(sizes) == {shots}:
        return f"pool of exactly {shots:,} rows per class: every run trains on the same rows"
    shown = f"{sizes[0]:,}" if len(set(sizes)) == 1 else ", ".join(f"{rows:,}" for rows in sizes)
    return f"drawn from a pool of {shown} rows per class"


def _numbers_of(pool: Table, seed: int) -> NDArray[np.uint64]:
    contents = _contents(pool.bases, pool.offsets, pool.labels)
    # Equal rows need numbers of their own, or they would be drawn together: the first, the second …
    order = np.argsort(contents, kind="stable")
    places = np.arange(len(order))
    starts = np.where(np.append(True, np.diff(contents[order]) != 0), places, 0)
    repeats = np.empty_like(places)
    repeats[order] = places - np.maximum.accumulate(starts)
    return random_numbers(np.uint64(seed), draws.FEWSHOT_ROWS, contents, repeats)


def sequence_hashes(table: Table) -> NDArray[np.uint64]:
    """Return a hash of each row's sequence, whatever its label: uint64, shape (n_rows,)."""
    return _contents(table.bases, table.offsets, np.zeros_like(table.labels))


@kernel()
def _contents(bases, offsets, labels):  # type: ignore[no-untyped-def]
    """Hash each row's label and sequence. uint64, shape (n_rows,)."""
    hashes = np.empty(len(labels), np.uint64)
    for row in range(len(labels)):
        content = (_FNV_START ^ uint64(labels[row])) * _FNV_PRIME
        for i in range(offsets[row], offsets[row + 1]):
            content = (content ^ uint64(bases[i])) * _FNV_PRIME
        hashes[row] = content
    return hashes


@kernel()
def random_numbers(seed, purpose, first, second):  # type: ignore[no-untyped-def]
    """Return 64 random bits for each row, a function of its two keys.

    Parameters
    ----------
    seed : uint64
    purpose : int
        Of `draws`.
    first, second : integer, shape (n_rows,)

    Returns
    -------
    uint64, shape (n_rows,)
    """
    numbers = np.empty(len(first), np.uint64)
    for row in range(len(first)):
        numbers[row] = draws.bits(draws.key(seed, purpose, first[row], second[row]), 0)
    return numbers
