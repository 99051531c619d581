"""FASTA text cut anywhere comes out as the same records."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta_stream import sequence_chunks

NAMES = st.sampled_from(["a", "b", "chr1 a comment > here", "c\tx"])
LINES = st.lists(st.text("ACGTNacgt ", max_size=6), max_size=4)


def records(texts: list[bytes]) -> list[tuple[str, bytes]]:
    """Join the pieces, checking that each record ends once and none is mixed with another."""
    found: list[tuple[str, bytes]] = []
    ended = True
    for piece in sequence_chunks(texts, Path("x.fa")):
        if ended:
            found.append((piece.name, b""))
        assert piece.name == found[-1][0]
        found[-1] = (piece.name, found[-1][1] + piece.letters)
        ended = piece.last
    assert ended
    return found


@given(
    st.lists(st.tuples(NAMES, LINES), min_size=1, max_size=4),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.lists(st.integers(0, 200), max_size=6),
)
def test_text_cut_anywhere_gives_the_same_records(
    written: list[tuple[str, list[str]]], ending: str, final: bool, cuts: list[int]
) -> None:
    text = ending.join(line for name, lines in written for line in (f">{name}", *lines))
    data = (text + ending * final).encode()
    bounds = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    parts = [data[start:stop] for start, stop in pairwise(bounds)]
    expected = [(name.split()[0], "".join(lines).replace(" ", "").encode()) for name, lines in written]
    assert records(parts) == expected


def test_a_long_record_comes_in_pieces() -> None:
    pieces = list(sequence_chunks([b">a\n" + b"AC" * 10, b"GT" * 10, b"\n"], Path("x.fa")))
    assert [piece.letters for piece in pieces] == [b"AC" * 10, b"GT" * 10, b""]
    assert [piece.last for piece in pieces] == [False, False, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [(b">\nACGT", "the first one"), (b">a\nAC\n> \nGT", "after 'a'"), (b">a\nAC\n>", "'a'")],
)
def test_a_record_without_a_name_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(InputError, match="without a name") as caught:
        list(sequence_chunks([text], Path("x.fa")))
    assert words in str(caught.value)
