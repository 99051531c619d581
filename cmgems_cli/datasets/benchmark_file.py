"""Benchmarks by name, from a TOML file, or from a folder of task folders; docs/howto/own-task.md has the format."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from cmgems_cli.datasets.benchmark import (
    FULL_DATASET,
    SPLITS,
    Benchmark,
    HubSource,
    Published,
    TaskDefinition,
    alike,
    is_file_of_rows,
)
from cmgems_cli.datasets.finetune_options import from_recipe, recipe_checks
from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.files import NAME_BYTES
from cmgems_cli.structured_text import read_toml

SHIPPED_FOLDER = Path(__file__).resolve().parents[1] / "data" / "benchmarks"

# ours, for benchmarks that say nothing: GUE's.
DEFAULT_METRIC, DEFAULT_SEED = "mcc", 42


def shipped_names() -> tuple[str, ...]:
    """Return the names of the benchmarks of this package."""
    return tuple(sorted(path.stem for path in SHIPPED_FOLDER.glob("*.toml")))


@cache
def shipped(name: str) -> Benchmark:
    """Return a benchmark of this package.

    >>> shipped("gue").task("prom_core_tata").recipe["epochs"]
    10
    """
    return replace(_read(SHIPPED_FOLDER / f"{name}.toml"), root=None, shipped=True)


@cache
def no_benchmark() -> Benchmark:
    """Return what applies to data that belong to no benchmark: our recipe, and the few-shot recipes."""
    by_shots = shipped("fewshot").recipe_by_shots
    return Benchmark("", "", DEFAULT_METRIC, (), (DEFAULT_SEED,), (None,), Recipe(), by_shots)


def find_benchmark(text: str) -> Benchmark:
    """Return the benchmark that a user names.

    Parameters
    ----------
    text : str
        A shipped name in any case of letters, a TOML file, or a folder whose subfolders are tasks.

    Raises
    ------
    UsageError
        If it is something else; the message suggests a name.
    InputError
        If the file or folder is not what is needed.
    """
    names = shipped_names()
    if text.casefold() in names:
        return shipped(text.casefold())
    path = Path(text)
    if path.suffix.casefold() == ".toml":
        benchmark = _read(path)
    elif path.is_dir():
        benchmark = _of_folder(path)
    else:
        guess = difflib.get_close_matches(text.casefold(), names, n=1)
        meant = f"; did you mean {guess[0]}?" if guess else ";"
        raise UsageError(
            f"no benchmark is called {text!r}{meant} needed {' or '.join(names)}, a TOML file, or a folder whose"
            " subfolders are tasks"
        )
    if benchmark.name.casefold() in names:
        raise InputError(
            f"{text}: {benchmark.name!r} is the name of a benchmark of this package; choose another name, or give"
            f" its data with `bench={benchmark.name.casefold()}` and `data=FOLDER`"
        )
    return benchmark


def _of_folder(folder: Path) -> Benchmark:
    root = folder.absolute()
    tasks = tuple(TaskDefinition(name, name) for name in task_folders(root))
    if not tasks:
        raise InputError(
            f"{folder} has no task folders; needed subfolders with {', '.join(f'{s}.csv' for s in SPLITS)} each"
        )
    name = root.name
    return replace(no_benchmark(), name=name, title=name, tasks=tasks, root=root)


def task_folders(root: Path) -> list[str]:
    """Return the folders below `root` that hold the data of a task, as names with `/` between the parts.

    A folder is a task if it has a file of a split, or the folder `full-dataset`; of one that is not, its
    subfolders are looked at: `tf/0`.
    """
    names = []
    for folder in _subfolders(root):
        if _holds_a_task(folder):
            names.append(folder.name)
        else:
            names += [f"{folder.name}/{below.name}" for below in _subfolders(folder) if _holds_a_task(below)]
    return names


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _holds_a_task(folder: Path) -> bool:
    entries = {entry.name.casefold(): entry for entry in folder.iterdir()}
    return FULL_DATASET in entries or any(
        (name.startswith(SPLITS) and is_file_of_rows(name)) or (name in SPLITS and holds_classes(entry))
        for name, entry in entries.items()
    )


def holds_classes(folder: Path) -> bool:
    """Return whether a folder has folders and no files: one per class."""
    entries = (
        [entry for entry in folder.iterdir() if not entry.name.startswith(".")] if folder.is_dir() else []
    )
    return bool(entries) and all(entry.is_dir() for entry in entries)


# ------------------------------------------------------------------ the file


Check = Callable[[Any], bool]


def _whole(least: int) -> tuple[str, Check]:
    return f"a whole number from {least} up", lambda value: type(value) is int and value >= least


def _listed(what: str, one: Check) -> tuple[str, Check]:
    return f"a list of {what}", lambda value: type(value) is list and bool(value) and all(map(one, value))


def _is_name(value: Any) -> bool:
    short = type(value) is str and all(len(part.encode()) <= NAME_BYTES for part in value.split("/"))
    return short and value.isprintable() and bool(value.strip())


_NAME = ("a text of printable characters", _is_name)
_NAMES = _listed("texts", _is_name)
_TABLE = ("a table", lambda value: type(value) is dict)
_FRACTION = ("a number above 0 and below 1", lambda value: type(value) is float and 0 < value < 1)
_TABLES = _listed("tables", lambda value: type(value) is dict)
_SEEDS = _listed("whole numbers from 0 up", _whole(0)[1])
_COUNTS = _listed("whole numbers from 1 up", _whole(1)[1])

_BENCHMARK_KEYS = {
    "name": _NAME,
    "title": _NAME,
    "metric": _NAME,
    "seeds": _SEEDS,
    "shots": _COUNTS,
    "data_from": _NAME,
    "source": _TABLE,
    "dev_fraction": _FRACTION,
    "task": _TABLES,
    "recipe": _TABLE,
    "recipe_by_shots": _TABLES,
    "published": _TABLE,
}
_TASK_KEYS = {
    "name": ("a text of printable characters without a comma", lambda v: _is_name(v) and "," not in v),
    "path": _NAME,
    "group": _NAME,
    "classes": _whole(2),
    "rows": _TABLE,
    "recipe": _TABLE,
    "default": ("true or false", lambda value: type(value) is bool),
}
_SHOTS_KEYS = {"up_to": _whole(1), "recipe": _TABLE}
_PUBLISHED_KEYS = {"tables": _COUNTS, "columns": _NAMES, "best_of": _NAMES}
_SOURCE_KEYS = {"repository": _NAME, "files": _NAMES, "revision": _NAME, "licence": _NAME}
_ROWS_KEYS = {split: _whole(1) for split in SPLITS}
# All keys of the format but those of recipes; docs/howto/own-task.md is the specification.
KEYS = (_BENCHMARK_KEYS, _TASK_KEYS, _SHOTS_KEYS, _PUBLISHED_KEYS, _SOURCE_KEYS)


def _read(path: Path) -> Benchmark:
    """Return the benchmark that a TOML file declares (InputError: one line that names the file and the key)."""
    try:
        raw = read_toml(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; needed a benchmark's TOML file") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; needed a benchmark's TOML file") from None
    except ValueError as error:  # not TOML, or not UTF-8
        said = " ".join(str(error).split())
        raise InputError(f"{path} is not readable TOML ({said}); correct it") from None
    _check(raw, _BENCHMARK_KEYS, str(path), needed=("name", "task"))
    recipe = Recipe().changed(_recipe(raw, str(path)))
    by_shots = tuple(
        _by_shots(table, f"{path}: recipe_by_shots {number}")
        for number, table in enumerate(raw.get("recipe_by_shots", []), start=1)
    )
    if by_shots and by_shots[-1][0] is not None:
        raise InputError(
            f"{path}: the last recipe_by_shots has an up_to; leave it out, so that it has no limit"
        )
    published = raw.get("published", {})
    _check(published, _PUBLISHED_KEYS, f"{path}: published")
    source = raw.get("source")
    if source is not None:
        _check(source, _SOURCE_KEYS, f"{path}: source", needed=("repository", "files"))
        source = HubSource(**{**source, "files": tuple(source["files"])})
    return Benchmark(
        name=raw["name"],
        title=raw.get("title", raw["name"]),
        metric=raw.get("metric", DEFAULT_METRIC),
        tasks=_tasks(raw["task"], str(path)),
        seeds=tuple(dict.fromkeys(raw.get("seeds", [DEFAULT_SEED]))),
        shots=tuple(dict.fromkeys(raw.get("shots", [None]))),
        recipe=recipe,
        recipe_by_shots=by_shots or shipped("fewshot").recipe_by_shots,
        published=Published(**{name: tuple(value) for name, value in published.items()}),
        data_from=raw.get("data_from", ""),
        root=path.absolute().parent,
        source=source,
        dev_fraction=raw.get("dev_fraction"),
    )


def _tasks(tables: list[dict[str, Any]], where: str) -> tuple[TaskDefinition, ...]:
    tasks: dict[str, TaskDefinition] = {}
    for number, table in enumerate(tables, start=1):
        named = f"{where}: task {number}" + (f" ({table['name']})" if _is_name(table.get("name")) else "")
        _check(table, _TASK_KEYS, named, needed=("name",))
        _check(table.get("rows", {}), _ROWS_KEYS, f"{named}: rows")
        task = TaskDefinition(**{"path": table["name"], **table, "recipe": _recipe(table, named)})
        # Runs are kept in folders of these names, in which `/` becomes `-`.
        other = tasks.setdefault(alike(task.name).replace("/", "-"), task)
        if other is not task:
            raise InputError(f"{named} is named like the task {other.name}; give it a name of its own")
    return tuple(tasks.values())


def _recipe(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the changes that a table's `recipe` makes, by the field of `Recipe`."""
    recipe = table.get("recipe", {})
    _check(recipe, recipe_checks(), f"{where}: recipe")
    return from_recipe(recipe).changes()


def _by_shots(table: dict[str, Any], where: str) -> tuple[int | None, Recipe]:
    _check(table, _SHOTS_KEYS, where, needed=("recipe",))
    # A run on drawn rows has no dev split to evaluate.
    return table.get("up_to"), replace(Recipe().changed(_recipe(table, where)), eval_every=None)


def _check(
    table: Mapping[str, Any],
    keys: Mapping[str, tuple[str, Check]],
    where: str,
    needed: tuple[str, ...] = (),
) -> None:
    """Refuse unknown keys, missing keys and values of another kind."""
    for name, value in table.items():
        if name not in keys:
            close = difflib.get_close_matches(name, keys, n=1)
            guess = f"; did you mean {close[0]}?" if close else ";"
            raise InputError(f"{where}: unknown key {name!r}{guess} known are {', '.join(keys)}")
        what, fits = keys[name]
        if not fits(value):
            raise InputError(f"{where}: {name} is {value!r}; needed {what}")
    for name in needed:
        if name not in table:
            raise InputError(f"{where}: has no {name}; needed {keys[name][0]}")
