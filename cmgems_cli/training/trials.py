"""Several values of options: every combination is fine-tuned, and the one that is best on dev is tested, once."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from cmgems_cli import draws
from cmgems_cli.artifacts import sha256_of_bytes, sha256_of_file
from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.errors import DivergedError, OverwriteError
from cmgems_cli.files import force_to_disk, write_json
from cmgems_cli.metrics import metric_of, score
from cmgems_cli.modeling.lora import merge_lora
from cmgems_cli.modeling.weights import write_tensors
from cmgems_cli.structured_text import read_json
from cmgems_cli.training.checkpoints import FOLDER
from cmgems_cli.training.finetune_outcome import FinetuneOutcome
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.metrics_log import METRICS
from cmgems_cli.training.observer import Observer

# Statistics of a trial in addition to those of a run: its scores on dev, and the sha256 of its weights.
DEV, SHA256, DIVERGED = "dev", "weights_sha256", "diverged"
# Where a run's statistics have the values that were chosen.
CHOSEN = "chosen"


def drawn_combinations(recipe: Recipe, seed: int) -> list[Recipe]:
    """Return the combinations to try: all, or as many as `recipe.trials`, drawn by the seed, in their order."""
    found = recipe.combinations()
    if recipe.trials is None or recipe.trials >= len(found):
        return found
    stream = np.uint64(draws.key(seed, draws.TRIALS))
    drawn = {int(draws.permuted(number, len(found), stream)) for number in range(recipe.trials)}
    return [found[number] for number in sorted(drawn)]


class TrialRun(FinetuningRun):
    """One combination: fine-tuned like any run, but applied to dev instead of test. Its weights are kept next to it."""

    @property
    def weights_file(self) -> Path:
        """Where the selected weights are, until another trial turns out to be better."""
        return self.out.with_name(f"{self.out.name}.safetensors")

    @property
    def _failure(self) -> Path:
        return self.out.with_name(f"{self.out.name}.json")

    def outcome(self) -> FinetuneOutcome:
        """Apply the selected model to dev."""
        self.select()
        assert self.task.dev is not None
        return self.applied_to(self.task.dev, "the dev split")

    def done(self) -> dict[str, Any] | None:
        """Return the statistics of a trial that is finished, None if it is not."""
        with suppress(OverwriteError):  # damaged: it is repeated
            manifest = self.finished()
            if manifest is not None:
                return dict(manifest.stats)
        return self._diverged()

    def _diverged(self) -> dict[str, Any] | None:
        """Return what `complete` kept of a trial that diverged, None without it or if it is damaged."""
        with suppress(OSError, ValueError, TypeError, KeyError):
            kept = read_json(self._failure)
            if kept["sha256"] == sha256_of_bytes(str(kept[DIVERGED]).encode()):
                return {DIVERGED: kept[DIVERGED]}
        return None

    def complete(self, observer: Observer) -> dict[str, Any]:
        """Do what is left of the trial, and return its statistics."""
        stats = self.done()
        if stats is not None:
            return stats
        try:
            with self.training(resume=True, overwrite=True, observer=observer) as outcome:
                if self.processes.is_main:
                    self._keep(outcome)
        except DivergedError as error:
            # Some of the rates that are tried may be too high.
            if self.processes.is_main:
                said = str(error)
                write_json(self._failure, {DIVERGED: said, "sha256": sha256_of_bytes(said.encode())})
            self.processes.barrier()
        stats = self.done()
        assert stats is not None
        return stats

    def _keep(self, outcome: FinetuneOutcome) -> None:
        weights = {name: parameter.detach().cpu() for name, parameter in self.module.named_parameters()}
        write_tensors(self.weights_file, weights)
        force_to_disk(self.weights_file)
        dev = {**score(outcome.labels, outcome.probabilities), "loss": outcome.loss}
        stats = {**outcome.stats, DEV: dev, SHA256: sha256_of_file(self.weights_file)}
        self.finish(stats=stats, files=[], max_batch_tokens=self.max_batch_tokens)

    def restore_weights(self, stats: Mapping[str, Any]) -> None:
        """Load the weights that were kept, or make the trial again if they are damaged."""
        whole = self.weights_file.is_file() and sha256_of_file(self.weights_file) == stats[SHA256]
        # Rank 0's view of the disk decides, so that all processes do the same.
        if self.processes.broadcast_from_main(float(whole)):
            # The kept weights are merged ones.
            merge_lora(self.module.model)
            self.engine.load_weights(load_file(self.weights_file))
            return
        with self.training(resume=False, overwrite=True) as outcome:
            if self.processes.is_main:
                self._keep(outcome)


class ChosenRun(FinetuningRun):
    """A run that fine-tunes every combination of its recipe's choices and tests the best one.

    The best has the highest main metric on dev; of equal ones the lowest loss on dev, without class weights, then the
    first. Losses alone would not do: with class weights they mean something else.

    Parameters
    ----------
    model, task, options
        As for `FinetuningRun`; the recipe of the task has choices.
    combinations : sequence of Recipe
    make_trial : callable
        Returns the `TrialRun` of a combination in a folder.
    metric : str
        The main metric.
    """

    def __init__(
        self,
        model: Any,
        task: Any,
        *,
        combinations: Sequence[Recipe],
        make_trial: Callable[[Recipe, Path], TrialRun],
        metric: str,
        **options: Any,
    ) -> None:
        super().__init__(model, task, **options)
        self.combinations, self.make_trial, self.metric = combinations, make_trial, metric
        self.steps_of_trial = self.steps
        self.n_trials = len(combinations)
        # What a progress bar counts.
        self.steps *= len(combinations)
        # What was chosen is known at the end only.
        self.output.revisable = {*self.output.revisable, *self.recipe.choices}
        self._stats_of: list[dict[str, Any]] = []

    def train(self, *, resume: bool, observer: Observer) -> None:
        """Complete every trial; only the weights of the best one so far are kept."""
        best: Path | None = None
        for number in range(len(self.combinations)):
            trial = self._trial(number)
            stats = trial.done()
            if stats is None:
                before = number * self.steps_of_trial
                if before:
                    observer.resumed(before)
                stats = trial.complete(_OfTrial(observer, before, trial.out.name))
            self._stats_of.append(stats)
            loser: Path | None = trial.weights_file
            if self._best() == number:
                loser, best = best, loser
            if loser is not None and self.processes.is_main:
                loser.unlink(missing_ok=True)
            self.processes.barrier()

    def outcome(self) -> FinetuneOutcome:
        """Test the best trial's model.

        Raises
        ------
        DivergedError
            If every trial diverged.
        """
        number = self._best()
        if number is None:
            raise DivergedError(
                f"all {len(self.combinations)} trials diverged, the first: {self._stats_of[0][DIVERGED]}"
            )
        best, stats = self._trial(number), self._stats_of[number]
        best.restore_weights(stats)
        tested = best.applied_to(best.task.test, "the test split")
        self.module, self.recipe = best.module, self.recipe.chosen(vars(self.combinations[number]))
        chosen = self.recipe.chosen_values()
        self.params.update(chosen)
        self.output.params.update(chosen)
        if self.processes.is_main:
            shutil.copyfile(best.out / METRICS, self.folder / METRICS)
        of_run = {name: value for name, value in stats.items() if name not in (DEV, SHA256)}
        found = [self._record(at) for at in range(len(self.combinations))]
        notes = [self._note(chosen, found[number]), *of_run["notes"]]
        return replace(tested, stats={**of_run, "notes": notes, CHOSEN: chosen, "trials": found})

    def _trial(self, number: int) -> TrialRun:
        folder = self.folder / FOLDER / f"trial_{number:03d}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        return self.make_trial(self.combinations[number], folder)

    def _best(self) -> int | None:
        """Return the number of the best of the trials so far, None if all diverged."""
        # Of a metric that is an error, the lowest value is the best.
        sign = metric_of(self.metric).sign
        keys = {
            number: (sign * stats[DEV].get(self.metric, -sign * math.inf), -stats[DEV]["loss"], -number)
            for number, stats in enumerate(self._stats_of)
            if DIVERGED not in stats
        }
        return max(keys, key=keys.__getitem__, default=None)

    def _record(self, number: int) -> dict[str, Any]:
        """Return what a manifest says of a trial."""
        recipe, stats = self.combinations[number], self._stats_of[number]
        values = {name: getattr(recipe, name) for name in self.recipe.choices}
        if DIVERGED in stats:
            return {**values, DIVERGED: True}
        scores = {f"dev_{name}": stats[DEV][name] for name in (self.metric, "loss") if name in stats[DEV]}
        return {**values, **scores, "best_step": stats["best_step"]}

    def _note(self, chosen: Mapping[str, Any], record: Mapping[str, Any]) -> str:
        said = ", ".join(f"{name} {value}" for name, value in chosen.items())
        metric, value = metric_of(self.metric), record.get(f"dev_{self.metric}")
        dev = (
            ""
            if value is None
            else f", dev {metric.printed_title} {metric.scale * value:.{metric.decimals}f}"
        )
        return f"chosen on dev from {len(self.combinations)} trials: {said}{dev}"


class _OfTrial(Observer):
    """Reports the steps of one trial as those of all; its metrics go to a folder of their own."""

    def __init__(self, observer: Observer, before: int, name: str) -> None:
        self._observer, self._before = observer, before
        self.events = observer.events and observer.events.below(name)

    def resumed(self, step: int) -> None:
        self._observer.resumed(self._before + step)

    def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
        self._observer.stepped({**record, "step": self._before + record["step"]}, n_tokens)

    def warned(self, message: str) -> None:
        self._observer.warned(message)
