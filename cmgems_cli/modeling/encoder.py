"""BERT's encoder, computed only where its output is wanted, from the modules of a stock `BertModel`.

A masked-LM loss reads the last layer at one token in seven, a classifier at one token a sequence. The
last layer's feed-forward block mixes no tokens, so running it at those tokens alone changes no result;
for the two layers of `logo` it halves the work. The weights stay in the stock modules, whose names and
files nothing here touches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertModel
from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention


class Packing(NamedTuple):
    """Where the sequences of a packed batch lie, which holds them one after the other and no padding between.

    The last sequence is filler, [PAD] alone: batches come in few sizes, for which the matrix kernels are chosen
    once. It attends to itself, and nothing asks for its states.

    Attributes
    ----------
    bounds : int32, shape (sequences + 2,)
        Where each sequence starts and the filler ends.
    positions : int64, shape (1, tokens)
        Each token's place in its sequence.
    longest : int
        At least the length of the longest sequence.
    """

    bounds: Tensor
    positions: Tensor
    longest: int

    @property
    def first_tokens(self) -> Tensor:
        """Where each sequence's [CLS] is: int64, shape (sequences,)."""
        return self.bounds[:-2].long()


def packs_sequences(device: torch.device, precision: str) -> bool:
    """Tell whether batches are packed rather than padded: where attention has a kernel for it.

    On a CUDA card a micro-batch costs thousands of launches, so few large ones are wanted, and those of many
    lengths. FlashAttention takes 16-bit numbers, on cards from Ampere on.
    """
    return (
        device.type == "cuda" and precision == "bf16" and torch.cuda.get_device_capability(device) >= (8, 0)
    )


