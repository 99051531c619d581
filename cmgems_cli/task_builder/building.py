"""A task from the regions of a genome: split by chromosome, cleared of near-duplicates, and written in GUE's layout."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.artifacts import Manifest, environment
from cmgems_cli.datasets.benchmark import SPLITS
from cmgems_cli.datasets.containment import Sketches, has_near_duplicate
from cmgems_cli.datasets.leakage import leakage
from cmgems_cli.datasets.split_options import SplitOptions
from cmgems_cli.datasets.splitting import (
    DEV,
    TEST,
    TRAIN,
    EmptySplitError,
    LabelledRows,
    TaskSplit,
    split_rows,
    write_rows,
)
from cmgems_cli.errors import InputError
from cmgems_cli.markdown import table
from cmgems_cli.option_fields import recipe_fields
from cmgems_cli.outputs import Output
from cmgems_cli.readable import counted
from cmgems_cli.row_writer import RowWriter
from cmgems_cli.task_builder.balance import COLUMNS as BALANCE_COLUMNS
from cmgems_cli.task_builder.balance import balance
from cmgems_cli.task_builder.build_task_options import BuildTaskOptions
from cmgems_cli.task_builder.sites import Site, Sites

COLUMNS = ("sequence", "label", "chrom", "start", "end", "strand", "name", "pair", "block", "gc", "repeats")
TOML, MATCHING, REPORT = "task.toml", "matching.csv", "report.md"


@dataclass(frozen=True, eq=False)
class BuiltTask:
    """A task in memory.

    Attributes
    ----------
    found : Sites
    sites : list of Site
        Those in the task, in the order of the rows of `split`.
    split : TaskSplit
    near : int
        Rows left out of dev and test with their pairs: near-duplicates of a row of another split.
    params : dict
        What was chosen.
    """

    found: Sites
    sites: list[Site]
    split: TaskSplit
    near: int
    params: dict[str, Any]

    def notes(self) -> list[str]:
        """Return what a user of the task should know."""
        notes = []
        if not self.found.soft_masked:
            notes.append("the genome has no lower-case letters: repeats are not known, and not matched")
        if self.found.by_blocks:
            notes.append(
                f"{counted(self.found.contigs, 'contig')}: split by blocks of a contig, not by chromosome; what"
                " is spread along a chromosome may be in several splits"
            )
        return [*notes, *self.split.notes()]

    def stats(self) -> dict[str, Any]:
        """Return the counts, as the manifest has them."""
        return {
            **self.split.stats(),
            **self.found.counts(),
            "dropped_near_duplicates": self.near,
            "split_by": "block" if self.found.by_blocks else "chromosome",
            "balance": [dict(zip(BALANCE_COLUMNS, one.cells(), strict=True)) for one in balance(self.sites)],
            "notes": self.notes(),
        }


def build_task(found: Sites, bed: Path, options: BuildTaskOptions, *, seed: int = 42) -> BuiltTask:
    """Split labelled sequences, and leave out what leaks between the splits.

    A positive and its negatives are in one split. Pairs of dev with a near-duplicate in train, and pairs of test with
    one in train or dev, are left out (`datasets.containment`).

    Parameters
    ----------
    found : Sites
    bed : Path
        For messages.
    options : BuildTaskOptions
    seed : int, default 42

    Raises
    ------
    InputError
        If no region is left, or a split would have no rows.
    UsageError
        As `split_rows`.
    """
    if not found.sites:
        counts = ", ".join(f"{name} {count:,}" for name, count in found.counts().items() if count)
        raise InputError(
            f"{bed} leaves no region for a task ({counts}); give more regions, or larger `gc_tolerance` and"
            " `repeat_tolerance`"
        )
    rows = _rows(found.sites, bed)
    by_chromosome = SplitOptions(
        by="chromosome",
        dev=options.dev,
        test=options.test,
        dev_chromosomes=options.dev_chromosomes,
        test_chromosomes=options.test_chromosomes,
        column="block",
    )
    try:
        first = split_rows(rows, by_chromosome, seed=seed)
    except EmptySplitError as empty:
        raise InputError(_too_few(found, bed, options, empty.counts)) from None
    kept = _kept(found.sites, first.split)
    sites = [found.sites[row] for row in kept.tolist()]
    of_split = {
        name: [
            site.letters
            for site, split in zip(sites, first.split[kept].tolist(), strict=True)
            if split == number
        ]
        for number, name in enumerate(SPLITS)
    }
    if lost := [name for name, sequences in of_split.items() if not sequences]:
        raise InputError(
            f"{bed}: all rows of {' and '.join(lost)} have a near-duplicate in another split; give more regions, or"
            " other chromosomes"
        )
    left = replace(first, rows=_rows(sites, bed), split=first.split[kept], leakage=leakage(of_split))
    params = {**recipe_fields(options), "exclude": options.exclude is not None, "seed": seed}
    return BuiltTask(found, sites, left, len(found.sites) - len(sites), params)


def _too_few(found: Sites, bed: Path, options: BuildTaskOptions, counts: str) -> str:
    """Say that the regions do not fill three splits; `counts`: the rows that each would have."""
    usable = len({site.pair for site in found.sites})
    unit = "block" if found.by_blocks else "chromosome"
    places = counted(len({site.block for site in found.sites}), unit)
    message = (
        f"{bed} has too few regions: {usable:,} of {counted(found.regions, 'region')} can be used, in {places}, which"
        f" leaves a split without rows ({counts}); needed regions in 3 {unit}s or more; give more regions"
    )
    named = options.dev_chromosomes or options.test_chromosomes
    return f"{message}, or name other chromosomes" if named else message


def _rows(sites: Sequence[Site], bed: Path) -> LabelledRows:
    cells = [
        [
            site.letters.decode("ascii"),
            site.label,
            site.region.contig,
            str(site.region.start),
            str(site.region.end),
            site.region.strand,
            site.region.name,
            str(site.pair),
            site.block,
            f"{site.gc:.4f}",
            "" if site.repeats is None else f"{site.repeats:.4f}",
        ]
        for site in sites
    ]
    return LabelledRows(
        bed, list(COLUMNS), cells, [site.letters for site in sites], [site.label for site in sites]
    )


def _kept(sites: Sequence[Site], split: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of pairs that no earlier split has a near-duplicate of (int64, shape (n_kept,))."""
    of_split = [np.flatnonzero(split == number) for number in (TRAIN, DEV, TEST)]
    train, dev, test = (Sketches([sites[row].letters for row in rows.tolist()]) for rows in of_split)
    near = np.zeros(len(sites), np.bool_)
    near[of_split[DEV]] = has_near_duplicate(dev, train)
    near[of_split[TEST]] = has_near_duplicate(test, train) | has_near_duplicate(test, dev)
    pairs = np.array([site.pair for site in sites])
    return np.flatnonzero(~np.isin(pairs, pairs[near]))


