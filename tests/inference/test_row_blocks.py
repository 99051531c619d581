"""Rows of blocks against strings sliced one by one; memory that does not grow with the input."""

from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.codec import encode_sequence
from cmgems_cli.genome.fasta_stream import SequenceChunk
from cmgems_cli.genome.tokenization import OverlappingKmers
from cmgems_cli.genome.vocabulary import UNK
from cmgems_cli.inference.inference_options import Strand
from cmgems_cli.inference.row_blocks import Block, Tally, TilingOptions, blocks, tiling_options
from cmgems_cli.inference.survey import check_lengths, survey

K = 3
KMERS = OverlappingKmers(K)
Row = tuple[str, int, int, list[int]]


def chunks_of(sequences: list[str], sizes: list[int]) -> Iterator[SequenceChunk]:
    """Cut each sequence into pieces of these sizes; the last one may be empty."""
    for number, sequence in enumerate(sequences):
        letters = sequence.encode()
        for size in sizes:
            if size < len(letters):
                yield SequenceChunk(f"s{number}", letters[:size], False)
                letters = letters[size:]
        yield SequenceChunk(f"s{number}", letters, True)


def rows_of(block: Block) -> list[Row]:
    return [
        (name, int(start), int(end), block.token_ids[first : first + n].tolist())
        for name, start, end, first, n in zip(
            block.names, block.starts, block.ends, block.first, block.n_tokens, strict=True
        )
    ]


def expected_rows(sequences: list[str], tiling: TilingOptions) -> list[Row]:
    """Slice the strings, one window at a time, until one reaches the end."""
    rows = []
    for number, sequence in enumerate(sequences):
        spans = [(0, min(len(sequence), tiling.max_bases))]
        if tiling.window is not None and tiling.stride is not None:
            spans = []
            for start in range(0, len(sequence), tiling.stride):
                spans.append((start, min(start + tiling.window, len(sequence))))
                if start + tiling.window >= len(sequence):
                    break
        for start, end in spans:
            rows.append((f"s{number}", start, end, encode_sequence(sequence[start:end], K).tolist()))
    return rows


SEQUENCES = st.lists(st.text("ACGTN", max_size=60), max_size=5)
SIZES = st.lists(st.integers(0, 20), max_size=5)


@given(SEQUENCES, SIZES, st.integers(K, 12), st.integers(1, 20), st.integers(1, 200))
@example(["AAAAAAAA"], [], 3, 1, 10)
@example(["AAAAA", "AAAAAAAA"], [], 3, 1, 10)
def test_windows_are_slices_of_the_sequences(
    sequences: list[str], sizes: list[int], window: int, stride: int, look_ahead: int
) -> None:
    tiling = tiling_options(KMERS, 20, window=window, stride=stride)
    tally = Tally()
    found = list(blocks(chunks_of(sequences, sizes), tiling, look_ahead, tally))
    expected = expected_rows(sequences, tiling)
    known = [row for row in expected if any(token_id != UNK for token_id in row[3])]
    assert [row for block in found for row in rows_of(block)] == known
    assert (tally.sequences, tally.rows) == (len(sequences), len(expected))
    assert tally.unknown == len(expected) - len(known)
    assert survey(chunks_of(sequences, sizes), tiling).rows == len(expected)
    for block in found:
        assert len(block)
        # Up to the row that fills it.
        assert (block.n_tokens + 2).sum() < look_ahead + window - K + 3
        assert block.known.tolist() == [sum(token_id != UNK for token_id in row[3]) for row in rows_of(block)]


