"""The options of `cmgems build-task`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cmgems_cli.option_fields import option

NegativesFrom = Literal["genome", "deepromoter", "none"]


@dataclass(frozen=True)
class BuildTaskOptions:
    """How regions become a task.

    Attributes
    ----------
    negatives : genome, deepromoter or none
        Other regions of the genome; each positive with parts replaced (`fewshot_builder.negatives`); or the labels
        are the names of the regions.
    per_positive : int
        Negatives of each positive.
    length : int or None, bases
        Length of all sequences, around the middle of each region; None: that of the regions.
    gc_tolerance, repeat_tolerance : float, fraction
        By how much the shares of G and C, and of lower-case letters, of a negative may differ from those of its
        positive.
    exclude : Path or None
        BED file of further regions that no negative overlaps.
    blocks : int
        Of genomes with one contig: into how many blocks it is divided in place of chromosomes.
    dev, test : float, fraction of the rows
    dev_chromosomes, test_chromosomes : str or None
        Names separated by commas.
    """

    negatives: NegativesFrom = option(
        "genome",
        "--negatives",
        "genome: other regions; deepromoter: positives with replaced parts; none: column 4 is the label.",
    )
    per_positive: int = option(1, "--per-positive", "Negatives of each positive.", min=1, max=1000)
    length: int | None = option(
        None,
        "--length",
        "Bases of each sequence, around the middle of the region.",
        min=1,
        shown="the region's",
    )
    # ours: three bases of 150, a GC content that no classifier of composition tells apart.
    gc_tolerance: float = option(
        0.02, "--gc-tolerance", "How far the GC content of a negative may be off.", min=0, max=1
    )
    # ours: repeats are matched more coarsely, since most regions are wholly in one or outside.
    repeat_tolerance: float = option(
        0.05, "--repeat-tolerance", "The same for the fraction of repeats: lower-case letters.", min=0, max=1
    )
    exclude: Path | None = option(
        None, "--exclude", "BED file of regions that no negative may overlap.", metavar="FILE.bed"
    )
    # ours: enough blocks for splits of a tenth, each much longer than a region.
    blocks: int = option(50, "--blocks", "Blocks in place of chromosomes if there is one contig.", min=3)
    dev: float = option(0.1, "--dev", "Fraction of the rows for dev.", min=0, max=1)
    test: float = option(0.1, "--test", "Fraction of the rows for test.", min=0, max=1)
    dev_chromosomes: str | None = option(
        None,
        "--dev-chromosomes",
        "Chromosomes of dev: chr20,chr21.",
        shown="chosen to fit the fraction of dev",
    )
    test_chromosomes: str | None = option(
        None,
        "--test-chromosomes",
        "Chromosomes of test: chr8,chr9.",
        shown="chosen to fit the fraction of test",
    )
