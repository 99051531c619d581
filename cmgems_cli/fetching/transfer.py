"""One file over HTTP: goes on where it stopped, and gets its name only when it is the file expected."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.error import HTTPError, URLError

from cmgems_cli import __version__
from cmgems_cli.errors import CmgemsError, OverwriteError

CHUNK_BYTES = 1 << 20
# ours: a server that says nothing for so long is taken for gone.
TIMEOUT_S = 30.0
# ours: tries in a row that bring nothing new, and the waits between them, each twice the one before.
TRIES = 5
FIRST_WAIT_S = 1.0

# RFC 9110: answers that may be another one a moment later.
_PASSING = {408, 429, 500, 502, 503, 504}
_RANGE_NOT_SATISFIABLE = 416

Advance = Callable[[float], None]


@dataclass(frozen=True)
class Checksum:
    """What a file's content must hash to.

    Attributes
    ----------
    algorithm : str
        md5, sha256, or git: the sha1 of git's blob header and the content, which hubs give for small files.
    hexdigest : str
    """

    algorithm: Literal["md5", "sha256", "git"]
    hexdigest: str

    def of(self, path: Path) -> str:
        """Return what the content of `path` hashes to."""
        hasher: Any = (
            hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
            if self.algorithm == "git"
            else hashlib.new(self.algorithm, usedforsecurity=False)
        )
        with path.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                hasher.update(chunk)
        return str(hasher.hexdigest())


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere, what it must be, and where it belongs here.

    Attributes
    ----------
    url : str
    path : Path
    size_bytes : int
    checksum : Checksum
    """

    url: str
    path: Path
    size_bytes: int
    checksum: Checksum

    @property
    def partial(self) -> Path:
        """Where it is kept until it is whole and checked."""
        return self.path.with_name(f".{self.path.name}.partial")

    @property
    def bytes_here(self) -> int:
        """How much of it an earlier transfer left in `partial`."""
        return self.partial.stat().st_size if self.partial.is_file() else 0


class _Interruption(Exception):
    """The transfer broke off, for a reason that may pass."""


def is_there(file: RemoteFile) -> bool:
    """Tell whether a file is here whole: of the size and the checksum it must have."""
    return (
        file.path.is_file()
        and file.path.stat().st_size == file.size_bytes
        and file.checksum.of(file.path) == file.checksum.hexdigest
    )


def check_target(file: RemoteFile, *, overwrite: bool) -> bool:
    """Tell whether a file has still to be fetched.

    Raises
    ------
    OverwriteError
        If something else has its name and `overwrite` is false.
    """
    if is_there(file) and not overwrite:
        return False
    if file.path.exists() and not overwrite:
        raise OverwriteError(
            f"{file.path} exists and is not what {file.url} has (its {file.checksum.algorithm} or size differs);"
            " remove it, add --overwrite or choose another --out"
        )
    return True


def check_space(files: list[RemoteFile], folder: Path) -> None:
    """Refuse to start what the disk cannot hold.

    Raises
    ------
    CmgemsError
    """
    needed = sum(file.size_bytes - file.bytes_here for file in files)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CmgemsError(
            f"{folder} has {free / 1e9:.2f} GB free, the download takes {needed / 1e9:.2f} GB; free some, or"
            " choose another --out or workspace ($CMGEMS_WORKSPACE)"
        )


