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
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel

from cmgems_cli.bench.build import Finetuner
from cmgems_cli.bench.evaluation import Evaluation
from cmgems_cli.bench.grids import Cell, Grid
from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.errors import CmgemsError, Interrupted, as_user_error
from cmgems_cli.modeling.model_source import ModelSource
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


class ProgressListener:
    """Receives the progress of the runs; this one ignores it."""

    def advanced(self, runs: float) -> None:
        """This many more runs are done; parts of a run count too."""

    def finished(self, cell: Cell) -> None:
        """The run of a cell is done."""

    def warned(self, message: str) -> None:
        """Something may be wrong."""


def default_jobs(n_runs: int, config: BertConfig, device: torch.device) -> int:
    """Return how many runs to do at a time: one per core on a CPU, one on a GPU.

    Fewer if memory is short, or if a job would have less than two runs: starting one takes seconds.

    Parameters
    ----------
    n_runs : int
    config : BertConfig
        Of the model.
    device : torch.device
    """
    if device.type != "cpu":
        return 1
    free = memory()[1]
    fitting = math.inf if free is None else free / memory_per_job(config)
    return max(1, int(min(torch.get_num_threads(), n_runs // 2, fitting)))


def memory_per_job(config: BertConfig) -> float:
    """Return the expected memory of a job on a CPU, in bytes."""
    with torch.device("meta"):
        parameters = sum(weights.numel() for weights in BertModel(config).parameters())
    return FIXED_BYTES + BYTES_PER_PARAMETER * parameters


def run_in_jobs(
    evaluation: Evaluation, cells: Sequence[Cell], n_jobs: int, *, resume: bool, listener: ProgressListener
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
    listener : ProgressListener

    Raises
    ------
    Interrupted
        On SIGINT or SIGTERM, after every run in progress has saved a checkpoint.
    CmgemsError
        The error of one of the jobs; the others are then stopped, and save a checkpoint.
    """
    finetuner = evaluation.finetuner
    job = _Job(
        evaluation.grid,
        finetuner.source,
        finetuner.options,
        str(evaluation.processes.device),
        evaluation.out,
        evaluation.name,
        resume,
        threads=max(1, torch.get_num_threads() // n_jobs),
    )
    evaluation.reopen()
    waiting = deque(cells)
    with stop_on_signals(single_process=True) as request, _workers(job, n_jobs) as workers:
        for worker in workers:
            worker.assign(waiting.popleft())
        failure: CmgemsError | None = None
        stopping = False
        while busy := [worker for worker in workers if worker.cell]:
            ready = connection.wait([worker.pipe for worker in busy], SECONDS_BETWEEN_MESSAGES)
            for worker in busy:
                if worker.pipe in ready:
                    failure = worker.receive(listener, waiting, stopping=stopping) or failure
            if (request.signum or failure) and not stopping:
                stopping = True
                waiting.clear()
                for worker in workers:
                    worker.process.terminate()
    if failure is not None:
        raise failure
    if request.signum:
        raise Interrupted(
            f"stopped; the same command resumes every run in {evaluation.out}",
            128 + request.signum,
        )


@dataclass(frozen=True)
class _Job:
    """What a job needs to build the evaluation again in its own process."""

    grid: Grid
    source: ModelSource
    options: FinetuneOptions
    device: str
    out: Path
    name: str
    resume: bool
    threads: int

    def build(self) -> Evaluation:
        torch.set_num_threads(self.threads)
        finetuner = Finetuner(self.source, self.options, start_processes(self.device))
        return Evaluation(self.grid, finetuner, self.out, self.name)


class _Worker:
    """A job as seen by the parent."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.cell: Cell | None = None
        self.fraction = 0.0

    def assign(self, cell: Cell | None) -> None:
        """Send it its next run, or None to end it."""
        self.cell, self.fraction = cell, 0.0
        # If it has died, `receive` reports it.
        with suppress(BrokenPipeError):
            self.pipe.send(cell)

    def receive(
        self, listener: ProgressListener, waiting: deque[Cell], *, stopping: bool
    ) -> CmgemsError | None:
        """Handle its next message; return the error if it failed."""
        assert self.cell is not None
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            failure = None if stopping else self._died(self.cell)
            self.cell = None
            return failure
        if kind == "fraction":
            listener.advanced(content - self.fraction)
            self.fraction = content
        elif kind == "warning":
            listener.warned(f"{self.cell}: {content}")
        elif kind == "done":
            listener.advanced(1.0 - self.fraction)
            listener.finished(self.cell)
            self.assign(waiting.popleft() if waiting else None)
        else:
            message, exit_code = content
            failure = CmgemsError(f"{self.cell}: {message}")
            failure.exit_code = exit_code
            self.cell = None
            return failure
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
def _workers(job: _Job, count: int) -> Iterator[list[_Worker]]:
    """Start the jobs; at the end none is running, whatever happened."""
    spawn = get_context("spawn")
    workers = []
    # Children inherit this: they ignore Ctrl-C until their own handler is installed.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(count):
            ours, theirs = spawn.Pipe()
            process = spawn.Process(target=_work, args=(job, theirs), daemon=True)
            process.start()
            theirs.close()
            workers.append(_Worker(process, ours))
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        yield workers
    except BaseException:
        for worker in workers:
            worker.process.kill()
        raise
    finally:
        for worker in workers:
            worker.pipe.close()
            worker.process.join()


def _work(job: _Job, pipe: Connection) -> None:
    """Main function of a job's process: do the runs that the parent assigns."""
    try:
        evaluation: Evaluation | None = None
        while (cell := pipe.recv()) is not None:
            evaluation = evaluation or job.build()
            evaluation.run([cell], resume=job.resume, watch=_reporting(pipe))
            pipe.send(("done", None))
    except Interrupted:
        pass  # The parent asked for it, and reports it.
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # The parent has ended, or does not wait.
    except Exception as error:
        failure = error if isinstance(error, CmgemsError) else as_user_error(error)
        if failure is None:
            raise
        with suppress(BrokenPipeError):
            pipe.send(("failed", (str(failure), failure.exit_code)))


def _reporting(pipe: Connection) -> Callable[[Cell, int, FinetuningRun], Any]:
    @contextmanager
    def watch(cell: Cell, number: int, run: FinetuningRun) -> Iterator[Observer]:
        yield _ProgressReporter(pipe, run.steps)

    return watch


class _ProgressReporter(Observer):
    """Sends the run's progress to the parent, and stops the run if the parent has ended."""

    def __init__(self, pipe: Connection, steps: int) -> None:
        self._pipe, self._steps = pipe, steps
        self._sent_at = time.monotonic()

    def resumed(self, step: int) -> None:
        self._send("fraction", step / self._steps)

    def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
        if time.monotonic() - self._sent_at >= SECONDS_BETWEEN_MESSAGES:
            self._sent_at = time.monotonic()
            self._send("fraction", record["step"] / self._steps)

    def warned(self, message: str) -> None:
        self._send("warning", message)

    def _send(self, kind: str, content: Any) -> None:
        try:
            self._pipe.send((kind, content))
        except BrokenPipeError:
            # As the parent would have done: the run saves a checkpoint and ends.
            os.kill(os.getpid(), signal.SIGTERM)
