"""Files and folders on disk: written completely or not at all, forced to disk, swapped atomically, locked."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from cmgems_cli.errors import InputError, OverwriteError

# A hidden file is created exclusively and never through a link, so that no one can prepare its path.
_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# A lock file may exist already; a pipe with its name must not block.
_LOCK = os.O_CREAT | os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

# Longest name of a file on the usual file systems.
NAME_BYTES = 255

# The ending of a hidden file that holds an unfinished download.
PARTIAL = "cmgems-partial"

# The first bytes of the text that git keeps in place of a large file.
LFS_POINTER = b"version https://git-lfs"
LFS_ADVICE = "a git-lfs pointer, not the file itself; run `git lfs pull` in its folder"

# linux/fs.h
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CANNOT_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV}


def hidden_name(name: str, ending: str) -> str:
    """Return `.NAME.ENDING`, with a hash of the name if that is too long for a file system.

    >>> hidden_name("corpus", "lock")
    '.corpus.lock'
    >>> len(hidden_name(250 * "x", "lock"))
    38
    """
    hidden = f".{name}.{ending}"
    if len(os.fsencode(hidden)) <= NAME_BYTES:
        return hidden
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.{ending}"


def check_no_lfs_pointer(path: Path) -> None:
    """Check that git-lfs has fetched a file.

    Raises
    ------
    InputError
        If not.
    """
    with path.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise InputError(f"{path} is {LFS_ADVICE}")


def random_token() -> str:
    """Return 16 unpredictable hexadecimal digits."""
    return secrets.token_hex(8)


def open_new(path: Path) -> BinaryIO:
    """Open a new file for writing and reading; FileExistsError if anything, even a link, has its name."""
    return os.fdopen(os.open(path, _CREATE, 0o666), "w+b")


def create_file(path: Path, content: bytes) -> None:
    """Write a new file, as `open_new` opens it, and force it to disk."""
    try:
        with open_new(path) as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        # The error of a full disk does not name the file.
        error.filename = error.filename or str(path)
        raise


def as_bytes(text: str) -> bytes:
    """Encode as UTF-8; bytes of file names that are not UTF-8 become escapes, which JSON and Python read alike."""
    return text.encode("utf-8", "backslashreplace")


def as_json(value: Any) -> str:
    """Return readable JSON that ends with a line end."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_whole(path: Path, text: str | bytes, *, aside: Path | None = None) -> None:
    """Write text so that `path` holds the old or the complete new text, whatever stops the process.

    Parameters
    ----------
    path : Path
    text : str or bytes
    aside : Path, optional
        Folder on the same file system for the unfinished text. Default: the folder of `path`.
    """
    partial = (aside or path.parent) / hidden_name(path.name, f"{random_token()}.tmp")
    try:
        create_file(partial, as_bytes(text) if isinstance(text, str) else text)
        partial.replace(path)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()
    force_to_disk(path.parent)


def write_output(path: Path, text: str | bytes) -> None:
    """Write a file of the user's in the same way as `write_whole`, and remove what killed commands left of it.

    Raises
    ------
    OverwriteError
        If another command is writing it.
    """
    path = Path(os.path.realpath(path))
    with output_lock(path.with_name(hidden_name(path.name, "lock")), path):
        for left in path.parent.iterdir():
            token = re.search(r"[0-9a-f]{16}\.tmp$", left.name)
            if token and left.name == hidden_name(path.name, token[0]) and left.is_file():
                left.unlink()
        write_whole(path, text)


def write_json(path: Path, value: Any, *, aside: Path | None = None) -> None:
    """Write JSON in the same way as `write_whole`."""
    write_whole(path, as_json(value), aside=aside)


def force_to_disk(*paths: Path) -> None:
    """Force files and folders to disk, so that they survive a power failure."""
    for path in paths:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        except OSError as error:  # some file systems do not support this for folders
            if error.errno != errno.EINVAL:
                raise
        finally:
            os.close(opened)


def exchange(one: Path, other: Path) -> bool:
    """Swap the names of two existing paths atomically; return False if the file system cannot.

    Raises
    ------
    OSError
        If the swap fails for another reason.
    """
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), str(other))


def is_own_folder(path: Path) -> bool:
    """Return whether `path` is a real folder, not a link, that belongs to this user."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == _user(status)


def is_inside(path: Path, folder: Path) -> bool:
    """Return whether the parent of `path` is `folder` or below it, after following links."""
    return Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(folder))


def _user(status: os.stat_result) -> int:
    return os.geteuid() if hasattr(os, "geteuid") else status.st_uid


@contextmanager
def output_lock(path: Path, out: Path, *, wait: bool = False, shared: bool = False) -> Iterator[None]:
    """Let one command at a time write `out`, or with `shared` several, by a lock on the file or folder `path`.

    If nothing exists at `path`, an empty file is created and removed at the end. The lock ends with the process,
    however that ends. Without locks in the system or file system, nothing is excluded. `shared` needs a folder; while
    it is held, no lock that is not shared can be taken.

    Raises
    ------
    OverwriteError
        If another command holds the lock and `wait` is false, or `path` is neither a file nor a folder.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    opened = _locked(path, out, kind | (0 if wait else fcntl.LOCK_NB))
    try:
        yield
    except OSError as error:
        if error.errno in _FULL and error.filename is None:  # a stream does not name its file
            error.filename = str(out)
        raise
    finally:
        try:
            status = os.fstat(opened)
            # Keep a file that this package did not create.
            if stat.S_ISREG(status.st_mode) and status.st_size == 0 and status.st_uid == _user(status):
                with suppress(OSError):
                    if os.path.samestat(status, path.lstat()):
                        path.unlink()
        finally:
            os.close(opened)


def _locked(path: Path, out: Path, flags: int) -> int:
    """Return an open descriptor that holds the lock."""
    import fcntl

    while True:
        try:
            opened = os.open(path, os.O_RDONLY if path.is_dir() and not path.is_symlink() else _LOCK, 0o666)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            raise OverwriteError(
                f"{path} is not a file of cmgems, so it cannot be locked; remove it or choose another `out`"
            ) from None
        try:
            fcntl.flock(opened, flags)
            # An earlier command may have removed the file, or moved the folder, after it was opened here.
            if os.path.samestat(os.fstat(opened), path.lstat()):
                return opened
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(opened)
            raise OverwriteError(
                f"another command is writing to {out}; wait until it has ended or choose another `out`"
            ) from None
        except OSError:  # no locks here
            return opened
        os.close(opened)