def fetch(
    file: RemoteFile,
    *,
    advance: Advance = lambda _: None,
    retrying: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Bring a file here, going on where an earlier transfer stopped.

    Parameters
    ----------
    file : RemoteFile
        Its folder is made where it is missing; something of its name is replaced.
    advance : callable, optional
        Told how many bytes came; a negative number where bytes had to be thrown away. Bytes that an
        earlier transfer left are not told.
    retrying : callable, optional
        Told in words why it waits before it tries again.
    sleep : callable, default time.sleep
        Waits between tries, in seconds.

    Raises
    ------
    CmgemsError
        If the address does not have it, the network or the disk gave up, or what came is another file. After
        an interruption what came is kept for the next time; a whole file with the wrong checksum is not.
    """
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        if file.bytes_here > file.size_bytes:
            file.partial.unlink()
    except OSError as error:
        raise _disk_error(file, error) from None
    most, tries = file.bytes_here, 0
    while file.bytes_here < file.size_bytes or not file.partial.exists():
        try:
            _bring_more(file, advance)
        except _Interruption as interruption:
            # Only more than ever before counts as headway: a server that starts over each time brings none.
            tries = 1 if file.bytes_here > most else tries + 1
            most = max(most, file.bytes_here)
            if tries >= TRIES:
                raise CmgemsError(
                    f"{file.url}: {interruption}; {most / 1e6:,.1f} of {file.size_bytes / 1e6:,.1f} MB are here:"
                    " check the network (HTTPS_PROXY?) and run the same command again to go on"
                ) from None
            wait_s = FIRST_WAIT_S * 2 ** (tries - 1)
            retrying(f"{file.path.name}: {interruption}; going on in {wait_s:.0f} s")
            sleep(wait_s)
    _accept(file)


def _bring_more(file: RemoteFile, advance: Advance) -> None:
    """Ask for what is missing and append it, until the end or an interruption."""
    have = file.bytes_here
    response = _open(file, have)
    if response is None:
        file.partial.unlink()
        advance(-have)
        raise _Interruption("the server has fewer bytes than were fetched before")
    with response:
        if have and response.status != 206:
            advance(-have)  # it gives the whole file or nothing
            have = 0
        _check_answer(file, have, response)
        try:
            with file.partial.open("ab" if have else "wb") as stream:
                _copy(file, response, stream, have, advance)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise _disk_error(file, error) from None


def _open(file: RemoteFile, have: int) -> Any:
    """Return the server's answer; None if it has nothing from byte `have` on."""
    headers = {"User-Agent": f"cmgems/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return urllib.request.urlopen(urllib.request.Request(file.url, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE and have:
            return None
        if error.code in _PASSING:
            raise _Interruption(f"the server answered {error.code} {error.reason}") from None
        raise CmgemsError(
            f"{file.url}: the server answered {error.code} {error.reason}; update cmgems, give another --mirror,"
            f" or put the file at {file.path} yourself"
        ) from None
    except URLError as error:
        raise _Interruption(f"no connection ({error.reason})") from None
    except (OSError, HTTPException) as error:
        raise _Interruption(f"no connection ({error or type(error).__name__})") from None
    except ValueError as error:
        raise CmgemsError(f"{file.url} is no address ({error}); give --mirror as https://…") from None


def _check_answer(file: RemoteFile, have: int, response: Any) -> None:
    """Refuse an answer that is not the file from byte `have` on, before anything is written."""
    length = response.headers.get("Content-Length")
    total = have + int(length) if length and length.isdigit() else file.size_bytes
    if have:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != have:
            raise CmgemsError(
                f"{file.url}: asked to go on at byte {have:,}, the server answered with"
                f" {response.headers.get('Content-Range')!r}; remove {file.partial} and start again"
            )
        if found[2] != "*":
            total = int(found[2])
    if total != file.size_bytes:
        raise CmgemsError(
            f"{file.url} has {total:,} bytes, needed is a file of {file.size_bytes:,}: another version, or a page"
            " of a proxy; update cmgems or give another --mirror"
        )


def _copy(file: RemoteFile, response: Any, stream: BinaryIO, have: int, advance: Advance) -> None:
    while have < file.size_bytes:
        try:
            # Whatever has come, without waiting for more: nothing is lost when the rest never comes.
            chunk = response.read1(min(CHUNK_BYTES, file.size_bytes - have))
        except (OSError, HTTPException) as error:
            raise _Interruption(f"the connection broke off ({error or type(error).__name__})") from None
        if not chunk:
            raise _Interruption("the connection ended early")
        stream.write(chunk)
        have += len(chunk)
        advance(len(chunk))


def _accept(file: RemoteFile) -> None:
    """Give a whole file its name, or throw it away if it is another one."""
    found = file.checksum.of(file.partial)
    if found != file.checksum.hexdigest:
        file.partial.unlink()
        raise CmgemsError(
            f"{file.url}: what came has the {file.checksum.algorithm} {found}, needed"
            f" {file.checksum.hexdigest}; it was removed: run the same command again, or give another --mirror"
        )
    try:
        file.partial.replace(file.path)
    except OSError as error:
        raise _disk_error(file, error) from None


def _disk_error(file: RemoteFile, error: OSError) -> CmgemsError:
    return CmgemsError(
        f"cannot write {file.path} ({error.strerror or error}); free disk space or choose another --out or"
        " workspace ($CMGEMS_WORKSPACE), then run the same command again to go on"
    )
