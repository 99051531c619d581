"""Checkpoints and metrics: whole or absent, the newest wins, damage has an answer."""

import errno
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from cmgems_cli.errors import InputError
from cmgems_cli.training.checkpoints import load_tensors, newest_checkpoint, read_state, save_checkpoint
from cmgems_cli.training.metrics_log import MetricsFile, read_metrics


def save(run: Path, step: int) -> None:
    weights = {"w": torch.full((3,), float(step))}
    save_checkpoint(run, step, weights, {"exp_avg.w": torch.zeros(3)}, {"curriculum": {"switched": None}})


def test_the_newest_checkpoint_is_found_and_older_ones_are_gone(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (5, 10, 100):
        save(tmp_path, step)
    newest = newest_checkpoint(tmp_path)
    assert newest == tmp_path / "checkpoints" / "step_000100"
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000100"]
    assert read_state(newest)["step"] == 100
    weights, moments = load_tensors(newest)
    assert weights["w"].tolist() == [100.0] * 3
    assert moments["exp_avg.w"].tolist() == [0.0] * 3


def test_a_checkpoint_cut_off_while_being_written_does_not_count(tmp_path: Path) -> None:
    save(tmp_path, 5)
    half = tmp_path / "checkpoints" / ".step_000010.partial"
    half.mkdir()
    (half / "state.json").write_text("{}")
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step_000005"
    save(tmp_path, 15)
    assert not half.exists()


def test_a_checkpoint_there_is_no_room_for_leaves_the_one_before(
    tmp_path: Path, room_for: Callable[[int], AbstractContextManager[None]]
) -> None:
    save(tmp_path, 5)
    with room_for(50), pytest.raises(OSError, match=r"weights\.safetensors") as caught:
        save(tmp_path, 10)
    assert caught.value.errno == errno.EFBIG
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000005"]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors"])
def test_damaged_tensors_are_an_input_error(tmp_path: Path, name: str) -> None:
    save(tmp_path, 5)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    (newest / name).write_bytes(b"\x08")
    with pytest.raises(InputError, match="--no-resume"):
        load_tensors(newest)


def test_damaged_state_is_an_input_error(tmp_path: Path) -> None:
    save(tmp_path, 5)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    (newest / "state.json").write_text('{"step":')
    with pytest.raises(InputError, match="--no-resume"):
        read_state(newest)


def test_metrics_after_the_checkpoint_are_cut_off_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, 0)
    for step in range(1, 6):
        metrics.write({"step": step, "loss": 1.0 / step})
    metrics.close()
    with path.open("a") as stream:
        stream.write('{"step": 6, "lo')  # a crash in the middle of a line
    metrics = MetricsFile(path, 3)
    metrics.write({"step": 4, "loss": 0.25})
    metrics.close()
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4]
    assert json.loads(path.read_text().splitlines()[2])["loss"] == 1.0 / 3


def test_a_fresh_run_starts_an_empty_metrics_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n')
    MetricsFile(path, 0).close()
    assert path.read_text() == ""
