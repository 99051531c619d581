"""Mutants and their tokens against strings that are cut and joined, and encoded as a whole."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.explaining.edits import Edits, encode_edits, row_edits
from cmgems_cli.explaining.explain_options import ExplainOptions
from cmgems_cli.genome.codec import encode_sequence, offsets_of
from cmgems_cli.genome.tokenization import OverlappingKmers
from tests.explaining.conftest import on_other_strand

LETTERS = st.text(st.sampled_from("ACGTN"), min_size=1, max_size=24)


def as_letters(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


def edits_of(*changes: tuple[int, int, str]) -> Edits:
    at, removed, inserted = zip(*changes, strict=True)
    return Edits(
        np.array(at),
        np.array(removed),
        as_letters("".join(inserted)),
        offsets_of(np.array([len(one) for one in inserted])),
    )


@st.composite
def rows_and_changes(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, str]]]:
    row = draw(LETTERS)
    changes = []
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(row)))
        changes.append((at, draw(st.integers(0, len(row) - at)), draw(st.text("ACGTN", max_size=5))))
    return row, changes


@given(rows_and_changes(), st.integers(3, 6))
@settings(max_examples=150)
def test_the_tokens_of_mutants_are_those_of_their_letters(
    drawn: tuple[str, list[tuple[int, int, str]]], k: int
) -> None:
    row, changes = drawn
    edits = edits_of(*changes)
    token_ids, offsets = encode_edits(as_letters(row), encode_sequence(row, k), edits, OverlappingKmers(k))
    mutated, bounds = edits.apply(as_letters(row))
    other, other_bounds = edits.on_other_strand(len(row)).apply(as_letters(on_other_strand(row)))
    for number, (at, removed, inserted) in enumerate(changes):
        mutant = row[:at] + inserted + row[at + removed :]
        assert mutated[bounds[number] : bounds[number + 1]].tobytes().decode() == mutant
        found = token_ids[offsets[number] : offsets[number + 1]]
        assert np.array_equal(found, encode_sequence(mutant, k))
        reverse = other[other_bounds[number] : other_bounds[number + 1]].tobytes().decode()
        assert reverse == on_other_strand(mutant)


def mutants(text: str, options: ExplainOptions, stream: tuple[int, int] = (42, 0)) -> list[str]:
    letters, bounds = row_edits(as_letters(text), options, stream).edits.apply(as_letters(text))
    whole = letters.tobytes().decode()
    return [whole[start:stop] for start, stop in pairwise(bounds)]


def test_every_base_is_substituted_and_deleted_once() -> None:
    row = "ACNGT"
    expected = [row]
    known = [0, 1, 3, 4]
    for at in known:
        others = sorted(set("ACGT") - {row[at]})
        expected += [row[:at] + letter + row[at + 1 :] for letter in others]
    found = mutants(row, ExplainOptions(deletions=True))
    assert sorted(found[:13]) == sorted(expected)
    assert found[13:] == [row[:at] + row[at + 1 :] for at in known]


@pytest.mark.parametrize("by", ["shuffle", "random"])
def test_blocks_cover_the_row_and_change_nothing_else(by: str) -> None:
    row = "AAACCCGGGTTTAAACC"  # 17: the last block is cut short
    options = ExplainOptions(block=6, block_by=by, block_draws=30)  # type: ignore[arg-type]
    edits = row_edits(as_letters(row), options, (42, 0))
    assert edits.blocks.tolist() == [[0, 6], [6, 12], [12, 17]]
    found = mutants(row, options)[1 + 3 * len(row) :]
    assert len(found) == 3 * 30
    for number, mutant in enumerate(found):
        start, end = edits.blocks[number // 30]
        assert (mutant[:start], mutant[end:]) == (row[:start], row[end:])
        if by == "shuffle":
            assert sorted(mutant[start:end]) == sorted(row[start:end])
    assert len(set(found)) > 30
    drawn = "".join(
        mutant[start:end] for mutant, (start, end) in zip(found, np.repeat(edits.blocks, 30, 0), strict=True)
    )
    # 510 letters: A 6, C 5, G 3, T 3 of 17.
    for letter in "ACGT":
        assert drawn.count(letter) / len(drawn) == pytest.approx(row.count(letter) / len(row), abs=0.07)
    assert mutants(row, options) == mutants(row, options)
    assert mutants(row, options) != mutants(row, options, (43, 0))


def test_blocks_may_overlap() -> None:
    blocks = row_edits(as_letters("ACGTACGTAC"), ExplainOptions(block=4, block_step=3), (1, 0)).blocks
    assert blocks.tolist() == [[0, 4], [3, 7], [6, 10]]
