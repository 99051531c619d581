"""The owner of an output: every state, every kill, traps with links, other people's files, two commands at once."""

import errno
import importlib.util
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmgems_cli import files, staging
from cmgems_cli.artifacts import Manifest, read_manifest
from cmgems_cli.errors import InputError, OverwriteError
from cmgems_cli.output_state import Holds, check_place
from cmgems_cli.outputs import Claim, Output
from tests.kills import Kill, Killed

needs_locks = pytest.mark.skipif(importlib.util.find_spec("fcntl") is None, reason="needs fcntl's locks")

INPUTS = {"corpus": "ff" * 32}


def output(path: Path, k: int = 6, *, kind: str = "pmi", **more: Any) -> Output:
    return Output(path, kind, params={"k": k}, **{"inputs": INPUTS, **more})


def write(claim: Claim, content: str = "abc", name: str = "kmers.csv") -> Manifest:
    if claim.done is not None:
        return claim.done
    (claim.folder / name).parent.mkdir(exist_ok=True)
    (claim.folder / name).write_text(content)
    return claim.finish(stats={"ranked": 1}, files=[name], environment={})


def build(out: Path, k: int = 6, *, content: str = "abc", overwrite: bool = False, **more: Any) -> Manifest:
    with output(out, k, **more).claim(overwrite=overwrite) as claim:
        return write(claim, content)


def fail(out: Path) -> None:
    with output(out, 5).claim(overwrite=True) as claim:
        (claim.folder / "kmers.csv").write_text("half")
        raise ZeroDivisionError


def train(out: Path, k: int = 6, *, overwrite: bool = False, resume: bool = True, steps: int = 3) -> Manifest:
    """A run of three steps with a checkpoint after each, as `Run` uses an output."""
    with run(out, k).claim(overwrite=overwrite, resume=resume) as claim:
        if claim.done is not None:
            return claim.done
        checkpoint = claim.folder / "checkpoints" / "step"
        done = int(checkpoint.read_text()) if checkpoint.exists() else 0
        checkpoint.parent.mkdir(exist_ok=True)
        for step in range(done + 1, steps + 1):
            files.write_whole(checkpoint, str(step))
        if steps < 3:
            raise KeyboardInterrupt
        return write(claim, f"resumed after {done}", "weights")


def run(out: Path, k: int = 6) -> Output:
    return output(out, k, kind="model", work=("checkpoints",))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------- states


def test_absent_and_empty_are_free_and_the_artifact_appears_when_it_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "pmi"
    assert output(out).state().holds is Holds.NOTHING
    with output(out).claim() as claim:
        (claim.folder / "kmers.csv").write_text("abc")
        assert not out.exists()
        made = write(claim)
        assert made.fresh
    assert read_manifest(out, "pmi", verify=True) == made
    assert names(out.parent) == ["pmi"]
    (tmp_path / "empty").mkdir()
    assert output(tmp_path / "empty").state().holds is Holds.NOTHING
    assert build(tmp_path / "empty").digest == made.digest


def test_the_same_again_is_done_already(tmp_path: Path) -> None:
    out = tmp_path / "pmi"
    made = build(out)
    before = (out / "manifest.json").stat().st_mtime_ns
    assert output(out).state().holds is Holds.SAME
    again = build(out, content="never written")
    assert (again.digest, again.fresh) == (made.digest, False)
    assert (out / "manifest.json").stat().st_mtime_ns == before
    assert build(out, content="asked for", overwrite=True).fresh
    assert (out / "kmers.csv").read_text() == "asked for"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"k": 5}, "was made with k = 6, this command has 5"),
        (
            {"inputs": {"corpus": "00" * 32}},
            "was made from corpus ffffffffffff, this command has corpus 000000000000",
        ),
        ({"inputs": {}}, "was made from corpus ffffffffffff, this command has no corpus"),
        ({"inputs": {**INPUTS, "counts": "11"}}, "was made from no counts, this command has counts 11"),
    ],
)
def test_something_else_is_refused_with_what_differs(
    tmp_path: Path, other: dict[str, Any], words: str
) -> None:
    out = tmp_path / "pmi"
    build(out)
    assert output(out, **other).state().holds is Holds.OTHER
    with pytest.raises(OverwriteError, match=rf"{out} {words}; add `overwrite=True` to replace it"):
        build(out, **other)
    with pytest.raises(OverwriteError, match=words):
        output(out, **other).finished()
    assert build(out, **other, content="new", overwrite=True).fresh
    assert (out / "kmers.csv").read_text() == "new"
    assert names(tmp_path) == ["pmi"]


