"""A stock BERT with a head that classifies sequences: made from any model folder, opened again, written.

The head is stock BERT's: pooler, dropout and a linear layer on the state of [CLS] (`encoder.states_at`
computes the last layer at that token alone).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification

from cmgems_cli import draws
from cmgems_cli.errors import InputError
from cmgems_cli.modeling.encoder import Packing, states_at
from cmgems_cli.modeling.folder import CONFIG, read_config, read_settings, save_model, vocabulary_k
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.modeling.weights import check_sizes, fit_weights, read_weights

# Heads of other tasks, and tables that are computed: of no use to a new task.
_OTHER_HEADS = ("cls.", "classifier.", "bert.embeddings.position_ids", "bert.embeddings.token_type_ids")

# Masked-LM pretraining trains no pooler; DNABERT's published folders have one all the same.
_POOLER = "bert.pooler."

# A label that no loss is taken of: torch's default, written out since batches are filled with it.
NO_LABEL = -100


class SequenceClassifier(torch.nn.Module):
    """A stock `BertForSequenceClassification` that returns the sum of its losses.

    Attributes
    ----------
    bert_classifier : BertForSequenceClassification
        The wrapped model; what goes to disk.
    """

    def __init__(self, bert_classifier: BertForSequenceClassification) -> None:
        super().__init__()
        self.bert_classifier = bert_classifier

    def forward(self, input_ids: Tensor, attention_mask: Tensor | Packing | None, labels: Tensor) -> Tensor:
        """Return the sum of the cross-entropies of the sequences.

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
        return functional.cross_entropy(
            self.logits(input_ids, attention_mask), labels, reduction="sum", ignore_index=NO_LABEL
        )

    def logits(self, input_ids: Tensor, attention_mask: Tensor | Packing | None) -> Tensor:
        """Return the logits of each sequence: float32, shape (b, n_labels)."""
        b, t = input_ids.shape
        model = self.bert_classifier
        if isinstance(attention_mask, Packing):
            first = attention_mask.first_tokens
        else:
            first = torch.arange(b, device=input_ids.device) * t
        states = states_at(model.bert, input_ids, attention_mask, first)
        # Stock BERT's pooler takes the first token of each sequence: here there is no other.
        pooled = model.dropout(model.bert.pooler(states[:, None]))
        logits: Tensor = model.classifier(pooled)
        return logits.float()


@dataclass(frozen=True)
class LoadedClassifier:
    """A classifier opened from its folder.

    Attributes
    ----------
    model : BertForSequenceClassification
        float32, on the CPU, in evaluation mode.
    k : int, bases
    label_names : tuple of str
        The classes by number.
    """

    model: BertForSequenceClassification
    k: int
    label_names: tuple[str, ...]


def new_classifier(
    source: ModelSource, n_labels: int, *, dropout: float | None = None, seed: int = 42
) -> BertForSequenceClassification:
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
    BertForSequenceClassification
        float32, on the CPU, in training mode, with SDPA attention.

    Raises
    ------
    InputError
        If a folder is missing or not what is needed, its vocabulary is in another order, or its weights do
        not fill exactly its encoder.
    """
    config, _ = source.config_for(None)
    config = copy.deepcopy(config)
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
    config = read_config(folder, "classifier")
    k = vocabulary_k(folder, config.vocab_size)
    weights = read_weights(folder)
    check_sizes(config, weights, folder)
    label_names = _label_names(folder, weights)
    model = _random_classifier(config, len(label_names), seed=0)
    fit_weights(model, weights, folder, unused=_OTHER_HEADS[2:])
    return LoadedClassifier(model.eval(), k, label_names)


def _label_names(folder: Path, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the labels of a classifier; transformers leaves out the names LABEL_0, LABEL_1 of two classes."""
    needed = "needed the folder of a classifier, which `cmgems finetune` makes"
    named = read_settings(folder / CONFIG).get("id2label")
    head = weights.get("classifier.weight")
    if named is None and head is not None and head.dim() == 2:
        named = {str(number): f"LABEL_{number}" for number in range(len(head))}
    if not isinstance(named, dict) or len(named) < 2:
        raise InputError(f"{folder / CONFIG} names no labels (id2label); {needed}")
    numbers = [str(number) for number in range(len(named))]
    if set(named) != set(numbers) or not all(isinstance(name, str) for name in named.values()):
        raise InputError(f"{folder / CONFIG} does not number its labels from 0 on; {needed}")
    return tuple(named[number] for number in numbers)


def save_classifier(
    folder: Path, model: BertForSequenceClassification, k: int, label_names: Sequence[str]
) -> list[str]:
    """Write what `AutoModelForSequenceClassification` and `AutoTokenizer` open without remote code.

    Parameters
    ----------
    folder, model, k
        As in `folder.save_model`.
    label_names : sequence of str
        The classes by number: `id2label` in config.json.

    Returns
    -------
    list of str
        The names written, for the manifest.
    """
    labels = {
        "id2label": {str(number): name for number, name in enumerate(label_names)},
        "label2id": {name: number for number, name in enumerate(label_names)},
        "problem_type": "single_label_classification",
    }
    return save_model(folder, model, k, extra_config=labels)
