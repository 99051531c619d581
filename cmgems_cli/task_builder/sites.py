"""From a BED file and a genome to labelled sequences: the regions, and the negatives that match them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmgems_cli import draws
from cmgems_cli.datasets.bed import BedFile, Region
from cmgems_cli.datasets.labels import problem_of_label
from cmgems_cli.datasets.shots import random_numbers
from cmgems_cli.errors import InputError
from cmgems_cli.fewshot_builder.negatives import PARTS, negative_of
from cmgems_cli.genome.random_access import GenomeFile
from cmgems_cli.genome.strands import reverse_complement
from cmgems_cli.task_builder.build_task_options import BuildTaskOptions
from cmgems_cli.task_builder.matching import GC, OTHER, REPEAT, TAKEN, contig_flags, draw_negatives

NEGATIVE, POSITIVE = "0", "1"

# Below this number of contigs there is no split by chromosome, since three splits need one each.
FEWEST_CONTIGS = 3


@dataclass(frozen=True)
class Site:
    """A labelled sequence and where it comes from.

    Attributes
    ----------
    region : Region
        Of a negative that was made from its positive: that of the positive.
    label : str
    pair : int
        Number of the positive, from 0; its negatives have it too.
    block : str
        What stays in one split: the contig, or a part of it.
    letters : bytes
        Upper case, on the strand of the region.
    repeats : float, fraction, or None
        Share of lower-case letters in the genome; None if the sequence is not from there.
    """

    region: Region
    label: str
    pair: int
    block: str
    letters: bytes
    repeats: float | None

    @property
    def gc(self) -> float:
        """Share of G and C."""
        return (self.letters.count(b"G") + self.letters.count(b"C")) / len(self.letters)


@dataclass
class Sites:
    """All labelled sequences, and what became of the regions.

    Attributes
    ----------
    sites : list of Site
        Each positive and then its negatives.
    regions : int
        Lines of the BED file that are regions.
    repeated, at_end, across_blocks, other_letters, too_short, unmatched : int
        Regions left out: equal to an earlier one; longer than the contig after `length`; in two blocks; with a
        letter other than A, C, G, T; under 20 bases (with deepromoter); without negatives that match.
    contigs : int
        With regions.
    by_blocks : bool
        Whether contigs are divided into blocks, since there are too few of them.
    soft_masked : bool
        Whether the genome has lower-case letters on these contigs.
    inputs : dict, str -> str
        Digests of the files.
    """

    sites: list[Site] = field(default_factory=list)
    regions: int = 0
    repeated: int = 0
    at_end: int = 0
    across_blocks: int = 0
    other_letters: int = 0
    too_short: int = 0
    unmatched: int = 0
    contigs: int = 0
    by_blocks: bool = False
    soft_masked: bool = False
    inputs: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return the regions, and those left out by reason."""
        return {
            "regions": self.regions,
            "dropped_repeats": self.repeated,
            "dropped_at_contig_end": self.at_end,
            "dropped_across_blocks": self.across_blocks,
            "dropped_other_letters": self.other_letters,
            "dropped_too_short": self.too_short,
            "dropped_unmatched": self.unmatched,
        }


def find_sites(
    bed: Path,
    fasta: Path,
    options: BuildTaskOptions,
    *,
    seed: int = 42,
    advance: Callable[[float], None] = lambda bases: None,
) -> Sites:
    """Read the regions and draw their negatives.

    Parameters
    ----------
    bed, fasta : Path
        Regions, and the genome that they are in.
    options : BuildTaskOptions
    seed : int, default 42
    advance : callable, optional
        Called with the number of regions of a contig that is done.

    Raises
    ------
    InputError
        As `BedFile.regions` and `GenomeFile`; with `negatives=none`, if a region has no usable name.
    """
    with GenomeFile(fasta) as genome:
        file = BedFile(bed, genome)
        found = Sites()
        by_contig: dict[str, list[Region]] = {}
        for region in file.regions():
            found.regions += 1
            by_contig.setdefault(region.contig, []).append(region)
            if options.negatives == "none":
                _check_label(region, bed)
        excluded = _excluded(options.exclude, genome, found.inputs)
        found.contigs = len(by_contig)
        found.by_blocks = len(by_contig) < FEWEST_CONTIGS
        numbers = iter(range(found.regions))
        for contig, regions in by_contig.items():
            flags = contig_flags(genome, contig)
            found.soft_masked |= bool((flags & REPEAT).any())
            for region in [*regions, *excluded.get(contig, ())]:
                flags[region.start : region.end] |= TAKEN
            n_blocks = options.blocks if found.by_blocks else 1
            usable = _usable(regions, flags, n_blocks, options, found)
            found.sites += _labelled(
                usable, flags, genome, [next(numbers) for _ in usable], n_blocks, options, seed, found
            )
            advance(len(regions))
        genome.check_unchanged()
        found.inputs |= {"regions": file.sha256, "genome": genome.sha256}
    return found


