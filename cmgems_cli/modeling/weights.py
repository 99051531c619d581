"""Weights of other people's folders: read without running code, fitted without leaving anything to chance."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from cmgems_cli.errors import InputError

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"

# Parts of checkpoints that masked-LM pretraining has no use for: the pooler and the next-sentence head
# of older BERTs, and tables that are computed.
UNUSED = (
    "bert.pooler.",
    "cls.seq_relationship.",
    "bert.embeddings.position_ids",
    "bert.embeddings.token_type_ids",
)

# Second names of one tensor, where the decoder is tied to the embeddings.
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

# Names that BERT checkpoints converted from TensorFlow carry.
RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises
    ------
    OSError
        What the system has against it, as any other writing raises it.
    """
    # safetensors makes a file for its owner alone; others are to read a model as they read what is beside it.
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
        path.chmod(mode)
    except SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder in Hugging Face format.

    Parameters
    ----------
    folder : Path
        Holds `model.safetensors`, or `pytorch_model.bin`, which is read as tensors and nothing else
        (torch's `weights_only`, safe from torch 2.6 on: CVE-2025-32434). The first is preferred.

    Returns
    -------
    dict, name -> float32
        Old names of LayerNorm's parameters are replaced by today's.

    Raises
    ------
    InputError
        If there are no weights, they are split over several files, damaged, hold anything but
        tensors, or hold a number that is not finite.
    """
    path = folder / SAFETENSORS
    if path.is_file():
        try:
            found = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise InputError(
                f"{path} is not a readable safetensors file ({_line(error)}); get it again"
            ) from None
    else:
        path = folder / PICKLED
        if not path.is_file():
            for name in (SAFETENSORS, PICKLED):
                if (folder / f"{name}.index.json").is_file():
                    raise InputError(
                        f"{folder} has its weights in several files; save them as one {SAFETENSORS}"
                    )
            raise InputError(f"{folder} has no weights; needed {SAFETENSORS} or {PICKLED}")
        found = _read_pickled(path)
    weights = {}
    for name, tensor in found.items():
        if not torch.isfinite(tensor).all():
            raise InputError(
                f"{path}: {name} holds numbers that are not finite; the training that made it diverged"
            )
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        weights[name] = tensor.float()
    return weights


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # Of pickle protocols it may not know; what it does not know, it refuses.
            warnings.simplefilter("ignore", UserWarning)
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is damaged or holds more than tensors, which could run code and was not loaded"
            f" ({_line(error)}); needed a {SAFETENSORS}"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        # What torch.load raises for cut-off and foreign files, depending on where the damage is.
        raise InputError(f"{path} is not a readable file of weights ({_line(error)}); get it again") from None
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise InputError(
            f"{path} does not hold a table of tensors; needed the state_dict of a BertForMaskedLM"
        )
    return found


def fit_weights(
    model: PreTrainedModel,
    weights: dict[str, Tensor],
    source: Path,
    *,
    unused: tuple[str, ...] = UNUSED,
    may_lack: Sequence[str] = (),
) -> None:
    """Copy weights into a model, or refuse: no parameter is left as it was unasked, no weight left over.

    Parameters
    ----------
    model : BertForMaskedLM or BertForSequenceClassification
        Changed in place, on success only.
    weights : dict, name -> float32
        As from `read_weights`.
    source : Path
        Where they come from, for messages.
    unused : tuple of str, default `UNUSED`
        Beginnings of names that are passed over.
    may_lack : sequence of str, optional
        Beginnings of parameters' names. Where `weights` has none of that beginning, those parameters stay
        as they are; where it has one, it needs them all.

    Raises
    ------
    InputError
        If weights are missing, unexpected (beyond `unused`) or of another shape, or if a decoder that
        the configuration ties to the embeddings differs from them.
    """
    # named_parameters lists a tied tensor once, under its first name.
    parameters = dict(model.named_parameters())
    found = {name: tensor for name, tensor in weights.items() if not name.startswith(unused)}
    for second, first in TIED.items():
        if second in parameters or second not in found:
            continue
        tensor = found.pop(second)
        if not torch.equal(found.setdefault(first, tensor), tensor):
            raise InputError(
                f"{source} ties {second} to {first} in config.json, but their weights differ;"
                ' needed equal weights or "tie_word_embeddings": false'
            )
    kind = type(model).__name__
    lacked = tuple(part for part in may_lack if not any(name.startswith(part) for name in found))
    parameters = {name: tensor for name, tensor in parameters.items() if not name.startswith(lacked)}
    if missing := parameters.keys() - found.keys():
        raise InputError(f"{source} has no weights for {_some(missing)}; needed those of a {kind}")
    if unexpected := found.keys() - parameters.keys():
        raise InputError(
            f"{source} has weights that a {kind} of its config.json has not: {_some(unexpected)}"
        )
    for name, parameter in parameters.items():
        if found[name].shape != parameter.shape:
            raise InputError(
                f"{source} has {name} of shape {tuple(found[name].shape)}; the architecture asked for needs"
                f" {tuple(parameter.shape)}"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(found[name])


def _some(names: Collection[str]) -> str:
    """Name the first of `names`, and count the others."""
    first = min(names)
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"


def _line(error: Exception) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
