"""A model with a head that classifies sequences: made from any model folder, opened again, written.

The head is the stock one of the model's family. BERT's is a pooler, dropout and a linear layer on the state of
[CLS] (`encoder.states_at` computes the last layer at that token alone).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from cmgems_cli import draws
from cmgems_cli.errors import InputError
from cmgems_cli.files import write_json
from cmgems_cli.genome.tokenization import Tokenization
from cmgems_cli.modeling.encoder import Packing, hidden_states, states_at
from cmgems_cli.modeling.families import (
    encoder_of,
    family_settings,
    family_states,
    head_logits,
    load_family_classifier,
    new_family_classifier,
)
from cmgems_cli.modeling.folder import CONFIG, Architecture, read_architecture, read_settings, save_model
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.modeling.own_tokenizer import OwnTokenizer
from cmgems_cli.modeling.pooling import has_content, pool_states
from cmgems_cli.modeling.weights import (
    SAFETENSORS,
    check_sizes,
    fit_weights,
    own_tensors,
    read_weights,
    write_tensors,
)

# Heads of other tasks, and tables that are computed: of no use to a new task.
_OTHER_HEADS = ("cls.", "classifier.", "bert.embeddings.position_ids", "bert.embeddings.token_type_ids")

# Masked-LM pretraining trains no pooler; DNABERT's published folders have one all the same.
_POOLER = "bert.pooler."

# How a sequence's states become one vector, and where config.json names it if not cls.
POOLS = ("cls", "mean", "max")
POOL_KEY = "cmgems_pool"
# Where config.json says that the logits of both strands are averaged.
STRANDS_KEY, AVERAGE = "cmgems_rc", "average"

# A label that no loss is taken of: torch's default, written out since batches are filled with it.
NO_LABEL = -100


class SequenceClassifier(torch.nn.Module):
    """A family's model for sequence classification that returns the sum of its losses.

    Attributes
    ----------
    model : BertForSequenceClassification, or another family's
        The wrapped model; what goes to disk.
    tokenization : Tokenization
    pool : cls, mean or max
        How a sequence's states become the vector that the head reads.
    averages_strands : bool
        Whether whoever uses the model averages the logits of a sequence and of its reverse complement. `logits`
        reads the strand that it is given.
    class_weights : float32 tensor, shape (n_labels,), or None
        Factors of the losses of each class's rows in training.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        model: Any,
        tokenization: Tokenization,
        pool: str = "cls",
        *,
        averages_strands: bool = False,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenization = tokenization
        self.pool = pool
        self.averages_strands = averages_strands
        self.register_buffer("class_weights", class_weights, persistent=False)

    @property
    def packs(self) -> bool:
        """Whether it can read packed batches."""
        return isinstance(self.model, BertForSequenceClassification) and self.pool == "cls"

    @property
    def opens_in_transformers(self) -> bool:
        """Whether the stock class for sequence classification computes the same from its folder."""
        return self.pool == "cls" and not self.averages_strands and isinstance(self.model, PreTrainedModel)

    @property
    def encoder(self) -> Any:
        """The family's encoder, without a head."""
        return encoder_of(self.model)

    @property
    def n_layers(self) -> int:
        """Layers of the encoder."""
        return int(self.model.config.num_hidden_layers)

    @property
    def hidden_size(self) -> int:
        """Width of a state."""
        return int(self.model.config.hidden_size)

    def hidden_states(
        self, input_ids: Tensor, attention_mask: Tensor | None, layers: Sequence[int]
    ) -> list[Tensor]:
        """Return the states of selected layers at every token.

        Parameters
        ----------
        input_ids, attention_mask
            As in `logits`.
        layers : sequence of int
            0 is the output of the embeddings, n that of layer n.

        Returns
        -------
        list of floating tensors, shape (b, t, hidden)
        """
        if isinstance(self.model, BertForSequenceClassification):
            return hidden_states(self.model.bert, input_ids, attention_mask, layers)
        states = family_states(self.model, input_ids, attention_mask)
        return [states[layer] for layer in layers]

    def first_states(self, input_ids: Tensor, attention_mask: Tensor | Packing | None) -> Tensor:
        """Return the last layer's state of each sequence's first token: floating, shape (b, hidden)."""
        if not isinstance(self.model, BertForSequenceClassification):
            assert not isinstance(attention_mask, Packing)
            return family_states(self.model, input_ids, attention_mask)[-1][:, 0]
        b, t = input_ids.shape
        if isinstance(attention_mask, Packing):
            first = attention_mask.first_tokens
        else:
            first = torch.arange(b, device=input_ids.device) * t
        return states_at(self.model.bert, input_ids, attention_mask, first)

    @property
    def draws_dropout(self) -> bool:
        """Whether training draws dropout, in modules or in a family's functions."""
        settings = vars(self.model.config)
        return any("dropout" in name and isinstance(p, float) and p > 0 for name, p in settings.items())

    def forward(self, input_ids: Tensor, attention_mask: Tensor | Packing | None, labels: Tensor) -> Tensor:
        """Return the sum of the cross-entropies of the sequences, each times the weight of its class.

        Parameters
        ----------
        input_ids : int64, shape (b, t)
            Token ids with special tokens, [CLS] first.
        attention_mask : bool or integer, shape (b, t), or Packing, optional
            As in `encoder.states_at`.
        labels : int64, shape (b,)
            Classes. `NO_LABEL` counts nothing: where all are, the loss is a zero that still reaches every
            parameter, so that all processes reduce the same gradients.

        Returns
        -------
        float32, scalar, nats
        """
        return self.loss_sum(self.logits(input_ids, attention_mask), labels)

    def loss_sum(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the losses of sequences, in nats.

        With class weights of mean 1 over the training rows, this sum divided by the number of rows is a mean, and
        unlike the quotient by the sum of the weights it does not depend on how rows are put into micro-batches.

        Parameters
        ----------
        logits : floating, shape (b, n_labels)
        labels : int64, shape (b,)
            `NO_LABEL` counts nothing.

        Returns
        -------
        scalar, in the type of the logits
        """
        weights = None if self.class_weights is None else self.class_weights.to(logits)
        return functional.cross_entropy(logits, labels, weights, reduction="sum", ignore_index=NO_LABEL)

    def logits(self, input_ids: Tensor, attention_mask: Tensor | Packing | None) -> Tensor:
        """Return the logits of each sequence: float32, shape (b, n_labels)."""
        model, kmers = self.model, isinstance(self.model, BertForSequenceClassification)
        if self.pool != "cls":
            assert not isinstance(attention_mask, Packing)
            (states,) = self.hidden_states(input_ids, attention_mask, [self.n_layers])
            pooled = pool_states(states, has_content(input_ids, self.tokenization.specials), self.pool)
        elif isinstance(model, PreTrainedModel) and not kmers:
            # Some families pool in their own way.
            family: Tensor = model(input_ids=input_ids, attention_mask=attention_mask).logits
            return family.float()
        else:
            pooled = self.first_states(input_ids, attention_mask)
        return head_logits(model, pooled).float()


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
    """

    model: Any
    architecture: Architecture
    label_names: tuple[str, ...]
    pool: str
    averages_strands: bool = False

    @property
    def module(self) -> SequenceClassifier:
        """The model as it is used."""
        return SequenceClassifier(
            self.model, self.architecture.tokenization, self.pool, averages_strands=self.averages_strands
        )


def new_classifier(
    source: ModelSource, n_labels: int, *, dropout: float | None = None, seed: int = 42
) -> Any:
    """Make a classifier for training.

    Parameters
    ----------
    source : ModelSource
        Its encoder is taken, and its pooler if it has one; heads of other tasks are left behind.
    n_labels : int
        Classes, 2 or more.
    dropout : float, in [0, 1), optional
        Of hidden layers and of the head; the model's own by default.
    seed : int, default 42
        Random weights, the head's among them, are a function of it, the architecture and the number of
        classes; torch's own random state is neither used nor changed.

    Returns
    -------
    BertForSequenceClassification, or another family's model
        float32, on the CPU, in training mode, with SDPA attention where the family has it.

    Raises
    ------
    InputError
        If a folder is missing or not what is needed, its vocabulary is in another order, or its weights do
        not fill exactly its encoder.
    """
    if source.tokenization.k is None:
        return new_family_classifier(source.config, n_labels, source.weights, dropout=dropout, seed=seed)
    config = copy.deepcopy(source.config)
    if dropout is not None:
        config.hidden_dropout_prob = dropout
    if source.weights is None:
        return _random_classifier(config, n_labels, seed).train()
    weights = read_weights(source.weights)
    check_sizes(config, weights, source.weights)
    model = _random_classifier(config, n_labels, seed).train()
    fit_weights(model, weights, source.weights, unused=_OTHER_HEADS, may_lack=(_POOLER, "classifier."))
    return model


def _random_classifier(config: BertConfig, n_labels: int, seed: int) -> BertForSequenceClassification:
    config._attn_implementation = "sdpa"
    config.num_labels = n_labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draws.key(seed, draws.WEIGHTS)))
        return BertForSequenceClassification(config)


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
    if architecture.tokenization.k is None:
        label_names = _label_names(folder, settings, 2)
        config.num_labels = len(label_names)
        return LoadedClassifier(load_family_classifier(folder, config), architecture, label_names, *used)
    weights = read_weights(folder)
    check_sizes(config, weights, folder)
    head = weights.get("classifier.weight")
    label_names = _label_names(folder, settings, len(head) if head is not None and head.dim() == 2 else None)
    model = _random_classifier(config, len(label_names), seed=0)
    fit_weights(model, weights, folder, unused=_OTHER_HEADS[2:])
    return LoadedClassifier(model.eval(), architecture, label_names, *used)


