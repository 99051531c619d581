"""Negatives from the genome: intervals as long as a positive, with as much G and C and as many repeats.

Repeats are what the genome's FASTA file has in lower case: RepeatMasker's and Tandem Repeats Finder's regions, as UCSC
and Ensembl (`dna_sm`) write them. A genome all in upper case has none, and they are then not matched.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cmgems_cli import draws
from cmgems_cli.genome.random_access import GenomeFile
from cmgems_cli.kernels import kernel

# What is known of a base, as bits of a byte.
GC, REPEAT, OTHER, TAKEN = 1, 2, 4, 8

# ours: candidates per negative. Of 300 bases, this takes a hundredth of a second at most.
TRIES = 20_000

# ours: bases read at a time.
_PART_BASES = 1 << 24

_FLAGS = np.full(256, OTHER, np.uint8)
for _letter, _flag in zip(b"ACGTacgt", (0, GC, GC, 0, REPEAT, GC | REPEAT, GC | REPEAT, REPEAT), strict=True):
    _FLAGS[_letter] = _flag


def flags_of(letters: bytes) -> NDArray[np.uint8]:
    """Return what is known of each base: uint8, shape (n,), of `GC`, `REPEAT` and `OTHER` (neither A, C, G nor T)."""
    return _FLAGS[np.frombuffer(letters, np.uint8)]


def contig_flags(genome: GenomeFile, contig: str) -> NDArray[np.uint8]:
    """Return `flags_of` a whole contig: uint8, shape (n_bases,)."""
    flags = np.empty(genome.contigs[contig], np.uint8)
    for start in range(0, len(flags), _PART_BASES):
        end = min(start + _PART_BASES, len(flags))
        flags[start:end] = flags_of(genome.letters(contig, start, end, keep_case=True))
    return flags


def draw_negatives(
    flags: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    n_gc: NDArray[np.int64],
    n_repeat: NDArray[np.int64],
    within: NDArray[np.int64],
    streams: NDArray[np.uint64],
    *,
    gc_tolerance: float,
    repeat_tolerance: float,
) -> NDArray[np.int64]:
    """Draw an interval for each of several sequences, none of which overlaps another or what is taken.

    Candidates are drawn uniformly, and the first that matches is taken, up to `TRIES`.

    Parameters
    ----------
    flags : uint8, shape (n_bases,)
        Of a contig; bases that may not be used have `TAKEN`. The intervals drawn are added to them.
    lengths, n_gc, n_repeat : int64, shape (n,), bases
        Of each sequence: its length, and how many are G or C, and lower-case.
    within : int64, shape (n, 2), bases
        Where the interval of each has to be: start and end.
    streams : uint64, shape (n,)
        Keys of `draws`.
    gc_tolerance, repeat_tolerance : float, fraction of the length
        Largest differences.

    Returns
    -------
    int64, shape (n,), bases
        Starts; -1 where no candidate matched.
    """
    return _draw(flags, lengths, n_gc, n_repeat, within, streams, gc_tolerance, repeat_tolerance)


@kernel()
def _draw(flags, lengths, n_gc, n_repeat, within, streams, gc_tolerance, repeat_tolerance):  # type: ignore[no-untyped-def]
    starts = np.full(len(lengths), -1, np.int64)
    for number in range(len(lengths)):
        length = lengths[number]
        places = within[number, 1] - within[number, 0] - length + 1
        if places < 1:
            continue
        # A difference of exactly the tolerance is not lost to rounding.
        most_gc, most_repeat = gc_tolerance * length + 1e-9, repeat_tolerance * length + 1e-9
        for attempt in range(TRIES):
            start = within[number, 0] + draws.below(streams[number], attempt, places)
            gc = repeat = 0
            usable = True
            for at in range(start, start + length):
                flag = flags[at]
                if flag & (OTHER | TAKEN):
                    usable = False
                    break
                gc += flag & GC
                repeat += (flag & REPEAT) >> 1
            if usable and abs(gc - n_gc[number]) <= most_gc and abs(repeat - n_repeat[number]) <= most_repeat:
                starts[number] = start
                for at in range(start, start + length):
                    flags[at] |= np.uint8(TAKEN)
                break
    return starts