def write_task(task: BuiltTask, out: Path, *, overwrite: bool = False) -> Manifest:
    """Write a task as an artifact of the kind `task`, all of it or nothing.

    The folder has train.csv, dev.csv and test.csv, `task.toml` for `evaluate`, and `matching.csv` and `report.md`,
    which compare positives and negatives.

    Raises
    ------
    OverwriteError
        If `out` may not be written.
    """
    started = time.perf_counter()
    output = Output(out, "task", params=task.params, inputs=task.found.inputs)
    with output.claim(overwrite=overwrite) as claim:
        if claim.done is not None:
            return claim.done
        tables = write_rows(task.split, claim.folder)
        (claim.folder / TOML).write_text(_toml(out.absolute().name), encoding="utf-8")
        with (claim.folder / MATCHING).open("w", encoding="utf-8", newline="") as stream:
            RowWriter(stream).rows([BALANCE_COLUMNS, *(one.cells() for one in balance(task.sites))])
        (claim.folder / REPORT).write_text(_report(task, out.absolute().name), encoding="utf-8")
        files = [*tables, TOML, MATCHING, REPORT]
        return claim.finish(stats=task.stats(), files=files, environment=environment(started))


def _toml(name: str) -> str:
    shown = name.replace("\\", "_").replace('"', "_").replace(",", "_")
    return (
        f'# A benchmark of one task, for cmgems evaluate.\nname = "{shown}"\nmetric = "mcc"\n\n'
        f'[[task]]\nname = "{shown}"\npath = "."\n'
    )


def _report(task: BuiltTask, name: str) -> str:
    """Return the page for people."""
    stats = task.stats()
    labels = stats.get("rows_of_label", {})
    splits = [
        [split, f"{stats[f'n_{split}']:,}", *(f"{counts[split]:,}" for counts in labels.values())]
        for split in SPLITS
    ]
    where = [[split, ", ".join(names)] for split, names in stats["chromosomes"].items()]
    counted = [[words.replace("_", " "), f"{count:,}"] for words, count in task.found.counts().items()]
    counted.append(["dropped near duplicates (rows)", f"{task.near:,}"])
    parts = [
        f"# {name}",
        table(["split", "rows", *(f"label {label}" for label in labels)], splits),
        table(["split", "blocks" if task.found.by_blocks else "chromosomes"], where),
        "## Matching\n\nFractions of G and C, and of repeats (lower-case letters); lengths in bases.",
        table(BALANCE_COLUMNS, [one.cells() for one in balance(task.sites)]),
        "## Regions\n",
        table(["regions", "number"], counted),
        *(f"- {note}" for note in task.notes()),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"
