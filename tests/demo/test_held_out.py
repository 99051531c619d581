"""Holding sequence out: nothing is in two parts, nothing is lost but what the division leaves over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.demo.held_out import Stretch, as_fasta, hold_out
from cmgems_cli.errors import UsageError


def places(stretch: Stretch) -> list[int]:
    return list(range(stretch.start, stretch.start + len(stretch.letters)))


@given(st.binary(min_size=30, max_size=200), st.integers(0, 99), st.integers(1, 7), st.floats(0.3, 0.7))
def test_every_base_is_in_one_part_at_most_and_where_its_name_says(
    letters: bytes, start: int, pieces: int, held_share: float
) -> None:
    parts = hold_out(Stretch("chr9", start, letters), pieces, held_share)
    assert len(parts) == pieces
    flat = [stretch for pair in parts for stretch in pair]
    covered = [place for stretch in flat for place in places(stretch)]
    assert covered == list(range(start, start + len(letters) // pieces * pieces))
    for stretch in flat:
        first, last = map(int, stretch.name.removeprefix("chr9:").split("-"))
        assert stretch.letters == letters[first - 1 - start : last - start]
    for kept, held in parts:
        assert len(held.letters) == round(held_share * (len(kept.letters) + len(held.letters)))


@given(st.binary(max_size=60), st.integers(1, 20))
def test_windows_tile_a_stretch(letters: bytes, length: int) -> None:
    windows = Stretch("c", 5, letters).windows(length)
    assert b"".join(window.letters for window in windows) == letters[: len(letters) // length * length]
    assert [window.start for window in windows] == [5 + length * n for n in range(len(letters) // length)]


@pytest.mark.parametrize(("pieces", "held_share"), [(0, 0.5), (11, 0.5), (2, 0.0), (2, 1.0), (2, 0.05)])
def test_an_empty_part_is_refused(pieces: int, held_share: float) -> None:
    with pytest.raises(UsageError, match="empty part"):
        hold_out(Stretch("c", 0, b"ACGTACGTAC"), pieces, held_share)


def test_fasta_has_a_record_a_stretch() -> None:
    assert as_fasta([Stretch("a", 0, b"AC"), Stretch("a", 2, b"G")]) == b">a:1-2\nAC\n>a:3-3\nG\n"
