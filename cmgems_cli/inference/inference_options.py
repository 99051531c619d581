"""The options of `predict` and `embed`, and the names they choose from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cmgems_cli.option_fields import MachineOptions, Precision, option, same_option

Pooling = Literal["mean", "max", "cls", "tokens"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

TableFormat = Literal["tsv", "csv", "jsonl"]
TABLE_FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)


PredictionFormat = Literal["tsv", "csv", "jsonl", "bed", "bedgraph", "bigwig"]

Strand = Literal["forward", "reverse", "both"]
STRANDS: tuple[Strand, ...] = get_args(Strand)


@dataclass(frozen=True)
class RegionOptions:
    """Regions of a genome as input, in place of a file of sequences (`region_source.source_of`).

    Attributes
    ----------
    regions : Path or None
    genome : Path or None
    """

    regions: Path | None = option(
        None,
        "--regions",
        "BED file in place of INPUT: read these regions of the genome, those on - as reverse complements.",
        metavar="FILE.bed",
    )
    genome: Path | None = option(
        None, "--genome", "FASTA file of the genome that the regions are in, plain or gzip.", metavar="FASTA"
    )


@dataclass(frozen=True)
class HitOptions:
    """Which predictions are written, by the probability of one class.

    Attributes
    ----------
    label : str or None
        None: the second of two.
    min_prob : float or None, fraction
    top : int or None
    merge : bool
    """

    label: str | None = option(
        None,
        "--label",
        "Class that bed, bedgraph, bigwig and the next three options are about.",
        metavar="LABEL",
        shown="the second of two",
    )
    min_prob: float | None = option(
        None, "--min-prob", "Write only rows where the class has at least this probability.", min=0, max=1
    )
    top: int | None = option(None, "--top", "Write only so many rows, the most probable first.", min=1)
    merge: bool = option(
        False,
        "--merge",
        "Join overlapping rows of at least that probability; the highest one gives the values.",
    )

    @property
    def chooses(self) -> bool:
        """Whether some rows may be left out."""
        return self.merge or self.min_prob is not None or self.top is not None


@dataclass(frozen=True)
class InferenceOptions:
    """How a model is run over sequences.

    Attributes
    ----------
    window, stride : int or None, bases
        Slide along each sequence; None: whole sequences, and windows that follow each other.
    truncate : bool
    max_batch_tokens : int or None, tokens
    precision : str
    """

    window: int | None = option(
        None, "--window", "Length in bases of a window that slides along each sequence.", min=1, shown="none"
    )
    stride: int | None = option(
        None, "--stride", "Bases from one window to the next.", min=1, shown="the window"
    )
    truncate: bool = option(
        False, "--truncate", "Truncate sequences too long for the model instead of refusing them."
    )
    max_batch_tokens: int | None = same_option(
        MachineOptions, "max_batch_tokens", shown="4096 on CPU, 65536 on CUDA"
    )
    precision: Precision = same_option(
        MachineOptions,
        "precision",
        default="fp32",
        help="bf16: faster, exact to two or three digits; auto: bf16 if the hardware has it.",
    )
