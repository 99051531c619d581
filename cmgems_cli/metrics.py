"""The metrics of a test split (method, section 7). All that depends on a metric follows from the table `METRICS`.

scikit-learn and scipy compute them. They are imported when a run is scored, since that takes seconds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# What the labels of a task are: one of two classes, one of several, any number of several, or a measured value.
Problem = Literal["binary", "multiclass", "multilabel", "regression"]
_OF_CLASSES: frozenset[Problem] = frozenset({"binary", "multiclass", "multilabel"})
_OF_VALUES: frozenset[Problem] = frozenset({"regression"})

# A label of a multi-label task is predicted from this probability up.
THRESHOLD = 0.5
# Bins of equal width for the expected calibration error (Guo et al. 2017, ICML, section 4).
CALIBRATION_BINS = 15
# ours: far above what rounding does to a sum of fractions.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Metric:
    """One metric: how it is computed, and how it is printed.

    Attributes
    ----------
    name : str
        In scores.csv, manifests and options.
    title : str
        In prose and tables.
    compute : callable
        Called with the labels and the predictions (of the same type and shape: `predicted_of`) or, for a metric of
        probabilities, with the labels and the probabilities, both as in `score`. NaN: undefined for these rows.
    scale, decimals : int
        A value is printed times `scale`, with this many decimals.
    lowest, highest : float
        Possible values in the natural unit. Values outside are percentages, losses or mistakes.
    of_probabilities : bool
        Whether `compute` needs probabilities.
    lower_is_better : bool
    problems : set of str
        The kinds of tasks that it is defined for.
    shown : bool
        Whether tables and progress show it, besides a benchmark's main metric; the others are in files only.
    """

    name: str
    title: str
    compute: Callable[[Any, Any], float]
    scale: int = 1
    decimals: int = 3
    lowest: float = 0.0
    highest: float = 1.0
    of_probabilities: bool = False
    lower_is_better: bool = False
    problems: frozenset[Problem] = _OF_CLASSES
    shown: bool = False

    @property
    def printed_title(self) -> str:
        """The title of printed values: "MCC × 100"."""
        return self.title if self.scale == 1 else f"{self.title} × {self.scale}"

    @property
    def heading(self) -> str:
        """The title of printed values with a capital letter, and which way is better if that is down."""
        lower = " (lower is better)" if self.lower_is_better else ""
        return self.printed_title[0].upper() + self.printed_title[1:] + lower

    @property
    def sign(self) -> int:
        """What values are multiplied by so that the highest is the best: 1 or -1."""
        return -1 if self.lower_is_better else 1

    def within(self, value: float) -> float:
        """Return a value that rounding took out of what is possible, as a perfect AUPRC, at its end."""
        nearest = min(max(value, self.lowest), self.highest)
        return nearest if abs(value - nearest) < _ROUNDING else value


def _of_sklearn(function: str, **options: Any) -> Callable[[Any, Any], float]:
    """Return what computes a metric by a function of `sklearn.metrics`, imported when it is called."""

    def compute(labels: Any, predicted: Any) -> float:
        import sklearn.metrics

        return float(getattr(sklearn.metrics, function)(labels, predicted, **options))

    return compute


def _of_each_label(compute: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    """Return a metric of classes that is the mean over the labels of a multi-label task."""

    def mean(labels: Any, predicted: Any) -> float:
        if labels.ndim == 1:
            return compute(labels, predicted)
        values = [compute(*column) for column in zip(labels.T, predicted.T, strict=True)]
        return math.fsum(values) / len(values)

    return mean


def _of_ranks(function: str) -> Callable[[Any, Any], float]:
    """Return a metric of two classes as the mean of each class against the rest, or of each label of several.

    Of two classes the second is the one that is looked for. Classes in every row or in none are left out.
    """
    compute = _of_sklearn(function)

    def mean(labels: Any, probabilities: Any) -> float:
        values = [
            compute(present, scores)
            for present, scores in one_against_rest(labels, probabilities)
            if 0 < present.sum() < len(present)
        ]
        return math.fsum(values) / len(values) if values else math.nan

    return mean


def one_against_rest(labels: Any, probabilities: Any) -> Iterator[tuple[Any, Any]]:
    """Yield for each class or label which rows have it, 0 or 1, and its probabilities: both of shape (n_rows,)."""
    if labels.ndim == 2:
        yield from zip(labels.T, probabilities.T, strict=True)
        return
    for one in [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1]):
        yield (labels == one).astype(int), probabilities[:, one]


def _brier(labels: Any, probabilities: Any) -> float:
    """Return the mean squared error of the probabilities: summed over three or more classes (Brier 1950)."""
    import numpy as np

    errors = [np.square(scores - present) for present, scores in one_against_rest(labels, probabilities)]
    of_row = np.mean(errors, axis=0) if labels.ndim == 2 else np.sum(errors, axis=0)
    return float(of_row.mean())


def calibration_bins(labels: Any, probabilities: Any) -> tuple[Any, Any, Any]:
    """Count how often predictions of like confidence are right.

    Parameters
    ----------
    labels, probabilities
        As in `score`, of classes or of a multi-label task; of the latter each label of each row is a prediction.

    Returns
    -------
    rows : int64, shape (CALIBRATION_BINS,)
        Predictions whose confidence, the probability of what is predicted, is in the bin.
    confidence, accuracy : float64, of the same shape
        Their sums in each bin.
    """
    import numpy as np

    if labels.ndim == 2:
        right = (labels == predicted_of(labels, probabilities)).ravel()
        confidence = np.maximum(probabilities, 1 - probabilities).ravel()
    else:
        right = labels == probabilities.argmax(axis=1)
        confidence = probabilities.max(axis=1)
    # Bins are open on the left, as theirs.
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    rows = np.bincount(bins, minlength=CALIBRATION_BINS)
    sums = [np.bincount(bins, one, CALIBRATION_BINS) for one in (confidence, right.astype(float))]
    return rows, sums[0], sums[1]


def _calibration_error(labels: Any, probabilities: Any) -> float:
    rows, confidence, right = calibration_bins(labels, probabilities)
    return float(abs(confidence - right).sum() / rows.sum())


def _of_values(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], float]:
    """Return a metric of values that is undefined where either side has one value only, or one row."""

    def value(labels: Any, predicted: Any) -> float:
        varies = min(len(labels), labels.max() - labels.min(), predicted.max() - predicted.min()) > 0
        return float(compute(labels, predicted)) if varies and len(labels) > 1 else math.nan

    return value


def _pearson(labels: Any, predicted: Any) -> Any:
    from scipy.stats import pearsonr

    return pearsonr(labels, predicted).statistic


def _spearman(labels: Any, predicted: Any) -> Any:
    from scipy.stats import spearmanr

    return spearmanr(labels, predicted).statistic


def _r2(labels: Any, predicted: Any) -> float:
    compute = _of_sklearn("r2_score")
    return compute(labels, predicted) if labels.max() > labels.min() else math.nan


# In the order in which they are written and offered. The paper prints MCC × 100 with two decimals (Tables 2, 3 and
# 6) and accuracy as a fraction with three (Table 4). The others are not in the paper; they are printed like accuracy.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        # For any number of classes (Gorodkin's R_K); 0 where it is undefined.
        Metric(
            "mcc",
            "MCC",
            _of_each_label(_of_sklearn("matthews_corrcoef")),
            scale=100,
            decimals=2,
            lowest=-1.0,
            shown=True,
        ),
        # Of a multi-label task: the rows of which every label is right.
        Metric("accuracy", "accuracy", _of_sklearn("accuracy_score"), shown=True),
        # Over the classes that occur in labels or predictions; of a multi-label task over all labels.
        Metric("f1", "macro-F1", _of_sklearn("f1_score", average="macro", zero_division=0), shown=True),
        # The mean recall of the classes that occur in the labels.
        Metric(
            "balanced_accuracy", "balanced accuracy", _of_each_label(_of_sklearn("balanced_accuracy_score"))
        ),
        Metric("auroc", "AUROC", _of_ranks("roc_auc_score"), of_probabilities=True),
        Metric("auprc", "AUPRC", _of_ranks("average_precision_score"), of_probabilities=True),
        Metric("brier", "Brier score", _brier, highest=2.0, of_probabilities=True, lower_is_better=True),
        Metric("ece", "calibration error", _calibration_error, of_probabilities=True, lower_is_better=True),
        Metric("pearson", "Pearson r", _of_values(_pearson), lowest=-1.0, problems=_OF_VALUES, shown=True),
        Metric("spearman", "Spearman ρ", _of_values(_spearman), lowest=-1.0, problems=_OF_VALUES, shown=True),
        Metric("r2", "R²", _r2, lowest=-math.inf, problems=_OF_VALUES, shown=True),
        Metric(
            "rmse",
            "RMSE",
            _of_sklearn("root_mean_squared_error"),
            decimals=4,
            highest=math.inf,
            lower_is_better=True,
            problems=_OF_VALUES,
            shown=True,
        ),
    )
}

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[tuple(METRICS)]


def printed_perplexity(value: float) -> str:
    """Return a perplexity for people, short however large.

    >>> printed_perplexity(1876.4), printed_perplexity(1.2e150)
    ('1,876', '1.2e+150')
    """
    return f"{value:,.0f}" if value < 1e9 else f"{value:.2g}"


def main_metric(problem: Problem) -> Metric:
    """Return the metric that stands for all in a word on a run: MCC, or Pearson's correlation of values."""
    return next(metric for metric in METRICS.values() if problem in metric.problems)


