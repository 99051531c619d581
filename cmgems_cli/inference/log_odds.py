"""Log-odds of a class from logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def log_odds_of(logits: NDArray[np.floating], label: int) -> NDArray[np.float64]:
    """Return log p / (1 - p) of a class.

    Parameters
    ----------
    logits : floating, shape (..., n_labels)
    label : int
        Number of the class.

    Returns
    -------
    float64, shape (...), nats
        NaN where a logit is.

    Examples
    --------
    >>> log_odds_of(np.array([[1.0, 3.0], [2.0, -1.0]]), 1)
    array([ 2., -3.])
    """
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):
        others: NDArray[np.float64] = np.logaddexp.reduce(np.delete(wide, label, -1), axis=-1)
    log_odds: NDArray[np.float64] = wide[..., label] - others
    return log_odds
