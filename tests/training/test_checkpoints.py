"""Checkpoints and metrics: whole or absent, checked before use, the previous one where the newest is damaged."""

import errno
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from cmgems_cli.errors import InputError
from cmgems_cli.training.checkpoints import OPTIMIZER, WEIGHTS, newest_checkpoint, save_checkpoint
from cmgems_cli.training.metrics_log import MetricsFile, read_metrics


def save(run: Path, step: int) -> None:
    weights, metrics = {"w": torch.full((3,), float(step))}, b'{"step": 1}\n'
    state = {"curriculum": {"switched": None}}
    save_checkpoint(run, step, weights, {"exp_avg.w": torch.zeros(3)}, state, metrics=metrics)


def names(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_the_newest_checkpoint_is_found_and_the_one_before_is_kept(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (5, 10, 100):
        save(tmp_path, step)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert (newest.folder, newest.step) == (tmp_path / "checkpoints" / "step_000100", 100)
    assert names(tmp_path) == ["step_000010", "step_000100"]
    assert newest.state == {"curriculum": {"switched": None}}
    assert newest.tensors(WEIGHTS)["w"].tolist() == [100.0] * 3
    assert newest.tensors(OPTIMIZER)["exp_avg.w"].tolist() == [0.0] * 3
    assert newest.metrics() == b'{"step": 1}\n'
    save(tmp_path, 1_000_000)
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1_000_000


def test_a_checkpoint_cut_off_while_being_written_does_not_count(tmp_path: Path) -> None:
    save(tmp_path, 5)
    half = tmp_path / "checkpoints" / ".step_000010.0123456789abcdef.tmp"
    half.mkdir()
    (half / "state.json").write_text("{}")
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 5
    save(tmp_path, 15)
    assert not half.exists()


def test_a_checkpoint_there_is_no_room_for_leaves_the_one_before(
    tmp_path: Path, room_for: Callable[[int], AbstractContextManager[None]]
) -> None:
    save(tmp_path, 5)
    with room_for(50), pytest.raises(OSError, match=r"weights\.safetensors") as caught:
        save(tmp_path, 10)
    assert caught.value.errno == errno.EFBIG
    assert names(tmp_path) == ["step_000005"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "shorter": lambda path: path.write_bytes(path.read_bytes()[:-2]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["weights.safetensors", "optimizer.safetensors", "metrics.jsonl", "state.json"]
)
def test_s2_l6_a_damaged_checkpoint_is_noticed_and_the_one_before_is_used(
    tmp_path: Path, name: str, damage: str
) -> None:
    save(tmp_path, 5)
    save(tmp_path, 10)
    newest = tmp_path / "checkpoints" / "step_000010"
    DAMAGES[damage](newest / name)
    said: list[str] = []
    found = newest_checkpoint(tmp_path, said.append)
    assert found is not None
    assert found.step == 5
    (sentence,) = said
    assert f"checkpoint {newest} is damaged" in sentence
    DAMAGES[damage](tmp_path / "checkpoints" / "step_000005" / name)
    with pytest.raises(InputError, match=r"and no other is left; start again with `resume=False`"):
        newest_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "null", "1", '{"digest": "x"}', '{"digest": 1, "step": NaN}', "[" * 100_000]
)
def test_c3_a_state_of_another_form_is_damaged(tmp_path: Path, text: str) -> None:
    save(tmp_path, 5)
    (tmp_path / "checkpoints" / "step_000005" / "state.json").write_text(text)
    with pytest.raises(InputError, match="is damaged"):
        newest_checkpoint(tmp_path)


def test_s2_a_changed_state_is_noticed_though_its_files_are_whole(tmp_path: Path) -> None:
    save(tmp_path, 5)
    path = tmp_path / "checkpoints" / "step_000005" / "state.json"
    path.write_text(path.read_text().replace('"step": 5', '"step": 6'))
    with pytest.raises(InputError, match=r"the digest of state\.json differs"):
        newest_checkpoint(tmp_path)


def test_s3_metrics_begin_with_those_of_the_checkpoint_whatever_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = MetricsFile(path)
    for step in range(1, 4):
        first.write({"step": step, "loss": 1.0 / step})
    kept = bytes(first.content)
    first.write({"step": 4, "loss": 2.0})
    first.close()
    for left in (None, b"", b'{"step": 6, "lo'):
        path.unlink() if left is None else path.write_bytes(left)
        resumed = MetricsFile(path, kept)
        resumed.write({"step": 4, "loss": 0.25})
        resumed.close()
        assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4]
        assert json.loads(path.read_text().splitlines()[2])["loss"] == 1.0 / 3


def test_a_fresh_run_starts_an_empty_metrics_file_and_follows_no_link(tmp_path: Path) -> None:
    path, precious = tmp_path / "metrics.jsonl", tmp_path / "precious"
    precious.write_text("keep")
    path.symlink_to(precious)
    MetricsFile(path).close()
    assert path.read_text() == ""
    assert precious.read_text() == "keep"


@pytest.mark.parametrize("text", ["{", "[1]", "{}", '{"step": "1"}', "[" * 100_000, "\xff"])
def test_c3_what_is_no_record_is_an_input_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text + "\n", encoding="latin-1")
    with pytest.raises(InputError, match="is damaged"):
        read_metrics(tmp_path / "metrics.jsonl")
