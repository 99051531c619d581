"""Frozen models: logistic regression on embeddings that are computed once (docs/howto/compare-models.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cmgems_cli.bench.linear_probe import (
    DEFAULT_C,
    Candidate,
    Features,
    Labels,
    LinearProbe,
    choose,
    coefficients,
    fit_fixed,
)
from cmgems_cli.bench.probe_run import ProbeOutcome, ProbeRun, choice_note, stats_of
from cmgems_cli.datasets.loaded_task import EncodedSplit, LoadedTask
from cmgems_cli.inference.embedding_cache import EmbeddingCache
from cmgems_cli.metrics import main_metric
from cmgems_cli.modeling.classifier import SequenceClassifier
from cmgems_cli.modeling.head_outputs import Outputs
from cmgems_cli.outputs import Output
from cmgems_cli.training.engine import device_name
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.trials import CHOSEN

# ours: inverse strengths of the L2 penalty. Features have variance 1, so that whole decades tell enough.
FROZEN_C_GRID = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)

# ours: rows that are embedded to tell how long all of them take.
TIMED_ROWS = 256


class FrozenRun(ProbeRun):
    """One run with a frozen model: embeddings, and a logistic regression on them.

    Parameters
    ----------
    whole : LoadedTask
        With all rows that runs draw from: their embeddings are shared by all seeds.
    seed : int
        Of the draw.
    caches : sequence of EmbeddingCache
        One per pooling; of several the best on dev is chosen, as C is.
    output : Output
    processes : Processes
    """

    unit = "rows"

    def __init__(
        self,
        whole: LoadedTask,
        seed: int,
        caches: Sequence[EmbeddingCache],
        output: Output,
        processes: Processes,
    ) -> None:
        super().__init__(whole.drawn(seed), output, processes, caches[0].precision)
        self.whole, self.caches, self.rows = whole, caches, whole.rows_drawn(seed)
        self.device = device_name(processes.device)

    @property
    def splits(self) -> dict[str, EncodedSplit]:
        """What is embedded: train before any draw, dev and test."""
        of_name = {"train": self.whole.train, "dev": self.whole.dev, "test": self.whole.test}
        return {name: split for name, split in of_name.items() if split is not None}

    @cached_property
    def rows_left(self) -> int:
        """Rows that were still to be embedded when this was first asked for."""
        left = [split for cache in self.caches for split in self.splits.values() if not cache.has(split)]
        return sum(split.strands * len(split) for split in left)

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Rows that are still to be embedded; 1 without any."""
        return max(1, self.rows_left)

    def seconds_per_step(self) -> float:
        """Return how long a row takes, by embedding some: seconds; 0 if none is left."""
        if not self.rows_left:
            return 0.0
        rows = max(self.splits.values(), key=len)
        return self.caches[0].seconds(rows, min(TIMED_ROWS, len(rows))) / len(rows)

    def outcome(self, observer: Observer) -> ProbeOutcome:
        """Embed all splits, choose C, and of several poolings one, on dev and apply the model to test."""
        task = self.task
        fits = [self._fit(cache, observer) for cache in self.caches]
        every = [stats_of(task, probe) for _, _, probe in fits]
        best = min(range(len(fits)), key=lambda at: every[at]["dev_loss"]) if len(fits) > 1 else 0
        cache, stats = self.caches[best], dict(every[best])
        pool = cache.pool
        found, scaling, probe = fits[best]
        linear = scaling.folded(probe.model, len(task.label_names))
        others = ""
        if len(fits) > 1:
            self.params["pool"] = pool
            stats[CHOSEN] = {"pool": pool}
            stats["trials"] = [
                self._trial(cache, of_trial) for cache, of_trial in zip(self.caches, every, strict=True)
            ]
            others = f", of {', '.join(one.pool for one in self.caches)}"
        unknown = {name: int(np.isnan(states[:, 0]).sum()) for name, states in found.items()}
        kind = "ridge" if task.target.problem == "regression" else "logistic"
        choice = (
            f"frozen: {kind} regression on embeddings ({pool}{others} over the last layer), C {stats['C']:g}"
        )
        stats["notes"] = [
            choice_note(choice, stats),
            *(
                f"{name} rows without a known token, given the mean embedding: {count:,}"
                for name, count in unknown.items()
                if count
            ),
            *task.notes,
        ]
        stats["trained_parameters"] = sum(parameter.numel() for parameter in linear.parameters())
        # Ridge regression is of values in their own unit.
        outputs = Outputs(task.target.problem)
        with torch.inference_mode():
            test = torch.from_numpy(scaling.known(found["test"]))
            probabilities = outputs.predictions(linear(test)).numpy()
        module = None
        if self.kind == "classifier":
            encoder = cache.model.module
            averages = task.recipe.averages
            module = SequenceClassifier(
                encoder.model,
                task.tokenization,
                pool,
                averages_strands=averages,
                linear=linear,
                outputs=outputs,
            )
            stats["parameters"] = module.weights
        return ProbeOutcome(task.test.labels, probabilities, task.label_names, stats, module)

    def _fit(
        self, cache: EmbeddingCache, observer: Observer
    ) -> tuple[dict[str, NDArray[np.float32]], Scaling, LinearProbe]:
        """Return the embeddings of every split, their scaling, and the model with the best C."""
        found = {name: self._states(cache, name, split, observer) for name, split in self.splits.items()}
        scaling = Scaling(found["train"])
        features = {name: scaling.of(states) for name, states in found.items()}
        probe = self._fitted(Features(features["train"], features.get("dev"), features["test"]))
        return found, scaling, probe

    def _trial(self, cache: EmbeddingCache, stats: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a manifest says of a pooling that was tried."""
        metric = f"dev_{main_metric(self.task.target.problem).name}"
        scores = {name: stats[name] for name in (metric, "dev_loss") if stats[name] is not None}
        return {"pool": cache.pool, "C": stats["C"], **scores}

    def _states(
        self, cache: EmbeddingCache, name: str, split: EncodedSplit, observer: Observer
    ) -> NDArray[np.float32]:
        """Return the embeddings of a split's rows.

        With reverse complements, those of train are further rows, and the others' are averaged with them: a linear
        head's logits of a mean are the mean of its logits.
        """
        both = cache.get(split, advance=observer.advanced)
        strands = both.reshape(split.strands, len(split), both.shape[1])
        if name != "train":
            return strands.mean(0)
        return (strands if self.rows is None else strands[:, self.rows]).reshape(-1, both.shape[1])

    def _fitted(self, features: Features) -> LinearProbe:
        task = self.task
        dev = None if task.dev is None else task.dev.labels
        train = np.concatenate([task.train.labels] * task.train.strands)
        labels = Labels(train, dev, len(task.label_names))
        candidate = Candidate({}, lambda rows: features)
        if dev is None:
            return fit_fixed(candidate, labels)
        threads = torch.get_num_threads()
        return choose([candidate], labels, first_rows=len(train), threads=threads, grid=FROZEN_C_GRID)


def grid_of(has_dev: bool) -> Sequence[float]:
    """Return the C that a run chooses from."""
    return FROZEN_C_GRID if has_dev else (DEFAULT_C,)


class Scaling:
    """Makes mean 0 and variance 1 of every feature, as found in train.

    Parameters
    ----------
    train : float32, shape (n_rows, hidden)
        NaN in rows without a known token, which do not count.
    """

    def __init__(self, train: NDArray[np.float32]) -> None:
        known = train[~np.isnan(train[:, 0])].astype(np.float64)
        self.mean = known.mean(0) if len(known) else np.zeros(train.shape[1])
        spread = known.std(0) if len(known) else np.ones(train.shape[1])
        # A feature that never varies tells nothing.
        self.spread = np.where(spread > 0, spread, 1.0)

    def known(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return embeddings, the mean in the place of NaN: float32, of the same shape."""
        return np.where(np.isnan(states), self.mean, states).astype(np.float32)

    def of(self, states: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return features of embeddings: float64, of the same shape."""
        return (self.known(states) - self.mean) / self.spread

    def folded(self, model: Any, n_classes: int) -> torch.nn.Linear:
        """Return a layer that computes a fitted model's logits from embeddings as they are.

        Parameters
        ----------
        model : LogisticRegression, OneVsRestClassifier or Ridge of sklearn
            Fitted to features of every class.
        n_classes : int
            Or labels; 1 of a regression.
        """
        weight, bias = coefficients(model)
        weight = weight / self.spread
        bias = bias - weight @ self.mean
        if n_classes == 2 and len(weight) == 1:
            # One logit, that of class 1 over class 0.
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        assert len(weight) == n_classes
        linear = torch.nn.Linear(weight.shape[1], n_classes)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        return linear
