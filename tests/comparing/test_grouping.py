"""Scores by task, and means and deviations against slow, obvious arithmetic."""

from statistics import pstdev, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.comparing.grouping import (
    TaskKey,
    by_task,
    mean,
    mean_sd_text,
    means,
    span,
    standard_deviation,
)
from cmgems_cli.comparing.scores import Score

values = st.lists(st.floats(-1, 1), min_size=1, max_size=30)


def score(task: str, seed: int, value: float, metric: str = "mcc", shots: int | None = None) -> Score:
    return Score("gue", task, "human", shots, seed, metric, value, 10, 20, "m")


def test_scores_are_grouped_by_task_and_shots_in_their_order() -> None:
    scores = [
        score("b", 2, 0.2),
        score("a", 1, 0.1, shots=10),
        score("b", 1, 0.4),
        score("b", 1, 0.9, "accuracy"),
        score("a", 1, 0.5, shots=50),
    ]
    tasks = by_task(scores, "mcc")
    assert list(tasks.items()) == [
        (TaskKey("gue", "b", None), {2: 0.2, 1: 0.4}),
        (TaskKey("gue", "a", 10), {1: 0.1}),
        (TaskKey("gue", "a", 50), {1: 0.5}),
    ]
    assert means(tasks)[TaskKey("gue", "b", None)] == pytest.approx(0.3)
    assert [key.label for key in sorted(tasks, key=lambda key: key.order)] == [
        "a, 10 shots",
        "a, 50 shots",
        "b",
    ]


@given(values)
def test_mean_and_deviations(values: list[float]) -> None:
    assert mean(values) == pytest.approx(sum(values) / len(values))
    if len(values) == 1:
        assert standard_deviation(values, sample=True) is standard_deviation(values, sample=False) is None
    else:
        assert standard_deviation(values, sample=True) == pytest.approx(stdev(values), abs=1e-12)
        assert standard_deviation(values, sample=False) == pytest.approx(pstdev(values), abs=1e-12)


def test_as_text() -> None:
    assert mean_sd_text([0.5, 0.7], "accuracy", sample=False) == "0.600 ± 0.100"
    assert mean_sd_text([0.5, 0.7], "mcc", sample=True) == "60.00 ± 14.14"
    assert mean_sd_text([], "mcc", sample=True) is None
    assert [span(counts) for counts in ([], [3, 3], [4, 2, 3])] == ["", "3", "2 to 4"]
