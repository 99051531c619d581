import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.masking import Strategy
from cmgems_cli.masking.curriculum import (
    STRATEGIES,
    Curriculum,
    Threshold,
    check_run_length,
    is_unlearnt,
    parse_threshold,
)
from tests.masking import reference

# One drop of 1,000, one of 3, one of 0.9: the rule switches at the fourth evaluation.
PERPLEXITIES = [(500, 3000.0), (1000, 2000.0), (1500, 1997.0), (2000, 1996.1), (2500, 900.0), (3000, 1200.0)]


def codes_at(curriculum, step, n=4):
    return curriculum.strategy_codes(step, np.zeros(n, np.int64), np.arange(n)).tolist()


def resumed(curriculum):
    return Curriculum.from_dict(json.loads(json.dumps(curriculum.to_dict())))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("random", Strategy.RANDOM),
        ("genemask", Strategy.GENEMASK),
        ("global", Strategy.GLOBAL),
        ("random-mask", Strategy.RANDOM_MASK),
        ("cm-gems", Strategy.GENEMASK),
    ],
)
def test_codes_before_any_evaluation(name, code):
    curriculum = Curriculum(name, steps=100, seed=42)
    assert codes_at(curriculum, 1) == codes_at(curriculum, 100) == [code] * 4
    assert curriculum.strategy_codes(1, np.zeros(4, np.int64), np.arange(4)).dtype == np.uint8
    assert curriculum.name(1) == ("genemask" if name == "cm-gems" else name)


def test_cm_gems_switches_for_good_from_the_next_step():
    curriculum = Curriculum("cm-gems", steps=10_000, seed=42)
    assert [curriculum.observe(*evaluation) for evaluation in PERPLEXITIES] == [False] * 3 + [
        True,
        False,
        False,
    ]
    assert curriculum.switched_at_step == 2000
    assert codes_at(curriculum, 2000) == [Strategy.GENEMASK] * 4
    assert codes_at(curriculum, 2001) == [Strategy.GLOBAL] * 4
    assert codes_at(curriculum, 10_000) == [Strategy.GLOBAL] * 4
    assert (curriculum.name(2000), curriculum.name(2001)) == ("genemask", "global")


@pytest.mark.parametrize(
    ("threshold", "now", "switches"),
    [
        ("1.0", 99.0, False),  # a drop of exactly the threshold is not below it
        ("1.0", 99.001, True),
        ("1.0", 100.0, True),
        ("1.0", 500.0, True),  # a rise
        ("2%", 98.0, False),
        ("2%", 98.001, True),
        ("2%", 101.0, True),
        ("0", 100.0, False),
        ("0", 100.001, True),
        ("100%", 0.5, True),
    ],
)
def test_threshold(threshold, now, switches):
    curriculum = Curriculum("cm-gems", steps=100, seed=42, threshold=parse_threshold(threshold))
    assert curriculum.observe(10, 100.0) is False
    assert curriculum.observe(20, now) is switches


def test_a_relative_threshold_follows_the_previous_value():
    curriculum = Curriculum("cm-gems", steps=100, seed=42, threshold=parse_threshold("2%"))
    # 59 of 3,000 is 1.97 %.
    assert [curriculum.observe(step, p) for step, p in [(1, 4000), (2, 3000), (3, 2941)]] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "cm-gems"])
def test_other_strategies_never_switch(name):
    curriculum = Curriculum(name, steps=10_000, seed=42)
    assert not any(curriculum.observe(*evaluation) for evaluation in PERPLEXITIES)
    assert curriculum.switched_at_step is None


@given(st.integers(0, len(PERPLEXITIES)))
def test_resuming_anywhere_changes_nothing(n_before):
    whole = Curriculum("cm-gems", steps=10_000, seed=42, threshold=Threshold(0.1, relative=True))
    parts = Curriculum("cm-gems", steps=10_000, seed=42, threshold=Threshold(0.1, relative=True))
    for evaluation in PERPLEXITIES[:n_before]:
        assert whole.observe(*evaluation) == parts.observe(*evaluation)
    parts = resumed(parts)
    assert parts == whole
    for evaluation in PERPLEXITIES[n_before:]:
        assert whole.observe(*evaluation) == parts.observe(*evaluation)
    assert parts == whole
    assert whole.switched_at_step == 1500
    assert [parts.name(step) for step in (1500, 1501)] == ["genemask", "global"]


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_floats_survive_a_checkpoint(first, second):
    whole = Curriculum("cm-gems", steps=10, seed=2**63 - 1)
    whole.observe(1, first)
    copy = resumed(whole)
    assert copy.observe(2, second) == whole.observe(2, second)
    assert copy == whole


