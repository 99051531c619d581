"""Loss spikes: what counts as one, and the steps that are left out."""

from typing import Any

import pytest

from cmgems_cli.errors import UsageError
from cmgems_cli.training.loss_watch import (
    LEAST,
    STEPS_BEFORE,
    WINDOW,
    LossWatch,
    as_ranges,
    parse_steps,
    steps_to_leave_out,
)


def record(step: int, loss: float | None, strategy: str = "random") -> dict[str, Any]:
    return {"step": step, "loss": loss, "strategy": strategy}


def watch_of(losses: list[float]) -> LossWatch:
    watch = LossWatch(1.5, 8.0)
    assert not any(watch.observe(record(step, loss)) for step, loss in enumerate(losses, start=1))
    return watch


def test_a_loss_is_compared_with_the_median_of_the_last_ones() -> None:
    watch = watch_of([8.0] * WINDOW + [2.0] * (WINDOW // 2 + 1))
    assert watch.limit("random") == 3.0
    assert not watch.observe(record(500, 3.0))
    assert watch.observe(record(501, 3.01))
    assert watch.risen_at == 501


def test_the_first_losses_are_compared_with_guessing() -> None:
    assert watch_of([2.0] * (LEAST - 1)).limit("random") == 12.0
    assert watch_of([2.0] * LEAST).limit("random") == 3.0


def test_a_spike_is_told_once_and_ends_with_a_usual_loss() -> None:
    watch = watch_of([2.0] * LEAST)
    assert [
        watch.observe(record(step, loss)) for step, loss in ((30, 9.0), (31, 9.0), (32, 2.5), (33, 9.0))
    ] == [
        True,
        False,
        False,
        True,
    ]
    assert watch.risen_at == 33


def test_another_strategy_begins_anew_and_steps_without_targets_count_nothing() -> None:
    watch = watch_of([2.0] * LEAST)
    assert not watch.observe(record(21, None))
    assert watch.limit("global") == 12.0
    assert not watch.observe(record(22, 6.0, "global"))
    assert watch.limit("global") == 12.0


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        (None, []),
        ("7", [7]),
        ("3-5", [3, 4, 5]),
        ("9, 3-5,4-6", [3, 4, 5, 6, 9]),
        ("1-10", list(range(1, 11))),
    ],
)
def test_steps_are_read_and_written(text: str | None, steps: list[int]) -> None:
    chosen = parse_steps(text, 10)
    assert sorted(chosen) == steps
    assert parse_steps(as_ranges(chosen), 10) == chosen


@pytest.mark.parametrize("text", ["0", "11", "5-3", "1-", "a", "1,,2", "-1", "1-99999999999999999999", " "])
def test_what_names_no_steps_of_the_run_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"`skip_steps` is .*; needed steps of 1 to 10"):
        parse_steps(text, 10)


def test_a_spike_is_blamed_on_its_step_and_those_before() -> None:
    assert list(steps_to_leave_out(3)) == [1, 2, 3]
    assert len(steps_to_leave_out(100)) == STEPS_BEFORE + 1
