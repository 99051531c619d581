"""`cmgems evaluate`: a model is fine-tuned and tested on every task of a benchmark."""

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmgems_cli import workspace
from cmgems_cli.commands.training_progress import TrainingProgress
from cmgems_cli.console import Console
from cmgems_cli.datasets.benchmark_file import shipped_names
from cmgems_cli.datasets.finetune_options import FinetuneOptions, said_of
from cmgems_cli.option_fields import option
from cmgems_cli.options import INIT, MODEL_HELP, Shared, takes
from cmgems_cli.readable import counted, duration

if TYPE_CHECKING:
    from cmgems_cli.artifacts import Manifest
    from cmgems_cli.bench.baselines import Trainer
    from cmgems_cli.bench.evaluation import Evaluation
    from cmgems_cli.bench.grids import Cell, Grid
    from cmgems_cli.comparing.tables import Report
    from cmgems_cli.datasets.benchmark import Benchmark
    from cmgems_cli.training.finetune_run import FinetuningRun
    from cmgems_cli.training.observer import Observer

GRID = "Grid"


@takes("out device resume overwrite dry_run json quiet config", out="the workspace's scores/MODEL-BENCH")
def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(help=MODEL_HELP, metavar="MODEL", show_default="the workspace's dnabert-cm-gems"),
    ] = None,
    bench: str = option(
        "gue",
        "--bench",
        f"{', '.join(shipped_names())}, a TOML file, or a folder of task folders.",
        panel=GRID,
    ),
    data: Path | None = option(
        None,
        "--data",
        "Folder of the benchmark's data.",
        panel=GRID,
        shown="in the workspace; of your own, next to the TOML file",
    ),
    tasks: str | None = option(
        None,
        "--tasks",
        "Some tasks: tf/0,mouse/0; task folders of your own in the data folder too.",
        panel=GRID,
        shown="all; gue: the paper's 27",
    ),
    shots: str | None = option(
        None,
        "--shots",
        "Training rows per class, drawn by the seed: 10,50 or all.",
        panel=GRID,
        shown="all; fewshot: 10,50",
    ),
    seeds: str | None = option(
        None, "--seeds", "One run per seed: 42,43 or 42-51.", panel=GRID, shown="42; fewshot: 42-51"
    ),
    shard: str = option(
        "1/1", "--shard", "I/N: run the I-th of N shards; the last to finish merges.", panel=GRID
    ),
    jobs: int | None = option(
        None,
        "--jobs",
        "Runs at a time, each in a process of its own.",
        min=1,
        shown="on the CPU one per core, as far as memory allows; on CUDA 1",
        machine=True,
        short="-j",
    ),
    init: Literal["random"] | None = INIT,
    baseline: Path | None = option(
        None,
        "--baseline",
        "Scores of --init random to show with the model's.",
        shown="the workspace's, if there",
    ),
    kmer_linear: bool = option(
        True,
        "--kmer-linear/--no-kmer-linear",
        "Also score kmer-linear, logistic regression on k-mer counts, on each task.",
    ),
    *,
    options: FinetuneOptions,
    io: Shared,
) -> None:
    """Fine-tune a model on every task of a benchmark and report the test scores with the paper's.

    The same command resumes a stopped evaluation; finished runs are kept in OUT/runs, without their weights.
    MODEL kmer-linear is logistic regression on k-mer counts, the baseline that every report shows.

    Example: cmgems evaluate cmgems-work/models/dnabert-cm-gems --bench gue --data GUE
    """
    started = time.perf_counter()
    from cmgems_cli.bench.baselines import usual_baseline
    from cmgems_cli.bench.build import Finetuner
    from cmgems_cli.bench.evaluation import Evaluation
    from cmgems_cli.bench.grids import parse_shard
    from cmgems_cli.bench.kmer_linear import KmerLinear
    from cmgems_cli.comparing.evaluated_runs import RUNS
    from cmgems_cli.comparing.scores import KMER_LINEAR
    from cmgems_cli.datasets.benchmark_file import find_benchmark
    from cmgems_cli.errors import UsageError
    from cmgems_cli.modeling.model_source import ModelSource
    from cmgems_cli.output_state import check_place

    model = model or str(workspace.model_folder("dnabert", "cm-gems"))
    source = ModelSource(model, init)
    name = source.name + options.suffix
    benchmark = find_benchmark(bench)
    target = io.out or workspace.scores_folder(name, benchmark.name)
    grid = _grid(benchmark, data, tasks, shots, seeds)
    part = parse_shard(shard)
    check_place(target, "scores", parts=RUNS)
    is_linear = source.text == KMER_LINEAR
    changes = options.changes()
    problem = changes.pop("problem", None)
    if is_linear and (init or baseline or changes):
        raise UsageError(
            f"{KMER_LINEAR} has no weights and no recipe; leave out --init, --baseline and the recipe"
        )
    compared = None if is_linear else usual_baseline(source, options.suffix, benchmark.name, baseline)

    from cmgems_cli.training.processes import start_processes, stop_processes

    try:
        processes = start_processes(io.device)
        console = io.console(is_main=processes.is_main)
        trainer: Trainer = (
            KmerLinear(processes, problem=problem) if is_linear else Finetuner(source, options, processes)
        )
        linear = KmerLinear(processes, problem=problem) if kmer_linear and not is_linear else None
        evaluation = Evaluation(grid, trainer, target, name, compared, linear)
        cells = grid.shard(*part)
        evaluation.output.finished(overwrite=io.overwrite, repair=False)
        if processes.is_main:
            _announce(console, evaluation, cells, shard)
        if io.dry_run:
            _plan(console, evaluation, cells)
            return
        manifest = evaluation.finished(overwrite=io.overwrite)
        if manifest is not None and compared is not None and compared.is_missing_in(manifest):
            console.say(
                "these scores were made without those of random weights: --overwrite adds them, and repeats no run"
            )
        if manifest is None:
            left = evaluation.left(cells, resume=io.resume, overwrite=io.overwrite)
            console.say("checking the data of every task first")
            evaluation.check_data(left)
            with evaluation.at_work():
                watch_linear = _watch(console, len(cells), f"{KMER_LINEAR} ")
                copied = evaluation.run_linear(
                    cells, watch=watch_linear, resume=io.resume, overwrite=io.overwrite
                )
                at_a_time = 1 if is_linear or options.freeze else _at_a_time(jobs, len(left), evaluation)
                if at_a_time == 1:
                    copied += evaluation.run(left, resume=io.resume, watch=_watch(console, len(left)))
                else:
                    _run_in_jobs(console, evaluation, left, at_a_time, resume=io.resume)
                if copied:
                    console.say(
                        f"{KMER_LINEAR}: {len(copied)} finished runs of the same data and options were copied, the"
                        f" first from {copied[0]}"
                    )
            manifest = evaluation.merge(started, overwrite=io.overwrite)
        if processes.is_main:
            _close(console, evaluation, manifest, started)
    finally:
        stop_processes()


