"""Runs commands in forked processes with a limit of time and memory: all imports are done, so a trial takes little."""

import contextlib
import os
import resource
import runpy
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmgems_cli import signals

STOPPING = (signal.SIGINT, signal.SIGTERM)
# The exit code of an exception that the command line let through.
UNCAUGHT = 70
SECONDS = 60.0
MEMORY_BYTES = 1 << 30


@dataclass(frozen=True)
class Ended:
    """How a forked process ended.

    Attributes
    ----------
    code : int
        Its exit code; the negative number of the signal that ended it.
    stdout, stderr : str
    seconds : float
    late : bool
        Whether it had to be ended, since its time was over.
    """

    code: int
    stdout: str
    stderr: str
    seconds: float
    late: bool = False


def run_cmgems(words: Sequence[object]) -> int:
    """Run `python -m cmgems_cli` within this process and return its exit code."""
    sys.argv = ["cmgems", *map(str, words)]
    try:
        runpy.run_module("cmgems_cli", run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def fork(work: Callable[[], int | None], stdout: int, stderr: int, memory: int = MEMORY_BYTES) -> int:
    """Start a process that does `work` and exits with what it returns; return its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    child = os.fork()
    if child:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        return child
    code = UNCAUGHT
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        limit_memory(memory)
        # As a command does before its first import.
        signals.install(signals.end_at_once)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        code = work() or 0
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def limit_memory(more: int) -> None:
    """Let this process allocate so many bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_forked(
    work: Callable[[], int | None],
    *,
    seconds: float = SECONDS,
    memory: int = MEMORY_BYTES,
    at: float | None = None,
    number: int = signal.SIGKILL,
) -> Ended:
    """Do `work` in a forked process and wait for its end.

    Parameters
    ----------
    work : callable
        Returns the exit code.
    seconds : float
        The process is killed after so much of its own computing time, or ten times as much by the clock: other
        programs may keep the machine busy.
    memory : int
        Bytes that it may allocate.
    at : float, optional
        Send a signal after so many seconds.
    number : int
        That signal.
    """
    out, err = os.memfd_create("stdout"), os.memfd_create("stderr")
    started = time.monotonic()
    child = fork(work, out, err, memory)
    watched = os.pidfd_open(child)
    late = False
    try:
        if at is not None and not select.select([watched], [], [], at)[0]:
            os.kill(child, number)
        while not select.select([watched], [], [], 0.5)[0]:
            elapsed = time.monotonic() - started
            if elapsed > 10 * seconds or seconds_computed(child) > seconds:
                late = True
                os.kill(child, signal.SIGKILL)
                break
        _, status, used = os.wait4(child, 0)
    finally:
        os.close(watched)
    code = os.waitstatus_to_exitcode(status)
    texts = [text_of(stream) for stream in (out, err)]
    return Ended(code, *texts, used.ru_utime + used.ru_stime, late)


def cmgems(*words: object, folder: Path, **limits: float) -> Ended:
    """Run a command in a forked process, in a folder."""

    def work() -> int:
        os.chdir(folder)
        return run_cmgems(words)

    return run_forked(work, **limits)  # type: ignore[arg-type]


def seconds_computed(process: int) -> float:
    """Return the computing time of a running process."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def text_of(stream: int) -> str:
    """Return all that was written to a memory file, and close it."""
    os.lseek(stream, 0, os.SEEK_SET)
    with open(stream, "rb") as opened:
        return opened.read().decode("utf-8", "backslashreplace")
