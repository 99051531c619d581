"""How positives and negatives compare: means and quantiles of what the negatives are matched by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cmgems_cli.datasets.labels import ordered
from cmgems_cli.task_builder.sites import Site

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
COLUMNS = ("quantity", "label", "n", "mean", "sd", *(f"q{100 * q:02.0f}" for q in QUANTILES))

_QUANTITIES: dict[str, Callable[[Site], float | None]] = {
    "gc": lambda site: site.gc,
    "repeats": lambda site: site.repeats,
    "length": lambda site: len(site.letters),
}


class Balance(NamedTuple):
    """A quantity of the sequences of one label.

    Attributes
    ----------
    quantity : gc, repeats (fractions) or length (bases)
    label : str
    n : int
        Sequences that have it.
    mean, sd : float
    quantiles : tuple of float
        At `QUANTILES`.
    """

    quantity: str
    label: str
    n: int
    mean: float
    sd: float
    quantiles: tuple[float, ...]

    def cells(self) -> list[str]:
        """Return the row of a table with `COLUMNS`."""
        numbers = (self.mean, self.sd, *self.quantiles)
        return [self.quantity, self.label, str(self.n), *(f"{number:.6g}" for number in numbers)]


def balance(sites: Sequence[Site]) -> list[Balance]:
    """Return every quantity of every label."""
    found = []
    for quantity, value_of in _QUANTITIES.items():
        for label in ordered({site.label for site in sites}):
            of_label = (value_of(site) for site in sites if site.label == label)
            values = np.array([value for value in of_label if value is not None])
            if len(values):
                quantiles = tuple(np.quantile(values, QUANTILES).tolist())
                found.append(
                    Balance(
                        quantity, label, len(values), float(values.mean()), float(values.std()), quantiles
                    )
                )
    return found
