"""`cmgems split`: one table of labelled sequences becomes train, dev and test."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmgems_cli import workspace
from cmgems_cli.console import Console
from cmgems_cli.datasets.split_options import SplitOptions
from cmgems_cli.options import Shared, takes
from cmgems_cli.output_state import check_place

if TYPE_CHECKING:
    from cmgems_cli.datasets.splitting import TaskSplit


@takes("out seed overwrite dry_run json quiet config", out="the workspace's tasks/TABLE")
def split(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV or TSV with the columns sequence and label, plain or gzip.",
            metavar="TABLE",
            show_default=False,
        ),
    ],
    *,
    options: SplitOptions,
    io: Shared,
) -> None:
    """Divide labelled sequences into train, dev and test without leakage.

    Writes train.csv, dev.csv and test.csv, a folder that finetune and evaluate read.
    By cluster, near-duplicates (k-mer containment, either strand) are in one split.
    Equal and nearly equal rows across the splits are counted afterwards.

    Example: cmgems split enhancers.csv --by chromosome --test-chromosomes chr8,chr9
    """
    started = time.perf_counter()
    from cmgems_cli.datasets.labelled_table import read_labelled_rows
    from cmgems_cli.datasets.splitting import split_rows, write_task

    console = io.console()
    name = table.name.removesuffix(".gz")
    target = io.out or workspace.task_folder(Path(name).stem)
    check_place(target, "task")
    task = split_rows(read_labelled_rows(table), options, seed=io.seed)
    if io.dry_run:
        console.result({"dry_run": True, "out": str(target), **task.stats()})
        _show(console, task, f"plan for {target} (nothing written)")
        return
    manifest = write_task(task, target, overwrite=io.overwrite)
    _show(console, task, str(target))
    console.finished(manifest, target, started)
    console.say(f"fine-tune on it: cmgems finetune MODEL {target}")


def _show(console: Console, task: TaskSplit, title: str) -> None:
    """Print the rows of each split by label, and what to know of them."""
    from cmgems_cli.datasets.benchmark import SPLITS

    stats = task.stats()
    by_label = stats.get("rows_of_label", {})
    rows = [[name, stats[f"n_{name}"], *(counts[name] for counts in by_label.values())] for name in SPLITS]
    console.table(title, ["split", "rows", *(f"label {label}" for label in by_label)], rows)
    for name, chromosomes in stats.get("chromosomes", {}).items():
        console.say(f"{name}: {', '.join(chromosomes)}")
    if "clusters" in stats:
        console.say(f"{stats['clusters']:,} clusters, the largest of {stats['largest_cluster']:,} rows")
    for note in stats["notes"]:
        console.warn(note)
