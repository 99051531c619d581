"""Where a benchmark's files lie: GUE's folders and the namings of few-shot files (method, section 7)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from cmgems_cli.datasets.tasks import FewshotTask, Task
from cmgems_cli.errors import InputError

SPLITS = ("train", "dev", "test")
# The published few-shot archives keep the whole dataset here, beside the folders of each number of shots.
FULL_DATASET = "full-dataset"


@dataclass(frozen=True)
class FewshotFiles:
    """The two files of a few-shot run: the pool its shots are drawn from, and the test."""

    train: Path
    test: Path


def find_split(folder: Path, split: str) -> Path:
    """Return the file of a split in `folder`: `dev.csv`, or else `dev.tsv`, in any case of letters.

    Raises
    ------
    InputError
        If there is no such folder or file.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder} is not a folder; needed one with {', '.join(f'{name}.csv' for name in SPLITS)}"
        )
    entries = _entries(folder)
    for name in (f"{split}.csv", f"{split}.tsv"):
        if name in entries and entries[name].is_file():
            return entries[name]
    raise InputError(f"{folder} has no {split}.csv (it has {_listed(entries)}); add the {split} split")


def gue_folders(root: Path, tasks: Iterable[Task]) -> tuple[dict[str, Path], dict[str, str]]:
    """Find the tasks whose data are complete below `root`.

    Returns
    -------
    there : dict, task name -> Path
        Folders that hold train, dev and test, in the order of `tasks`.
    missing : dict, task name -> str
        What the others lack, in words.

    Raises
    ------
    InputError
        If `root` is not a folder.
    """
    _check_root(root, "GUE")
    there: dict[str, Path] = {}
    missing: dict[str, str] = {}
    for task in tasks:
        folder: Path | None = root
        for part in task.name.split("/"):
            folder = _below(folder, part) if folder else None
        lacking = [split for split in SPLITS if not _has_split(folder, split)] if folder else []
        if folder is None:
            missing[task.name] = f"no folder {task.name}"
        elif lacking:
            missing[task.name] = f"no {' and no '.join(f'{split}.csv' for split in lacking)}"
        else:
            there[task.name] = folder
    return there, missing


def folders_below(root: Path) -> list[str]:
    """Return the names of the folders in `root`, none if there is no such folder."""
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []


def fewshot_files(root: Path, task: FewshotTask, shots: int) -> FewshotFiles:
    """Find the pool and the test of a few-shot dataset below `root`.

    The pool is the train file of the folder named after the number of shots; without that folder, the
    dataset's whole train file. The test is the nearest one: beside the pool, beside the folders of shots,
    or in `full-dataset`.

    Raises
    ------
    InputError
        If a folder, the pool or the test is missing, or two files could be meant.
    """
    _check_root(root, "few-shot")
    folder = _below(root, task.name)
    if folder is None:
        raise InputError(f"{root} has no folder {task.name} (it has {_listed(_entries(root))})")
    at = _below(folder, str(shots))
    pools = [at] if at else [folder, _below(folder, FULL_DATASET)]
    for pool in pools:
        train = _one_file(pool, "train") if pool else None
        if train:
            return FewshotFiles(train, _test_near(train))
    raise InputError(
        f"{at or folder} has no train file for {shots} shots (it has {_listed(_entries(at or folder))});"
        f" needed {task.name}/{shots}/train.tsv"
    )


def fewshot_folders(
    root: Path, tasks: Iterable[FewshotTask], shots: Iterable[int]
) -> tuple[dict[tuple[str, int], FewshotFiles], dict[tuple[str, int], str]]:
    """Find the files of several datasets and numbers of shots below `root`.

    Returns
    -------
    there : dict, (dataset, shots) -> FewshotFiles
    missing : dict, (dataset, shots) -> str
        What the others lack, in words.

    Raises
    ------
    InputError
        If `root` is not a folder.
    """
    _check_root(root, "few-shot")
    there: dict[tuple[str, int], FewshotFiles] = {}
    missing: dict[tuple[str, int], str] = {}
    for task, number in product(tasks, shots):
        try:
            there[task.name, number] = fewshot_files(root, task, number)
        except InputError as error:
            missing[task.name, number] = str(error)
    return there, missing


def fewshot_files_of(train: Path) -> FewshotFiles:
    """Find the test that belongs to one few-shot train file.

    Raises
    ------
    InputError
        If the file or its test is missing, or two files could be meant.
    """
    if not train.is_file():
        raise InputError(f"{train} is not a file; needed the TSV or CSV that the shots are drawn from")
    return FewshotFiles(train, _test_near(train))


def named_by_folders(files: FewshotFiles) -> tuple[str, int | None]:
    """Return the dataset's name and the shots, as the folders of a train file have them.

    `silencers/10/train.tsv` is 10 shots of silencers where its test lies elsewhere; a numbered folder that
    holds train and test is a task of its own, such as GUE's. A file in no such folder names itself.
    """
    folder = files.train.absolute().parent
    if folder.name.casefold() == FULL_DATASET:
        return folder.parent.name, None
    if folder.name.isdecimal() and files.test.absolute().parent != folder:
        return folder.parent.name, int(folder.name)
    return files.train.stem, None


def _test_near(train: Path) -> Path:
    folder = train.absolute().parent
    places = [folder, _below(folder, FULL_DATASET)]
    # Only a folder of shots, or the whole dataset's, belongs to the one above it; others are strangers.
    if folder.name.isdecimal() or folder.name.casefold() == FULL_DATASET:
        places += [folder.parent, _below(folder.parent, FULL_DATASET)]
    for place in places:
        test = _one_file(place, "test") if place else None
        if test:
            return test
    looked = " or ".join(str(place) for place in places if place)
    raise InputError(f"{train} has no test file near it; needed a test.tsv in {looked}")


def _one_file(folder: Path, split: str) -> Path | None:
    """Return the file named `train.tsv`, `train_splice40_10.tsv` or the like; None if there is none."""
    named = re.compile(rf"{split}([_.-].*)?\.(tsv|csv)")
    found = [entry for name, entry in _entries(folder).items() if named.fullmatch(name) and entry.is_file()]
    if len(found) > 1:
        raise InputError(
            f"{folder} has several {split} files ({', '.join(entry.name for entry in found)}); keep one"
        )
    return found[0] if found else None


def _has_split(folder: Path, split: str) -> bool:
    entries = _entries(folder)
    return f"{split}.csv" in entries or f"{split}.tsv" in entries


def _entries(folder: Path) -> dict[str, Path]:
    """Return what a folder holds by lower-case name."""
    return {entry.name.casefold(): entry for entry in sorted(folder.iterdir())}


def _below(folder: Path, name: str) -> Path | None:
    """Return the folder of that name in `folder`, in any case of letters, `_` as good as `-`."""
    if (folder / name).is_dir():
        return folder / name
    wanted = name.casefold().replace("_", "-")
    for lower, entry in _entries(folder).items():
        if lower.replace("_", "-") == wanted and entry.is_dir():
            return entry
    return None


def _check_root(root: Path, benchmark: str) -> None:
    if not root.is_dir():
        raise InputError(
            f"{root} is not a folder; needed the folder of the {benchmark} benchmark: give --data DIR"
            + (", or get it with `cmgems fetch gue`" if benchmark == "GUE" else "")
        )


def _listed(entries: dict[str, Path]) -> str:
    return ", ".join(entry.name for entry in list(entries.values())[:8]) or "nothing"
