"""Negatives: the fast kernel against plain Python, the chances it promises, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from cmgems_cli import draws
from cmgems_cli.errors import InputError
from cmgems_cli.fewshot_builder import negatives
from cmgems_cli.fewshot_builder.negatives import negative_of, negatives_of


def slow_negative(positive: str, seed: int, index: int, attempt: int) -> str:
    """12 times, cut the sequence in two at a random place and put a random string between."""
    part = len(positive) // 20
    stream = np.uint64(draws.key(np.uint64(seed), draws.NEGATIVES, index, attempt))
    n = 0
    for _ in range(12):
        start = int(draws.below(stream, n, len(positive) - part + 1))
        string = "".join("ATCG"[int(draws.below(stream, n + 1 + i, 4))] for i in range(part))
        positive = positive[:start] + string + positive[start + part :]
        n += 1 + part
    return positive


@given(
    st.text("ACGT", min_size=20, max_size=320),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**40),
    st.integers(0, 3),
)
def test_a_negative_is_what_plain_python_makes(positive: str, seed: int, index: int, attempt: int) -> None:
    found = negative_of(positive.encode(), seed, index, attempt)
    assert found.decode() == slow_negative(positive, seed, index, attempt)


def test_the_positive_is_left_alone_and_seed_index_and_attempt_all_matter() -> None:
    positive = b"ACGT" * 25
    different = {negative_of(positive, *numbers) for numbers in [(1, 0), (2, 0), (1, 1), (1, 0, 1), (1, 0)]}
    assert positive == b"ACGT" * 25
    assert len(different) == 4


def test_half_of_the_letters_stay_and_new_ones_are_even() -> None:
    # X is no base, so that every replaced letter shows.
    text = b"".join(negative_of(b"X" * 300, 5, index) for index in range(2000))
    letters = np.frombuffer(text, np.uint8).reshape(2000, 300)
    kept = letters == ord("X")
    # A place away from the ends is hit by one string with chance 15 / 286.
    expected = (1 - 15 / 286) ** 12
    assert abs(kept[:, 20:280].mean() - expected) < 0.01
    counts = [int((letters == ord(base)).sum()) for base in "ACGT"]
    assert chisquare(counts).pvalue > 0.01
    # The first and the last letter are hit by one start each, all starts being as likely.
    ends = np.array([(~kept[:, 0]).sum(), (~kept[:, -1]).sum()])
    assert (abs(ends - 2000 * (1 - (285 / 286) ** 12)) < 40).all()


@pytest.mark.parametrize("length", [20, 39, 40, 299])
def test_at_most_12_parts_of_a_twentieth_are_replaced(length: int) -> None:
    part = length // 20
    for index in range(50):
        replaced = sum(letter != "X" for letter in negative_of(b"X" * length, 3, index).decode())
        assert part <= replaced <= 12 * part


def test_a_positive_without_a_base_for_each_part_is_refused() -> None:
    with pytest.raises(InputError, match="has 19 bases; needed at least 20"):
        negative_of(b"A" * 19, 1, 0)


def test_a_negative_that_is_taken_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    positives = [b"A" * 20, b"C" * 20, b"G" * 20]
    made = {
        (0, 0): b"C" * 20,  # a positive
        (0, 1): b"T" * 20,
        (1, 0): b"C" * 20,  # its own positive
        (1, 1): b"T" * 20,  # an earlier negative
        (1, 2): b"TA" * 10,
        (7, 0): b"AT" * 10,
    }

    def negative(positive: bytes, seed: int, index: int, attempt: int = 0) -> bytes:
        return made[index, attempt]

    monkeypatch.setattr(negatives, "negative_of", negative)
    assert negatives_of(positives, 1, [0, 1, 7]) == [b"T" * 20, b"TA" * 10, b"AT" * 10]


def test_a_sequence_keeps_its_negative_whatever_the_others_are() -> None:
    positives = [b"ACGTTGCA" * 10, b"AACCGGTT" * 10, b"ATATGCGC" * 10]
    every = negatives_of(positives, 9, [4, 5, 6])
    assert negatives_of(positives[1:], 9, [5, 6]) == every[1:]
