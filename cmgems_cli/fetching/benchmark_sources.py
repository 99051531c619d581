"""The data of a shipped benchmark on a hub, as its TOML file says where they are."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path, PurePosixPath

from cmgems_cli.datasets.benchmark import SPLITS, Benchmark
from cmgems_cli.errors import CmgemsError
from cmgems_cli.fetching.sources import Download, Repository, look_up_repository


def look_up_benchmark(benchmark: Benchmark, out: Path, mirror: str | None = None) -> Download:
    """Determine the files of a benchmark from the `source` of its TOML file; parameters as `sources.look_up`.

    Raises
    ------
    CmgemsError
        If the hub cannot be reached, or has none of the files.
    """
    source = benchmark.source
    assert source is not None
    found: dict[str, Download] = {}
    for task in benchmark.tasks:
        repo_id = source.repository.format(task=task.name)
        if repo_id not in found:
            repository = Repository(
                title=f"{benchmark.title}, a benchmark of {len(benchmark.tasks)} tasks",
                licence=source.licence,
                repo_id=repo_id,
                repo_type="dataset",
                revision=source.revision,
                local_path=lambda path: path,
                expected=frozenset(),
            )
            found[repo_id] = look_up_repository(repository, out, mirror)
    files, missing = [], []
    for task, split in product(benchmark.tasks, SPLITS):
        repo_id = source.repository.format(task=task.name)
        names = {file.path.relative_to(out).as_posix(): file for file in found[repo_id].files}
        patterns = [pattern.format(task=task.name, split=split) for pattern in source.files]
        match = next((name for pattern in patterns for name in names if fnmatchcase(name, pattern)), None)
        if match is not None:
            path = out / task.path / f"{split}{PurePosixPath(match).suffix}"
            files.append(replace(names[match], path=path))
        elif split != "dev" or benchmark.dev_fraction is None:
            missing.append(f"{task.name}: {split}")
    if not files:
        raise CmgemsError(f"{next(iter(found.values())).source} has none of its files; update cmgems")
    first = next(iter(found.values()))
    several = len(found) > 1
    return replace(
        first,
        source=f"{first.source} and {len(found) - 1} more" if several else first.source,
        # Of several, every file's URL has its own.
        revision=None if several else first.revision,
        files=tuple(files),
        notes=(*(f"the hub does not have {name}" for name in missing), *first.notes),
    )
