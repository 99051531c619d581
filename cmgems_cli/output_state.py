"""The state of an output path, for commands that want to write there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from cmgems_cli.artifacts import MANIFEST, Manifest, is_finished, parse_manifest
from cmgems_cli.errors import InputError, OverwriteError
from cmgems_cli.staging import is_hidden_work, read_marker, stagings

# The endings of the files of a model from elsewhere.
_OF_MODELS = {".json", ".safetensors", ".bin", ".txt", ".model"}


class Holds(Enum):
    """What an output path holds."""

    NOTHING = "nothing, or an empty folder"
    SAME = "a finished artifact of the same parameters and inputs"
    OTHER = "a finished artifact of other parameters or inputs, or a damaged one"
    UNFINISHED = "an unfinished run of the same parameters and inputs"
    OTHER_UNFINISHED = "an unfinished run of other parameters or inputs"
    FOREIGN = "something that no command of this kind wrote"


@dataclass(frozen=True)
class State:
    """What an output path holds.

    Attributes
    ----------
    holds : Holds
    sentence : str
        Describes what is in the way; empty for NOTHING, SAME and UNFINISHED.
    manifest : Manifest or None
        Manifest of a finished artifact.
    """

    holds: Holds
    sentence: str = ""
    manifest: Manifest | None = None


def place_state(out: Path, kind: str, parts: str | None = None) -> State | None:
    """Return what a path holds, as far as its files show; None for an artifact or run of this kind.

    `parts` is that of `Output`.
    """
    path = Path(os.path.realpath(out))
    if path.is_symlink():
        return State(Holds.FOREIGN, f"{out} is a link that leads to itself")
    if not path.exists():
        return State(Holds.NOTHING)
    if not path.is_dir():
        return State(Holds.FOREIGN, f"{out} is a file, not a folder")
    if is_finished(path):
        try:
            held = parse_manifest(path / MANIFEST).kind
        except InputError:
            return State(
                Holds.FOREIGN,
                f"{out / MANIFEST} cannot be read, so it is unknown which files of {out} may be replaced",
            )
        return None if held == kind else State(Holds.FOREIGN, f"{out} holds a {held} artifact, not a {kind}")
    marker = read_marker(path)
    if marker is not None:
        held = marker["kind"]
        if held == kind:
            return None
        return State(Holds.FOREIGN, f"{out} holds an unfinished {held} artifact, not a {kind}")
    if all(is_hidden_work(entry, path) for entry in path.iterdir()):
        return State(Holds.NOTHING)
    if any("successor" in staging.marker and staging.marker["kind"] == kind for staging in stagings(path)):
        return State(Holds.NOTHING)  # a killed command was moving its artifact in; the next one finishes that
    if parts and any(
        is_finished(part) and place_state(part, kind) is None for part in path.glob(f"{parts}/*")
    ):
        return State(Holds.NOTHING)
    return State(Holds.FOREIGN, f"{out} exists and is not a {kind} artifact")


def check_place(out: Path, kind: str, parts: str | None = None) -> None:
    """Check before any work that a command of this kind may write to a path.

    Raises
    ------
    OverwriteError
        If it may not.
    """
    refuse(place_state(out, kind, parts) or State(Holds.NOTHING), overwrite=True, resume=True)


def check_file(out: Path, *, overwrite: bool, reads: Iterable[Path | None] = ()) -> None:
    """Check before any work that an output file may be written.

    Parameters
    ----------
    out : Path
    overwrite : bool
    reads : iterable of Path or None
        Files and folders that the command reads: no file of theirs may be replaced.

    Raises
    ------
    OverwriteError
        If it is not a regular file, exists and `overwrite` is false, or is one that is read.
    """
    if out.exists() and not out.is_file():
        kind = "a folder" if out.is_dir() else "not a regular file"
        raise OverwriteError(f"{out} is {kind}; needed the name of a file")
    for source in reads:
        if source is not None and out.exists() and _is_read(out, source):
            raise OverwriteError(f"{out} is what this command reads; choose another name")
    if out.exists() and not overwrite:
        raise OverwriteError(f"{out} exists; add `overwrite=True` to replace it or choose another name")


def _is_read(out: Path, source: Path) -> bool:
    """Return whether an existing file is a source, or one of the files that make a folder what it is."""
    if not source.is_dir():
        return source.exists() and out.samefile(source)
    if is_finished(source):
        found = [source / name for name in (MANIFEST, *parse_manifest(source / MANIFEST).files)]
    else:
        found = [path for path in source.iterdir() if path.suffix in _OF_MODELS]
    return any(path.is_file() and out.samefile(path) for path in found)


def refuse(state: State, *, overwrite: bool, resume: bool) -> None:
    """Raise OverwriteError unless the path may be written."""
    if state.holds is Holds.FOREIGN:
        raise OverwriteError(f"{state.sentence}; choose another `out` or remove it yourself")
    if state.holds is Holds.OTHER and not overwrite:
        raise OverwriteError(f"{state.sentence}; add `overwrite=True` to replace it or choose another `out`")
    if state.holds is Holds.OTHER_UNFINISHED and resume:
        raise OverwriteError(
            f"{state.sentence}: repeat the old parameters to resume it, or add `resume=False` to start again"
        )