def test_inputs_are_read_only_if_the_parameters_are_the_same(tmp_path: Path) -> None:
    read: list[int] = []

    def inputs() -> dict[str, str]:
        read.append(1)
        return INPUTS

    build(tmp_path / "pmi")
    assert output(tmp_path / "pmi", 5, inputs=inputs).state().holds is Holds.OTHER
    assert not read
    assert output(tmp_path / "pmi", inputs=inputs).state().holds is Holds.SAME
    assert read == [1]


def test_the_machine_makes_no_difference_and_inputs_known_later_are_not_compared(tmp_path: Path) -> None:
    build(tmp_path / "pmi", inputs={**INPUTS, "runs/a": "1"})
    other = Output(
        tmp_path / "pmi",
        "pmi",
        params={"k": 6, "jobs": 2},
        inputs=INPUTS,
        machine={"jobs"},
        parts="runs",
    )
    assert other.state().holds is Holds.SAME


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_that_is_not_the_same_kind_is_ever_replaced(tmp_path: Path, overwrite: bool) -> None:
    precious, file = tmp_path / "thesis", tmp_path / "file"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years")
    file.write_text("x")
    build(tmp_path / "corpus", kind="corpus")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "model", steps=1)
    before = names(tmp_path)
    for path, words in (
        (precious, "exists and is not a pmi artifact; choose another `out` or remove it yourself"),
        (file, "is a file"),
        (tmp_path / "corpus", "holds a corpus artifact, not a pmi"),
        (tmp_path / "model", "holds an unfinished model artifact, not a pmi"),
    ):
        assert output(path).state().holds is Holds.FOREIGN
        with pytest.raises(OverwriteError, match=words):
            check_place(path, "pmi")
        with pytest.raises(OverwriteError, match=words):
            build(path, overwrite=overwrite)
    assert (precious / "thesis.tex").read_text() == "years"
    assert names(tmp_path) == before


