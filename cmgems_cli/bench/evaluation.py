"""A benchmark's grid of fine-tuning runs: each in a folder of its own, so that any of it can be taken up again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cmgems_cli.artifacts import (
    MANIFEST,
    Manifest,
    environment,
    finish_artifact,
    is_finished,
    read_manifest,
    remove_artifact,
)
from cmgems_cli.bench.build import Finetuner
from cmgems_cli.bench.grids import Cell, Grid
from cmgems_cli.comparing.grouping import mean
from cmgems_cli.comparing.pairing import from_random_weights, recorded_of
from cmgems_cli.comparing.scores import Score, read_scores, write_scores
from cmgems_cli.comparing.tables import Report, make_report, markdown
from cmgems_cli.datasets.finetune_options import recipe_keys
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.metrics import METRICS, score
from cmgems_cli.training.finetune_run import PREDICTIONS, FinetuneOutcome, FinetuningRun, write_predictions
from cmgems_cli.training.metrics_log import METRICS as CURVES
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.run import MAY_CHANGE_ON_RESUME, check_run_folder, device_name

# Below an evaluation's folder: one artifact a run.
RUNS = "runs"
SCORES, REPORT = "scores.csv", "report.md"


@dataclass(frozen=True)
class Baseline:
    """Scores that a report shows beside a model's: those of the same architecture, not pretrained.

    Attributes
    ----------
    scores : list of Score
        All of one model.
    digest : str
        Of the artifact.
    changed : dict
        What was not as in the published recipes, as `FinetuneOptions.changes` has it.
    """

    scores: list[Score]
    digest: str
    changed: dict[str, Any]


def read_baseline(folder: Path) -> Baseline:
    """Open a scores artifact as a baseline.

    Raises
    ------
    InputError
        If it is none, or of trained weights.
    """
    manifest = read_manifest(folder, "scores")
    params = manifest.params
    if not from_random_weights(manifest):
        raise InputError(
            f"{folder} holds scores of {params.get('model')}, whose weights are not random; needed those of"
            " `cmgems evaluate … --init random`"
        )
    changed = {name: params[name] for name in recipe_keys().values() if name in params}
    return Baseline(read_scores(folder / SCORES), manifest.digest, changed)


# Called before a cell's run with the cell, its place in this process's share and the run; gives the observer.
Watch = Callable[[Cell, int, FinetuningRun], AbstractContextManager[Observer]]


class Evaluation:
    """A grid of runs of one model in a folder.

    The folder holds one artifact of scores a run below `runs/`; when all of the grid are there they are merged
    into the folder's own. Whoever finishes the last run merges, so that shards need know nothing of each other.

    Parameters
    ----------
    grid : Grid
    finetuner : Finetuner
    out : Path
    name : str
        The model's, for the scores.
    baseline : Baseline, optional
        Shown in the report.
    """

    def __init__(
        self, grid: Grid, finetuner: Finetuner, out: Path, name: str, baseline: Baseline | None = None
    ) -> None:
        self.grid, self.finetuner, self.out, self.name, self.baseline = grid, finetuner, out, name, baseline
        self._differences: dict[str, tuple[str, Any, Any] | None] = {}

    @property
    def processes(self) -> Processes:
        """The processes that share every run."""
        return self.finetuner.processes

    def run_folder(self, cell: Cell) -> Path:
        """Return where a cell's run is kept."""
        return self.out / RUNS / cell.folder

    def done(self, cell: Cell) -> bool:
        """Tell whether a cell's run is finished, whatever it was made with."""
        return is_finished(self.run_folder(cell))

    def fits(self, cell: Cell) -> bool:
        """Tell whether a cell's run is finished, with the very options and data of this evaluation."""
        return self.done(cell) and self._difference(cell) is None

    def precisions(self) -> list[str]:
        """Return what the finished runs were computed in: fp32, bf16 or both."""
        manifests = [read_manifest(self.run_folder(cell)) for cell in self.grid.cells if self.fits(cell)]
        return sorted({manifest.environment["precision"] for manifest in manifests})

    def check_data(self, cells: Sequence[Cell]) -> None:
        """Read the files of these cells' tasks: what is wrong with any shall be said before hours are spent.

        Raises
        ------
        InputError, UsageError
        """
        first_of_task = {cell.task.label: cell for cell in reversed(cells)}
        for cell in reversed(first_of_task.values()):
            self.finetuner.load(cell.task, cell.seed)

    def left(self, cells: Sequence[Cell], *, resume: bool, overwrite: bool) -> list[Cell]:
        """Return those of these cells that have to be run.

        Parameters
        ----------
        cells : sequence of Cell
        resume : bool
            False: all of them, again from the start.
        overwrite : bool
            Also finished runs that were made otherwise.

        Raises
        ------
        UsageError
            If a finished run was made otherwise and is not to be replaced.
        """
        return [cell for cell in cells if not (resume and self._reusable(cell, overwrite=overwrite))]

    def run(self, cells: Sequence[Cell], *, resume: bool, watch: Watch) -> None:
        """Run these cells, replacing what is there.

        Parameters
        ----------
        cells : sequence of Cell
            From `left`.
        resume : bool
            Go on from a run's checkpoint.
        watch : callable

        Raises
        ------
        Interrupted
            On SIGINT or SIGTERM, after a checkpoint was saved.
        """
        if cells:
            self.reopen()
        for number, cell in enumerate(cells, start=1):
            self.run_folder(cell).parent.mkdir(parents=True, exist_ok=True)
            run = self.finetuner.build_finetuning_run(
                cell.task, self.run_folder(cell), cell.seed, kind="scores"
            )
            with (
                watch(cell, number, run) as observer,
                run.training(resume=resume, overwrite=True, observer=observer) as outcome,
            ):
                if self.processes.is_main:
                    self._write_run(cell, run, outcome)

    def reopen(self) -> None:
        """Remove scores merged before, which runs to come are not among or will replace; the runs stay."""
        if self.processes.is_main and is_finished(self.out):
            remove_artifact(self.out)

    def _reusable(self, cell: Cell, *, overwrite: bool) -> bool:
        """Tell whether a cell is done with the very options and data of this evaluation."""
        # Rank 0's view of the disk decides, or processes might part ways.
        if not self.processes.broadcast_from_main(float(self.done(cell))):
            return False
        difference = self._difference(cell)
        if difference is not None and not overwrite:
            name, before, now = difference
            raise UsageError(
                f"{self.run_folder(cell)} was made with {name} = {before}, this evaluation has {now}: repeat the"
                " old options, choose another --out, or add --overwrite to replace it"
            )
        return difference is None

    def _difference(self, cell: Cell) -> tuple[str, Any, Any] | None:
        """Return what a finished run was made with otherwise: its name, what it was, what it is here."""
        manifest = read_manifest(self.run_folder(cell), "scores")
        if manifest.digest not in self._differences:
            params, inputs = self.finetuner.describe(cell.task, cell.seed)
            self._differences[manifest.digest] = next(
                (
                    (name, before.get(name), now.get(name))
                    for before, now in ((manifest.params, params), (manifest.inputs, inputs))
                    for name in sorted({*before, *now} - set(MAY_CHANGE_ON_RESUME))
                    if before.get(name) != now.get(name)
                ),
                None,
            )
        return self._differences[manifest.digest]

    def _write_run(self, cell: Cell, run: FinetuningRun, outcome: FinetuneOutcome) -> None:
        stats = {**outcome.stats, **score(outcome.labels, outcome.probabilities)}
        scores = scores_of(cell, self.grid.benchmark.name, self.name, stats)
        write_scores(run.out / SCORES, scores)
        report = make_report(
            self.grid.benchmark, self.name, scores, random_weights=not self.finetuner.source.weights
        )
        (run.out / REPORT).write_text(markdown(report), encoding="utf-8")
        write_predictions(run.out / PREDICTIONS, outcome.label_names, outcome.labels, outcome.probabilities)
        finish_artifact(
            run.out,
            run.kind,
            params=run.params,
            inputs=run.inputs,
            stats=stats,
            files=[SCORES, REPORT, CURVES, PREDICTIONS],
            environment=run.environment(max_batch_tokens=run.max_batch_tokens),
        )

    # ------------------------------------------------------------------ all runs together

    def scores(self) -> list[Score]:
        """Return the scores of all finished runs of the grid, under this evaluation's name of the model."""
        return [
            replace(score, model=self.name)
            for cell in self.grid.cells
            if self.fits(cell)
            for score in read_scores(self.run_folder(cell) / SCORES)
        ]

    def report(self) -> Report:
        """Return the report of what is finished."""
        baseline = self.baseline.scores if self.baseline else None
        report = make_report(
            self.grid.benchmark,
            self.name,
            self.scores(),
            baseline,
            self.grid.missing,
            random_weights=not self.finetuner.source.weights,
        )
        changed = self.finetuner.options.changes()
        if changed:
            said = ", ".join(f"{name} {value}" for name, value in changed.items())
            recipe = "published recipe" if self.grid.benchmark.shipped else "recipe of the benchmark"
            report.notes.insert(0, f"Not the {recipe}: {said}.")
        if self.baseline and self.baseline.changed != changed:
            said = ", ".join(f"{name} {value}" for name, value in self.baseline.changed.items())
            report.notes.append(
                f"The baseline was not made with the same recipe, but with {said or 'the one of the benchmark'}."
            )
        return report

    def merge(self, started: float, *, overwrite: bool) -> Manifest | None:
        """Make the folder an artifact of all runs, on rank 0; None while some are still to be done.

        Shards that end at the same moment may both do so: they write the same. With `overwrite`, runs that were
        made otherwise are still to be done.

        Raises
        ------
        UsageError
            If a finished run was made otherwise and is not to be replaced.
        """
        # As in `_reusable`: another shard may end between two processes' looks.
        if not self.processes.broadcast_from_main(float(all(self.done(cell) for cell in self.grid.cells))):
            return None
        if self.left(self.grid.cells, resume=True, overwrite=overwrite):
            return None
        if self.processes.is_main:
            self._write(started)
        self.processes.barrier()
        return read_manifest(self.out, "scores")

    def _write(self, started: float) -> None:
        manifests = {cell.folder: read_manifest(self.run_folder(cell), "scores") for cell in self.grid.cells}
        scores = self.scores()
        aside = Path(tempfile.mkdtemp(prefix=".merge-", dir=self.out))
        try:
            write_scores(aside / SCORES, scores)
            (aside / REPORT).write_text(markdown(self.report()), encoding="utf-8")
            seeds = sorted({cell.seed for cell in self.grid.cells})
            tasks = self.grid.tasks()
            inputs = {f"{RUNS}/{folder}": manifest.digest for folder, manifest in manifests.items()}
            if self.baseline:
                inputs["baseline"] = self.baseline.digest
            finish_artifact(
                aside,
                "scores",
                params={
                    "bench": self.grid.benchmark.name,
                    **recorded_of(self.grid.benchmark),
                    "model": self.name,
                    "tasks": list(dict.fromkeys(task.name for task in tasks)),
                    "shots": sorted({task.shots for task in tasks if task.shots is not None}),
                    "seeds": seeds,
                    "init": self.finetuner.source.init,
                    **self.finetuner.options.changes(),
                },
                inputs={**inputs, **self.finetuner.source.inputs},
                stats={
                    "runs": len(manifests),
                    "tasks": len(tasks),
                    "missing_tasks": sorted(self.grid.missing),
                    "collapsed_runs": sum(bool(m.stats["collapsed"]) for m in manifests.values()),
                    **{
                        f"mean_{metric}": mean(values)
                        for metric in METRICS
                        if (values := [score.value for score in scores if score.metric == metric])
                    },
                },
                files=[SCORES, REPORT],
                environment=environment(
                    started,
                    device=device_name(self.processes.device),
                    processes=self.processes.world_size,
                    precision=", ".join(self.precisions()),
                ),
            )
            # The old manifest goes first and the new one comes last: in between the folder is unfinished.
            (self.out / MANIFEST).unlink(missing_ok=True)
            for name in (SCORES, REPORT, MANIFEST):
                (aside / name).replace(self.out / name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def scores_of(cell: Cell, bench: str, name: str, stats: dict[str, Any]) -> list[Score]:
    """Return a run's scores, one of each metric that is defined for its test split.

    Parameters
    ----------
    cell : Cell
    bench, name : str
        Benchmark and model.
    stats : dict
        Of the run.
    """
    task = cell.task.definition
    notes = ["one class predicted for every row"] if stats["collapsed"] else []
    note = "; ".join([*notes, *stats["notes"]])
    return [
        Score(
            bench=bench,
            task=task.name,
            species=task.group,
            shots=cell.task.shots,
            seed=cell.seed,
            metric=metric,
            value=float(stats[metric]),
            n_train=stats["n_train"],
            n_test=stats["n_test"],
            model=name,
            note=note,
        )
        for metric in METRICS
        if metric in stats
    ]


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder to evaluate in (OverwriteError, as `check_run_folder`)."""
    check_run_folder(
        out,
        "scores",
        overwrite=overwrite,
        begun_by=RUNS,
        what="evaluation",
        replacing="to make it again from the runs that fit",
    )
