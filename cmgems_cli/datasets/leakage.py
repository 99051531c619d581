"""Rows of one split that another has too, or nearly: they make a test easier than new data (method, section 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cmgems_cli.datasets.containment import Sketches
    from cmgems_cli.datasets.splits import Table

# How a run's note on leakage begins: reports put those of all tasks into one.
NOTE_START = "leakage, equal + near-duplicate rows: "
# The same for the one note of a report.
TITLE = (
    "Leakage between splits: rows with an equal + with a near-duplicate row (half of their 15-mers or more in common,"
    " on either strand)"
)

# Leakage of the tasks that this process has read, by the digests and lengths of their splits.
_known: dict[tuple[tuple[str, str, int], ...], tuple[Leakage, ...]] = {}


@dataclass(frozen=True)
class Leakage:
    """The rows of one split that have an equal or nearly equal row in another.

    Attributes
    ----------
    split, other : str
        Rows of `split` are counted, by what `other` has.
    rows : int
        All rows of `split`.
    equal : int
        Those whose letters a row of `other` has.
    near : int
        Further ones with a near-duplicate there (`datasets.containment`).
    """

    split: str
    other: str
    rows: int
    equal: int
    near: int


class _Split:
    """The sequences of a split, sketched when that is needed."""

    def __init__(self, sequences: Sequence[bytes]) -> None:
        self.sequences = sequences

    @cached_property
    def different(self) -> set[bytes]:
        return set(self.sequences)

    @cached_property
    def sketches(self) -> Sketches:
        from cmgems_cli.datasets.containment import Sketches

        return Sketches(self.sequences)


def leakage(sequences: Mapping[str, Sequence[bytes]]) -> list[Leakage]:
    """Count the rows of each split that earlier ones leak into, in the order test in train, dev in train, test in dev.

    Parameters
    ----------
    sequences : mapping, split -> sequence of bytes
        Upper-case letters of every row; train (or the pool) first, test last.
    """
    import numpy as np

    # Compiled code is imported when it is needed: reports import this module too.
    from cmgems_cli.datasets.containment import has_near_duplicate

    splits = {name: _Split(rows) for name, rows in sequences.items()}
    names = list(splits)
    pairs = [(split, names[0]) for split in reversed(names[1:])]
    pairs += [(names[-1], other) for other in names[1:-1]]
    counted = []
    for split, other in pairs:
        rows, others = splits[split], splits[other]
        equal = np.array([sequence in others.different for sequence in rows.sequences], dtype=np.bool_)
        near = has_near_duplicate(rows.sketches, others.sketches) & ~equal
        counted.append(Leakage(split, other, len(equal), int(equal.sum()), int(near.sum())))
    return counted


def leakage_of_tables(tables: Mapping[str, Table]) -> tuple[Leakage, ...]:
    """Return the leakage of a task's splits, counted once per process (tables as in `Splits`)."""
    key = tuple((split, table.sha256, len(table.bases)) for split, table in tables.items())
    if key not in _known:
        _known[key] = tuple(leakage({split: table.sequences() for split, table in tables.items()}))
    return _known[key]


def leakage_note(counted: Sequence[Leakage]) -> str | None:
    """Return what a reader of a score should know of leakage; None if there is none.

    >>> leakage_note([Leakage("test", "train", 1000, 2, 44), Leakage("dev", "train", 1000, 0, 0)])
    'leakage, equal + near-duplicate rows: 2 + 44 of 1,000 test rows in train'
    """
    said = [
        f"{one.equal:,} + {one.near:,} of {one.rows:,} {one.split} rows in {one.other}"
        for one in counted
        if one.equal or one.near
    ]
    return NOTE_START + ", ".join(said) if said else None


def leakage_stats(counted: Sequence[Leakage]) -> dict[str, dict[str, int]]:
    """Return the counts for a manifest: "test in train" -> equal and near."""
    return {f"{one.split} in {one.other}": {"equal": one.equal, "near": one.near} for one in counted}
