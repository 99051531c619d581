"""Fine-tuning: the loop from a model and labelled sequences to a classifier artifact, resumable at any step."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cmgems_cli.datasets.leakage import leakage_stats
from cmgems_cli.datasets.loaded_task import EncodedSplit, LoadedTask
from cmgems_cli.datasets.recipe import Recipe as TaskRecipe
from cmgems_cli.errors import DivergedError, UsageError
from cmgems_cli.metrics import predicted_of
from cmgems_cli.modeling.classifier import SequenceClassifier
from cmgems_cli.modeling.encoder import packs_sequences
from cmgems_cli.modeling.head_outputs import outputs_for
from cmgems_cli.modeling.lora import lora_params, merge_lora
from cmgems_cli.training.checkpoints import Checkpoint
from cmgems_cli.training.engine import Engine, Recipe, draws_dropout
from cmgems_cli.training.finetune_batches import (
    FinetuneBatches,
    LabelledBatch,
    LabelledStep,
    evaluation_batches,
)
from cmgems_cli.training.finetune_outcome import FinetuneOutcome
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.run import Run

BEST = "best"

# torch's and transformers' defaults: GUE's published recipe names AdamW and nothing more (method, section 7).
BETAS, EPS, CLIP_NORM = (0.9, 0.999), 1e-8, 1.0

# ours: a minute of work is soon repeated, and most evaluations then need no checkpoint.
SECONDS_BETWEEN_CHECKPOINTS = 60.0


def _forward(module: torch.nn.Module, batch: LabelledBatch) -> torch.Tensor:
    loss: torch.Tensor = module(batch.input_ids, batch.attention_mask, batch.labels)
    return loss


def _logits(module: torch.nn.Module, batch: LabelledBatch) -> torch.Tensor:
    assert isinstance(module, SequenceClassifier)
    return module.logits(batch.input_ids, batch.attention_mask)


def training_params(recipe: TaskRecipe, n_train: int, seed: int) -> dict[str, Any]:
    """Return what a run's manifest records of its training on `n_train` rows, before any model is made."""
    steps = recipe.total_steps(n_train)
    return {
        "steps": steps,
        "warmup_steps": recipe.warmup(steps),
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "global_batch": recipe.global_batch,
        "eval_every": recipe.eval_every,
        "keeps": recipe.selects,
        "seed": seed,
        **recipe.ways(),
        **(lora_params(recipe.lora) if recipe.lora else {}),
    }


