"""Checkpoints: everything a run needs to resume as if it had never stopped, checked before any of it is used.

A checkpoint is a folder `checkpoints/step_NNNNNN` with `weights.safetensors`, `optimizer.safetensors`, further tensors
under names of the run's own, `metrics.jsonl` up to that step, and `state.json`, which holds the sha256 of each file
and, as `digest`, that of its own content. A checkpoint is written aside, forced to disk and renamed; the previous one
is kept, in case the newest is damaged.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cmgems_cli.artifacts import canonical_json, is_finished, sha256_of_bytes, sha256_of_file
from cmgems_cli.errors import InputError
from cmgems_cli.files import as_bytes, as_json, create_file, force_to_disk, random_token
from cmgems_cli.modeling.weights import write_tensors
from cmgems_cli.output_state import check_place
from cmgems_cli.staging import read_marker, write_marker
from cmgems_cli.structured_text import read_json
from cmgems_cli.training.metrics_log import METRICS, read_metrics

FOLDER = "checkpoints"
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"

# ours: the newest, and the one before in case the newest is damaged.
KEPT = 2

# The parts of a run's identity that its marker also has.
IDENTITY = ("kind", "params", "inputs")

# What reading values of an unexpected form raises.
MALFORMED = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError)

_NAME = re.compile(r"step_(\d{6,})")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint whose files have been checked.

    Attributes
    ----------
    folder : Path
    step : int
        Steps that were done.
    state : dict
        The run's own state.
    """

    folder: Path
    step: int
    state: dict[str, Any]

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """Return the tensors of one file, on the CPU.

        Raises
        ------
        InputError
            If the file cannot be read.
        """
        try:
            return load_file(self.folder / name)
        except (OSError, SafetensorError) as error:
            raise InputError(f"checkpoint {self.folder} is damaged ({error})") from None

    def extra(self, name: str) -> dict[str, torch.Tensor]:
        """Return the further tensors saved as `name`."""
        return self.tensors(f"{name}.safetensors")

    def metrics(self) -> bytes:
        """Return the content of metrics.jsonl up to this step."""
        return (self.folder / METRICS).read_bytes()

    def records(self) -> list[dict[str, Any]]:
        """Return the records of metrics.jsonl up to this step (InputError if a line is not a record)."""
        return read_metrics(self.folder / METRICS)


def save_checkpoint(
    run: Path,
    step: int,
    weights: dict[str, torch.Tensor],
    moments: dict[str, torch.Tensor],
    state: dict[str, Any],
    *,
    metrics: bytes | bytearray = b"",
    spare: int | None = None,
    extra: Mapping[str, dict[str, torch.Tensor]] | None = None,
) -> None:
    """Write the checkpoint of `step`, then remove those that are no longer needed.

    The newest `KEPT` stay and, with `spare`, one of at most that step, or the oldest until there is one.

    Each entry of `extra` becomes a file of its own, for `Checkpoint.extra`.
    """
    folder = run / FOLDER
    aside = folder / f".step_{step:06d}.{random_token()}.tmp"
    aside.mkdir(parents=True)
    named = {WEIGHTS: weights, OPTIMIZER: moments}
    named |= {f"{name}.safetensors": tensors for name, tensors in (extra or {}).items()}
    try:
        for name, tensors in named.items():
            write_tensors(aside / name, tensors)
            force_to_disk(aside / name)
        create_file(aside / METRICS, bytes(metrics))
        content = {
            "step": step,
            **state,
            "files": {name: sha256_of_file(aside / name) for name in (*named, METRICS)},
        }
        create_file(aside / STATE, as_bytes(as_json({**content, "digest": _digest(content)})))
        force_to_disk(aside)
        final = folder / f"step_{step:06d}"
        shutil.rmtree(final, ignore_errors=True)
        aside.replace(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    force_to_disk(folder)
    folders = _folders(run)
    kept = folders[-KEPT:]
    if spare is not None:
        # And the one after it, which takes its place later.
        oldest = max(0, sum(_step_of(entry) <= spare for entry in folders) - 1)
        kept += folders[oldest : oldest + 2]
    for other in folder.iterdir():
        if other not in kept:
            shutil.rmtree(other, ignore_errors=True)


def newest_checkpoint(
    run: Path,
    damaged: Callable[[str], None] = lambda message: None,
    use: Callable[[Checkpoint], None] = lambda checkpoint: None,
) -> Checkpoint | None:
    """Return the newest checkpoint of `run` that is whole and can be used, None if it has none.

    Parameters
    ----------
    run : Path
        The run's folder.
    damaged : callable
        Called with a sentence for each newer checkpoint that is damaged or cannot be used.
    use : callable
        Called with each checkpoint whose content is what was written; raises InputError if it cannot be used.

    Raises
    ------
    InputError
        If none can be used.
    """
    folders = _folders(run)
    for folder in reversed(folders):
        try:
            checkpoint = _read(folder)
            use(checkpoint)
            return checkpoint
        except InputError as error:
            if folder == folders[0]:
                raise InputError(f"{error}, and no other is left; start again with `resume=False`") from None
            damaged(f"{error}; the one before is used")
    return None


def checkpoint_before(run: Path, step: int) -> Path | None:
    """Return the folder of the newest checkpoint of an earlier step, None if there is none."""
    return next((folder for folder in reversed(_folders(run)) if _step_of(folder) < step), None)


def remove_checkpoints_after(run: Path, step: int) -> None:
    """Remove the checkpoints of later steps."""
    for folder in _folders(run):
        if _step_of(folder) > step:
            shutil.rmtree(folder)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step_"))


def _folders(run: Path) -> list[Path]:
    folder = run / FOLDER
    entries = [entry for entry in folder.iterdir() if _NAME.fullmatch(entry.name)] if folder.is_dir() else []
    return sorted((entry for entry in entries if entry.is_dir()), key=_step_of)


def _read(folder: Path) -> Checkpoint:
    """Check a checkpoint's files against its state, and the state against its digest."""
    try:
        state = read_json(folder / STATE)
        digest = state.pop("digest")
        if digest != _digest(state):
            raise ValueError(f"the digest of {STATE} differs")
        files, step = state.pop("files"), state.pop("step")
        if folder.name != f"step_{step:06d}" or not {WEIGHTS, OPTIMIZER, METRICS} <= set(files):
            raise ValueError(f"{STATE} is not complete")
        for name, sha256 in files.items():
            if Path(name).name != name or sha256_of_file(folder / name) != sha256:
                raise ValueError(f"the sha256 of {name} differs")
    except (OSError, *MALFORMED) as error:
        raise InputError(f"checkpoint {folder} is damaged ({error})") from None
    return Checkpoint(folder, step, state)


def _digest(content: Mapping[str, Any]) -> str:
    return sha256_of_bytes(canonical_json(content).encode())


def check_run_place(out: Path, kind: str) -> None:
    """Check before any work that a run of this kind may write to a folder.

    A folder that lost everything except its checkpoints is marked as an unfinished run again.

    Raises
    ------
    OverwriteError
        If it may not.
    """
    if out.is_dir() and not is_finished(out) and read_marker(out) is None:
        with suppress(InputError, KeyError, TypeError):
            checkpoint = newest_checkpoint(out)
            if checkpoint is not None:
                write_marker(out, **{name: checkpoint.state["run"][name] for name in IDENTITY})
    check_place(out, kind)
