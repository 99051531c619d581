"""From pieces of sequences to blocks of encoded rows: whole sequences, or windows that slide along them.

A block holds some thousands of rows, in their order: enough to sort into batches of like length, and all
that is ever held. Bases are encoded once, however often windows overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.codec import encode_sequences, offsets_of
from cmgems_cli.genome.fasta_stream import SequenceChunk
from cmgems_cli.genome.vocabulary import UNK


@dataclass(frozen=True)
class TilingOptions:
    """How sequences become rows. Make one with `cutting`, which checks it.

    Attributes
    ----------
    k : int, bases
        Of a token.
    max_tokens : int, tokens
        The longest row the model takes, special tokens not counted.
    window, stride : int or None, bases
        Length and distance of the windows; None: a row is a whole sequence. A sequence's last window is the
        first that reaches its end, and is cut short there.
    truncate : bool
        Cut sequences that are too long for a row to their first tokens, instead of refusing.
    """

    k: int
    max_tokens: int
    window: int | None = None
    stride: int | None = None
    truncate: bool = False

    @property
    def max_bases(self) -> int:
        """The longest row in bases."""
        return self.max_tokens + self.k - 1

    def rows_of(self, length_bases: int) -> int:
        """Return the number of rows a sequence becomes.

        >>> cut = TilingOptions(6, 510, window=70, stride=35)
        >>> [cut.rows_of(length) for length in (0, 1, 70, 71, 105, 106)]
        [0, 1, 1, 2, 2, 3]
        """
        if self.window is None or self.stride is None:
            return 1
        to_the_end = 1 + -(-max(0, length_bases - self.window) // self.stride)
        return min(to_the_end, -(-length_bases // self.stride))


def tiling_options(
    k: int, max_tokens: int, *, window: int | None = None, stride: int | None = None, truncate: bool = False
) -> TilingOptions:
    """Check how sequences are to be cut; parameters as the attributes of `TilingOptions`.

    `stride` is by default the window's length: windows side by side.

    Raises
    ------
    UsageError
        If the window is shorter than a token or longer than the model's input, or options contradict.
    """
    if window is None:
        if stride is not None:
            raise UsageError(f"--stride {stride} without --window; give both, or neither")
        return TilingOptions(k, max_tokens, truncate=truncate)
    if truncate:
        raise UsageError("both --window and --truncate were given; windows cut nothing off: give one of them")
    longest = max_tokens + k - 1
    if not k <= window <= longest:
        raise UsageError(
            f"--window {window} does not fit the model, which reads {k}-mers, at most {max_tokens}: needed"
            f" {k} to {longest} bases"
        )
    stride = window if stride is None else stride
    if stride < 1:
        raise UsageError(f"--stride {stride}: windows have to move; needed 1 or more")
    return TilingOptions(k, max_tokens, window, stride)


@dataclass
class Tally:
    """What was counted on the way.

    Attributes
    ----------
    sequences : int
        Read so far.
    rows : int
        Whole sequences or windows that came of them, the left-out ones included.
    unknown : int
        Rows without any known k-mer: shorter than one, or N throughout. Windows of that kind are left out.
    truncated : int
        Sequences that were cut.
    """

    sequences: int = 0
    rows: int = 0
    unknown: int = 0
    truncated: int = 0


@dataclass(frozen=True)
class Survey:
    """What a source holds.

    Attributes
    ----------
    sequences, rows : int
    longest_bases : int
        Length of the longest sequence, whose name is `longest`.
    too_long : int
        Sequences longer than a row.
    """

    sequences: int
    rows: int
    longest: str
    longest_bases: int
    too_long: int


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows, encoded, in their order.

    Attributes
    ----------
    names : list of str, length n
        The sequence each row is of.
    starts, ends : int64, shape (n,), bases
        Where in it, 0-based, half-open.
    token_ids : int32, shape (total,)
        Without special tokens.
    first, n_tokens : int64, shape (n,)
        Each row's tokens are `token_ids[first:first + n_tokens]`; those of windows overlap.
    known : int64, shape (n,)
        How many of them are k-mers of A, C, G and T alone.
    """

    names: list[str]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    token_ids: NDArray[np.int32]
    first: NDArray[np.int64]
    n_tokens: NDArray[np.int64]
    known: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def with_known_tokens(self) -> Block:
        """Return the rows that have a known k-mer."""
        if self.known.all():
            return self
        kept = np.flatnonzero(self.known)
        names = [self.names[row] for row in kept.tolist()]
        spans = (self.first[kept], self.n_tokens[kept], self.known[kept])
        return Block(names, self.starts[kept], self.ends[kept], self.token_ids, *spans)


@dataclass(frozen=True, eq=False)
class _Part:
    """A stretch of one sequence, and the rows in it: absolute coordinates, `letters` begin at `starts[0]`."""

    name: str
    letters: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def survey(pieces: Iterable[SequenceChunk], cut: TilingOptions) -> Survey:
    """Read all of a source, keeping nothing: its faults are found before any work is done."""
    sequences = rows = length = too_long = longest_bases = 0
    longest = ""
    for piece in pieces:
        length += len(piece.letters)
        if not piece.last:
            continue
        sequences += 1
        rows += cut.rows_of(length)
        too_long += length > cut.max_bases
        if length > longest_bases:
            longest, longest_bases = piece.name, length
        length = 0
    return Survey(sequences, rows, longest, longest_bases, too_long)


