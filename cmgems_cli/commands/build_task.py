"""`cmgems build-task`: regions of a genome become a labelled data set with negatives that match them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmgems_cli import workspace
from cmgems_cli.console import Console
from cmgems_cli.errors import UsageError
from cmgems_cli.option_fields import option
from cmgems_cli.options import Shared, takes
from cmgems_cli.output_state import check_place
from cmgems_cli.task_builder.build_task_options import BuildTaskOptions

if TYPE_CHECKING:
    from cmgems_cli.task_builder.building import BuiltTask


@takes("out seed overwrite dry_run json quiet config", out="the workspace's tasks/NAME")
def build_task(
    regions: Annotated[
        Path,
        typer.Argument(metavar="REGIONS.bed", help="BED file, plain or gzip.", show_default=False),
    ],
    genome: Path | None = option(
        None, "--genome", "FASTA file of the genome, plain or gzip.", metavar="FASTA", shown="needed"
    ),
    *,
    options: BuildTaskOptions,
    io: Shared,
) -> None:
    """Make a task from regions: matched negatives, split by chromosome.

    A negative is a random region of the same chromosome, as long as its
    positive, with as many G and C and repeats, that overlaps neither a region
    of the file nor another negative nor N. Both are in one split. With fewer
    than three contigs, blocks take the place of chromosomes. Rows of dev and
    test with a near-duplicate in another split are left out with their pair.

    Example: cmgems build-task peaks.bed --genome hg38.fa.gz --length 200
    """
    started = time.perf_counter()
    console = io.console()
    if genome is None:
        raise UsageError("build-task reads the letters of the regions from a genome; give --genome FASTA")
    target = io.out or workspace.task_folder(regions.name.removesuffix(".gz").removesuffix(".bed"))
    check_place(target, "task")
    from cmgems_cli.task_builder import building
    from cmgems_cli.task_builder.sites import find_sites

    with console.progress("drawing negatives", 0, "regions") as bar:
        found = find_sites(regions, genome, options, seed=io.seed, advance=bar.advance)
    task = building.build_task(found, regions, options, seed=io.seed)
    if io.dry_run:
        console.result({"dry_run": True, "out": str(target), **task.stats()})
        _show(console, task, f"plan for {target} (nothing written)")
        return
    manifest = building.write_task(task, target, overwrite=io.overwrite)
    _show(console, task, str(target))
    console.finished(manifest, target, started)
    console.say(f"fine-tune on it: cmgems finetune MODEL {target}")


def _show(console: Console, task: BuiltTask, title: str) -> None:
    """Print what became of the regions, the splits, and how well the negatives match."""
    from cmgems_cli.datasets.benchmark import SPLITS
    from cmgems_cli.task_builder.balance import balance

    stats = task.stats()
    regions = [[name.replace("_", " "), count] for name, count in task.found.counts().items()]
    console.table(title, ["regions", "number"], [*regions, ["dropped near duplicates (rows)", task.near]])
    labels = stats.get("rows_of_label", {})
    rows = [[name, stats[f"n_{name}"], *(counts[name] for counts in labels.values())] for name in SPLITS]
    console.table("splits", ["split", "rows", *(f"label {label}" for label in labels)], rows)
    cells = [
        [one.quantity, one.label, f"{one.mean:.4g}", *(f"{value:.4g}" for value in one.quantiles[1:4])]
        for one in balance(task.sites)
    ]
    console.table("matching", ["quantity", "label", "mean", "q25", "median", "q75"], cells)
    for name, places in stats["chromosomes"].items():
        console.say(f"{name}: {', '.join(places)}")
    for note in task.notes():
        console.warn(note)
