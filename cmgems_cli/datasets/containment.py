"""Near-duplicates among sequences by k-mer containment, found from minimum hashes (method, section 7).

The containment of two sequences is the number of different k-mers that both have, over the number of the one that
has fewer (the maximum containment of Hera, Pierce-Ward and Koslicki 2023). A k-mer and its reverse complement count
as one, and k-mers with letters other than A, C, G, T are left out. Two sequences are near-duplicates if their
containment reaches a threshold. A sequence of fewer than `FEWEST_KMERS` k-mers has a near-duplicate only in itself or
its reverse complement.

No pair is compared without a sign of similarity. Of the sequence with fewer k-mers, the `SKETCH` smallest hashes
(Broder 1997) are a random sample of its k-mers; they are kept in an index, in which all k-mers of the other
sequences are looked up. Pairs that share half as many of them as the threshold would let expect are compared in full,
so that what is reported is exact. Of pairs with exactly the threshold, fewer than 1 in 900 are missed; with a tenth
more, 1 in 7,000. A pair that `has_near_duplicate` finds is in one of the `clusters` of both sets together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import uint64
from numpy.typing import NDArray

from cmgems_cli.draws import mix
from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.genome.vocabulary import BASE_CODE_OF_BYTE, NOT_A_BASE
from cmgems_cli.kernels import kernel

# ours. Odd, so that no k-mer is its own reverse complement. Long enough that unrelated sequences hardly share one
# (100 bases against 100: 1 pair in 70,000 by chance), short enough for several changes in 100 bases.
K = 15
# ours: half of the k-mers. Two sequences that differ in a fraction d of their bases have a containment of about
# (1 - d)^15 (Ondov et al. 2016), so this is 95.5 % identity over the whole length, or an overlap of about half.
THRESHOLD = 0.5
# ours: with fewer, a short repeat is in many sequences that are otherwise unrelated.
FEWEST_KMERS = 8
# ours, by the chances of a miss given above.
SKETCH = 32

# Which pairs `_matches` returns: all; the first one of each sequence in the index, or of each sequence looked up;
# or as few as connect the clusters.
_ALL, _FIRST_OF_INDEXED, _FIRST_OF_SCANNED, _LINKS = range(4)

_COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")


class NearPairs(NamedTuple):
    """Pairs of near-duplicates, sorted.

    Attributes
    ----------
    first, second : int64, shape (n_pairs,)
        Rows of the first and of the second set.
    containment : float64, shape (n_pairs,)
        1 for a sequence of fewer than `FEWEST_KMERS` k-mers and its equal.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    containment: NDArray[np.float64]


class Sketches:
    """Sequences prepared for comparison.

    Parameters
    ----------
    sequences : sequence of bytes
        Upper-case letters.

    Attributes
    ----------
    n_kmers : int64, shape (n_sequences,)
        Different k-mers of each sequence.
    """

    def __init__(self, sequences: Sequence[bytes]) -> None:
        self._sequences = sequences
        self._offsets = offsets_of(np.array([len(sequence) for sequence in sequences], dtype=np.int64))
        self._letters = np.frombuffer(b"".join(sequences), dtype=np.uint8)
        self.n_kmers, hashes, rows = _sketch(self._letters, self._offsets)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._rows = hashes[order], rows[order]
        self._slots = _hash_table(self._hashes)

    def __len__(self) -> int:
        return len(self._sequences)

    def matches(self, scanned: Sketches, threshold: float, wanted: int) -> NDArray[Any]:
        """Return pairs of a sequence here and one of `scanned` that has as many k-mers or more, with containments."""
        return _matches(
            self._hashes,
            self._rows,
            self._slots,
            self._letters,
            self._offsets,
            self.n_kmers,
            scanned._letters,
            scanned._offsets,
            scanned.n_kmers,
            self is scanned,
            threshold,
            wanted,
        )

    def short(self) -> dict[bytes, list[int]]:
        """Return the rows of sequences with fewer than `FEWEST_KMERS` k-mers, by the sequence on either strand."""
        rows: dict[bytes, list[int]] = {}
        for row in np.flatnonzero(self.n_kmers < FEWEST_KMERS).tolist():
            sequence = self._sequences[row]
            rows.setdefault(min(sequence, sequence.translate(_COMPLEMENT)[::-1]), []).append(row)
        return rows


def near_pairs(first: Sequence[bytes], second: Sequence[bytes], *, threshold: float = THRESHOLD) -> NearPairs:
    """Return all pairs of near-duplicates of two sets of sequences.

    Parameters
    ----------
    first, second : sequence of bytes
        Upper-case letters.
    threshold : float
        Least containment, above 0 and at most 1.
    """
    one, other = Sketches(first), Sketches(second)
    short = other.short()
    equal = [(i, j, 1.0) for text, rows in one.short().items() for i in rows for j in short.get(text, ())]
    pairs = np.concatenate(
        (
            one.matches(other, threshold, _ALL),
            other.matches(one, threshold, _ALL)[:, [1, 0, 2]],
            np.array(equal, dtype=np.float64).reshape(-1, 3),
        )
    )
    # Those with equally many k-mers are found from both sides.
    pairs = np.unique(pairs, axis=0)
    return NearPairs(pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64), pairs[:, 2])


