"""What the system refuses, a full disk above all: one line that says what to do, and nothing half-written."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from cmgems_cli.errors import as_user_error
from cmgems_cli.files import output_lock
from tests.command_line import CommandLine, environment

FASTA = str(files("cmgems_cli") / "data" / "hg38_chr16_186964_397118.fa.gz")
SHORT = ["--model", "tiny", "--steps", "4", "--global-batch", "4", "--max-batch-tokens", "1024"]
SHORT += ["--eval-every", "2", "--eval-sequences", "4"]

RoomFor = Callable[[int], AbstractContextManager[None]]


def refused(cmgems: CommandLine, *arguments: str | Path) -> str:
    """Run a command that the system refuses something; return its last line, the only one of an error."""
    *before, last = cmgems(*arguments, code=1).stderr.splitlines()
    assert last.startswith("error: ")
    assert not any(line.startswith(("error", "Traceback")) for line in before)
    return last


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path / "work"))
    return tmp_path / "work"


def test_every_stage_says_that_there_is_no_room_and_runs_when_there_is(
    cmgems: CommandLine, workspace: Path, room_for: RoomFor
) -> None:
    stages: list[list[str | Path]] = [
        ["prepare-genome", FASTA],
        ["build-pmi"],
        ["pretrain", "--strategy", "random", *SHORT],
        ["show-masks", "--html", workspace / "masks.html"],
        [
            "embed",
            workspace / "models" / "tiny-random",
            FASTA,
            "--window",
            "60",
            "--out",
            workspace / "e.npy",
        ],
    ]
    for stage in stages:
        finished = set(workspace.rglob("manifest.json"))
        with room_for(10_000):
            said = refused(cmgems, *stage)
        assert os.strerror(errno.EFBIG) in said
        assert str(workspace) in said  # which file or folder it was
        assert "free some space" in said
        assert set(workspace.rglob("manifest.json")) == finished
        cmgems(*stage, "--quiet")
    assert np.load(workspace / "e.npy").shape == (3503, 64)


@pytest.mark.subprocess
def test_an_evaluations_jobs_say_it_too(cmgems: CommandLine, tmp_path: Path, room_for: RoomFor) -> None:
    for split, count in (("train", 20), ("dev", 12), ("test", 16)):
        path = tmp_path / "GUE" / "tf" / "0" / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            "sequence,label\n" + "".join(f"ACGTTGCA{row % 2 * 'CCCC'}ACG,{row % 2}\n" for row in range(count))
        )
    words = ["--data", tmp_path / "GUE", "--tasks", "tf/0", "--seeds", "42-43", "--no-kmer-linear"]
    # The jobs find their kernels compiled: to store one would be refused before anything of theirs is.
    cmgems("evaluate", "tiny", *words, "--max-steps", "1", "--jobs", "1", "--out", tmp_path / "before")
    words += ["--jobs", "2"]
    # Room for what names the evaluation as unfinished, none for what a job writes of its run.
    with room_for(1_000):
        said = refused(cmgems, "evaluate", "tiny", *words, "--out", tmp_path / "scores")
    assert said.startswith("error: tf/0, seed 4")
    assert os.strerror(errno.EFBIG) in said
    assert "free some space" in said


def test_a_path_that_cannot_be_is_named(cmgems: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = refused(cmgems, "prepare-genome", FASTA, "--out", tmp_path / "file" / "corpus")
    assert said == f"error: {tmp_path / 'file'}: File exists; needed a folder; choose another path"
    said = refused(cmgems, "prepare-genome", FASTA, "--out", tmp_path / ("x" * 300))
    assert said.endswith(": File name too long; choose another path")


@pytest.mark.subprocess
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_results_that_cannot_be_written_are_said_to_be(cmgems: CommandLine, workspace: Path) -> None:
    cmgems("prepare-genome", FASTA, "--quiet")
    with Path("/dev/full").open("w") as full:
        ran = cmgems.process("info", workspace / "corpus", stdout=full, code=1)
    assert ran.stderr.startswith("error: No space left on device; free some space")
    assert len(ran.stderr.splitlines()) == 1


def test_a_full_memory_is_said_to_be() -> None:
    for take in (lambda: np.empty(1 << 60, np.int8), lambda: torch.empty(1 << 60, dtype=torch.int8)):
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            take()
        assert str(as_user_error(caught.value)).startswith("the memory is full; lower `max_batch_tokens`")
    # What torch 2.13 says of a card, which cannot be had here.
    full = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB"
    )
    said = "CUDA out of memory. Tried to allocate 20.00 GiB; lower `max_batch_tokens`"
    assert str(as_user_error(full)).startswith(said)


@pytest.mark.parametrize(
    "fault", [RuntimeError("shapes differ"), ValueError("no"), OSError("short read"), KeyError(1)]
)
def test_a_fault_of_ours_keeps_its_traceback(fault: Exception) -> None:
    assert as_user_error(fault) is None


@pytest.mark.parametrize("given", [["--out", ""], ["--out="], ["--config", ""]])
def test_an_empty_path_is_not_the_current_folder(cmgems: CommandLine, given: list[str]) -> None:
    for command in (["build-pmi"], ["predict", "model", "x.fa"], ["embed", "model", "x.fa"], ["pretrain"]):
        said = cmgems(*command, *given, code=2).error
        assert "the path is empty; give a path, or leave the option out" in said


def test_the_error_of_a_full_disk_names_the_output(tmp_path: Path) -> None:
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with (
            pytest.raises(OSError, match="lack") as caught,
            output_lock(tmp_path / "lock", tmp_path / "out"),
        ):
            raise OSError(code, "lack")
        assert str(as_user_error(caught.value)).startswith(f"{tmp_path / 'out'}: lack; free some space")
    with pytest.raises(OSError, match="lack") as caught, output_lock(tmp_path / "lock", tmp_path / "out"):
        raise OSError(errno.EIO, "lack")
    assert caught.value.filename is None


@pytest.mark.subprocess
def test_c5_a_log_that_cannot_be_written_is_said_and_changes_nothing(cmgems: CommandLine) -> None:
    done = cmgems.process("info", "nothing-here", "--log-file", "/dev/full", code=3)
    assert done.stderr.splitlines()[0].startswith("error: nothing-here does not exist")
    assert done.stderr.splitlines()[1].startswith(
        "warning: cannot write to /dev/full (No space left on device)"
    )
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.subprocess
def test_d6_words_that_cannot_be_shown_leave_the_exit_code(cmgems: CommandLine) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cmgems_cli", "info", "nothing-here"],
            stderr=full, stdout=subprocess.PIPE, env=environment(), check=False,
        )  # fmt: skip
    assert done.returncode == 3


def test_d3_a_link_that_leads_to_itself_is_refused_before_any_work(
    cmgems: CommandLine, tmp_path: Path
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    done = cmgems("prepare-genome", FASTA, "--contigs", "all", "--out", loop, code=4)
    assert f"{loop} is a link that leads to itself; choose another" in done.stderr
    assert list(tmp_path.iterdir()) == [loop]
