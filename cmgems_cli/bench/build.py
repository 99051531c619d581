"""A model and a task become a fine-tuning run: files read, checked against each other, and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.datasets.loaded_task import LoadedTask, load_task
from cmgems_cli.datasets.task_files import TaskFiles
from cmgems_cli.errors import UsageError
from cmgems_cli.modeling.classifier import new_classifier
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.finetune_run import FinetuningRun, training_params
from cmgems_cli.training.pretrain_options import batch_tokens
from cmgems_cli.training.processes import Processes, resolve_precision


class Finetuner:
    """A model and options, to be fine-tuned on any task with any seed.

    Files are read once for all runs of a task that follow each other.

    Parameters
    ----------
    source : ModelSource
    options : FinetuneOptions
    processes : Processes

    Raises
    ------
    UsageError
        If the device does not have the precision.
    """

    def __init__(self, source: ModelSource, options: FinetuneOptions, processes: Processes) -> None:
        self.source, self.options, self.processes = source, options, processes
        self.precision = resolve_precision(options.precision, processes.device)
        self._last: tuple[TaskFiles, LoadedTask] | None = None

    def load(self, task: TaskFiles, seed: int) -> LoadedTask:
        """Return a task with the rows of the run with this seed.

        Raises
        ------
        UsageError, InputError
            As `load_task`, or if the warm-up is as long as the run.
        """
        if self._last is None or self._last[0] != task:
            loaded = load_task(
                task,
                self.options.changes(),
                k=self.source.k,
                positions=self.source.config.max_position_embeddings,
            )
            self._last = (task, loaded)
        drawn = self._last[1].drawn(seed)
        steps = drawn.recipe.total_steps(len(drawn.train))
        if self.options.warmup_steps is not None and drawn.recipe.warmup(steps) >= steps > 1:
            raise UsageError(
                f"`warmup_steps={self.options.warmup_steps}` leaves nothing of {steps} steps; lower it"
            )
        return drawn

    @property
    def max_batch_tokens(self) -> int:
        """The bound on a micro-batch: as set, or the default of the device and the model's width."""
        default = batch_tokens(self.processes.device.type, self.source.config.hidden_size)
        return self.options.max_batch_tokens or default

    def describe(self, task: TaskFiles, seed: int) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the `params` and `inputs` of a run's manifest, without making the run (errors as `load`)."""
        loaded = self.load(task, seed)
        params = {**self._params(task, loaded), **training_params(loaded, seed)}
        return params, {**loaded.sha256, **self.source.inputs}

    def build_finetuning_run(
        self, task: TaskFiles, out: Path, seed: int, kind: str = "classifier"
    ) -> FinetuningRun:
        """Build a run: everything checked and loaded.

        Parameters
        ----------
        task : TaskFiles
        out : Path
            The run's folder.
        seed : int
        kind : str
            Of the artifact that the caller will write: classifier or scores.

        Raises
        ------
        UsageError, InputError
            If options contradict each other, or an input is missing, damaged or does not fit the others.
        """
        loaded = self.load(task, seed)
        classifier = new_classifier(
            self.source, len(loaded.label_names), dropout=loaded.recipe.dropout, seed=seed
        )
        return FinetuningRun(
            classifier,
            loaded,
            seed=seed,
            max_batch_tokens=self.max_batch_tokens,
            params=self._params(task, loaded),
            inputs={**loaded.sha256, **self.source.inputs},
            out=out,
            processes=self.processes,
            precision=self.precision,
            kind=kind,
        )

    def _params(self, task: TaskFiles, loaded: LoadedTask) -> dict[str, Any]:
        """Return what was chosen. A model folder's path is not: its digest is among the inputs."""
        recipe, bench = loaded.recipe, task.benchmark.name or None
        return {
            "model": self.source.preset,
            "init": None if self.source.weights else "random",
            "bench": bench,
            "task": task.name if bench else None,
            "shots": task.shots,
            "k": loaded.k,
            "epochs": recipe.epochs,
            "max_steps": recipe.max_steps,
            "dropout": recipe.dropout,
            "max_tokens": recipe.max_tokens,
            "truncate": recipe.truncate,
        }