def test_observe_refuses_nonsense():
    curriculum = Curriculum("cm-gems", steps=100, seed=42)
    for perplexity in (math.nan, math.inf, 0.0, -1.0):
        with pytest.raises(ValueError, match="perplexity"):
            curriculum.observe(10, perplexity)
    curriculum.observe(10, 100.0)
    with pytest.raises(ValueError, match="evaluated after"):
        curriculum.observe(10, 100.0)
    assert curriculum.switched_at_step is None


@pytest.mark.parametrize("step", [0, 101])
def test_steps_outside_the_run_are_refused(step):
    for name in STRATEGIES:
        with pytest.raises(ValueError, match="not one of 1"):
            codes_at(Curriculum(name, steps=100, seed=42), step)


def test_cm_step_follows_its_blocks():
    curriculum = Curriculum("cm-step", steps=1000, seed=42)
    n = 20_000
    for block in (0, 1, 25, 50, 99):
        share = block / 100
        for step in (block * 10 + 1, block * 10 + 10):
            codes = np.array(codes_at(curriculum, step, n))
            assert set(codes) <= {Strategy.RANDOM, Strategy.GLOBAL}
            error = math.sqrt(share * (1 - share) / n)
            assert abs((codes == Strategy.GLOBAL).mean() - share) <= 4 * error
    assert curriculum.name(500) == "cm-step"


def test_cm_step_equals_reference():
    curriculum = Curriculum("cm-step", steps=250, seed=7)
    epochs, indices = np.arange(40) // 20, np.arange(40) * 1_000_003
    for step in (1, 2, 3, 125, 250):
        block = (step - 1) * 100 // 250
        expected = [
            Strategy.GLOBAL if reference.uniform(stream, 0) < block / 100 else Strategy.RANDOM
            for stream in (
                reference.stream_of(7, reference.STRATEGY_CHOICE, int(epoch), int(index))
                for epoch, index in zip(epochs, indices, strict=True)
            )
        ]
        assert curriculum.strategy_codes(step, epochs, indices).tolist() == expected


def test_cm_step_blocks_of_a_short_run():
    # 50 steps: every second block, from 0 to 98.
    curriculum = Curriculum("cm-step", steps=50, seed=42)
    assert codes_at(curriculum, 1, 1000) == [Strategy.RANDOM] * 1000
    assert np.mean(np.array(codes_at(curriculum, 50, 20_000)) == Strategy.GLOBAL) == pytest.approx(
        0.98, abs=0.004
    )


@pytest.mark.parametrize(("k", "limits"), [(6, [6, 8, 10, 12, 14]), (3, [3, 5, 7, 9, 11])])
def test_random_mask_stages(k, limits):
    curriculum = Curriculum("random-mask", steps=480_000, seed=42, k=k)
    ends = [30_000, 60_000, 100_000, 150_000, 480_000]
    assert [curriculum.span_limit(step) for step in ends] == limits
    assert [curriculum.span_limit(step + 1) for step in ends[:-1]] == limits[1:]
    assert curriculum.span_limit(1) == k
    # A run of 48 steps keeps the shares: 3, 6, 10, 15 and 48.
    short = Curriculum("random-mask", steps=48, seed=42, k=k)
    assert [short.span_limit(step) for step in (3, 4, 6, 7, 10, 11, 15, 16, 48)] == [
        limits[stage] for stage in (0, 1, 1, 2, 2, 3, 3, 4, 4)
    ]


@pytest.mark.parametrize("text", ["", "x", "-1", "-1%", "nan", "inf", "%", "2%%", "101%", "1,5", "2 percent"])
def test_nonsense_thresholds_are_refused(text):
    with pytest.raises(UsageError, match="`switch_threshold` is"):
        parse_threshold(text)


@pytest.mark.parametrize("text", ["1", "0.5", "2%", "7%", "0", "0%", "12.25%", "1000"])
def test_thresholds_are_written_as_they_are_read(text):
    assert str(parse_threshold(text)) == text


def test_unknown_strategy_is_refused():
    with pytest.raises(UsageError, match="unknown; choose random, genemask"):
        Curriculum("genmask", steps=10, seed=42)


def test_damaged_state_is_refused():
    state = Curriculum("cm-gems", steps=10, seed=42).to_dict()
    for damaged in ({**state, "more": 1}, {"strategy": "cm-gems"}, {**state, "last_evaluation": [1]}):
        with pytest.raises(InputError, match="curriculum"):
            Curriculum.from_dict(damaged)


def test_run_length():
    check_run_length("cm-gems", steps=40, eval_every=20)
    check_run_length("genemask", steps=1, eval_every=20)
    with pytest.raises(UsageError, match="at least 40 steps"):
        check_run_length("cm-gems", steps=39, eval_every=20)


def test_unlearnt():
    assert is_unlearnt(3229.0, 3055.0)
    assert not is_unlearnt(2259.0, 3055.0)