class FinetuningRun(Run[LabelledStep, FinetuneOutcome]):
    """One run, checked and loaded, ready to be planned or trained.

    Parameters
    ----------
    model : BertForSequenceClassification, or another family's
        As many classes as the task.
    task : LoadedTask
        With the rows of this run: `LoadedTask.drawn`.
    seed : int
        The order of rows and dropout follow from it.
    max_batch_tokens : int, tokens
        Bound on one micro-batch, padding included.
    params, inputs : dict
        Recorded in the manifest. A checkpoint is resumed only if both are unchanged.
    out : Path
    processes : Processes
    precision : str
        fp32 or bf16, resolved.
    kind : str
        Of the artifact that the caller will write: classifier or scores.

    Raises
    ------
    UsageError
        If a sequence is longer than a micro-batch may be.
    """

    # What a progress bar counts.
    unit = "steps"

    def __init__(
        self,
        model: Any,
        task: LoadedTask,
        *,
        seed: int,
        max_batch_tokens: int,
        params: dict[str, Any],
        inputs: dict[str, str],
        out: Path,
        processes: Processes,
        precision: str,
        kind: str = "classifier",
    ) -> None:
        self.task, self.recipe = task, task.recipe
        outputs = outputs_for(task.target.problem, task.train.labels)
        self.module = SequenceClassifier(
            model,
            task.tokenization,
            task.recipe.pool,
            averages_strands=task.recipe.averages,
            class_weights=torch.from_numpy(task.class_weights()) if task.recipe.balances else None,
            outputs=outputs,
        )
        trained = (parameter for parameter in self.module.parameters() if parameter.requires_grad)
        self.trained_parameters = sum(parameter.numel() for parameter in trained)
        self.steps = self.recipe.total_steps(len(task.train))
        self.warmup_steps = self.recipe.warmup(self.steps)
        self.max_batch_tokens = max_batch_tokens
        splits = (task.train, task.dev, task.test)
        longest = max(int(split.lengths().max()) for split in splits if split is not None)
        if longest > max_batch_tokens:
            raise UsageError(
                f"`max_batch_tokens={max_batch_tokens}` is below the longest sequence ({longest} tokens)"
            )
        self.seed = seed
        super().__init__(
            kind=kind,
            params={**params, **training_params(task.recipe, len(task.train), seed)},
            inputs=inputs,
            out=out,
            processes=processes,
            precision=precision,
        )
        self._dev: list[LabelledBatch] | None = None
        self.best: tuple[int, float] | None = None
        # Combinations of several values; more than one in a `ChosenRun`.
        self.n_trials = 1
        self._best_weights: dict[str, torch.Tensor] = {}
        self._saved_at = time.monotonic()

    def make_engine(self) -> Engine:
        """Return the engine that trains the model."""
        recipe = Recipe(
            self.recipe.learning_rate,
            self.steps,
            self.warmup_steps,
            BETAS,
            EPS,
            self.recipe.weight_decay,
            CLIP_NORM,
            self.recipe.embedding_lr,
        )
        return Engine(
            self.module,
            _forward,
            recipe,
            processes=self.processes,
            precision=self.precision,
            seed=self.seed,
        )

    @cached_property
    def maker(self) -> FinetuneBatches:
        """What makes the steps' data; without the engine, whose creation on one process would wait for the others."""
        train = self.task.train
        return FinetuneBatches(
            replace(train, labels=self.module.outputs.standardised(train.labels)),
            self.recipe.global_batch,
            self.max_batch_tokens,
            self.seed,
            self.processes,
            fixed_cut=draws_dropout(self.module),
            packed=self.module.packs and packs_sequences(self.processes.device, self.precision),
        )

    def seconds_per_step(self) -> float:
        """Time the second step. It changes the weights: for plans only."""
        made = [self.maker.make(step) for step in (1, min(2, self.steps))]
        return [self.timed_step(1, step.batches, step.n_targets) for step in made][-1]

    # ------------------------------------------------------------------ training

    def make_step(self, step: int) -> LabelledStep:
        """Return the rows of a step as micro-batches."""
        return self.maker.make(step)

    def describe(self, step: int, data: LabelledStep) -> dict[str, Any]:
        """Return the epoch the step belongs to."""
        return {"epoch": data.epoch}

    def sequences(self, step: int, batch: LabelledBatch) -> list[int]:
        """Return the rows of a micro-batch, on whichever strand they are read."""
        rows: list[int] = (batch.rows % len(self.task.train)).tolist()
        return rows

    def evaluates_after(self, step: int) -> bool:
        """Return whether the dev split is due: at the end too, whatever the interval."""
        every = self.recipe.eval_every
        return every is not None and (step % every == 0 or step == self.steps)

    def evaluate(self, step: int, observer: Observer) -> dict[str, float]:
        """Measure the loss on dev, as in training, and keep the weights if it is the least so far."""
        dev = self.task.dev
        assert dev is not None
        if self._dev is None:
            self._dev = self._batches(dev)
        logits = self._logits_of(dev, self._dev)
        outputs = self.module.outputs
        labels = torch.from_numpy(outputs.standardised(dev.labels))
        # Rank 0's value decides, on every process.
        mean = float(self.module.loss_sum(logits.double(), labels)) / len(dev)
        loss = self.processes.broadcast_from_main(mean)
        self._check_finite(logits, f"the dev split after step {step}")
        if self.recipe.selects == "best" and (self.best is None or loss < self.best[1]):
            self.best = (step, loss)
            trained = self.engine.trained()
            self._best_weights = {name: parameter.detach().clone() for name, parameter in trained.items()}
        return {"dev_loss": loss, **_dev_score(dev.labels, outputs.predictions(logits).numpy())}

    def saves_after(self, step: int) -> bool:
        """Return whether a checkpoint is due: with an evaluation, and not too soon after the last one."""
        if not self.evaluates_after(step):
            return False
        due = float(time.monotonic() - self._saved_at >= SECONDS_BETWEEN_CHECKPOINTS)
        # Clocks differ: rank 0's decides.
        if not self.processes.broadcast_from_main(due):
            return False
        self._saved_at = time.monotonic()
        return True

    def state(self) -> dict[str, Any]:
        """Return which step was the best so far, and its dev loss."""
        return {"best": None if self.best is None else {"step": self.best[0], "dev_loss": self.best[1]}}

    def extra_tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the weights of the best step so far: float32 tensors of the shape of the parameters."""
        return {BEST: self._best_weights} if self.best else {}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the best step so far (raises ValueError if it is out of range)."""
        best = checkpoint.state["best"]
        if best is not None:
            step, loss = int(best["step"]), float(best["dev_loss"])
            if not 1 <= step <= checkpoint.step or not math.isfinite(loss):
                raise ValueError(f"best step {step} with dev loss {loss}")
            weights = checkpoint.extra(BEST)
            self.engine.check_weights(weights)
            self.best, self._best_weights = (step, loss), weights

    # ------------------------------------------------------------------ test

    def outcome(self) -> FinetuneOutcome:
        """Test the selected model, once."""
        self.select()
        return self.applied_to(self.task.test, "the test split")

    def select(self) -> None:
        """Restore the weights that the recipe selects."""
        if self.recipe.selects == "best":
            self.engine.load_weights(self._best_weights)
        # What is tested is what is written.
        merge_lora(self.module.model)

    def applied_to(self, data: EncodedSplit, where: str) -> FinetuneOutcome:
        """Apply the model as it is to labelled sequences, which `where` names."""
        logits = self._logits_of(data, self._batches(data))
        self._check_finite(logits, where)
        outputs, logits = self.module.outputs, logits.double()
        loss = outputs.loss(logits, torch.from_numpy(outputs.standardised(data.labels))) / len(data)
        return FinetuneOutcome(
            data.labels,
            outputs.predictions(logits).numpy(),
            self.task.label_names,
            self.module,
            self._stats(),
            float(loss),
        )

    def _stats(self) -> dict[str, Any]:
        task = self.task
        return {
            "steps": self.steps,
            "parameters": self.parameters,
            **({"trained_parameters": self.trained_parameters} if self.recipe.lora else {}),
            "best_step": self.best[0] if self.best else None,
            "best_dev_loss": self.best[1] if self.best else None,
            "n_train": len(task.train),
            "n_dev": len(task.dev) if task.dev is not None else 0,
            "n_test": len(task.test),
            "problem": task.target.problem,
            "notes": list(task.notes),
            "leakage": leakage_stats(task.leakage),
        }

    def _batches(self, data: EncodedSplit) -> list[LabelledBatch]:
        return evaluation_batches(data, self.max_batch_tokens, self.processes, packed=self.maker.packed)

    def _check_finite(self, logits: torch.Tensor, where: str) -> None:
        if not bool(torch.isfinite(logits).all()):
            raise DivergedError(
                f"the model diverged: not all its outputs on {where} are finite; lower `lr` (now"
                f" {self.recipe.learning_rate:g}) and start again with `resume=False`"
            )

    def _logits_of(self, data: EncodedSplit, batches: Sequence[LabelledBatch]) -> torch.Tensor:
        """Return the logits of all rows in their order, the means over their strands, on the CPU of every process.

        float32, shape (n_rows, n_labels). Each sequence is one process's and 0 on the others: the sum is exact.
        """
        shape = (data.strands * len(data), len(self.task.label_names))
        logits = torch.zeros(shape, device=self.processes.device)
        for batch, found in zip(batches, self.engine.outputs(_logits, batches), strict=True):
            logits[torch.from_numpy(batch.rows).to(logits.device)] = found
        summed = self.processes.all_reduce_sum(logits, after_long_work=True).cpu()
        return summed.view(data.strands, len(data), -1).mean(0)


def _dev_score(labels: NDArray[Any], predictions: NDArray[np.float64]) -> dict[str, float]:
    """Return the metric of the dev split that progress shows: accuracy, or R² of values that vary."""
    predicted = predicted_of(labels, predictions)
    if labels.dtype.kind != "f":
        right = labels == predicted
        return {"dev_accuracy": float((right.all(1) if right.ndim == 2 else right).mean())}
    variance = float(labels.var())
    return {"dev_r2": 1 - float(np.square(labels - predicted).mean()) / variance} if variance else {}