def has_near_duplicate(
    sequences: Sketches, among: Sketches, *, threshold: float = THRESHOLD
) -> NDArray[np.bool_]:
    """Return for each sequence whether it has a near-duplicate among others: bool, shape (n_sequences,).

    Parameters
    ----------
    sequences, among : Sketches
    threshold : float
        Least containment, above 0 and at most 1.
    """
    found = np.zeros(len(sequences), dtype=np.bool_)
    in_longer = sequences.matches(among, threshold, _FIRST_OF_INDEXED)
    found[in_longer[:, 0].astype(np.int64)] = True
    in_shorter = among.matches(sequences, threshold, _FIRST_OF_SCANNED)
    found[in_shorter[:, 1].astype(np.int64)] = True
    others = among.short()
    for text, rows in sequences.short().items():
        found[rows] |= text in others
    return found


def clusters(sequences: Sequence[bytes], *, threshold: float = THRESHOLD) -> NDArray[np.int64]:
    """Return the cluster of each sequence: int64, shape (n_sequences,).

    Near-duplicates, and what they are connected with by further ones, are in one cluster (single linkage). Clusters
    are numbered from 0 in the order of their first sequences.

    Parameters
    ----------
    sequences : sequence of bytes
        Upper-case letters.
    threshold : float
        Least containment, above 0 and at most 1.
    """
    sketches = Sketches(sequences)
    links = [(int(i), int(j)) for i, j, _ in sketches.matches(sketches, threshold, _LINKS)]
    links += [(rows[0], row) for rows in sketches.short().values() for row in rows[1:]]
    parent = np.arange(len(sketches))
    for i, j in links:
        _join(parent, i, j)
    roots = [_root(parent, row) for row in range(len(sketches))]
    number: dict[int, int] = {}
    return np.array([number.setdefault(root, len(number)) for root in roots], dtype=np.int64)


# ------------------------------------------------------------------ compiled


@kernel()
def _kmer_hashes(letters, start, stop, hashes):  # type: ignore[no-untyped-def]
    """Write the hash of each k-mer of A, C, G, T; return their number. A k-mer and its reverse complement are one."""
    mask = (uint64(1) << uint64(2 * K)) - uint64(1)
    forward = reverse = uint64(0)
    run = n = 0
    for at in range(start, stop):
        base = BASE_CODE_OF_BYTE[letters[at]]
        if base == NOT_A_BASE:
            run = 0
            continue
        forward = ((forward << uint64(2)) | uint64(base)) & mask
        # A T C G = 0 1 2 3: the complement flips the low bit.
        reverse = (reverse >> uint64(2)) | (uint64(base ^ 1) << uint64(2 * K - 2))
        run += 1
        if run >= K:
            # A bijection: different k-mers never have the same hash.
            hashes[n] = mix(min(forward, reverse))
            n += 1
    return n


@kernel()
def _longest(offsets):  # type: ignore[no-untyped-def]
    longest = 1
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return longest


@kernel()
def _stamped_table(n_keys):  # type: ignore[no-untyped-def]
    """Return the empty keys and stamps of `_slot_of`, for so many keys: uint64 and int64, shape (a power of two,)."""
    size = 16
    while size < 2 * n_keys:
        size *= 2
    return np.empty(size, np.uint64), np.full(size, -1, np.int64)


@kernel()
def _slot_of(keys, stamps, stamp, key):  # type: ignore[no-untyped-def]
    """Return the slot of a key, or the free one where it would be: free are those with another stamp."""
    mask = uint64(len(keys) - 1)
    slot = key & mask
    while stamps[slot] == stamp and keys[slot] != key:
        slot = (slot + uint64(1)) & mask
    return slot


@kernel()
def _sketch(letters, offsets):  # type: ignore[no-untyped-def]
    """Return the number of different k-mers of each row, and the smallest hashes with their rows.

    int64, shape (n_rows,); uint64 and int64, shape (n_hashes,)
    """
    n_rows = len(offsets) - 1
    n_kmers = np.zeros(n_rows, np.int64)
    hashes = np.empty(n_rows * SKETCH, np.uint64)
    rows = np.empty(n_rows * SKETCH, np.int64)
    longest = _longest(offsets)
    buffer = np.empty(longest, np.uint64)
    keys, stamps = _stamped_table(longest)
    size = 0
    for row in range(n_rows):
        n = _kmer_hashes(letters, offsets[row], offsets[row + 1], buffer)
        different = kept = 0
        for at in range(n):
            key = buffer[at]
            slot = _slot_of(keys, stamps, row, key)
            if stamps[slot] == row:
                continue
            keys[slot], stamps[slot] = key, row
            different += 1
            # The smallest so far are in order, from `size`.
            if kept == SKETCH:
                if key > hashes[size + kept - 1]:
                    continue
                kept -= 1
            place = size + kept
            while place > size and hashes[place - 1] > key:
                hashes[place] = hashes[place - 1]
                place -= 1
            hashes[place] = key
            kept += 1
        n_kmers[row] = different
        if different >= FEWEST_KMERS:
            for at in range(size, size + kept):
                rows[at] = row
            size += kept
    return n_kmers, hashes[:size], rows[:size]


