from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.datasets.containment import (
    FEWEST_KMERS,
    SKETCH,
    THRESHOLD,
    K,
    Sketches,
    clusters,
    has_near_duplicate,
    near_pairs,
)

COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")
# With these or fewer k-mers the sketch of a sequence is all of it, so that nothing is missed by chance.
WHOLE = SKETCH + K - 1


def reverse_complement(sequence: bytes) -> bytes:
    return sequence.translate(COMPLEMENT)[::-1]


@cache
def slow_kmers(sequence: bytes) -> set[bytes]:
    kmers = (sequence[i : i + K] for i in range(len(sequence) - K + 1))
    return {min(kmer, reverse_complement(kmer)) for kmer in kmers if set(kmer) <= set(b"ACGT")}


def slow_containment(one: bytes, other: bytes) -> float:
    first, second = slow_kmers(one), slow_kmers(other)
    if min(len(first), len(second)) >= FEWEST_KMERS:
        return len(first & second) / min(len(first), len(second))
    both_short = max(len(first), len(second)) < FEWEST_KMERS
    return float(both_short and one in (other, reverse_complement(other)))


def slow_pairs(first: list[bytes], second: list[bytes], threshold: float) -> list[tuple[int, int, float]]:
    return [
        (i, j, containment)
        for i, one in enumerate(first)
        for j, other in enumerate(second)
        if (containment := slow_containment(one, other)) >= threshold
    ]


def slow_clusters(sequences: list[bytes], threshold: float) -> list[int]:
    cluster = list(range(len(sequences)))
    for i, j, _ in slow_pairs(sequences, sequences, threshold):
        cluster = [min(cluster[i], cluster[j]) if c in (cluster[i], cluster[j]) else c for c in cluster]
    return [sorted(set(cluster)).index(c) for c in cluster]


def random_sequence(rng: np.random.Generator, length: int) -> bytes:
    return bytes(rng.choice(list(b"ACGT"), length).tolist())


def changed(rng: np.random.Generator, sequence: bytes, n_changes: int) -> bytes:
    letters = bytearray(sequence)
    for at in rng.choice(len(letters), n_changes, replace=False):
        letters[at] = rng.choice([base for base in b"ACGT" if base != letters[at]])
    return bytes(letters)


@st.composite
def related_sequences(draw: st.DrawFn) -> list[bytes]:
    """Parts of two sequences, some of them changed, reversed, repeated within, or with unknown letters."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    sources = [random_sequence(rng, WHOLE), random_sequence(rng, 3) * 20]
    sequences = []
    for _ in range(draw(st.integers(1, 7))):
        sequence = draw(st.sampled_from(sources))[draw(st.integers(0, 12)) : draw(st.integers(12, WHOLE))]
        if draw(st.booleans()):
            sequence = reverse_complement(sequence)
        if sequence and draw(st.booleans()):
            at = draw(st.integers(0, len(sequence) - 1))
            sequence = sequence[:at] + draw(st.sampled_from([b"A", b"N", b"RY"])) + sequence[at + 1 :]
        sequences.append(sequence[:WHOLE])
    return sequences


@settings(max_examples=25)
@given(related_sequences(), related_sequences(), st.sampled_from([0.25, 0.5, 0.8, 1.0]))
def test_pairs_and_clusters_are_those_of_comparing_every_pair(first, second, threshold):
    pairs = near_pairs(first, second, threshold=threshold)
    expected = slow_pairs(first, second, threshold)
    assert list(zip(*(column.tolist() for column in pairs), strict=True)) == expected
    having = has_near_duplicate(Sketches(first), Sketches(second), threshold=threshold)
    assert set(np.flatnonzero(having).tolist()) == {i for i, _, _ in expected}
    assert clusters([*first, *second], threshold=threshold).tolist() == slow_clusters(
        [*first, *second], threshold
    )


def test_a_copy_with_changes_a_reverse_complement_and_a_part_are_near_duplicates_and_others_are_not():
    rng = np.random.default_rng(42)
    original = random_sequence(rng, 300)
    near = [changed(rng, original, 3), reverse_complement(original), original[150:210], original * 2]
    far = [random_sequence(rng, 300), original[:140] + random_sequence(rng, 160)]
    pairs = near_pairs([original], [*far, *near])
    assert pairs.second.tolist() == [2, 3, 4, 5]
    assert pairs.containment[1:].tolist() == [1, 1, 1]
    assert pairs.containment[0] == slow_containment(original, near[0])
    assert clusters([*far, original, *near]).tolist() == [0, 1, 2, 2, 2, 2, 2]


def test_of_long_sequences_the_containment_is_exact_and_nothing_above_the_threshold_is_missed():
    rng = np.random.default_rng(7)
    originals = [random_sequence(rng, int(rng.integers(80, 400))) for _ in range(150)]
    copies = [changed(rng, one, int(len(one) * rng.choice([0, 0.01, 0.03, 0.06]))) for one in originals]
    pairs = near_pairs(originals, copies)
    expected = slow_pairs(originals, copies, THRESHOLD)
    assert 75 < len(expected) < 150
    assert list(zip(*(column.tolist() for column in pairs), strict=True)) == expected


def test_short_repeats_do_not_join_sequences_that_share_nothing_else():
    rng = np.random.default_rng(1)
    with_repeat = [random_sequence(rng, 100) + b"CA" * 15 + random_sequence(rng, 100) for _ in range(10)]
    assert len(set(clusters(with_repeat).tolist())) == 10
    # A sequence that is nothing but the repeat is compared letter by letter.
    assert clusters([b"CA" * 30, b"CA" * 29, b"TG" * 30, b"N" * 60, b"", b""]).tolist() == [0, 1, 0, 2, 3, 3]


@pytest.mark.parametrize("sequences", [[], [b""], [b"ACGT"]])
def test_sets_without_a_kmer_have_no_pairs(sequences):
    assert clusters(sequences).tolist() == list(range(len(sequences)))
    assert near_pairs(sequences, [b"ACGTTGCA" * 9]).first.tolist() == []
    assert not has_near_duplicate(Sketches(sequences), Sketches([b"ACGTTGCA" * 9])).any()
    assert not has_near_duplicate(Sketches([b"ACGTTGCA" * 9]), Sketches(sequences)).any()
