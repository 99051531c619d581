"""Staging folders, in which artifacts are built, and their publication: the old or the new artifact is always readable.

A staging folder is a hidden sibling of the output, `.NAME.RANDOM.staging`, created exclusively. It holds the artifact
in `new/`, and `unfinished.json`, which names the output, the kind, the parameters and the inputs. If a command is
killed, the next command for the same output resumes it, finishes its publication or removes it. All functions that
change anything need the lock of the output.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmgems_cli.artifacts import MANIFEST, is_finished, parse_manifest
from cmgems_cli.errors import OverwriteError
from cmgems_cli.files import (
    as_bytes,
    as_json,
    create_file,
    exchange,
    force_to_disk,
    hidden_name,
    is_inside,
    is_own_folder,
    random_token,
    write_json,
)
from cmgems_cli.structured_text import read_json

MARKER = "unfinished.json"
_ENDING = ".staging"
_TOKEN = re.compile(r"\.([0-9a-f]{16})\.staging")
# Stored in every marker, to distinguish it from the JSON of other programs.
_MADE_BY = "cmgems"


def read_marker(folder: Path) -> dict[str, Any] | None:
    """Return the content of a folder's `unfinished.json`; None without one that this package wrote."""
    try:
        marker = read_json(folder / MARKER)
        valid = marker["made_by"] == _MADE_BY and all(
            isinstance(marker[name], dict) for name in ("params", "inputs")
        )
        valid = valid and all(isinstance(digest, str) for digest in marker["inputs"].values())
        return marker if valid and isinstance(marker["kind"], str) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_marker(folder: Path, kind: str, params: dict[str, Any], inputs: dict[str, str]) -> None:
    """Mark a folder as unfinished work of this package."""
    write_json(folder / MARKER, _marker("", kind, params, inputs))


def _marker(output: str, kind: str, params: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
    return {"made_by": _MADE_BY, "output": output, "kind": kind, "params": params, "inputs": inputs}


def base_of(out: Path) -> Path:
    """Return the folder that holds the lock and the staging folders of `out`.

    It is the parent, or `out` itself if the parent is on another file system or not writable.
    """
    inside = out.is_dir() and (os.path.ismount(out) or not os.access(out.parent, os.W_OK))
    return out if inside else out.parent


def lock_of(out: Path) -> Path:
    """Return the file that commands writing `out` lock."""
    return base_of(out) / hidden_name(out.name, "lock")


def is_hidden_work(path: Path, out: Path) -> bool:
    """Return whether a path has the name of a lock or a staging folder of `out`."""
    token = _TOKEN.search(path.name)
    return path.name == hidden_name(out.name, "lock") or (
        token is not None and path.name == hidden_name(out.name, token[1] + _ENDING)
    )


@dataclass
class Staging:
    """A staging folder.

    Attributes
    ----------
    path : Path
    marker : dict
        The content of its `unfinished.json`.
    """

    path: Path
    marker: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where the artifact is built."""
        return self.path / "new"

    @classmethod
    def create(cls, out: Path, kind: str, params: dict[str, Any], inputs: dict[str, str]) -> Staging:
        """Create one for `out` under an unpredictable name."""
        staging = cls(
            base_of(out) / hidden_name(out.name, random_token() + _ENDING),
            _marker(out.name, kind, params, inputs),
        )
        try:
            staging.path.mkdir()
            create_file(staging.path / MARKER, as_bytes(as_json(staging.marker)))
            staging.folder.mkdir()
        except FileExistsError:
            raise  # it is another's
        except BaseException:  # a stop too
            with suppress(FileNotFoundError):
                staging.remove()
            raise
        return staging

    def note(self, **entries: Any) -> None:
        """Add entries to the marker and force it to disk."""
        self.marker |= entries
        write_json(self.path / MARKER, self.marker)

    def remove(self) -> None:
        """Remove it; the marker goes last, so that the next command can finish."""
        for entry in list(self.path.iterdir()):
            if entry.name != MARKER:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        with suppress(FileNotFoundError):
            (self.path / MARKER).unlink()
        self.path.rmdir()


def stagings(out: Path, *, clean: bool = False) -> list[Staging]:
    """Return the staging folders of earlier commands for `out`: real folders of this user with a valid marker.

    With `clean`, which needs the lock, remove those in which nothing was begun.
    """
    existing = []
    entries: list[Path] = []
    for base in {base_of(out), out.parent}:
        with suppress(OSError):
            entries += base.iterdir()
    for path in sorted(path for path in entries if is_hidden_work(path, out) and is_own_folder(path)):
        marker = read_marker(path)
        if marker is not None and marker.get("output") == out.name:
            existing.append(Staging(path, marker))
        elif clean and {entry.name for entry in path.iterdir()} <= {MARKER}:
            Staging(path, {}).remove()
    return existing


def publish(staging: Staging, out: Path, work: Iterable[str] = (), *, parts: str | None = None) -> None:
    """Move the finished artifact of a staging folder to `out`; remove the old artifact and the staging folder.

    Other files in `out` stay; if the new artifact needs their name, they become `NAME.RANDOM.kept`. Each step can be
    repeated: after a kill the next command calls this function again. Where a folder has to keep its identity, the
    files are replaced one by one, the manifest last.

    Parameters
    ----------
    staging : Staging
    out : Path
        Missing, empty or an artifact, with its links resolved.
    work : iterable of str
        Names in `out` that belong to an unfinished run and are removed with the artifact.
    parts : str, optional
        That of `Output`. The parts are in `out`, or in the staging folder if they replace finished ones.
    """
    if "successor" not in staging.marker:
        # A mount point, the current folder of this process, or a folder that holds the parts keeps its identity.
        fixed = base_of(out) == out or Path(os.path.realpath(".")).is_relative_to(out)
        fixed = fixed or (parts is not None and not (staging.folder / parts).is_dir())
        staging.note(successor=staging.folder.stat().st_ino, in_place=fixed and out.is_dir())
    if staging.marker["in_place"]:
        _move_in(staging, out, parts)
    else:
        _swap_in(staging, out, {*work, MARKER}, parts)
    staging.remove()


def _parts_of(manifest: Path, parts: str | None) -> list[str]:
    """Return the names of an artifact's parts, relative to its folder."""
    return [name for name in parse_manifest(manifest).inputs if parts and name.startswith(f"{parts}/")]


def _swap_in(staging: Staging, out: Path, work: set[str], parts: str | None) -> None:
    """Swap the new folder with the old one atomically, then move over files that the old artifact does not own."""
    new, old = staging.folder, staging.path / "old"
    if staging.marker.get("retired"):
        return
    # After the swap `new` is the old folder.
    if new.is_dir() and new.stat().st_ino == staging.marker["successor"]:
        if out.is_dir():
            shutil.copymode(out, new)
        if not out.is_dir() or not any(out.iterdir()):
            new.replace(out)
        elif not exchange(new, out):
            try:
                out.rename(old)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                # The folder cannot be renamed, for example on the lower layer of an overlay file system.
                staging.note(in_place=True)
                _move_in(staging, out, parts)
                return
            new.rename(out)
        force_to_disk(out.parent)
    for folder in (new, old):
        if folder.is_dir():
            replaced = [name for name in _parts_of(folder / MANIFEST, parts) if (out / name).exists()]
            own = {*parse_manifest(folder / MANIFEST).files, MANIFEST, *work, *replaced}
            for name in foreign_names(folder, own):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).rename(
                    _another_name(out / name) if os.path.lexists(out / name) else out / name
                )
            force_to_disk(out)
    # From here on the staging folder holds only files of artifacts.
    staging.note(retired=True)


