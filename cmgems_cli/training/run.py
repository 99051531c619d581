"""The common part of all training runs: folder, loop and resuming."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from cmgems_cli.artifacts import Manifest, environment, read_manifest
from cmgems_cli.errors import CmgemsError, InputError, Interrupted, OverwriteError
from cmgems_cli.option_fields import machine_fields
from cmgems_cli.outputs import Claim, Output
from cmgems_cli.training.checkpoints import (
    FOLDER,
    MALFORMED,
    OPTIMIZER,
    STATE,
    WEIGHTS,
    Checkpoint,
    check_run_place,
    newest_checkpoint,
    save_checkpoint,
)
from cmgems_cli.training.engine import Batch, Engine, device_name
from cmgems_cli.training.interrupts import StopRequest, stop_on_signals
from cmgems_cli.training.loss_watch import STEPS_BEFORE, LossWatch
from cmgems_cli.training.metrics_log import METRICS, MetricsFile
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.pretrain_options import REVISABLE, PretrainingOptions
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.recovery import Recovery

# A resumed run may divide its micro-batches differently: another machine, another number of processes.
MACHINE = machine_fields(PretrainingOptions)


class StepData(Protocol):
    """The data of one step.

    Attributes
    ----------
    batches : list of micro-batches
        Those of this process.
    n_targets : int
        Number of targets of the whole step, over all processes; the loss is a mean over them.
    n_tokens : int
        Real tokens of the whole step.
    """

    @property
    def batches(self) -> list[Any]: ...

    @property
    def n_targets(self) -> int: ...

    @property
    def n_tokens(self) -> int: ...


AnyStep = TypeVar("AnyStep", bound=StepData)
AnyOutcome = TypeVar("AnyOutcome")


class Run(ABC, Generic[AnyStep, AnyOutcome]):
    """A run of the engine in a folder; it can be resumed at any step, byte for byte.

    Each kind of run defines its engine, steps, evaluations and outcome by the methods under "of each kind".
    A run returns its outcome; the caller of `training` writes the files of the artifact and calls `finish`.

    Parameters
    ----------
    kind : str
        Kind of the artifact: model, classifier or scores.
    params : dict
        All choices that affect the result; with `inputs` they identify the run.
    inputs : dict, name -> digest
    out : Path
    processes : Processes
        The processes of this run.
    precision : str
        fp32 or bf16, resolved.

    Attributes
    ----------
    module : torch.nn.Module
        The model.
    folder : Path
        Where the run writes: `out`, or a staging folder while it replaces an artifact.
    watch : LossWatch or None
        Notices loss spikes; None for a kind of run whose losses vary too much.
    skipped : frozenset of int
        Steps that are left out: they update nothing.
    goes_back : bool
        After a spike, or a loss that is not finite, go back to the last good checkpoint and skip the steps blamed.
    advice : str
        What else a user may do about such a loss, for messages.
    """

    module: Any

    def __init__(
        self,
        *,
        kind: str,
        params: dict[str, Any],
        inputs: dict[str, str],
        out: Path,
        processes: Processes,
        precision: str,
    ) -> None:
        self.kind, self.params, self.inputs, self.out = kind, params, inputs, out
        self.processes, self.precision = processes, precision
        self.output = Output(
            out, kind, params=params, inputs=inputs, machine=MACHINE, revisable=REVISABLE, work=(FOLDER,)
        )
        self.folder = out
        self._claim: Claim | None = None
        self.watch: LossWatch | None = None
        self.skipped: frozenset[int] = frozenset()
        self.goes_back = False
        self.advice = ""
        self.started = time.perf_counter()

    @cached_property
    def engine(self) -> Engine:
        """The engine, created when first needed, since a finished run needs none."""
        return self.make_engine()

    @property
    def parameters(self) -> int:
        """Number of weights. Not by the engine: its creation on one process alone would wait for the others."""
        return sum(parameter.numel() for parameter in self.module.parameters())

    # ------------------------------------------------------------------ of each kind

    @abstractmethod
    def make_engine(self) -> Engine:
        """Load the model and return the engine that trains it."""

    @abstractmethod
    def make_step(self, step: int) -> AnyStep:
        """Return the data of step `step` (from 1)."""

    def describe(self, step: int, data: AnyStep) -> dict[str, Any]:
        """Return the entries of a step's record in addition to step, loss and learning rate."""
        return {}

    def sequences(self, step: int, batch: Any) -> Sequence[int]:
        """Return the numbers of a micro-batch's sequences among all training sequences."""
        numbers: list[int] = batch.rows.tolist()
        return numbers

    @abstractmethod
    def evaluates_after(self, step: int) -> bool:
        """Return whether `evaluate` is due after this step."""

    @abstractmethod
    def evaluate(self, step: int, observer: Observer) -> dict[str, float]:
        """Evaluate after `step` and return the values to log."""

    @abstractmethod
    def saves_after(self, step: int) -> bool:
        """Return whether a checkpoint is due after this step; the same on all processes."""

    def state(self) -> dict[str, Any]:
        """Return the JSON values of a checkpoint in addition to weights and optimizer."""
        return {}

    def extra_tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return further tensors of a checkpoint (any dtype and shape), by file name and tensor name."""
        return {}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore what `state` and `extra_tensors` returned."""

    @abstractmethod
    def outcome(self) -> AnyOutcome:
        """Return the result of the run after its last step; called on all processes."""

    # ------------------------------------------------------------------ of all kinds

    def finished(self, *, overwrite: bool = False) -> Manifest | None:
        """Return the manifest if the run is finished already, on all processes (raises the errors of `training`)."""
        self.processes.check_equal({"precision": self.precision, **self.params, **self.inputs})
        check_run_place(self.out, self.kind)
        done = self.output.finished(overwrite=overwrite, repair=self.processes.is_main)
        # The main process decides, since it may have finished the publication of a killed command.
        if not self.processes.broadcast_from_main(float(done is not None)):
            return None
        return done or read_manifest(self.out, self.kind)

    @contextmanager
    def training(
        self, *, resume: bool, overwrite: bool, observer: Observer | None = None
    ) -> Iterator[AnyOutcome]:
        """Train to the last step and yield the outcome while the output is still locked.

        The main process writes the files of the artifact to `folder` within the block and ends with `finish`. All
        processes then wait for each other, so that each can read the artifact.

        Raises
        ------
        Interrupted
            On SIGINT (130) or SIGTERM (143), after a checkpoint was saved.
        OverwriteError
            If `out` holds something that may not be replaced, or another command is writing to it.
        """
        is_main = self.processes.is_main
        with self.output.claim(overwrite=overwrite, resume=resume) if is_main else nullcontext() as claim:
            if claim is not None and claim.done is not None:
                raise OverwriteError(f"another command has just finished {self.out}; run the command again")
            self.processes.barrier()
            self._claim = claim
            self.folder = self.output.work_folder() if claim is None else claim.folder
            self.started = time.perf_counter()
            self.train(resume=resume, observer=observer if is_main and observer else Observer())
            outcome = self.outcome()
            with self.processes.alone() if is_main else nullcontext():
                yield outcome
            self.processes.barrier()

    def finish(self, *, stats: Mapping[str, Any], files: Iterable[str], **more: Any) -> Manifest:
        """Publish the artifact of `files` and remove the checkpoints; within `training`, on the main process.

        `more` is added to the `environment` of the manifest.
        """
        assert self._claim is not None
        return self._claim.finish(stats=stats, files=[*files, METRICS], environment=self.environment(**more))

    def environment(self, **more: Any) -> dict[str, Any]:
        """Return the manifest's `environment` of this run."""
        return environment(
            self.started,
            device=device_name(self.processes.device),
            processes=self.processes.world_size,
            precision=self.precision,
            threads=torch.get_num_threads(),
            **more,
        )

    def train(self, *, resume: bool, observer: Observer) -> None:
        """Train to the last step, from the newest checkpoint if there is one."""
        # Made by all processes together: restoring needs it, and one alone would wait for the others.
        _ = self.engine
        checkpoint = (
            newest_checkpoint(self.folder, observer.warned, self.restore_checkpoint) if resume else None
        )
        done = 0 if checkpoint is None else checkpoint.step
        self.processes.check_equal({"last step": done})
        if checkpoint is not None:
            self._report_resumption(checkpoint, observer)
        metrics = None
        if self.processes.is_main:
            content = checkpoint.metrics() if checkpoint else b""
            metrics = MetricsFile(self.folder / METRICS, content, observer.events)
        try:
            with stop_on_signals(single_process=self.processes.world_size == 1) as request:
                self._loop(done, metrics, observer, request)
            self._check_weights(self.engine.recipe.steps)
        finally:
            if metrics is not None:
                metrics.close()

    def restore_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Restore a checkpoint whose content is what was written (raises InputError if it cannot be used)."""
        try:
            before = checkpoint.state["run"]
            difference = self.output.difference(before["params"], before["inputs"], unfinished=True)
            if difference:
                raise InputError(f"it is of a run that {difference}")
            if not 0 <= checkpoint.step <= self.engine.recipe.steps:
                raise ValueError(f"{STATE} has step {checkpoint.step} of {self.engine.recipe.steps}")
            records = checkpoint.records()
            if [record["step"] for record in records] != list(range(1, checkpoint.step + 1)):
                raise ValueError(f"{METRICS} has not one record for each of {checkpoint.step} steps")
            self.restore(checkpoint)
            updates = sum("skipped" not in record for record in records)
            self.engine.load_state(updates, checkpoint.tensors(WEIGHTS), checkpoint.tensors(OPTIMIZER))
        except (InputError, *MALFORMED) as error:
            raise InputError(f"checkpoint {checkpoint.folder} cannot be used ({error})") from None

    def _report_resumption(self, checkpoint: Checkpoint, observer: Observer) -> None:
        precision = checkpoint.state["run"].get("precision")
        if precision != self.precision:
            observer.warned(
                f"the run so far was computed in {precision}, it resumes in {self.precision}:"
                " the result will differ from an uninterrupted run"
            )
        observer.resumed(checkpoint.step)

    def _identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "params": self.params, "inputs": self.inputs, "precision": self.precision}

    def _loop(self, done: int, metrics: MetricsFile | None, observer: Observer, request: StopRequest) -> None:
        steps, step = self.engine.recipe.steps, done
        recovery = Recovery(self, metrics, observer)
        recovery.remove_after(done)
        if self.goes_back and not done:
            self.save(0, metrics)
        data: AnyStep | None = None
        while step < steps:
            step += 1
            record: dict[str, Any] = {
                "step": step,
                "loss": None,
                "lr": self.engine.recipe.learning_rate_at(step),
            }
            if step in self.skipped:
                record["skipped"], data, sums, limit = True, None, None, math.inf
            else:
                data = data or self.make_step(step)
                # Before an evaluation, which may change the strategy of later steps.
                described = self.describe(step, data)
                limit = self.watch.limit(described["strategy"]) * data.n_targets if self.watch else math.inf
                sums = self.engine.step(step, data.batches, data.n_targets, limit)
            evaluates = self.evaluates_after(step)
            # On CUDA the step above is still running: make the data of the next one meanwhile, unless an
            # evaluation may change its strategy.
            makes = not evaluates and step < steps and step + 1 not in self.skipped
            upcoming = self.make_step(step + 1) if makes else None
            signum, loss, norm = self._read(sums, request)
            if data is not None:
                fine = math.isfinite(loss) and math.isfinite(norm) and loss <= limit
                if not fine and recovery.settle(step, data, loss, norm):
                    step, data = recovery.go_back(step), None
                    continue
                mean = loss / data.n_targets if data.n_targets else None
                record |= {"loss": mean, "grad_norm": norm, **described}
                if mean is not None and self.watch and self.watch.observe(record):
                    recovery.report(step, mean, self.watch.usual(described["strategy"]))
            if evaluates:
                record |= self.evaluate(step, observer)
            if metrics is not None:
                metrics.write(record)
                observer.stepped(record, data.n_tokens if data else 0)
            # A single process need not wait for the sums of the next step to learn of a later signal.
            signum = signum or (request.signum if self.processes.world_size == 1 else 0)
            if signum or (self.saves_after(step) and step < steps):
                self.save(step, metrics)
            if signum:
                raise Interrupted(
                    f"stopped after step {step}; the same command resumes from {self.folder / FOLDER}",
                    128 + signum,
                )
            data = upcoming
        if metrics is not None:
            metrics.check_in_place()

    def _read(self, sums: torch.Tensor | None, request: StopRequest) -> tuple[int, float, float]:
        """Return (signal that requests a stop, loss sum, gradient norm), the signal the same on all processes."""
        signals = torch.zeros(2, dtype=torch.float64, device=self.processes.device)
        signals[0] = float(request.signum == 2)  # SIGINT
        signals[1] = float(request.signum == 15)  # SIGTERM
        signals = self.processes.all_reduce_sum(signals)
        values = signals if sums is None else torch.cat([signals, sums])
        interrupted, terminated, loss, norm = [*values.tolist(), 0.0, 0.0][:4]
        return (15 if terminated else 2 if interrupted else 0), loss, norm

    def _check_weights(self, step: int) -> None:
        """Check that the processes still have the same weights (or raise CmgemsError)."""
        if self.processes.world_size > 1:
            difference = self.processes.difference({"weights": self.engine.checksum()})
            if difference:
                raise CmgemsError(
                    f"after step {step} {difference} (checksums), as after a fault of a memory or a processor; nothing"
                    " of this step was saved, and the same command resumes from the checkpoint before it"
                )

    def save(self, step: int, metrics: MetricsFile | None) -> None:
        """Save a checkpoint of the state after `step`, unless it is not finite; all processes call this together."""
        self._check_weights(step)
        with self.processes.alone():
            self._write_checkpoint(step, metrics)
        self.processes.barrier()

    def _write_checkpoint(self, step: int, metrics: MetricsFile | None) -> None:
        if metrics is not None:
            metrics.check_in_place()
        if metrics is not None and self.engine.is_finite():
            weights, moments = self.engine.state()
            state = {"run": self._identity(), **self.state()}
            save_checkpoint(
                *(self.folder, step, weights, moments, state),
                metrics=metrics.content,
                spare=None if self.watch is None else (self.watch.risen_at or step + 1) - STEPS_BEFORE - 1,
                extra=self.extra_tensors(),
            )

    def timed_step(self, step: int, batches: Sequence[Batch], n_targets: int) -> float:
        """Take a step and return its duration in seconds. It changes the weights, so use it for plans only."""
        started = time.perf_counter()
        self.engine.step(step, batches, n_targets)[0].item()
        return time.perf_counter() - started
