"""Scores of a classifier on a test split, all from one confusion matrix (method, section 7)."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scores:
    """What one run is judged by.

    Attributes
    ----------
    mcc : float, -1 … 1
        Matthews correlation coefficient; 0 where it is undefined.
    accuracy : float, 0 … 1
        Share of rows predicted right.
    f1 : float, 0 … 1
        Macro-F1.
    collapsed : bool
        Every row was given the same class: the model learnt nothing, whatever its accuracy.
    """

    mcc: float
    accuracy: float
    f1: float
    collapsed: bool


def score(labels: NDArray[np.integer], predictions: NDArray[np.integer]) -> Scores:
    """Score predictions against labels.

    Parameters
    ----------
    labels, predictions : integer, shape (n_rows,)
        Classes, from 0 on.

    Raises
    ------
    ValueError
        If there is no row, the shapes differ, or a class is negative.

    Examples
    --------
    >>> score(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]))
    Scores(mcc=0.5773502691896258, accuracy=0.75, f1=0.7333333333333334, collapsed=False)
    """
    matrix = confusion(labels, predictions)
    return Scores(
        mcc=mcc_of(matrix),
        accuracy=float(np.trace(matrix) / matrix.sum()),
        f1=macro_f1_of(matrix),
        collapsed=int(np.count_nonzero(matrix.sum(axis=0))) == 1,
    )


def confusion(labels: NDArray[np.integer], predictions: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the rows of each pair of label (first axis) and prediction (second axis).

    Parameters
    ----------
    labels, predictions : integer, shape (n_rows,)
        Classes, from 0 on.

    Returns
    -------
    int64, shape (n_classes, n_classes), rows
        As many classes as the highest one found, in either array, asks for.

    Raises
    ------
    ValueError
        If there is no row, the shapes differ, or a class is negative.
    """
    if labels.shape != predictions.shape or labels.ndim != 1:
        raise ValueError(
            f"labels {labels.shape} and predictions {predictions.shape} must be equally long rows"
        )
    if not labels.size:
        raise ValueError("no row to score")
    classes = int(max(labels.max(), predictions.max())) + 1
    # A negative class would silently land in another one's cell.
    if min(labels.min(), predictions.min()) < 0:
        raise ValueError("classes are counted from 0, and a negative one was given")
    cells = labels.astype(np.int64) * classes + predictions.astype(np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def mcc_of(matrix: NDArray[np.int64]) -> float:
    """Return the Matthews correlation coefficient of a confusion matrix, for any number of classes.

    Gorodkin's R_K (Computational Biology and Chemistry, 2004), which is Matthews' coefficient for two
    classes. Where labels or predictions hold one class only it is undefined: 0, as scikit-learn has it.

    Parameters
    ----------
    matrix : int64, shape (n_classes, n_classes), rows
        Labels along the first axis.
    """
    # Python integers: the products of 50,000 rows are near the end of int64, and zero must be exact.
    of_label = [int(number) for number in matrix.sum(axis=1)]
    of_prediction = [int(number) for number in matrix.sum(axis=0)]
    rows, right = sum(of_label), int(np.trace(matrix))
    together = right * rows - sum(a * b for a, b in zip(of_label, of_prediction, strict=True))
    label_spread = rows * rows - sum(number * number for number in of_label)
    prediction_spread = rows * rows - sum(number * number for number in of_prediction)
    if label_spread * prediction_spread == 0:
        return 0.0
    return together / sqrt(label_spread * prediction_spread)


def macro_f1_of(matrix: NDArray[np.int64]) -> float:
    """Return the mean F1 over the classes that stand in labels or predictions.

    F1 is 0 for a class that is never predicted right. A class absent from both does not count, as in
    scikit-learn's `f1_score(average="macro", zero_division=0)`.

    Parameters
    ----------
    matrix : int64, shape (n_classes, n_classes), rows
        Labels along the first axis.
    """
    either = matrix.sum(axis=1) + matrix.sum(axis=0)
    present = either > 0
    return float(np.mean(2 * np.diag(matrix)[present] / either[present]))
