"""Encode chunks of sequences as blocks of rows: whole sequences, or windows that slide along them.

A block holds some thousands of consecutive rows: enough to sort into batches of similar length, and all that is
in memory at a time. Bases are encoded once, even if windows overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.genome.fasta_stream import SequenceChunk
from cmgems_cli.genome.tokenization import Tokenization
from cmgems_cli.inference.inference_options import STRANDS, Strand
from cmgems_cli.inference.row_groups import RowGroup, as_read, joined, letters_of_rows, strand_order


@dataclass(frozen=True)
class TilingOptions:
    """How sequences become rows. Create it with `tiling_options`, which checks the parameters.

    Attributes
    ----------
    tokenization : Tokenization
    max_tokens : int, tokens
        Longest row that the model accepts, without special tokens.
    window, stride : int or None, bases
        Length and distance of the windows; None if a row is a whole sequence. The last window of a sequence is
        the first that reaches its end, where it is cut short.
    truncate : bool
        Cut sequences that are too long for a row to their first tokens instead of refusing them.
    strand : forward, reverse or both
        Read each row as it is, its reverse complement, or the one and then the other as two rows.
    """

    tokenization: Tokenization
    max_tokens: int
    window: int | None = None
    stride: int | None = None
    truncate: bool = False
    strand: Strand = "forward"

    @property
    def n_strands(self) -> int:
        """Number of rows for a sequence or window."""
        return 2 if self.strand == "both" else 1

    def at_most_positions(self, bases: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions that rows take at most, on all strands read.

        Parameters
        ----------
        bases : int64, shape (n,), bases
            Lengths of the rows.

        Returns
        -------
        int64, shape (n,)
        """
        tokens = np.maximum(bases - self.tokenization.min_bases + 1, 0)
        return (tokens + self.tokenization.specials.positions) * self.n_strands

    @property
    def max_bases(self) -> int:
        """The longest row in bases."""
        return self.tokenization.most_bases(self.max_tokens)

    def rows_of(self, length_bases: int) -> int:
        """Return the number of rows of a sequence.

        >>> from cmgems_cli.genome.tokenization import OverlappingKmers
        >>> tiling = TilingOptions(OverlappingKmers(6), 510, window=70, stride=35)
        >>> [tiling.rows_of(length) for length in (0, 1, 70, 71, 105, 106)]
        [0, 1, 1, 2, 2, 3]
        """
        if self.window is None or self.stride is None:
            return self.n_strands
        until_end = 1 + -(-max(0, length_bases - self.window) // self.stride)
        return min(until_end, -(-length_bases // self.stride)) * self.n_strands


def tiling_options(
    tokenization: Tokenization,
    max_tokens: int,
    *,
    window: int | None = None,
    stride: int | None = None,
    truncate: bool = False,
    strand: Strand = "forward",
) -> TilingOptions:
    """Check and return tiling options; parameters as the attributes of `TilingOptions`.

    By default `stride` is the length of the window, so that windows do not overlap.

    Raises
    ------
    UsageError
        If the window is shorter than a token or longer than the model's input, or parameters contradict.
    """
    if strand not in STRANDS:
        raise UsageError(f"`strand` {strand!r} is unknown; choose {', '.join(STRANDS)}")
    if window is None:
        if stride is not None:
            raise UsageError(f"`stride={stride}` without `window`; give both, or neither")
        return TilingOptions(tokenization, max_tokens, truncate=truncate, strand=strand)
    if truncate:
        raise UsageError(
            "both `window` and `truncate` were given, but windows truncate nothing; give one of them"
        )
    longest = tokenization.most_bases(max_tokens)
    if not tokenization.min_bases <= window <= longest:
        raise UsageError(
            f"`window={window}` does not fit the model, which reads at most {max_tokens} {tokenization.unit}; needed"
            f" {tokenization.min_bases} to {longest} bases"
        )
    stride = window if stride is None else stride
    if stride < 1:
        raise UsageError(f"`stride` is {stride}; needed 1 or more")
    return TilingOptions(tokenization, max_tokens, window, stride, strand=strand)


@dataclass
class Tally:
    """Counts of the input read so far.

    Attributes
    ----------
    sequences, rows : int
        Sequences read, and their rows: whole sequences or windows, including omitted windows.
    unknown : int
        Rows without any known k-mer: shorter than one, or N throughout. Such windows are omitted.
    truncated : int
        Truncated sequences.
    tokens, known_tokens : int
        Tokens of all rows that a model reads, and those that are not [UNK].
    """

    sequences: int = 0
    rows: int = 0
    unknown: int = 0
    truncated: int = 0
    tokens: int = 0
    known_tokens: int = 0


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive encoded rows.

    Attributes
    ----------
    names : list of str, length n
        Name of each row's sequence.
    starts, ends : int64, shape (n,), bases
        Interval of the row in its sequence, 0-based, half-open.
    token_ids : int32, shape (total,)
        Without special tokens.
    first, n_tokens : int64, shape (n,)
        The tokens of a row are `token_ids[first:first + n_tokens]`; those of windows may overlap.
    known : int64, shape (n,)
        Number of tokens that the model knows: for k-mers, those of A, C, G and T only.
    reverse : bool, shape (n,)
        Whether the row is read as the reverse complement of the sequence.
    letters : list of bytes, length n, or None
        Of each row as it is read, if its tokens do not tell those of its reverse complement.
    """

    names: list[str]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    token_ids: NDArray[np.int32]
    first: NDArray[np.int64]
    n_tokens: NDArray[np.int64]
    known: NDArray[np.int64]
    reverse: NDArray[np.bool_]
    letters: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def with_known_tokens(self) -> Block:
        """Return the rows that have a known k-mer."""
        if self.known.all():
            return self
        kept = np.flatnonzero(self.known)
        names = [self.names[row] for row in kept.tolist()]
        spans = (self.first[kept], self.n_tokens[kept], self.known[kept], self.reverse[kept])
        letters = None if self.letters is None else [self.letters[row] for row in kept.tolist()]
        return Block(names, self.starts[kept], self.ends[kept], self.token_ids, *spans, letters)


def blocks(
    chunks: Iterable[SequenceChunk],
    tiling: TilingOptions,
    look_ahead_tokens: int,
    tally: Tally,
    name: str = "input",
) -> Iterator[Block]:
    """Encode sequences in blocks.

    Parameters
    ----------
    chunks : iterable of SequenceChunk
    tiling : TilingOptions
    look_ahead_tokens : int, tokens
        A block ends with the row that brings its tokens, including special tokens, to this number.
    tally : Tally
        Updated in place.
    name : str
        Name of the source, for error messages.

    Yields
    ------
    Block
        Never empty. All whole sequences, or the windows with a known k-mer.

    Raises
    ------
    InputError
        If a sequence is too long for a row, unless `tiling` has windows or truncates.
    """
    waiting: list[RowGroup] = []
    tokens = 0

    def missing_tokens() -> int:
        return look_ahead_tokens - tokens

    for group in row_groups(chunks, tiling, missing_tokens, tally, name):
        waiting.append(group)
        tokens += int(tiling.at_most_positions(group.ends - group.starts).sum())
        if tokens >= look_ahead_tokens:
            yield from _encoded(waiting, tiling, tally)
            waiting, tokens = [], 0
    yield from _encoded(waiting, tiling, tally)


def row_groups(
    chunks: Iterable[SequenceChunk],
    tiling: TilingOptions,
    missing: Callable[[], int],
    tally: Tally,
    name: str,
) -> Iterator[RowGroup]:
    """Yield the rows with their letters; `missing` returns how many tokens of windows to yield at a time."""
    return _windows(chunks, tiling, missing, tally) if tiling.window else _whole(chunks, tiling, tally, name)


def _encoded(groups: list[RowGroup], tiling: TilingOptions, tally: Tally) -> Iterator[Block]:
    """Yield the block of these groups, if it has rows."""
    if not groups:
        return
    strands = tiling.n_strands
    starts = np.repeat(np.concatenate([group.starts for group in groups]), strands)
    ends = np.repeat(np.concatenate([group.ends for group in groups]), strands)
    names = [name for group in groups for name in [group.name] * (strands * len(group.starts))]
    read = as_read(groups, tiling.strand)
    if tiling.tokenization.k:
        token_ids, first, n_tokens = _shared_tokens(read, tiling.tokenization)
    else:
        token_ids, first, n_tokens = _own_tokens(read, tiling, tally)
    order, reverse = strand_order(groups, tiling.strand)
    first, n_tokens = first[order], n_tokens[order]
    letters = None
    if not tiling.tokenization.k:
        letters_read = letters_of_rows(read)
        letters = [letters_read[row] for row in order.tolist()]
    known_before = offsets_of(token_ids != tiling.tokenization.specials.unknown)
    known = known_before[first + n_tokens] - known_before[first]
    block = Block(names, starts, ends, token_ids, first, n_tokens, known, reverse, letters)
    tally.rows += len(block)
    tally.unknown += int((known == 0).sum())
    if tiling.window:
        block = block.with_known_tokens()
    tally.tokens += int(block.n_tokens.sum())
    tally.known_tokens += int(block.known.sum())
    if len(block):
        yield block


def _shared_tokens(
    groups: list[RowGroup], kmers: Tokenization
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Encode each group once, for all rows that overlap in it; return the tokens and each row's first and number."""
    starts = np.concatenate([group.starts for group in groups])
    ends = np.concatenate([group.ends for group in groups])
    letters, text_offsets = joined([group.letters for group in groups])
    token_ids, offsets = kmers.encode(letters, text_offsets)
    # Offset of a group's tokens minus the coordinate of its first letter, repeated for each of its rows.
    shift = offsets[:-1] - np.array([group.starts[0] for group in groups])
    first = starts + np.repeat(shift, [len(group.starts) for group in groups])
    return token_ids, first, np.maximum(ends - starts - kmers.min_bases + 1, 0)


def _own_tokens(
    groups: list[RowGroup], tiling: TilingOptions, tally: Tally
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Encode every row by itself: its tokens depend on where it begins; returns as `_shared_tokens`."""
    token_ids, offsets = tiling.tokenization.encode(*joined(letters_of_rows(groups)))
    n_tokens = np.diff(offsets)
    too_long = int((n_tokens > tiling.max_tokens).sum())
    if too_long and not tiling.truncate:
        raise InputError(
            f"{too_long:,} rows have more than the {tiling.max_tokens:,} tokens that the model reads, the longest"
            f" {int(n_tokens.max()):,}: give a shorter `window`, or `truncate=True` to cut them"
        )
    tally.truncated += too_long
    return token_ids, offsets[:-1], np.minimum(n_tokens, tiling.max_tokens)


def _whole(
    chunks: Iterable[SequenceChunk], tiling: TilingOptions, tally: Tally, source: str
) -> Iterator[RowGroup]:
    """Yield each sequence as one row; keep no more of a longer one than a row holds."""
    buffered: list[bytes] = []
    length = 0
    for chunk in chunks:
        remaining = tiling.max_bases - length
        if len(chunk.letters) > remaining and not tiling.truncate:
            raise InputError(
                f"{source}: the sequence {chunk.name!r} is longer than the {tiling.max_bases:,} bases the model"
                " accepts: add `window=N` to slide along it, or `truncate=True` to cut it"
            )
        buffered.append(chunk.letters[: max(0, remaining)])
        length += len(chunk.letters)
        if chunk.last:
            tally.sequences += 1
            tally.truncated += length > tiling.max_bases
            end = np.array([min(length, tiling.max_bases)])
            yield RowGroup(chunk.name, b"".join(buffered), np.zeros(1, np.int64), end)
            buffered, length = [], 0


def _windows(
    chunks: Iterable[SequenceChunk], tiling: TilingOptions, missing_tokens: Callable[[], int], tally: Tally
) -> Iterator[RowGroup]:
    """Yield groups of windows, each no larger than needed to fill the block, which lacks `missing_tokens()`."""
    assert tiling.window is not None
    assert tiling.stride is not None
    window, stride = tiling.window, tiling.stride
    tokens_each = int(tiling.at_most_positions(np.array(window)))
    buffered = bytearray()
    # Coordinates: of the first buffered letter, of the next window, and of the last window's end.
    base = start = reached = 0
    for chunk in chunks:
        buffered += chunk.letters
        while (
            count := min(
                -(-missing_tokens() // tokens_each), (base + len(buffered) - window - start) // stride + 1
            )
        ) > 0:
            starts = start + stride * np.arange(count, dtype=np.int64)
            reached = int(starts[-1]) + window
            yield RowGroup(
                chunk.name, bytes(buffered[start - base : reached - base]), starts, starts + window
            )
            start += count * stride
        end = base + len(buffered)
        if chunk.last:
            if start < end and reached < end:
                letters = bytes(buffered[start - base :])
                yield RowGroup(chunk.name, letters, np.array([start]), np.array([end]))
            tally.sequences += 1
            buffered, base, start, reached = bytearray(), 0, 0, 0
        else:
            done = min(start, end)
            del buffered[: done - base]
            base = done
