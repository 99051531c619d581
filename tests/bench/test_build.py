"""Runs from a model and a task: what is read, what is recorded, and what is refused."""

from pathlib import Path

import pytest
import torch

from cmgems_cli.artifacts import Manifest
from cmgems_cli.bench.build import Finetuner
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.datasets.task_files import TaskFiles, find_task_files
from cmgems_cli.errors import UsageError
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.processes import Processes
from tests.bench.conftest import write_table

SEED = 42


def finetuner(**options: object) -> Finetuner:
    return Finetuner(ModelSource("tiny"), FinetuneOptions(**options), Processes(0, 1, torch.device("cpu")))  # type: ignore[arg-type]


def task_of(root: Path, name: str = "tf/0") -> TaskFiles:
    gue = shipped("gue")
    return find_task_files(gue, next(task for task in gue.tasks if task.name == name), root, None)


def manifest_of(run: FinetuningRun) -> Manifest:
    stats = {"n_train": len(run.task.train)}
    return Manifest("scores", 1, dict(run.params), dict(run.inputs), {}, stats, "")


@pytest.fixture
def task(gue: Path) -> TaskFiles:
    return task_of(gue)


@pytest.mark.parametrize("options", [{}, {"max_steps": 2}, {"epochs": 2, "warmup_steps": "10%"}])
def test_a_finished_run_is_described_without_its_rows(
    task: TaskFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    run = finetuner(**options).build_finetuning_run(task, tmp_path / "out", SEED)
    monkeypatch.setattr("cmgems_cli.bench.build.load_task", None)
    assert finetuner(**options).describe(task, SEED, manifest_of(run)) == (run.params, run.inputs)


def test_changed_data_are_read_again(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        write_table(tmp_path / "tf" / "0" / f"{split}.csv", 8, 1)
    task = task_of(tmp_path)
    made = manifest_of(finetuner().build_finetuning_run(task, tmp_path / "out", SEED))
    write_table(tmp_path / "tf" / "0" / "train.csv", 80, 2)
    params, inputs = finetuner().describe(task, SEED, made)
    assert params["steps"] == 3 * made.params["steps"]
    assert {name for name in inputs if inputs[name] != made.inputs[name]} == {"train"}


def test_the_files_of_a_task_are_read_once_for_all_its_runs(
    task: TaskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = finetuner()
    first = one.load(task, 1)
    monkeypatch.setattr("cmgems_cli.bench.build.load_task", None)
    assert one.load(task, 2).train is first.train


def test_a_warm_up_as_long_as_the_run_is_refused(task: TaskFiles) -> None:
    with pytest.raises(UsageError, match=r"`warmup_steps=9` leaves nothing of 3 steps; lower it"):
        finetuner(max_steps=3, warmup_steps="9").load(task, SEED)


def test_micro_batches_are_as_set_or_as_the_device_takes_them() -> None:
    assert finetuner(max_batch_tokens=64).max_batch_tokens == 64
    assert finetuner().max_batch_tokens == 8192
