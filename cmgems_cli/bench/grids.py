"""The runs of a benchmark: which tasks, with which seeds, in which shares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cmgems_cli.datasets.task_files import SPLITS, fewshot_folders, find_split, gue_folders
from cmgems_cli.datasets.task_rows import POOL, TEST, FoundTask
from cmgems_cli.datasets.tasks import FewshotTask, Task
from cmgems_cli.errors import InputError, UsageError


@dataclass(frozen=True)
class Cell:
    """One run of a grid: a task, at a number of shots, with a seed."""

    found: FoundTask
    seed: int

    @property
    def folder(self) -> str:
        """Name of the run's folder: `tf-0-seed-42`, `prom-core-10-seed-42`."""
        return f"{self.found.label}-seed-{self.seed}"

    def __str__(self) -> str:
        shots = "" if self.found.shots is None else f", {self.found.shots} shots"
        return f"{self.found.name}{shots}, seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """All runs of an evaluation.

    Attributes
    ----------
    bench : str
        gue or fewshot.
    cells : tuple of Cell
        Task by task, so that each one's files are read once.
    missing : dict, task -> str
        Tasks asked for whose data are not there, and what they lack.
    """

    bench: str
    cells: tuple[Cell, ...]
    missing: dict[str, str]

    def tasks(self) -> tuple[FoundTask, ...]:
        """Return the different tasks (and numbers of shots), in the order of the cells."""
        different: list[FoundTask] = []
        for cell in self.cells:
            if cell.found not in different:
                different.append(cell.found)
        return tuple(different)

    def shard(self, number: int, of: int) -> tuple[Cell, ...]:
        """Return every `of`-th cell, from the `number`-th on (1 … `of`): the shards share all cells."""
        return self.cells[number - 1 :: of]


def gue_grid(root: Path, tasks: Iterable[Task], seeds: Sequence[int]) -> Grid:
    """Return the runs of GUE tasks whose data lie below `root`.

    Raises
    ------
    InputError
        If `root` is not a folder, or holds none of the tasks.
    """
    wanted = list(tasks)
    there, missing = gue_folders(root, wanted)
    found = [
        FoundTask(
            {split: find_split(there[task.name], split) for split in SPLITS}, task, shots=None, name=task.name
        )
        for task in wanted
        if task.name in there
    ]
    return _grid("gue", root, found, seeds, missing)


def fewshot_grid(
    root: Path, tasks: Iterable[FewshotTask], shots: Sequence[int], seeds: Sequence[int]
) -> Grid:
    """Return the runs of few-shot datasets whose files lie below `root` (InputError as `gue_grid`)."""
    wanted = list(tasks)
    there, missing = fewshot_folders(root, wanted, shots)
    found = [
        FoundTask({POOL: files.train, TEST: files.test}, task, number, task.name)
        for task in wanted
        for number in shots
        if (files := there.get((task.name, number)))
    ]
    lacking = {f"{name}, {number} shots": why for (name, number), why in missing.items()}
    return _grid("fewshot", root, found, seeds, lacking)


def _grid(
    bench: str, root: Path, found: list[FoundTask], seeds: Sequence[int], missing: dict[str, str]
) -> Grid:
    if not found:
        first = next(iter(missing.items()))
        raise InputError(
            f"{root} has the data of none of the {len(missing)} tasks wanted ({first[0]}: {first[1]});"
            " give the benchmark's folder as --data"
        )
    return Grid(bench, tuple(Cell(task, seed) for task in found for seed in seeds), missing)


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
        raise UsageError(f"--shard {text!r}: needed I/N with I from 1 to N, for example 1/8")
    return int(number), int(of)


def parse_numbers(option: str, text: str, *, least: int) -> list[int]:
    """Return the whole numbers of a list such as `42,50-52`, each once, in its order.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> parse_numbers("--seeds", "42,50-52", least=0)
    [42, 50, 51, 52]
    """
    numbers: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        ends = [first, last] if dash else [first]
        if not all(end.isdecimal() for end in ends) or int(ends[-1]) < int(first) or int(first) < least:
            raise UsageError(
                f"{option} {text!r}: needed whole numbers from {least} on, such as 42,43 or 42-51"
            )
        numbers |= dict.fromkeys(range(int(first), int(ends[-1]) + 1))
    return list(numbers)