def _label_names(folder: Path, settings: Mapping[str, Any], unnamed: int | None) -> tuple[str, ...]:
    """Return the labels of a classifier; transformers leaves out the names LABEL_0, LABEL_1 of two classes."""
    needed = "needed the folder of a classifier, which `cmgems finetune` makes"
    named = settings.get("id2label")
    if named is None and unnamed:
        named = {str(number): f"LABEL_{number}" for number in range(unnamed)}
    if not isinstance(named, dict) or len(named) < 2:
        raise InputError(f"{folder / CONFIG} names no labels (id2label); {needed}")
    numbers = [str(number) for number in range(len(named))]
    if set(named) != set(numbers) or not all(isinstance(name, str) for name in named.values()):
        raise InputError(f"{folder / CONFIG} does not number its labels from 0 on; {needed}")
    return tuple(named[number] for number in numbers)


def save_classifier(folder: Path, classifier: SequenceClassifier, label_names: Sequence[str]) -> list[str]:
    """Write what `AutoModelForSequenceClassification` and `AutoTokenizer` open without remote code.

    With another pooling than cls, stock classes open the folder but read [CLS]: `cmgems_pool` in config.json tells.
    Where both strands are averaged, they read one: `cmgems_rc` tells.

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
        "problem_type": "single_label_classification",
    }
    if classifier.pool != "cls":
        labels[POOL_KEY] = classifier.pool
    if classifier.averages_strands:
        labels[STRANDS_KEY] = AVERAGE
    model, tokenization = classifier.model, classifier.tokenization
    if isinstance(tokenization, OwnTokenizer):
        write_json(folder / CONFIG, {**family_settings(model.config), **labels})
        write_tensors(folder / SAFETENSORS, own_tensors(model), {"format": "pt"})
        return [CONFIG, SAFETENSORS, *tokenization.copy_files(folder)]
    assert tokenization.k is not None
    return save_model(folder, model, tokenization.k, extra_config=labels)
