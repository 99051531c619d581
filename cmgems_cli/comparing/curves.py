"""The curves of a test split whose areas are AUROC and AUPRC, its calibration and its confusion matrix.

Several runs of a model on the same rows give one curve, the mean of theirs: its area is the mean of their scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.metrics import CALIBRATION_BINS, calibration_bins, one_against_rest
from cmgems_cli.training.run_files import Tested

# A polyline: float64, shape (n_points, 2), x ascending. Points of equal x are a vertical line.
Points = NDArray[np.float64]

# ours: what `thinned` may move a point of a curve in the unit square: half a pixel of a panel of 250.
TOLERANCE = 0.002


def roc(runs: Sequence[Tested]) -> Points | None:
    """Return the ROC curve, x the false and y the true positive rate.

    Of three or more classes, or labels, it is the mean of the curves of each against the rest, as AUROC is.

    Parameters
    ----------
    runs : sequence of Tested
        Of classes or labels, on the same rows.

    Returns
    -------
    Points or None
        None where AUROC is undefined: every class is in all rows or in none.
    """
    from sklearn.metrics import roc_curve

    def of_one(present: NDArray[np.int64], scores: NDArray[np.float64]) -> Points:
        false, true, _ = roc_curve(present, scores)
        return np.column_stack([false, true])

    return _mean_of_each(runs, of_one)


def precision_recall(runs: Sequence[Tested]) -> Points | None:
    """Return the precision at each recall, in steps whose area is AUPRC; parameters and None as for `roc`."""
    from sklearn.metrics import precision_recall_curve

    def of_one(present: NDArray[np.int64], scores: NDArray[np.float64]) -> Points:
        precision, recall, _ = precision_recall_curve(present, scores)
        # In the order of falling thresholds. The last point, of recall 0, is scikit-learn's convention.
        precision, recall = precision[-2::-1], recall[::-1]
        return np.column_stack([np.repeat(recall, 2)[1:-1], np.repeat(precision, 2)])

    return _mean_of_each(runs, of_one)


def calibration(runs: Sequence[Tested]) -> Points:
    """Return mean confidence and accuracy of each bin that has predictions: shape (n, 2), over all runs."""
    sums = np.zeros((3, CALIBRATION_BINS))
    for run in runs:
        sums += calibration_bins(run.labels, run.probabilities)
    rows, confidence, right = sums[:, sums[0] > 0]
    return np.column_stack([confidence / rows, right / rows])


def confusion(runs: Sequence[Tested]) -> NDArray[np.float64]:
    """Count rows by true (first axis) and predicted class, mean over runs: float64, shape (n_classes, n_classes)."""
    n = len(runs[0].target.names)
    counts = np.zeros((n, n))
    for run in runs:
        np.add.at(counts, (run.labels, run.predicted), 1)
    return counts / len(runs)


def area(points: Points) -> float:
    """Return the area under a polyline."""
    x, y = points.T
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))


def thinned(points: Points, tolerance: float = TOLERANCE) -> Points:
    """Return the polyline without points that are within `tolerance` of the line between those that stay.

    Ramer's and Douglas and Peucker's method: both ends stay, and of each part the farthest point that is not within it.
    """
    keep = np.zeros(len(points), dtype=bool)
    keep[[0, -1]] = True
    parts = [(0, len(points) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        chord, offsets = points[last] - points[first], points[first + 1 : last] - points[first]
        length = float(np.hypot(*chord))
        if length:
            # How far along the chord the nearest point of it is.
            along = np.clip(offsets @ chord / length**2, 0, 1)
            offsets = offsets - along[:, None] * chord
        distance = np.hypot(*offsets.T)
        farthest = int(np.argmax(distance))
        if distance[farthest] > tolerance:
            middle = first + 1 + farthest
            keep[middle] = True
            parts += [(first, middle), (middle, last)]
    return points[keep]


def _mean_of_each(
    runs: Sequence[Tested], of_one: Callable[[NDArray[np.int64], NDArray[np.float64]], Points]
) -> Points | None:
    means = []
    for run in runs:
        curves = [
            of_one(present, scores)
            for present, scores in one_against_rest(run.labels, run.probabilities)
            if 0 < present.sum() < len(present)
        ]
        if curves:
            means.append(_mean(curves))
    return _mean(means) if means else None


def _mean(curves: Sequence[Points]) -> Points:
    """Return the mean of polylines over [0, 1]; its area is the mean of theirs."""
    if len(curves) == 1:
        return curves[0]
    x = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    # Where a curve is vertical, it arrives at one height and leaves at another.
    arrives = np.mean([_height(curve, x, "left") for curve in curves], axis=0)
    leaves = np.mean([_height(curve, x, "right") for curve in curves], axis=0)
    return np.column_stack([np.repeat(x, 2), np.column_stack([arrives, leaves]).ravel()])


def _height(curve: Points, x: NDArray[np.float64], side: str) -> NDArray[np.float64]:
    """Return y at each x, float64, shape (n,): the first (left) or last (right) of those of a vertical line."""
    xs, ys = curve.T
    if side == "left":
        at = np.searchsorted(xs, x, "left")
        other = np.maximum(at - 1, 0)
    else:
        at = np.searchsorted(xs, x, "right") - 1
        other = np.minimum(at + 1, len(xs) - 1)
    gap = xs[other] - xs[at]
    along = np.divide(x - xs[at], gap, out=np.zeros(len(x)), where=gap != 0)
    heights: NDArray[np.float64] = ys[at] + along * (ys[other] - ys[at])
    return heights
