"""The folder of a classifier: written, and opened again.

The head is the stock one of the model's family, or a linear layer in a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cmgems_cli.errors import InputError
from cmgems_cli.files import write_json
from cmgems_cli.modeling.classifier import OTHER_HEADS, SequenceClassifier, random_classifier, under_new_head
from cmgems_cli.modeling.families import family_settings, load_family_classifier
from cmgems_cli.modeling.folder import CONFIG, Architecture, read_architecture, read_settings, save_model
from cmgems_cli.modeling.head_outputs import Outputs, outputs_of
from cmgems_cli.modeling.own_tokenizer import OwnTokenizer
from cmgems_cli.modeling.weights import (
    SAFETENSORS,
    check_sizes,
    fit_weights,
    own_tensors,
    read_tensors,
    read_weights,
    write_tensors,
)

# How a sequence's states become one vector, and where config.json names it if not cls.
POOLS = ("cls", "mean", "max")
POOL_KEY = "cmgems_pool"
# Where config.json says that the logits of both strands are averaged.
STRANDS_KEY, AVERAGE = "cmgems_rc", "average"

# The file of a linear head that a frozen encoder got, and where config.json names its kind.
HEAD, HEAD_KEY, LINEAR = "head.safetensors", "cmgems_head", "linear"


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier opened from its folder.

    Attributes
    ----------
    model : BertForSequenceClassification, or another family's
        float32, on the CPU, in evaluation mode.
    architecture : Architecture
    label_names : tuple of str
        The classes by number.
    pool : cls, mean or max
    averages_strands : bool
    linear : torch.nn.Linear or None
        As in `SequenceClassifier`.
    outputs : Outputs
        What the logits mean.
    """

    model: Any
    architecture: Architecture
    label_names: tuple[str, ...]
    pool: str
    averages_strands: bool = False
    linear: torch.nn.Linear | None = None
    outputs: Outputs = field(default_factory=Outputs)

    @property
    def module(self) -> SequenceClassifier:
        """The model as it is used."""
        return SequenceClassifier(
            self.model,
            self.architecture.tokenization,
            self.pool,
            averages_strands=self.averages_strands,
            linear=self.linear,
            outputs=self.outputs,
        )


def load_classifier(folder: Path) -> LoadedClassifier:
    """Open a finished classifier.

    Raises
    ------
    InputError
        If the folder is missing, no classifier, names no labels, or its weights do not fill exactly its
        architecture.
    """
    architecture = read_architecture(folder, "classifier")
    config, settings = architecture.config, read_settings(folder / CONFIG)
    pool = settings.get(POOL_KEY, "cls")
    if pool not in POOLS:
        raise InputError(f"{folder / CONFIG} has {POOL_KEY} {pool!r}; needed one of {', '.join(POOLS)}")
    strands = settings.get(STRANDS_KEY)
    if strands not in (None, AVERAGE):
        raise InputError(f"{folder / CONFIG} has {STRANDS_KEY} {strands!r}; needed {AVERAGE}, or none")
    used = (pool, strands == AVERAGE)
    if (head := settings.get(HEAD_KEY)) is not None:
        if head != LINEAR:
            raise InputError(f"{folder / CONFIG} has {HEAD_KEY} {head!r}; this version reads {LINEAR!r}")
        label_names, outputs = _labels_and_outputs(folder, settings, 2)
        model = under_new_head(architecture, folder, 2, None, 0).eval()
        linear = _read_linear(folder / HEAD, int(config.hidden_size), len(label_names))
        return LoadedClassifier(model, architecture, label_names, *used, linear, outputs)
    if architecture.tokenization.k is None:
        label_names, outputs = _labels_and_outputs(folder, settings, 2)
        config.num_labels = len(label_names)
        model = load_family_classifier(folder, config)
        return LoadedClassifier(model, architecture, label_names, *used, outputs=outputs)
    weights = read_weights(folder)
    check_sizes(config, weights, folder)
    head = weights.get("classifier.weight")
    n_labels = len(head) if head is not None and head.dim() == 2 else None
    label_names, outputs = _labels_and_outputs(folder, settings, n_labels)
    model = random_classifier(config, len(label_names), seed=0)
    fit_weights(model, weights, folder, unused=OTHER_HEADS[2:])
    return LoadedClassifier(model.eval(), architecture, label_names, *used, outputs=outputs)


