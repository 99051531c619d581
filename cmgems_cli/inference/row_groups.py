"""Rows with the letters they are cut from, and the same rows on the other strand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.genome.strands import reverse_complement
from cmgems_cli.inference.inference_options import Strand


@dataclass(frozen=True, eq=False)
class RowGroup:
    """Rows from one sequence with its letters; coordinates are absolute, `letters` begin at `starts[0]`."""

    name: str
    letters: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def as_read(groups: list[RowGroup], strand: Strand) -> list[RowGroup]:
    """Return the groups of the strands to read, forward ones first."""
    reverse = [] if strand == "forward" else [_mirrored(group) for group in groups]
    return reverse if strand == "reverse" else [*groups, *reverse]


def _mirrored(group: RowGroup) -> RowGroup:
    """Return the reverse complement of a group, with its rows in reverse order, from the same first coordinate."""
    both_ends = group.starts[0] + group.ends[-1]
    starts, ends = both_ends - group.ends[::-1], both_ends - group.starts[::-1]
    return RowGroup(group.name, reverse_complement(group.letters), starts, ends)


def strand_order(groups: list[RowGroup], strand: Strand) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return which row of `as_read` each row of a block is, and whether it is read in reverse.

    int64 and bool, shape (n,): rows are in order of the groups, and of both strands of one the forward row is first.
    """
    counts = np.array([len(group.starts) for group in groups])
    rows = np.arange(counts.sum())
    if strand == "forward":
        return rows, np.zeros(len(rows), np.bool_)
    offsets = offsets_of(counts)
    in_reverse = np.repeat(offsets[:-1] + offsets[1:] - 1, counts) - rows
    if strand == "reverse":
        return in_reverse, np.ones(len(rows), np.bool_)
    both = np.stack([rows, len(rows) + in_reverse], axis=1)
    return both.ravel(), np.tile([False, True], len(rows))


def letters_of_rows(groups: list[RowGroup]) -> list[bytes]:
    """Return the letters of every row."""
    return [
        group.letters[start - group.starts[0] : end - group.starts[0]]
        for group in groups
        for start, end in zip(group.starts.tolist(), group.ends.tolist(), strict=True)
    ]


def joined(texts: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Concatenate sequences: letters, uint8, shape (n_letters,); starts, int64, shape (n + 1,)."""
    letters = np.frombuffer(b"".join(texts), np.uint8)
    return letters, offsets_of(np.array([len(text) for text in texts]))
