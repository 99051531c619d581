"""Faults of one of torchrun's processes: all end, one sentence names it, and the same command resumes."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch.distributed as dist

from cmgems_cli.errors import CmgemsError
from cmgems_cli.training import peers
from cmgems_cli.training.peers import Peers
from tests.command_line import CommandLine, Result, environment, torchrun, wait_until

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")

SILENT = "as when a process is killed or stopped or a machine fails"

# What a rank's program does before the command, by its rank.
COMMAND = "from cmgems_cli.__main__ import main; main()\n"
QUICK_TO_NOTICE = "from cmgems_cli.training import peers; peers.SILENT_BEATS = 4\n"


def arguments(inputs: tuple[Path, Path], out: Path, steps: int = 40) -> list[object]:
    corpus, pmi = inputs
    shape = ["--model", "tiny", "--precision", "fp32", "--steps", steps, "--global-batch", 16]
    every = ["--eval-every", 20, "--warmup-steps", 4, "--save-every", 5]
    return ["pretrain", corpus, "--pmi", pmi, "--device", "cpu", *shape, *every, "--out", out]


def children(parent: int) -> dict[int, int]:
    """Return torchrun's processes by rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                variables = (folder / "environ").read_bytes().split(b"\0")
                found[int(next(word[5:] for word in variables if word.startswith(b"RANK=")))] = int(
                    folder.name
                )
        except (OSError, ValueError, StopIteration):
            continue
    return found


def ours(done: Result) -> list[str]:
    """Return what cmgems, not torchrun, said of the end of the run."""
    return [line for line in done.stderr.splitlines() if line.startswith(("error: ", "stopped "))]


class Launcher:
    """Starts a command as several processes, each after the statements of `program`."""

    def __init__(self, cmgems: CommandLine, folder: Path) -> None:
        self._cmgems, self._folder = cmgems, folder

    def start(
        self, words: Sequence[object], count: int = 2, program: str = "", options: Sequence[str] = ()
    ) -> "object":
        import subprocess

        script = self._folder / "program.py"
        script.write_text(f"import os, sys\nRANK = int(os.environ['RANK'])\n{program}{COMMAND}")
        return subprocess.Popen(
            [sys.executable, *torchrun(count), *options, str(script), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment(), "OMP_NUM_THREADS": "1"},
        )

    def run(self, words: Sequence[object], count: int = 2, program: str = "", code: int = 1) -> Result:
        return self._cmgems.finish(self.start(words, count, program), code=code)  # type: ignore[arg-type]


@pytest.fixture
def launcher(cmgems: CommandLine, tmp_path: Path) -> Launcher:
    return Launcher(cmgems, tmp_path)


def checkpoints(out: Path) -> list[str]:
    return sorted(path.name for path in out.glob("checkpoints/step_*"))


# ------------------------------------------------------------------ killed and stopped


@needs_proc
@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("count", "rank", "number", "program"),
    [
        (2, 1, signal.SIGKILL, ""),
        (2, 1, signal.SIGSTOP, QUICK_TO_NOTICE),
        pytest.param(3, 0, signal.SIGKILL, "", marks=pytest.mark.soak),
        pytest.param(4, 2, signal.SIGKILL, "", marks=pytest.mark.soak),
        pytest.param(3, 0, signal.SIGSTOP, QUICK_TO_NOTICE, marks=pytest.mark.soak),
        pytest.param(2, 1, signal.SIGSTOP, "", marks=pytest.mark.soak),
    ],
)
def test_a_killed_or_stopped_rank_ends_all_and_is_named(
    cmgems: CommandLine,
    launcher: Launcher,
    inputs: tuple[Path, Path],
    tmp_path: Path,
    count: int,
    rank: int,
    number: signal.Signals,
    program: str,
) -> None:
    out = tmp_path / "out"
    process = launcher.start(arguments(inputs, out, steps=100_000), count, program)
    wait_until(lambda: checkpoints(out), process)
    ranks = children(process.pid)
    os.kill(ranks[rank], number)
    begun = time.monotonic()
    done = cmgems.finish(process, code=1)
    assert time.monotonic() - begun < 60
    assert ours(done) == [
        f"error: no answer from rank {rank} of {count}, {SILENT}; the same command resumes from the last checkpoint"
    ]
    assert not [number for number in ranks.values() if Path(f"/proc/{number}").exists()]
    assert checkpoints(out)


