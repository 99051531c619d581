"""Token ids from letters and from packed bases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.errors import UsageError
from cmgems_cli.genome.codec import encode_sequence, encode_sequences, offsets_of, unpack_token_ids
from cmgems_cli.genome.vocabulary import kmers
from tests.genome import reference

ks = st.integers(3, 8)


def test_first_and_last_kmer_have_the_ends_of_the_vocabulary() -> None:
    assert encode_sequence("AAAAAA", 6).tolist() == [5]
    assert encode_sequence("GGGGGG", 6).tolist() == [4100]
    # DNABERT's vocab.txt: AAAAAT is the second 6-mer, line 7 of the file.
    assert encode_sequence("aaaaat", 6).tolist() == [6]


@pytest.mark.parametrize("k", [3, 6, 8])
def test_every_kmer_gets_its_place_in_the_vocabulary(k: int) -> None:
    words = kmers(k)
    ids, _ = encode_sequences("".join(words).encode(), np.arange(len(words) + 1) * k, k)
    assert ids.tolist() == list(range(5, 5 + 4**k))


@given(st.text("ACGTacgtACGTNnRx-*. ", max_size=60), ks)
def test_letters_are_encoded_as_the_reference_does(letters: str, k: int) -> None:
    ids = encode_sequence(letters, k)
    assert ids.dtype == np.int32
    assert ids.tolist() == reference.token_ids(letters, k)
    assert encode_sequence(letters.encode(), k).tolist() == ids.tolist()


@given(st.lists(st.text("ACGTACGTN", max_size=30), max_size=6), ks)
def test_a_batch_equals_its_sequences_one_by_one(batch: list[str], k: int) -> None:
    lengths = np.array([len(letters) for letters in batch], np.int64)
    ids, offsets = encode_sequences("".join(batch).encode(), offsets_of(lengths), k)
    assert len(offsets) == len(batch) + 1
    for i, letters in enumerate(batch):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == reference.token_ids(letters, k)


def test_a_character_beyond_ascii_is_one_unknown_letter() -> None:
    assert encode_sequence("ACGTéACGT", 4).tolist() == [50, 1, 1, 1, 1, 50]


@given(st.text("ACGT", min_size=8, max_size=80), ks, st.data())
def test_packed_windows_decode_to_the_tokens_of_their_letters(
    letters: str, k: int, data: st.DataObject
) -> None:
    starts, n_tokens = [], []
    for _ in range(data.draw(st.integers(0, 4))):
        starts.append(data.draw(st.integers(0, len(letters) - k)))
        n_tokens.append(data.draw(st.integers(1, len(letters) - k + 1 - starts[-1])))
    offsets = offsets_of(np.array(n_tokens, np.int64))
    ids = np.zeros(offsets[-1], np.int32)
    unpack_token_ids(
        reference.pack(letters), np.array(starts, np.int64), np.array(n_tokens, np.uint16), k, offsets, ids
    )
    for i, (start, n) in enumerate(zip(starts, n_tokens, strict=True)):
        window = letters[start : start + n + k - 1]
        assert ids[offsets[i] : offsets[i + 1]].tolist() == reference.token_ids(window, k)


@pytest.mark.parametrize("k", [2, 9])
def test_k_out_of_range_is_a_usage_error(k: int) -> None:
    with pytest.raises(UsageError, match=f"`k` is {k}; needed 3 to 8"):
        encode_sequence("ACGT", k)
