"""Where an artifact is built before it takes its place, and how it takes it: the old or the new one is always readable.

A staging folder is a hidden sibling of the output, `.NAME.RANDOM.staging`, created exclusively. It holds `new/`, the
artifact, and `unfinished.json`, which names the output, the kind, the parameters and the inputs. A command that is
killed leaves it, and the next command for the same output resumes it, finishes its publication or removes it. All
functions that change anything need the output's lock.
"""

from __future__ import annotations

import errno
import json
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

MARKER = "unfinished.json"
_ENDING = ".staging"
_TOKEN = re.compile(r"\.([0-9a-f]{16})\.staging")
# Written into every marker, so that no other program's JSON is taken for one.
_MADE_BY = "cmgems"


def read_marker(folder: Path) -> dict[str, Any] | None:
    """Return what `unfinished.json` of a folder says, None if it has none that a command of ours wrote."""
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        whole = marker["made_by"] == _MADE_BY and all(
            isinstance(marker[name], dict) for name in ("params", "inputs")
        )
        return marker if whole and isinstance(marker["kind"], str) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_marker(folder: Path, kind: str, params: dict[str, Any], inputs: dict[str, str]) -> None:
    """Mark a folder as unfinished work of ours."""
    write_json(folder / MARKER, _marker("", kind, params, inputs))


def _marker(output: str, kind: str, params: dict[str, Any], inputs: dict[str, str]) -> dict[str, Any]:
    return {"made_by": _MADE_BY, "output": output, "kind": kind, "params": params, "inputs": inputs}


def base_of(out: Path) -> Path:
    """Return the folder that holds the lock and the staging folders of `out`.

    It is the parent, or `out` itself where the parent is another file system or cannot be written.
    """
    inside = out.is_dir() and (os.path.ismount(out) or not os.access(out.parent, os.W_OK))
    return out if inside else out.parent


def lock_of(out: Path) -> Path:
    """Return the file that commands writing `out` lock."""
    return base_of(out) / hidden_name(out.name, "lock")


def is_hidden_work(path: Path, out: Path) -> bool:
    """Tell whether a path has the name of a lock or a staging folder of `out`."""
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
        """Create one for `out` under a name that nobody can predict."""
        staging = cls(
            base_of(out) / hidden_name(out.name, random_token() + _ENDING),
            _marker(out.name, kind, params, inputs),
        )
        staging.path.mkdir()
        create_file(staging.path / MARKER, as_bytes(as_json(staging.marker)))
        staging.folder.mkdir()
        return staging

    def note(self, **more: Any) -> None:
        """Add to the marker, on disk before anything relies on it."""
        self.marker |= more
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
    """Return what earlier commands for `out` left: real folders of this user with our marker, and no others.

    With `clean`, which needs the lock, those in which nothing was begun are removed.
    """
    found = []
    entries: list[Path] = []
    for base in {base_of(out), out.parent}:
        with suppress(OSError):
            entries += base.iterdir()
    for path in sorted(path for path in entries if is_hidden_work(path, out) and is_own_folder(path)):
        marker = read_marker(path)
        if marker is not None and marker.get("output") == out.name:
            found.append(Staging(path, marker))
        elif clean and {entry.name for entry in path.iterdir()} <= {MARKER}:
            Staging(path, {}).remove()
    return found


def publish(staging: Staging, out: Path, work: Iterable[str] = (), *, in_place: bool = False) -> None:
    """Put the finished artifact of a staging folder at `out`, and remove what it replaces and the staging folder.

    Whatever else `out` holds stays; a name that the new artifact needs too is kept as `NAME.RANDOM.kept`. Each step
    can be repeated: after a kill the next command calls this again.

    Parameters
    ----------
    staging : Staging
    out : Path
        Absent, empty or an artifact, with its links resolved.
    work : iterable of str
        Names in `out` that belong to an unfinished run and are removed with the artifact.
    in_place : bool
        Replace the files one by one, the manifest last, so that the folder stays the same.
    """
    if "successor" not in staging.marker:
        # A folder that is a mount, or the current folder of this process, keeps its identity.
        fixed = in_place or base_of(out) == out or Path(os.path.realpath(".")).is_relative_to(out)
        staging.note(successor=staging.folder.stat().st_ino, in_place=fixed and out.is_dir())
    if staging.marker["in_place"]:
        _move_in(staging, out)
    else:
        _swap_in(staging, out, {*work, MARKER})
    staging.remove()


def _swap_in(staging: Staging, out: Path, work: set[str]) -> None:
    """Swap the new folder for the old one in one step, then carry over what is not the old artifact's."""
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
                # The folder cannot be renamed, as on the lower layer of an overlay.
                staging.note(in_place=True)
                _move_in(staging, out)
                return
            new.rename(out)
        force_to_disk(out.parent)
    for folder in (new, old):
        if folder.is_dir():
            own = {*parse_manifest(folder / MANIFEST).files, MANIFEST, *work}
            for name in foreign_names(folder, own):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).rename(
                    _another_name(out / name) if os.path.lexists(out / name) else out / name
                )
            force_to_disk(out)
    # From here on nothing in the staging folder is anybody else's.
    staging.note(retired=True)


def _move_in(staging: Staging, out: Path) -> None:
    """Move the new files into a folder that has to stay; the manifest last."""
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
    for name in replaced - set(files):
        remove_inside(out, name)
    force_to_disk(*{(out / name).parent for name in files}, out)
    (new / MANIFEST).replace(out / MANIFEST)
    force_to_disk(out)


def _another_name(path: Path) -> Path:
    """Return where something stays that is not ours and whose name the artifact needs."""
    return path.with_name(f"{path.name}.{random_token()}.kept")


def foreign_names(folder: Path, own: set[str], below: str = "") -> Iterator[str]:
    """Yield the topmost paths in a folder that hold none of the names in `own`, relative to it."""
    for entry in sorted(folder.iterdir()):
        name = below + entry.name
        if name in own:
            continue
        if entry.is_dir() and not entry.is_symlink() and any(other.startswith(f"{name}/") for other in own):
            yield from foreign_names(entry, own, f"{name}/")
        else:
            yield name


def remove_inside(folder: Path, name: str) -> None:
    """Remove a file, or a folder with all it holds, below `folder`; never through a link, nor the folder itself."""
    path = folder / name
    if not is_inside(path, folder):
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    for parent in path.relative_to(folder).parents:
        if parent != Path():
            with suppress(OSError):  # it holds something else
                (folder / parent).rmdir()
