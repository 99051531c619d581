"""Negatives made from positives, as DeePromoter does (method, section 7; Oubounyt et al. 2019).

A negative is its positive with 12 random strings, each a twentieth of its length, at random places: by its counts
of short words it resembles the positive.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from cmgems_cli import draws
from cmgems_cli.errors import InputError
from cmgems_cli.kernels import kernel

# method, section 7: 20 parts of equal length, 12 random strings of that length.
PARTS = 20
REPLACEMENTS = 12

_LETTERS = np.frombuffer(b"ATCG", np.uint8)


def negative_of(positive: bytes, seed: int, index: int, attempt: int = 0) -> bytes:
    """Return the negative of one positive: a pure function of the arguments.

    Where the description is silent: the parts of a sequence whose length is not a multiple of 20 have
    length // 20 bases; a place is any start from which a part fits, all equally likely, and not only the
    start of a part, so that strings may overlap and 12 of them leave 54 % of the letters (0.95^12) untouched on
    average; letters are A, C, G, T, equally likely, whatever they replace. This is how the silencer data of
    the paper were made; DeePromoter itself replaces 12 different ones of the 20 parts.

    Parameters
    ----------
    positive : bytes
        Letters, at least 20.
    seed : int
    index : int
        Number of the sequence, from 0: each has draws of its own.
    attempt : int, default 0
        Another number gives another negative.

    Returns
    -------
    bytes
        As long as `positive`.

    Raises
    ------
    InputError
        If `positive` is shorter than 20 letters, so that a part would be empty.

    Examples
    --------
    >>> negative_of(b"A" * 40, seed=42, index=0).decode()
    'GAAAAATAAAAAAAAAAACGAAAAAATGCAAATAAAAAAA'
    """
    part = len(positive) // PARTS
    if part == 0:
        raise InputError(
            f"a positive has {len(positive)} bases; needed at least {PARTS}, a base for each of its parts"
        )
    letters = np.frombuffer(positive, np.uint8).copy()
    _replace(letters, part, np.uint64(seed), index, attempt)
    return letters.tobytes()


def negatives_of(positives: Sequence[bytes], seed: int, indices: Iterable[int]) -> list[bytes]:
    """Return a negative for each positive, none of them equal to a positive or to another negative.

    Where a draw is (a matter of one in millions at 20 bases, and of no account beyond), the next attempt's
    is taken.

    Parameters
    ----------
    positives : sequence of bytes
    seed : int
    indices : iterable of int
        Numbers of the sequences, as for `negative_of`.

    Raises
    ------
    InputError
        As `negative_of`.
    """
    taken = set(positives)
    negatives = []
    for positive, index in zip(positives, indices, strict=True):
        attempt = 0
        while (negative := negative_of(positive, seed, index, attempt)) in taken:
            attempt += 1
        taken.add(negative)
        negatives.append(negative)
    return negatives


@kernel()
def _replace(letters, part, seed, index, attempt):  # type: ignore[no-untyped-def]
    stream = draws.key(seed, draws.NEGATIVES, index, attempt)
    n = 0
    for _ in range(REPLACEMENTS):
        start = draws.below(stream, n, letters.size - part + 1)
        for i in range(part):
            letters[start + i] = _LETTERS[draws.below(stream, n + 1 + i, 4)]
        n += 1 + part
