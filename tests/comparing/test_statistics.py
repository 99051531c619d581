"""Every statistic against scipy called directly or against counting all cases; then what has no answer."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cmgems_cli.comparing.statistics import compare, friedman, holm

# Scores with two decimals, as tables print them: ties and zero differences are frequent.
printed = st.integers(0, 300).map(lambda hundredths: hundredths / 100)


def columns(n_models: int, *, low: int = 3, high: int = 30) -> st.SearchStrategy[list[list[float]]]:
    return st.integers(low, high).flatmap(
        lambda n: st.lists(st.lists(printed, min_size=n, max_size=n), min_size=n_models, max_size=n_models)
    )


def spread(table: list[list[float]]) -> np.ndarray:
    return np.round(np.subtract(table[-1], table[0]), 6)


@given(columns(2))
@settings(max_examples=40, deadline=None)
def test_t_test_and_its_kin_are_scipys(table: list[list[float]]) -> None:
    differences = spread(table)
    (found,) = compare(table)
    assert found.difference == pytest.approx(np.mean(differences), abs=1e-12)
    if np.ptp(differences) == 0:
        return
    assert found.p == pytest.approx(stats.ttest_rel(table[1], table[0]).pvalue, rel=1e-9)
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, rel=1e-6)
    assert found.wilcoxon_p == stats.wilcoxon(differences).pvalue
    assert found.cohens_dz == pytest.approx(np.mean(differences) / np.std(differences, ddof=1), abs=1e-9)
    # scipy resamples the pairs; drawn from the same stream, the interval is the same. In whole hundredths,
    # so that its sums are exact.
    hundredths = np.round(np.multiply(table, 100))
    direct = stats.bootstrap(
        (hundredths[1], hundredths[0]),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        paired=True,
        method="BCa",
        rng=np.random.default_rng(42),
    )
    assert found.interval == pytest.approx(tuple(np.divide(direct.confidence_interval, 100)), abs=1e-10)
    assert not found.note


@given(columns(2, low=14))
@settings(max_examples=20, deadline=None)
def test_sign_flips_are_scipys_permutation_of_pairs(table: list[list[float]]) -> None:
    differences = spread(table)
    if np.ptp(differences) == 0:
        return
    (found,) = compare(table)
    direct = stats.permutation_test(
        (table[1], table[0]),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        rng=np.random.default_rng(42),
    )
    # Both draw 9,999 of the same 2^n sign vectors, in a different way: within Monte-Carlo error.
    error = np.sqrt(2 * direct.pvalue * (1 - direct.pvalue / 2) / 9999)
    assert found.sign_flip_p == pytest.approx(direct.pvalue, abs=6 * error + 2e-3)


def by_counting(differences: np.ndarray) -> tuple[float, float]:
    """Two-sided p of the signed-rank and the sign-flip test, over all 2^n signs."""
    kept = differences[differences != 0]
    ranks = stats.rankdata(np.abs(kept))
    every = np.array(list(itertools.product([1, -1], repeat=len(kept))))
    rank_sums, sums = every @ ranks, every @ np.abs(kept)
    observed = np.sign(kept) @ ranks, np.sign(kept) @ np.abs(kept)
    extreme = [np.mean(np.abs(a) >= abs(b) - 1e-9) for a, b in zip((rank_sums, sums), observed, strict=True)]
    return float(extreme[0]), float(extreme[1])


@given(columns(2, low=2, high=9))
@settings(max_examples=80, deadline=None)
def test_rank_and_sign_flip_tests_of_few_pairs_equal_counting_all_signs(table: list[list[float]]) -> None:
    differences = spread(table)
    if not differences.any():
        return
    (found,) = compare(table)
    wilcoxon_p, sign_flip_p = by_counting(differences)
    assert found.sign_flip_p == pytest.approx(sign_flip_p, abs=1e-12)
    assert found.wilcoxon_p == pytest.approx(wilcoxon_p, abs=1e-12)


def test_equal_differences_are_ties_in_spite_of_float_noise() -> None:
    # 0.3 - 0.2 and 0.2 - 0.1 differ in the last bit; as printed they are equal.
    (noisy,) = compare([[0.2, 0.1, 0.5, 0.7], [0.3, 0.2, 0.4, 0.9]])
    (exact,) = compare([[2, 1, 5, 7], [3, 2, 4, 9]])
    assert noisy.wilcoxon_p == exact.wilcoxon_p
    assert noisy.sign_flip_p == exact.sign_flip_p


@given(columns(2), st.integers(0, 2**63 - 1))
@settings(max_examples=10, deadline=None)
def test_a_seed_fixes_every_digit_whatever_else_is_compared(table: list[list[float]], seed: int) -> None:
    alone = compare(table, seed=seed)[0]
    assert compare(table, seed=seed)[0] == alone
    beside = compare([table[1], *table], seed=seed)[1]
    assert (beside.interval, beside.sign_flip_p, beside.p) == (alone.interval, alone.sign_flip_p, alone.p)


def test_the_seed_is_used() -> None:
    table = [list(np.linspace(0, 1, 20)), list(np.linspace(0.1, 0.9, 20) ** 2)]
    assert compare(table, seed=1)[0].interval != compare(table, seed=2)[0].interval
    assert compare(table, seed=1)[0].sign_flip_p != compare(table, seed=2)[0].sign_flip_p


@given(st.lists(st.none() | st.floats(0, 1), max_size=7))
def test_holm_equals_its_definition(p_values: list[float | None]) -> None:
    present = sorted(p for p in p_values if p is not None)
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        if p is None:
            assert adjusted is None
            continue
        # The largest of the scaled p-values up to this one, at most 1.
        scaled = [(len(present) - rank) * q for rank, q in enumerate(present) if q <= p]
        assert adjusted == pytest.approx(min(1.0, max(scaled)), abs=1e-15)


def test_holm_adjusts_the_comparisons_of_one_table() -> None:
    generator = np.random.default_rng(3)
    table = generator.normal(size=(4, 12)).round(2).tolist()
    found = compare(table)
    assert [one.holm_p for one in found] == holm([one.p for one in found])
    assert all(one.holm_p >= one.p for one in found)


@given(columns(4, low=2))
@settings(max_examples=60, deadline=None)
def test_friedman_and_mean_ranks(table: list[list[float]]) -> None:
    found = friedman(table)
    ranks = [
        # Rank of a model in a row: one more than the models above it, ties sharing the mean of their ranks.
        np.mean([sum(b > a for b in row) + (sum(b == a for b in row) + 1) / 2 for a in [row[model]]])
        for row in zip(*table, strict=True)
        for model in range(4)
    ]
    expected = np.reshape(ranks, (-1, 4)).mean(axis=0)
    assert found.mean_ranks == pytest.approx(expected.tolist())
    if all(len(set(row)) == 1 for row in zip(*table, strict=True)):
        assert (found.chi2, found.p) == (0.0, 1.0)
    else:
        direct = stats.friedmanchisquare(*table)
        assert (found.chi2, found.p) == (pytest.approx(direct.statistic), pytest.approx(direct.pvalue))


@pytest.mark.parametrize("n", [1, 2, 27])
def test_no_difference_anywhere_is_no_evidence(n: int) -> None:
    values = np.linspace(0.1, 0.9, n).tolist()
    (found,) = compare([values, values])
    assert (found.difference, found.p, found.holm_p, found.wilcoxon_p, found.sign_flip_p) == (0, 1, 1, 1, 1)
    assert (found.interval, found.cohens_dz) == ((0.0, 0.0), 0.0)
    assert found.note == "no difference in any row"


def test_one_pair_has_a_difference_and_no_test() -> None:
    (found,) = compare([[0.5], [0.7]])
    assert found.difference == pytest.approx(0.2)
    assert (found.p, found.holm_p, found.interval, found.cohens_dz) == (None, None, None, None)
    assert (found.wilcoxon_p, found.sign_flip_p) == (1.0, 1.0)
    assert found.wilcoxon_p == stats.wilcoxon([0.2]).pvalue
    assert "only one task in common" in found.note


@pytest.mark.parametrize("n", [2, 5, 20])
def test_a_constant_difference_has_no_t_test_but_ranks_and_signs(n: int) -> None:
    # 0.1 steps: the differences are equal as printed, not as floats.
    lower = [step / 10 for step in range(n)]
    (found,) = compare([lower, [value + 0.1 for value in lower]])
    assert (found.p, found.holm_p, found.cohens_dz) == (None, None, None)
    assert found.interval == pytest.approx((0.1, 0.1))
    assert found.note.startswith("the same difference in every row")
    if n < 14:
        assert found.wilcoxon_p == found.sign_flip_p == 2 / 2**n
    else:
        assert 0 < found.sign_flip_p <= 3e-4


def test_a_missing_p_is_not_counted_by_holm() -> None:
    first, constant, last = [0.1, 0.5, 0.4, 0.3], [0.1, 0.2, 0.3, 0.4], [0.2, 0.3, 0.4, 0.5]
    found = compare([first, constant, last])
    assert found[1].holm_p is None
    assert found[0].holm_p == found[0].p


def test_friedman_of_one_row_has_ranks_and_no_p() -> None:
    found = friedman([[0.1], [0.3], [0.2]])
    assert (found.mean_ranks, found.p) == ([3.0, 1.0, 2.0], None)
    assert friedman([[0.1], [0.1], [0.1]]).p is None


@pytest.mark.parametrize(
    "table", [[[1.0]], [[1.0], [1.0, 2.0]], [[], []], [[1.0, float("nan")], [1.0, 2.0]]], ids=repr
)
def test_a_callers_slip_is_refused(table: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="needed"):
        compare(table)


def test_friedman_needs_three_columns() -> None:
    with pytest.raises(ValueError, match="three or more"):
        friedman([[1.0, 2.0], [2.0, 3.0]])