@kernel()
def _hash_table(hashes):  # type: ignore[no-untyped-def]
    """Return a hash table of where each hash begins in `hashes`, which are sorted: int64, shape (a power of two,)."""
    size = 16
    while size < 2 * len(hashes):
        size *= 2
    slots = np.full(size, -1, np.int64)
    mask = uint64(size - 1)
    for at in range(len(hashes)):
        if at == 0 or hashes[at] != hashes[at - 1]:
            slot = hashes[at] & mask
            while slots[slot] >= 0:
                slot = (slot + uint64(1)) & mask
            slots[slot] = at
    return slots


@kernel()
def _root(parent, row):  # type: ignore[no-untyped-def]
    while parent[row] != row:
        parent[row] = parent[parent[row]]
        row = parent[row]
    return row


@kernel()
def _join(parent, i, j):  # type: ignore[no-untyped-def]
    one, other = _root(parent, i), _root(parent, j)
    parent[max(one, other)] = min(one, other)


@kernel()
def _matches(  # type: ignore[no-untyped-def]
    hashes, rows, slots, letters, offsets, n_kmers,
    scanned_letters, scanned_offsets, scanned_n_kmers,
    same, threshold, wanted,
):  # fmt: skip
    """Return pairs of an indexed and a scanned row with their containment: float64, shape (n_pairs, 3)."""
    n_indexed, n_scanned = len(offsets) - 1, len(scanned_offsets) - 1
    longest = max(_longest(offsets), _longest(scanned_offsets))
    buffer = np.empty(longest, np.uint64)
    # The different k-mers of the scanned row, and the pair in which each was last counted.
    keys, stamps = _stamped_table(longest)
    counted = np.zeros(len(keys), np.int64)
    shared, touched = np.zeros(n_indexed, np.int64), np.empty(n_indexed, np.int64)
    parent = np.arange(n_indexed)
    done = np.zeros(n_indexed, np.bool_)
    pairs, n_pairs, compared = np.empty((1024, 3)), 0, 0
    mask = uint64(len(slots) - 1)
    highest = hashes[-1] if len(hashes) else uint64(0)
    for j in range(n_scanned):
        if scanned_n_kmers[j] < FEWEST_KMERS:
            continue
        n = _kmer_hashes(scanned_letters, scanned_offsets[j], scanned_offsets[j + 1], buffer)
        n_touched = 0
        for at in range(n):
            key = buffer[at]
            slot = _slot_of(keys, stamps, j, key)
            if stamps[slot] == j:
                continue
            keys[slot], stamps[slot] = key, j
            if key > highest:
                continue
            place = key & mask
            while slots[place] >= 0 and hashes[slots[place]] != key:
                place = (place + uint64(1)) & mask
            if slots[place] < 0:
                continue
            entry = slots[place]
            while entry < len(hashes) and hashes[entry] == key:
                i = rows[entry]
                entry += 1
                if done[i]:
                    continue
                if shared[i] == 0:
                    touched[n_touched] = i
                    n_touched += 1
                shared[i] += 1
        for number in range(n_touched):
            i = touched[number]
            expected = threshold * min(n_kmers[i], SKETCH)
            enough = 2 * shared[i] >= expected
            shared[i] = 0
            if not enough or scanned_n_kmers[j] < n_kmers[i] or (same and i == j):
                continue
            if wanted == _LINKS and _root(parent, i) == _root(parent, j):
                continue
            compared += 1
            both = 0
            n = _kmer_hashes(letters, offsets[i], offsets[i + 1], buffer)
            for at in range(n):
                slot = _slot_of(keys, stamps, j, buffer[at])
                if stamps[slot] == j and counted[slot] != compared:
                    counted[slot] = compared
                    both += 1
            containment = both / n_kmers[i]
            if containment < threshold:
                continue
            if n_pairs == len(pairs):
                # In a loop: a slice would add 5 s to the compilation.
                larger = np.empty((2 * n_pairs, 3))
                for at in range(n_pairs):
                    for column in range(3):
                        larger[at, column] = pairs[at, column]
                pairs = larger
            pairs[n_pairs, 0], pairs[n_pairs, 1], pairs[n_pairs, 2] = i, j, containment
            n_pairs += 1
            if wanted == _LINKS:
                _join(parent, i, j)
            if wanted == _FIRST_OF_INDEXED:
                done[i] = True
            if wanted == _FIRST_OF_SCANNED:
                for rest in range(number + 1, n_touched):
                    shared[touched[rest]] = 0
                break
    return pairs[:n_pairs]
