"""What stopped commands left in a folder: work that the same command would resume, and parts of downloads."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cmgems_cli.artifacts import MANIFEST, is_finished
from cmgems_cli.errors import OverwriteError
from cmgems_cli.files import PARTIAL, output_lock
from cmgems_cli.staging import MARKER, lock_of, read_marker

DOWNLOAD, WORK, RUN = "unfinished download", "unfinished work", "unfinished run"

# What a run writes in its folder before its manifest; anything else there is somebody else's.
_OF_RUNS = {
    MARKER, "checkpoints", "metrics.jsonl", "config.json", "model.safetensors", "head.safetensors", "README.md",
    "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "predictions.csv", "per_class.csv", "scores.csv", "report.md",
}  # fmt: skip
_OF_RUNS_PREFIX = ("events.out.tfevents.", ".")
_RUNS, _CHECKPOINTS = "runs", "checkpoints"


@dataclass(frozen=True)
class Leftover:
    """A file or folder that no finished artifact needs.

    Attributes
    ----------
    path : Path
    what : str
        `DOWNLOAD`, `WORK` or `RUN`.
    out : Path
        What its command was to write; the lock of that command guards both.
    n_bytes : int
    """

    path: Path
    what: str
    out: Path
    n_bytes: int


def leftovers(root: Path) -> list[Leftover]:
    """Return what stopped commands left below `root`, in the order of the paths."""
    return sorted(_below(root), key=lambda found: found.path)


def _below(folder: Path) -> Iterator[Leftover]:
    for entry in folder.iterdir():
        if entry.is_symlink():
            continue
        if entry.is_file() and entry.name.startswith(".") and entry.name.endswith(f".{PARTIAL}"):
            out = entry.with_name(entry.name[1:].removesuffix(f".{PARTIAL}"))
            yield Leftover(entry, DOWNLOAD, out, entry.stat().st_size)
        elif entry.is_dir():
            marker = None if is_finished(entry) else read_marker(entry)
            if marker is None:
                yield from _below(entry)
            elif entry.name.startswith("."):
                yield Leftover(
                    entry, WORK, entry.with_name(marker.get("output") or entry.name), _size([entry])
                )
            elif any(_CHECKPOINTS not in path.relative_to(entry).parts for path in entry.rglob(MANIFEST)):
                # An evaluation with finished runs: these stay, and so does what the same command resumes it by.
                yield from _below(entry)
            else:
                yield Leftover(entry, RUN, entry, _size(_own(entry)))


def _size(paths: Iterable[Path]) -> int:
    files = (file for path in paths for file in ([path] if path.is_file() else path.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def _own(run: Path) -> list[Path]:
    """Return what cmgems wrote in the folder of an unfinished run, or of an evaluation's unfinished runs."""
    found = []
    for entry in run.iterdir():
        if entry.name in _OF_RUNS or entry.name.startswith(_OF_RUNS_PREFIX):
            found.append(entry)
        elif entry.name == _RUNS and entry.is_dir() and not entry.is_symlink():
            for part in entry.iterdir():
                if part.is_dir() and not part.is_symlink() and read_marker(part):
                    found += _own(part)
    return found


def in_use(found: Leftover) -> bool:
    """Return whether a running command is at work on it; a command that begins meanwhile is not disturbed."""
    try:
        # Without the file no one holds the lock. To create it could refuse a command, and needs a writable folder.
        with _alone(found, lock=lock_of(found.out).exists()):
            return False
    except OverwriteError:
        return True


def remove(found: Leftover) -> bool:
    """Remove it, unless a running command is at work on it; return whether it was removed."""
    try:
        with _alone(found):
            if found.what == RUN:
                _remove_run(found.path)
            elif found.path.is_dir():
                shutil.rmtree(found.path)
            else:
                found.path.unlink(missing_ok=True)
    except OverwriteError:
        return False
    return True


def _remove_run(run: Path) -> None:
    """Remove what cmgems wrote of an unfinished run, its marker last, and the folders that are empty then."""
    for path in sorted(_own(run), key=lambda path: path.name == MARKER):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for folder in (*run.glob(f"{_RUNS}/*"), run / _RUNS, run):
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _alone(found: Leftover, *, lock: bool = True) -> Iterator[None]:
    """Hold the lock of its output, and of the folders in it, which the commands share that write their parts."""
    with ExitStack() as locks:
        if lock:
            locks.enter_context(output_lock(lock_of(found.out), found.out))
        if found.path.is_dir():
            for entry in sorted(found.path.iterdir()):
                if entry.is_dir() and not entry.is_symlink():
                    locks.enter_context(output_lock(entry, found.out))
        yield
