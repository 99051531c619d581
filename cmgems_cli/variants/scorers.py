"""What a score of a variant is: the columns of a scorer, and how a block of alleles gets them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.inference.loading import Model
from cmgems_cli.variants.alleles import Allele

# Computes the scores that were begun: float64, shape (n, n_columns).
Pending = Callable[[], NDArray[np.float64]]


@dataclass(frozen=True)
class Column:
    """A column of scores: its name in tables and, after CMGEMS_, in VCF; and what it says."""

    name: str
    words: str


class Scorer(ABC):
    """Scores alleles with a model.

    Attributes
    ----------
    model : Model
    columns : list of Column
        The first is the one compared with base composition.
    indels : bool
        Whether alleles may differ in length.
    rows_per_allele : int
        Rows that the model computes for each at most.
    min_flank : int, bases
        A window needs so many on either side of an allele.
    """

    model: Model
    columns: list[Column]
    indels: bool
    rows_per_allele: int
    min_flank: int

    @abstractmethod
    def begin(self, alleles: Sequence[Allele]) -> Pending:
        """Start the computation of scores; on CUDA this returns before they are known."""

    def score(self, alleles: Sequence[Allele]) -> NDArray[np.float64]:
        """Return the scores of alleles: float64, shape (n, n_columns)."""
        return self.begin(alleles)()