@pytest.mark.parametrize("damage", ["content", "size", "missing", "schema"])
def test_a_damaged_artifact_is_not_taken_for_the_same_and_can_be_replaced(
    tmp_path: Path, damage: str
) -> None:
    out = tmp_path / "pmi"
    build(out)
    if damage == "schema":
        path = out / "manifest.json"
        path.write_text(path.read_text().replace('"schema": 1', '"schema": 0'))
    elif damage == "missing":
        (out / "kmers.csv").unlink()
    else:
        (out / "kmers.csv").write_text("abd" if damage == "content" else "abcd")
    assert output(out).state().holds is Holds.OTHER
    with pytest.raises(OverwriteError, match="is damaged or of another version"):
        build(out)
    build(out, overwrite=True)
    read_manifest(out, "pmi", verify=True)  # raises where content differs
    assert names(out) == ["kmers.csv", "manifest.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"kind": ["pmi"]}', "[" * 100_000])
def test_without_a_readable_manifest_nothing_is_replaced(tmp_path: Path, text: str) -> None:
    build(tmp_path / "pmi")
    (tmp_path / "pmi" / "manifest.json").write_text(text)
    with pytest.raises(OverwriteError, match=r"cannot be read.* or remove it yourself"):
        build(tmp_path / "pmi", overwrite=True)
    assert (tmp_path / "pmi" / "kmers.csv").exists()


def test_a_failure_keeps_the_old_artifact_and_leaves_nothing(tmp_path: Path) -> None:
    before = build(tmp_path / "pmi")
    for path in (tmp_path / "pmi", tmp_path / "new"):
        with pytest.raises(ZeroDivisionError):
            fail(path)
        with pytest.raises(RuntimeError, match="without a manifest"), output(path, 5).claim(overwrite=True):
            pass
    assert read_manifest(tmp_path / "pmi", "pmi", verify=True) == before
    assert names(tmp_path) == ["pmi"]


# ---------------------------------------------------------------------- resumable runs


def test_a_stopped_run_resumes_where_it_stopped(tmp_path: Path) -> None:
    out = tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        train(out, steps=2)
    assert names(out) == ["checkpoints", "unfinished.json"]
    assert run(out).state().holds is Holds.UNFINISHED
    with pytest.raises(InputError, match="unfinished"):
        read_manifest(out)
    assert run(out, 5).state().holds is Holds.OTHER_UNFINISHED
    for overwrite in (False, True):
        with pytest.raises(
            OverwriteError, match="unfinished run that was made with k = 6, this command has 5"
        ):
            train(out, 5, overwrite=overwrite)
    train(out)
    assert (out / "weights").read_text() == "resumed after 2"
    assert names(out) == ["manifest.json", "weights"]
    assert names(tmp_path) == ["model"]


def test_no_resume_starts_again_with_any_parameters(tmp_path: Path) -> None:
    for k in (6, 5):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "model", k, steps=2, resume=False)
    train(tmp_path / "model", 5, resume=False)
    assert (tmp_path / "model" / "weights").read_text() == "resumed after 0"


def test_a_run_that_replaces_an_artifact_works_aside_and_resumes_there(tmp_path: Path) -> None:
    out = tmp_path / "model"
    old = train(out)
    with pytest.raises(KeyboardInterrupt):
        train(out, 5, overwrite=True, steps=2)
    assert read_manifest(out, "model", verify=True) == old
    assert run(out).state().holds is Holds.SAME
    assert len(names(tmp_path)) == 2
    # Another run does not throw that one away, unless it is asked to.
    with pytest.raises(
        OverwriteError, match=r"to be replaced by a run.* made with k = 5, this command has 7"
    ):
        train(out, 7, overwrite=True)
    train(out, 5, overwrite=True)
    assert (out / "weights").read_text() == "resumed after 2"
    with pytest.raises(KeyboardInterrupt):
        train(out, 7, overwrite=True, steps=1)
    train(out, 8, overwrite=True, resume=False)
    assert (out / "weights").read_text() == "resumed after 0"
    assert names(tmp_path) == ["model"]


def test_another_process_of_the_run_finds_its_folder(tmp_path: Path) -> None:
    with run(tmp_path / "model").claim() as claim:
        assert run(tmp_path / "model").work_folder() == claim.folder == tmp_path / "model"
        write(claim)
    with run(tmp_path / "model", 5).claim(overwrite=True) as claim:
        assert run(tmp_path / "model", 5).work_folder() == claim.folder != tmp_path / "model"
        write(claim)


def test_r2_what_a_kill_left_in_a_finished_run_is_removed_by_the_same_command(tmp_path: Path) -> None:
    out = tmp_path / "model"
    train(out)
    (out / "checkpoints").mkdir()
    (out / "checkpoints" / "step").write_text("3")
    (out / ".config.json.0123456789abcdef.tmp").write_text("{")
    staging.write_marker(out, "model", {"k": 6}, INPUTS)
    assert run(out).finished()
    assert names(out) == ["manifest.json", "weights"]


# ---------------------------------------------------------------------- other people's files


@pytest.mark.parametrize("way", ["exchange", "rename", "in place"])
def test_what_else_is_in_the_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    out = tmp_path / "pmi"
    with output(out).claim() as claim:
        (claim.folder / "more").mkdir()
        for name in ("more/rows.csv", "kmers.csv"):
            (claim.folder / name).write_text("old")
        claim.finish(stats={}, files=["more/rows.csv", "kmers.csv"], environment={})
    build(out / "corpus", kind="corpus")
    (out / "genome.fa").write_text(">chr1")
    (out / "more" / "mine.txt").write_text("mine")
    (out / "notes.csv").write_text("in the way")
    (out / "link").symlink_to(tmp_path)
    out.chmod(0o750)
    if way == "rename":
        monkeypatch.setattr(staging, "exchange", lambda one, other: False)
    elif way == "in place":
        monkeypatch.chdir(out)
    with output(out, 5).claim(overwrite=True) as claim:
        write(claim, "new", "notes.csv")
    assert (out / "genome.fa").read_text() == ">chr1"
    assert (out / "more" / "mine.txt").read_text() == "mine"
    assert (out / "link").is_symlink()
    read_manifest(out / "corpus", "corpus", verify=True)  # raises where content differs
    assert list(read_manifest(out, "pmi", verify=True).files) == ["notes.csv"]
    (kept,) = out.glob("notes.csv.*.kept")
    assert kept.read_text() == "in the way"
    assert names(out / "more") == ["mine.txt"]
    assert not (out / "kmers.csv").exists()
    assert out.stat().st_mode & 0o777 == 0o750
    assert names(tmp_path) == ["pmi"]


def test_l4_nothing_is_deleted_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, elsewhere = tmp_path / "pmi", tmp_path / "elsewhere"
    for here in (tmp_path, out):
        with output(out).claim(overwrite=True) as claim:
            (claim.folder / "sub").mkdir()
            (claim.folder / "sub" / "keep.txt").write_text("old")
            claim.finish(stats={}, files=["sub/keep.txt"], environment={})
        if elsewhere.exists():
            shutil.rmtree(elsewhere)
        (out / "sub").rename(elsewhere)
        (out / "sub").symlink_to(elsewhere)
        monkeypatch.chdir(here)
        build(out, overwrite=True)
        assert (elsewhere / "keep.txt").read_text() == "old"
        (out / "sub").unlink()
    # Nor is anything written through one.
    (out / "sub").symlink_to(elsewhere)
    with (
        pytest.raises(OverwriteError, match="is a link out of"),
        output(out, 5).claim(overwrite=True) as claim,
    ):
        write(claim, "new", "sub/keep.txt")
    assert (elsewhere / "keep.txt").read_text() == "old"


def test_l4_an_unfinished_run_is_cleared_without_following_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "keep").write_text("keep")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "model", steps=1)
    shutil.rmtree(tmp_path / "model" / "checkpoints")
    (tmp_path / "model" / "checkpoints").symlink_to(precious)
    train(tmp_path / "model", resume=False)
    assert names(precious) == ["keep"]


