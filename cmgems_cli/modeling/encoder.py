"""BERT's encoder, with the last layer computed at selected tokens only, using the modules of a stock `BertModel`.

A masked-LM loss reads the last layer at one token in seven, a classifier at one token per sequence. The last
layer's feed-forward block does not mix tokens, so running it at those tokens alone does not change the
result; for the two layers of `logo` it halves the work. The weights stay in the stock modules, and their
names and files are unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention

from cmgems_cli.modeling.packed_attention import packed_attention, packed_attention_works


class Packing(NamedTuple):
    """Bounds of the sequences in a packed batch, which concatenates them without padding.

    After them comes filler of [PAD], so that batches have few different sizes and matrix kernels are selected
    rarely. It attends only to itself, and its states are never used.

    Attributes
    ----------
    bounds : int32, shape (n,), n at least n_sequences + 2
        Where each sequence starts, where each sequence of filler starts, and where the last one ends; that end
        again in entries left over.
    positions : int64, shape (1, tokens)
        Position of each token in its sequence; 0 in filler.
    longest : int
        At least the length of the longest sequence.
    n_sequences : int
        Without filler.
    """

    bounds: Tensor
    positions: Tensor
    longest: int
    n_sequences: int

    @property
    def first_tokens(self) -> Tensor:
        """Index of each sequence's [CLS]: int64, shape (sequences,)."""
        return self.bounds[: self.n_sequences].long()


def packs_sequences(device: torch.device, precision: str) -> bool:
    """Return whether batches are packed rather than padded: if attention has a kernel for packed batches.

    On CUDA a micro-batch costs thousands of kernel launches, so few large batches with sequences of many
    lengths are best. FlashAttention supports 16-bit numbers on GPUs from Ampere on.
    """
    able = (
        device.type == "cuda" and precision == "bf16" and torch.cuda.get_device_capability(device) >= (8, 0)
    )
    return able and packed_attention_works(device)


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of a layer or other module with `torch.compile`, once for all modules.

    Compiling once per layer took minutes for the twelve layers of dnabert. Shapes may vary.
    """
    return torch.compile(function, dynamic=True)


def states_at(
    bert: BertModel,
    input_ids: Tensor,
    attention_mask: Tensor | Packing | None,
    index: Tensor,
    *,
    compiling: bool = False,
) -> Tensor:
    """Return the last hidden states at selected tokens.

    Equal, up to rounding, to `bert(input_ids, attention_mask).last_hidden_state.flatten(0, 1)[index]`. In
    training with dropout above 0 the draws differ from those of the stock forward, but not their distribution.

    Parameters
    ----------
    bert : BertModel
        A stock encoder (absolute positions, not a decoder). All inputs have token type 0.
    input_ids : int64, shape (b, t)
        Token ids with special tokens, t at most `max_position_embeddings`.
    attention_mask : bool or integer, shape (b, t), or Packing, optional
        Nonzero at real tokens, zero at padding. Omit it without padding: fused attention kernels are faster
        then. Every sequence has at least one real token. Give the `Packing` of a packed batch, where b = 1.
    index : int64, shape (m,)
        Flat indices into b × t, in any order; m may be 0.
    compiling : bool, default False
        Compile the functions at their first call.

    Returns
    -------
    floating, shape (m, hidden)
        bfloat16 or float32, as set by autocast.
    """
    embed, apply, apply_at = _embed, _apply_layer, _apply_layer_at
    if compiling:
        embed, apply, apply_at = compiled(embed), compiled(apply), compiled(apply_at)
    hidden, mask = embed(bert, input_ids, attention_mask)
    *lower, last = bert.encoder.layer
    for layer in lower:
        hidden = apply(layer, hidden, mask)
    selected: Tensor = apply_at(last, hidden, mask, index)
    return selected


def _apply_layer_at(layer: BertLayer, hidden: Tensor, mask: Tensor | Packing | None, index: Tensor) -> Tensor:
    """Return a layer's states at selected tokens: flat indices into `hidden`, (b, t, hidden)."""
    b, t, _ = hidden.shape
    flat = hidden.reshape(b * t, -1)
    if not isinstance(mask, Packing) and restricts_queries(hidden):
        source, slot = _group_queries(index, b, t)
        queries = flat.index_select(0, source).view(b, -1, flat.shape[1])
        context = _attention(layer.attention.self, queries, hidden, mask)
        context = context.flatten(0, 1).index_select(0, slot)
    else:
        context = _attention(layer.attention.self, hidden, hidden, mask).flatten(0, 1).index_select(0, index)
    states: Tensor = layer.feed_forward_chunk(layer.attention.output(context, flat.index_select(0, index)))
    return states


