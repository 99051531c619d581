"""Files and folders on disk: there whole or not at all, and written by one command at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cmgems_cli.errors import OverwriteError


def write_whole(path: Path, text: str) -> None:
    """Write text so that `path` holds the old one or the whole new one, never a part.

    A byte of a file's name that is no UTF-8 becomes an escape, which JSON reads as Python does.
    """
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that `path` holds the old text or the whole new one, never a part."""
    write_whole(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@contextmanager
def exclusive_lock(folder: Path, out: Path) -> Iterator[None]:
    """Keep other commands out of a folder, or file, where this one works on behalf of `out`.

    The lock goes when the process does, however it ends. Where the system or its file system has no locks,
    nobody is kept out.

    Raises
    ------
    OverwriteError
        If another command is at work there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another command may have moved the folder away after it was opened.
            taken = not os.path.samestat(os.fstat(opened), folder.stat())
        except (BlockingIOError, FileNotFoundError):
            taken = True
        except OSError:
            taken = False
        if taken:
            raise OverwriteError(
                f"another command is writing to {out}; wait until it has ended or choose another --out"
            )
        yield
    finally:
        os.close(opened)


@contextmanager
def staging_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` to write in, this command's alone and gone at the end."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.partial")
    aside.mkdir(exist_ok=True)
    with exclusive_lock(aside, out):
        try:
            for left in aside.iterdir():  # by a command that was killed
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def move_files(aside: Path, out: Path, names: Iterable[str]) -> None:
    """Move files of one folder to another, which may exist, in this order."""
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (aside / name).replace(out / name)
