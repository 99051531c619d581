"""The metrics of a test split (method, section 7). All that depends on a metric follows from the table `METRICS`.

scikit-learn computes them. It is imported when a run is scored, since that takes seconds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
        Called with the labels (int64, shape (n_rows,)) and the predicted classes (of the same type and shape) or,
        for a metric of probabilities, with the labels and the probabilities (float64, shape (n_rows, n_classes)).
        NaN: undefined for these rows.
    scale, decimals : int
        A value is printed times `scale`, with this many decimals.
    lowest, highest : float
        Possible values in the natural unit. Values outside are percentages, losses or mistakes.
    of_probabilities : bool
        Whether `compute` needs probabilities.
    """

    name: str
    title: str
    compute: Callable[[Any, Any], float]
    scale: int = 1
    decimals: int = 3
    lowest: float = 0.0
    highest: float = 1.0
    of_probabilities: bool = False

    @property
    def printed_title(self) -> str:
        """The title of printed values: "MCC × 100"."""
        return self.title if self.scale == 1 else f"{self.title} × {self.scale}"

    @property
    def heading(self) -> str:
        """The title of printed values with a capital letter."""
        return self.printed_title[0].upper() + self.printed_title[1:]


def _of_sklearn(function: str, **options: Any) -> Callable[[Any, Any], float]:
    """Return what computes a metric by a function of `sklearn.metrics`, imported when it is called."""

    def compute(labels: Any, predicted: Any) -> float:
        import sklearn.metrics

        return float(getattr(sklearn.metrics, function)(labels, predicted, **options))

    return compute


# In the order in which they are written and offered. The paper prints MCC × 100 with two decimals (Tables 2, 3 and
# 6) and accuracy as a fraction with three (Table 4). F1 is not in the paper; it is printed like accuracy.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        # For any number of classes (Gorodkin's R_K); 0 where it is undefined.
        Metric("mcc", "MCC", _of_sklearn("matthews_corrcoef"), scale=100, decimals=2, lowest=-1.0),
        Metric("accuracy", "accuracy", _of_sklearn("accuracy_score")),
        # Over the classes that occur in labels or predictions.
        Metric("f1", "macro-F1", _of_sklearn("f1_score", average="macro", zero_division=0)),
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


def metric_of(name: str) -> Metric:
    """Return a metric of the table, or one of any other name, as other people's tables may have."""
    unknown = Metric(name, name, lambda labels, predictions: math.nan, lowest=-math.inf, highest=math.inf)
    return METRICS.get(name, unknown)


def score(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float | bool]:
    """Score a classifier on a test split. The class of the highest probability is predicted.

    Parameters
    ----------
    labels : int64, shape (n_rows,)
        Classes, from 0.
    probabilities : float64, shape (n_rows, n_classes)

    Returns
    -------
    dict, metric -> float, and "collapsed" -> bool
        Every metric of `METRICS` that is defined for these rows. Collapsed: one class was predicted for every row,
        so the model has learnt nothing, whatever its accuracy.

    Raises
    ------
    ValueError
        If there are no rows, the shapes do not fit, a label is not one of the classes, or a probability is not
        finite.

    Examples
    --------
    >>> import numpy as np
    >>> score(np.array([0, 0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]))
    {'mcc': 0.5773502691896258, 'accuracy': 0.75, 'f1': 0.7333333333333334, 'collapsed': False}
    """
    _check(labels, probabilities)
    predictions = probabilities.argmax(axis=1)
    scores: dict[str, float | bool] = {}
    with warnings.catch_warnings():
        # scikit-learn warns of splits with a single class, whose values are defined above.
        warnings.simplefilter("ignore")
        for metric in METRICS.values():
            value = metric.compute(labels, probabilities if metric.of_probabilities else predictions)
            if not math.isnan(value):
                scores[metric.name] = value
    scores["collapsed"] = bool((predictions == predictions[0]).all())
    return scores


def _check(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
    import numpy as np

    if labels.ndim != 1 or probabilities.ndim != 2 or len(labels) != len(probabilities):
        raise ValueError(
            f"labels {labels.shape} and probabilities {probabilities.shape} must have shapes (n,) and (n, n_classes)"
        )
    if not probabilities.size:
        raise ValueError("no rows to score")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise ValueError(
            f"labels must be 0 to {probabilities.shape[1] - 1}, got {labels.min()} to {labels.max()}"
        )
    # NaN would be the highest of any row.
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities must be finite")
