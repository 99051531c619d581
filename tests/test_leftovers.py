"""`cmgems clean`: it removes what stopped commands left and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cmgems_cli.files import output_lock
from cmgems_cli.leftovers import DOWNLOAD, RUN, WORK, in_use, leftovers
from cmgems_cli.outputs import Output
from cmgems_cli.staging import MARKER, Staging, lock_of, write_marker
from tests.command_line import CommandLine


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A workspace with one leftover of each kind beside what is to be kept."""
    staging = Staging.create(tmp_path / "corpus", "corpus", {}, {})
    (staging.folder / "bases.npy").write_bytes(b"x" * 100)
    run = tmp_path / "models" / "logo"
    (run / "checkpoints" / "step_000001").mkdir(parents=True)
    write_marker(run, "model", {}, {})
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / ".hg38.fa.gz.cmgems-partial").write_bytes(b"x" * 10)
    (tmp_path / "downloads" / ".notes.partial").write_bytes(b"somebody else's")
    (tmp_path / "downloads" / "hg38.fa.gz").write_bytes(b"kept")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "unfinished.json").write_text("{}")
    (tmp_path / "elsewhere").symlink_to(tmp_path.parent)
    return tmp_path


def kept(work: Path) -> set[str]:
    return {str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()}


def test_what_is_found(work: Path) -> None:
    found = leftovers(work)
    assert {one.what for one in found} == {DOWNLOAD, RUN, WORK}
    assert {one.out for one in found} == {
        work / "corpus",
        work / "models" / "logo",
        work / "downloads" / "hg38.fa.gz",
    }


def test_nothing_is_removed_unless_asked_for(cmgems: CommandLine, work: Path) -> None:
    before = kept(work)
    said = cmgems("clean", work)
    assert kept(work) == before
    assert "nothing was removed; add --delete" in said.stderr
    assert "models/logo" in said.stdout


def test_finished_and_other_peoples_files_stay(cmgems: CommandLine, work: Path) -> None:
    result = cmgems("clean", work, "--delete", "--json").json
    assert kept(work) == {"downloads/hg38.fa.gz", "downloads/.notes.partial", "own/unfinished.json"}
    assert result["removed_bytes"] == result["bytes"] > 110
    assert cmgems("clean", work).stderr.endswith("holds nothing that a stopped command left\n")


def test_what_a_command_is_writing_stays(cmgems: CommandLine, work: Path) -> None:
    with output_lock(lock_of(work / "corpus"), work / "corpus"):
        said = cmgems("clean", work, "--delete")
    assert f"stays: a command is writing {work / 'corpus'}" in said.stderr
    assert not (work / "models" / "logo").exists()
    assert any(name.endswith("bases.npy") for name in kept(work))


def test_an_evaluation_stays_while_its_runs_are_written(cmgems: CommandLine, tmp_path: Path) -> None:
    """Of each run there is a lock, but between two of them none of the output itself."""
    out = tmp_path / "scores" / "logo-gue"
    output = Output(out, "scores", params={}, inputs={}, parts="runs")
    with output.at_work(), output.at_work():
        said = cmgems("clean", tmp_path, "--delete", "--json")
        assert f"{out} stays: a command is writing {out}" in said.stderr
        assert said.json["leftovers"] == []
        assert (out / MARKER).is_file()
    assert cmgems("clean", tmp_path, "--delete", "--json").json["leftovers"][0]["removed"]
    assert not out.exists()


def test_a_listing_takes_no_lock_that_a_command_may_want(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be refused, and a workspace that cannot be written could not be listed."""
    locked: list[Path] = []

    @contextmanager
    def recorded(path: Path, out: Path) -> Iterator[None]:
        locked.append(path)
        yield

    monkeypatch.setattr("cmgems_cli.leftovers.output_lock", recorded)
    assert not any(in_use(one) for one in leftovers(work))
    assert locked
    assert all(path.is_dir() for path in locked)


def test_a_folder_that_does_not_exist_is_refused(cmgems: CommandLine, tmp_path: Path) -> None:
    assert "is not a folder" in cmgems("clean", tmp_path / "none", code=3).error


def test_b1_finished_runs_and_other_peoples_files_in_an_unfinished_run_stay(
    cmgems: CommandLine, tmp_path: Path
) -> None:
    out, alone = tmp_path / "scores" / "evaluation", tmp_path / "models" / "run"
    for folder, kind in ((out, "scores"), (out / "runs" / "b", "scores"), (alone, "model")):
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "checkpoints" / "state.json").write_text("x")
        (folder / "metrics.jsonl").write_text("x")
        # A finished trial is an artifact of its own, and part of the run.
        (folder / "checkpoints" / "trial_000").mkdir()
        (folder / "checkpoints" / "trial_000" / "manifest.json").write_text("{}")
        (folder / "my-notes.txt").write_text("mine")
        write_marker(folder, kind, {}, {})
    done = Output(out / "runs" / "a", "scores", params={}, inputs={})
    with done.claim() as claim:
        (claim.folder / "scores.csv").write_text("x")
        claim.finish(stats={}, files=["scores.csv"], environment={})
    cmgems("clean", tmp_path, "--delete")
    mine = {
        "scores/evaluation/my-notes.txt",
        "scores/evaluation/runs/b/my-notes.txt",
        "models/run/my-notes.txt",
    }
    finished = {f"scores/evaluation/runs/a/{name}" for name in ("manifest.json", "scores.csv")}
    # Of the evaluation itself there is what the same command resumes it by.
    begun = {
        f"scores/evaluation/{name}"
        for name in (MARKER, "metrics.jsonl", "checkpoints/state.json", "checkpoints/trial_000/manifest.json")
    }
    assert kept(tmp_path) == mine | finished | begun
    assert cmgems("clean", tmp_path, "--json").json["leftovers"] == []


def test_b1_an_evaluation_without_a_finished_run_is_removed_with_its_runs(
    cmgems: CommandLine, tmp_path: Path
) -> None:
    out = tmp_path / "scores" / "evaluation"
    (out / "runs" / "a" / "checkpoints").mkdir(parents=True)
    for folder in (out, out / "runs" / "a"):
        write_marker(folder, "scores", {}, {})
    cmgems("clean", tmp_path, "--delete")
    assert not out.exists()
