"""Two models on one task over their seeds: paired by seed where these are shared, Welch's test otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from cmgems_cli.comparing.grouping import Runs, mean
from cmgems_cli.comparing.statistics import CONFIDENCE, compare
from cmgems_cli.readable import counted


@dataclass(frozen=True)
class SeedTest:
    """The test of a model against the reference over their runs.

    Attributes
    ----------
    test : str
        Its name, with the number of seeds.
    difference : float
        Of the means: reference minus model.
    p : float or None
        Two-sided; None where there is no spread to be tested against.
    interval : (float, float) or None
        Of the difference, at `CONFIDENCE`, by the same test.
    """

    test: str
    difference: float
    p: float | None
    interval: tuple[float, float] | None


def seed_test(model: Runs, reference: Runs) -> SeedTest | None:
    """Compare two models over the seeds of their runs; None if one has fewer than two.

    Pairs are formed if every seed of the model with fewer runs is a seed of the other too.

    Parameters
    ----------
    model, reference : mapping, seed -> float
        Values of one metric on one task.
    """
    one, other = _of_seeds(model), _of_seeds(reference)
    shared = sorted(one.keys() & other.keys())
    if min(len(one), len(other)) < 2:
        return None
    if len(shared) == min(len(one), len(other)):
        first, second = ([runs[number] for number in shared] for runs in (one, other))
        found = compare([first, second])[0]
        name = f"paired t-test over {counted(len(shared), 'shared seed')}"
        interval = found.interval
        if found.p is None:
            interval = None
        elif np.ptp(np.subtract(second, first)):
            # Of the same test as p: a bootstrap of so few pairs is far too narrow.
            interval = _ends(stats.ttest_rel(second, first))
        return SeedTest(name, found.difference, found.p, interval)
    first, second = list(one.values()), list(other.values())
    name = f"Welch's t-test, {len(first)} and {counted(len(second), 'seed')}"
    difference = mean(second) - mean(first)
    if np.ptp(first) == 0 and np.ptp(second) == 0:
        return SeedTest(name, difference, None, None)
    result = stats.ttest_ind(second, first, equal_var=False)
    return SeedTest(name, difference, float(result.pvalue), _ends(result))


def _ends(result: Any) -> tuple[float, float]:
    low, high = result.confidence_interval(CONFIDENCE)
    return float(low), float(high)


def _of_seeds(runs: Runs) -> Mapping[int, float]:
    return {seed: value for seed, value in runs.items() if seed is not None}
