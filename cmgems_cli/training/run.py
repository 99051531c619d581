"""What every training run shares, whatever it trains: its folder, its loop, and going on where it stopped."""

from __future__ import annotations

import math
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from cmgems_cli.artifacts import environment, is_finished, kind_at, remove_artifact
from cmgems_cli.errors import CmgemsError, InputError, Interrupted, OverwriteError, UsageError
from cmgems_cli.files import exclusive_lock
from cmgems_cli.option_fields import machine_fields
from cmgems_cli.training.checkpoints import (
    FOLDER,
    load_tensors,
    newest_checkpoint,
    read_state,
    save_checkpoint,
)
from cmgems_cli.training.engine import Batch, Engine
from cmgems_cli.training.interrupts import StopRequest, stop_on_signals
from cmgems_cli.training.metrics_log import METRICS, MetricsFile
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.pretrain_options import PretrainingOptions
from cmgems_cli.training.processes import Processes

# A resumed run may cut its micro-batches otherwise: another machine, another number of processes.
MAY_CHANGE_ON_RESUME = machine_fields(PretrainingOptions)


class StepData(Protocol):
    """What one step trains on.

    Attributes
    ----------
    batches : list of micro-batches
        This process's share.
    n_targets : int
        What the loss is a mean over: targets of the whole step, over all processes.
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
    """One run of the engine in a folder, checked and loaded: resumable at any step, byte for byte.

    A kind of run defines its steps, its evaluations and its outcome by the methods under "of each kind".
    A run returns its outcome and writes no artifact: the caller of `training` does.

    Parameters
    ----------
    engine : Engine
    kind : str
        Of the artifact that the caller will write: model, classifier or scores.
    params : dict
        Everything that was chosen; with `inputs` what makes this run this run.
    inputs : dict, name -> digest
    out : Path
    """

    def __init__(
        self, engine: Engine, *, kind: str, params: dict[str, Any], inputs: dict[str, str], out: Path
    ) -> None:
        self.engine, self.kind, self.params, self.inputs, self.out = engine, kind, params, inputs, out
        self.parameters = sum(parameter.numel() for parameter in engine.module.parameters())
        self.started = time.perf_counter()

    @property
    def processes(self) -> Processes:
        """The processes that share this run."""
        return self.engine.processes

    @property
    def precision(self) -> str:
        """fp32 or bf16."""
        return self.engine.precision

    # ------------------------------------------------------------------ of each kind

    @abstractmethod
    def make_step(self, step: int) -> AnyStep:
        """Return what step `step` (from 1) trains on."""

    def describe(self, step: int, made: AnyStep) -> dict[str, Any]:
        """Return what the step's record holds beside step, loss and learning rate."""
        return {}

    @abstractmethod
    def evaluates_after(self, step: int) -> bool:
        """Tell whether `evaluate` is due after this step."""

    @abstractmethod
    def evaluate(self, step: int, observer: Observer) -> dict[str, float]:
        """Evaluate after `step` and return the values to log."""

    @abstractmethod
    def saves_after(self, step: int) -> bool:
        """Tell, the same on all processes, whether a checkpoint is due after this step."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside weights and optimizer, as JSON."""
        return {}

    def extra_tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return further tensors of a checkpoint (any dtype and shape), by file name and tensor name."""
        return {}

    def restore(self, checkpoint: Path, state: dict[str, Any]) -> None:
        """Take up what `state` and `extra_tensors` gave."""

    @abstractmethod
    def outcome(self) -> AnyOutcome:
        """Return the result of the run after its last step; called on all processes."""

    # ------------------------------------------------------------------ of all

    @contextmanager
    def training(
        self, *, resume: bool, overwrite: bool, observer: Observer | None = None
    ) -> Iterator[AnyOutcome]:
        """Train to the last step and yield the outcome while the folder is still locked.

        The main process writes the artifact within the block, up to its manifest. On a normal exit the
        checkpoints are removed, and the processes wait for each other: all may then read the artifact.

        Raises
        ------
        Interrupted
            On SIGINT (130) or SIGTERM (143), after a checkpoint was saved.
        OverwriteError
            If `out` holds a finished artifact and `overwrite` is false, or something that is not ours, or
            another command is writing to it.
        """
        check_run_folder(self.out, self.kind, overwrite=overwrite)
        is_main = self.processes.is_main
        if is_main:
            self.out.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self.out, self.out) if is_main else nullcontext():
            self.started = time.perf_counter()
            self._train(
                resume=resume, overwrite=overwrite, observer=observer if is_main and observer else Observer()
            )
            yield self.outcome()
            if is_main:
                shutil.rmtree(self.out / FOLDER, ignore_errors=True)
            self.processes.barrier()

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

    def _train(self, *, resume: bool, overwrite: bool, observer: Observer) -> None:
        done = self._begin(resume=resume, overwrite=overwrite, observer=observer)
        metrics = MetricsFile(self.out / METRICS, done) if self.processes.is_main else None
        try:
            with stop_on_signals(single_process=self.processes.world_size == 1) as request:
                self._loop(done, metrics, observer, request)
        finally:
            if metrics is not None:
                metrics.close()

    def _begin(self, *, resume: bool, overwrite: bool, observer: Observer) -> int:
        """Make `out` ready and return the step to go on after (0: from the start)."""
        check_run_folder(self.out, self.kind, overwrite=overwrite)
        finished = is_finished(self.out)
        if not finished:
            self._check_same_kind()
        self.processes.barrier()
        checkpoint = None if finished or not resume else newest_checkpoint(self.out)
        if checkpoint is None:
            if self.processes.is_main:
                clear_run_folder(self.out)
            self.processes.barrier()
            return 0
        state = read_state(checkpoint)
        self._check_same_run(checkpoint, state, observer)
        weights, moments = load_tensors(checkpoint)
        self.engine.load_state(state["step"], weights, moments)
        self.restore(checkpoint, state)
        observer.resumed(state["step"])
        return int(state["step"])

    def _check_same_kind(self) -> None:
        """Refuse another kind's unfinished run, which starting again would remove."""
        checkpoint = newest_checkpoint(self.out)
        if checkpoint is None:
            return
        try:
            kind = read_state(checkpoint).get("run", {}).get("kind", self.kind)
        except InputError:  # damaged: of no use to anybody
            return
        if kind != self.kind:
            raise OverwriteError(
                f"{self.out} holds an unfinished {kind} artifact, not a {self.kind}; choose another --out"
            )

    def _check_same_run(self, checkpoint: Path, state: dict[str, Any], observer: Observer) -> None:
        before, now = state["run"], self._identity()
        for group in ("params", "inputs"):
            for name in sorted({*before[group], *now[group]} - set(MAY_CHANGE_ON_RESUME)):
                old, new = before[group].get(name), now[group].get(name)
                if old != new:
                    raise UsageError(
                        f"{checkpoint} was made with {name} = {old}, this run has {new}: repeat the old"
                        " options to go on, or add --no-resume to start again"
                    )
        if before["precision"] != now["precision"]:
            observer.warned(
                f"the run so far was computed in {before['precision']}, it goes on in {now['precision']}:"
                " the result will not equal an uninterrupted one"
            )

    def _identity(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "params": self.params,
            "inputs": self.inputs,
            "precision": self.precision,
        }

    def _loop(self, done: int, metrics: MetricsFile | None, observer: Observer, request: StopRequest) -> None:
        steps = self.engine.recipe.steps
        made: AnyStep | None = None
        for step in range(done + 1, steps + 1):
            made = made or self.make_step(step)
            # Before an evaluation may change what the next steps are like.
            described = self.describe(step, made)
            loss_sum = self.engine.step(step, made.batches, made.n_targets)
            evaluates = self.evaluates_after(step)
            # On CUDA the step above is still running: make the next one meanwhile, unless an evaluation
            # may change its strategy.
            upcoming = self.make_step(step + 1) if not evaluates and step < steps else None
            signum, loss = self._reduce(loss_sum, request)
            if not math.isfinite(loss):
                raise CmgemsError(
                    f"the loss became {loss} at step {step}; lower --lr (now"
                    f" {self.engine.recipe.learning_rate:g}) and start again with --no-resume"
                )
            record: dict[str, Any] = {
                "step": step,
                "loss": loss / made.n_targets if made.n_targets else None,
                "lr": self.engine.recipe.learning_rate_at(step),
                **described,
            }
            if evaluates:
                record |= self.evaluate(step, observer)
            if metrics is not None:
                metrics.write(record)
                observer.stepped(record, made.n_tokens)
            # One process need not wait for the next step's sums to hear of a signal that came since.
            signum = signum or (request.signum if self.processes.world_size == 1 else 0)
            if signum or (self.saves_after(step) and step < steps):
                self._save(step)
            if signum:
                raise Interrupted(
                    f"stopped after step {step}; the same command goes on from {self.out / FOLDER}",
                    128 + signum,
                )
            made = upcoming

    def _reduce(self, loss_sum: torch.Tensor, request: StopRequest) -> tuple[int, float]:
        """Return (signal that asks to stop, loss sum), both agreed on by all processes."""
        values = torch.zeros(3, dtype=torch.float64, device=loss_sum.device)
        values[0] = loss_sum
        values[1] = float(request.signum == 2)  # SIGINT
        values[2] = float(request.signum == 15)  # SIGTERM
        loss, interrupted, terminated = self.processes.all_reduce_sum(values).tolist()
        return (15 if terminated else 2 if interrupted else 0), loss

    def _save(self, step: int) -> None:
        if self.processes.is_main:
            weights, moments = self.engine.state()
            state = {"run": self._identity(), **self.state()}
            save_checkpoint(self.out, step, weights, moments, state, self.extra_tensors())
        self.processes.barrier()

    def timed_step(self, step: int, batches: Sequence[Batch], n_targets: int) -> float:
        """Take a step and return its seconds. It changes the weights: for plans only."""
        started = time.perf_counter()
        self.engine.step(step, batches, n_targets).item()
        return time.perf_counter() - started


