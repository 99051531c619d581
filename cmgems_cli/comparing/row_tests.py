"""Two models on the rows of one test split: exact McNemar, DeLong, and a paired bootstrap of a metric's difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# ours, as for the interval over tasks.
CONFIDENCE = 0.95
# ours: a percentile interval does not need more, and each resample scores both models.
RESAMPLES = 1999


class McNemar(NamedTuple):
    """How many rows only one of the two classifies correctly, and the exact two-sided p."""

    only_first: int
    only_second: int
    p: float


class DeLong(NamedTuple):
    """The AUROC of both models, its standard error of the difference (second minus first), and the two-sided p."""

    first: float
    second: float
    standard_error: float
    p: float


def mcnemar(right_first: NDArray[np.bool_], right_second: NDArray[np.bool_]) -> McNemar:
    """Test whether two models are right equally often: a sign test of the rows that they disagree on.

    Parameters
    ----------
    right_first, right_second : bool, shape (n_rows,)
        Whether each model classifies the row correctly.
    """
    only_first = int((right_first & ~right_second).sum())
    only_second = int((right_second & ~right_first).sum())
    differing = only_first + only_second
    p = float(stats.binomtest(only_first, differing).pvalue) if differing else 1.0
    return McNemar(only_first, only_second, p)


def delong(labels: NDArray[np.int64], first: NDArray[np.float64], second: NDArray[np.float64]) -> DeLong:
    """Compare two AUROCs on the same rows (DeLong, DeLong and Clarke-Pearson 1988; midranks, Sun and Xu 2014).

    Parameters
    ----------
    labels : int64, shape (n_rows,)
        0 or 1, both present at least twice.
    first, second : float64, shape (n_rows,)
        Scores of class 1 by each model.

    Raises
    ------
    ValueError
        If there are other labels, or fewer than two rows of a class.
    """
    positive, negative = labels == 1, labels == 0
    n, m = int(positive.sum()), int(negative.sum())
    if n + m != len(labels) or min(n, m) < 2:
        raise ValueError(f"needed labels 0 and 1, two or more of each; got {m} and {n} of {len(labels)} rows")
    areas, of_positives, of_negatives = [], [], []
    for scores in (first, second):
        ranks = stats.rankdata(scores)
        # The share of the other class that each row is on the right side of; ties count half.
        of_positives.append((ranks[positive] - stats.rankdata(scores[positive])) / m)
        of_negatives.append(1 - (ranks[negative] - stats.rankdata(scores[negative])) / n)
        areas.append(float(of_positives[-1].mean()))
    variance = np.var(np.subtract(*of_positives), ddof=1) / n + np.var(np.subtract(*of_negatives), ddof=1) / m
    error = float(np.sqrt(variance))
    difference = areas[1] - areas[0]
    p = 1.0 if not difference else float(2 * stats.norm.sf(abs(difference) / error)) if error else 0.0
    return DeLong(areas[0], areas[1], error, p)


def bootstrap_difference(
    metric: Callable[[Any, Any], float],
    labels: NDArray[np.int64],
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the percentile interval of a metric's difference, second minus first, over resampled rows.

    Parameters
    ----------
    metric : callable
        `Metric.compute`.
    labels : int64, shape (n_rows,)
    first, second : int64, shape (n_rows,), or float64, shape (n_rows, n_classes)
        Predictions of each model, as the metric needs them.
    seed : int
    resamples : int
        Those in which the metric is undefined are left out.
    """
    generator = np.random.default_rng(seed)
    differences: list[float] = []
    for _ in range(resamples):
        rows = generator.integers(0, len(labels), len(labels))
        differences.append(metric(labels[rows], second[rows]) - metric(labels[rows], first[rows]))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(np.array(differences), [tail, 1 - tail])
    return float(low), float(high)