def _grid(
    benchmark: "Benchmark", data: Path | None, tasks: str | None, shots: str | None, seeds: str | None
) -> "Grid":
    from cmgems_cli.bench.grids import build_grid, parse_shots
    from cmgems_cli.datasets.number_list import parse_numbers

    return build_grid(
        benchmark,
        data or benchmark.root or workspace.benchmark_folder(benchmark.name),
        tasks=tasks,
        shots=None if shots is None else parse_shots(shots),
        seeds=None if seeds is None else parse_numbers("seeds", seeds, least=0),
    )


def _announce(console: Console, evaluation: "Evaluation", cells: "Sequence[Cell]", shard: str) -> None:
    grid = evaluation.grid
    done = sum(evaluation.done(cell) for cell in cells)
    part = "" if shard == "1/1" else f", {len(cells)} of them in shard {shard}"
    changed = said_of(evaluation.finetuner.changes())
    trials = f" {changed};" if "chosen on dev" in changed else ""
    console.say(
        f"{evaluation.name} on {grid.benchmark.name}: {counted(len(grid.cells), 'run')} of"
        f" {counted(len(grid.tasks()), 'task')}{part};"
        f"{trials} {done} done before; on {evaluation.processes.device} in {evaluation.finetuner.precision},"
        f" {evaluation.processes.number}"
    )
    if grid.missing:
        console.warn(
            f"no data for {len(grid.missing)} of the tasks, which are left out: {', '.join(grid.missing)}"
        )


def _plan(console: Console, evaluation: "Evaluation", cells: "Sequence[Cell]") -> None:
    """Print what would be run, its time from timed steps."""
    rows: list[list[Any]] = []
    total_s, trials = 0.0, 1
    for label in dict.fromkeys(cell.task.label for cell in cells):
        of_task = [cell for cell in cells if cell.task.label == label]
        left = [cell for cell in of_task if not evaluation.fits(cell)]
        run = evaluation.finetuner.build_finetuning_run(of_task[0].task, evaluation.out, of_task[0].seed)
        seconds = run.seconds_per_step() * run.steps * len(left)
        total_s += seconds
        n_train, n_test, steps = len(run.task.train), len(run.task.test), run.steps
        trials = max(trials, run.n_trials)
        rows.append([label, len(of_task), len(left), n_train, n_test, steps, duration(seconds)])
    console.result(
        {
            "plan": {
                "bench": evaluation.grid.benchmark.name,
                "runs": len(cells),
                "runs_left": sum(row[2] for row in rows),
                "trials_per_run": trials,
                "missing_tasks": evaluation.grid.missing,
                "training_s": round(total_s),
            },
            "out": str(evaluation.out),
        }
    )
    if evaluation.processes.is_main:
        columns = ["task", "runs", "left", "train rows", "test rows", "steps per run", "training"]
        console.table(f"plan for {evaluation.out} (nothing written)", columns, rows)
        if trials > 1:
            console.say(
                f"up to {trials} trials a run, whose steps are counted together; the best on dev is tested"
            )
        console.say(f"about {duration(total_s)} of training, one run at a time, evaluations not counted")