def _labels_and_outputs(
    folder: Path, settings: Mapping[str, Any], unnamed: int | None
) -> tuple[tuple[str, ...], Outputs]:
    """Return the labels of a classifier, and how its logits are read.

    transformers leaves out the names LABEL_0, LABEL_1 of two classes.
    """
    needed = "needed the folder of a classifier, which `cmgems finetune` makes"
    named = settings.get("id2label")
    if named is None and unnamed and unnamed > 1:
        named = {str(number): f"LABEL_{number}" for number in range(unnamed)}
    if not isinstance(named, dict) or not named:
        raise InputError(f"{folder / CONFIG} names no labels (id2label); {needed}")
    numbers = [str(number) for number in range(len(named))]
    if set(named) != set(numbers) or not all(isinstance(name, str) for name in named.values()):
        raise InputError(f"{folder / CONFIG} does not number its labels from 0 on; {needed}")
    try:
        return tuple(named[number] for number in numbers), outputs_of(settings, len(named))
    except ValueError as error:
        raise InputError(f"{folder / CONFIG} says {error}; {needed}") from None


def _read_linear(path: Path, hidden: int, n_labels: int) -> torch.nn.Linear:
    """Read a linear head (InputError if it is missing, damaged, or of other sizes)."""
    needed = {"weight": (n_labels, hidden), "bias": (n_labels,)}
    tensors = read_tensors(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if shapes != needed:
        raise InputError(f"{path} holds {shapes}; needed {needed}: make the classifier again")
    linear = torch.nn.Linear(hidden, n_labels)
    linear.load_state_dict(tensors)
    return linear


def save_classifier(folder: Path, classifier: SequenceClassifier, label_names: Sequence[str]) -> list[str]:
    """Write what `AutoModelForSequenceClassification` and `AutoTokenizer` open without remote code.

    With another pooling than cls, stock classes open the folder but read [CLS]: `cmgems_pool` in config.json tells.
    Where both strands are averaged, they read one: `cmgems_rc` tells.
    A linear head on a frozen encoder is a file of its own, `head.safetensors`, and `model.safetensors` the encoder,
    which `AutoModel` opens: `cmgems_head` in config.json tells.

    Parameters
    ----------
    folder : Path
        An existing folder.
    classifier : SequenceClassifier
    label_names : sequence of str
        The classes by number: `id2label` in config.json.

    Returns
    -------
    list of str
        The names written, for the manifest.
    """
    labels: dict[str, Any] = {
        "id2label": {str(number): name for number, name in enumerate(label_names)},
        "label2id": {name: number for number, name in enumerate(label_names)},
        **classifier.outputs.settings(),
    }
    if classifier.pool != "cls":
        labels[POOL_KEY] = classifier.pool
    if classifier.averages_strands:
        labels[STRANDS_KEY] = AVERAGE
    model, tokenization = classifier.model, classifier.tokenization
    written = []
    if classifier.linear is not None:
        labels[HEAD_KEY] = LINEAR
        model = classifier.encoder
        write_tensors(folder / HEAD, own_tensors(classifier.linear), {"format": "pt"})
        written = [HEAD]
    if isinstance(tokenization, OwnTokenizer):
        write_json(folder / CONFIG, {**family_settings(model.config), **labels})
        write_tensors(folder / SAFETENSORS, own_tensors(model), {"format": "pt"})
        return [*written, CONFIG, SAFETENSORS, *tokenization.copy_files(folder)]
    assert tokenization.k is not None
    return [*written, *save_model(folder, model, tokenization.k, extra_config=labels)]