@pytest.mark.parametrize(
    "name", [".pmi.partial", ".pmi.staging", ".pmi.0123456789abcdef.staging", ".pmi.lock"]
)
@pytest.mark.parametrize("trap", ["link", "folder", "file"])
def test_l1_prepared_names_are_neither_followed_nor_emptied(tmp_path: Path, name: str, trap: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "keep").write_text("keep")
    if trap == "link":
        (tmp_path / name).symlink_to(precious)
    elif trap == "folder":
        shutil.copytree(precious, tmp_path / name)
    else:
        (tmp_path / name).write_text("keep")
    if (name, trap) == (".pmi.lock", "link"):
        with pytest.raises(OverwriteError, match="is not a file of cmgems"):
            build(tmp_path / "pmi")
    else:
        for k in (6, 5):
            build(tmp_path / "pmi", k, overwrite=True)
        read_manifest(tmp_path / "pmi", verify=True)  # raises where content differs
        assert not (tmp_path / "pmi").is_symlink()
    assert names(precious) == ["keep"]
    assert (tmp_path / name).exists()
    assert trap != "folder" or names(tmp_path / name) == ["keep"]


def test_a_folder_of_another_user_is_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = staging.Staging.create(tmp_path / "pmi", "pmi", {"k": 6}, {})
    assert [found.path for found in staging.stagings(tmp_path / "pmi")] == [left.path]
    monkeypatch.setattr(files, "_user", lambda found: found.st_uid + 1)
    assert staging.stagings(tmp_path / "pmi") == []


# ---------------------------------------------------------------------- links, the current folder, mounts


def test_a_link_is_written_through_and_the_current_folder_stays_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, link, dangling = tmp_path / "disk" / "real", tmp_path / "link", tmp_path / "dangling"
    real.mkdir(parents=True)
    link.symlink_to(real)
    dangling.symlink_to(tmp_path / "disk" / "other")
    for out in (link, link, dangling):
        build(out, overwrite=True)
        assert out.is_symlink()
        read_manifest(out, "pmi", verify=True)  # raises where content differs
    assert names(tmp_path / "disk") == ["other", "real"]
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for content in ("one", "two"):
        build(Path(), content=content, overwrite=True)
        read_manifest(here, "pmi", verify=True)  # raises where content differs
        assert (Path.cwd() / "kmers.csv").read_text() == content
    assert names(tmp_path) == ["dangling", "disk", "here", "link"]


