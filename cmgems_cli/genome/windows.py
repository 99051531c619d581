"""Cut runs into training sequences: tiling, duplicates, split (paper 3.1; method, section 2)."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import uint64

from cmgems_cli.draws import SEQUENCE_LENGTH, SEQUENCE_SPLIT, SEQUENCE_START, below, key, mix, uniform
from cmgems_cli.genome.codec import base_at, word_at
from cmgems_cli.genome.corpus import WINDOW
from cmgems_cli.kernels import kernel

# method, section 2: the first sequence starts below 1,000 and below a tenth of the run.
MAX_START = 1000

# Windows hashed at a time, and windows compared before mapped pages are released: at most about 100 MB of
# the file is resident at a time.
WINDOWS_PER_STEP = 1 << 16
COMPARISONS_PER_STEP = 1 << 10

# MurmurHash3's 64-bit finalizer, first multiplier (Appleby, public domain).
_MULTIPLIER = np.uint64(0xFF51AFD7ED558CCD)


@dataclass(frozen=True)
class WindowSpec:
    """How runs are cut; the names are the command's options.

    Attributes
    ----------
    k, min_tokens, max_tokens : int
    full_share, valid_share : float, in [0, 1]
    seed : int
    """

    k: int
    min_tokens: int
    max_tokens: int
    full_share: float
    valid_share: float
    seed: int

    @property
    def shortest_bases(self) -> int:
        """Bases of the shortest sequence."""
        return self.min_tokens + self.k - 1

    @property
    def mean_bases(self) -> float:
        """Bases of a sequence on average, run ends aside."""
        others = (self.min_tokens + self.max_tokens) / 2
        return self.full_share * self.max_tokens + (1 - self.full_share) * others + self.k - 1


@kernel()
def _tile(  # type: ignore[no-untyped-def]
    runs, identities, k, min_tokens, max_tokens, full_share, valid_share, seed, windows
):
    """Fill `windows` (or, where that is empty, only count them). Returns their number."""
    n = 0
    for r in range(runs.size):
        identity, run_at = identities[runs[r].contig], runs[r].contig_start
        length_bases = runs[r].length_bases
        lengths = key(seed, SEQUENCE_LENGTH, identity, run_at)
        splits = key(seed, SEQUENCE_SPLIT, identity, run_at)
        limit = min(MAX_START, length_bases // 10)
        at = below(key(seed, SEQUENCE_START, identity, run_at), 0, limit) if limit > 0 else 0
        index = 0
        while length_bases - at >= min_tokens + k - 1:
            if uniform(lengths, 2 * index) < full_share:
                n_tokens = max_tokens
            else:
                n_tokens = min_tokens + below(lengths, 2 * index + 1, max_tokens - min_tokens + 1)
            # What is left at the end is a last sequence.
            n_tokens = min(n_tokens, length_bases - at - k + 1)
            if windows.size > 0:
                windows[n].start = runs[r].start + at
                windows[n].n_tokens = n_tokens
                windows[n].contig = runs[r].contig
                windows[n].valid = uniform(splits, index) < valid_share
            n += 1
            index += 1
            at += n_tokens + k - 1
    return n


def tile(runs: np.ndarray, identities: np.ndarray, spec: WindowSpec) -> np.ndarray:
    """Cut runs into windows in genome order, duplicates still among them.

    Parameters
    ----------
    runs : array of `RUN`
    identities : uint64, shape (n_contigs,)
        What names each contig in random draws.
    spec : WindowSpec

    Returns
    -------
    array of `WINDOW`
        Windows of a run follow each other without a gap or an overlap in bases. A window's draws depend
        on the seed, its contig's identity, its run's place in the contig and its number in the run.
    """
    options = (
        spec.k,
        spec.min_tokens,
        spec.max_tokens,
        spec.full_share,
        spec.valid_share,
        np.uint64(spec.seed),
    )
    windows = np.zeros(_tile(runs, identities, *options, np.zeros(0, WINDOW)), WINDOW)
    if windows.size:
        _tile(runs, identities, *options, windows)
    return windows


@kernel(inline="always")
def _word(bases, base):  # type: ignore[no-untyped-def]
    """Return 32 bases from `base` on as one uint64; bits behind the array's end are zero."""
    first = uint64(base) >> uint64(2)
    shift = (uint64(base) & uint64(3)) << uint64(1)
    if first + uint64(9) <= uint64(bases.size):
        # In two steps, since a shift by 64 is undefined.
        behind = (uint64(bases[first + uint64(8)]) << uint64(1)) << (uint64(63) - shift)
        return (word_at(bases, first) >> shift) | behind
    word = uint64(0)
    for i in range(min(32, 4 * bases.size - base)):
        word |= uint64(base_at(bases, base + i)) << uint64(2 * i)
    return word


