"""What an evaluation's scores are shown with: those of random weights, and those of `kmer-linear`."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cmgems_cli import workspace
from cmgems_cli.artifacts import Manifest, is_finished, read_manifest
from cmgems_cli.comparing.pairing import from_random_weights
from cmgems_cli.comparing.scores import SCORES, Score, read_scores
from cmgems_cli.comparing.tables import Report
from cmgems_cli.datasets.benchmark import Benchmark
from cmgems_cli.datasets.finetune_options import recipe_keys, said_of
from cmgems_cli.datasets.loaded_task import LoadedTask
from cmgems_cli.datasets.task_files import TaskFiles
from cmgems_cli.errors import InputError
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.processes import Processes

# Name of its digest among the inputs of an evaluation.
BASELINE = "baseline"


class Trainer(Protocol):
    """Makes the runs of one model: `Finetuner`, or `KmerLinear`."""

    processes: Processes
    precision: str
    # Whether equal options and data give equal runs on every machine, so that those of other evaluations will do.
    reusable: bool

    @property
    def random_weights(self) -> bool:
        """Whether the model is a baseline of random weights."""

    @property
    def inputs(self) -> dict[str, str]:
        """Digests of what all runs read in addition to the data."""

    def settings(self) -> dict[str, Any]:
        """Return what an evaluation records of its runs."""

    def changes(self) -> dict[str, Any]:
        """Return what differs from the recipes."""

    def load(self, task: TaskFiles, seed: int) -> LoadedTask:
        """Return a task with the rows of the run with this seed."""

    def describe(
        self, task: TaskFiles, seed: int, finished: Manifest | None = None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the `params` and `inputs` that a run would have today, given the manifest of a finished one."""

    def build_finetuning_run(self, task: TaskFiles, out: Path, seed: int, kind: str = ...) -> Any:
        """Return a run: a `FinetuningRun`, or a `KmerLinearRun`."""


@dataclass(frozen=True)
class Baseline:
    """Scores of the same architecture from random weights, which a report shows with a pretrained model's.

    Attributes
    ----------
    scores : list of Score
        All of one model.
    digest : str
        Of the artifact.
    changed : dict
        What differed from the published recipes, as in `FinetuneOptions.changes`.
    found : bool
        It was found in the workspace, not asked for: scores made without it are not made again.
    """

    scores: list[Score]
    digest: str
    changed: dict[str, Any]
    found: bool = False

    def is_missing_in(self, made: Manifest) -> bool:
        """Return whether an evaluation was made without it, or with other scores of random weights."""
        return made.inputs.get(BASELINE) != self.digest


def read_baseline(folder: Path) -> Baseline:
    """Open a scores artifact as a baseline.

    Raises
    ------
    InputError
        If it is not one, or holds scores of trained weights.
    """
    manifest = read_manifest(folder, "scores", verify=True)
    params = manifest.params
    if not from_random_weights(manifest):
        raise InputError(
            f"{folder} holds scores of {params.get('model')}, whose weights are not random; needed those of"
            " `cmgems evaluate … --init random`"
        )
    changed = {name: params[name] for name in recipe_keys().values() if name in params}
    return Baseline(read_scores(folder / SCORES), manifest.digest, changed)


def usual_baseline(
    source: ModelSource, suffix: str, bench: str, given: str | os.PathLike[str] | None = None
) -> Baseline | None:
    """Read the scores to compare a model with: those given, or the workspace's of random weights, if there.

    Parameters
    ----------
    source : ModelSource
    suffix : str
        Of the way to fine-tune, `FinetuneOptions.suffix`.
    bench : str
        Name of the benchmark.
    given : path, optional

    Raises
    ------
    InputError
        As `read_baseline`.
    """
    if given is not None:
        return read_baseline(Path(given))
    usual = workspace.scores_folder(source.baseline_name + suffix, bench)
    if source.init is not None or not is_finished(usual):
        return None
    return replace(read_baseline(usual), found=True)


def add_recipe_notes(
    report: Report, benchmark: Benchmark, changed: dict[str, Any], baseline: Baseline | None
) -> None:
    """Add to the notes of a report how the model and its baseline depart from the benchmark's recipe.

    Parameters
    ----------
    report : Report
    benchmark : Benchmark
    changed : dict
        As in `Baseline`, of the model.
    baseline : Baseline or None
    """
    if changed:
        recipe = "published recipe" if benchmark.shipped else "recipe of the benchmark"
        report.notes.insert(0, f"Not the {recipe}: {said_of(changed)}.")
    if baseline and baseline.changed != changed:
        said = said_of(baseline.changed) or "the one of the benchmark"
        report.notes.append(f"The baseline was not made with the same recipe, but with {said}.")
