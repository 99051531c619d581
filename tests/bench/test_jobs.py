"""Evaluations of which several runs are done at a time: the same files, however many, and nothing left behind."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.bench import jobs
from cmgems_cli.modeling.presets import bert_config
from tests.command_line import CommandLine, torchrun, wait_until

FOUR_RUNS = ["--tasks", "tf/0,mouse/0", "--seeds", "42-43"]


# Started with two threads, two jobs of one each: what `alone` computes differs by nothing.
TWO_THREADS = {"OMP_NUM_THREADS": "2"}


def alone(evaluate: CommandLine, *arguments: object) -> None:
    """Run one after the other, in this process, with as many threads as a job has: one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        evaluate("--jobs", "1", *arguments)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def long(gue: Path) -> list[str | Path]:
    """Options of an evaluation whose runs last long enough to be stopped in the middle."""
    return ["--data", gue, *FOUR_RUNS, "--epochs", "6"]


@pytest.fixture(scope="module")
def straight(
    evaluate_tiny: CommandLine, long: list[str | Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """That evaluation, never stopped, one run at a time."""
    out = tmp_path_factory.mktemp("straight") / "scores"
    alone(evaluate_tiny, *long, "--out", out)
    return out


# A job that waits after its third step for the signal that stops it: on a busy machine one run could otherwise be over
# before the other one begins. A script, so that the jobs import it too.
WAITING = """
import sys, time
from cmgems_cli.training import interrupts, metrics_log
from cmgems_cli.__main__ import main

requests, write, begin = [], metrics_log.MetricsFile.write, interrupts.StopRequest.__init__

def begun(request):
    begin(request)
    requests.append(request)

def written(metrics, record):
    write(metrics, record)
    while record["step"] == 3 and not requests[-1].signum:
        time.sleep(0.01)

interrupts.StopRequest.__init__ = begun
metrics_log.MetricsFile.write = written
if __name__ == "__main__":
    del sys.argv[1:3]  # -m cmgems_cli
    main()
"""


# An evaluation of a megabyte.
LARGE = """
import sys
from cmgems_cli.bench.evaluation import Evaluation
from cmgems_cli.__main__ import main

begin = Evaluation.__init__

def begun(evaluation, *words, **named):
    begin(evaluation, *words, **named)
    evaluation.ballast = bytes(1 << 20)

Evaluation.__init__ = begun
if __name__ == "__main__":
    del sys.argv[1:3]  # -m cmgems_cli
    main()
"""


@pytest.fixture
def waiting(tmp_path: Path) -> list[Path]:
    """Launcher of an evaluation whose runs wait for the signal that stops them."""
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    return [script]


def files(out: Path) -> tuple[bytes, str]:
    return (out / "scores.csv").read_bytes(), read_manifest(out, "scores", verify=True).digest


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


@pytest.mark.subprocess
def test_two_at_a_time_leave_the_same_files_as_one(
    evaluate_tiny: CommandLine, gue: Path, tmp_path: Path
) -> None:
    options: list[str | Path] = ["--data", gue, *FOUR_RUNS, "--max-steps", "3"]
    alone(evaluate_tiny, *options, "--out", tmp_path / "one")
    done = evaluate_tiny.process(*options, "--jobs", "2", "--out", tmp_path / "two", env=TWO_THREADS)
    err = done.stderr
    assert "2 runs at a time" in err
    assert all(f"{number}/4 " in err for number in (1, 2, 3, 4))
    assert files(tmp_path / "two") == files(tmp_path / "one")


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")


@needs_proc
@pytest.mark.soak
@pytest.mark.subprocess
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_evaluation_saves_every_run_and_goes_on(
    evaluate_tiny: CommandLine,
    long: list[str | Path],
    straight: Path,
    tmp_path: Path,
    waiting: list[Path],
    number: signal.Signals,
    code: int,
) -> None:
    out = tmp_path / "stopped"
    running = evaluate_tiny.start(*long, "--jobs", "2", "--out", out, env=TWO_THREADS, launcher=waiting)
    wait_until(lambda: len(runs_begun(out)) == 2, running)
    workers = children(running.pid)
    running.send_signal(number)
    err = evaluate_tiny.finish(running, code=code).stderr
    assert "the same command resumes every run in" in " ".join(err.split())
    assert "Traceback" not in err
    assert len(workers) == 2
    assert all(map(gone, workers))
    assert len(list(out.glob("runs/*/checkpoints/*"))) == 2
    alone(evaluate_tiny, *long, "--out", out)
    assert files(out) == files(straight)


@needs_proc
@pytest.mark.subprocess
def test_a_killed_job_is_named_and_nothing_is_lost(
    evaluate_tiny: CommandLine, long: list[str | Path], straight: Path, tmp_path: Path, waiting: list[Path]
) -> None:
    out = tmp_path / "out"
    running = evaluate_tiny.start(*long, "--jobs", "2", "--out", out, env=TWO_THREADS, launcher=waiting)
    wait_until(lambda: len(runs_begun(out)) == 2, running)
    first, second = children(running.pid)
    os.kill(first, signal.SIGKILL)
    err = evaluate_tiny.finish(running, code=1).stderr
    assert "ended by signal 9, as when memory runs out: try fewer --jobs" in " ".join(err.split())
    assert gone(second)
    alone(evaluate_tiny, *long, "--out", out)
    assert files(out) == files(straight)


@needs_proc
@pytest.mark.soak
@pytest.mark.subprocess
def test_a_job_that_is_killed_as_it_starts_is_named(
    evaluate_tiny: CommandLine, long: list[str | Path], tmp_path: Path
) -> None:
    """The parent is still writing what the job begins with, more than a pipe holds."""
    script = tmp_path / "large.py"
    script.write_text(LARGE)
    out = tmp_path / "out"
    running = evaluate_tiny.start(*long, "--jobs", "2", "--out", out, env=TWO_THREADS, launcher=[script])
    wait_until(lambda: bool(children(running.pid)), running)
    os.kill(children(running.pid)[0], signal.SIGKILL)
    err = evaluate_tiny.finish(running, code=1).stderr
    assert "ended by signal 9" in err


@needs_proc
@pytest.mark.soak
@pytest.mark.subprocess
def test_jobs_end_when_their_parent_is_killed(evaluate_tiny: CommandLine, gue: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    running = evaluate_tiny.start(
        "--data", gue, *FOUR_RUNS, "--epochs", "4000", "--jobs", "2", "--out", out, env=TWO_THREADS
    )
    wait_until(lambda: len(runs_begun(out)) == 2, running)
    workers = children(running.pid)
    running.kill()
    running.communicate()
    deadline = time.monotonic() + 60
    while not all(map(gone, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert all(map(gone, workers))
    assert not (out / "manifest.json").exists()


@pytest.mark.subprocess
def test_what_a_job_meets_is_said_in_one_line(evaluate_tiny: CommandLine, gue: Path, tmp_path: Path) -> None:
    options = ["--data", gue, *FOUR_RUNS, "--lr", "1e30", "--jobs", "2", "--out", tmp_path / "out"]
    err = evaluate_tiny.process(*options, code=1, env=TWO_THREADS).stderr
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert "seed 4" in line
    assert "lower --lr" in line
    assert "Traceback" not in err


@pytest.mark.subprocess
def test_torchruns_processes_do_not_start_jobs(evaluate_tiny: CommandLine, gue: Path, tmp_path: Path) -> None:
    options = ["--data", gue, *FOUR_RUNS, "--jobs", "2", "--out", tmp_path / "out"]
    both = evaluate_tiny.process(*options, launcher=torchrun(2), code=1)
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