def metric_of(name: str) -> Metric:
    """Return a metric of the table, or one of any other name, as other people's tables may have."""
    unknown = Metric(name, name, lambda labels, predictions: math.nan, lowest=-math.inf, highest=math.inf)
    return METRICS.get(name, unknown)


def problem_of(labels: NDArray[Any], n_classes: int) -> Problem:
    """Return what kind of task labels are of, by their type and shape, which are those of `score`.

    Parameters
    ----------
    labels : int64 or float64, shape (n_rows,), or int64, shape (n_rows, n_labels)
    n_classes : int
    """
    if labels.ndim == 2:
        return "multilabel"
    if labels.dtype.kind == "f":
        return "regression"
    return "binary" if n_classes == 2 else "multiclass"


def predicted_of(labels: NDArray[Any], probabilities: NDArray[np.float64]) -> NDArray[Any]:
    """Return predictions in the form of the labels: the best class, the labels from `THRESHOLD` up, or the value.

    Parameters
    ----------
    labels, probabilities
        As in `score`.

    Returns
    -------
    int64 or float64, of the shape of `labels`
    """
    import numpy as np

    problem = problem_of(labels, probabilities.shape[1])
    if problem == "multilabel":
        return (probabilities >= THRESHOLD).astype(np.int64)
    return probabilities[:, 0] if problem == "regression" else probabilities.argmax(axis=1)


