"""The options of `score-variants`, and the names they choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from cmgems_cli.errors import UsageError
from cmgems_cli.option_fields import option

VariantFormat = Literal["vcf", "vcf.gz", "tsv", "csv", "jsonl"]
VARIANT_FORMATS: tuple[VariantFormat, ...] = get_args(VariantFormat)


@dataclass(frozen=True)
class VariantOptions:
    """How variants are scored.

    Attributes
    ----------
    window : int or None, bases
        Longest window around a variant; None: the longest the model was fine-tuned on, or reads.
    label : str or None
        The class or label whose log-odds are followed. None: of two classes the second, else every one.
    max_allele : int, bases
        Longer alleles get no score.
    """

    window: int | None = option(
        None,
        "--window",
        "Longest window around a variant, in bases.",
        min=1,
        shown="what the classifier was fine-tuned on, or the model reads",
    )
    label: str | None = option(
        None,
        "--label",
        "The class or label whose log-odds are followed.",
        shown="the second of two classes, else every one",
    )
    # ours: from 50 bases on a variant counts as structural.
    max_allele: int = option(50, "--max-allele", "Longer alleles get no score.", min=1, metavar="BASES")

    def check(self) -> None:
        """Check the options; raises UsageError if one is out of range."""
        if self.window is not None and self.window < 1:
            raise UsageError(f"`window` is {self.window}; needed 1 or more")
        if self.max_allele < 1:
            raise UsageError(f"`max_allele` is {self.max_allele}; needed 1 or more")