def test_a_mount_is_staged_and_locked_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "mount"
    out.mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == out)
    identity = out.stat().st_ino
    for k in (6, 5):
        with output(out, k).claim(overwrite=True) as claim:
            assert claim.folder.parent.parent == out
            assert names(tmp_path) == ["mount"]
            with pytest.raises(OverwriteError, match="another command"), output(out, k).claim(overwrite=True):
                pass
            write(claim, str(k))
    assert names(out) == ["kmers.csv", "manifest.json"]
    assert out.stat().st_ino == identity


def test_a_long_name_has_room_for_its_hidden_names(tmp_path: Path) -> None:
    out = tmp_path / (250 * "x")
    for k in (6, 5):
        build(out, k, overwrite=True)
    assert names(tmp_path) == [out.name]


# ---------------------------------------------------------------------- locks


@needs_locks
@pytest.mark.parametrize("overwrite", [False, True])
def test_two_commands_never_write_to_one_place(tmp_path: Path, overwrite: bool) -> None:
    out = tmp_path / "pmi"
    if overwrite:
        build(out, 5)
    with output(out).claim(overwrite=overwrite) as claim:
        told = pytest.raises(OverwriteError, match=rf"another command is writing to {out}; wait")
        with told, output(out).claim(overwrite=overwrite):
            pass
        write(claim)
    read_manifest(out, "pmi", verify=True)  # raises where content differs
    assert names(tmp_path) == ["pmi"]


@needs_locks
def test_a_lock_whose_file_was_removed_meanwhile_is_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    lock, calls = fcntl.flock, []

    def late(opened: int, how: int) -> None:
        calls.append(1)
        if len(calls) == 1:
            (tmp_path / ".pmi.lock").unlink()
        lock(opened, how)

    monkeypatch.setattr(fcntl, "flock", late)
    build(tmp_path / "pmi")
    assert len(calls) == 2
    assert names(tmp_path) == ["pmi"]


@needs_locks
def test_a_file_system_without_locks_excludes_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def none(opened: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    build(tmp_path / "pmi")
    read_manifest(tmp_path / "pmi", "pmi", verify=True)  # raises where content differs


# ---------------------------------------------------------------------- kills


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Kill:
    return Kill(monkeypatch.setattr)


def old_artifact(out: Path) -> None:
    with output(out, 4, kind="model", work=("checkpoints",)).claim() as claim:
        (claim.folder / "sub").mkdir()
        for name in ("weights", "sub/rows", "sub/more"):
            (claim.folder / name).write_text("old")
        claim.finish(stats={}, files=["weights", "sub/rows", "sub/more"], environment={})
    (out / "notes.txt").write_text("mine")
    (out / "mine").mkdir()
    (out / "mine" / "file").write_text("mine")
    (out / "sub" / "mine").write_text("mine")


def digest_at(out: Path) -> str | None:
    try:
        return read_manifest(out, "model", verify=True).digest
    except InputError:
        return None


def as_stage(out: Path, k: int) -> Manifest:
    return build(out, k, content="resumed after 0", kind="model", overwrite=True)


def as_run(out: Path, k: int) -> Manifest:
    return train(out, k, overwrite=True)


@pytest.mark.parametrize("way", ["exchange", "rename", "in place"])
@pytest.mark.parametrize("work", [as_stage, as_run])
@pytest.mark.parametrize("existing", [True, False], ids=["replaced", "first"])
def test_l2_a_kill_at_any_file_operation_loses_nothing_and_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kill: Kill,
    way: str,
    work: Callable[[Path, int], Manifest],
    existing: bool,
) -> None:
    if way == "rename":
        monkeypatch.setattr(staging, "exchange", lambda one, other: False)
    point = 0
    while True:
        for after in (False, True):
            folder = tmp_path / f"{point}-{after}"
            out = folder / "model"
            kill.arm(-1)
            out.mkdir(parents=True)
            if existing:
                old_artifact(out)
            if way == "in place":
                monkeypatch.chdir(out)
            before = digest_at(out)
            kill.arm(point, after=after)
            try:
                made = work(out, 6)
            except Killed:
                made = None
            killed_at = kill.done
            kill.arm(-1)
            if existing and way == "exchange":
                assert digest_at(out) is not None, f"neither the old nor the new is there: {point} {after}"
            if made is None:
                made = work(out, 6)
            assert digest_at(out) == made.digest != before
            if existing:
                for name in ("notes.txt", "mine/file", "sub/mine"):
                    assert (out / name).read_text() == "mine", f"{name}: {point} {after}"
                assert names(out / "sub") == ["mine"]
            mine = ["mine", "notes.txt", "sub"] if existing else []
            file = "weights" if work is as_run else "kmers.csv"
            assert names(out) == sorted(["manifest.json", file, *mine]), f"{point} {after}"
            assert names(folder) == ["model"], f"{point} {after}"
            monkeypatch.chdir(tmp_path)
            shutil.rmtree(folder)
        if killed_at <= point:
            break
        point += 1
    assert point > 10


