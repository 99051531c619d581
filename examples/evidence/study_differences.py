"""Differences between two arms of a study, with the tests of its protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats
from study_scores import Values, by_draw, seed_means

from cmgems_cli.comparing.statistics import holm

# The protocol's.
ALPHA, POWER = 0.05, 0.8
# Arms that are not pretrained, and the seeds that the protocol asks for of the others.
NOT_PRETRAINED, SEEDS = ("random-weights", "kmer-linear"), 3


@dataclass(frozen=True)
class Difference:
    """A paired difference, second minus first.

    Attributes
    ----------
    cell : str
    n : int
        Pairs.
    mean, low, high : float
        With its 95 % interval.
    p : float
    detectable : float
        The smallest difference found with a probability of `POWER`, from the measured spread.
    signs : str
        Of the difference of each model seed.
    partial : bool
        A pretrained arm lacks some of the protocol's seeds.
    """

    cell: str
    n: int
    mean: float
    low: float
    high: float
    p: float
    detectable: float
    signs: str
    partial: bool = False

    def verdict(self, adjusted: float) -> str:
        """Return the protocol's answer."""
        if adjusted < ALPHA and len(set(self.signs)) == 1 and not self.partial:
            return "yes" if self.mean > 0 else "worse"
        return "no" if self.high < 1 else "undecided"


def paired(cell: str, first: Sequence[float], second: Sequence[float], signs: str) -> Difference:
    """Compare by a paired t-test."""
    differences = np.subtract(second, first)
    n, mean = len(differences), float(differences.mean())
    error = float(differences.std(ddof=1) / np.sqrt(n))
    t = stats.t.ppf(1 - ALPHA / 2, n - 1)
    detectable = float((t + stats.t.ppf(POWER, n - 1)) * error)
    p = float(stats.ttest_rel(second, first).pvalue) if error else float(mean == 0)
    return Difference(cell, n, mean, mean - t * error, mean + t * error, p, detectable, signs)


def welch(cell: str, first: Mapping[int, float], second: Mapping[int, float]) -> Difference:
    """Compare the values of two sets of seeds by Welch's test."""
    a, b = list(first.values()), list(second.values())
    with np.errstate(all="ignore"):  # equal values: no spread
        test = stats.ttest_ind(b, a, equal_var=False)
    mean = float(np.mean(b) - np.mean(a))
    signs = signs_of(first, second)
    error = float(np.sqrt(np.var(a, ddof=1) / len(a) + np.var(b, ddof=1) / len(b)))
    if not error:
        return Difference(cell, len(a) + len(b), mean, mean, mean, float(mean == 0), 0.0, signs)
    t = stats.t.ppf(1 - ALPHA / 2, test.df)
    detectable = float((t + stats.t.ppf(POWER, test.df)) * error)
    return Difference(
        cell, len(a) + len(b), mean, mean - t * error, mean + t * error, float(test.pvalue), detectable, signs
    )


def signs_of(first: Mapping[int, float], second: Mapping[int, float]) -> str:
    """Return the sign of the difference for each model seed; a first that has one seed is compared with each."""
    only = next(iter(first.values()))
    return "".join("+" if second[seed] > first.get(seed, only) else "-" for seed in sorted(second))


def few_shot(first: Values, second: Values) -> list[Difference]:
    """Compare two arms over the draws, cell by cell."""
    found = []
    for cell in sorted(first.keys() & second.keys(), key=lambda cell: (cell.task, int(cell.shots))):
        draws = [by_draw(values[cell]) for values in (first, second)]
        shared = sorted(draws[0].keys() & draws[1].keys())
        means = [
            {seed: float(np.mean([runs[draw] for draw in shared])) for seed, runs in values[cell].items()}
            for values in (first, second)
        ]
        found.append(paired(str(cell), *([d[draw] for draw in shared] for d in draws), signs_of(*means)))
    return found


def over_tasks(first: Values, second: Values) -> list[Difference]:
    """Compare two arms over tasks, by their means over seeds."""
    cells = sorted(first.keys() & second.keys())
    if len(cells) < 2:
        return []
    runs = [{cell: seed_means(values, cell) for cell in cells} for values in (first, second)]
    # Of the seeds that an arm has in all tasks: `kmer-linear` has one.
    by_seed = [
        {
            seed: float(np.mean([r[cell][seed] for cell in cells]))
            for seed in sorted(set.intersection(*map(set, r.values())))
        }
        for r in runs
    ]
    columns = [[float(np.mean(list(r[cell].values()))) for cell in cells] for r in runs]
    return [paired(f"{len(cells)} tasks", *columns, signs_of(*by_seed))]


def over_seeds(first: Values, second: Values) -> list[Difference]:
    """Compare two arms over their seeds, cell by cell; cells where an arm has one seed are left out."""
    found = []
    for cell in sorted(first.keys() & second.keys(), key=lambda cell: (cell.task, int(cell.shots or 0))):
        a, b = seed_means(first, cell), seed_means(second, cell)
        if len(a) > 1 and len(b) > 1:
            found.append(welch(str(cell), a, b))
    return found


def is_partial(arm: str, values: Values) -> bool:
    """Tell whether a pretrained arm lacks seeds in a cell."""
    return arm not in NOT_PRETRAINED and any(len(seeds) < SEEDS for seeds in values.values())


def compared(
    block: str, arms: Mapping[str, Values], pairs: Sequence[tuple[str, str]]
) -> list[tuple[str, Difference, float]]:
    """Return name, difference and adjusted p of all pairs of arms that a block has."""
    compare = {"fewshot": few_shot, "curve": over_seeds}.get(block.partition("-")[0], over_tasks)
    found = [
        (
            f"{second} − {first}",
            replace(
                difference,
                partial=is_partial(first, arms[first]) or is_partial(second, arms[second]),
            ),
        )
        for first, second in pairs
        if first in arms and second in arms
        for difference in compare(arms[first], arms[second])
    ]
    adjusted: list[float] = []
    if compare is not over_tasks:  # over the cells of one pair of arms
        for name in dict.fromkeys(name for name, _ in found):
            adjusted += [p or 0.0 for p in holm([d.p for other, d in found if other == name])]
    elif found:
        adjusted = [p or 0.0 for p in holm([d.p for _, d in found])]
    return [(name, difference, p) for (name, difference), p in zip(found, adjusted, strict=True)]
