"""Where the files of a task are: folders of splits, and the namings of few-shot files (method, section 7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cmgems_cli.datasets.benchmark import (
    FASTA_ENDINGS,
    FULL_DATASET,
    PARQUET_ENDING,
    SPLITS,
    TABLE_ENDINGS,
    Benchmark,
    TaskDefinition,
    alike,
    is_file_of_rows,
)
from cmgems_cli.datasets.benchmark_file import holds_classes, no_benchmark, shipped, shipped_names
from cmgems_cli.errors import InputError

# The files of a run without a dev split: training rows, all of them or to draw from, and the test.
POOL, TEST = "pool", "test"


@dataclass(frozen=True)
class TaskFiles:
    """A task and its files, before any row is read.

    Attributes
    ----------
    benchmark : Benchmark
        `no_benchmark()` for data of no benchmark.
    definition : TaskDefinition
    files : mapping, split -> Path
        train, dev and test; or pool and test, of a run without a dev split.
    shots : int or None
        Rows per class to draw from the pool; None: all rows.
    """

    benchmark: Benchmark
    definition: TaskDefinition
    files: Mapping[str, Path] = field(hash=False)
    shots: int | None

    @property
    def name(self) -> str:
        """The task's name."""
        return self.definition.name

    @property
    def has_dev(self) -> bool:
        """Whether there is a dev split to choose a model by."""
        return POOL not in self.files

    @property
    def dev_fraction(self) -> float | None:
        """The part of train that is its dev split; None if the data have a dev split, or no model is chosen."""
        return self.benchmark.dev_fraction if self.has_dev and "dev" not in self.files else None

    @property
    def dev_params(self) -> dict[str, float]:
        """What a manifest records of a dev split that is made of train; nothing of one that is in the data."""
        return {} if self.dev_fraction is None else {"dev_fraction": self.dev_fraction}

    @property
    def label(self) -> str:
        """A name for folders: `tf-0`, `splice-40-10`."""
        name = self.name.replace("/", "-")
        return name if self.shots is None else f"{name}-{self.shots}"

    def __str__(self) -> str:
        return self.name if self.shots is None else f"{self.name}, {self.shots} shots"


def find_task_files(
    benchmark: Benchmark, definition: TaskDefinition, root: Path, shots: int | None
) -> TaskFiles:
    """Find the files of a benchmark's task below `root`.

    On all rows, a task has train, dev and test in its folder; without them, the whole train and test files in
    `full-dataset`. Shots are drawn from the train file of the folder named after their number; without that
    folder, from the whole train file.

    Raises
    ------
    InputError
        If a folder or file is missing, or two files could be meant; the message names it relative to `root`.
    """
    folder: Path | None = root / definition.path
    if folder is None or not folder.is_dir():
        folder = root
        for part in definition.path.split("/"):
            folder = folder and _below(folder, part)
    if folder is None:
        raise InputError(f"no folder {definition.path}")
    return TaskFiles(benchmark, definition, _files_in(folder, shots, benchmark), shots)


def find_task(data: Path, shots: int | None = None) -> TaskFiles:
    """Find the task at a path, by names alone.

    Parameters
    ----------
    data : Path
        A folder with train, dev and test files, or one of these files; or one train file without a dev file
        next to it, with the test file in the same folder or its parent.
    shots : int, optional
        Rows per class to draw. By default those that a few-shot file's folder is named after, and all rows of
        other data.

    Raises
    ------
    InputError
        If there is nothing at `data`, or a split is missing.
    """
    if not data.exists():
        raise InputError(
            f"{data} does not exist; needed a folder with train, dev and test.csv, or a few-shot TSV"
            " (GUE: `cmgems fetch gue`)"
        )
    known = _shipped_task(data)
    if shots is None and data.is_file() and _is_a_split(data, known[0] if known else no_benchmark()):
        data = data.absolute().parent
    if data.is_dir():
        try:
            files = _files_in(data, shots, known[0] if known else no_benchmark())
        except InputError as error:
            raise InputError(
                f"{data}: {error} (it has {_listed(_entries(data))}); needed train, dev and test as CSV or TSV"
            ) from None
        name = data.absolute().name
    else:
        files = {POOL: data, TEST: _test_near(data)}
        name, named_shots = _named_by_folders(data, files[TEST])
        shots = shots or named_shots
    return TaskFiles(*(known or (no_benchmark(), TaskDefinition(name, ""))), files, shots)


def _shipped_task(data: Path) -> tuple[Benchmark, TaskDefinition] | None:
    for benchmark in map(shipped, shipped_names()):
        if definition := benchmark.task_at(data):
            return benchmark, definition
    return None


def _is_a_split(path: Path, benchmark: Benchmark) -> bool:
    """Return whether a file is one of train, dev and test that stand side by side."""
    try:
        files = _files_in(path.absolute().parent, None, benchmark)
        return "train" in files and path.name in {file.name for file in files.values()}
    except InputError:
        return False


