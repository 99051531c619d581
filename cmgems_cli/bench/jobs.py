"""Several runs of an evaluation at a time, each in a process of its own with a share of the cores.

Runs have nothing to do with each other, and a step of a small model has too little work for many threads.
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

# ours, measured (docs/log.md): torch and what else a process needs, and weights, gradients, two moments, the
# best weights so far and room to compute.
FIXED_BYTES, BYTES_A_PARAMETER = 1.1e9, 26
# How often a job tells how far it is, and how soon a signal is passed on.
SECONDS_BETWEEN_WORDS = 0.5


class Follower:
    """Hears how the runs get on; this one ignores it."""

    def advanced(self, runs: float) -> None:
        """That many more runs are done, parts of them included."""

    def finished(self, cell: Cell) -> None:
        """A cell's run is done."""

    def warned(self, message: str) -> None:
        """Something may be wrong."""


def default_jobs(n_runs: int, config: BertConfig, device: torch.device) -> int:
    """Return how many runs to do at a time: on a CPU one a core, on a card one.

    Fewer where memory is short, or where a job would have less than two runs: starting one takes seconds.

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
    room = math.inf if free is None else free / memory_of_a_job(config)
    return max(1, int(min(torch.get_num_threads(), n_runs // 2, room)))


def memory_of_a_job(config: BertConfig) -> float:
    """Return the bytes of memory to reckon with for a job on a CPU."""
    with torch.device("meta"):
        parameters = sum(weights.numel() for weights in BertModel(config).parameters())
    return FIXED_BYTES + BYTES_A_PARAMETER * parameters


def run_in_jobs(
    evaluation: Evaluation, cells: Sequence[Cell], n_jobs: int, *, resume: bool, follower: Follower
) -> None:
    """Run these cells, `n_jobs` at a time, replacing what is there; `Evaluation.run` does one at a time.

    Parameters
    ----------
    evaluation : Evaluation
    cells : sequence of Cell
        From `Evaluation.left`.
    n_jobs : int
        From 1 to the number of cells. Each has its share of torch's threads.
    resume : bool
        Go on from a run's checkpoint.
    follower : Follower

    Raises
    ------
    Interrupted
        On SIGINT or SIGTERM, after every run in progress has saved a checkpoint.
    CmgemsError
        What one of the jobs met; the others are stopped like that too.
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
            worker.take(waiting.popleft())
        failure: CmgemsError | None = None
        stopping = False
        while busy := [worker for worker in workers if worker.cell]:
            heard = connection.wait([worker.pipe for worker in busy], SECONDS_BETWEEN_WORDS)
            for worker in busy:
                if worker.pipe in heard:
                    failure = worker.hear(follower, waiting, stopping=stopping) or failure
            if (request.signum or failure) and not stopping:
                stopping = True
                waiting.clear()
                for worker in workers:
                    worker.process.terminate()
    if failure is not None:
        raise failure
    if request.signum:
        raise Interrupted(
            f"stopped; every run goes on where it is by the same command, from {evaluation.out}",
            128 + request.signum,
        )


@dataclass(frozen=True)
class _Job:
    """What a job needs to open the evaluation again in its own process."""

    grid: Grid
    source: ModelSource
    options: FinetuneOptions
    device: str
    out: Path
    name: str
    resume: bool
    threads: int

    def open(self) -> Evaluation:
        torch.set_num_threads(self.threads)
        finetuner = Finetuner(self.source, self.options, start_processes(self.device))
        return Evaluation(self.grid, finetuner, self.out, self.name)


class _Worker:
    """A job as the parent sees it."""

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process, self.pipe = process, pipe
        self.cell: Cell | None = None
        self.share = 0.0

    def take(self, cell: Cell | None) -> None:
        """Give it its next run; None: there is none, it may end."""
        self.cell, self.share = cell, 0.0
        # One that has died is found out when it is listened to.
        with suppress(BrokenPipeError):
            self.pipe.send(cell)

    def hear(self, follower: Follower, waiting: deque[Cell], *, stopping: bool) -> CmgemsError | None:
        """Deal with its next word; return what went wrong, if it did."""
        assert self.cell is not None
        try:
            kind, said = self.pipe.recv()
        except (EOFError, OSError):
            failure = None if stopping else self._died(self.cell)
            self.cell = None
            return failure
        if kind == "share":
            follower.advanced(said - self.share)
            self.share = said
        elif kind == "warning":
            follower.warned(f"{self.cell}: {said}")
        elif kind == "done":
            follower.advanced(1.0 - self.share)
            follower.finished(self.cell)
            self.take(waiting.popleft() if waiting else None)
        else:
            message, exit_code = said
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
                f"the process of {cell} ended by signal 9, as when memory runs out: try fewer --jobs; the same"
                " command goes on"
            )
        how = f"by signal {-code}" if code < 0 else f"with exit status {code}"
        return CmgemsError(f"the process of {cell} ended {how}; the same command goes on")


@contextmanager
def _workers(job: _Job, count: int) -> Iterator[list[_Worker]]:
    """Start the jobs; at the end none is left running, whatever happened."""
    spawn = get_context("spawn")
    workers = []
    # Inherited: until a job's run watches for it, Ctrl-C is for the parent alone.
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
    """Do one run after the other as the parent hands them out: the main function of a job's process."""
    try:
        evaluation: Evaluation | None = None
        while (cell := pipe.recv()) is not None:
            evaluation = evaluation or job.open()
            evaluation.run([cell], resume=job.resume, watch=_telling(pipe))
            pipe.send(("done", None))
    except Interrupted:
        pass  # The parent asked for it, and says so.
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # The parent is gone, or will not wait.
    except Exception as error:
        failure = error if isinstance(error, CmgemsError) else as_user_error(error)
        if failure is None:
            raise
        with suppress(BrokenPipeError):
            pipe.send(("failed", (str(failure), failure.exit_code)))


def _telling(pipe: Connection) -> Callable[[Cell, int, FinetuningRun], Any]:
    @contextmanager
    def watch(cell: Cell, number: int, run: FinetuningRun) -> Iterator[Observer]:
        yield _Teller(pipe, run.steps)

    return watch


class _Teller(Observer):
    """Tells the parent how far the run is, and stops it where there is no parent any more."""

    def __init__(self, pipe: Connection, steps: int) -> None:
        self._pipe, self._steps = pipe, steps
        self._told_at = time.monotonic()

    def resumed(self, step: int) -> None:
        self._tell("share", step / self._steps)

    def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
        if time.monotonic() - self._told_at >= SECONDS_BETWEEN_WORDS:
            self._told_at = time.monotonic()
            self._tell("share", record["step"] / self._steps)

    def warned(self, message: str) -> None:
        self._tell("warning", message)

    def _tell(self, kind: str, said: Any) -> None:
        try:
            self._pipe.send((kind, said))
        except BrokenPipeError:
            # As if the parent had been able to ask for it: the run saves a checkpoint and ends.
            os.kill(os.getpid(), signal.SIGTERM)