def check_lengths(found: Survey, cut: TilingOptions, name: str) -> None:
    """Refuse sequences too long for a row where nothing was said of what to do with them.

    Raises
    ------
    InputError
    """
    if found.too_long and cut.window is None and not cut.truncate:
        raise InputError(
            f"{name}: {found.too_long:,} of {found.sequences:,} sequences are longer than the {cut.max_bases:,}"
            f" bases the model takes, the longest ({found.longest}) {found.longest_bases:,}: add --window N to"
            " slide along them, or --truncate to cut them"
        )


def blocks(
    pieces: Iterable[SequenceChunk],
    cut: TilingOptions,
    look_ahead_tokens: int,
    tally: Tally,
    name: str = "input",
) -> Iterator[Block]:
    """Encode sequences a block at a time.

    Parameters
    ----------
    pieces : iterable of SequenceChunk
    cut : TilingOptions
    look_ahead_tokens : int, tokens
        A block ends with the row that brings its rows, special tokens included, to this many.
    tally : Tally
        Counted into.
    name : str
        Of the source, for messages.

    Yields
    ------
    Block
        Never empty. Of windows only those with a known k-mer; whole sequences all.

    Raises
    ------
    InputError
        If a sequence is too long for a row and `cut` does not say what to do.
    """
    waiting: list[_Part] = []
    tokens = 0

    def room() -> int:
        return look_ahead_tokens - tokens

    parts = _windows(pieces, cut, room, tally) if cut.window else _whole(pieces, cut, tally, name)
    for part in parts:
        waiting.append(part)
        tokens += int((np.maximum(part.ends - part.starts - cut.k + 1, 0) + 2).sum())
        if tokens >= look_ahead_tokens:
            yield from _encoded(waiting, cut, tally)
            waiting, tokens = [], 0
    yield from _encoded(waiting, cut, tally)


def _encoded(parts: list[_Part], cut: TilingOptions, tally: Tally) -> Iterator[Block]:
    """Yield the one block of these parts, or none."""
    if not parts:
        return
    text_offsets = offsets_of(np.array([len(part.letters) for part in parts]))
    token_ids, offsets = encode_sequences(b"".join(part.letters for part in parts), text_offsets, cut.k)
    starts = np.concatenate([part.starts for part in parts])
    ends = np.concatenate([part.ends for part in parts])
    # Where a part's tokens begin, less the base its letters begin at, once for each of its rows.
    shift = offsets[:-1] - np.array([part.starts[0] for part in parts])
    first = starts + np.repeat(shift, [len(part.starts) for part in parts])
    n_tokens = np.maximum(ends - starts - cut.k + 1, 0)
    known_before = offsets_of(token_ids != UNK)
    known = known_before[first + n_tokens] - known_before[first]
    names = [name for part in parts for name in [part.name] * len(part.starts)]
    block = Block(names, starts, ends, token_ids, first, n_tokens, known)
    tally.rows += len(block)
    tally.unknown += int((known == 0).sum())
    if cut.window:
        block = block.with_known_tokens()
    if len(block):
        yield block


def _whole(pieces: Iterable[SequenceChunk], cut: TilingOptions, tally: Tally, source: str) -> Iterator[_Part]:
    """Yield each sequence as one row; of a longer one, no more is held than a row takes."""
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        room = cut.max_bases - length
        if len(piece.letters) > room and not cut.truncate:
            raise InputError(
                f"{source}: the sequence {piece.name!r} is longer than the {cut.max_bases:,} bases the model"
                " takes: add --window N to slide along it, or --truncate to cut it"
            )
        held.append(piece.letters[: max(0, room)])
        length += len(piece.letters)
        if piece.last:
            tally.sequences += 1
            tally.truncated += length > cut.max_bases
            end = np.array([min(length, cut.max_bases)])
            yield _Part(piece.name, b"".join(held), np.zeros(1, np.int64), end)
            held, length = [], 0


def _windows(
    pieces: Iterable[SequenceChunk], cut: TilingOptions, room: Callable[[], int], tally: Tally
) -> Iterator[_Part]:
    """Yield windows by the stretch, none longer than to fill the block, which lacks `room` tokens."""
    assert cut.window is not None
    assert cut.stride is not None
    window, stride = cut.window, cut.stride
    tokens_each = window - cut.k + 3
    held = bytearray()
    base = start = reached = 0  # of the first letter held, of the next window, of the last window's end
    for piece in pieces:
        held += piece.letters
        while (
            count := min(-(-room() // tokens_each), (base + len(held) - window - start) // stride + 1)
        ) > 0:
            starts = start + stride * np.arange(count, dtype=np.int64)
            reached = int(starts[-1]) + window
            yield _Part(piece.name, bytes(held[start - base : reached - base]), starts, starts + window)
            start += count * stride
        end = base + len(held)
        if piece.last:
            if start < end and reached < end:
                letters = bytes(held[start - base :])
                yield _Part(piece.name, letters, np.array([start]), np.array([end]))
            tally.sequences += 1
            held, base, start, reached = bytearray(), 0, 0, 0
        else:
            done = min(start, end)
            del held[: done - base]
            base = done
