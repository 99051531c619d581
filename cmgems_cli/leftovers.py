"""What stopped commands left in a folder: work that the same command would resume, and parts of downloads."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cmgems_cli.artifacts import is_finished
from cmgems_cli.errors import OverwriteError
from cmgems_cli.files import output_lock
from cmgems_cli.staging import lock_of, read_marker

DOWNLOAD, WORK, RUN = "unfinished download", "unfinished work", "unfinished run"


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
        if entry.is_file() and entry.name.startswith(".") and entry.suffix == ".partial":
            out = entry.with_name(entry.name[1:].removesuffix(".partial"))
            yield Leftover(entry, DOWNLOAD, out, entry.stat().st_size)
        elif entry.is_dir():
            marker = None if is_finished(entry) else read_marker(entry)
            if marker is None:
                yield from _below(entry)
            elif entry.name.startswith("."):
                yield Leftover(entry, WORK, entry.with_name(marker.get("output") or entry.name), _size(entry))
            else:
                yield Leftover(entry, RUN, entry, _size(entry))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


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
            if found.path.is_dir():
                shutil.rmtree(found.path)
            else:
                found.path.unlink(missing_ok=True)
    except OverwriteError:
        return False
    return True


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
