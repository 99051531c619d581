"""Regions of a genome as input: a BED file says which, and the sequences come from a FASTA file by random access."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cmgems_cli.artifacts import canonical_json, sha256_of_bytes
from cmgems_cli.datasets.bed import BedFile, Region
from cmgems_cli.errors import UsageError
from cmgems_cli.genome.fasta_stream import SequenceChunk
from cmgems_cli.genome.random_access import GenomeFile
from cmgems_cli.genome.strands import reverse_complement
from cmgems_cli.inference.inference_options import RegionOptions
from cmgems_cli.inference.record_readers import Source, checked_dna
from cmgems_cli.readable import counted

# ours: letters of a region that are in memory at a time.
_PART_BASES = 1 << 20

# How many renamed contigs a message lists.
_RENAMED_SHOWN = 3


class RegionName(str):
    """The name of a sequence that is a region of a genome; `region` says which.

    It goes wherever the name of the sequence goes, so that whoever writes a row knows its place in the genome.
    """

    region: Region

    def __new__(cls, region: Region) -> RegionName:
        name = super().__new__(cls, region.name)
        name.region = region
        return name


class RegionSource(Source):
    """The regions of a BED file as sequences, in the order of the file; those on `-` as reverse complements.

    Parameters
    ----------
    regions : Path
        BED, plain, gzip or bgzip; `STANDARD_INPUT` for piped input.
    genome : Path
        FASTA, plain, gzip or bgzip; a `.fai` index is used if it is up to date, and none is written.

    Attributes
    ----------
    path : Path
        Of the BED file.
    name : str
        Used in error messages.
    rereadable : bool
        Whether `chunks` may be called more than once.
    sha256 : str
        Digest of both files; complete once `chunks` is exhausted.
    genome : GenomeFile
    reverse : int
        Number of regions on `-`, counted by `chunks`.

    Raises
    ------
    InputError
        If a file is missing, or the genome is not FASTA of DNA.
    """

    regions = True

    def __init__(self, regions: Path, genome: Path) -> None:
        self.genome = GenomeFile(genome)
        self._bed = BedFile(regions, self.genome)
        self.path, self.name, self.rereadable = regions, self._bed.name, self._bed.rereadable
        self.sha256, self.reverse = "", 0

    def __repr__(self) -> str:
        return f"<RegionSource: {self.name} in {self.genome.path}>"

    def chunks(self) -> Iterator[SequenceChunk]:
        """Yield the letters of all regions; the names are `RegionName`.

        Raises
        ------
        InputError
            As `BedFile.regions`; or if the genome is not DNA, or has changed since it was opened.
        """
        self.reverse = 0
        yield from checked_dna(self._chunks(), self.genome.path)
        self.genome.check_unchanged()
        digests = {"regions": self._bed.sha256, "genome": self.genome.sha256}
        self.sha256 = sha256_of_bytes(canonical_json(digests).encode())

    def _chunks(self) -> Iterator[SequenceChunk]:
        for region in self._bed.regions():
            self.reverse += region.reverse
            name = RegionName(region)
            for at in range(0, region.end - region.start, _PART_BASES):
                n = min(_PART_BASES, region.end - region.start - at)
                start = region.end - at - n if region.reverse else region.start + at
                letters = self.genome.letters(region.contig, start, start + n)
                last = at + n == region.end - region.start
                yield SequenceChunk(name, reverse_complement(letters) if region.reverse else letters, last)

    def notes(self) -> list[str]:
        """Return what there is to say of the regions read so far."""
        notes = []
        if self.reverse:
            are = "is" if self.reverse == 1 else "are"
            notes.append(
                f"{counted(self.reverse, 'region')} {are} on the strand -: read as reverse complements"
            )
        if renamed := self._bed.renamed:
            shown = [f"{bed} is {record}" for bed, record in list(renamed.items())[:_RENAMED_SHOWN]]
            more = f" and {len(renamed) - _RENAMED_SHOWN:,} more" if len(renamed) > _RENAMED_SHOWN else ""
            notes.append(f"contigs are named as in {self.genome.path}: {', '.join(shown)}{more}")
        return notes


def source_of(sequences: Path | None, options: RegionOptions) -> Source:
    """Return the input of a command: a file of sequences, or regions of a genome.

    Raises
    ------
    UsageError
        If neither or both are given, or one of `regions` and `genome` without the other.
    InputError
        As `Source` and `RegionSource`.
    """
    if sequences is not None:
        if options.regions or options.genome:
            raise UsageError(
                f"INPUT {sequences} and {'`regions`' if options.regions else '`genome`'} are both given; give a file"
                " of sequences, or `regions` with `genome`"
            )
        return Source(sequences)
    if options.regions is None or options.genome is None:
        if options.regions or options.genome:
            raise UsageError(
                "`regions` says where in the FASTA file `genome` the sequences are; give both of them"
            )
        raise UsageError("there is no input; give INPUT, a file of sequences, or `regions` with `genome`")
    return RegionSource(options.regions, options.genome)
