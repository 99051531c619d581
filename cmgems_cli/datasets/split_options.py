"""The options of `cmgems split`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cmgems_cli.option_fields import option

By = Literal["cluster", "chromosome", "stratified"]


@dataclass(frozen=True)
class SplitOptions:
    """How the rows are divided."""

    by: By = option(
        "cluster",
        "--by",
        "cluster: near-duplicates together; chromosome: whole ones; stratified: row by row.",
    )
    # ours: most published benchmarks keep a tenth each.
    dev: float = option(0.1, "--dev", "Fraction of the rows for dev.", min=0, max=1)
    test: float = option(0.1, "--test", "Fraction of the rows for test.", min=0, max=1)
    dev_chromosomes: str | None = option(
        None, "--dev-chromosomes", "Chromosomes of dev: chr20,chr21.", shown="chosen by the fraction"
    )
    test_chromosomes: str | None = option(
        None, "--test-chromosomes", "Chromosomes of test: chr8,chr9.", shown="chosen by the fraction"
    )
    column: str | None = option(
        None,
        "--column",
        "Column with the chromosome, or with intervals such as chr1:100-200.",
        shown="chromosome, chrom, chr, …, or a name that is an interval",
    )
    containment: float = option(
        # `containment.THRESHOLD`, which is not imported here, since it is compiled.
        0.5,
        "--containment",
        "By cluster: fraction of k-mers in common from which two sequences stay together.",
        min=0.1,
        max=1,
    )
