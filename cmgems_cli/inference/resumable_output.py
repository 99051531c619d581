"""Output files that grow aside, a block at a time, appear when they are complete, and outlive a stop.

Beside `scan.tsv` lie, until it is there, `.scan.tsv.partial` and `.scan.tsv.checkpoint.json`: what was asked
for, how many blocks of rows are done, and where in the file they end. Rows of a block that did not get done
are cut off before the work goes on, so that a run in two parts leaves the bytes of a run in one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cmgems_cli.errors import Interrupted, UsageError
from cmgems_cli.files import exclusive_lock, write_json


@dataclass(eq=False)
class PartialFiles:
    """Files being written.

    Attributes
    ----------
    streams : list of binary files
        To write to, each at its end.
    blocks : int
        Blocks of rows they hold.
    kept : Any
        What was last given to `block_done`, a JSON value; None at the start.
    """

    streams: list[IO[bytes]]
    blocks: int
    kept: Any
    _checkpoint: Path
    _task: dict[str, Any] | None

    def block_done(self, kept: Any = None) -> None:
        """Note that all rows of one more block were written, and flushed, to the streams."""
        self.blocks, self.kept = self.blocks + 1, kept
        if self._task is None:
            return
        for stream in self.streams:
            stream.flush()
        sizes = [stream.tell() for stream in self.streams]
        state = {"task": self._task, "blocks": self.blocks, "sizes": sizes, "kept": kept}
        write_json(self._checkpoint, state)


@contextmanager
def partial_files(
    outs: Sequence[Path], task: dict[str, Any] | None, *, resume: bool = True
) -> Iterator[PartialFiles]:
    """Write files aside; on success they become `outs`.

    Parameters
    ----------
    outs : sequence of Path
        The last appears first, and the first, if it was there, is gone by then: where it is, all are.
    task : dict or None
        JSON values that decide what will be in the files. After a stop the same task goes on. None for what
        cannot be gone on with: then nothing is left of a failure.
    resume : bool, default True
        Whether to go on where there is something to go on from.

    Raises
    ------
    UsageError
        If what is there was begun for another task.
    OverwriteError
        If another command is writing these files.
    Interrupted
        In place of KeyboardInterrupt and Interrupted, where something can be gone on from.
    """
    outs[0].parent.mkdir(parents=True, exist_ok=True)
    asides = [out.with_name(f".{out.name}.partial") for out in outs]
    asides[0].touch()
    with exclusive_lock(asides[0], outs[0]), _partial_files(outs, asides, task, resume=resume) as files:
        yield files


@contextmanager
def _partial_files(
    outs: Sequence[Path], asides: Sequence[Path], task: dict[str, Any] | None, *, resume: bool
) -> Iterator[PartialFiles]:
    checkpoint = outs[0].with_name(f".{outs[0].name}.checkpoint.json")
    state = _read(checkpoint, asides) if resume else None
    if state is not None:
        _check_same(checkpoint, state["task"], task)
    else:
        checkpoint.unlink(missing_ok=True)
    try:
        with ExitStack() as stack:
            streams: list[IO[bytes]]
            streams = [stack.enter_context(aside.open("r+b" if state else "wb+")) for aside in asides]
            for stream, size in zip(streams, state["sizes"] if state else [], strict=bool(state)):
                stream.truncate(size)
                stream.seek(size)
            blocks, kept = (state["blocks"], state["kept"]) if state else (0, None)
            yield PartialFiles(streams, blocks, kept, checkpoint, task)
            for stream in streams:
                stream.flush()
                os.fsync(stream.fileno())
        if len(outs) > 1:
            outs[0].unlink(missing_ok=True)
        for aside, out in reversed(list(zip(asides, outs, strict=True))):
            aside.replace(out)
        checkpoint.unlink(missing_ok=True)
    except (KeyboardInterrupt, Interrupted) as stop:
        if not checkpoint.exists():
            raise
        code = stop.exit_code if isinstance(stop, Interrupted) else 130
        raise Interrupted(
            f"stopped; the same command goes on from {asides[0]}, or remove it and {checkpoint.name}", code
        ) from None
    finally:
        if not checkpoint.exists():
            for aside in asides:
                aside.unlink(missing_ok=True)


def _read(checkpoint: Path, asides: Sequence[Path]) -> dict[str, Any] | None:
    """Return what was noted last, if the files hold at least that."""
    try:
        state: dict[str, Any] = json.loads(checkpoint.read_bytes())
        sizes = [aside.stat().st_size for aside in asides]
    except (FileNotFoundError, ValueError):
        return None
    return state if all(map(int.__ge__, sizes, state["sizes"])) else None


def _check_same(checkpoint: Path, before: dict[str, Any], now: dict[str, Any] | None) -> None:
    if now is None:
        raise UsageError(
            f"{checkpoint} was begun with a file, and what is read now cannot be gone on with: repeat the old"
            " command to go on, or add --no-resume to start again"
        )
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old != new:
            raise UsageError(
                f"{checkpoint} was begun with {name} = {old}, now it is {new}: repeat the old command to go on,"
                " or add --no-resume to start again"
            )