def score(labels: NDArray[Any], probabilities: NDArray[np.float64]) -> dict[str, float | bool]:
    """Score a model on a test split. The class of the highest probability is predicted.

    Parameters
    ----------
    labels : array of n_rows rows
        One class per row: int64, shape (n_rows,), from 0. Multi-label: int64, shape (n_rows, n_labels), 1 where a
        row has a label, else 0. Regression: float64, shape (n_rows,).
    probabilities : float64, shape (n_rows, n_classes)
        Of each class or label. Regression: the predicted values, shape (n_rows, 1).

    Returns
    -------
    dict, metric -> float, and "collapsed" -> bool
        Every metric of `METRICS` that is defined for these rows. Collapsed: the same was predicted for every row,
        so the model has learnt nothing, whatever its accuracy.

    Raises
    ------
    ValueError
        If there are no rows, the shapes do not fit, a label is not one of the classes, or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> scores = score(np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]))
    >>> scores["mcc"], scores["accuracy"], scores["f1"], scores["collapsed"]
    (0.5773502691896258, 0.75, 0.7333333333333334, False)
    """
    _check(labels, probabilities)
    problem, predictions = problem_of(labels, probabilities.shape[1]), predicted_of(labels, probabilities)
    scores: dict[str, float | bool] = {}
    with warnings.catch_warnings():
        # scikit-learn warns of splits with a single class, whose values are defined above.
        warnings.simplefilter("ignore")
        for metric in METRICS.values():
            if problem not in metric.problems:
                continue
            value = metric.within(
                metric.compute(labels, probabilities if metric.of_probabilities else predictions)
            )
            if not math.isnan(value):
                scores[metric.name] = value
    scores["collapsed"] = bool((predictions == predictions[0]).all())
    return scores


def _check(labels: NDArray[Any], probabilities: NDArray[np.float64]) -> None:
    import numpy as np

    needed = labels.shape if labels.ndim == 2 else (len(labels), *probabilities.shape[1:])
    if labels.ndim not in (1, 2) or probabilities.ndim != 2 or probabilities.shape != needed:
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} must have shapes (n,) and (n, n_classes),"
            " or both (n, n_labels)"
        )
    if not probabilities.size:
        raise ValueError("no rows to score")
    # NaN would be the highest of any row.
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite")
    if problem_of(labels, probabilities.shape[1]) == "regression":
        if probabilities.shape[1] != 1 or not np.isfinite(labels).all():
            raise ValueError("values need finite labels and predictions of shape (n, 1)")
        return
    highest = 1 if labels.ndim == 2 else probabilities.shape[1] - 1
    if labels.min() < 0 or labels.max() > highest:
        raise ValueError(f"labels must be 0 to {highest}, got {labels.min()} to {labels.max()}")
