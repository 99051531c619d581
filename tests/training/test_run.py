"""What a run restores: complete, of the right form and range, or the checkpoint before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cmgems_cli.artifacts import canonical_json, sha256_of_bytes, sha256_of_file
from cmgems_cli.errors import CmgemsError, InputError
from cmgems_cli.training.pretrain_run import PretrainingRun, pretrain
from tests.training.conftest import StopAfter

MakeRun = Callable[..., PretrainingRun]
Tensors = dict[str, torch.Tensor]
State = dict[str, Any]

BIAS = "bert_lm.cls.predictions.bias"


def seal(checkpoint: Path, change: Callable[[State], object] = lambda state: None) -> None:
    """Give a changed checkpoint the hashes of a whole one."""
    state = json.loads((checkpoint / "state.json").read_text())
    del state["digest"]
    state["files"] = {name: sha256_of_file(checkpoint / name) for name in state["files"]}
    change(state)
    digest = sha256_of_bytes(canonical_json(state).encode())
    (checkpoint / "state.json").write_text(json.dumps({**state, "digest": digest}))


def stopped(run: PretrainingRun) -> Path:
    """Stop a run after step 5; return its newest checkpoint, step 4's is the one before."""
    with pytest.raises(CmgemsError, match="stopped after step 5"):
        pretrain(run, resume=True, overwrite=False, observer=StopAfter(5))
    return run.out / "checkpoints" / "step_000005"


def check_the_one_before_is_used(make_run: MakeRun, words: str = "checkpoints/step_000005 ") -> None:
    observer = StopAfter()
    parts = pretrain(make_run("parts"), resume=True, overwrite=False, observer=observer)
    assert observer.resumed_after == [4]
    (warning,) = (said for said in observer.warnings if "step_000005" in said)
    assert words in warning
    assert parts.digest == pretrain(make_run("whole"), resume=True, overwrite=False).digest


TENSORS: dict[str, tuple[str, Callable[[Tensors], object]]] = {
    "a weight missing": ("weights", lambda tensors: tensors.pop(BIAS)),
    "a weight too many": ("weights", lambda tensors: tensors.update(more=torch.ones(2))),
    "a weight that would be broadcast": ("weights", lambda tensors: tensors.update({BIAS: torch.ones(1)})),
    "a weight of another type": ("weights", lambda tensors: tensors.update({BIAS: tensors[BIAS].double()})),
    "a weight not finite": ("weights", lambda tensors: tensors[BIAS].fill_(torch.nan)),
    "no weights": ("weights", lambda tensors: tensors.clear()),
    "a moment missing": ("optimizer", lambda tensors: tensors.pop(f"exp_avg.{BIAS}")),
    "a negative mean of squares": ("optimizer", lambda tensors: tensors[f"exp_avg_sq.{BIAS}"].fill_(-1.0)),
    "a moment not finite": ("optimizer", lambda tensors: tensors[f"exp_avg.{BIAS}"].fill_(torch.inf)),
    "no moments": ("optimizer", lambda tensors: tensors.clear()),
}


@pytest.mark.parametrize("case", TENSORS)
def test_s2_well_formed_but_wrong_tensors_are_not_restored(make_run: MakeRun, case: str) -> None:
    checkpoint = stopped(make_run("parts"))
    name, change = TENSORS[case]
    path = checkpoint / f"{name}.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    seal(checkpoint)
    check_the_one_before_is_used(make_run, "the saved state has")


STATES: dict[str, Callable[[State], object]] = {
    "step raised": lambda state: state.update(step=99),
    "step lowered": lambda state: state.update(step=2),
    "step a text": lambda state: state.update(step="5"),
    "step true": lambda state: state.update(step=True),
    "no run": lambda state: state.pop("run"),
    "run null": lambda state: state.update(run=None),
    "no params": lambda state: state["run"].pop("params"),
    "params a list": lambda state: state["run"].update(params=[1]),
    "no inputs": lambda state: state["run"].pop("inputs"),
    "no curriculum": lambda state: state.pop("curriculum"),
    "another threshold": lambda state: state["curriculum"]["threshold"].update(value=5.0),
    "a switch that was not": lambda state: state["curriculum"].update(switched_at_step=2),
    "perplexities null": lambda state: state.update(perplexities=None),
    "no perplexities": lambda state: state.pop("perplexities"),
    "a file of another folder": lambda state: state["files"].update({"../step_000004/state.json": "0"}),
    "files a list": lambda state: state.update(files=[]),
}


@pytest.mark.parametrize("case", STATES)
def test_s2_c3_a_sealed_state_of_another_form_or_range_is_not_restored(make_run: MakeRun, case: str) -> None:
    seal(stopped(make_run("parts")), STATES[case])
    check_the_one_before_is_used(make_run)


LINES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "the first missing": lambda lines: lines[1:],
    "the last missing": lambda lines: lines[:-1],
    "one twice": lambda lines: [*lines, lines[-1]],
    "another order": lambda lines: lines[::-1],
    "no step": lambda lines: [b"{}", *lines[1:]],
    "no JSON": lambda lines: [b"\xff", *lines[1:]],
    "no record": lambda lines: [b"1", *lines[1:]],
    "nested deep": lambda lines: [b"[" * 100_000, *lines[1:]],
    "an evaluation changed": lambda lines: [
        line.replace(b'perplexity": ', b'perplexity": 1') for line in lines
    ],
    "no evaluation": lambda lines: [line.replace(b"valid", b"other") for line in lines],
}


@pytest.mark.parametrize("case", LINES)
def test_s3_c3_metrics_without_one_record_a_step_are_not_resumed(make_run: MakeRun, case: str) -> None:
    checkpoint = stopped(make_run("parts"))
    path = checkpoint / "metrics.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in LINES[case](path.read_bytes().splitlines())))
    seal(checkpoint)
    check_the_one_before_is_used(make_run)


def test_l6_a_run_without_a_checkpoint_that_can_be_used_says_what_to_do(make_run: MakeRun) -> None:
    checkpoint = stopped(make_run("parts"))
    for folder in checkpoint.parent.iterdir():
        seal(folder, lambda state: state["run"].update(params={}))
    with pytest.raises(
        InputError,
        match=r"\(it is of a run that was made with .*, and no other is left; start again",
    ):
        pretrain(make_run("parts"), resume=True, overwrite=False)
    pretrain(make_run("parts"), resume=False, overwrite=False)
