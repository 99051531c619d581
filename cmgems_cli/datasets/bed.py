"""BED files: intervals of a genome, read in one pass and checked against the genome line by line.

Format: UCSC's BED, https://genome.ucsc.edu/FAQ/FAQformat.html, and GA4GH's BED v1: fields separated by tabs, or by
blanks if the line has no tab; start is 0-based, end is not included. Used are the first six columns: chrom, start, end,
name, (score,) strand; further ones, such as those of narrowPeak, are passed over. Lines that begin with `#`, `track` or
`browser` and blank lines are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from cmgems_cli.datasets.input_file import InputFile
from cmgems_cli.datasets.text_lines import lines_of, texts_of
from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta import FastaFile
from cmgems_cli.genome.file_kinds import other_kind
from cmgems_cli.genome.random_access import GenomeFile

NEEDED = "needed BED: chrom, start and end in each line, separated by tabs"

_STRANDS = {"+": False, "-": True, ".": False}


class Region(NamedTuple):
    """An interval of a genome and one of its strands.

    Attributes
    ----------
    contig : str
        Name of the record in the genome's FASTA file.
    start, end : int, bases
        0-based, half-open, on the forward strand, whatever the strand of the region.
    name : str
        Of the BED file, or CONTIG:START-END without one.
    reverse : bool
        Whether the strand is `-`.
    line : int
        Of the BED file, from 1.
    """

    contig: str
    start: int
    end: int
    name: str
    reverse: bool
    line: int

    @property
    def strand(self) -> str:
        """`+` or `-`."""
        return "-" if self.reverse else "+"


class BedFile(InputFile):
    """The regions of a BED file in a genome, in file order.

    Parameters
    ----------
    path : Path
        Plain, gzip or bgzip; `STANDARD_INPUT` for piped input.
    genome : GenomeFile

    Attributes
    ----------
    renamed : dict, str -> str
        Names of contigs in the BED file whose record in the genome has another name.
    others
        As of `InputFile`, which also says what raises.
    """

    def __init__(self, path: Path, genome: GenomeFile) -> None:
        super().__init__(path, NEEDED)
        self.genome = genome
        self.renamed: dict[str, str] = {}

    def regions(self) -> Iterator[Region]:
        """Yield all regions.

        Raises
        ------
        InputError
            If there is none, or a line is not an interval within a contig of the genome (the message names the
            line), or the file has changed since it was first read.
        """
        file, shown = FastaFile(self.path), Path(self.name)
        found = False
        with closing(lines_of(texts_of(file), shown, NEEDED)) as lines:
            for number, text in enumerate(lines, 1):
                line = text.rstrip("\r\n")
                if number == 1 and (kind := other_kind(line.encode()[:1024])):
                    raise InputError(f"{self.name} looks like {kind[0]}; {NEEDED}")
                if not line.strip() or line.startswith("#") or line.split(None, 1)[0] in {"track", "browser"}:
                    continue
                found = True
                yield self._region(line, number)
        if not found:
            raise InputError(f"{self.name} has no regions; {NEEDED}")
        self.was_read(file)

    def _region(self, line: str, number: int) -> Region:
        def wrong(words: str) -> InputError:
            return InputError(f"{self.name} line {number} {words}")

        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) < 3:
            raise wrong(f"has {len(fields)} column(s) ({line[:40]!r}); {NEEDED}")
        contig = fields[0]
        try:
            start, end = _whole(fields[1]), _whole(fields[2])
        except ValueError as error:
            raise wrong(f"has {str(error)!r} where a whole number belongs; {NEEDED}") from None
        record = self.genome.find(contig)
        if record is None:
            raise wrong(
                f"names {contig!r}, which {self.genome.path} does not have; it has {self.genome.names_shown()}: give"
                " the genome that the regions were made for, or remove the line"
            )
        if record != contig:
            self.renamed[contig] = record
        if start < 0:
            raise wrong(f"starts at {start}; needed 0 or more, as BED counts from 0: correct the line")
        if start >= end:
            raise wrong(
                f"starts at {start:,} and ends at {end:,}; needed an end behind the start: correct the line"
            )
        if end > (length := self.genome.contigs[record]):
            raise wrong(
                f"ends at {end:,}, and {record} of {self.genome.path} has {length:,} bases; give the genome that the"
                " regions were made for"
            )
        strand = fields[5].strip() if len(fields) > 5 else "."
        if strand not in _STRANDS:
            raise wrong(
                f"has {strand[:20]!r} as its strand, column 6; needed +, - or .: correct it, or keep the first five"
                " columns only"
            )
        name = fields[3].strip() if len(fields) > 3 else ""
        if name in ("", "."):
            name = f"{record}:{start}-{end}"
        return Region(record, start, end, name, _STRANDS[strand], number)


def _whole(text: str) -> int:
    """Return the number of a field (ValueError with the text, if it is not one)."""
    digits = text.strip()
    if not digits.removeprefix("-").isdecimal() or not digits.isascii() or len(digits) > 18:
        raise ValueError(text[:20])
    return int(digits)
