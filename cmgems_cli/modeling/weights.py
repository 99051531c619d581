"""Read weights of model folders without running code, and load them into a model only if they match exactly."""

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
from transformers import BertConfig, PreTrainedModel

from cmgems_cli.errors import InputError
from cmgems_cli.files import check_no_lfs_pointer

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"

# Prefixes of weights that masked-LM pretraining does not use: the pooler and the next-sentence head of older
# BERTs, and tables that are computed.
UNUSED = (
    "bert.pooler.",
    "cls.seq_relationship.",
    "bert.embeddings.position_ids",
    "bert.embeddings.token_type_ids",
)

# Second names of a tensor if the decoder is tied to the embeddings.
TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

# Prefixes that torch puts before every name: DistributedDataParallel and `torch.compile`.
_WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+")
# The parts of a `BertModel`, which saves them without the `bert.` that its heads put before them.
_ENCODER_PARTS = ("embeddings.", "encoder.", "pooler.")

# Parameter names in BERT checkpoints converted from TensorFlow.
RENAMED = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file.

    Parameters
    ----------
    path : Path
    tensors : mapping, name -> tensor of any dtype and shape
    metadata : dict, optional
        Stored in the header of the file.

    Raises
    ------
    OSError
        If the file cannot be written (the error a plain write would raise).
    """
    # safetensors creates files that only the owner can read; give this one the usual permissions.
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


def convert_pickled(paths: Sequence[Path], out: Path) -> None:
    """Write the tensors of pickled files, of which nothing else is read, as one safetensors file.

    Parameters
    ----------
    paths : sequence of Path
        `pytorch_model.bin`, or its parts.
    out : Path
        Names, dtypes and shapes stay as they are; tensors that share memory are written in full.

    Raises
    ------
    InputError
        If a file is damaged, holds more than tensors, or two files have a tensor of the same name.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        for name, tensor in _read_pickled(path).items():
            if name in tensors:
                raise InputError(f"{path} has {name}, which another file of weights has too; get them again")
            # A view of another tensor's memory would not be written.
            tensors[name] = tensor.clone()
    write_tensors(out, tensors, {"format": "pt"})


def own_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return a model's parameters by name, tied ones once: float32, on the CPU, in their shapes."""
    return {name: parameter.detach().to("cpu", torch.float32) for name, parameter in model.named_parameters()}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a safetensors file by name, of any dtype and shape (raises InputError if unreadable)."""
    check_no_lfs_pointer(path)
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({_first_line(error)}); get it again"
        ) from None


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder in Hugging Face format.

    Parameters
    ----------
    folder : Path
        Holds `model.safetensors` (preferred) or `pytorch_model.bin`, from which only tensors are read
        (torch's `weights_only`, safe since torch 2.6: CVE-2025-32434).

    Returns
    -------
    dict, name -> float32 tensor of any shape
        By the current names of a BERT with a head: those of an encoder alone get their `bert.`, prefixes of
        `DistributedDataParallel` and `torch.compile` are removed, and old names of LayerNorm parameters replaced.

    Raises
    ------
    InputError
        If weights are missing, split over several files or damaged, if the file holds anything besides
        tensors, or if a number is not finite.
    """
    path = folder / SAFETENSORS
    if path.is_file():
        tensors = read_tensors(path)
    else:
        path = folder / PICKLED
        if not path.is_file():
            for name in (SAFETENSORS, PICKLED):
                if (folder / f"{name}.index.json").is_file():
                    raise InputError(
                        f"{folder} has its weights in several files; save them as one {SAFETENSORS}"
                    )
            raise InputError(f"{folder} has no weights; needed {SAFETENSORS} or {PICKLED}")
        check_no_lfs_pointer(path)
        tensors = _read_pickled(path)
    weights: dict[str, Tensor] = {}
    for stored, tensor in tensors.items():
        try:
            numbers = tensor.float()
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"{path}: {stored} cannot be read as numbers ({_first_line(error)}); needed float32"
            ) from None
        if not torch.isfinite(numbers).all():
            raise InputError(f"{path}: {stored} holds numbers that are not finite; its training diverged")
        name = _current_name(stored)
        if name in weights:
            raise InputError(f"{path} has {name} twice, the second time as {stored}; needed each weight once")
        weights[name] = numbers
    return weights


def _current_name(name: str) -> str:
    name = _WRAPPERS.sub("", name)
    for old, new in RENAMED.items():
        name = name.replace(old, new)
    return f"bert.{name}" if name.startswith(_ENCODER_PARTS) else name


