"""Download one file over HTTP: resume after interruptions, and verify size and checksum before naming it."""

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
from urllib.parse import urlsplit

from cmgems_cli import __version__
from cmgems_cli.errors import CmgemsError, OverwriteError
from cmgems_cli.files import PARTIAL, hidden_name, open_new

CHUNK_BYTES = 1 << 20
# ours: a server that sends nothing for this long counts as unreachable.
TIMEOUT_S = 30.0
# ours: attempts in a row without new bytes, and the first wait between them, which doubles each time.
TRIES = 5
FIRST_WAIT_S = 1.0

# RFC 9110: errors that may be temporary.
_TEMPORARY = {408, 429, 500, 502, 503, 504}
_RANGE_NOT_SATISFIABLE = 416

Advance = Callable[[float], None]


@dataclass(frozen=True)
class Checksum:
    """The expected checksum of a file.

    Attributes
    ----------
    algorithm : str
        md5, sha256, or git: the sha1 of git's blob header and the content, used by hubs for small files.
    hexdigest : str
    """

    algorithm: Literal["md5", "sha256", "git"]
    hexdigest: str

    def of(self, path: Path) -> str:
        """Return the checksum of the content of `path`."""
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
    """A remote file, its expected content, and its local path.

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
        """Where the file is stored until it is complete and verified."""
        return self.path.with_name(hidden_name(self.path.name, PARTIAL))

    @property
    def bytes_here(self) -> int:
        """Size of `partial`, as left by an earlier transfer."""
        return self.partial.stat().st_size if self.partial.is_file() else 0


def is_web_address(url: str) -> bool:
    """Return whether a URL is http(s), never a file of this machine or another protocol.

    >>> is_web_address("https://hf-mirror.com"), is_web_address("file:///etc/passwd"), is_web_address("hf-mirror.com")
    (True, False, False)
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) only, and from https to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_web_address(newurl) or (req.type == "https" and urlsplit(newurl).scheme != "https"):
            raise CmgemsError(f"{req.full_url} redirects to {newurl}; needed https: give another `mirror`")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Interruption(Exception):
    """The transfer stopped for a reason that may be temporary."""


def is_there(file: RemoteFile) -> bool:
    """Return whether a file is present with the expected size and checksum."""
    return (
        file.path.is_file()
        and file.path.stat().st_size == file.size_bytes
        and file.checksum.of(file.path) == file.checksum.hexdigest
    )


def check_target(file: RemoteFile, *, overwrite: bool) -> bool:
    """Return whether a file must still be fetched.

    Raises
    ------
    OverwriteError
        If a different file has its name and `overwrite` is false.
    """
    if is_there(file) and not overwrite:
        return False
    if file.path.exists() and not overwrite:
        raise OverwriteError(
            f"{file.path} exists and is not what {file.url} has (its {file.checksum.algorithm} or size differs);"
            " remove it, add `overwrite=True` or choose another `out`"
        )
    return True


def check_space(files: list[RemoteFile], folder: Path) -> None:
    """Check that the disk has space for files.

    Raises
    ------
    CmgemsError
        If it has not.
    """
    needed = sum(file.size_bytes - file.bytes_here for file in files)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise CmgemsError(
            f"{folder} has {free / 1e9:.2f} GB free, the download needs {needed / 1e9:.2f} GB; free some, or"
            " choose another `out` or workspace ($CMGEMS_WORKSPACE)"
        )


