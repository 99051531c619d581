"""Several runs of an evaluation at a time, each in its own process with its part of the cores.

Runs are independent, and a step of a small model is too little work for many threads.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from cmgems_cli.bench.evaluation import Evaluation
from cmgems_cli.bench.grids import Cell
from cmgems_cli.errors import CmgemsError, Interrupted, as_user_error
from cmgems_cli.modeling.families import count_parameters
from cmgems_cli.system_info import memory
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.interrupts import stop_on_signals
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.processes import start_processes

# ours, measured (docs/log.md): torch and the rest of a process; weights, gradients, two moments, the best weights
# so far and activations.
FIXED_BYTES, BYTES_PER_PARAMETER = 1.1e9, 26
# Interval of a job's progress messages, and longest delay before a signal is passed on.
SECONDS_BETWEEN_MESSAGES = 0.5

# What is reported of a run: ("advanced", part of the run that is done since), ("warned", message), ("finished", None).
Report = Callable[[Cell, str, Any], None]


def default_jobs(n_runs: int, config: Any, device: torch.device) -> int:
    """Return how many runs to do at a time: one per core on a CPU, one on a GPU.

    Fewer if memory is short, or if a job would have less than two runs: starting one takes seconds.

    Parameters
    ----------
    n_runs : int
    config : BertConfig, or another family's
        Of the model.
    device : torch.device
    """
    if device.type != "cpu":
        return 1
    free = memory()[1]
    fitting = math.inf if free is None else free / memory_per_job(config)
    return max(1, int(min(torch.get_num_threads(), n_runs // 2, fitting)))


def memory_per_job(config: Any) -> float:
    """Return the expected memory of a job on a CPU, in bytes."""
    return FIXED_BYTES + BYTES_PER_PARAMETER * count_parameters(config)


def run_in_jobs(
    evaluation: Evaluation, cells: Sequence[Cell], n_jobs: int, *, resume: bool, report: Report
) -> None:
    """Run these cells, `n_jobs` at a time, replacing what is there; `Evaluation.run` does one at a time.

    Parameters
    ----------
    evaluation : Evaluation
    cells : sequence of Cell
        From `Evaluation.left`.
    n_jobs : int
        From 1 to the number of cells. They divide torch's threads among them.
    resume : bool
        Resume from a run's checkpoint.
    report : callable
        Called with a cell, what happened and its value (`Report`).

    Raises
    ------
    Interrupted
        On SIGINT or SIGTERM, after every run in progress has saved a checkpoint.
    CmgemsError
        The error of one of the jobs; the others are then stopped, and save a checkpoint.
    """
    waiting = deque(cells)
    failure: CmgemsError | None = None
    stopping = False
    with stop_on_signals(single_process=True) as request, _jobs(evaluation, n_jobs, resume) as jobs:
        for job in jobs:
            job.assign(waiting)
        while busy := [job for job in jobs if job.cell]:
            ready = connection.wait([job.pipe for job in busy], SECONDS_BETWEEN_MESSAGES)
            for job in busy:
                if job.pipe in ready:
                    failure = job.receive(report, waiting, stopping=stopping) or failure
            if (request.signum or failure) and not stopping:
                stopping = True
                waiting.clear()
                for job in jobs:
                    job.process.terminate()
    if failure is not None:
        raise failure
    if request.signum:
        raise Interrupted(
            f"stopped; the same command resumes every run in {evaluation.out}",
            128 + request.signum,
        )


class _Job:
    """A process that does one run after the other, as seen by the parent."""

    def __init__(self, *work: Any) -> None:
        spawn = get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(*work, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, content: Any) -> None:
        """Send it a message; if it has died, `receive` reports that."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(content)

    def assign(self, waiting: deque[Cell]) -> None:
        """Send it the next run, or the order to end."""
        self.cell, self.fraction = waiting.popleft() if waiting else None, 0.0
        self.send(self.cell)

    def receive(self, report: Report, waiting: deque[Cell], *, stopping: bool) -> CmgemsError | None:
        """Handle its next message; return the error if it failed."""
        cell = self.cell
        assert cell is not None
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            self.cell = None
            return None if stopping else self._died(cell)
        if kind == "failed":
            self.cell = None
            return content
        if kind == "warned":
            report(cell, kind, content)
            return None
        report(cell, "advanced", content - self.fraction)
        self.fraction = content
        if kind == "finished":
            report(cell, kind, None)
            self.assign(waiting)
        return None

    def _died(self, cell: Cell) -> CmgemsError:
        self.process.join()
        code = self.process.exitcode or 0
        if code == -signal.SIGKILL:
            return CmgemsError(
                f"the process of {cell} ended by signal 9, as when memory runs out: try fewer `jobs`; the same"
                " command resumes"
            )
        how = f"by signal {-code}" if code < 0 else f"with exit status {code}"
        return CmgemsError(f"the process of {cell} ended {how}; the same command resumes")


@contextmanager
def _jobs(evaluation: Evaluation, count: int, resume: bool) -> Iterator[list[_Job]]:
    """Start the jobs; at the end none is running, whatever happened."""
    threads = max(1, torch.get_num_threads() // count)
    jobs: list[_Job] = []
    # Children inherit this: they ignore Ctrl-C until their own handler is installed.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(count):
            jobs.append(_Job(threads, resume))
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        # Not an argument of the process: multiprocessing waits for ever for one that has died to read those.
        for job in jobs:
            job.send(evaluation)
        yield jobs
    except BaseException:
        for job in jobs:
            job.process.kill()
        raise
    finally:
        for job in jobs:
            job.pipe.close()
            job.process.join()


def _work(threads: int, resume: bool, pipe: Connection) -> None:
    """Main function of a job's process: receive the evaluation, and do the runs that the parent assigns."""
    torch.set_num_threads(threads)

    @contextmanager
    def watch(cell: Cell, number: int, run: FinetuningRun) -> Iterator[Observer]:
        yield _ProgressReporter(pipe, run.steps)

    try:
        evaluation: Evaluation = pipe.recv()
        start_processes(str(evaluation.processes.device))
        while (cell := pipe.recv()) is not None:
            evaluation.run([cell], resume=resume, watch=watch)
            pipe.send(("finished", 1.0))
    except Interrupted:
        pass  # The parent asked for it, and reports it.
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # The parent has ended, or does not wait.
    except Exception as error:
        known = error if isinstance(error, CmgemsError) else as_user_error(error)
        if known is None:
            raise
        failure = CmgemsError(f"{cell}: {known}")
        failure.exit_code = known.exit_code
        with suppress(BrokenPipeError):
            pipe.send(("failed", failure))


class _ProgressReporter(Observer):
    """Sends the run's progress to the parent, and stops the run if the parent has ended."""

    def __init__(self, pipe: Connection, steps: int) -> None:
        self._pipe, self._steps = pipe, steps
        self._sent_at = time.monotonic()

    def resumed(self, step: int) -> None:
        self._send("advanced", step / self._steps)

    def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
        if time.monotonic() - self._sent_at >= SECONDS_BETWEEN_MESSAGES:
            self._sent_at = time.monotonic()
            self._send("advanced", record["step"] / self._steps)

    def warned(self, message: str) -> None:
        self._send("warned", message)

    def _send(self, kind: str, content: Any) -> None:
        try:
            self._pipe.send((kind, content))
        except BrokenPipeError:
            # As the parent would have done: the run saves a checkpoint and ends.
            os.kill(os.getpid(), signal.SIGTERM)
