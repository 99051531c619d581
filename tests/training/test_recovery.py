"""Numbers that go wrong: named, told from hardware faults, kept out of checkpoints, skipped exactly."""

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.commands.training_progress import TrainingProgress
from cmgems_cli.console import Bar, Console
from cmgems_cli.errors import CmgemsError, InputError
from cmgems_cli.training.metrics_log import read_metrics
from cmgems_cli.training.pretrain_run import PretrainingRun, pretrain
from cmgems_cli.training.step_check import first_not_finite, same_result
from tests.command_line import CommandLine, torchrun
from tests.training.conftest import SHORT, StopAfter

MakeRun = Callable[..., PretrainingRun]

STEPS, BAD = 24, 16
RUN: dict[str, Any] = {"steps": STEPS, "eval_every": 6, "save_every": 2, "strategy": "random"}
BLAMED = "6-16"

# The first micro-batch of a poisoned step.
_POISONED = 10_000


def poison(
    run: PretrainingRun, steps: Collection[int], effect: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    """Let `effect` change the loss of these steps whenever they are computed."""
    make, forward = run.make_step, run.engine._forward

    def make_step(step: int) -> Any:
        data = make(step)
        if step not in steps:
            return data
        return replace(data, batches=[replace(one, index=one.index + _POISONED) for one in data.batches])

    run.make_step = make_step  # type: ignore[method-assign]
    run.engine._forward = lambda module, batch: (
        effect(forward(module, batch)) if batch.index >= _POISONED else forward(module, batch)
    )


def times(factor: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda loss: loss * factor


def once(effect: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The effect on the first call alone, as a fault of the hardware has."""
    calls: list[int] = []
    return lambda loss: loss if calls else (calls.append(1), effect(loss))[1]


def train(run: PretrainingRun, observer: StopAfter | None = None, *, bad: Collection[int] = (BAD,)) -> Path:
    poison(run, bad, times(3))
    pretrain(run, resume=True, overwrite=False, observer=observer)
    return run.out


def same_files(one: Path, two: Path) -> None:
    for name in ("model.safetensors", "metrics.jsonl", "README.md"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


# --- spikes


def test_a_spike_is_reported_once_with_the_last_good_checkpoint_and_changes_nothing(
    make_run: MakeRun,
) -> None:
    observer = StopAfter()
    reported = train(make_run("reported", **RUN), observer, bad=(BAD, BAD + 1))
    (warning,) = observer.warnings
    assert f"at step {BAD}, 3.0 times that of the steps before (computed twice, equal)" in warning
    assert "the last good checkpoint is " in warning
    assert f"step_{BAD - 2:06d}; `on_spike=" in warning
    unnoticed = StopAfter()
    same_files(reported, train(make_run("b", **RUN, spike_factor=100.0), unnoticed, bad=(BAD, BAD + 1)))
    assert not unnoticed.warnings


def test_a_spike_can_be_gone_back_from_and_the_steps_skipped_give_the_same_bytes_when_named(
    make_run: MakeRun,
) -> None:
    observer = StopAfter()
    found = train(make_run("found", **RUN, on_spike="skip"), observer)
    # The newest checkpoint kept from before step 6.
    assert observer.resumed_after == [2]
    assert read_manifest(found).stats["skipped_steps"] == BLAMED
    named = train(make_run("named", **RUN, skip_steps=BLAMED))
    same_files(found, named)
    assert read_manifest(named).params["skip_steps"] == BLAMED
    records = read_metrics(found / "metrics.jsonl")
    assert [record["step"] for record in records if record.get("skipped")] == list(range(6, 17))
    plain = pretrain(make_run("plain", **RUN), resume=True, overwrite=False)
    assert "skipped_steps" not in plain.stats
    assert plain.files["model.safetensors"] != read_manifest(named).files["model.safetensors"]


@pytest.mark.parametrize("stop", [5, 12, 16, 20])
def test_a_run_that_went_back_resumes_to_the_same_bytes(make_run: MakeRun, stop: int) -> None:
    named = train(make_run("named", **RUN, skip_steps=BLAMED))

    class StopAfterReturn(StopAfter):
        def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
            if self.resumed_after:
                super().stepped(record, n_tokens)

    with pytest.raises(CmgemsError, match=f"stopped after step {stop}"):
        train(make_run("found", **RUN, on_spike="skip"), StopAfterReturn(stop))
    observer = StopAfter()
    found = train(make_run("found", **RUN, on_spike="skip"), observer)
    assert observer.resumed_after == [stop]
    same_files(found, named)


def test_a_spike_in_the_first_steps_goes_back_to_the_start(make_run: MakeRun) -> None:
    found = train(make_run("found", **RUN, on_spike="skip"), bad=(3,))
    assert read_manifest(found).stats["skipped_steps"] == "1-3"
    same_files(found, train(make_run("named", **RUN, skip_steps="1-3"), bad=(3,)))


def test_a_loss_that_spikes_again_after_the_skipped_steps_is_skipped_too(make_run: MakeRun) -> None:
    found = train(make_run("found", **RUN, on_spike="skip"), bad=(BAD, BAD + 1))
    assert read_manifest(found).stats["skipped_steps"] == "6-17"
    same_files(found, train(make_run("named", **RUN, skip_steps="6-17")))


def test_a_stopped_run_can_be_told_to_skip_and_uses_only_checkpoints_that_fit(make_run: MakeRun) -> None:
    with pytest.raises(CmgemsError, match="stopped after step 21"):
        train(make_run("a", **RUN), StopAfter(21))
    with pytest.raises(InputError, match=r"skipped other steps.*no other is left"):
        train(make_run("a", **RUN, skip_steps="3"))
    observer = StopAfter()
    later = train(make_run("a", **RUN, skip_steps="21-22"), observer)
    assert observer.resumed_after == [20]
    same_files(later, train(make_run("b", **RUN, skip_steps="21-22")))


def test_the_checkpoint_before_a_rise_that_lasts_is_kept_and_skipping_goes_on_from_it(
    make_run: MakeRun,
) -> None:
    rise = range(BAD, STEPS + 1)
    with pytest.raises(CmgemsError, match="stopped after step 23"):
        train(make_run("a", **RUN), StopAfter(23), bad=rise)
    kept = sorted(path.name for path in (make_run("a", **RUN).out / "checkpoints").iterdir())
    assert kept == ["step_000004", "step_000010", "step_000022", "step_000023"]
    observer = StopAfter()
    found = train(make_run("a", **RUN, on_spike="skip"), observer, bad=(BAD,))
    assert observer.resumed_after == [10, 4]
    same_files(found, train(make_run("named", **RUN, skip_steps=BLAMED)))


def test_the_choice_of_what_to_do_about_spikes_is_part_of_a_finished_models_identity(
    make_run: MakeRun,
) -> None:
    plain = make_run("plain", **RUN)
    assert (plain.params["on_spike"], plain.params["spike_factor"]) == (None, None)
    assert make_run("plain", **RUN, spike_factor=3.0).params == plain.params
    skipping = make_run("plain", **RUN, spike_factor=3.0, on_spike="skip")
    assert (skipping.params["on_spike"], skipping.params["spike_factor"]) == ("skip", 3.0)


# --- not finite


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_tensor_the_step_the_batch_and_the_last_good_checkpoint(
    make_run: MakeRun, value: float
) -> None:
    run = make_run("bad", **RUN)
    poison(run, (BAD,), times(value))
    with pytest.raises(CmgemsError) as caught:
        pretrain(run, resume=True, overwrite=False)
    words = str(caught.value)
    assert f"the loss became {value:g} at step {BAD} (gradient norm nan; computed twice, equal)" in words
    first = run.maker.training_step(BAD, run.curriculum).batches[0]
    numbers = ", ".join(str(n) for n in run.maker.sequences_of(BAD)[first.rows][:8])
    assert f"the first not finite: the loss in micro-batch {_POISONED}, training sequences {numbers}" in words
    good = run.out / "checkpoints" / f"step_{BAD - 1:06d}"
    assert f"the last good checkpoint is {good}; lower `learning_rate`" in words
    # The state of the step before, not touched by the step that failed.
    with pytest.raises(CmgemsError, match="stopped"):
        pretrain(make_run("clean", **RUN), resume=True, overwrite=False, observer=StopAfter(BAD - 1))
    for name in ("weights.safetensors", "optimizer.safetensors", "metrics.jsonl"):
        clean = run.out.with_name("clean") / "checkpoints" / good.name / name
        assert (good / name).read_bytes() == clean.read_bytes(), name


def test_a_loss_that_is_not_finite_can_be_gone_back_from(make_run: MakeRun) -> None:
    run = make_run("bad", **RUN, on_spike="skip")
    poison(run, (BAD,), times(math.nan))
    pretrain(run, resume=True, overwrite=False)
    same_files(run.out, train(make_run("named", **RUN, skip_steps=BLAMED)))


def test_the_first_tensor_that_is_not_finite_is_named(make_run: MakeRun) -> None:
    run = make_run(**RUN)
    data, engine = run.make_step(1), run.engine
    parameters = dict(engine.module.named_parameters())
    assert first_not_finite(engine, 1, data.batches)[1] is None

    name = "bert_lm.bert.encoder.layer.0.output.dense"
    handle = engine.module.get_submodule(name).register_forward_hook(
        lambda module, inputs, output: output * math.inf
    )
    what, batch = first_not_finite(engine, 1, data.batches)
    assert (what, batch) == (f"the output of {name}", data.batches[0])
    handle.remove()

    name = "bert_lm.bert.encoder.layer.1.attention.self.query.weight"
    gradient = parameters[name].register_hook(lambda gradient: gradient * math.nan)
    assert first_not_finite(engine, 1, data.batches[:1])[0] == f"the gradient of {name}"
    gradient.remove()

    with torch.no_grad():
        parameters[name][0, 0] = math.nan
    assert first_not_finite(engine, 1, data.batches) == (f"the parameter {name}", None)
    assert all(parameter.grad is None for parameter in parameters.values())


def test_l6_a_diverged_run_keeps_and_names_the_last_good_checkpoint_and_prints_short_perplexities(
    make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("bad", **{**RUN, "learning_rate": 100.0, "warmup_steps": 20, "save_every": 1})
    observer = StopAfter()
    progress = TrainingProgress(Console(), Bar("bad", STEPS, "steps"))
    notes: list[str] = []

    class Both(StopAfter):
        def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
            progress.stepped(record, n_tokens)
            notes.append(progress._bar.note)
            observer.stepped(record, n_tokens)

        def warned(self, message: str) -> None:
            observer.warned(message)

    with pytest.raises(CmgemsError) as caught:
        pretrain(run, resume=True, overwrite=False, observer=Both())
    assert "last good checkpoint is " in str(caught.value)
    good = Path(str(caught.value).split("last good checkpoint is ")[1].split(";")[0])
    assert (good / "state.json").exists()
    assert any("the loss rose to" in warning for warning in observer.warnings)
    assert max(map(len, notes)) < 120


def test_a_state_that_is_not_finite_is_not_saved(make_run: MakeRun) -> None:
    run = make_run(**RUN)
    step = run.make_step(1)
    run.engine.step(1, step.batches, step.n_targets)
    assert run.engine.is_finite()
    with torch.no_grad():
        next(iter(run.module.parameters())).fill_(math.inf)
    assert not run.engine.is_finite()


# --- hardware


@pytest.mark.parametrize("factor", [3.0, math.nan])
@pytest.mark.parametrize("on_spike", ["report", "skip"])
def test_a_result_that_does_not_repeat_is_called_a_hardware_fault_and_the_run_resumes(
    make_run: MakeRun, factor: float, on_spike: str
) -> None:
    run = make_run("faulty", **RUN, on_spike=on_spike)
    poison(run, (BAD,), once(times(factor)))
    with pytest.raises(
        CmgemsError, match=f"step {BAD} computed twice gave different results .*hardware fault"
    ):
        pretrain(run, resume=True, overwrite=False)
    observer = StopAfter()
    pretrain(make_run("faulty", **RUN, on_spike=on_spike), resume=True, overwrite=False, observer=observer)
    assert observer.resumed_after == [BAD - 1]
    pretrain(make_run("whole", **RUN), resume=True, overwrite=False)
    same_files(run.out, run.out.with_name("whole"))


@pytest.mark.parametrize(
    ("first", "again", "cpu", "cuda"),
    [
        ((1.0, 2.0), (1.0, 2.0), True, True),
        ((1.0, 2.0), (1.0, 2.0 + 1e-12), False, True),
        ((1.0, 2.0), (1.2, 2.0), False, False),
        ((math.nan, math.inf), (math.nan, math.inf), True, True),
        ((math.nan, 1.0), (1.0, 1.0), False, False),
        ((math.inf, 1.0), (1.0, 1.0), False, False),
    ],
)
def test_results_are_compared_by_bits_on_a_cpu_and_within_rounding_on_cuda(
    first: tuple[float, float], again: tuple[float, float], cpu: bool, cuda: bool
) -> None:
    assert same_result(first, again, torch.device("cpu")) is cpu
    assert same_result(first, again, torch.device("cuda")) is cuda


# --- the command


@pytest.mark.subprocess
def test_two_torchrun_processes_go_back_like_one(
    cmgems: CommandLine, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    # Any loss above that of guessing is a spike: the first step is one.
    options = {**SHORT, **RUN, "spike_factor": 1.0, "on_spike": "skip"}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    pretrain = cmgems.of("pretrain", inputs[0], "--pmi", inputs[1], *words, "--json")
    one = pretrain("--out", tmp_path / "one").json["stats"]
    two = pretrain.process("--out", tmp_path / "two", launcher=torchrun(2)).json["stats"]
    assert one["skipped_steps"] == two["skipped_steps"] is not None
    weights = [load_file(tmp_path / out / "model.safetensors") for out in ("one", "two")]
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-5, rtol=0), name
