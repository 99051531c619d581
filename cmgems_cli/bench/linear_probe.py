"""Linear models on features of sequences: fitted on train, chosen on dev, applied once to test.

Logistic regression of classes, one for each label of several per row, ridge regression of values.

The features may be counts (`bench.kmer_linear`) or a model's embeddings; scikit-learn is imported when it is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# ours: inverse strengths of the L2 penalty, in half decades. Those of the first round are every second one.
C_GRID = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# ours: how many candidates of the first round are fitted again, on all rows and with every C.
FINALISTS = 2
# scikit-learn's default, for tasks without a dev split.
DEFAULT_C = 1.0
# Probabilities are kept above this before their logarithm is taken.
LEAST_PROBABILITY = 1e-12
MAX_ITERATIONS = 1000
# A logit whose probability is 0 or 1 in every decimal that is printed.
CERTAIN = 30.0


class Features(NamedTuple):
    """Features of splits: float32, shape (n_rows, n_features), dense or a scipy CSR matrix; dev, test may be None."""

    train: Any
    dev: Any
    test: Any


@dataclass(frozen=True)
class Candidate:
    """One way to turn sequences into features.

    Attributes
    ----------
    params : mapping
        Its choices, by name.
    features : callable
        Called with the rows of train to use (int64, shape (n,); None: all of them), returns `Features`; those of
        test are needed only with all rows.
    """

    params: Mapping[str, Any]
    features: Callable[[NDArray[np.int64] | None], Features]


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """The chosen model, applied to test.

    Attributes
    ----------
    params : dict
        The choices of its candidate, and `C`.
    dev_loss : float or None
        Mean loss on dev, by which it was chosen: negative log-likelihood (nats; of several labels per row their
        mean), or squared error divided by the variance of train. None without a dev split.
    dev_probabilities, probabilities : float64, shape (n_rows, n_classes)
        Of dev (None without one) and test; of a regression the values, shape (n_rows, 1).
    model : LogisticRegression, OneVsRestClassifier or Ridge of sklearn
        Fitted to all rows of train.
    """

    params: dict[str, Any]
    dev_loss: float | None
    dev_probabilities: NDArray[np.float64] | None
    probabilities: NDArray[np.float64]
    model: Any


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of the rows of train and dev, as in `metrics.score`, and how many classes or labels there are."""

    train: NDArray[Any]
    dev: NDArray[Any] | None
    n_classes: int


def choose(
    candidates: Sequence[Candidate],
    labels: Labels,
    *,
    first_rows: int,
    threads: int,
    grid: Sequence[float] = C_GRID,
) -> LinearProbe:
    """Choose candidate and C by the least loss on dev, in two rounds, and apply the model to test.

    First every candidate is fitted with every second C, on at most about `first_rows` rows of train. Then the
    `FINALISTS` best are fitted on all rows, with every C. Equal losses go to the first in order.

    Parameters
    ----------
    candidates : sequence of Candidate
    labels : Labels
        With dev.
    first_rows : int
    threads : int
        Fits at a time; the result does not depend on it.
    grid : sequence of float, default `C_GRID`
        The C to choose from.
    """
    assert labels.dev is not None
    rows = sample_rows(labels.train, first_rows)
    pool = ThreadPoolExecutor(threads)
    try:
        with _quiet_single_threaded_blas():
            if len(candidates) > FINALISTS:
                tried = list(pool.map(lambda one: _dev_losses(one, labels, rows, grid[1::2]), candidates))
                order = sorted(range(len(candidates)), key=lambda index: (min(tried[index]), index))
                candidates = [candidates[index] for index in sorted(order[:FINALISTS])]
            made = list(pool.map(lambda one: one.features(None), candidates))
            tries = [(number, C) for number in range(len(made)) for C in grid]
            models = list(pool.map(lambda one: _fit(made[one[0]].train, labels.train, one[1]), tries))
            losses = [
                _loss(model, made[one[0]].dev, labels) for one, model in zip(tries, models, strict=True)
            ]
            best = int(np.argmin(losses))
            number, C = tries[best]
            return _applied(candidates[number].params, made[number], labels, C, models[best])
    finally:
        pool.shutdown(cancel_futures=True)


def fit_fixed(candidate: Candidate, labels: Labels, C: float = DEFAULT_C) -> LinearProbe:
    """Fit one candidate with one C and apply it to test; for tasks without a dev split."""
    with _quiet_single_threaded_blas():
        features = candidate.features(None)
        return _applied(candidate.params, features, labels, C, _fit(features.train, labels.train, C))