@needs_proc
@pytest.mark.soak
@pytest.mark.subprocess
def test_a_rank_that_waits_for_a_stopped_one_reacts_to_sigterm(
    cmgems: CommandLine, launcher: Launcher, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = launcher.start(arguments(inputs, out, steps=100_000))
    wait_until(lambda: checkpoints(out), process)
    os.kill(children(process.pid)[1], signal.SIGSTOP)
    time.sleep(1)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    done = cmgems.finish(process, code=1)
    assert time.monotonic() - begun < 28  # torchrun would kill after 30 s
    assert [line.split(",")[0] for line in ours(done)] == ["error: no answer from rank 1 of 2"]


@needs_proc
@pytest.mark.soak
@pytest.mark.subprocess
def test_a_rank_that_ends_before_the_others_is_named(
    launcher: Launcher, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    program = (
        "if RANK == 1:\n"
        "    from cmgems_cli.training.engine import Engine\n"
        "    def end(*_):\n"
        "        from cmgems_cli.training.processes import stop_processes\n"
        "        stop_processes()\n"
        "        os._exit(0)\n"
        "    Engine.step = end\n"
    )
    done = launcher.run(arguments(inputs, tmp_path / "out"), program=program)
    assert ours(done) == [
        "error: rank 1 of 2 ended before the others; the same command resumes from the last checkpoint"
    ]


@needs_proc
@pytest.mark.soak
@pytest.mark.subprocess
def test_restarted_ranks_end_with_the_same_bytes(
    cmgems: CommandLine, launcher: Launcher, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    launcher.run(arguments(inputs, whole), code=0)
    # A step takes a tenth of a second, so that the kill comes in the midst of the run.
    program = (
        "from cmgems_cli.training.engine import Engine; import time; step = Engine.step\n"
        "def slow(*a, **k): time.sleep(0.1); return step(*a, **k)\n"
        "Engine.step = slow\n"
    )
    process = launcher.start(arguments(inputs, out), program=program, options=["--max-restarts", "2"])
    for begun in ("step_000005", "step_000020"):
        wait_until(lambda begun=begun: any(name >= begun for name in checkpoints(out)), process)
        killed = children(process.pid)[1]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda killed=killed: children(process.pid).get(1, killed) != killed, process)
    done = cmgems.finish(process, code=0)
    assert len(ours(done)) == 2
    assert all(line.startswith(f"error: no answer from rank 1 of 2, {SILENT}") for line in ours(done))
    for name in ("model.safetensors", "metrics.jsonl", "config.json", "README.md"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


# ------------------------------------------------------------------ unequal

OTHER_LR = "if RANK == 1: sys.argv += ['--lr', '0.002']\n"
OTHER_CODE = (
    "if RANK == 1:\n    from cmgems_cli.training import processes\n"
    "    processes._code_digest = lambda: 'another'\n"
)
OTHER_STEP = (
    "if RANK == 1:\n    from cmgems_cli.training import run\n    run.newest_checkpoint = lambda *_: None\n"
)


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("program", "words"),
    [
        (OTHER_LR, "rank 1 of 2 has --lr 0.002, rank 0 has 0.003"),
        pytest.param(OTHER_CODE, 'has `code` "another", rank 0 has', marks=pytest.mark.soak),
    ],
)
def test_ranks_of_other_options_or_code_are_refused(
    launcher: Launcher, inputs: tuple[Path, Path], tmp_path: Path, program: str, words: str
) -> None:
    (line,) = ours(launcher.run(arguments(inputs, tmp_path / "out"), program=program))
    assert words in line
    assert line.endswith("; start every process with the same code, options and data")
    assert not (tmp_path / "out").exists()


@pytest.mark.soak
@pytest.mark.subprocess
def test_ranks_of_other_data_are_refused(
    launcher: Launcher, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    from cmgems_cli.genome.preparation import prepare_genome
    from tests.command_line import FASTA

    prepare_genome([FASTA], tmp_path / "other", max_tokens=31)
    program = f"if RANK == 2: sys.argv[2] = {str(tmp_path / 'other')!r}\n"
    (line,) = ours(launcher.run(arguments(inputs, tmp_path / "out"), count=3, program=program))
    assert "rank 2 of 3 has `corpus` " in line


@pytest.mark.subprocess
@pytest.mark.parametrize("count", [3, pytest.param(2, marks=pytest.mark.soak)])
def test_a_rank_of_other_weights_is_named_and_no_checkpoint_written(
    launcher: Launcher, inputs: tuple[Path, Path], tmp_path: Path, count: int
) -> None:
    out = tmp_path / "out"
    program = (
        "from cmgems_cli.training.engine import Engine; step = Engine.step\n"
        "def flipped(self, number, *rest):\n"
        "    total = step(self, number, *rest)\n"
        "    if RANK == 1 and number == 7:\n"
        "        import torch\n"
        "        with torch.no_grad(): next(self.module.parameters()).view(-1)[3] *= 1.0000002\n"
        "    return total\n"
        "Engine.step = flipped\n"
    )
    (line,) = ours(launcher.run(arguments(inputs, out), count=count, program=program))
    assert f"after step 10 rank 1 of {count} has `weights` " in line
    assert checkpoints(out) == ["step_000005"]


@pytest.mark.soak
@pytest.mark.subprocess
def test_a_rank_that_resumes_elsewhere_is_named(
    launcher: Launcher, inputs: tuple[Path, Path], tmp_path: Path, cmgems: CommandLine
) -> None:
    out = tmp_path / "out"
    process = launcher.start(arguments(inputs, out, steps=100_000))
    wait_until(lambda: checkpoints(out), process)
    process.send_signal(signal.SIGTERM)
    stopped = ours(cmgems.finish(process, code=1))
    assert [line.split(";")[1] for line in stopped] == [
        f" the same command resumes from {out / 'checkpoints'}"
    ]
    (line,) = ours(launcher.run(arguments(inputs, out, steps=100_000), program=OTHER_STEP))
    assert "rank 1 of 2 has `last step` 0, rank 0 has" in line


@pytest.mark.subprocess
def test_an_error_of_all_ranks_is_one_line(launcher: Launcher, tmp_path: Path) -> None:
    (line,) = ours(launcher.run(["pretrain", tmp_path / "nowhere"]))
    assert line.startswith(f"error: {tmp_path / 'nowhere'} does not exist")


# ------------------------------------------------------------------ without processes


def both(rank_0: Callable[[Peers], object], rank_1: Callable[[Peers], object]) -> list[object]:
    """Let two peers meet in two threads; return what each gave or raised."""
    store, found = dist.HashStore(), [None, None]

    def one(rank: int, work: Callable[[Peers], object]) -> None:
        try:
            found[rank] = work(Peers(rank, 2, store, store))  # type: ignore[call-overload]
        except CmgemsError as error:
            found[rank] = error  # type: ignore[call-overload]

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate((rank_0, rank_1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(found)


@pytest.fixture
def fast_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "SECONDS_PER_BEAT", 0.05)
    monkeypatch.setattr(peers, "_torchrun_holds_the_store", lambda: True)


def test_peers_meet_and_exchange_values(fast_beats: None) -> None:
    def late(one: Peers) -> list[str]:
        time.sleep(0.2)
        values = one.gather("b") + one.gather("d")
        one.leave()
        return values

    def early(one: Peers) -> list[str]:
        values = one.gather("a") + one.gather("c")
        one.leave()
        return values

    assert both(early, late) == [["a", "b", "c", "d"]] * 2


def test_one_of_the_peers_speaks(fast_beats: None) -> None:
    def work(one: Peers) -> tuple[bool, bool]:
        speaks = one.speaks(3), one.speaks(3)
        one.gather()
        one.leave()
        return speaks

    assert sorted(both(work, work)) == [(False, False), (True, True)]  # type: ignore[type-var]


def test_a_peer_that_has_left_is_not_waited_for(fast_beats: None) -> None:
    def waiting(one: Peers) -> object:
        try:
            return one.gather()
        finally:
            one.leave()

    error, _ = both(waiting, lambda one: one.leave())
    assert str(error).startswith("rank 1 of 2 ended before the others")
