"""A model with a head that classifies sequences, made from any model folder.

The head is the stock one of the model's family. BERT's is a pooler, dropout and a linear layer on the state of
[CLS] (`encoder.states_at` computes the last layer at that token alone).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from cmgems_cli import draws
from cmgems_cli.genome.tokenization import Tokenization
from cmgems_cli.modeling.encoder import Packing, hidden_states, states_at
from cmgems_cli.modeling.families import (
    encoder_of,
    family_states,
    head_logits,
    new_family_classifier,
)
from cmgems_cli.modeling.folder import Architecture
from cmgems_cli.modeling.head_outputs import Outputs
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.modeling.pooling import has_content, pool_states
from cmgems_cli.modeling.weights import (
    check_sizes,
    fit_weights,
    read_weights,
)

# Heads of other tasks, and tables that are computed: of no use to a new task.
OTHER_HEADS = ("cls.", "classifier.", "bert.embeddings.position_ids", "bert.embeddings.token_type_ids")

# Masked-LM pretraining trains no pooler; DNABERT's published folders have one all the same.
_POOLER = "bert.pooler."


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
    linear : torch.nn.Linear or None
        Reads that vector in place of the family's own head, which is then of no use: of frozen encoders. The
        encoder's pooler, which only that head reads, is dropped.
    outputs : Outputs
        What the logits mean.
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
        linear: torch.nn.Linear | None = None,
        outputs: Outputs | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenization = tokenization
        self.pool = pool
        self.averages_strands = averages_strands
        self.outputs = outputs or Outputs()
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.linear = linear
        if linear is not None and getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None

    @property
    def packs(self) -> bool:
        """Whether it can read packed batches."""
        return isinstance(self.model, BertForSequenceClassification) and self.pool == "cls"

    @property
    def opens_in_transformers(self) -> bool:
        """Whether the stock class for sequence classification computes the same from its folder."""
        stock = self.linear is None and isinstance(self.model, PreTrainedModel)
        return self.pool == "cls" and not self.averages_strands and stock

    @property
    def content(self) -> str | None:
        """Which states of a sequence are not of special tokens, such as `1:-1`; None if `AutoModel` lacks the model."""
        if not isinstance(self.model, PreTrainedModel):
            return None
        specials = self.tokenization.specials
        return f"{len(specials.prefix)}:{-len(specials.suffix) or ''}"

    @property
    def weights(self) -> int:
        """Number of weights that affect the logits."""
        parts = [self.model] if self.linear is None else [self.encoder, self.linear]
        return sum(parameter.numel() for part in parts for parameter in part.parameters())

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
        """Return the sum of the losses of the sequences (`Outputs.loss`), each times the weight of its class.

        Parameters
        ----------
        input_ids : int64, shape (b, t)
            Token ids with special tokens, [CLS] first.
        attention_mask : bool or integer, shape (b, t), or Packing, optional
            As in `encoder.states_at`.
        labels : int64 or float32, shape (b,), or int64, shape (b, n_labels)
            Those of `no_labels` count nothing: the loss is a zero that still reaches every parameter, so that all
            processes reduce the same gradients.

        Returns
        -------
        float32, scalar, nats
        """
        return self.loss_sum(self.logits(input_ids, attention_mask), labels)

    def loss_sum(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of the losses of sequences, with the class weights.

        Parameters
        ----------
        logits : floating, shape (b, n_labels)
        labels
            As in `Outputs.loss`.

        Returns
        -------
        scalar, in the dtype of the logits
        """
        return self.outputs.loss(logits, labels, self.class_weights)

    def logits(self, input_ids: Tensor, attention_mask: Tensor | Packing | None) -> Tensor:
        """Return the logits of each sequence: float32, shape (b, n_labels)."""
        model, kmers = self.model, isinstance(self.model, BertForSequenceClassification)
        if self.linear is not None:
            return self.linear(self.pooled(input_ids, attention_mask)).float()
        if self.pool == "cls" and isinstance(model, PreTrainedModel) and not kmers:
            # Some families pool in their own way.
            family: Tensor = model(input_ids=input_ids, attention_mask=attention_mask).logits
            return family.float()
        return head_logits(model, self.pooled(input_ids, attention_mask)).float()

    def pooled(self, input_ids: Tensor, attention_mask: Tensor | Packing | None) -> Tensor:
        """Return the vector of each sequence that a head reads: floating, shape (b, hidden)."""
        if self.pool == "cls":
            return self.first_states(input_ids, attention_mask)
        assert not isinstance(attention_mask, Packing)
        (states,) = self.hidden_states(input_ids, attention_mask, [self.n_layers])
        return pool_states(states, has_content(input_ids, self.tokenization.specials), self.pool)


def new_classifier(
    source: ModelSource, n_labels: int, *, dropout: float | None = None, seed: int = 42
) -> Any:
    """Make a classifier for training.

    Parameters
    ----------
    source : ModelSource
        Its encoder is taken, and its pooler if it has one; heads of other tasks are left behind.
    n_labels : int
        Classes or labels; 1 of a regression.
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
    return under_new_head(source.architecture, source.weights, n_labels, dropout, seed)


def under_new_head(
    architecture: Architecture, folder: Path | None, n_labels: int, dropout: float | None, seed: int
) -> Any:
    """Return an encoder with the weights of a folder (None: random) under a new head, in training mode."""
    if architecture.tokenization.k is None:
        return new_family_classifier(architecture.config, n_labels, folder, dropout=dropout, seed=seed)
    config = copy.deepcopy(architecture.config)
    if dropout is not None:
        config.hidden_dropout_prob = dropout
    if folder is None:
        return random_classifier(config, n_labels, seed).train()
    weights = read_weights(folder)
    check_sizes(config, weights, folder)
    model = random_classifier(config, n_labels, seed).train()
    fit_weights(model, weights, folder, unused=OTHER_HEADS, may_lack=(_POOLER, "classifier."))
    return model


def random_classifier(config: BertConfig, n_labels: int, seed: int) -> BertForSequenceClassification:
    config._attn_implementation = "sdpa"
    config.num_labels = n_labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draws.key(seed, draws.WEIGHTS)))
        return BertForSequenceClassification(config)
