"""The input of a model: a surveyed source and its tiling into rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta_stream import SequenceChunk
from cmgems_cli.inference.record_readers import Source
from cmgems_cli.inference.row_blocks import Block, Tally, TilingOptions, blocks
from cmgems_cli.readable import none_of


@dataclass(frozen=True)
class Survey:
    """The size of an input, counted without keeping it.

    Attributes
    ----------
    sequences, rows : int
    longest_bases : int
        Length of the longest sequence, which is named `longest`.
    too_long : int
        Sequences longer than a row.
    """

    sequences: int
    rows: int
    longest: str
    longest_bases: int
    too_long: int


def survey(chunks: Iterable[SequenceChunk], tiling: TilingOptions) -> Survey:
    """Count the content of an input without keeping it, so that its errors are found before any work is done."""
    sequences = rows = length = too_long = longest_bases = 0
    longest = ""
    for chunk in chunks:
        length += len(chunk.letters)
        if not chunk.last:
            continue
        sequences += 1
        rows += tiling.rows_of(length)
        too_long += length > tiling.max_bases
        if length > longest_bases:
            longest, longest_bases = chunk.name, length
        length = 0
    return Survey(sequences, rows, longest, longest_bases, too_long)


def check_lengths(counted: Survey, tiling: TilingOptions, name: str) -> None:
    """Check that all sequences fit a row, unless `tiling` has windows or truncates.

    Raises
    ------
    InputError
        If one does not.
    """
    if counted.too_long and tiling.window is None and not tiling.truncate:
        raise InputError(
            f"{name}: {counted.too_long:,} of {counted.sequences:,} sequences are longer than the {tiling.max_bases:,}"
            f" bases the model accepts, the longest ({counted.longest}) {counted.longest_bases:,}: add `window=N` to"
            " slide along them, or `truncate=True` to cut them"
        )


@dataclass(eq=False)
class Input:
    """Sequences on which a model is run, once.

    Attributes
    ----------
    name : str
        Used in error messages.
    tiling : TilingOptions
    chunks : callable
        Returns the sequences in chunks.
    survey : Survey or None
        None for standard input and pipes, which can be read only once.
    regions : bool
        Whether the sequences are regions of a genome.
    tally : Tally
        Counts of the input read so far.
    tally_before : Tally
        Counts of the part that an earlier run has done.
    """

    name: str
    tiling: TilingOptions
    chunks: Callable[[], Iterable[SequenceChunk]]
    survey: Survey | None = None
    regions: bool = False
    tally: Tally = field(default_factory=Tally)
    tally_before: Tally = field(default_factory=Tally)
    _left_out_before: int = 0

    @property
    def left_out(self) -> int:
        """Number of omitted windows so far: those without a known k-mer."""
        return self._left_out(self.tally)

    def _left_out(self, tally: Tally) -> int:
        return tally.unknown if self.tiling.window else 0

    def newly_done(self, rows: int) -> int:
        """Return `rows` plus the windows omitted since the last call, for progress."""
        newly = rows + self.left_out - self._left_out_before
        self._left_out_before = self.left_out
        return newly

    @property
    def unit(self) -> str:
        """Plural name of a row for messages."""
        return "windows" if self.tiling.window else "sequences"

    @property
    def done(self) -> int:
        """Number of rows written so far, including those of an earlier run."""
        return self.tally.rows - self.left_out

    @property
    def done_before(self) -> int:
        """Number of rows that an earlier run wrote."""
        return self.tally_before.rows - self._left_out(self.tally_before)

    def blocks(self, look_ahead_tokens: int, *, skip: int = 0) -> Iterator[Block]:
        """Yield all encoded rows except those of the first `skip` blocks; see `row_blocks.blocks`.

        Raises
        ------
        InputError
            As for `row_blocks.blocks`; also at the end, if no row has a known k-mer.
        """
        self.tally = Tally()
        encoded = blocks(self.chunks(), self.tiling, look_ahead_tokens, self.tally, self.name)
        for _ in islice(encoded, skip):
            pass
        self.begin_here()
        yield from encoded
        self.check_known()

    def begin_here(self) -> None:
        """Record that an earlier run has done all that was read so far."""
        self.tally_before, self._left_out_before = replace(self.tally), self.left_out

    def check_known(self) -> None:
        """Check at the end that a row has a known k-mer.

        Raises
        ------
        InputError
            If no row has.
        """
        if self.tally.rows == self.tally.unknown:
            needed = self.tiling.tokenization.min_bases
            raise InputError(
                f"{self.name}: {none_of(self.tally.sequences, 'sequence', 'its')} has {needed} letters A, C, G, T"
                " in a row, so that every token would be [UNK]; give DNA sequences"
            )


def survey_input(source: Source, tiling: TilingOptions) -> Input:
    """Survey a source, if it can be read twice, so that its errors are found before any work is done.

    Raises
    ------
    InputError
        As for `Source.chunks`, or if sequences are too long for a row, unless `tiling` has windows or truncates.
    """
    counted = None
    if source.rereadable:
        counted = survey(source.chunks(), tiling)
        check_lengths(counted, tiling, source.name)
    return Input(source.name, tiling, source.chunks, counted, source.regions)