def hidden_states(
    bert: BertModel, input_ids: Tensor, attention_mask: Tensor | None, layers: Sequence[int]
) -> list[Tensor]:
    """Return the hidden states of selected layers at every token.

    Equal, up to rounding, to `bert(input_ids, attention_mask, output_hidden_states=True).hidden_states[layer]`.

    Parameters
    ----------
    bert, input_ids, attention_mask
        As in `states_at`.
    layers : sequence of int
        0 is the output of the embeddings, n that of layer n. Layers above the highest are not computed.

    Returns
    -------
    list of floating tensors, shape (b, t, hidden)
        In the order of `layers`. Values at padding are meaningless.
    """
    hidden, mask = _embed(bert, input_ids, attention_mask)
    states = {0: hidden}
    for number in range(1, max(layers) + 1):
        states[number] = _apply_layer(bert.encoder.layer[number - 1], states[number - 1], mask)
        if number - 1 not in layers:
            del states[number - 1]
    return [states[layer] for layer in layers]


def _embed(
    bert: BertModel, input_ids: Tensor, attention_mask: Tensor | Packing | None
) -> tuple[Tensor, Tensor | Packing | None]:
    """Return the embeddings, (b, t, hidden), and the mask for attention, (b, 1, 1, t)."""
    # One row of types, broadcast over the batch: b times fewer rows to look up and to accumulate gradients in.
    types = torch.zeros((1, input_ids.shape[1]), dtype=torch.int64, device=input_ids.device)
    if isinstance(attention_mask, Packing):
        positions = attention_mask.positions
        return bert.embeddings(
            input_ids=input_ids, token_type_ids=types, position_ids=positions
        ), attention_mask
    hidden = bert.embeddings(input_ids=input_ids, token_type_ids=types)
    # Broadcast over heads and queries. Given the 2-D mask, stock BERT would wait for the device once per
    # batch to check whether anything is padded.
    return hidden, None if attention_mask is None else attention_mask[:, None, None, :].bool()


def _apply_layer(layer: BertLayer, hidden: Tensor, mask: Tensor | Packing | None) -> Tensor:
    context = _attention(layer.attention.self, hidden, hidden, mask)
    states: Tensor = layer.feed_forward_chunk(layer.attention.output(context, hidden))
    return states


def restricts_queries(states: Tensor) -> bool:
    """Return whether the last layer attends from the selected tokens only.

    That pays off on a CPU. Elsewhere the largest number of selected tokens per sequence would have to be read
    back from the device, which costs more than the attention saved.

    Parameters
    ----------
    states : floating, shape (b, t, hidden)
    """
    return states.device.type == "cpu"


def _group_queries(index: Tensor, b: int, t: int) -> tuple[Tensor, Tensor]:
    """Group the selected tokens by sequence, padded to w, the largest number per sequence.

    Returns the flat token index of each of the b × w slots (a sequence's first token in unused slots), and
    the slot of each entry of `index`.
    """
    sequence = index // t
    per_sequence = torch.bincount(sequence, minlength=b)
    width = max(1, int(per_sequence.max()))
    order = torch.argsort(sequence, stable=True)
    first = per_sequence.cumsum(0) - per_sequence
    slot = torch.empty_like(index)
    slot[order] = sequence[order] * width + torch.arange(len(index)) - first[sequence[order]]
    source = torch.arange(b).repeat_interleave(width) * t
    source[slot] = index
    return source, slot


def _attention(
    attention: BertSelfAttention, queries: Tensor, hidden: Tensor, mask: Tensor | Packing | None
) -> Tensor:
    """Attend from `queries` (b, q, hidden) to `hidden` (b, t, hidden) where `mask` (b, 1, 1, t) is true."""
    b, q, _ = queries.shape
    heads = (b, -1, attention.num_attention_heads, attention.attention_head_size)
    query = attention.query(queries).view(heads)
    key = attention.key(hidden).view(heads)
    value = attention.value(hidden).view(heads)
    dropout = attention.dropout.p if attention.training else 0.0
    if isinstance(mask, Packing):
        context = packed_attention(query[0], key[0], value[0], mask.bounds, mask.longest, dropout)
        return context.reshape(b, q, -1)
    query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    if query.device.type == "cpu" and (
        dropout > 0.0 or (query.dtype is torch.bfloat16 and torch.is_grad_enabled())
    ):
        context = _plain_attention(query, key, value, mask, dropout)
    else:
        context = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=dropout
        )
    return context.transpose(1, 2).reshape(b, q, -1)


def _plain_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float) -> Tensor:
    """Attend in separate operations on a CPU, where torch's fused kernel lacks dropout and bfloat16 is slow.

    torch's fallback for dropout takes five times as long as this function; its bfloat16 kernel, including the
    backward pass, two to seven times (docs/log.md). In float32 without dropout the fused kernel is faster.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
    if mask is not None:
        scores += torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    weights = scores.softmax(-1)
    if p == 0.0:
        return weights @ value
    kept, fraction = _dropout_mask(weights.shape, p)
    return (weights * kept.to(weights.dtype)) @ value * (1.0 / fraction)


def _dropout_mask(shape: torch.Size, p: float) -> tuple[Tensor, float]:
    """Draw which elements dropout keeps, with sixteen random bits each; also return their exact expected fraction.

    Three times as fast on a CPU as `bernoulli_`, which draws and compares floating-point numbers one by one.
    """
    n = shape.numel()
    words = torch.empty((n + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    dropped = round(p * 2**16)
    return words.view(torch.int16)[:n].view(shape) >= dropped - 2**15, 1.0 - dropped / 2**16