def _check_label(region: Region, bed: Path) -> None:
    name = region.name
    problem = (
        "has no name" if name == f"{region.contig}:{region.start}-{region.end}" else problem_of_label(name)
    )
    if problem:
        raise InputError(
            f"{bed} line {region.line} {problem}; with `negatives=none` column 4 is the label of each region"
        )


def _excluded(path: Path | None, genome: GenomeFile, inputs: dict[str, str]) -> dict[str, list[Region]]:
    by_contig: dict[str, list[Region]] = {}
    if path is not None:
        file = BedFile(path, genome)
        for region in file.regions():
            by_contig.setdefault(region.contig, []).append(region)
        inputs["exclude"] = file.sha256
    return by_contig


def _usable(
    regions: list[Region], flags: NDArray[np.uint8], n_blocks: int, options: BuildTaskOptions, found: Sites
) -> list[Region]:
    """Return the regions, resized, that can be in the task; count the others."""
    size = -(-len(flags) // n_blocks)
    kept: dict[tuple[int, int, bool, str], Region] = {}
    for region in regions:
        start, end = region.start, region.end
        if options.length is not None:
            start = (start + end) // 2 - options.length // 2
            end = start + options.length
        label = region.name if options.negatives == "none" else ""
        if start < 0 or end > len(flags):
            found.at_end += 1
        elif start // size != (end - 1) // size:
            found.across_blocks += 1
        elif (flags[start:end] & OTHER).any():
            found.other_letters += 1
        elif options.negatives == "deepromoter" and end - start < PARTS:
            found.too_short += 1
        elif (start, end, region.reverse, label) in kept:
            found.repeated += 1
        else:
            flags[start:end] |= TAKEN
            kept[start, end, region.reverse, label] = region._replace(start=start, end=end)
    return list(kept.values())


def _labelled(
    regions: list[Region],
    flags: NDArray[np.uint8],
    genome: GenomeFile,
    numbers: list[int],
    n_blocks: int,
    options: BuildTaskOptions,
    seed: int,
    found: Sites,
) -> list[Site]:
    """Return each positive with its negatives."""
    size = -(-len(flags) // n_blocks)

    def site(region: Region, label: str, pair: int) -> Site:
        letters = genome.letters(region.contig, region.start, region.end)
        repeats = float((flags[region.start : region.end] & REPEAT != 0).mean())
        block = f"{region.contig}.block{region.start // size}" if n_blocks > 1 else region.contig
        read = reverse_complement(letters) if region.reverse else letters
        return Site(region, label, pair, block, read, repeats)

    negatives: list[list[Region]] = [[] for _ in regions]
    if options.negatives == "genome" and regions:
        for copy in range(options.per_positive):
            _add_negatives(negatives, regions, flags, numbers, copy, size, options, seed)
    sites = []
    for region, number, drawn in zip(regions, numbers, negatives, strict=True):
        if options.negatives == "none":
            sites.append(site(region, region.name, number))
            continue
        positive = site(region, POSITIVE, number)
        if options.negatives == "deepromoter":
            made = [negative_of(positive.letters, seed, number, copy) for copy in range(options.per_positive)]
            others = [Site(region, NEGATIVE, number, positive.block, one, None) for one in made]
        else:
            others = [site(one, NEGATIVE, number) for one in drawn]
        if len(others) < options.per_positive:
            found.unmatched += 1
        else:
            sites += [positive, *others]
    return sites


def _add_negatives(
    negatives: list[list[Region]],
    regions: list[Region],
    flags: NDArray[np.uint8],
    numbers: list[int],
    copy: int,
    size: int,
    options: BuildTaskOptions,
    seed: int,
) -> None:
    """Draw one more negative for each region, within its block."""
    starts = np.array([region.start for region in regions], np.int64)
    ends = np.array([region.end for region in regions], np.int64)
    spans = [flags[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    n_gc = np.array([int((span & GC != 0).sum()) for span in spans], np.int64)
    n_repeat = np.array([int((span & REPEAT != 0).sum()) for span in spans], np.int64)
    block = starts // size
    within = np.stack([block * size, np.minimum((block + 1) * size, len(flags))], axis=1)
    copies = np.full(len(regions), copy, np.int64)
    streams = random_numbers(np.uint64(seed), draws.TASK_NEGATIVES, np.array(numbers, np.int64), copies)
    drawn = draw_negatives(
        flags,
        ends - starts,
        n_gc,
        n_repeat,
        within,
        streams,
        gc_tolerance=options.gc_tolerance,
        repeat_tolerance=options.repeat_tolerance,
    )
    for at, start in enumerate(drawn.tolist()):
        if start >= 0:
            region, end = regions[at], start + int(ends[at] - starts[at])
            name = f"{region.contig}:{start}-{end}"
            negatives[at].append(region._replace(start=start, end=end, name=name))
