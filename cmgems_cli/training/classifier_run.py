"""From a run to a classifier artifact: the folder, its card and its predictions of the test split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.artifacts import Manifest, read_manifest
from cmgems_cli.datasets.loaded_task import LoadedTask
from cmgems_cli.modeling.card import classifier_card, write_card
from cmgems_cli.modeling.classifier_files import save_classifier
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.run_files import write_test_files

# `metrics.score`: of the labels and the probabilities.
Score = Callable[[NDArray[Any], NDArray[np.float64]], Mapping[str, Any]]


class ClassifierRun(Protocol):
    """A run that makes a classifier: a `FinetuningRun`, or one of a frozen model."""

    task: LoadedTask
    folder: Path
    processes: Processes
    max_batch_tokens: int

    @property
    def out(self) -> Path: ...

    @property
    def kind(self) -> str: ...

    @property
    def params(self) -> dict[str, Any]: ...

    @property
    def inputs(self) -> dict[str, str]: ...

    def finished(self, *, overwrite: bool) -> Manifest | None: ...

    def training(
        self, *, resume: bool, overwrite: bool, observer: Observer | None
    ) -> AbstractContextManager[Any]: ...

    def finish(self, *, stats: Mapping[str, Any], files: Iterable[str], **more: Any) -> Manifest: ...


def finetune(
    run: ClassifierRun,
    score: Score,
    *,
    resume: bool,
    overwrite: bool,
    observer: Observer | None = None,
) -> Manifest:
    """Train, test and write the classifier artifact, unless it is finished already (errors as `Run.training`)."""
    done = run.finished(overwrite=overwrite)
    if done is not None:
        return done
    with run.training(resume=resume, overwrite=overwrite, observer=observer) as outcome:
        if run.processes.is_main:
            names, k = outcome.label_names, run.task.tokenization.k
            stats = {**outcome.stats, **score(outcome.labels, outcome.probabilities)}
            files = save_classifier(run.folder, outcome.module, names)
            files.append(
                write_card(
                    run.folder,
                    classifier_card(
                        {"k": k, **run.params},
                        run.inputs,
                        stats,
                        names,
                        opens_in_transformers=outcome.module.opens_in_transformers,
                        content=outcome.module.content,
                    ),
                )
            )
            files += write_test_files(run.folder, names, outcome.labels, outcome.probabilities)
            named = {"data": run.task.name} if run.task.name else {}
            return run.finish(stats=stats, files=files, max_batch_tokens=run.max_batch_tokens, **named)
    return read_manifest(run.out, run.kind)
