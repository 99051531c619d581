"""A benchmark's grid of fine-tuning runs, each in its own folder, so that each can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from cmgems_cli.artifacts import MANIFEST, Manifest, environment, is_finished, parse_manifest, read_manifest
from cmgems_cli.bench.baselines import BASELINE, Baseline, Trainer, add_recipe_notes
from cmgems_cli.bench.grids import Cell, Grid, merged_stats, scores_of
from cmgems_cli.bench.reuse import neighbours, take_over
from cmgems_cli.bench.run_places import RunPlaces
from cmgems_cli.comparing.evaluated_runs import RUNS
from cmgems_cli.comparing.scores import KMER_LINEAR, SCORES, Score, read_scores, write_scores
from cmgems_cli.comparing.tables import Report, make_report, markdown
from cmgems_cli.comparing.trials_table import trials_table
from cmgems_cli.errors import OverwriteError
from cmgems_cli.metrics import score
from cmgems_cli.output_state import place_state
from cmgems_cli.outputs import Output
from cmgems_cli.training.checkpoints import FOLDER
from cmgems_cli.training.engine import device_name
from cmgems_cli.training.finetune_outcome import FinetuneOutcome
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.run import MACHINE
from cmgems_cli.training.run_files import write_test_files

REPORT = "report.md"

# Called before each run with its cell, its number among the cells to run, and the run; yields the observer.
Watch = Callable[[Cell, int, FinetuningRun], AbstractContextManager[Observer]]


class Evaluation:
    """A grid of runs of one model in a folder.

    The folder holds one scores artifact per run below `runs/`. Once all runs of the grid are finished they are merged
    into the folder's own artifact, by the process that finishes the last one: shards do not communicate. What replaces
    a finished evaluation is made aside, with the runs that stay the same, until all of it is finished.

    Parameters
    ----------
    grid : Grid
    finetuner : Finetuner
    out : Path
    name : str
        The model's, for the scores.
    baseline : Baseline, optional
        Of random weights, shown in the report.
    linear : Trainer, optional
        Of the baseline `kmer-linear`, which is evaluated on the same grid in `runs/kmer-linear` and shown too.
    siblings : Path, optional
        Folder of the evaluations whose equal runs may be copied, in addition to the workspace's; by default of `out`.
    """

    def __init__(
        self,
        grid: Grid,
        finetuner: Trainer,
        out: Path,
        name: str,
        baseline: Baseline | None = None,
        linear: Trainer | None = None,
        siblings: Path | None = None,
    ) -> None:
        self.grid, self.finetuner, self.name, self.baseline = grid, finetuner, name, baseline
        self.siblings = siblings or out.parent
        self.linear = (
            Evaluation(grid, linear, out / RUNS / KMER_LINEAR, KMER_LINEAR, siblings=self.siblings)
            if linear
            else None
        )
        self._differences: dict[tuple[str, bytes], str] = {}
        self._move(out)

    @property
    def processes(self) -> Processes:
        """The processes that share every run."""
        return self.finetuner.processes

    def _write_to(self, folder: Path) -> None:
        """Write runs below this folder: `out`, or where its successor is built."""
        self._places.building = folder
        if self.linear is not None:
            self.linear._move(folder / RUNS / KMER_LINEAR)

    def _move(self, out: Path) -> None:
        self.out, self._places = out, RunPlaces(out)
        self.output = self._output()

    def run_folder(self, cell: Cell) -> Path:
        """Return where a cell's run is written."""
        return self._places.written(cell)

    def done(self, cell: Cell) -> bool:
        """Return whether a cell's run is finished, with any options and data."""
        return is_finished(self._places.found(cell))

    def fits(self, cell: Cell) -> bool:
        """Return whether a cell's run is finished with the options and data of this evaluation."""
        return self.done(cell) and not self._difference(cell)

    def precisions(self) -> list[str]:
        """Return what the finished runs were computed in: fp32, bf16 or both."""
        manifests = [read_manifest(self._places.found(cell)) for cell in self.grid.cells if self.fits(cell)]
        return sorted({manifest.environment["precision"] for manifest in manifests})

    def check_data(self, cells: Sequence[Cell]) -> None:
        """Read the files of these cells' tasks, so that errors in the data are found before hours of training.

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
            Also return finished runs that were made with other parameters or data.

        Raises
        ------
        OverwriteError
            If a finished run was made with other parameters or data and may not be replaced.
        """
        return [cell for cell in cells if not (resume and self._reusable(cell, overwrite=overwrite))]

    def run(self, cells: Sequence[Cell], *, resume: bool, watch: Watch) -> list[Path]:
        """Run these cells, replacing what is there.

        With `resume`, equal runs of neighbouring evaluations are copied instead if the trainer allows it.

        Parameters
        ----------
        cells : sequence of Cell
            From `left`.
        resume : bool
            Resume from a run's checkpoint.
        watch : callable

        Returns
        -------
        list of Path
            The runs that were copied; on rank 0.

        Raises
        ------
        Interrupted
            On SIGINT or SIGTERM, after a checkpoint was saved.
        """
        copied: list[Path] = []
        with self.at_work() if cells else nullcontext():
            for number, cell in enumerate(cells, start=1):
                self.run_folder(cell).parent.mkdir(parents=True, exist_ok=True)
                if resume and self.finetuner.reusable and self._taken_over(cell, copied):
                    continue
                run = self.finetuner.build_finetuning_run(
                    cell.task, self.run_folder(cell), cell.seed, kind="scores"
                )
                if run.finished(overwrite=True) is not None:
                    continue  # a killed command had finished it
                with (
                    watch(cell, number, run) as observer,
                    run.training(resume=resume, overwrite=True, observer=observer) as outcome,
                ):
                    if self.processes.is_main:
                        self._write_run(cell, run, outcome)
        return copied

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep the folder in which runs are written from `clean` (rank 0)."""
        with self.output.at_work() if self.processes.is_main else nullcontext():
            self.processes.barrier()
            self._write_to(self.output.building())
            yield

    def complete(self, *, watch: Watch, resume: bool = True, overwrite: bool = False) -> Manifest | None:
        """Do all runs that are left, one at a time, and merge (errors as `finished`, `left` and `run`)."""
        started = time.perf_counter()
        done = self.finished(overwrite=overwrite)
        if done is not None:
            return done
        left = self.left(self.grid.cells, resume=resume, overwrite=overwrite)
        with self.at_work():
            self.run_linear(self.grid.cells, watch=watch, resume=resume, overwrite=overwrite)
            self.run(left, resume=resume, watch=watch)
        return self.merge(started, overwrite=overwrite)

    def run_linear(
        self, cells: Sequence[Cell], *, watch: Watch, resume: bool = True, overwrite: bool = False
    ) -> list[Path]:
        """Run `kmer-linear` on these cells, if it is wanted and not done (return and errors as `left` and `run`)."""
        if self.linear is None or not (left := self.linear.left(cells, resume=resume, overwrite=overwrite)):
            return []
        with self.at_work():
            return self.linear.run(left, resume=resume, watch=watch)

    def _taken_over(self, cell: Cell, copied: list[Path]) -> bool:
        """Copy a cell's run from a neighbouring evaluation, and note where it was; return whether there is one."""
        source = None
        if self.processes.is_main:
            params, inputs = self.finetuner.describe(cell.task, cell.seed)
            output = Output(self.run_folder(cell), "scores", params=params, inputs=inputs)
            source = take_over(output, neighbours(self.siblings, RUNS, cell.folder))
            copied += [source] if source else []
        return bool(self.processes.broadcast_from_main(float(source is not None)))

    def _reusable(self, cell: Cell, *, overwrite: bool) -> bool:
        """Return whether a cell need not be run."""
        # Rank 0's view of the disk decides, so that all processes do the same.
        if not self.processes.broadcast_from_main(float(self.done(cell))):
            return False
        difference = self._difference(cell)
        if difference and not overwrite:
            raise OverwriteError(
                f"{difference}; repeat the old parameters, choose another `out`, or add `overwrite=True` to replace it"
            )
        return not difference

    def _difference(self, cell: Cell) -> str:
        """Describe how a finished run differs from this evaluation's; empty without a difference."""
        folder = self._places.found(cell)
        key = (cell.folder, (folder / MANIFEST).read_bytes())
        if key not in self._differences:
            state = place_state(folder, "scores")
            if state is None:
                params, inputs = self.finetuner.describe(cell.task, cell.seed, self._parsed(cell))
                output = Output(
                    folder, "scores", params=params, inputs=inputs, machine=MACHINE, work=(FOLDER,)
                )
                # Removes what a killed command left.
                output.finished(overwrite=True, repair=self.processes.is_main)
                state = output.state()
            self._differences[key] = state.sentence
        return self._differences[key]

    def _write_run(self, cell: Cell, run: FinetuningRun, outcome: FinetuneOutcome) -> None:
        stats = {**outcome.stats, **score(outcome.labels, outcome.probabilities)}
        scores = scores_of(cell, self.grid.benchmark.name, self.name, stats)
        write_scores(run.folder / SCORES, scores)
        report = make_report(
            self.grid.benchmark, self.name, scores, random_weights=self.finetuner.random_weights
        )
        (run.folder / REPORT).write_text(markdown(report), encoding="utf-8")
        tested = write_test_files(run.folder, outcome.label_names, outcome.labels, outcome.probabilities)
        files = [SCORES, REPORT, *tested]
        run.finish(stats=stats, files=files, max_batch_tokens=run.max_batch_tokens)

    def scores(self) -> list[Score]:
        """Return the scores of all finished runs of the grid, under this evaluation's name of the model."""
        return [
            replace(score, model=self.name)
            for cell in self.grid.cells
            if self.fits(cell)
            for score in read_scores(self._places.found(cell) / SCORES)
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
            random_weights=self.finetuner.random_weights,
            linear=self.linear.scores() if self.linear else None,
        )
        manifests = {str(cell): self._parsed(cell) for cell in self.grid.cells if self.fits(cell)}
        if trials := trials_table(manifests):
            report.tables.append(trials)
        add_recipe_notes(report, self.grid.benchmark, self.finetuner.changes(), self.baseline)
        return report

    def finished(self, *, overwrite: bool) -> Manifest | None:
        """Return the manifest if all is done already: the merged scores, and every run they were made from.

        Raises
        ------
        OverwriteError
            If something different is there that may not be replaced.
        """
        self.processes.check_equal({**self.output.params, **self.output.inputs()})
        self._write_to(self.out)
        manifest = self._finished(overwrite=overwrite)
        if manifest is None:
            self._write_to(self.output.building())
        return manifest

    def _finished(self, *, overwrite: bool) -> Manifest | None:
        manifest = self.output.finished(overwrite=overwrite, repair=self.processes.is_main)
        if not self.processes.broadcast_from_main(float(manifest is not None)):
            return None
        # As in `_reusable`: rank 0's view of the disk decides.
        if not self.processes.broadcast_from_main(float(all(self.done(cell) for cell in self.grid.cells))):
            return None
        if self.left(self.grid.cells, resume=True, overwrite=False):
            return None
        if self.linear is not None and self.linear.finished(overwrite=overwrite) is None:
            return None
        manifest = manifest or read_manifest(self.out, "scores")
        return manifest if self._run_digests().items() <= manifest.inputs.items() else None

    def merge(self, started: float, *, overwrite: bool) -> Manifest | None:
        """Make the folder an artifact of all runs, on rank 0; None while some are still to be done, or being done.

        Shards that end at the same moment may both do so: they write the same. With `overwrite`, runs that were
        made with other parameters are still to be done. To be called after `at_work` has ended.

        Raises
        ------
        OverwriteError
            If a finished run was made with other parameters or data and is not to be replaced.
        """
        self._write_to(self.output.building())
        # As in `_reusable`: another shard may end meanwhile, or be at work on runs again.
        done = self.processes.is_main and all(self.done(cell) for cell in self.grid.cells)
        if not self.processes.broadcast_from_main(float(done and self.output.alone())):
            return None
        if self.left(self.grid.cells, resume=True, overwrite=overwrite):
            return None
        linear = self.linear
        if linear and not (
            linear.finished(overwrite=overwrite) or linear.merge(started, overwrite=overwrite)
        ):
            return None
        manifest = self._merge(started) if self.processes.is_main else None
        self.processes.barrier()
        self._write_to(self.out)
        return manifest or read_manifest(self.out, "scores")

    def _output(self) -> Output:
        baseline = self.baseline
        inputs = {BASELINE: baseline.digest} if baseline else {}
        return Output(
            self.out,
            "scores",
            params={"model": self.name, **self.grid.settings(), **self.finetuner.settings()},
            inputs={**inputs, **self.finetuner.inputs},
            machine=() if baseline and not baseline.found else (BASELINE,),
            parts=RUNS,
        )

    def _run_digests(self) -> dict[str, str]:
        digests = {f"{RUNS}/{cell.folder}": self._manifest(cell).digest for cell in self.grid.cells}
        if self.linear is not None:
            digests[f"{RUNS}/{KMER_LINEAR}"] = read_manifest(self.linear.out, "scores", verify=True).digest
        return digests

    def _parsed(self, cell: Cell) -> Manifest:
        return parse_manifest(self._places.found(cell) / MANIFEST)

    def _manifest(self, cell: Cell) -> Manifest:
        return read_manifest(self._places.found(cell), "scores", verify=True)

    def _merge(self, started: float) -> Manifest:
        # Existing scores are replaced: they may be of other runs.
        with self.output.claim(overwrite=True, resume=False, wait=True) as claim:
            manifests, scores = [self._manifest(cell) for cell in self.grid.cells], self.scores()
            if claim.done is not None:
                return claim.done
            for cell, made in zip(self.grid.cells, manifests, strict=True):
                self._places.keep(cell, made)
            write_scores(claim.folder / SCORES, scores)
            (claim.folder / REPORT).write_text(markdown(self.report()), encoding="utf-8")
            return claim.finish(
                inputs={**self.output.inputs(), **self._run_digests()},
                stats=merged_stats(self.grid, [made.stats for made in manifests], scores),
                files=[SCORES, REPORT],
                environment=environment(
                    started,
                    device=device_name(self.processes.device),
                    processes=self.processes.world_size,
                    precision=", ".join(self.precisions()),
                ),
            )
