"""The masked-LM loss of a packed batch as plain functions of tensors, for CUDA cards.

The same mathematics as the stock modules, arranged for a card: weights are copied once per step to the dtype of
the products, instead of being cast wherever they are used, and so are the states between layers; queries, keys and
values are one product; the head has a multiple of 64 columns. Master weights, gradients, moments and the statistics
of LayerNorm are float32. Functions without modules can be compiled as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertForMaskedLM
from transformers.models.bert.modeling_bert import BertLayer

from cmgems_cli.modeling.encoder import Packing
from cmgems_cli.modeling.packed_attention import packed_attention

# ours: a product with an odd number of columns, as of a head for 4,101 tokens, cannot use a card's matrix units
# well (pytorch issue 146817).
COLUMNS = 64

# ours: more than the shapes of any run (`batching.fixed_shape`). torch's own limit, 8, is for shapes without end.
_COMPILED_SHAPES = 64


class Affine(NamedTuple):
    """Weight, shape (outputs, inputs) or (width,), and bias, shape (outputs,) or (width,)."""

    weight: Tensor
    bias: Tensor


class Layer(NamedTuple):
    """Weights of an encoder layer: of the products, and of the LayerNorm after each half."""

    attention_in: Affine
    attention_out: Affine
    attention_norm: Affine
    inner: Affine
    outer: Affine
    norm: Affine


class Head(NamedTuple):
    """Weights of the vocabulary head; the columns beyond the vocabulary have weight 0 and bias -inf."""

    transform: Affine
    norm: Affine
    decoder: Affine


class Settings(NamedTuple):
    """What is the same in all layers: constants of compiled code.

    Attributes
    ----------
    heads : int
    activation : callable
        Of the feed-forward block, and of the head.
    eps : float
        Of LayerNorm.
    dropout, attention_dropout : float
        Of hidden states and of attention weights; 0 without training.
    longest : int
        At least the length of the longest sequence.
    """

    heads: int
    activation: Callable[[Tensor], Tensor]
    eps: float
    dropout: float
    attention_dropout: float
    longest: int


class PackedLM:
    """Computes the loss of a stock model on packed batches.

    Parameters
    ----------
    model : BertForMaskedLM
    """

    def __init__(self, model: BertForMaskedLM) -> None:
        self._model = model
        # Whether copies are kept until the weights change. A recorded step must make them itself.
        self.keeps_copies = True
        self._kept: tuple[Any, tuple[list[Layer], Head]] | None = None

    def loss(
        self,
        input_ids: Tensor,
        packing: Packing,
        masked_index: Tensor,
        labels: Tensor,
        dtype: torch.dtype,
        *,
        training: bool,
        compiling: bool,
    ) -> Tensor:
        """Return the sum of the cross-entropies over the masked positions.

        Parameters
        ----------
        input_ids : int64, shape (tokens,)
        packing : Packing
        masked_index : int64, shape (m,)
            Indices of the masked positions; m may be 0.
        labels : int64, shape (m,)
            The original token ids there; -100 counts nothing.
        dtype : torch.dtype
            Of products and states.
        training : bool
            Draw dropout.
        compiling : bool
            Compile the functions of layers and head at their first call.

        Returns
        -------
        float32 (float64 of float64 weights), scalar, nats
        """
        model = self._model
        embeddings, config = model.bert.embeddings, model.config
        settings = Settings(
            heads=config.num_attention_heads,
            activation=model.bert.encoder.layer[0].intermediate.intermediate_act_fn,
            eps=config.layer_norm_eps,
            dropout=embeddings.dropout.p if training else 0.0,
            attention_dropout=model.bert.encoder.layer[0].attention.self.dropout.p if training else 0.0,
            longest=packing.longest,
        )
        embed, apply, apply_at, head_loss = _embed, _apply, _apply_at, _head_loss
        if compiling:
            embed, apply, apply_at, head_loss = map(compiled_for_a_shape, (embed, apply, apply_at, head_loss))
        layers, head = self._copies(dtype)
        # In float32: these are sums of rows, not products, and rounding them would cost more than it saves.
        hidden = embed(
            input_ids,
            packing.positions[0],
            embeddings.word_embeddings.weight,
            embeddings.position_embeddings.weight,
            embeddings.token_type_embeddings.weight,
            _affine(embeddings.LayerNorm),
            settings,
        ).to(dtype)
        *lower, last = layers
        for layer in lower:
            hidden = apply(layer, hidden, packing.bounds, settings)
        states = apply_at(last, hidden, packing.bounds, masked_index, settings)
        loss: Tensor = head_loss(head, states, labels, settings)
        return loss

    def _copies(self, dtype: torch.dtype) -> tuple[list[Layer], Head]:
        """Return the weights in `dtype`, connected to the masters: their gradients arrive there in float32."""
        if not self.keeps_copies:
            return _copied(self._model, dtype)
        # Every change in place, the engine's or a loaded checkpoint's, raises the version.
        versions = tuple(parameter._version for parameter in self._model.parameters())
        key = (dtype, torch.is_grad_enabled(), versions)
        if self._kept is None or self._kept[0] != key:
            self._kept = None  # before the new ones are made: there is no room for two
            self._kept = key, _copied(self._model, dtype)
        return self._kept[1]


@cache
def compiled_for_a_shape(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function with `torch.compile`, as one graph for each shape of its inputs and for all layers."""
    limits = torch._dynamo.config
    # The older name is that of torch before 2.7.
    name = "recompile_limit" if hasattr(limits, "recompile_limit") else "cache_size_limit"
    setattr(limits, name, max(getattr(limits, name), _COMPILED_SHAPES))
    return torch.compile(function, fullgraph=True, dynamic=False)