def _move_in(staging: Staging, out: Path, parts: str | None) -> None:
    """Move the new files and parts into a folder that keeps its identity; the manifest last."""
    new, old = staging.folder, staging.path / "old.json"
    if not is_finished(new):
        return
    if is_finished(out) and not old.exists():
        (out / MANIFEST).rename(old)
    replaced = set(parse_manifest(old).files) if old.exists() else set()
    files = parse_manifest(new / MANIFEST).files
    for name in files:
        if not is_inside(out / name, out):
            raise OverwriteError(
                f"{(out / name).parent} is a link out of {out}; remove it or choose another `out`"
            )
        if (new / name).exists():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            if name not in replaced and os.path.lexists(out / name):
                (out / name).rename(_another_name(out / name))
            (new / name).replace(out / name)
    for name in _parts_of(new / MANIFEST, parts):
        if (new / name).exists() and is_inside(out / name, out):
            if os.path.lexists(out / name):
                retired = staging.path / "parts" / name
                retired.parent.mkdir(parents=True, exist_ok=True)
                (out / name).rename(retired)
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).rename(out / name)
    for name in replaced - set(files):
        remove_inside(out, name)
    force_to_disk(*{(out / name).parent for name in files}, out)
    (new / MANIFEST).replace(out / MANIFEST)
    force_to_disk(out)


def _another_name(path: Path) -> Path:
    """Return a new name for a foreign file whose name the artifact needs."""
    return path.with_name(f"{path.name}.{random_token()}.kept")


def foreign_names(folder: Path, own: set[str], below: str = "") -> Iterator[str]:
    """Yield the topmost paths in a folder, relative to it, that contain no name in `own`."""
    for entry in sorted(folder.iterdir()):
        name = below + entry.name
        if name in own:
            continue
        if entry.is_dir() and not entry.is_symlink() and any(other.startswith(f"{name}/") for other in own):
            yield from foreign_names(entry, own, f"{name}/")
        else:
            yield name


def remove_inside(folder: Path, name: str) -> None:
    """Remove a file, or a folder with its content, below `folder`; never through a link, nor `folder` itself."""
    path = folder / name
    if not is_inside(path, folder):
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    for parent in path.relative_to(folder).parents:
        if parent != Path():
            with suppress(OSError):  # it is not empty
                (folder / parent).rmdir()
