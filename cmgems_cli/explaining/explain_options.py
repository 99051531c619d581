"""The options of `explain`, and the names they choose from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cmgems_cli.errors import UsageError
from cmgems_cli.inference.inference_options import STRANDS, Strand
from cmgems_cli.option_fields import option

BlockBy = Literal["shuffle", "random"]
BLOCK_BY: tuple[BlockBy, ...] = get_args(BlockBy)

# Headings in --help.
EDITS, SUMMARY = "Changes", "Summaries"

FIGURE_SUFFIXES = (".png", ".svg", ".html")


@dataclass(frozen=True)
class ExplainOptions:
    """Which changes are made to each sequence, and which output is followed.

    Attributes
    ----------
    label : str or None
        The class or label whose log-odds are followed. None: of two classes the second, else the most probable one.
    strand : forward, reverse or both
        As the sequence is given, its reverse complement, or the mean of the two.
    deletions : bool
        Also delete each base.
    block : int or None, bases
        Also change blocks of this length; None: no blocks.
    block_step : int or None, bases
        Distance of the blocks; None: they follow each other.
    block_by : shuffle or random
        Shuffle the bases of a block, or draw others with the composition of the sequence.
    block_draws : int
        Draws per block, whose effects are averaged.
    """

    label: str | None = option(
        None,
        "--label",
        "The class or label whose log-odds are followed.",
        shown="the second of two classes, else the most probable one",
    )
    strand: Strand = option(
        "forward", "--strand", "As given, the reverse complement, or the mean of the two."
    )
    deletions: bool = option(False, "--deletions", "Also delete each base.", panel=EDITS)
    block: int | None = option(
        None, "--block", "Also change blocks of N bases.", panel=EDITS, min=1, shown="no blocks"
    )
    block_step: int | None = option(
        None, "--block-step", "Bases from one block to the next.", panel=EDITS, min=1, shown="the block"
    )
    block_by: BlockBy = option(
        "shuffle",
        "--block-by",
        "Shuffle a block's bases, or draw others as common as in the sequence.",
        panel=EDITS,
    )
    block_draws: int = option(
        10, "--block-draws", "Draws per block; their effects are averaged.", panel=EDITS, min=1
    )

    def check(self) -> None:
        """Check the options.

        Raises
        ------
        UsageError
            If a choice is unknown, a number too small, or `block_step` given without `block`.
        """
        for name, value, names in (("strand", self.strand, STRANDS), ("block_by", self.block_by, BLOCK_BY)):
            if value not in names:
                raise UsageError(f"`{name}` {value!r} is unknown; choose {', '.join(names)}")
        if self.block is None and self.block_step is not None:
            raise UsageError(f"`block_step={self.block_step}` without `block`; give both, or neither")
        for name, number in (
            ("block", self.block),
            ("block_step", self.block_step),
            ("block_draws", self.block_draws),
        ):
            if number is not None and number < 1:
                raise UsageError(f"`{name}` is {number}; needed 1 or more")


@dataclass(frozen=True)
class SummaryOptions:
    """What is made of all effects at the end.

    Attributes
    ----------
    figure : Path or None
        PNG, SVG or HTML.
    show : int
        Sequences in the figure.
    motifs : Path or None
        MEME format.
    motif_bases : int, bases
    """

    figure: Path | None = option(
        None, "--figure", "Logo and heat map, as .png, .svg or .html.", panel=SUMMARY, metavar="FILE"
    )
    show: int = option(3, "--show", "Sequences in the figure, the first N.", panel=SUMMARY, min=1, max=100)
    motifs: Path | None = option(
        None,
        "--motifs",
        "Most important k-mers and their enrichment over shuffled sequences, in MEME format.",
        panel=SUMMARY,
        metavar="FILE.meme",
    )
    motif_bases: int = option(6, "--motif-bases", "Length of these k-mers.", panel=SUMMARY, min=3, max=10)

    def check(self) -> None:
        """Check the names of the files.

        Raises
        ------
        UsageError
            If an ending is unknown.
        """
        if self.figure is not None and self.figure.suffix.lower() not in FIGURE_SUFFIXES:
            raise UsageError(
                f"`figure={self.figure}` does not end in {', '.join(FIGURE_SUFFIXES)}; choose one of them"
            )
        if self.motifs is not None and self.motifs.suffix.lower() != ".meme":
            raise UsageError(f"`motifs={self.motifs}` does not end in .meme; rename it")
