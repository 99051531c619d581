"""Two models on the rows of one test split: exact McNemar, DeLong, and a paired bootstrap of a metric's difference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cmgems_cli.errors import InputError
from cmgems_cli.metrics import Metric
from cmgems_cli.training.run_files import Tested

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


@dataclass(frozen=True)
class RowTest:
    """The tests of a model against the reference over the rows of one test split.

    Attributes
    ----------
    n_rows : int
    seeds : (int, int)
        Of the run of the model and that of the reference.
    difference : float or None
        Of the metric on its printed scale: reference minus model. None where it is undefined for these rows.
    interval : (float, float) or None
        Of the difference, by a bootstrap of the rows.
    mcnemar : McNemar or None
        First the model, second the reference. None for measured values.
    delong : DeLong or None
        Likewise; None unless there are two classes.
    """

    n_rows: int
    seeds: tuple[int, int]
    difference: float | None
    interval: tuple[float, float] | None
    mcnemar: McNemar | None
    delong: DeLong | None


def row_test(
    model: Tested, reference: Tested, metric: Metric, *, seeds: tuple[int, int], seed: int
) -> RowTest:
    """Compare the predictions of two models for the same rows.

    Parameters
    ----------
    model, reference : Tested
    metric : Metric
    seeds : (int, int)
        Of the two runs.
    seed : int
        Of the bootstrap.

    Raises
    ------
    InputError
        If the labels are not the same.
    """
    labels, problem = model.labels, model.target.problem
    if not np.array_equal(labels, reference.labels):
        raise InputError(
            "the predictions of two runs on one test file have different labels; evaluate both again"
        )
    wrong_or_right = None if problem == "regression" else mcnemar(model.right, reference.right)
    if problem == "multilabel":
        return RowTest(len(labels), seeds, None, None, wrong_or_right, None)
    difference, interval, areas = None, None, None
    if not (metric.of_probabilities and problem == "regression"):
        one, other = (
            each.probabilities if metric.of_probabilities else each.predicted for each in (model, reference)
        )
        found = metric.compute(labels, other) - metric.compute(labels, one)
        if not np.isnan(found):
            difference = found * metric.scale
            low, high = bootstrap_difference(metric, labels, one, other, seed=seed)
            interval = (low * metric.scale, high * metric.scale)
    if problem == "binary" and np.bincount(labels, minlength=2).min() >= 2:
        areas = delong(labels, model.probabilities[:, 1], reference.probabilities[:, 1])
    return RowTest(len(labels), seeds, difference, interval, wrong_or_right, areas)


def bootstrap_difference(
    metric: Metric,
    labels: NDArray[Any],
    first: NDArray[Any],
    second: NDArray[Any],
    *,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> tuple[float, float]:
    """Return the percentile interval of a metric's difference, second minus first, over resampled rows.

    Parameters
    ----------
    metric : Metric
    labels : int64 or float64, shape (n_rows,)
    first, second : int64 or float64, shape (n_rows,), or float64, shape (n_rows, n_classes)
        Predictions of each model, as the metric needs them.
    seed : int
    resamples : int
        Those in which the metric is undefined are left out.
    """
    generator = np.random.default_rng(seed)
    of_confusion = _OF_CONFUSION.get(metric.name)
    n_classes = 1 + int(max(labels.max(), first.max(), second.max()))
    if of_confusion is not None and n_classes <= _MOST_CLASSES:
        differences = _of_cells(of_confusion, labels, first, second, n_classes, generator, resamples)
    else:
        differences = np.empty(resamples)
        for number in range(resamples):
            rows = generator.integers(0, len(labels), len(labels))
            differences[number] = metric.compute(labels[rows], second[rows]) - metric.compute(
                labels[rows], first[rows]
            )
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(differences, [tail, 1 - tail])
    return float(low), float(high)


# ------------------------------------------------------------------ metrics of many confusion matrices


def _of_cells(
    of_confusion: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    labels: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    n_classes: int,
    generator: np.random.Generator,
    resamples: int,
) -> NDArray[np.float64]:
    """Return the differences of all resamples at once.

    The metric depends on how many rows have which label and predictions. Of resampled rows these numbers are
    multinomial.
    """
    cells, counts = np.unique((labels * n_classes + first) * n_classes + second, return_counts=True)
    drawn = generator.multinomial(len(labels), counts / len(labels), size=resamples)
    one, other = np.zeros((2, resamples, n_classes, n_classes))
    for column, cell in enumerate(cells.tolist()):
        label, by_first, by_second = cell // n_classes**2, cell // n_classes % n_classes, cell % n_classes
        one[:, label, by_first] += drawn[:, column]
        other[:, label, by_second] += drawn[:, column]
    return of_confusion(other) - of_confusion(one)


def _accuracy(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    right: NDArray[np.float64] = np.trace(confusion, axis1=1, axis2=2)
    return right / confusion.sum(axis=(1, 2))


def _mcc(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Gorodkin's R_K of confusion matrices of labels by predictions, 0 where it is undefined."""
    true, predicted, n = confusion.sum(axis=2), confusion.sum(axis=1), confusion.sum(axis=(1, 2))
    above = np.trace(confusion, axis1=1, axis2=2) * n - (true * predicted).sum(axis=1)
    below = np.sqrt((n**2 - (predicted**2).sum(axis=1)) * (n**2 - (true**2).sum(axis=1)))
    return np.divide(above, below, out=np.zeros(len(n)), where=below > 0)


def _macro_f1(confusion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean F1 over the classes that occur in labels or predictions."""
    both = confusion.sum(axis=2) + confusion.sum(axis=1)
    right = np.diagonal(confusion, axis1=1, axis2=2)
    of_class = np.divide(2 * right, both, out=np.zeros_like(both), where=both > 0)
    mean: NDArray[np.float64] = of_class.sum(axis=1) / (both > 0).sum(axis=1)
    return mean


_OF_CONFUSION = {"mcc": _mcc, "accuracy": _accuracy, "f1": _macro_f1}
# ours: with more classes the matrices of all resamples take too much memory.
_MOST_CLASSES = 30
