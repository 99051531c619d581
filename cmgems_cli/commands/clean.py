"""`cmgems clean`: what stopped commands left, how large it is, and its removal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cmgems_cli import workspace
from cmgems_cli.errors import InputError
from cmgems_cli.leftovers import in_use, leftovers, remove
from cmgems_cli.option_fields import option
from cmgems_cli.options import Shared, takes
from cmgems_cli.readable import size


@takes("json quiet config")
def clean(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where to look.", show_default="the workspace")
    ] = None,
    delete: bool = option(False, "--delete", "Remove what is listed; without it nothing is removed."),
    *,
    io: Shared,
) -> None:
    """List what stopped commands left, which the same commands would resume; with --delete remove it.

    Finished artifacts, downloads and data are never touched, nor what a running command writes.

    Example: cmgems clean
    """
    console = io.console()
    root = folder or workspace.workspace()
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; needed a workspace of cmgems")
    every = leftovers(root)
    found = [one for one in every if not in_use(one)]
    busy = [one for one in every if one not in found]
    for one in busy:
        console.warn(f"{one.path} stays: a command is writing {one.out}")
    removed = [remove(one) if delete else False for one in found]
    freed = sum(one.n_bytes for one, done in zip(found, removed, strict=True) if done)
    console.result(
        {
            "folder": str(root),
            "bytes": sum(one.n_bytes for one in found),
            "removed_bytes": freed,
            "leftovers": [
                {"path": str(one.path), "what": one.what, "bytes": one.n_bytes, "removed": done}
                for one, done in zip(found, removed, strict=True)
            ],
        }
    )
    if not found:
        console.say(f"{root} holds nothing that a stopped command left")
        return
    rows = [[str(one.path), one.what, size(one.n_bytes)] for one in found]
    console.table(f"left by stopped commands below {root}", ["path", "what", "size"], rows)
    if not delete:
        console.say("nothing was removed; add --delete to remove all of it")
        return
    for one, done in zip(found, removed, strict=True):
        if not done:  # a command began meanwhile
            console.warn(f"{one.path} stays: a command is writing {one.out}")
    console.say(f"removed {sum(removed)} of {len(found)}, {size(freed)}")