def _copied(model: BertForMaskedLM, dtype: torch.dtype) -> tuple[list[Layer], Head]:
    predictions = model.cls.predictions
    weight, bias = predictions.decoder.weight.to(dtype), predictions.decoder.bias.to(dtype)
    missing = -len(weight) % COLUMNS
    head = Head(
        _affine(predictions.transform.dense, dtype=dtype),
        _affine(predictions.transform.LayerNorm, dtype=dtype),
        Affine(
            functional.pad(weight, (0, 0, 0, missing)), functional.pad(bias, (0, missing), value=-torch.inf)
        ),
    )
    return [_copied_layer(layer, dtype) for layer in model.bert.encoder.layer], head


def _copied_layer(layer: BertLayer, dtype: torch.dtype) -> Layer:
    attention, inner, outer = layer.attention, layer.intermediate, layer.output
    inputs = (attention.self.query, attention.self.key, attention.self.value)
    return Layer(
        _affine(*inputs, dtype=dtype),
        _affine(attention.output.dense, dtype=dtype),
        _affine(attention.output.LayerNorm, dtype=dtype),
        _affine(inner.dense, dtype=dtype),
        _affine(outer.dense, dtype=dtype),
        _affine(outer.LayerNorm, dtype=dtype),
    )


def _affine(*modules: Any, dtype: torch.dtype | None = None) -> Affine:
    """Return weight and bias of modules, one after the other, in `dtype` if given."""
    weights, biases = [one.weight for one in modules], [one.bias for one in modules]
    weight, bias = (torch.cat(many) if len(many) > 1 else many[0] for many in (weights, biases))
    return Affine(weight, bias) if dtype is None else Affine(weight.to(dtype), bias.to(dtype))


# ------------------------------------------------------------------ functions of tensors, to be compiled


def _embed(
    input_ids: Tensor,
    positions: Tensor,
    words: Tensor,
    places: Tensor,
    types: Tensor,
    norm: Affine,
    settings: Settings,
) -> Tensor:
    hidden = functional.embedding(input_ids, words) + functional.embedding(positions, places) + types[0]
    return functional.dropout(_norm(hidden, norm, settings), settings.dropout)


def _apply(layer: Layer, hidden: Tensor, bounds: Tensor, settings: Settings) -> Tensor:
    context = _attend(layer, hidden, bounds, settings)
    return _after_attention(layer, context, hidden, settings)


def _apply_at(layer: Layer, hidden: Tensor, bounds: Tensor, index: Tensor, settings: Settings) -> Tensor:
    context = _attend(layer, hidden, bounds, settings)
    return _after_attention(layer, context.index_select(0, index), hidden.index_select(0, index), settings)


def _attend(layer: Layer, hidden: Tensor, bounds: Tensor, settings: Settings) -> Tensor:
    tokens, width = hidden.shape
    together = functional.linear(hidden, *layer.attention_in).view(tokens, 3, settings.heads, -1)
    query, key, value = together.unbind(1)
    context = packed_attention(query, key, value, bounds, settings.longest, settings.attention_dropout)
    return context.view(tokens, width)


def _after_attention(layer: Layer, context: Tensor, hidden: Tensor, settings: Settings) -> Tensor:
    context = functional.dropout(functional.linear(context, *layer.attention_out), settings.dropout)
    hidden = _norm(context + hidden, layer.attention_norm, settings)
    inner = settings.activation(functional.linear(hidden, *layer.inner))
    outer = functional.dropout(functional.linear(inner, *layer.outer), settings.dropout)
    return _norm(outer + hidden, layer.norm, settings)


def _head_loss(head: Head, states: Tensor, labels: Tensor, settings: Settings) -> Tensor:
    states = _norm(settings.activation(functional.linear(states, *head.transform)), head.norm, settings)
    logits = functional.linear(states, *head.decoder)
    # Always float32: a sum over thousands of positions exceeds the precision of bfloat16.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return functional.cross_entropy(logits, labels, reduction="sum")


def _norm(hidden: Tensor, norm: Affine, settings: Settings) -> Tensor:
    # Mean and variance are float32 inside, whatever the dtype.
    return functional.layer_norm(hidden, hidden.shape[-1:], *norm, settings.eps)
