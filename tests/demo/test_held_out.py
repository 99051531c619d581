"""Holding sequence out: nothing is in two parts, nothing is lost but what the division leaves over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.demo.held_out import Segment, as_fasta, hold_out
from cmgems_cli.errors import UsageError


def places(segment: Segment) -> list[int]:
    return list(range(segment.start, segment.start + len(segment.letters)))


@given(st.binary(min_size=30, max_size=200), st.integers(0, 99), st.integers(1, 7), st.floats(0.3, 0.7))
def test_every_base_is_in_one_part_at_most_and_where_its_name_says(
    letters: bytes, start: int, pieces: int, held_fraction: float
) -> None:
    parts = hold_out(Segment("chr9", start, letters), pieces, held_fraction)
    assert len(parts) == pieces
    flat = [segment for pair in parts for segment in pair]
    covered = [place for segment in flat for place in places(segment)]
    assert covered == list(range(start, start + len(letters) // pieces * pieces))
    for segment in flat:
        first, last = map(int, segment.name.removeprefix("chr9:").split("-"))
        assert segment.letters == letters[first - 1 - start : last - start]
    for kept, held in parts:
        assert len(held.letters) == round(held_fraction * (len(kept.letters) + len(held.letters)))


@given(st.binary(max_size=60), st.integers(1, 20))
def test_windows_tile_a_segment(letters: bytes, length: int) -> None:
    windows = Segment("c", 5, letters).windows(length)
    assert b"".join(window.letters for window in windows) == letters[: len(letters) // length * length]
    assert [window.start for window in windows] == [5 + length * n for n in range(len(letters) // length)]


@pytest.mark.parametrize(("pieces", "held_fraction"), [(0, 0.5), (11, 0.5), (2, 0.0), (2, 1.0), (2, 0.05)])
def test_an_empty_part_is_refused(pieces: int, held_fraction: float) -> None:
    with pytest.raises(UsageError, match="empty part"):
        hold_out(Segment("c", 0, b"ACGTACGTAC"), pieces, held_fraction)


def test_fasta_has_a_record_a_segment() -> None:
    assert as_fasta([Segment("a", 0, b"AC"), Segment("a", 2, b"G")]) == b">a:1-2\nAC\n>a:3-3\nG\n"
