"""A run without training steps: features, a linear model chosen on dev, and its scores on test."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cmgems_cli.artifacts import Manifest, environment
from cmgems_cli.bench.linear_probe import LinearProbe
from cmgems_cli.comparing.scores import rounded
from cmgems_cli.datasets.leakage import leakage_stats
from cmgems_cli.datasets.loaded_task import LoadedTask
from cmgems_cli.metrics import main_metric, score
from cmgems_cli.modeling.classifier import SequenceClassifier
from cmgems_cli.outputs import Claim, Output
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.processes import Processes


@dataclass(frozen=True, eq=False)
class ProbeOutcome:
    """The chosen model on the test rows, as `FinetuneOutcome` has it for a fine-tuned one.

    Attributes
    ----------
    labels, probabilities : arrays of n_test rows
        As in `metrics.score`.
    label_names : tuple of str
    stats : dict
        The choice and its dev score, for the manifest.
    module : SequenceClassifier, optional
        Encoder and linear head, if the features are a model's.
    """

    labels: NDArray[Any]
    probabilities: NDArray[np.float64]
    label_names: tuple[str, ...]
    stats: dict[str, Any]
    module: SequenceClassifier | None = None


class ProbeRun(ABC):
    """One run: from labelled sequences to an outcome that the caller writes and finishes.

    Only the main process computes.

    Parameters
    ----------
    task : LoadedTask
        With the rows of this run.
    output : Output
    processes : Processes
    precision : str
        fp32, bf16 or fp64; for the manifest.

    Attributes
    ----------
    steps : int
        What a progress bar counts, in `unit`.
    device : str
        Where the features are computed; for the manifest.
    """

    steps = 1
    # As in `FinetuningRun`; what it chooses itself is not counted.
    n_trials = 1
    unit = "steps"
    device = "cpu"
    max_batch_tokens = 0

    def __init__(self, task: LoadedTask, output: Output, processes: Processes, precision: str) -> None:
        self.task, self.output, self.processes, self.precision = task, output, processes, precision
        self.folder = output.given
        self._claim: Claim | None = None
        self._started = time.perf_counter()

    @property
    def out(self) -> Path:
        """The path of the output."""
        return self.output.given

    @property
    def kind(self) -> str:
        """Of the artifact."""
        return self.output.kind

    @property
    def params(self) -> dict[str, Any]:
        """As the manifest records them."""
        return self.output.params

    @property
    def inputs(self) -> dict[str, str]:
        """As the manifest records them."""
        return self.output.inputs()

    @abstractmethod
    def outcome(self, observer: Observer) -> ProbeOutcome:
        """Compute features, choose the model and apply it to test."""

    def finished(self, *, overwrite: bool = False) -> Manifest | None:
        """Return the manifest if the run is finished already (errors as `Output.finished`)."""
        return self.output.finished(overwrite=overwrite, repair=self.processes.is_main)

    @contextmanager
    def training(
        self, *, resume: bool, overwrite: bool, observer: Observer | None = None
    ) -> Iterator[ProbeOutcome | None]:
        """Yield the outcome while the output is locked; None on all processes except the main one."""
        if self.processes.is_main:
            with self.output.claim(overwrite=overwrite, resume=resume) as self._claim:
                self.folder = self._claim.folder
                yield self.outcome(observer or Observer())
        else:
            yield None
        self.processes.barrier()

    def finish(self, *, stats: Mapping[str, Any], files: Iterable[str], **more: Any) -> Manifest:
        """Publish the artifact of `files`; within `training`. `more` is added to the `environment`, as by `Run`."""
        assert self._claim is not None
        # Without training steps there are no batches.
        more.pop("max_batch_tokens", None)
        described = environment(
            self._started,
            device=self.device,
            precision=self.precision,
            threads=torch.get_num_threads(),
            **more,
        )
        return self._claim.finish(stats=stats, files=files, environment=described)

    def seconds_per_step(self) -> float:
        """Return how long the run takes, by making it: seconds."""
        started = time.perf_counter()
        self.outcome(Observer())
        return time.perf_counter() - started


def stats_of(task: LoadedTask, probe: LinearProbe) -> dict[str, Any]:
    """Return the stats of a run without its notes: the choice, its dev scores, and the rows of each split."""
    problem = task.target.problem
    metric = main_metric(problem).name
    stats: dict[str, Any] = {**probe.params, "dev_loss": probe.dev_loss, f"dev_{metric}": None}
    if task.dev is not None:
        assert probe.dev_probabilities is not None
        stats[f"dev_{metric}"] = score(task.dev.labels, probe.dev_probabilities).get(metric)
    return {
        **stats,
        "problem": problem,
        "n_train": len(task.train),
        "n_dev": 0 if task.dev is None else len(task.dev),
        "n_test": len(task.test),
        "leakage": leakage_stats(task.leakage),
    }


def choice_note(choice: str, stats: Mapping[str, Any]) -> str:
    """Return a sentence on what was chosen, and how good it was on dev."""
    if stats["dev_loss"] is None:
        return f"{choice}: fixed, since there is no dev split"
    metric = main_metric(stats["problem"])
    value = stats[f"dev_{metric.name}"]
    # One decimal less than in tables.
    shown = "undefined" if value is None else rounded(value * metric.scale, metric.decimals - 1)
    return f"{choice}: chosen on dev (loss {stats['dev_loss']:.3f}, {metric.printed_title} {shown})"
