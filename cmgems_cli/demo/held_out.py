"""Holds sequence out of pretraining, for the tasks.

Sequence is held out by position: repeats and duplicated genes may have copies in the pretraining sequence.
"""

from __future__ import annotations

from dataclasses import dataclass

from cmgems_cli.errors import UsageError


@dataclass(frozen=True)
class Segment:
    """Part of a contig.

    Attributes
    ----------
    contig : str
    start : int, bases
        0-based, in the contig.
    letters : bytes
    """

    contig: str
    start: int
    letters: bytes

    @property
    def name(self) -> str:
        """As genome browsers and samtools write it, 1-based and inclusive: `chr16:186964-200963`."""
        return f"{self.contig}:{self.start + 1}-{self.start + len(self.letters)}"

    def part(self, start: int, end: int) -> Segment:
        """Return the part between two bases of this segment, 0-based, half-open."""
        return Segment(self.contig, self.start + start, self.letters[start:end])

    def windows(self, length_bases: int) -> list[Segment]:
        """Return the windows of one length that tile the segment; a shorter rest at the end is dropped.

        >>> [window.name for window in Segment("chr1", 0, b"ACGTACG").windows(3)]
        ['chr1:1-3', 'chr1:4-6']
        """
        starts = range(0, len(self.letters) - length_bases + 1, length_bases)
        return [self.part(start, start + length_bases) for start in starts]


def hold_out(sequence: Segment, pieces: int, held_fraction: float) -> list[tuple[Segment, Segment]]:
    """Cut a sequence into pieces of equal length and hold out the end of each one.

    Parameters
    ----------
    sequence : Segment
    pieces : int
        Bases left over by the division are dropped.
    held_fraction : float, fraction
        Of each piece, rounded to a whole number of bases.

    Returns
    -------
    list of (Segment, Segment)
        Of each piece the part for pretraining and the part held out, in order; no base is in two parts.

    Raises
    ------
    UsageError
        If a part would be empty.

    Examples
    --------
    >>> for kept, held in hold_out(Segment("chr1", 0, b"ACGTACGTAC"), pieces=2, held_fraction=0.4):
    ...     print(kept.name, held.name)
    chr1:1-3 chr1:4-5
    chr1:6-8 chr1:9-10
    """
    length = len(sequence.letters) // pieces if pieces > 0 else 0
    held = round(held_fraction * length)
    if not 0 < held < length:
        raise UsageError(
            f"{pieces} pieces of {len(sequence.letters):,} bases with {held_fraction:g} of each held out leave an"
            " empty part; choose fewer pieces or another fraction"
        )
    cut = [sequence.part(number * length, (number + 1) * length) for number in range(pieces)]
    return [(piece.part(0, length - held), piece.part(length - held, length)) for piece in cut]


def as_fasta(segments: list[Segment]) -> bytes:
    """Return the FASTA text of segments, each a record of one line.

    >>> as_fasta([Segment("chr1", 0, b"ACGT")])
    b'>chr1:1-4\\nACGT\\n'
    """
    return b"".join(b">%s\n%s\n" % (each.name.encode(), each.letters) for each in segments)
