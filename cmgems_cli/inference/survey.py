"""What a model is run over: a source that was looked through, and how it is cut into rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta_stream import SequenceChunk
from cmgems_cli.inference.record_readers import Source
from cmgems_cli.inference.row_blocks import Block, Survey, Tally, TilingOptions, blocks, check_lengths, survey


@dataclass(eq=False)
class Input:
    """Sequences to be run through a model, once.

    Attributes
    ----------
    name : str
        For messages.
    cutting : TilingOptions
    pieces : callable
        Returns the sequences.
    survey : Survey or None
        What is in it; None for standard input and pipes, which can be read only once.
    tally : Tally
        What has been read so far.
    tally_before : Tally
        What of it an earlier run has done.
    """

    name: str
    cutting: TilingOptions
    pieces: Callable[[], Iterable[SequenceChunk]]
    survey: Survey | None = None
    tally: Tally = field(default_factory=Tally)
    tally_before: Tally = field(default_factory=Tally)
    _left_out_before: int = 0

    @property
    def left_out(self) -> int:
        """Windows that were left out so far: those without a known k-mer."""
        return self._left_out(self.tally)

    def _left_out(self, tally: Tally) -> int:
        return tally.unknown if self.cutting.window else 0

    def newly_done(self, rows: int) -> int:
        """Return `rows` and the windows left out since the last call: what progress to tell of."""
        newly = rows + self.left_out - self._left_out_before
        self._left_out_before = self.left_out
        return newly

    @property
    def unit(self) -> str:
        """What a row is, for people."""
        return "windows" if self.cutting.window else "sequences"

    @property
    def done(self) -> int:
        """Rows that have come out so far, an earlier run's included."""
        return self.tally.rows - self.left_out

    @property
    def done_before(self) -> int:
        """Those of an earlier run."""
        return self.tally_before.rows - self._left_out(self.tally_before)

    def blocks(self, look_ahead_tokens: int, *, skip: int = 0) -> Iterator[Block]:
        """Yield all rows, encoded, but those of the first `skip` blocks; see `blocks.blocks`.

        Raises
        ------
        InputError
            As there; and at the end, if no row had a known k-mer.
        """
        self.tally = Tally()
        found = blocks(self.pieces(), self.cutting, look_ahead_tokens, self.tally, self.name)
        for _ in islice(found, skip):
            pass
        self.tally_before, self._left_out_before = replace(self.tally), self.left_out
        yield from found
        if self.tally.rows == self.tally.unknown:
            raise InputError(
                f"{self.name}: none of its {self.tally.sequences:,} sequences has {self.cutting.k} letters A, C,"
                " G, T in a row, so that every token would be [UNK]; give DNA sequences"
            )


def survey_input(source: Source, cutting: TilingOptions) -> Input:
    """Look through a source, if it can be read twice, so that its faults are found before any work is done.

    Raises
    ------
    InputError
        As `Source.pieces`, or if sequences are too long for a row and `cutting` does not say what to do.
    """
    found = None
    if source.rereadable:
        found = survey(source.pieces(), cutting)
        check_lengths(found, cutting, source.name)
    return Input(source.name, cutting, source.pieces, found)
