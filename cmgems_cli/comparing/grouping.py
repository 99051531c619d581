"""Scores grouped by task, and their means and standard deviations over runs or tasks, as numbers and as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import fsum, sqrt
from typing import NamedTuple

from cmgems_cli.comparing.scores import Score, as_printed


class TaskKey(NamedTuple):
    """What scores are grouped, paired and tabulated by: a task, trained on a number of rows per class."""

    bench: str
    task: str
    shots: int | None

    @property
    def label(self) -> str:
        """The task in tables and pictures, without its benchmark."""
        return self.task if self.shots is None else f"{self.task}, {self.shots} shots"

    @property
    def order(self) -> tuple[str, str, int]:
        """The key to sort by."""
        return (self.bench, self.task, -1 if self.shots is None else self.shots)

    def __str__(self) -> str:
        return f"{self.bench} {self.task}".strip() + ("" if self.shots is None else f" {self.shots} shots")


def key_of(score: Score) -> TaskKey:
    """Return the task that a score belongs to."""
    return TaskKey(score.bench, score.task, score.shots)


# seed -> value, of one task, metric and model.
Runs = Mapping[int | None, float]


def by_task(scores: Iterable[Score], metric: str) -> dict[TaskKey, dict[int | None, float]]:
    """Return the values of a metric: task -> seed -> value, in the order of the scores of one model."""
    tasks: dict[TaskKey, dict[int | None, float]] = {}
    for score in scores:
        if score.metric == metric:
            tasks.setdefault(key_of(score), {})[score.seed] = score.value
    return tasks


def means(tasks: Mapping[TaskKey, Runs]) -> dict[TaskKey, float]:
    """Return the mean of each task over its runs."""
    return {key: mean(runs.values()) for key, runs in tasks.items()}


def mean(values: Iterable[float]) -> float:
    """Return the arithmetic mean; at least one value is required."""
    listed = list(values)
    return fsum(listed) / len(listed)


def standard_deviation(values: Sequence[float], *, sample: bool) -> float | None:
    """Return the standard deviation; None for a single value.

    Parameters
    ----------
    values : sequence of float
    sample : bool
        True: divisor n - 1, for runs. False: divisor n, for the tasks of a benchmark (paper, Table 3).
    """
    if len(values) < 2:
        return None
    centre = mean(values)
    return sqrt(fsum((value - centre) ** 2 for value in values) / (len(values) - sample))


def mean_sd_text(values: Iterable[float], metric: str, *, sample: bool) -> str | None:
    """Return mean ± standard deviation as the paper prints this metric; the mean alone of one value, None of none.

    >>> mean_sd_text([0.5, 0.6], "mcc", sample=True), mean_sd_text([0.5], "mcc", sample=True)
    ('55.00 ± 7.07', '50.00')
    """
    listed = list(values)
    if not listed:
        return None
    return with_sd(mean(listed), standard_deviation(listed, sample=sample), metric)


def with_sd(value: float, sd: float | None, metric: str) -> str:
    """Return a mean and its standard deviation, if there is one, as the paper prints this metric."""
    text = as_printed(value, metric)
    return text if sd is None else f"{text} ± {as_printed(sd, metric)}"


def span(counts: Iterable[int]) -> str:
    """Return counts as a range: "3", or "2 to 3"; empty without counts."""
    listed = sorted(set(counts))
    return " to ".join(dict.fromkeys(str(count) for count in (listed[:1] + listed[-1:])))
