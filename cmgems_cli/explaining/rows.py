"""The rows of an input with their letters, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import InputError
from cmgems_cli.genome.tokenization import Tokenization
from cmgems_cli.inference.region_source import RegionName
from cmgems_cli.inference.row_blocks import TilingOptions, row_groups
from cmgems_cli.inference.survey import Input

# What upper-case letters lack of lower-case ones.
_LOWER = np.uint8(ord("a") - ord("A"))


@dataclass(frozen=True, eq=False)
class Row:
    """A sequence, or a window of one.

    Attributes
    ----------
    name : str
        Name of the sequence.
    start, end : int, bases
        Interval in the sequence, 0-based, half-open.
    number : int
        Number of the row in the input, from 0.
    letters : uint8, shape (n,)
        Upper case.
    token_ids : int32, shape (n_tokens,)
        Without special tokens.
    known : int
        Number of tokens that the model knows.
    """

    name: str
    start: int
    end: int
    number: int
    letters: NDArray[np.uint8]
    token_ids: NDArray[np.int32]
    known: int


class Place(NamedTuple):
    """Where the letters of a row are.

    Attributes
    ----------
    contig : str or None
        Record of the genome; None if the row is not a region of one.
    strand : str
        + or -.
    positions : int64, shape (n,)
        Of each letter, from 0: in the genome, on the forward strand, or else in the sequence.
    """

    contig: str | None
    strand: str
    positions: NDArray[np.int64]


def place_of(row: Row) -> Place:
    """Return where the letters of a row are: `Place.positions` is int64, shape (n,)."""
    positions = np.arange(row.start, row.end)
    if not isinstance(row.name, RegionName):
        return Place(None, "+", positions)
    region = row.name.region
    in_genome = region.end - 1 - positions if region.reverse else region.start + positions
    return Place(region.contig, region.strand, in_genome)


def rows_of(data: Input, *, skip: int = 0) -> Iterator[Row]:
    """Yield the rows of an input, except the first `skip`; windows without a known k-mer are omitted.

    `data.tally` counts them.

    Raises
    ------
    InputError
        As for `Input.blocks`.
    """
    tiling, tally = data.tiling, type(data.tally)()
    data.tally = tally
    if not skip:
        data.begin_here()
    done = 0
    for group in row_groups(data.chunks(), tiling, lambda: 1, tally, data.name):
        for start, end in zip(group.starts.tolist(), group.ends.tolist(), strict=True):
            first = start - int(group.starts[0])
            letters = upper_case(group.letters[first : first + end - start])
            token_ids = _row_tokens(letters, tiling, data.name, group.name)
            row = Row(
                group.name, start, end, done, letters, token_ids, _known(token_ids, tiling.tokenization)
            )
            tally.rows += 1
            tally.unknown += not row.known
            if tiling.window and not row.known:
                continue
            tally.tokens += len(token_ids)
            tally.known_tokens += row.known
            done += 1
            if done == skip:
                data.begin_here()
            if done > skip:
                yield row
    data.check_known()


def upper_case(letters: bytes) -> NDArray[np.uint8]:
    """Return letters in upper case: uint8, shape (n,)."""
    given = np.frombuffer(letters, np.uint8)
    return np.where((given >= ord("a")) & (given <= ord("z")), given - _LOWER, given)


def _known(token_ids: NDArray[np.int32], tokenization: Tokenization) -> int:
    return int((token_ids != tokenization.specials.unknown).sum())


def _row_tokens(
    letters: NDArray[np.uint8], tiling: TilingOptions, source: str, name: str
) -> NDArray[np.int32]:
    token_ids, _ = tiling.tokenization.encode(letters, np.array([0, len(letters)]))
    if len(token_ids) > tiling.max_tokens and not tiling.truncate:
        raise InputError(
            f"{source}: {name!r} has {len(token_ids):,} tokens, and the model reads {tiling.max_tokens:,}: give a"
            " shorter `window`, or `truncate=True` to cut it"
        )
    return token_ids[: tiling.max_tokens]
