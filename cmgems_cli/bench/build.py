"""A model and a task become a fine-tuning run: everything opened, checked against each other, and loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.comparing.metrics import score
from cmgems_cli.datasets.task_rows import FoundTask, TaskData, TaskRows, changed, read_task_data
from cmgems_cli.datasets.tasks import FewshotTask, Recipe
from cmgems_cli.datasets.tasks import Task as GueTask
from cmgems_cli.errors import UsageError
from cmgems_cli.modeling.classifier import new_classifier
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.finetune_batches import Labelled
from cmgems_cli.training.finetune_run import FinetuningRecipe, FinetuningRun, Task
from cmgems_cli.training.pretrain_options import batch_tokens
from cmgems_cli.training.processes import Processes, resolve_precision

# The settings that depart from a published recipe.
OF_RECIPE = (
    "epochs",
    "max_steps",
    "warmup_steps",
    "learning_rate",
    "global_batch",
    "eval_every",
    "max_tokens",
    "truncate",
)


@dataclass(frozen=True)
class Settings:
    """What a user may say about a run; None stands for the recipe's or the model's own.

    Attributes
    ----------
    epochs, max_steps, warmup_steps, global_batch, eval_every : int, optional
    learning_rate : float, optional
    max_tokens : int, tokens, optional
        Special tokens not counted.
    truncate : bool
    max_batch_tokens : int, tokens, optional
    precision : str
        auto, fp32 or bf16.
    """

    epochs: int | None = None
    max_steps: int | None = None
    warmup_steps: int | None = None
    learning_rate: float | None = None
    global_batch: int | None = None
    eval_every: int | None = None
    max_tokens: int | None = None
    truncate: bool = False
    max_batch_tokens: int | None = None
    precision: str = "auto"

    def changed(self) -> dict[str, Any]:
        """Return what differs from the published recipes."""
        given = {name: getattr(self, name) for name in OF_RECIPE}
        return {name: value for name, value in given.items() if value is not None and value is not False}


@dataclass(frozen=True, eq=False)
class Prepared:
    """All of a run but its model: what its manifest will say, and the rows.

    Attributes
    ----------
    params, inputs : dict
        As in the manifest.
    """

    rows: TaskRows
    recipe: FinetuningRecipe
    dropout: float | None
    params: dict[str, Any]
    inputs: dict[str, str]


class Finetuner:
    """A model and settings, to be fine-tuned on any task with any seed.

    Files are read once for all runs of a task that follow each other.

    Parameters
    ----------
    source : ModelSource
    settings : Settings
    processes : Processes

    Raises
    ------
    UsageError, InputError
        If the model is missing or damaged, or the precision is not to be had.
    """

    def __init__(self, source: ModelSource, settings: Settings, processes: Processes) -> None:
        self.source, self.settings, self.processes = source, settings, processes
        self.precision = resolve_precision(settings.precision, processes.device)
        self._last: TaskData | None = None

    def read(self, found: FoundTask) -> TaskData:
        """Return the files of a task (UsageError, InputError: as `read_task_data`)."""
        if self._last is None or self._last.found != found:
            self._last = read_task_data(
                found,
                k=self.source.k,
                positions=self.source.config.max_position_embeddings,
                max_tokens=self.settings.max_tokens,
                truncate=self.settings.truncate,
            )
        return self._last

    def prepare(self, found: FoundTask, seed: int) -> Prepared:
        """Settle everything about a run but its weights (UsageError, InputError: options or data are off)."""
        rows, settings = self.read(found).rows(seed), self.settings
        published = changed(
            rows.recipe,
            epochs=settings.epochs,
            max_steps=settings.max_steps,
            warmup_steps=settings.warmup_steps,
            learning_rate=settings.learning_rate,
            global_batch=settings.global_batch,
            eval_every=settings.eval_every,
        )
        default = batch_tokens(self.processes.device.type, self.source.config.hidden_size)
        recipe = _resolved(published, len(rows.train), settings, seed, default)
        return Prepared(
            rows,
            recipe,
            published.dropout,
            _params(self.source, rows, published, recipe, settings),
            {**rows.sha256, **self.source.inputs},
        )

    def open(self, found: FoundTask, out: Path, seed: int, kind: str = "classifier") -> FinetuningRun:
        """Open a run: everything checked and loaded.

        Parameters
        ----------
        found : FoundTask
            From `find_task`.
        out : Path
            The run's folder.
        seed : int
        kind : str
            As in `FinetuningRun`.

        Raises
        ------
        UsageError, InputError
            If options contradict each other, or an input is missing, damaged or does not fit the others.
        """
        ready = self.prepare(found, seed)
        n_labels = len(ready.rows.train.label_names)
        classifier = new_classifier(self.source, n_labels, dropout=ready.dropout, seed=seed)
        return FinetuningRun(
            classifier,
            _task(ready.rows, self.source.k),
            ready.recipe,
            params=ready.params,
            inputs=ready.inputs,
            out=out,
            processes=self.processes,
            precision=self.precision,
            kind=kind,
        )


def _resolved(
    recipe: Recipe, n_train: int, settings: Settings, seed: int, max_batch_tokens: int
) -> FinetuningRecipe:
    steps = recipe.total_steps(n_train)
    warmup_steps = recipe.warmup(steps)
    if settings.warmup_steps is not None and warmup_steps >= steps > 1:
        raise UsageError(f"--warmup-steps {warmup_steps} leaves nothing of {steps} steps; lower it")
    return FinetuningRecipe(
        steps=steps,
        warmup_steps=warmup_steps,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        global_batch=recipe.global_batch,
        eval_every=recipe.eval_every,
        keeps=recipe.keeps,
        max_batch_tokens=settings.max_batch_tokens or max_batch_tokens,
        seed=seed,
    )


def _task(rows: TaskRows, k: int) -> Task:
    train, dev, test = (
        None if table is None else Labelled(*table.encode(k), table.labels)
        for table in (rows.train, rows.dev, rows.test)
    )
    assert train is not None
    assert test is not None
    return Task(train, dev, test, rows.train.label_names, k, rows.notes)


def score_probabilities(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Score a test split.

    Parameters
    ----------
    labels : int64, shape (n_rows,)
    probabilities : float64, shape (n_rows, n_classes)
    """
    return asdict(score(labels, probabilities.argmax(1)))


def _params(
    source: ModelSource, rows: TaskRows, published: Recipe, recipe: FinetuningRecipe, settings: Settings
) -> dict[str, Any]:
    """Say everything that was chosen. A model folder's path is no choice: its digest is among the inputs."""
    found = rows.found
    known = {GueTask: "gue", FewshotTask: "fewshot", type(None): None}
    return {
        "model": source.preset,
        "init": None if source.weights else "random",
        "bench": known[type(found.known)],
        "task": found.known.name if found.known else None,
        "shots": found.shots,
        "k": source.k,
        "epochs": published.epochs,
        "max_steps": published.max_steps,
        **asdict(recipe),
        "dropout": published.dropout,
        "max_tokens": rows.max_tokens,
        "truncate": settings.truncate,
    }