@settings(max_examples=30)
@given(SEQUENCES, SIZES, st.none() | st.integers(K, 12), st.integers(1, 200))
@example(["AAACCCGTN"], [], 4, 10)
def test_rows_of_the_other_strand_are_reverse_complements_at_the_same_places(
    sequences: list[str], sizes: list[int], window: int | None, look_ahead: int
) -> None:
    def rows(strand: Strand) -> list[tuple[Row, bool]]:
        tiling = tiling_options(KMERS, 70, window=window, stride=window and 5, strand=strand)
        tally = Tally()
        found = list(blocks(chunks_of(sequences, sizes), tiling, look_ahead, tally))
        assert survey(chunks_of(sequences, sizes), tiling).rows == tally.rows
        return [pair for block in found for pair in zip(rows_of(block), block.reverse.tolist(), strict=True)]

    forward = rows("forward")
    expected = []
    for name, start, end, _ in (row for row, _ in forward):
        text = sequences[int(name[1:])][start:end].translate(str.maketrans("ACGT", "TGCA"))[::-1]
        expected.append(((name, start, end, encode_sequence(text, K).tolist()), True))
    assert rows("reverse") == expected
    assert rows("both") == [row for pair in zip(forward, expected, strict=True) for row in pair]


@given(SEQUENCES, SIZES, st.integers(1, 200))
def test_whole_sequences_are_all_kept_and_cut_only_on_demand(
    sequences: list[str], sizes: list[int], look_ahead: int
) -> None:
    tiling = tiling_options(KMERS, 20, truncate=True)
    tally = Tally()
    found = [
        row
        for block in blocks(chunks_of(sequences, sizes), tiling, look_ahead, tally)
        for row in rows_of(block)
    ]
    assert found == expected_rows(sequences, tiling)
    assert tally.truncated == sum(len(sequence) > 22 for sequence in sequences)


def test_a_sequence_beyond_the_model_is_refused_with_what_to_do() -> None:
    tiling = tiling_options(KMERS, 20)
    sequences = ["ACGT" * 5, "ACGT" * 9, "ACGTA" * 7]
    with pytest.raises(
        InputError, match=r"'s1' is longer than the 22 bases .* `window=N` .* `truncate=True`"
    ):
        list(blocks(chunks_of(sequences, [7]), tiling, 100, Tally()))
    found = survey(chunks_of(sequences, [7]), tiling)
    with pytest.raises(InputError, match=r"x\.fa: 2 of 3 sequences .* longest \(s1\) 36: add `window=N`"):
        check_lengths(found, tiling, "x.fa")
    check_lengths(found, tiling_options(KMERS, 20, window=10), "x.fa")
    check_lengths(found, tiling_options(KMERS, 20, truncate=True), "x.fa")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"stride": 5}, "`stride=5` without `window`"),
        ({"window": 10, "truncate": True}, "give one of them"),
        ({"window": 2}, "needed 3 to 22 bases"),
        ({"window": 23}, "needed 3 to 22 bases"),
        ({"window": 10, "stride": 0}, "`stride` is 0; needed 1 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(how: dict[str, int], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tiling_options(KMERS, 20, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [None, 12])
def test_no_more_is_read_than_a_block_needs(window: int | None) -> None:
    read = count()

    def endless() -> Iterator[SequenceChunk]:
        while True:
            next(read)
            yield SequenceChunk("s", b"ACGTACGTACGTACGTACGT", window is None)

    found = blocks(endless(), tiling_options(KMERS, 20, window=window, stride=window and 6), 1000, Tally())
    for _ in range(3):
        assert 1000 <= (next(found).n_tokens + 2).sum() < 1040
    # 20 bases are 20 positions as a whole and at most 48 in windows; 3 blocks are 3,000 or a little more.
    assert next(read) < (160 if window is None else 100)


def test_a_long_sequence_is_never_held_whole() -> None:
    """One sequence of 40 million bases: only the tail that the next window needs is kept."""
    import tracemalloc

    chunk = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 1 << 20).tobytes()

    def chromosome() -> Iterator[SequenceChunk]:
        for _ in range(40):
            yield SequenceChunk("chr", chunk, False)
        yield SequenceChunk("chr", b"", True)

    tiling, tally = tiling_options(OverlappingKmers(6), 510, window=70, stride=70), Tally()
    tracemalloc.start()
    rows = sum(len(block) for block in blocks(chromosome(), tiling, 1 << 16, tally))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == tally.rows == tiling.rows_of(40 << 20)
    assert peak < 8e6
