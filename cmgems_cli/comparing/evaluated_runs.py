"""The fine-tuning runs behind scores that kept their predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cmgems_cli.artifact_parts import read_part
from cmgems_cli.artifacts import PREDICTIONS, Manifest, read_manifest
from cmgems_cli.comparing.grouping import TaskKey, key_of
from cmgems_cli.comparing.scores import KMER_LINEAR, SCORES, Score, read_scores
from cmgems_cli.metrics import METRICS

# The folder of scores with one artifact per run (docs/artifacts.md).
RUNS = "runs"


@dataclass(frozen=True)
class EvaluatedRun:
    """One fine-tuning run whose predictions are kept.

    Attributes
    ----------
    folder : Path
    key : TaskKey
    seed : int
    test : str
        sha256 of the test file.
    data : str
        Name of the data, where that was recorded; a folder's name if they are of no benchmark.
    """

    folder: Path
    key: TaskKey
    seed: int
    test: str
    data: str = ""


def evaluated_runs(folder: Path) -> list[EvaluatedRun]:
    """Return the runs of a classifier or scores artifact that kept their predictions.

    Raises
    ------
    InputError
        As `read_part`.
    """
    manifest = read_manifest(folder)
    if PREDICTIONS in manifest.files:
        parts: dict[Path, Manifest | None] = {folder: manifest}
    else:
        names = [name for name in manifest.inputs if name.startswith(f"{RUNS}/")]
        parts = {folder / name: read_part(folder, manifest, name) for name in names}
    found = []
    for part, run in parts.items():
        if run is None:
            continue
        if PREDICTIONS in run.files and "test" in run.inputs:
            key = (
                key_of_classifier(run) if run.kind == "classifier" else key_of(read_scores(part / SCORES)[0])
            )
            found.append(
                EvaluatedRun(
                    part, key, int(run.params["seed"]), run.inputs["test"], run.environment.get("data", "")
                )
            )
    return found


def linear_scores(folder: Path) -> list[Score]:
    """Return the scores of `kmer-linear` that an evaluation made with a model's; empty if it made none.

    Raises
    ------
    InputError
        As `read_part`.
    """
    made = folder / RUNS / KMER_LINEAR
    if read_part(folder, read_manifest(folder), f"{RUNS}/{KMER_LINEAR}", verify=True) is None:
        return []
    return read_scores(made / SCORES)


def key_of_classifier(manifest: Manifest) -> TaskKey:
    """Return the task of a run of `finetune`; data of no benchmark are named after their test file."""
    params = manifest.params
    own = f"own task (test file {manifest.inputs.get('test', 'unknown')[:8]})"
    return TaskKey(params.get("bench") or "", params.get("task") or own, params.get("shots"))


def scores_of_classifier(manifest: Manifest, name: str) -> list[Score]:
    """Return the scores in the manifest of a run of `finetune`, under this name of the model."""
    key, stats = key_of_classifier(manifest), manifest.stats
    return [
        Score(
            bench=key.bench,
            task=key.task,
            species="",
            shots=key.shots,
            seed=manifest.params["seed"],
            metric=metric,
            value=float(stats[metric]),
            n_train=stats.get("n_train"),
            n_test=stats.get("n_test"),
            model=name,
        )
        for metric in METRICS
        if stats.get(metric) is not None
    ]