@kernel(inline="always")
def _below(n):  # type: ignore[no-untyped-def]
    """Return the mask of a word's first n bases, 0 <= n < 32."""
    return (uint64(1) << uint64(2 * n)) - uint64(1)


@kernel()
def _hash(bases, first_base, windows, k, hashes):  # type: ignore[no-untyped-def]
    """Hash each window's bases and length; `bases` begins with base `first_base` of the corpus."""
    for w in range(windows.size):
        n_bases = np.int64(windows[w].n_tokens) + k - 1
        base = windows[w].start - first_base
        value = uint64(n_bases)
        for _ in range(n_bases >> 5):
            value = (value ^ _word(bases, base)) * _MULTIPLIER
            value ^= value >> uint64(32)
            base += 32
        hashes[w] = mix(value ^ (_word(bases, base) & _below(n_bases & 31)))


@kernel()
def _same(bases, one, other, n_bases):  # type: ignore[no-untyped-def]
    for i in range(0, n_bases & ~31, 32):
        if _word(bases, one + i) != _word(bases, other + i):
            return False
    rest = n_bases & 31
    return (_word(bases, one + n_bases - rest) ^ _word(bases, other + n_bases - rest)) & _below(rest) == 0


@kernel()
def _compare(bases, windows, rows, others, k, equal):  # type: ignore[no-untyped-def]
    """Set `equal[i]` where windows `rows[i]` and `others[i]` hold the same bases."""
    for i in range(rows.size):
        one, other = windows[rows[i]], windows[others[i]]
        n_bases = np.int64(one.n_tokens) + k - 1
        equal[i] = one.n_tokens == other.n_tokens and _same(bases, one.start, other.start, n_bases)


def first_occurrences(bases: Path, windows: np.ndarray, k: int, *, hash_bits: int = 64) -> np.ndarray:
    """Find the windows whose bases no earlier window of the same length holds.

    Parameters
    ----------
    bases : Path
        `bases.npy`; read piece by piece, so that only a small part of it is resident at a time.
    windows : array of `WINDOW`, shape (n,)
        In genome order.
    k : int
        Bases per token.
    hash_bits : int, default 64
        Number of upper bits of the hashes to use. Fewer bits change only the time: windows of equal hashes
        are compared in full.

    Returns
    -------
    bool, shape (n,)
    """
    hashes = np.empty(windows.size, np.uint64)
    with bases.open("rb") as stream:
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        data = stream.tell()
        for begin in range(0, windows.size, WINDOWS_PER_STEP):
            rows = windows[begin : begin + WINDOWS_PER_STEP]
            first_byte = int(rows["start"][0]) // 4
            last_byte = (int(rows["start"][-1]) + int(rows["n_tokens"][-1]) + k) // 4
            stream.seek(data + first_byte)
            part = np.frombuffer(stream.read(last_byte + 1 - first_byte), np.uint8)
            _hash(part, 4 * first_byte, rows, k, hashes[begin : begin + WINDOWS_PER_STEP])
        hashes &= ~np.uint64(0) << np.uint64(64 - hash_bits)
        # Most hashes occur once; sorting without indices finds the others fast and in little memory.
        repeated = np.sort(hashes)
        repeated = np.unique(repeated[1:][repeated[1:] == repeated[:-1]])
        undecided = np.flatnonzero(np.isin(hashes, repeated))
        distinct, hashes = np.ones(windows.size, np.bool_), hashes[undecided]
        distinct[undecided] = False
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            everywhere = np.frombuffer(mapped, np.uint8, offset=data)
            while undecided.size:
                # The first window of each hash is distinct; another pass decides on those that share a
                # hash with it by chance.
                values, first = np.unique(hashes, return_index=True)
                distinct[undecided[first]] = True
                later = np.ones(undecided.size, np.bool_)
                later[first] = False
                others = undecided[first[np.searchsorted(values, hashes[later])]]
                undecided, hashes = undecided[later], hashes[later]
                equal = np.zeros(undecided.size, np.bool_)
                for begin in range(0, undecided.size, COMPARISONS_PER_STEP):
                    step = slice(begin, begin + COMPARISONS_PER_STEP)
                    _compare(everywhere, windows, undecided[step], others[step], k, equal[step])
                    if hasattr(mmap, "MADV_DONTNEED"):
                        mapped.madvise(mmap.MADV_DONTNEED)
                undecided, hashes = undecided[~equal], hashes[~equal]
            del everywhere  # a map cannot be closed while an array refers to it
    return distinct
