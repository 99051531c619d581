"""Tests over the rows of one split, against slow references."""

from dataclasses import replace
from math import comb, sqrt

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from cmgems_cli.comparing.row_tests import _OF_CONFUSION, bootstrap_difference, delong, mcnemar
from cmgems_cli.metrics import METRICS


def slow_mcnemar(b: int, c: int) -> float:
    """Return twice the smaller tail of the binomial distribution, by summation."""
    tail = sum(comb(b + c, one) for one in range(min(b, c) + 1)) / 2 ** (b + c)
    return min(1.0, 2 * tail)


@pytest.mark.parametrize("seed", range(20))
def test_mcnemar_is_the_exact_sign_test(seed: int) -> None:
    draw = np.random.default_rng(seed)
    first, second = draw.random((2, int(draw.integers(1, 80)))) < 0.6
    found = mcnemar(first, second)
    b = sum(x and not y for x, y in zip(first, second, strict=True))
    c = sum(y and not x for x, y in zip(first, second, strict=True))
    assert (found.only_first, found.only_second) == (b, c)
    assert found.p == pytest.approx(slow_mcnemar(b, c), rel=1e-9)


def slow_delong(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return standard error and p from every pair of a positive and a negative row."""
    placements = []
    for scores in (first, second):
        pairs = [
            [1.0 if x > y else 0.5 if x == y else 0.0 for y in scores[labels == 0]]
            for x in scores[labels == 1]
        ]
        placements.append(np.array(pairs))
    n, m = placements[0].shape
    of_positives = np.cov([one.mean(axis=1) for one in placements])
    of_negatives = np.cov([one.mean(axis=0) for one in placements])
    covariance = of_positives / n + of_negatives / m
    error = sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    return error, 2 * stats.norm.sf(abs(placements[1].mean() - placements[0].mean()) / error)


@pytest.mark.parametrize("seed", range(20))
def test_delong_is_that_of_all_pairs(seed: int) -> None:
    draw = np.random.default_rng(seed)
    labels = draw.permutation([0] * int(draw.integers(2, 40)) + [1] * int(draw.integers(2, 40)))
    # Rounded: ties within and between the classes.
    first, second = np.round(draw.random((2, len(labels))) + 0.3 * labels, 1)
    found = delong(labels, first, second)
    assert found.first == pytest.approx(roc_auc_score(labels, first))
    assert found.second == pytest.approx(roc_auc_score(labels, second))
    error, p = slow_delong(labels, first, second)
    assert found.standard_error == pytest.approx(error)
    if found.first != found.second:
        assert found.p == pytest.approx(p)


def test_delong_of_equal_models_and_of_too_few_rows() -> None:
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.4, 0.9])
    assert delong(labels, scores, scores).p == 1.0
    with pytest.raises(ValueError, match="two or more of each"):
        delong(labels[:3], scores[:3], scores[:3])


def test_a_bootstrap_interval_is_about_as_wide_as_theory_says() -> None:
    draw = np.random.default_rng(5)
    labels = draw.integers(0, 2, 600)
    first, second = (np.where(draw.random(600) < right, labels, 1 - labels) for right in (0.7, 0.8))
    low, high = bootstrap_difference(METRICS["accuracy"], labels, first, second, resamples=400)
    per_row = (second == labels).astype(float) - (first == labels)
    half = 1.96 * per_row.std() / sqrt(600)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)
    assert low < per_row.mean() < high
    same = bootstrap_difference(METRICS["accuracy"], labels, first, first, resamples=20)
    assert same == (0.0, 0.0)


@pytest.mark.filterwarnings("ignore:A single label:UserWarning")
@pytest.mark.parametrize("name", sorted(_OF_CONFUSION))
@pytest.mark.parametrize("n_classes", [1, 2, 5])
def test_metrics_of_confusion_matrices_are_those_of_the_rows(name: str, n_classes: int) -> None:
    draw = np.random.default_rng(n_classes)
    for n_rows in (1, 3, 40):
        labels, predicted = draw.integers(0, n_classes, (2, n_rows))
        # An empty class, and a second matrix with one prediction for all.
        matrices = np.zeros((2, n_classes + 1, n_classes + 1))
        np.add.at(matrices[0], (labels, predicted), 1)
        np.add.at(matrices[1], (labels, np.zeros_like(labels)), 1)
        found = _OF_CONFUSION[name](matrices)
        assert found[0] == pytest.approx(METRICS[name].compute(labels, predicted))
        assert found[1] == pytest.approx(METRICS[name].compute(labels, np.zeros_like(labels)))


def test_the_interval_of_cells_is_that_of_resampled_rows() -> None:
    draw = np.random.default_rng(11)
    labels = draw.integers(0, 3, 200)
    first, second = (np.where(draw.random(200) < p, labels, draw.integers(0, 3, 200)) for p in (0.4, 0.6))
    fast = bootstrap_difference(METRICS["accuracy"], labels, first, second)
    row_by_row = replace(
        METRICS["accuracy"], name="of no matrix", compute=lambda a, b: float((a == b).mean())
    )
    assert fast == pytest.approx(bootstrap_difference(row_by_row, labels, first, second), abs=0.01)
