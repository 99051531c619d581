"""Output files written block by block in a staging folder, which can be resumed and appear when complete.

The staging folder of `scan.tsv` (`staging`) holds the file and `checkpoint.json`: the number of completed blocks of
rows, where in the file they end, the sha256 of everything up to there, and as `digest` that of its own content. When a
run is resumed, rows of an incomplete block are removed first, so that an interrupted run writes the same bytes as an
uninterrupted one.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cmgems_cli.artifacts import canonical_json, sha256_of_bytes
from cmgems_cli.errors import InputError, Interrupted, OverwriteError
from cmgems_cli.files import force_to_disk, open_new, output_lock, write_json
from cmgems_cli.output_state import check_file
from cmgems_cli.staging import Staging, lock_of, stagings
from cmgems_cli.structured_text import read_json

_KIND, _CHECKPOINT = "rows", "checkpoint.json"
_CHUNK_BYTES = 1 << 20

# ours: forcing data to disk takes some hundredths of a second; a killed process repeats this much work.
SECONDS_BETWEEN_CHECKPOINTS = 1.0


@dataclass(eq=False)
class PartialFiles:
    """Files being written.

    Attributes
    ----------
    streams : list of binary files
        Positioned at their ends.
    blocks : int
        Completed blocks of rows in them.
    saved : Any
        The JSON value last passed to `block_done`; None at the start.
    """

    streams: list[IO[bytes]]
    blocks: int
    saved: Any
    _checkpoint: Path
    _resumable: bool
    _ends: list[int] = field(default_factory=list)
    _hashed: list[tuple[Any, int]] = field(default_factory=list)
    _saved_at: float = -SECONDS_BETWEEN_CHECKPOINTS

    def block_done(self, saved: Any = None, *, blocks: int = 1) -> None:
        """Record that all rows of one more block, or of more, were written to the streams."""
        self.blocks, self.saved, self._ends = (
            self.blocks + blocks,
            saved,
            [stream.tell() for stream in self.streams],
        )
        if time.monotonic() - self._saved_at >= SECONDS_BETWEEN_CHECKPOINTS:
            self.save()

    def complete(self) -> None:
        """Record that all rows are written: with several files, the process may be killed between their renames."""
        for stream in self.streams:
            stream.flush()
            os.fsync(stream.fileno())
        if self._resumable and len(self.streams) > 1:
            self._hashed, self._ends = (
                [],
                [stream.tell() for stream in self.streams],
            )  # headers may have changed
            self.save(whole=True)

    def save(self, *, whole: bool = False) -> None:
        """Write a checkpoint of the completed blocks, if there are any and the run can be resumed."""
        if not self._resumable or not self._ends:
            return
        # The data are on disk before the checkpoint vouches for them.
        for stream in self.streams:
            stream.flush()
            os.fsync(stream.fileno())
        # Headers change when a run begins or ends, never between blocks.
        self._hashed = self._hashed or [(hashlib.sha256(), 0) for _ in self.streams]
        ends = self._ends
        for number, (stream, end) in enumerate(zip(self.streams, ends, strict=True)):
            hasher, done = self._hashed[number]
            at = stream.tell()
            stream.seek(done)
            _hash(stream, hasher, end - done)
            stream.seek(at)
            self._hashed[number] = (hasher, end)
        hashes = [hasher.copy().hexdigest() for hasher, _ in self._hashed]
        state = {"blocks": self.blocks, "sizes": ends, "sha256": hashes, "kept": self.saved, "whole": whole}
        write_json(self._checkpoint, {**state, "digest": _digest(state)})
        self._saved_at = time.monotonic()


def check_files(outs: Sequence[Path], *, overwrite: bool, reads: Iterable[Path | None] = ()) -> None:
    """Check before any work that output files may be written (parameters as `check_file`).

    Raises
    ------
    OverwriteError
        As `check_file`, unless a killed command is to be finished.
    """
    reads = list(reads)
    begun = any(staging.marker["kind"] == _KIND for staging in stagings(outs[0]))
    for out in outs:
        check_file(out, overwrite=overwrite or (begun and out is not outs[0]), reads=reads)


@contextmanager
def partial_files(
    outs: Sequence[Path], task: dict[str, Any] | None, *, resume: bool = True, scratch: Sequence[str] = ()
) -> Iterator[PartialFiles]:
    """Write files in a staging folder; on success they are renamed to `outs`.

    Parameters
    ----------
    outs : sequence of Path
        Renamed from last to first, after an existing first file was removed: if it exists, all are complete.
    task : dict or None
        JSON values that determine the content of the files. An interrupted run resumes if its task is equal. None
        if the run cannot be resumed; partial files are then deleted on failure.
    resume : bool, default True
        Whether to resume an earlier run.
    scratch : sequence of str
        Names of further files, whose streams follow those of `outs`. They are resumed like them, and removed at
        the end.

    Raises
    ------
    OverwriteError
        If the partial files belong to another task, or another command is writing these files.
    Interrupted
        In place of KeyboardInterrupt and Interrupted if the run can be resumed.
    """
    outs[0].parent.mkdir(parents=True, exist_ok=True)
    with output_lock(lock_of(outs[0]), outs[0]):
        files = [*outs, *(outs[0].with_name(name) for name in scratch)]
        staging, state = _begin(files, task, resume=resume)
        checkpoint = staging.path / _CHECKPOINT
        partials = [staging.folder / file.name for file in files]
        try:
            with ExitStack() as stack:
                streams: list[IO[bytes]] = [
                    stack.enter_context(partial.open("r+b") if state else open_new(partial))
                    for partial in partials
                ]
                for stream, size in zip(streams, state["sizes"] if state else [], strict=bool(state)):
                    stream.truncate(size)
                    stream.seek(size)
                blocks, saved = (state["blocks"], state["kept"]) if state else (0, None)
                partial_run = PartialFiles(streams, blocks, saved, checkpoint, task is not None)
                try:
                    yield partial_run
                except (KeyboardInterrupt, Interrupted):
                    partial_run.save()
                    raise
                partial_run.complete()
            if len(outs) > 1:
                outs[0].unlink(missing_ok=True)
            for partial, out in reversed(list(zip(partials[: len(outs)], outs, strict=True))):
                partial.replace(out)
                force_to_disk(out.parent)
            staging.remove()
        except InputError:
            # The input was sound when the command began: the rows written may be another input's.
            staging.remove()
            raise
        except (KeyboardInterrupt, Interrupted) as stop:
            if not checkpoint.exists():
                raise
            code = getattr(stop, "exit_code", 130)
            raise Interrupted(
                f"stopped; the same command resumes from {staging.path}, or remove that folder", code
            ) from None
        finally:
            if staging.path.exists() and not checkpoint.exists():
                staging.remove()


def _begin(
    outs: Sequence[Path], task: dict[str, Any] | None, *, resume: bool
) -> tuple[Staging, dict[str, Any] | None]:
    """Return the staging folder to work in, and the state to resume from if there is one."""
    for staging in stagings(outs[0], clean=True):
        if staging.marker["kind"] != _KIND:
            continue
        state = _read(staging, outs) if resume else None
        if state is None:
            staging.remove()
            continue
        _check_same(staging.path, staging.marker["params"], task)
        return staging, state
    return Staging.create(outs[0], _KIND, task or {}, {}), None


def _read(staging: Staging, outs: Sequence[Path]) -> dict[str, Any] | None:
    """Return the last checkpoint if the files still begin with what it vouches for."""
    try:
        state: dict[str, Any] = read_json(staging.path / _CHECKPOINT)
        if state.pop("digest") != _digest(state):
            return None
        for out, size, sha256 in zip(outs, state["sizes"], state["sha256"], strict=True):
            partial = staging.folder / out.name
            # The process was killed between two renames: undo those already done.
            path = out if state["whole"] and not partial.exists() else partial
            with path.open("rb") as stream:
                if _hash(stream, hashlib.sha256(), size) != sha256:
                    return None
            if path is out:
                out.replace(partial)
        return state
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(state: dict[str, Any]) -> str:
    return sha256_of_bytes(canonical_json(state).encode())


def _hash(stream: IO[bytes], hasher: Any, n_bytes: int) -> str:
    """Hash the next `n_bytes` of a stream, fewer at its end; return the hexadecimal digest so far."""
    while n_bytes > 0 and (chunk := stream.read(min(_CHUNK_BYTES, n_bytes))):
        hasher.update(chunk)
        n_bytes -= len(chunk)
    digest: str = hasher.hexdigest()
    return digest


def _check_same(begun: Path, before: dict[str, Any], now: dict[str, Any] | None) -> None:
    if now is None:
        raise OverwriteError(
            f"{begun} was begun with a file, and this command's input cannot be read again: repeat the old command to"
            " resume it, or add `resume=False` to start again"
        )
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old != new:
            raise OverwriteError(
                f"{begun} was begun with {name} = {old}, this command has {new}: repeat the old command to resume it,"
                " or add `resume=False` to start again"
            )