@contextmanager
def _quiet_single_threaded_blas() -> Iterator[None]:
    # Here, since threads that import parts of scikit-learn at once find them half made.
    import sklearn.linear_model
    import sklearn.multiclass  # noqa: F401
    from threadpoolctl import threadpool_limits

    # The threads of BLAS wait for each other more than they compute on vectors of this length.
    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        # A fit that stops at its last iteration is as good as any other: dev decides.
        warnings.simplefilter("ignore")
        yield


def sample_rows(labels: NDArray[Any], at_most: int) -> NDArray[np.int64]:
    """Return every n-th row of each class, or in the order of values, about `at_most` in all.

    Parameters
    ----------
    labels : int64 or float64, shape (n_rows,), or int64, shape (n_rows, n_labels)
    at_most : int

    Returns
    -------
    int64, shape (n,)
        Indices of rows, sorted.
    """
    step = max(1, -(-len(labels) // at_most))
    order = np.lexsort(labels.T) if labels.ndim == 2 else np.argsort(labels, kind="stable")
    return np.sort(order[::step])


def _dev_losses(
    candidate: Candidate, labels: Labels, rows: NDArray[np.int64], grid: Sequence[float]
) -> list[float]:
    features = candidate.features(rows)
    some = Labels(labels.train[rows], labels.dev, labels.n_classes)
    return [_dev_loss(features, some, C) for C in grid]


def _dev_loss(features: Features, labels: Labels, C: float) -> float:
    return _loss(_fit(features.train, labels.train, C), features.dev, labels)


def _applied(
    params: Mapping[str, Any], features: Features, labels: Labels, C: float, model: Any
) -> LinearProbe:
    on_dev = None if labels.dev is None else _probabilities(model, features.dev, labels)
    dev_loss = None if labels.dev is None else _loss(model, features.dev, labels)
    on_test = _probabilities(model, features.test, labels)
    return LinearProbe({**params, "C": C}, dev_loss, on_dev, on_test, model)


def _fit(features: Any, labels: NDArray[Any], C: float) -> Any:
    """Fit a model whose penalty of the squared weights is 1 / C times that of the errors."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    if labels.dtype.kind == "f":
        return Ridge(alpha=1 / C).fit(features, labels)
    model = LogisticRegression(C=C, max_iter=MAX_ITERATIONS)
    return (OneVsRestClassifier(model) if labels.ndim == 2 else model).fit(features, labels)


def coefficients(model: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights, float64, shape (n_outputs, n_features), and biases, shape (n_outputs,), of a fitted model.

    Of two classes there is one output, that of the second over the first.
    """
    if not hasattr(model, "estimators_"):
        return np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_)
    fitted = [one for one in model.estimators_ if hasattr(one, "coef_")]
    weights, biases = np.zeros((len(model.estimators_), fitted[0].coef_.shape[1])), []
    for number, one in enumerate(model.estimators_):
        # A label that every row of train has, or none, is predicted always, or never.
        biases.append(one.intercept_[0] if one in fitted else CERTAIN * (2 * one.y_[0] - 1))
        weights[number] = one.coef_[0] if one in fitted else 0
    return weights, np.array(biases, dtype=np.float64)


def _loss(model: Any, features: Any, labels: Labels) -> float:
    assert labels.dev is not None
    predicted = _probabilities(model, features, labels)
    if labels.dev.dtype.kind == "f":
        return float(np.square(predicted[:, 0] - labels.dev).mean() / labels.train.var())
    if labels.dev.ndim == 2:
        of_label = np.where(labels.dev == 1, predicted, 1 - predicted)
    else:
        of_label = predicted[np.arange(len(labels.dev)), labels.dev]
    return float(-np.log(np.maximum(of_label, LEAST_PROBABILITY)).mean())


def _probabilities(model: Any, features: Any, labels: Labels) -> NDArray[np.float64]:
    """Return the probability of every class or label, 0 for those that the fitted rows lacked; or the values."""
    if labels.train.dtype.kind == "f":
        values: NDArray[np.float64] = model.predict(features)[:, None]
        return values
    probabilities = np.zeros((features.shape[0], labels.n_classes))
    probabilities[:, model.classes_] = model.predict_proba(features)
    return probabilities