def test_l2_a_finished_successor_is_taken_up_and_not_made_again(tmp_path: Path, kill: Kill) -> None:
    out, made = tmp_path / "pmi", []
    build(out, 5)
    kill_at = Killed()

    def finish_and_die(*arguments: Any, **more: Any) -> None:
        raise kill_at

    def command(overwrite: bool) -> Manifest:
        with output(out).claim(overwrite=overwrite) as claim:
            made.append(claim.done is None)
            return write(claim)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmgems_cli.outputs.publish", finish_and_die)
        with pytest.raises(Killed):
            command(True)
    assert read_manifest(out).params == {"k": 5}
    assert command(True).params == {"k": 6}
    assert made == [True, False]
    assert names(tmp_path) == ["pmi"]


def test_l2_a_damaged_successor_is_made_again(tmp_path: Path) -> None:
    out = tmp_path / "pmi"
    build(out, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cmgems_cli.outputs.publish", lambda *arguments, **more: None)
        build(out, 6, overwrite=True)
    (left,) = staging.stagings(out)
    (left.folder / "kmers.csv").write_text("abd")
    build(out, 6, overwrite=True)
    assert (out / "kmers.csv").read_text() == "abc"
    assert names(tmp_path) == ["pmi"]


def test_r3_a_killed_commands_staging_is_removed_by_the_next_command_though_it_is_refused(
    tmp_path: Path,
) -> None:
    out = tmp_path / "pmi"
    build(out, 5)
    left = staging.Staging.create(out, "pmi", {"k": 6}, {})
    (left.folder / "kmers.csv").write_text("half")
    with pytest.raises(OverwriteError, match="was made with k = 5"):
        output(out).finished()
    assert names(tmp_path) == ["pmi"]


def test_r3_an_unfinished_run_is_never_removed_by_a_command_of_another_kind(tmp_path: Path) -> None:
    out = tmp_path / "model"
    train(out)
    with pytest.raises(KeyboardInterrupt):
        train(out, 5, overwrite=True, steps=2)
    with pytest.raises(OverwriteError, match="holds a model artifact, not a pmi"):
        build(out, overwrite=True)
    train(out, 5, overwrite=True)
    assert (out / "weights").read_text() == "resumed after 2"


def test_l3_the_files_are_on_disk_before_the_manifest_and_the_checkpoints_go_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename, unlink = os.fsync, os.replace, os.unlink

    def synced(opened: int) -> None:
        events.append(f"fsync {Path(f'/proc/self/fd/{opened}').readlink()}")
        fsync(opened)

    def replaced(source: Any, target: Any, **more: Any) -> None:
        events.append(f"rename {target}")
        rename(source, target, **more)

    def unlinked(path: Any, **more: Any) -> None:
        events.append(f"unlink {Path(path).name}")
        unlink(path, **more)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    for name, whole in (("fsync", synced), ("replace", replaced), ("unlink", unlinked)):
        monkeypatch.setattr(os, name, whole)
    out = tmp_path / "model"
    train(out)
    manifest = events.index(f"rename {out / 'manifest.json'}")
    assert events.index(f"fsync {out / 'weights'}") < manifest
    assert max(i for i, event in enumerate(events) if event == f"fsync {out}") > manifest
    assert events.index("unlink step") > events.index(f"fsync {out}", manifest)


def test_a_marker_names_the_run(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "model", steps=1)
    marker = json.loads((tmp_path / "model" / "unfinished.json").read_text())
    assert (marker["kind"], marker["params"], marker["inputs"]) == ("model", {"k": 6}, INPUTS)
