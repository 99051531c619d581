"""The scores of a study's fine-tuning runs, from the tables that the workflow collected."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# The metric of a block whose metric is not MCC.
METRIC = {"fewshot": "accuracy"}
# The block of question 5 that changes nothing but the rate.
PLAIN = "why-plain"


class Cell(NamedTuple):
    """What is compared: a task and its rows per class (empty: all)."""

    task: str
    shots: str

    def __str__(self) -> str:
        return f"{self.task}, {self.shots} shots" if self.shots else self.task


# cell -> model seed -> run seed -> value, on the printed scale: times 100.
Values = dict[Cell, dict[int, dict[int, float]]]


class Run(NamedTuple):
    """A fine-tuning run: its arm, cell and seeds, and what a run of several trials chose by."""

    arm: str
    cell: Cell
    model_seed: int
    seed: int


def rows_of(results: Path, block: str) -> dict[Run, dict[str, str]]:
    """Return the rows of a block: its metric's, one per run."""
    rows = {}
    for path in sorted((results / block).glob("*.csv")):
        size_and_arm, _, seed = path.stem.rpartition("-s")
        arm = size_and_arm.partition("-")[2]
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                if row["metric"] == METRIC.get(block, "mcc"):
                    rows[Run(arm, Cell(row["task"], row["shots"]), int(seed), int(row["seed"]))] = row
    return rows


def chosen_rows(results: Path, blocks: Sequence[str]) -> dict[Run, dict[str, str]]:
    """Return the run of the best trial of several blocks, as `evaluate` chooses: by MCC on dev, then by loss.

    Of runs that all the blocks have. The column `chosen` also names the block's change.
    """
    found = {block: rows_of(results, block) for block in blocks}
    best = {}
    for run in found[blocks[0]]:
        if all(run in rows for rows in found.values()):
            block = max(
                blocks,
                key=lambda one: (float(found[one][run]["dev_mcc"]), -float(found[one][run]["dev_loss"])),
            )
            row = found[block][run]
            change = "" if block == PLAIN else f", {block.removeprefix('why-')}"
            best[run] = {**row, "chosen": f"{row['chosen']}{change}"}
    return best


def by_arm(rows: Mapping[Run, Mapping[str, str]]) -> dict[str, Values]:
    """Return the values of runs by arm."""
    arms: dict[str, Values] = {}
    for run, row in rows.items():
        values = arms.setdefault(run.arm, defaultdict(lambda: defaultdict(dict)))
        values[run.cell][run.model_seed][run.seed] = 100 * float(row["value"])
    return arms


def values_of(results: Path, block: str) -> dict[str, Values]:
    """Return the values of a block by arm."""
    return by_arm(rows_of(results, block))


def by_draw(runs: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    """Return the mean over the models, for each draw that all of them have."""
    shared = set.intersection(*(set(values) for values in runs.values()))
    return {draw: float(np.mean([values[draw] for values in runs.values()])) for draw in sorted(shared)}


def cell_mean(values: Values, cell: Cell) -> str:
    """Return the mean over model seeds in a cell as it is printed; a dash without values."""
    return f"{np.mean(list(seed_means(values, cell).values())):.1f}" if cell in values else "–"


def seed_means(values: Values, cell: Cell) -> dict[int, float]:
    """Return the mean of each model seed in a cell."""
    return {seed: float(np.mean(list(runs.values()))) for seed, runs in sorted(values[cell].items())}


def values_of_all(results: Path, planned: Mapping[str, Any]) -> dict[str, dict[str, Values]]:
    """Return the values of every block of the study, by arm."""
    blocks = {}
    for block, how in planned["blocks"].items():
        if "best_of" in how:
            blocks[block] = by_arm(chosen_rows(results, how["best_of"]))
            # Without weights there is no way of fine-tuning to choose: the same on the same tasks.
            linear = values_of(results, "published").get("kmer-linear")
            blocks[block] |= {"kmer-linear": linear} if blocks[block] and linear else {}
        else:
            blocks[block] = values_of(results, block)
    return blocks