def check_run_folder(
    out: Path,
    kind: str = "model",
    *,
    overwrite: bool,
    begun_by: str = METRICS,
    what: str = "run",
    replacing: str = "to replace it",
) -> None:
    """Refuse a folder to work in: a finished artifact without `overwrite`, or one that is not ours.

    Parameters
    ----------
    out : Path
    kind : str
        Of the artifact to be made.
    overwrite : bool
    begun_by : str
        What an unfinished one holds: a file or folder.
    what : str
        What an unfinished one is called.
    replacing : str
        What `overwrite` is for.

    Raises
    ------
    OverwriteError
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise OverwriteError(f"{out} is a file; choose another --out")
    if is_finished(out):
        found = kind_at(out)
        if found != kind:
            raise OverwriteError(f"{out} holds a {found} artifact, not a {kind}; choose another --out")
        if not overwrite:
            raise OverwriteError(
                f"{out} already holds a finished {kind} artifact;"
                f" add --overwrite {replacing} or choose another --out"
            )
        return
    if any(out.iterdir()) and not (out / begun_by).exists():
        raise OverwriteError(
            f"{out} exists and is not an unfinished {what}; choose another --out or remove it yourself"
        )


def clear_run_folder(out: Path) -> None:
    """Remove what a run wrote in `out`, and nothing else.

    The manifest goes first, so that a half-cleared folder is unfinished.
    """
    if not out.exists():
        return
    if is_finished(out):
        remove_artifact(out)
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    (out / METRICS).unlink(missing_ok=True)


def device_name(device: torch.device) -> str:
    """Return what the manifest's environment calls a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    import platform

    return f"cpu ({platform.machine()})"