def _watch(console: Console, total: int, prefix: str = "") -> Any:
    """Return what shows each run on a bar of its own, and its test scores when it is done."""

    @contextmanager
    def watch(cell: "Cell", number: int, run: "FinetuningRun") -> "Iterator[Observer]":
        with console.progress(f"{prefix}{number}/{total} {cell}", run.steps, run.unit) as bar:
            yield TrainingProgress(console, bar)
        _tested(console, f"{prefix}{number}/{total} {cell}", run.out)

    return watch


def _tested(console: Console, what: str, folder: Path) -> None:
    from cmgems_cli.artifacts import read_manifest
    from cmgems_cli.comparing.scores import as_printed
    from cmgems_cli.metrics import METRICS

    stats = read_manifest(folder, "scores").stats
    shown = [
        f"{one.printed_title} {as_printed(stats[name], name)}"
        for name, one in METRICS.items()
        if one.shown and name in stats
    ]
    flag = ", collapsed: the same predicted for every row" if stats["collapsed"] else ""
    console.say(f"{what}: test {', '.join(shown)}{flag}")


def _at_a_time(jobs: int | None, n_runs: int, evaluation: "Evaluation") -> int:
    """Return how many runs to do at a time: as asked for, or what pays."""
    from cmgems_cli.errors import UsageError

    processes = evaluation.processes
    if processes.world_size > 1:
        if jobs is not None and jobs > 1:
            raise UsageError(f"--jobs {jobs} under torchrun, whose processes share every run: leave one out")
        return 1
    from cmgems_cli.bench.build import Finetuner
    from cmgems_cli.bench.jobs import default_jobs

    assert isinstance(evaluation.finetuner, Finetuner)
    wanted = jobs or default_jobs(n_runs, evaluation.finetuner.source.config, processes.device)
    return max(1, min(wanted, n_runs))


def _run_in_jobs(
    console: Console, evaluation: "Evaluation", cells: "Sequence[Cell]", n_jobs: int, *, resume: bool
) -> None:
    from cmgems_cli.bench.jobs import run_in_jobs

    console.say(f"{n_jobs} runs at a time, each in a process of its own")
    numbers = itertools.count(1)
    with console.progress(evaluation.name, len(cells), "runs") as bar:

        def report(cell: "Cell", kind: str, content: Any) -> None:
            if kind == "advanced":
                bar.advance(content)
            elif kind == "warned":
                console.warn(f"{cell}: {content}")
            else:
                _tested(console, f"{next(numbers)}/{len(cells)} {cell}", evaluation.run_folder(cell))

        run_in_jobs(evaluation, cells, n_jobs, resume=resume, report=report)


def _close(console: Console, evaluation: "Evaluation", manifest: "Manifest | None", started: float) -> None:
    report = evaluation.report()
    show(console, report)
    precision = evaluation.finetuner.precision
    others = [other for other in evaluation.precisions() if other != precision]
    if others:
        console.warn(
            f"some finished runs were computed in {others[0]}; this evaluation uses {precision}: --no-resume"
            " computes them again"
        )
    if manifest is not None:
        console.finished(manifest, evaluation.out, started)
        columns = "with all published columns" if evaluation.grid.benchmark.published.tables else "report"
        console.say(f"{columns}: {evaluation.out / 'report.md'}")
        return
    cells = evaluation.grid.cells
    done = sum(evaluation.fits(cell) for cell in cells)
    console.result({"kind": "scores", "runs": len(cells), "runs_done": done, "out": str(evaluation.out)})
    console.say(
        f"{done} of {len(cells)} runs are done; the shard that ends last merges them into"
        f" {evaluation.out / 'scores.csv'}"
    )


def show(console: Console, report: "Report") -> None:
    """Print what of a report fits a screen."""
    for table in report.tables:
        if not table.wide:
            console.table(table.title, table.columns, table.rows)
    for note in report.notes:
        console.say(f"note: {note}")
