"""Builds fine-tuning runs from a model and a task, with all files read and checked."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cmgems_cli import workspace
from cmgems_cli.artifacts import MANIFEST, Manifest, is_finished, parse_manifest
from cmgems_cli.bench.frozen import FrozenRun, grid_of
from cmgems_cli.comparing.pairing import recorded_of
from cmgems_cli.datasets.finetune_options import FinetuneOptions, Pool
from cmgems_cli.datasets.labelled_formats import digest_of_rows
from cmgems_cli.datasets.loaded_task import LoadedTask, load_task, recipe_of_task
from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.datasets.task_files import POOL, TaskFiles
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.extras import need
from cmgems_cli.inference.embedding_cache import EmbeddingCache
from cmgems_cli.modeling.classifier import new_classifier
from cmgems_cli.modeling.lora import add_lora
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.outputs import Output
from cmgems_cli.training.finetune_run import FinetuningRun, training_params
from cmgems_cli.training.micro_batch import batch_tokens
from cmgems_cli.training.processes import Processes, resolve_precision
from cmgems_cli.training.run import MACHINE
from cmgems_cli.training.trials import CHOSEN, ChosenRun, TrialRun, drawn_combinations

# Parameters of runs that a frozen model does not have.
_OF_TRAINING = ("epochs", "max_steps", "dropout")


class Finetuner:
    """A model and options, to be fine-tuned on any task with any seed.

    The files of a task are read once for all of its consecutive runs.

    Parameters
    ----------
    source : ModelSource
    options : FinetuneOptions
    processes : Processes

    Raises
    ------
    UsageError
        If the device does not have the precision, or options contradict each other.
    """

    reusable = False

    def __init__(self, source: ModelSource, options: FinetuneOptions, processes: Processes) -> None:
        options.check()
        if options.lora:
            need("peft", "lora", "`lora`", instead="leave `lora` out")
        self.source, self.options, self.processes = source, options, processes
        self.precision = resolve_precision(options.precision, processes.device)
        self._last: tuple[TaskFiles, LoadedTask] | None = None
        self._hashed: dict[Path, str] = {}

    @property
    def random_weights(self) -> bool:
        """Whether the model was not pretrained."""
        return not self.source.weights

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of the model's folders."""
        return self.source.inputs

    def settings(self) -> dict[str, Any]:
        """Return what an evaluation records of its runs: the weights, and what differs from the recipes."""
        return {"init": self.source.init, **self.changes()}

    def changes(self) -> dict[str, Any]:
        """Return what differs from the recipes; several values as a list, as they are recorded."""
        changes = self.options.changes()
        return {name: list(value) if isinstance(value, tuple) else value for name, value in changes.items()}

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
                tokenization=self.source.tokenization,
                positions=self.source.architecture.positions,
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

    def describe(
        self, task: TaskFiles, seed: int, finished: Manifest | None = None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the `params` and `inputs` that a finished run would have today.

        The data are read only if they have changed, or the recipe depends on them (errors as `load`).
        """
        for path in task.files.values() - self._hashed.keys():
            self._hashed[path] = digest_of_rows(path)
        digests = {split: self._hashed[path] for split, path in task.files.items()}
        inputs = {**digests, **self.source.inputs}
        stats = finished.stats if finished else {}
        n_train = stats.get("n_train")
        if finished and n_train and inputs == finished.inputs and (task.shots or POOL not in task.files):
            recipe = recipe_of_task(
                task,
                self.options.changes(),
                tokenization=self.source.tokenization,
                positions=self.source.architecture.positions,
            )
        else:
            loaded = self.load(task, seed)
            recipe, n_train = loaded.recipe, len(loaded.train)
        recipe = recipe.chosen(stats.get(CHOSEN))
        if recipe.freeze:
            return self._frozen_params(task, recipe, seed), inputs
        return {**self._params(task, recipe), **training_params(recipe, n_train, seed)}, inputs

    def build_finetuning_run(
        self, task: TaskFiles, out: Path, seed: int, kind: str = "classifier"
    ) -> FinetuningRun | FrozenRun:
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
        if loaded.recipe.freeze:
            return self._frozen_run(task, loaded.recipe, out, seed, kind)
        if not loaded.recipe.choices:
            return FinetuningRun(**self._arguments(task, loaded, out, seed, kind))
        chosen = replace(loaded, recipe=loaded.recipe.chosen(_chosen_before(out)))
        return ChosenRun(
            **self._arguments(task, chosen, out, seed, kind),
            combinations=drawn_combinations(loaded.recipe, seed),
            make_trial=lambda recipe, folder: TrialRun(
                **self._arguments(task, loaded.tried(recipe), folder, seed, "scores")
            ),
            metric=task.benchmark.metric,
        )

    def _arguments(
        self, task: TaskFiles, loaded: LoadedTask, out: Path, seed: int, kind: str
    ) -> dict[str, Any]:
        """Return the arguments of a `FinetuningRun`."""
        recipe = loaded.recipe
        model = new_classifier(self.source, len(loaded.label_names), dropout=recipe.dropout, seed=seed)
        if recipe.lora:
            add_lora(model, recipe.lora, seed=seed)
        return {
            "model": model,
            "task": loaded,
            "seed": seed,
            "max_batch_tokens": self.max_batch_tokens,
            "params": self._params(task, recipe),
            "inputs": {**loaded.sha256, **self.source.inputs},
            "out": out,
            "processes": self.processes,
            "precision": self.precision,
            "kind": kind,
        }

    def _frozen_run(self, task: TaskFiles, recipe: Recipe, out: Path, seed: int, kind: str) -> FrozenRun:
        assert self._last is not None
        whole = self._last[1]
        cache = EmbeddingCache(
            workspace.embeddings_folder(),
            self.source,
            pool=cast(Pool, recipe.pool),
            device=self.processes.device,
            precision=self.precision,
            seed=seed,
            max_batch_tokens=self.options.max_batch_tokens,
        )
        params = self._frozen_params(task, recipe.chosen(_chosen_before(out)), seed)
        inputs = {**whole.sha256, **self.source.inputs}
        output = Output(
            out, kind, params=params, inputs=inputs, machine=MACHINE, revisable=recipe.choices.keys()
        )
        pools = [cast(Pool, one.pool) for one in recipe.combinations()]
        return FrozenRun(whole, seed, [cache.with_pool(pool) for pool in pools], output, self.processes)

    def _frozen_params(self, task: TaskFiles, recipe: Recipe, seed: int) -> dict[str, Any]:
        params = {
            name: value for name, value in self._params(task, recipe).items() if name not in _OF_TRAINING
        }
        return {**params, **recipe.ways(), "freeze": True, "C": grid_of(task.has_dev), "seed": seed}

    def _params(self, task: TaskFiles, recipe: Recipe) -> dict[str, Any]:
        """Return what was chosen, except the path of a model folder: its digest is among the inputs."""
        bench = task.benchmark.name or None
        return {
            "model": self.source.preset,
            "init": None if self.source.weights else "random",
            "bench": bench,
            **(recorded_of(task.benchmark) if bench else {}),
            "task": task.name if bench else None,
            "shots": task.shots,
            **task.dev_params,
            "k": self.source.tokenization.k,
            "pool": recipe.pool,
            "epochs": recipe.epochs,
            "max_steps": recipe.max_steps,
            "dropout": recipe.dropout,
            "max_tokens": recipe.max_tokens,
            "truncate": recipe.truncate,
        }


def _chosen_before(out: Path) -> Any:
    """Return what a finished run in this folder chose; None if there is no such run."""
    with suppress(InputError):  # damaged: refused later
        return parse_manifest(out / MANIFEST).stats.get(CHOSEN) if is_finished(out) else None
    return None
