"""Dinucleotide-shuffled sequences: random, with exactly as many of each pair of neighbouring letters.

The algorithm of Altschul and Erickson (Molecular Biology and Evolution 2, 1985): a sequence is a walk over letters, and
its pairs are the edges. For each letter one edge is drawn as the last to leave it, until these lead to the final letter
from everywhere; the others are put in random order. Every sequence with the same pairs, first and last letter is
equally likely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cmgems_cli import draws
from cmgems_cli.explaining.edits import COLUMN_OF_BYTE
from cmgems_cli.kernels import kernel

# A, C, G, T, and one vertex for all other letters.
_VERTICES = 5


def shuffle_dinucleotides(letters: NDArray[np.uint8], stream: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return a shuffled sequence.

    Parameters
    ----------
    letters : uint8, shape (n,)
        Upper case; other letters than A, C, G, T are taken for one letter, and come out as N.
    stream : (int, int, int)
        Seed, number of the row and of the draw.

    Returns
    -------
    uint8, shape (n,)
        With the first and the last letter of the given ones.
    """
    seed, row, draw = stream
    key = np.uint64(draws.key(seed, draws.SHUFFLED_CONTROLS, row, draw))
    shuffled = _shuffled(COLUMN_OF_BYTE[letters], key)
    letters_of: NDArray[np.uint8] = np.frombuffer(b"ACGTN", np.uint8)[shuffled]
    return letters_of


@kernel()
def _shuffled(codes, key):  # type: ignore[no-untyped-def]
    n = len(codes)
    out = codes.copy()
    if n < 4:
        return out
    # The successors of each vertex, grouped: those of v are successors[first[v]:first[v + 1]].
    first = np.zeros(_VERTICES + 1, np.int64)
    for i in range(n - 1):
        first[codes[i] + 1] += 1
    for v in range(_VERTICES):
        first[v + 1] += first[v]
    filled = first[:-1].copy()
    successors = np.empty(n - 1, np.int64)
    for i in range(n - 1):
        successors[filled[codes[i]]] = codes[i + 1]
        filled[codes[i]] += 1
    end, drawn = codes[n - 1], 0
    last = np.empty(_VERTICES, np.int64)
    while True:
        for v in range(_VERTICES):
            size = first[v + 1] - first[v]
            if size:
                last[v] = first[v] + draws.below(key, drawn, size)
                drawn += 1
        connected = True
        for v in range(_VERTICES):
            at = v
            for _ in range(_VERTICES):
                if at != end and first[at + 1] > first[at]:
                    at = successors[last[at]]
            if first[v + 1] > first[v] and at != end:
                connected = False
        if connected:
            break
    for v in range(_VERTICES):
        stop = first[v + 1]
        if v != end and stop > first[v]:
            # The last edge is kept at the end, the others are shuffled before it.
            stop -= 1
            successors[stop], successors[last[v]] = successors[last[v]], successors[stop]
        for i in range(stop - 1, first[v], -1):
            j = first[v] + draws.below(key, drawn, i - first[v] + 1)
            drawn += 1
            successors[i], successors[j] = successors[j], successors[i]
    used = first[:-1].copy()
    at = codes[0]
    for i in range(1, n):
        out[i] = successors[used[at]]
        used[at] += 1
        at = out[i]
    return out
