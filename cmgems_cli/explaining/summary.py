"""What many explained sequences have in common: the mean importance along them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Profile:
    """Importance along sequences that are aligned at their first base.

    Attributes
    ----------
    mean : float64, shape (longest,)
        Mean importance at each position over the rows that have a value there; NaN if none has.
    mean_size : float64, shape (longest,)
        The same of the absolute importance.
    count : int64, shape (longest,)
        Number of these rows.
    """

    mean: NDArray[np.float64]
    mean_size: NDArray[np.float64]
    count: NDArray[np.int64]


def profile_of(importances: Iterable[NDArray[np.float32]]) -> Profile:
    """Return the mean importance along rows.

    Parameters
    ----------
    importances : iterable of float32 arrays, shape (n,)
        Read once, in order; NaN does not count.
    """
    # Sum, sum of absolute values, and number.
    sums = np.zeros((3, 0))
    for importance in importances:
        n = len(importance)
        if n > sums.shape[1]:
            sums = np.pad(sums, ((0, 0), (0, n - sums.shape[1])))
        known = ~np.isnan(importance)
        values = np.where(known, importance, 0).astype(np.float64)
        sums[:, :n] += np.stack([values, np.abs(values), known])
    with np.errstate(invalid="ignore", divide="ignore"):
        return Profile(sums[0] / sums[2], sums[1] / sums[2], sums[2].astype(np.int64))
