"""Evaluations of which several runs are done at a time: the same files, however many, and nothing left behind."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.bench import jobs
from cmgems_cli.cli import app
from cmgems_cli.modeling.presets import bert_config

REPOSITORY = Path(__file__).resolve().parents[2]
FOUR_RUNS = ["--tasks", "tf/0,mouse/0", "--seeds", "42-43"]


@pytest.fixture(scope="module")
def gue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GUE folder with tf/0 and mouse/0, a few rows each."""
    root = tmp_path_factory.mktemp("data") / "GUE"
    draw = random.Random(7)
    for task in ("tf/0", "mouse/0"):
        (root / task).mkdir(parents=True)
        for split, count in (("train", 40), ("dev", 12), ("test", 16)):
            rows = [f"{''.join(draw.choices('ACGT', k=30))},{row % 2}" for row in range(count)]
            (root / task / f"{split}.csv").write_text("\n".join(["sequence,label", *rows]) + "\n")
    return root


def process(*arguments: str | Path) -> subprocess.Popen[str]:
    words = ["evaluate", "tiny", "--precision", "fp32", "--device", "cpu", *map(str, arguments)]
    return subprocess.Popen(
        [sys.executable, "-m", "cmgems_cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        # Started with two threads, two jobs of one each: what `alone` computes with two differs by nothing.
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )


def run(*arguments: str | Path, code: int = 0) -> str:
    running = process(*arguments)
    _, err = running.communicate(timeout=300)
    assert running.returncode == code, err
    return err


def alone(*arguments: str | Path) -> None:
    """Run one after the other, in this process, with as many threads as a job has: one."""
    words = ["evaluate", "tiny", "--precision", "fp32", "--device", "cpu", "--jobs", "1"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = CliRunner().invoke(app, [*words, *map(str, arguments)])
    finally:
        torch.set_num_threads(threads)
    assert result.exit_code == 0, result.stderr


@pytest.fixture(scope="module")
def long(gue: Path) -> list[str | Path]:
    """Options of an evaluation whose runs last long enough to be stopped in the middle."""
    return ["--data", gue, *FOUR_RUNS, "--epochs", "60"]


@pytest.fixture(scope="module")
def straight(long: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That evaluation, never stopped, one run at a time."""
    out = tmp_path_factory.mktemp("straight") / "scores"
    alone(*long, "--out", out)
    return out


def files(out: Path) -> tuple[bytes, str]:
    return (out / "scores.csv").read_bytes(), read_manifest(out, "scores", verify=True).digest


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def children(parent: int) -> list[int]:
    """Return the jobs that a process has started."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                status = (folder / "stat").read_text().rpartition(")")[2].split()
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if int(status[1]) == parent and b"spawn_main" in words:
                found.append(int(folder.name))
    return found


def runs_begun(out: Path) -> list[Path]:
    return [log for log in out.glob("runs/*/metrics.jsonl") if log.stat().st_size]


def gone(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_two_at_a_time_leave_the_same_files_as_one(gue: Path, tmp_path: Path) -> None:
    options: list[str | Path] = ["--data", gue, *FOUR_RUNS, "--max-steps", "3"]
    alone(*options, "--out", tmp_path / "one")
    err = run(*options, "--jobs", "2", "--out", tmp_path / "two")
    assert "2 runs at a time" in err
    assert all(f"{number}/4 " in err for number in (1, 2, 3, 4))
    assert files(tmp_path / "two") == files(tmp_path / "one")


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")


@needs_proc
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_evaluation_saves_every_run_and_goes_on(
    long: list[str | Path], straight: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "stopped"
    running = process(*long, "--jobs", "2", "--out", out)
    wait_for(lambda: len(runs_begun(out)) == 2)
    workers = children(running.pid)
    running.send_signal(number)
    _, err = running.communicate(timeout=120)
    assert running.returncode == code, err
    assert "every run goes on where it is by the same command" in " ".join(err.split())
    assert "Traceback" not in err
    assert len(workers) == 2
    assert all(map(gone, workers))
    assert len(list(out.glob("runs/*/checkpoints/*"))) == 2
    alone(*long, "--out", out)
    assert files(out) == files(straight)


@needs_proc
def test_a_killed_job_is_named_and_nothing_is_lost(
    long: list[str | Path], straight: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    running = process(*long, "--jobs", "2", "--out", out)
    wait_for(lambda: len(runs_begun(out)) == 2)
    first, second = children(running.pid)
    os.kill(first, signal.SIGKILL)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 1, err
    assert "ended by signal 9, as when memory runs out: try fewer --jobs" in " ".join(err.split())
    assert gone(second)
    alone(*long, "--out", out)
    assert files(out) == files(straight)


@needs_proc
def test_jobs_end_when_their_parent_is_killed(gue: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = process("--data", gue, *FOUR_RUNS, "--epochs", "4000", "--jobs", "2", "--out", out)
    wait_for(lambda: len(runs_begun(out)) == 2)
    workers = children(running.pid)
    running.kill()
    running.communicate()
    wait_for(lambda: all(map(gone, workers)), 60)
    assert not (out / "manifest.json").exists()


def test_what_a_job_meets_is_said_in_one_line(gue: Path, tmp_path: Path) -> None:
    err = run("--data", gue, *FOUR_RUNS, "--lr", "1e30", "--jobs", "2", "--out", tmp_path / "out", code=1)
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert "seed 4" in line
    assert "lower --lr" in line
    assert "Traceback" not in err


def test_torchruns_processes_do_not_start_jobs(gue: Path, tmp_path: Path) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cmgems_cli"]
    options = [
        "evaluate",
        "tiny",
        "--data",
        str(gue),
        *FOUR_RUNS,
        "--jobs",
        "2",
        "--out",
        str(tmp_path / "o"),
    ]
    both = subprocess.run(
        [sys.executable, *words, *options], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )
    assert both.returncode
    assert "--jobs 2 under torchrun, whose processes share every run" in " ".join(both.stderr.split())


@pytest.mark.parametrize(
    ("threads", "n_runs", "free", "expected"),
    [
        (8, 100, None, 8),
        (8, 5, None, 2),
        (8, 1, None, 1),
        (8, 0, None, 1),
        (1, 100, None, 1),
        (8, 100, 3.9e9, 3),
        (8, 100, 1e8, 1),
    ],
)
def test_as_many_jobs_as_cores_runs_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, threads: int, n_runs: int, free: float | None, expected: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(jobs, "memory", lambda: (None, free))
    assert jobs.default_jobs(n_runs, bert_config("tiny", 6), torch.device("cpu")) == expected


def test_on_a_card_one_run_at_a_time_unless_asked() -> None:
    assert jobs.default_jobs(100, bert_config("logo", 6), torch.device("cuda")) == 1
