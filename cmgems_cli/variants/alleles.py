"""Compare each allele with the genome and cut the windows around it, or give the reason why it gets no score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from cmgems_cli.genome.random_access import GenomeFile

Reason = Literal[
    "symbolic",
    "no_contig",
    "ref_mismatch",
    "same_as_ref",
    "too_long",
    "contig_end",
    "not_acgt",
    "indel",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

# In summaries.
WORDS: dict[Reason, str] = {
    "symbolic": "no sequence is given: none, *, <DEL> or a breakend",
    "no_contig": "the genome has no such contig",
    "ref_mismatch": "REF is not what the genome has there",
    "same_as_ref": "ALT equals REF",
    "too_long": "an allele is too long",
    "contig_end": "the window passes an end of the contig",
    "not_acgt": "N or another letter than A, C, G, T in the window",
    "indel": "the alleles differ in length: a masked model has no score",
}

_ACGT = b"ACGT"


@dataclass(frozen=True, slots=True)
class Allele:
    """An alternative allele with its surroundings.

    Attributes
    ----------
    contig : str
        Of the genome.
    start : int, bases
        0-based position of the first base of `ref`.
    left, right : bytes
        The same number of bases on either side; A, C, G, T only.
    ref, alt : bytes
        The alleles without bases that both begin or end with. Those of an insertion or deletion hold the whole
        repeat in which it could have been written at another place.
    """

    contig: str
    start: int
    left: bytes
    ref: bytes
    alt: bytes
    right: bytes

    @property
    def ref_window(self) -> bytes:
        """The window with the reference allele."""
        return self.left + self.ref + self.right

    @property
    def alt_window(self) -> bytes:
        """The window with the alternative allele."""
        return self.left + self.alt + self.right


@dataclass(frozen=True, eq=False)
class AlleleFinder:
    """Cuts windows from a genome.

    Attributes
    ----------
    genome : GenomeFile
    window : int, bases
        Longest window, with either allele.
    max_allele : int, bases
        Longest allele, without bases that both begin or end with.
    min_flank : int, bases
        A window has so many on either side of an allele.
    indels : bool
        Whether alleles may differ in length.
    """

    genome: GenomeFile
    window: int
    max_allele: int
    min_flank: int = 0
    indels: bool = True

    def find(self, chrom: str, position: int, ref: str, alt: str | None) -> Allele | Reason:
        """Return an allele with its surroundings, or the reason why it gets no score.

        Parameters
        ----------
        chrom : str
            A contig of the genome, also under another name of the same human chromosome.
        position : int, bases
            1-based position of the first base of `ref`.
        ref, alt : str
            In upper case; `alt` None if there is no alternative.

        Raises
        ------
        InputError
            As `GenomeFile.letters`.
        """
        if alt is None or not (alt.isascii() and alt.isalpha()):
            return "symbolic"
        contig = self.genome.find(chrom)
        if contig is None:
            return "no_contig"
        length, start = self.genome.contigs[contig], position - 1
        if start < 0 or start + len(ref) > length:
            return "contig_end"
        here, there = ref.encode(), alt.encode()
        if self.genome.letters(contig, start, start + len(here)) != here:
            return "ref_mismatch"
        start, here, there = _trimmed(start, here, there)
        if not here and not there:
            return "same_as_ref"
        if max(len(here), len(there)) > self.max_allele:
            return "too_long"
        if len(here) != len(there) and not self.indels:
            return "indel"
        if not here or not there:
            start, here, there = self._whole_repeat(contig, start, here, there)
        flank = (self.window - max(len(here), len(there))) // 2
        if flank < self.min_flank:
            return "too_long"
        end = start + len(here)
        if start < flank or end + flank > length:
            return "contig_end"
        around = self.genome.letters(contig, start - flank, end + flank)
        if (around + there).translate(None, _ACGT):
            return "not_acgt"
        return Allele(contig, start, around[:flank], here, there, around[len(around) - flank :])

    def _whole_repeat(self, contig: str, start: int, ref: bytes, alt: bytes) -> tuple[int, bytes, bytes]:
        """Extend an insertion or deletion over all places where writing it gives the same sequence.

        Otherwise the window, and with it the score, would depend on whether the caller aligned it to the left or to
        the right.
        """
        more = max(len(ref), len(alt))
        left_from = max(0, start - self.window)
        right_to = min(self.genome.contigs[contig], start + len(ref) + self.window)
        left = self.genome.letters(contig, left_from, start)
        right = self.genome.letters(contig, start + len(ref), right_to)
        longer = left + (ref or alt) + right
        at = len(left)
        before = after = 0
        while before < len(left) and longer[at - 1 - before] == longer[at + more - 1 - before]:
            before += 1
        while after < len(right) and longer[at + more + after] == longer[at + after]:
            after += 1
        head, tail = left[len(left) - before :], right[:after]
        return start - before, head + ref + tail, head + alt + tail


def _trimmed(start: int, ref: bytes, alt: bytes) -> tuple[int, bytes, bytes]:
    """Drop the bases with which both alleles end, then those with which both begin."""
    n = 0
    while n < min(len(ref), len(alt)) and ref[-1 - n] == alt[-1 - n]:
        n += 1
    ref, alt = ref[: len(ref) - n], alt[: len(alt) - n]
    n = 0
    while n < min(len(ref), len(alt)) and ref[n] == alt[n]:
        n += 1
    return start + n, ref[n:], alt[n:]