def fetch(
    file: RemoteFile,
    *,
    advance: Advance = lambda _: None,
    retrying: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Download a file, resuming an earlier transfer.

    Parameters
    ----------
    file : RemoteFile
        Its folder is created if missing; a file of the same name is replaced.
    advance : callable, optional
        Called with the number of bytes received, negative if bytes had to be discarded. Bytes of an earlier
        transfer are not counted.
    retrying : callable, optional
        Called with a message that says why it waits before the next attempt.
    sleep : callable, default time.sleep
        Waits between attempts, in seconds.

    Raises
    ------
    CmgemsError
        If the URL does not have the file, the network or the disk fails, or the received file is a different
        one. Received bytes are kept after an interruption; a complete file with a wrong checksum is removed.
    """
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        # A link is not followed: it could make the transfer write elsewhere.
        if file.partial.is_symlink() or file.bytes_here > file.size_bytes:
            file.partial.unlink()
    except OSError as error:
        raise _disk_error(file, error) from None
    most, tries = file.bytes_here, 0
    while file.bytes_here < file.size_bytes or not file.partial.exists():
        try:
            _receive_more(file, advance)
        except _Interruption as interruption:
            # Only more bytes than ever before count as progress, in case a server starts over each time.
            tries = 1 if file.bytes_here > most else tries + 1
            most = max(most, file.bytes_here)
            if tries >= TRIES:
                raise CmgemsError(
                    f"{file.url}: {interruption}; {most / 1e6:,.1f} of {file.size_bytes / 1e6:,.1f} MB are saved:"
                    " check the network (HTTPS_PROXY?) and run the command again to resume"
                ) from None
            wait_s = FIRST_WAIT_S * 2 ** (tries - 1)
            retrying(f"{file.path.name}: {interruption}; resuming in {wait_s:.0f} s")
            sleep(wait_s)
    _accept(file)


def _receive_more(file: RemoteFile, advance: Advance) -> None:
    """Request the missing bytes and append them, until the end or an interruption."""
    have = file.bytes_here
    response = _open(file, have)
    if response is None:
        file.partial.unlink()
        advance(-have)
        raise _Interruption("the server has fewer bytes than were received before")
    with response:
        if have and response.status != 206:
            advance(-have)  # the server sends only the whole file
            have = 0
        _check_answer(file, have, response)
        try:
            if not have:
                file.partial.unlink(missing_ok=True)
            with file.partial.open("ab") if have else open_new(file.partial) as stream:
                _copy(file, response, stream, have, advance)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise _disk_error(file, error) from None


def _open(file: RemoteFile, have: int) -> Any:
    """Return the server's response; None if it has nothing from byte `have` on."""
    headers = {"User-Agent": f"cmgems/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    if not is_web_address(file.url):
        raise CmgemsError(f"{file.url} is not a valid URL of the web; give `mirror=https://…`")
    try:
        request = urllib.request.Request(file.url, headers=headers)
        return urllib.request.build_opener(_OnlyWeb).open(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE and have:
            return None
        if error.code in _TEMPORARY:
            raise _Interruption(f"the server answered {error.code} {error.reason}") from None
        raise CmgemsError(
            f"{file.url}: the server answered {error.code} {error.reason}; update cmgems, give another `mirror`,"
            f" or put the file at {file.path} yourself"
        ) from None
    except URLError as error:
        raise _Interruption(f"no connection ({error.reason})") from None
    except (OSError, HTTPException) as error:
        raise _Interruption(f"no connection ({error or type(error).__name__})") from None
    except ValueError as error:
        raise CmgemsError(f"{file.url} is not a valid URL ({error}); give `mirror=https://…`") from None


def _check_answer(file: RemoteFile, have: int, response: Any) -> None:
    """Check before writing that a response is the file from byte `have` on."""
    length = response.headers.get("Content-Length")
    total = have + int(length) if length and length.isdigit() else file.size_bytes
    if have:
        content_range = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if content_range is None or int(content_range[1]) != have:
            raise CmgemsError(
                f"{file.url}: asked to resume at byte {have:,}, the server answered with"
                f" {response.headers.get('Content-Range')!r}; remove {file.partial} and start again"
            )
        if content_range[2] != "*":
            total = int(content_range[2])
    if total != file.size_bytes:
        raise CmgemsError(
            f"{file.url} has {total:,} bytes; needed a file of {file.size_bytes:,}: another version, or a page"
            " of a proxy; update cmgems or give another `mirror`"
        )


def _copy(file: RemoteFile, response: Any, stream: BinaryIO, have: int, advance: Advance) -> None:
    while have < file.size_bytes:
        try:
            # Whatever has arrived, without waiting for more: nothing is lost if the rest never arrives.
            chunk = response.read1(min(CHUNK_BYTES, file.size_bytes - have))
        except (OSError, HTTPException) as error:
            raise _Interruption(f"the connection was lost ({error or type(error).__name__})") from None
        if not chunk:
            raise _Interruption("the connection ended early")
        stream.write(chunk)
        have += len(chunk)
        advance(len(chunk))


def _accept(file: RemoteFile) -> None:
    """Give a complete file its name, or remove it if its checksum is wrong."""
    received = file.checksum.of(file.partial)
    if received != file.checksum.hexdigest:
        file.partial.unlink()
        raise CmgemsError(
            f"{file.url}: the received file has the {file.checksum.algorithm} {received}; needed"
            f" {file.checksum.hexdigest}; it was removed: run the command again, or give another `mirror`"
        )
    try:
        file.partial.replace(file.path)
    except OSError as error:
        raise _disk_error(file, error) from None


def _disk_error(file: RemoteFile, error: OSError) -> CmgemsError:
    return CmgemsError(
        f"cannot write {file.path} ({error.strerror or error}); free disk space or choose another `out` or"
        " workspace ($CMGEMS_WORKSPACE), then run the command again to resume"
    )
