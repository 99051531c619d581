"""Paired tests of several models on the same rows (paper, Table 3, and further ones), computed by scipy.

A test without an answer gives None, never NaN: the t-test of one pair, or of pairs that all differ by the same
amount. Models that differ in no row have an answer: no evidence, p = 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from cmgems_cli.comparing.scores import NOISE_DECIMALS

# scipy's default; up to 13 pairs the sign flips are then enumerated, not drawn (2^13 < 9,999).
RESAMPLES = 9999

# Differences are counted in units of this many to one.
UNITS_PER_ONE = 10.0**NOISE_DECIMALS

# Resamples held in memory at a time.
BATCH = 1000

# ours: the paper gives no interval
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """One model against the reference. Differences are reference minus model; all p are two-sided.

    Attributes
    ----------
    difference : float
        Mean difference.
    p : float or None
        Paired t-test (paper Table 3).
    holm_p : float or None
        `p` adjusted for the number of models compared with the reference.
    wilcoxon_p : float
        Signed-rank test.
    sign_flip_p : float
        Permutation test that flips the signs of the differences.
    interval : (float, float) or None
        BCa bootstrap interval of the mean difference, at `CONFIDENCE`.
    cohens_dz : float or None
        Mean difference over the sample standard deviation of the differences.
    note : str
        Why an answer is missing or trivial; else empty.
    """

    difference: float
    p: float | None
    holm_p: float | None
    wilcoxon_p: float
    sign_flip_p: float
    interval: tuple[float, float] | None
    cohens_dz: float | None
    note: str


@dataclass(frozen=True)
class Friedman:
    """Friedman's test that all models rank alike, with the mean ranks (1 = best, ties share)."""

    chi2: float
    p: float | None
    mean_ranks: list[float]


def compare(columns: Sequence[Sequence[float]], *, seed: int = 42) -> list[Comparison]:
    """Compare the last column with each of the others.

    Parameters
    ----------
    columns : sequence of equally long sequences of float
        One per model, the reference last; entry i of each belongs to the same row. Finite.
    seed : int, default 42
        Of the sign flips and the bootstrap. Each comparison starts from it anew, so its result does not depend on
        the others.

    Returns
    -------
    list of Comparison
        One for each column but the last.

    Raises
    ------
    ValueError
        If lengths differ, there are no rows or fewer than two columns, or a value is not finite.
    """
    table = _checked(columns)
    reference = table[-1]
    comparisons = [_compare_two(column, reference, seed) for column in table[:-1]]
    adjusted = holm([comparison.p for comparison in comparisons])
    return [replace(comparison, holm_p=p) for comparison, p in zip(comparisons, adjusted, strict=True)]


def _checked(columns: Sequence[Sequence[float]]) -> np.ndarray:
    if len(columns) < 2 or len({len(column) for column in columns}) != 1 or not len(columns[0]):
        raise ValueError(
            f"needed two or more columns of one length, got {[len(column) for column in columns]}"
        )
    table = np.asarray(columns, dtype=np.float64)
    if not np.isfinite(table).all():
        raise ValueError("needed finite scores")
    return table


def _compare_two(column: np.ndarray, reference: np.ndarray, seed: int) -> Comparison:
    # Whole billionths, whose sums are exact: differences, and resampled means, that are equal on paper are
    # then equal here. The rank test, the sign flips and BCa all count ties.
    units = np.rint((reference - column) * UNITS_PER_ONE)
    mean = float(units.mean() / UNITS_PER_ONE)
    if not units.any():
        return Comparison(0.0, 1.0, None, 1.0, 1.0, (0.0, 0.0), 0.0, "no difference in any row")
    if len(units) == 1:
        return Comparison(
            mean,
            None,
            None,
            1.0,
            1.0,
            None,
            None,
            "only one task in common; at least two are needed for a test",
        )
    wilcoxon_p = float(stats.wilcoxon(units).pvalue)
    sign_flip_p = _sign_flip_p(units, seed)
    if np.ptp(units) == 0:
        note = "the same difference in every row: it has no spread to be tested against"
        return Comparison(mean, None, None, wilcoxon_p, sign_flip_p, (mean, mean), None, note)
    return Comparison(
        difference=mean,
        p=float(stats.ttest_rel(reference, column).pvalue),
        holm_p=None,
        wilcoxon_p=wilcoxon_p,
        sign_flip_p=sign_flip_p,
        interval=_bca_interval(units, seed),
        cohens_dz=float(units.mean() / units.std(ddof=1)),
        note="",
    )


def _sign_flip_p(units: np.ndarray, seed: int) -> float:
    # With one sample, scipy's permutation of "samples" flips the sign of each observation.
    result = stats.permutation_test(
        (units,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=BATCH,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _bca_interval(units: np.ndarray, seed: int) -> tuple[float, float] | None:
    with warnings.catch_warnings():
        # scipy warns, and answers NaN, where BCa's acceleration is undefined; None says so here.
        warnings.simplefilter("ignore")
        result = stats.bootstrap(
            (units,),
            np.mean,
            method="BCa",
            confidence_level=CONFIDENCE,
            n_resamples=RESAMPLES,
            batch=BATCH,
            rng=np.random.default_rng(seed),
        )
    low, high = (float(end / UNITS_PER_ONE) for end in result.confidence_interval)
    return (low, high) if np.isfinite([low, high]).all() else None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust p-values for their number by Holm's step-down method.

    Missing ones stay missing and are not counted.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        adjusted[index] = highest
    return adjusted


def friedman(columns: Sequence[Sequence[float]]) -> Friedman:
    """Test whether three or more models rank alike over the rows.

    Parameters
    ----------
    columns : sequence of equally long sequences of float
        As in `compare`; higher is better.

    Returns
    -------
    Friedman
        With p None for a single row, and p = 1 where every row is one tie.

    Raises
    ------
    ValueError
        As `compare`, or if there are fewer than three columns.
    """
    table = _checked(columns)
    if len(table) < 3:
        raise ValueError(f"needed three or more columns, got {len(table)}")
    mean_ranks = stats.rankdata(-table, axis=0).mean(axis=1).tolist()
    if (table == table[0]).all():
        return Friedman(0.0, 1.0 if table.shape[1] > 1 else None, mean_ranks)
    result = stats.friedmanchisquare(*table)
    return Friedman(float(result.statistic), float(result.pvalue) if table.shape[1] > 1 else None, mean_ranks)
