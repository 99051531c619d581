"""The runs of a benchmark: tasks, numbers of training rows, seeds and shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmgems_cli.comparing.grouping import mean
from cmgems_cli.comparing.pairing import recorded_of
from cmgems_cli.comparing.scores import Score
from cmgems_cli.comparing.tables import COLLAPSED
from cmgems_cli.datasets.benchmark import Benchmark
from cmgems_cli.datasets.benchmark_file import task_folders
from cmgems_cli.datasets.number_list import parse_numbers
from cmgems_cli.datasets.task_files import TaskFiles, find_task_files
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.metrics import METRICS
from cmgems_cli.readable import none_of

# Value of `shots` for training on all rows.
ALL_ROWS = "all"


@dataclass(frozen=True)
class Cell:
    """One run of a grid: a task, at a number of shots, with a seed."""

    task: TaskFiles
    seed: int

    @property
    def folder(self) -> str:
        """Name of the run's folder: `tf-0-seed-42`, `prom-core-10-seed-42`."""
        return f"{self.task.label}-seed-{self.seed}"

    def __str__(self) -> str:
        return f"{self.task}, seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """All runs of an evaluation.

    Attributes
    ----------
    benchmark : Benchmark
    cells : tuple of Cell
        Task by task, so that the files of each are read once.
    missing : dict, task -> str
        Selected tasks without data, and what they lack.
    """

    benchmark: Benchmark
    cells: tuple[Cell, ...]
    missing: dict[str, str]

    def tasks(self) -> tuple[TaskFiles, ...]:
        """Return the different tasks (and numbers of shots), in the order of the cells."""
        return tuple({cell.task.label: cell.task for cell in self.cells}.values())

    def settings(self) -> dict[str, Any]:
        """Return what an evaluation records of its grid."""
        tasks = self.tasks()
        return {
            "bench": self.benchmark.name,
            **recorded_of(self.benchmark),
            "tasks": list(dict.fromkeys(task.name for task in tasks)),
            "shots": sorted({task.shots for task in tasks if task.shots is not None}),
            "seeds": sorted({cell.seed for cell in self.cells}),
        }

    def shard(self, number: int, of: int) -> tuple[Cell, ...]:
        """Return every `of`-th cell, from the `number`-th (1 … `of`): the shards together have all cells."""
        return self.cells[number - 1 :: of]


def build_grid(
    benchmark: Benchmark,
    root: Path,
    *,
    tasks: str | None = None,
    shots: Sequence[int | None] | None = None,
    seeds: Sequence[int] | None = None,
) -> Grid:
    """Return the runs of a benchmark whose data are below `root`.

    Parameters
    ----------
    benchmark : Benchmark
    root : Path
        The folder that the paths of the tasks are relative to.
    tasks : str, optional
        Comma-separated names: of the benchmark's tasks, or of further task folders below `root`. By default the
        benchmark's default tasks.
    shots, seeds : sequence of int, optional
        By default the benchmark's. None among the shots: all rows.

    Raises
    ------
    UsageError
        If a name is not a task.
    InputError
        If `root` is not a folder or has none of the tasks, or the benchmark's metric is unknown.
    """
    if benchmark.metric not in METRICS:
        raise InputError(
            f"the benchmark {benchmark.name} has the metric {benchmark.metric!r}; needed {', '.join(METRICS)}"
        )
    if not root.is_dir():
        fetched = f", or get it with `{benchmark.data_from}`" if benchmark.data_from else ""
        raise InputError(
            f"{root} is not a folder; needed the folder of the {benchmark.title} benchmark: give `data`{fetched}"
        )
    files: dict[str, TaskFiles] = {}
    missing: dict[str, str] = {}
    own = task_folders(root) if tasks is not None else ()
    for definition in benchmark.selected(tasks, own):
        for number in benchmark.shots if shots is None else shots:
            try:
                task = find_task_files(benchmark, definition, root, number)
            except InputError as error:
                shown = definition.name if number is None else f"{definition.name}, {number} shots"
                missing[shown] = str(error)
                continue
            other = files.setdefault(task.label, task)
            if other is not task:
                raise InputError(f"{task} and {other} would share the folder {task.label}; rename one task")
    if not files:
        name, why = next(iter(missing.items()))
        raise InputError(
            f"{root} has the data of {none_of(len(missing), 'task')} wanted ({name}: {why}); give the"
            " benchmark's folder as `data`"
        )
    chosen = benchmark.seeds if seeds is None else seeds
    return Grid(benchmark, tuple(Cell(task, seed) for task in files.values() for seed in chosen), missing)


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
    notes = [COLLAPSED[stats.get("problem") == "regression"]] if stats["collapsed"] else []
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


def merged_stats(grid: Grid, runs: Sequence[dict[str, Any]], scores: Sequence[Score]) -> dict[str, Any]:
    """Return what the manifest of an evaluation says: counts, and means of the metrics that every run has.

    Parameters
    ----------
    grid : Grid
    runs : sequence of dict
        What the manifests of the runs say.
    scores : sequence of Score
        Of all runs.
    """
    values = {name: [score.value for score in scores if score.metric == name] for name in METRICS}
    return {
        "runs": len(runs),
        "tasks": len(grid.tasks()),
        "missing_tasks": sorted(grid.missing),
        "collapsed_runs": sum(bool(stats["collapsed"]) for stats in runs),
        **{f"mean_{name}": mean(found) for name, found in values.items() if len(found) == len(runs)},
    }


def parse_shots(text: str) -> list[int | None]:
    """Return the numbers of a list such as `10,50,all`, each once; None for `all`.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> parse_shots("10,50-51,all")
    [10, 50, 51, None]
    """
    shots: dict[int | None, None] = {}
    for part in text.split(","):
        whole = part.strip().casefold() == ALL_ROWS
        shots |= dict.fromkeys([None] if whole else parse_numbers("shots", part, least=1))
    return list(shots)


def parse_shard(text: str) -> tuple[int, int]:
    """Return (number, of) of `I/N`, I from 1 to N.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> parse_shard("2/8")
    (2, 8)
    """
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise UsageError(f"`shard` {text!r}: needed I/N with I from 1 to N, for example 1/8")
    return int(number), int(of)
