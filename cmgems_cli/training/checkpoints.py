"""Checkpoints: everything a run needs to go on as if it had never stopped, written so that half of one never counts.

A checkpoint is a folder `checkpoints/step_NNNNNN` with `weights.safetensors`, `optimizer.safetensors` and
`state.json`, and further tensors under names of the run's own. It is written aside, forced to disk and
renamed; the one before is removed only afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cmgems_cli.errors import InputError
from cmgems_cli.modeling.weights import write_tensors

FOLDER = "checkpoints"
WEIGHTS, OPTIMIZER, STATE = "weights.safetensors", "optimizer.safetensors", "state.json"


def save_checkpoint(
    run: Path,
    step: int,
    weights: dict[str, torch.Tensor],
    moments: dict[str, torch.Tensor],
    state: dict[str, Any],
    more: Mapping[str, dict[str, torch.Tensor]] | None = None,
) -> None:
    """Write the checkpoint of `step` under `run`, then remove the older ones.

    Each entry of `more` becomes a file of its own, for `load_extra`.
    """
    folder = run / FOLDER
    aside = folder / f".step_{step:06d}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    named = {WEIGHTS: weights, OPTIMIZER: moments}
    named |= {f"{name}.safetensors": tensors for name, tensors in (more or {}).items()}
    try:
        for name, tensors in named.items():
            write_tensors(aside / name, tensors)
        (aside / STATE).write_text(
            json.dumps({"step": step, **state}, indent=2, allow_nan=False), encoding="utf-8"
        )
        for path in (*(aside / name for name in named), aside / STATE, aside):
            _force_to_disk(path)
        final = folder / f"step_{step:06d}"
        shutil.rmtree(final, ignore_errors=True)
        aside.replace(final)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _force_to_disk(folder)
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other, ignore_errors=True)


def newest_checkpoint(run: Path) -> Path | None:
    """Return the folder of the latest whole checkpoint of `run`, or None."""
    whole = sorted((run / FOLDER).glob("step_*/" + STATE))
    return whole[-1].parent if whole else None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Read `state.json` of a checkpoint.

    Raises
    ------
    InputError
        If it is not readable: the run has to be started again.
    """
    try:
        state = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        return {**state, "step": int(state["step"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"checkpoint {checkpoint} is damaged ({error}); start again with --no-resume"
        ) from None


def load_tensors(checkpoint: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return (weights, optimizer state) of a checkpoint, on the CPU.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    return _load(checkpoint, WEIGHTS), _load(checkpoint, OPTIMIZER)


def load_extra(checkpoint: Path, name: str) -> dict[str, torch.Tensor]:
    """Return the further tensors saved as `name`, on the CPU (InputError as `load_tensors`)."""
    return _load(checkpoint, f"{name}.safetensors")


def _load(checkpoint: Path, name: str) -> dict[str, torch.Tensor]:
    try:
        return load_file(checkpoint / name)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"checkpoint {checkpoint} is damaged ({error}); start again with --no-resume"
        ) from None


def _force_to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