def _read_pickled(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # torch warns of unknown pickle protocols and then refuses them.
            warnings.simplefilter("ignore", UserWarning)
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is damaged or holds more than tensors, which could run code and was not loaded"
            f" ({_first_line(error)}); needed a {SAFETENSORS}"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        # Errors of torch.load for truncated and foreign files, depending on the damage.
        raise InputError(
            f"{path} is not a readable file of weights ({_first_line(error)}); get it again"
        ) from None
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise InputError(
            f"{path} does not hold a table of tensors; needed the state_dict of a BertForMaskedLM"
        )
    return tensors


def check_sizes(config: BertConfig, weights: Mapping[str, Tensor], source: Path) -> None:
    """Compare the sizes that a configuration declares with weights, before a model of these sizes is allocated.

    Parameters
    ----------
    config : BertConfig
    weights : mapping, name -> float32 tensor of any shape
        As returned by `read_weights`.
    source : Path
        Origin of the weights, for error messages.

    Raises
    ------
    InputError
        If they differ.
    """
    found = (re.match(r"bert\.encoder\.layer\.(\d{1,9})\.", name) for name in weights)
    layers = {int(match[1]) for match in found if match}
    missing = next((layer for layer in range(config.num_hidden_layers) if layer not in layers), None)
    if missing is not None:
        raise InputError(
            f"{source} has no weights for bert.encoder.layer.{missing}; needed {config.num_hidden_layers:,} layers"
        )
    hidden = config.hidden_size
    for name, rows in (
        ("bert.embeddings.word_embeddings.weight", config.vocab_size),
        ("bert.embeddings.position_embeddings.weight", config.max_position_embeddings),
        ("bert.embeddings.token_type_embeddings.weight", config.type_vocab_size),
        ("bert.encoder.layer.0.intermediate.dense.weight", config.intermediate_size),
    ):
        if name in weights:
            _check_shape(source, name, weights[name], (rows, hidden))


def _check_shape(source: Path, name: str, tensor: Tensor, needed: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != needed:
        raise InputError(
            f"{source} has {name} of shape {tuple(tensor.shape)}; the requested architecture needs {needed}"
        )


def fit_weights(
    model: PreTrainedModel,
    weights: dict[str, Tensor],
    source: Path,
    *,
    unused: tuple[str, ...] = UNUSED,
    may_lack: Sequence[str] = (),
) -> None:
    """Copy weights into a model. Every parameter must get one, and every weight must be used.

    Parameters
    ----------
    model : BertForMaskedLM or BertForSequenceClassification
        Changed in place, and only on success.
    weights : dict, name -> float32 tensor, the shape of the parameter
        As returned by `read_weights`.
    source : Path
        Origin of the weights, for error messages.
    unused : tuple of str, default `UNUSED`
        Prefixes of weights to ignore.
    may_lack : sequence of str, optional
        Prefixes of parameters. If no weight has such a prefix, those parameters stay unchanged; otherwise all
        of them are required.

    Raises
    ------
    InputError
        If a weight is missing, unexpected (and not in `unused`) or of another shape, or if the configuration
        ties the decoder to the embeddings but their weights differ.
    """
    # named_parameters lists a tied tensor once, under its first name.
    parameters = dict(model.named_parameters())
    used = {name: tensor for name, tensor in weights.items() if not name.startswith(unused)}
    for second, first in TIED.items():
        if second in parameters or second not in used:
            continue
        tensor = used.pop(second)
        if not torch.equal(used.setdefault(first, tensor), tensor):
            raise InputError(
                f"{source} ties {second} to {first} in config.json, but their weights differ;"
                ' needed equal weights or "tie_word_embeddings": false'
            )
    kind = type(model).__name__
    absent = tuple(prefix for prefix in may_lack if not any(name.startswith(prefix) for name in used))
    parameters = {name: tensor for name, tensor in parameters.items() if not name.startswith(absent)}
    if missing := parameters.keys() - used.keys():
        raise InputError(f"{source} has no weights for {_some(missing)}; needed those of a {kind}")
    if unexpected := used.keys() - parameters.keys():
        raise InputError(f"{source} has weights that a {kind} of its config.json lacks: {_some(unexpected)}")
    for name, parameter in parameters.items():
        _check_shape(source, name, used[name], tuple(parameter.shape))
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(used[name])


def _some(names: Collection[str]) -> str:
    """Name the first of `names`, and count the others."""
    first = min(names)
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"


def _first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
