"""How likely a class is, on a scale on which changes can be compared and averaged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def log_odds_of(logits: NDArray[np.floating[Any]], label: int) -> NDArray[np.float64]:
    """Return log p / (1 - p) of a class.

    Parameters
    ----------
    logits : floating, shape (..., n_labels)
    label : int

    Returns
    -------
    float64, shape (...), nats

    Examples
    --------
    >>> log_odds_of(np.array([[1.0, 3.0], [2.0, -1.0]]), 1)
    array([ 2., -3.])
    """
    wide = logits.astype(np.float64)
    others: NDArray[np.float64] = np.logaddexp.reduce(np.delete(wide, label, -1), axis=-1)
    log_odds: NDArray[np.float64] = wide[..., label] - others
    return log_odds
