"""An artifact of parts: the old one with its parts stays whole until the new one with its parts is complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cmgems_cli import staging
from cmgems_cli.artifacts import Manifest, read_manifest
from cmgems_cli.errors import CmgemsError
from cmgems_cli.outputs import Output
from tests.kills import Kill, Killed

NAMES = ("a", "b")
OTHERS = ("notes.txt", "runs/c/mine", "runs/mine/file")


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Kill:
    return Kill(monkeypatch.setattr)


def part(out: Path, k: int) -> None:
    output = Output(out, "scores", params={"k": k}, inputs={})
    with output.claim(overwrite=True) as claim:
        if claim.done is None:
            (claim.folder / "scores.csv").write_text(f"{out.name} {k}")
            claim.finish(stats={}, files=["scores.csv"], environment={})


def evaluate(out: Path, k: int) -> Manifest:
    """Make an artifact of two parts, as `evaluate --overwrite` does."""
    output = Output(out, "scores", params={"k": k}, inputs={}, parts="runs")
    done = output.finished(overwrite=True)
    if done is not None:
        return done
    with output.at_work():
        for name in NAMES:
            part(output.building() / "runs" / name, k)
    assert output.alone()
    with output.claim(overwrite=True, resume=False, wait=True) as claim:
        if claim.done is not None:
            return claim.done
        runs = output.building() / "runs"
        inputs = {f"runs/{name}": read_manifest(runs / name, verify=True).digest for name in NAMES}
        (claim.folder / "scores.csv").write_text(f"all {k}")
        return claim.finish(stats={}, files=["scores.csv"], environment={}, inputs=inputs)


def made_with(out: Path) -> int | None:
    """Return `k` of an artifact that is whole with its parts; None without one."""
    try:
        manifest = read_manifest(out, "scores", verify=True)
        found = {name: read_manifest(out / name, "scores", verify=True).digest for name in manifest.inputs}
    except CmgemsError:
        return None
    return int(manifest.params["k"]) if found == manifest.inputs else None


def files_in(folder: Path) -> Iterator[str]:
    return (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


EVERY = sorted(
    [
        *OTHERS,
        *(f"{at}{name}" for at in ("", "runs/a/", "runs/b/") for name in ("manifest.json", "scores.csv")),
    ]
)


@pytest.mark.parametrize("way", ["exchange", "rename", "in place", "mount"])
def test_a_kill_at_any_file_operation_leaves_the_old_or_the_new_with_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: Kill, way: str
) -> None:
    if way == "rename":
        monkeypatch.setattr(staging, "exchange", lambda one, other: False)
    point = 0
    while True:
        for after in (False, True):
            folder = tmp_path / f"{point}-{after}"
            out = folder / "scores"
            kill.arm(-1)
            evaluate(out, 5)
            for name in OTHERS:
                (out / name).parent.mkdir(exist_ok=True)
                (out / name).write_text("mine")
            if way == "in place":
                monkeypatch.chdir(out)
            if way == "mount":
                monkeypatch.setattr(os.path, "ismount", lambda path, mount=out: Path(path) == mount)
            kill.arm(point, after=after)
            with suppress(Killed):
                evaluate(out, 6)
            killed_at = kill.done
            kill.arm(-1)
            if way == "exchange":
                assert made_with(out) in (5, 6), f"neither the old nor the new is whole: {point} {after}"
            evaluate(out, 6)
            assert made_with(out) == 6, f"{point} {after}"
            assert sorted(files_in(out)) == EVERY, f"{point} {after}"
            assert all((out / name).read_text() == "mine" for name in OTHERS)
            assert [path.name for path in folder.iterdir()] == ["scores"], f"{point} {after}"
            monkeypatch.chdir(tmp_path)
            shutil.rmtree(folder)
        if killed_at <= point:
            break
        point += 1
    assert point > 30


def test_parts_made_aside_outlive_a_failure_and_another_command(tmp_path: Path) -> None:
    out = tmp_path / "scores"
    evaluate(out, 5)
    output = Output(out, "scores", params={"k": 6}, inputs={}, parts="runs")
    with output.at_work():
        part(output.building() / "runs" / "a", 6)
        assert not output.alone()
    with pytest.raises(ZeroDivisionError), output.claim(overwrite=True, resume=False, wait=True):
        raise ZeroDivisionError
    assert Output(out, "scores", params={"k": 5}, inputs={}, parts="runs").finished() is not None
    assert read_manifest(output.building() / "runs" / "a").params == {"k": 6}
    assert made_with(out) == 5


def test_parts_made_aside_become_those_of_the_first_artifact_if_the_old_one_is_gone(tmp_path: Path) -> None:
    out = tmp_path / "scores"
    evaluate(out, 5)
    output = Output(out, "scores", params={"k": 6}, inputs={}, parts="runs")
    with output.at_work():
        part(output.building() / "runs" / "a", 6)
    shutil.rmtree(out)
    with output.at_work():
        assert output.building() == out
    assert read_manifest(out / "runs" / "a", verify=True).params == {"k": 6}
    assert [path.name for path in tmp_path.iterdir()] == ["scores"]