def find_split(folder: Path, split: str) -> Path:
    """Return the file of a split in `folder`, in any case of letters: the first of these.

    `dev.csv`, `dev.tsv`, `dev.fna` (`fa`, `fasta`), a folder `dev` of one folder per class, `dev.parquet`.

    Raises
    ------
    InputError
        If there is no such file.
    """
    entries = _entries(folder)
    for ending in (*TABLE_ENDINGS, *FASTA_ENDINGS):
        for name in (f"{split}{ending}", f"{split}{ending}.gz"):
            if name in entries and entries[name].is_file():
                return entries[name]
    if split in entries and holds_classes(entries[split]):
        return entries[split]
    name = f"{split}{PARQUET_ENDING}"
    if name in entries and entries[name].is_file():
        return entries[name]
    raise InputError(f"no {split}.csv")


def _files_in(folder: Path, shots: int | None, benchmark: Benchmark) -> dict[str, Path]:
    if shots is not None:
        return _pool_and_test(folder, shots)
    files, lacking = {}, []
    for split in SPLITS:
        if split == "dev" and benchmark.dev_fraction is not None and not _has_split(folder, split):
            continue
        try:
            files[split] = find_split(folder, split)
        except InputError as error:
            lacking.append(str(error))
    if not lacking:
        return files
    if _below(folder, FULL_DATASET):
        return _pool_and_test(folder, None)
    raise InputError(" and ".join(lacking))


def _has_split(folder: Path, split: str) -> bool:
    try:
        return find_split(folder, split).exists()
    except InputError:
        return False


def _pool_and_test(folder: Path, shots: int | None) -> dict[str, Path]:
    at = None if shots is None else _below(folder, str(shots))
    for place in [at] if at else [folder, _below(folder, FULL_DATASET)]:
        train = _one_file(place, "train") if place else None
        if train:
            return {POOL: train, TEST: _test_near(train)}
    wanted = "" if shots is None else f" for {shots} shots"
    where = (at or folder).name
    raise InputError(f"no train file{wanted} in {where} (it has {_listed(_entries(at or folder))})")


def _named_by_folders(train: Path, test: Path) -> tuple[str, int | None]:
    """Return the name and the shots that the folders of a train file give it.

    `silencers/10/train.tsv` is 10 shots of silencers if its test is in another folder; a numbered folder that
    holds train and test is a task of its own, such as GUE's. A file in no such folder names itself.
    """
    folder = train.absolute().parent
    if folder.name.casefold() == FULL_DATASET:
        return folder.parent.name, None
    if folder.name.isdecimal() and test.absolute().parent != folder:
        return folder.parent.name, int(folder.name)
    return train.stem, None


def _test_near(train: Path) -> Path:
    folder = train.absolute().parent
    places = [folder, _below(folder, FULL_DATASET)]
    # Only a folder of shots, or the whole dataset's, belongs to the one above it.
    if folder.name.isdecimal() or folder.name.casefold() == FULL_DATASET:
        places += [folder.parent, _below(folder.parent, FULL_DATASET)]
    for place in places:
        test = _one_file(place, "test") if place else None
        if test:
            return test
    if train.name.casefold().removesuffix(".gz").endswith(FASTA_ENDINGS) and not _names_split(
        train.name, "train"
    ):
        raise InputError(
            f"{train} is a FASTA file; needed a folder with train, dev and test.csv, or one table of labelled sequences"
            " with a test file near it (regions of a genome: `cmgems build-task`)"
        )
    looked = " or ".join(str(place) for place in places if place)
    raise InputError(f"{train} has no test file near it; needed a test.tsv in {looked}")


def _one_file(folder: Path, split: str) -> Path | None:
    """Return the file named `train.tsv`, `train_splice40_10.tsv` or the like; None without one."""
    entries = _entries(folder)
    files = [
        entry
        for name, entry in entries.items()
        if is_file_of_rows(name) and _names_split(name, split) and entry.is_file()
    ]
    if not files and _has_split(folder, split):
        files = [find_split(folder, split)]
    if len(files) > 1:
        raise InputError(
            f"{folder} has several {split} files ({', '.join(entry.name for entry in files)}); keep one"
        )
    return files[0] if files else None


def _names_split(name: str, split: str) -> bool:
    return re.fullmatch(rf"{split}([_.-].*)?", name.casefold()) is not None


def _entries(folder: Path) -> dict[str, Path]:
    """Return what a folder holds by lower-case name."""
    return {entry.name.casefold(): entry for entry in sorted(folder.iterdir())}


def _below(folder: Path, name: str) -> Path | None:
    """Return the folder of that name in `folder`, in any case of letters, `_` as good as `-`."""
    if (folder / name).is_dir():
        return folder / name
    return next(
        (entry for key, entry in _entries(folder).items() if alike(key) == alike(name) and entry.is_dir()),
        None,
    )


def _listed(entries: dict[str, Path]) -> str:
    return ", ".join(entry.name for entry in list(entries.values())[:8]) or "nothing"
