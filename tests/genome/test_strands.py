"""Reverse complements of concatenated sequences."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.genome.codec import encode_sequences, offsets_of
from cmgems_cli.genome.strands import reverse_complements
from cmgems_cli.genome.vocabulary import FIRST_KMER, UNK, kmers

sequences = st.lists(st.text("ACGTNacgtRYX", max_size=20), min_size=1, max_size=5)
PAIRS = {**dict(zip("ACGTRYNX", "TGCAYRNX", strict=True)), **dict(zip("acgt", "tgca", strict=True))}


def joined(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(text) for text in texts])
    return np.frombuffer("".join(texts).encode(), np.uint8), offsets_of(lengths)


@settings(max_examples=40)
@given(sequences)
def test_each_sequence_is_read_backwards_with_each_letter_complemented(texts: list[str]) -> None:
    letters, offsets = joined(texts)
    expected = "".join("".join(PAIRS[letter] for letter in reversed(text)) for text in texts)
    found = reverse_complements(letters, offsets)
    assert found.tobytes().decode() == expected
    assert np.array_equal(reverse_complements(found, offsets), letters)


@settings(max_examples=20)
@given(sequences, st.integers(3, 6))
def test_tokens_of_the_other_strand_are_complements_in_reverse_order(texts: list[str], k: int) -> None:
    letters, offsets = joined(texts)
    forward, starts = encode_sequences(letters, offsets, k)
    reverse, same_starts = encode_sequences(reverse_complements(letters, offsets), offsets, k)
    assert np.array_equal(starts, same_starts)
    names = kmers(k)
    number = {name: at for at, name in enumerate(names)}
    for first, end in pairwise(starts):
        for here, there in zip(forward[first:end], reverse[first:end][::-1], strict=True):
            if here == UNK:
                assert there == UNK
            else:
                other = "".join(PAIRS[base] for base in reversed(names[here - FIRST_KMER]))
                assert there == FIRST_KMER + number[other]