@cache
def compiled(part: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of a model's parts, compiled for all of them at once with `torch.compile`.

    A layer's code is then compiled once, not once a layer, which took minutes for the twelve of dnabert.
    Shapes may vary.
    """
    return torch.compile(part, dynamic=True)


def states_at(
    bert: BertModel,
    input_ids: Tensor,
    attention_mask: Tensor | Packing | None,
    index: Tensor,
    *,
    compiling: bool = False,
) -> Tensor:
    """Return the last hidden states at chosen tokens.

    Equal, to rounding, to `bert(input_ids, attention_mask).last_hidden_state.flatten(0, 1)[index]`. In
    training, with dropout above 0, the draws differ from the stock forward's, not their distribution.

    Parameters
    ----------
    bert : BertModel
        A stock encoder (absolute positions, no decoder). Inputs are all of type 0.
    input_ids : int64, shape (b, t)
        Token ids with special tokens, t at most `max_position_embeddings`.
    attention_mask : bool or integer, shape (b, t), or Packing, optional
        Nonzero at real tokens, zero at padding. Leave it out where nothing is padded: the fused
        attention kernels are faster without. Every sequence has at least one real token. Of a packed
        batch, whose b is 1, where its sequences lie.
    index : int64, shape (m,)
        Flat indices into b × t, in any order; m may be 0.
    compiling : bool, default False
        Compile what is run, when it is first run.

    Returns
    -------
    floating, shape (m, hidden)
        bfloat16 or float32, as autocast has it.
    """
    enter, through, leave = _embedded, _through, _chosen
    if compiling:
        enter, through, leave = compiled(enter), compiled(through), compiled(leave)
    hidden, mask = enter(bert, input_ids, attention_mask)
    *lower, last = bert.encoder.layer
    for layer in lower:
        hidden = through(layer, hidden, mask)
    chosen: Tensor = leave(last, hidden, mask, index)
    return chosen


def _chosen(layer: BertLayer, hidden: Tensor, mask: Tensor | Packing | None, index: Tensor) -> Tensor:
    """Return the layer's states at chosen tokens: flat indices into `hidden`, (b, t, hidden)."""
    b, t, _ = hidden.shape
    flat = hidden.reshape(b * t, -1)
    if not isinstance(mask, Packing) and asks_for_chosen_tokens(hidden):
        source, slot = _packed_queries(index, b, t)
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
    """Return the hidden states of chosen layers at every token.

    Equal, to rounding, to `bert(input_ids, attention_mask, output_hidden_states=True).hidden_states[layer]`.

    Parameters
    ----------
    bert, input_ids, attention_mask
        As in `states_at`.
    layers : sequence of int
        0 is the output of the embeddings, n that of the n-th layer. Layers above the highest are not computed.

    Returns
    -------
    list of floating tensors, shape (b, t, hidden)
        In the order of `layers`. At padding they hold nothing of use.
    """
    hidden, mask = _embedded(bert, input_ids, attention_mask)
    found = {0: hidden}
    for number in range(1, max(layers) + 1):
        found[number] = _through(bert.encoder.layer[number - 1], found[number - 1], mask)
        if number - 1 not in layers:
            del found[number - 1]
    return [found[layer] for layer in layers]


def _embedded(
    bert: BertModel, input_ids: Tensor, attention_mask: Tensor | Packing | None
) -> tuple[Tensor, Tensor | Packing | None]:
    """Return what enters the first layer, (b, t, hidden), and the mask that attention takes, (b, 1, 1, t)."""
    # One row of types, broadcast over the batch: b times fewer rows to look up and to add gradients into.
    types = torch.zeros((1, input_ids.shape[1]), dtype=torch.int64, device=input_ids.device)
    if isinstance(attention_mask, Packing):
        positions = attention_mask.positions
        return bert.embeddings(
            input_ids=input_ids, token_type_ids=types, position_ids=positions
        ), attention_mask
    hidden = bert.embeddings(input_ids=input_ids, token_type_ids=types)
    # Broadcast over heads and queries. Handing stock BERT the 2-D mask would make it ask the device whether
    # anything is padded, once per batch.
    return hidden, None if attention_mask is None else attention_mask[:, None, None, :].bool()


def _through(layer: BertLayer, hidden: Tensor, mask: Tensor | Packing | None) -> Tensor:
    context = _attention(layer.attention.self, hidden, hidden, mask)
    states: Tensor = layer.feed_forward_chunk(layer.attention.output(context, hidden))
    return states


def asks_for_chosen_tokens(states: Tensor) -> bool:
    """Tell whether the last layer asks only for the chosen tokens.

    Worth it on a CPU. Elsewhere the number of tokens in the fullest sequence would have to be read back
    from the device, and the attention saved is cheap beside that.
    """
    return states.device.type == "cpu"


def _packed_queries(index: Tensor, b: int, t: int) -> tuple[Tensor, Tensor]:
    """Lay the chosen tokens of each sequence side by side, padded to the fullest sequence.

    Returns the flat token index behind each of the b × w places (a sequence's first token where there is
    nothing to ask), and for each entry of `index` its place.
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
    """Attend from `queries` (b, q, hidden) to `hidden` (b, t, hidden) where mask (b, 1, 1, t) is true."""
    b, q, _ = queries.shape
    heads = (b, -1, attention.num_attention_heads, attention.attention_head_size)
    query = attention.query(queries).view(heads)
    key = attention.key(hidden).view(heads)
    value = attention.value(hidden).view(heads)
    dropout = attention.dropout.p if attention.training else 0.0
    if isinstance(mask, Packing):
        return _packed_attention(query[0], key[0], value[0], mask, dropout).reshape(b, q, -1)
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


def _packed_attention(query: Tensor, key: Tensor, value: Tensor, packing: Packing, dropout: float) -> Tensor:
    """Attend within each sequence of a packed batch. All of shape (tokens, heads, width)."""
    bounds, longest = packing.bounds, packing.longest
    if query.device.type == "cuda":
        # What scaled_dot_product_attention calls itself, for sequences of one length; torch's public
        # varlen_attn, from 2.10 on, has no dropout.
        found = torch.ops.aten._flash_attention_forward(
            query, key, value, bounds, bounds, longest, longest, dropout, False, False
        )
        return found[0]
    # Plain and slow: nothing packs on a CPU but the tests.
    parts = []
    for start, stop in pairwise(bounds.tolist()):
        q, k, v = (part[start:stop].transpose(0, 1) for part in (query, key, value))
        parts.append(functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(0, 1))
    return torch.cat(parts)


def _plain_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float) -> Tensor:
    """Attend step by step on a CPU, where torch's fused kernel has no dropout and is slow backwards in bfloat16.

    Its fallback for dropout takes five times as long as this, its bfloat16 kernel, backwards included, two to seven
    (docs/log.md). In float32 without dropout the fused kernel is the faster one.
    """
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
    if mask is not None:
        scores += torch.zeros(mask.shape, dtype=scores.dtype).masked_fill_(~mask, -torch.inf)
    weights = scores.softmax(-1)
    if p == 0.0:
        return weights @ value
    kept, share = _kept(weights.shape, p)
    return (weights * kept.to(weights.dtype)) @ value * (1.0 / share)


def _kept(shape: torch.Size, p: float) -> tuple[Tensor, float]:
    """Draw which elements dropout keeps, sixteen random bits each, and return their exact expected share.

    Three times as fast on a CPU as `bernoulli_`, which draws and compares floating-point numbers one by one.
    """
    n = shape.numel()
    words = torch.empty((n + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    dropped = round(p * 2**16)
    return words.view(torch.int16)[:n].view(shape) >= dropped - 2**15, 1.0 - dropped / 2**16
