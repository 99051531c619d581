"""Attention within each sequence of a packed batch, as an operator that `torch.compile` does not look into.

On CUDA it is FlashAttention. On a CPU it is a plain loop over the sequences, which only tests use: it shows that
everything around the operator computes what padded batches compute.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

# FlashAttention's names for "no sliding window"; its third version does not take None.
_NO_WINDOW = {"window_size_left": -1, "window_size_right": -1}


# ours: several times the rounding of bf16, which has 8 significant bits, in numbers up to 4.
_BF16_TOLERANCE = 0.1


@torch.library.custom_op("cmgems::packed_attention", mutates_args=())
def _attend(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, dropout: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the context, the log of each query's sum, and the two tensors that reproduce the dropout draws."""
    if query.device.type == "cuda":
        return _flash(query, key, value, bounds, longest, dropout)
    if dropout:
        raise NotImplementedError("packed attention has no dropout on a CPU")
    context = torch.empty(query.shape, dtype=query.dtype)
    wide = torch.promote_types(query.dtype, torch.float32)
    log_sums = torch.empty(query.shape[1::-1], dtype=wide)
    for part in _parts(bounds):
        scores = _scores(query[part], key[part])
        log_sums[:, part] = scores.logsumexp(-1).to(wide)
        context[part] = (scores.softmax(-1) @ value[part].transpose(0, 1).to(wide)).transpose(0, 1)
    return context, log_sums, torch.empty(0), torch.empty(0)


@_attend.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, dropout: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if query.device.type == "cuda":
        # torch knows the shapes of its release.
        return _flash(query, key, value, bounds, longest, dropout)
    wide = torch.promote_types(query.dtype, torch.float32)
    log_sums = query.new_empty((query.shape[1], query.shape[0]), dtype=wide)
    nothing = query.new_empty(0, dtype=torch.float32)
    return query.new_empty(query.shape), log_sums, nothing, torch.empty_like(nothing)


@torch.library.custom_op("cmgems::packed_attention_backward", mutates_args=())
def _attend_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    context: Tensor,
    log_sums: Tensor,
    bounds: Tensor,
    longest: int,
    dropout: float,
    draws: Tensor,
    more_draws: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value."""
    if query.device.type == "cuda":
        return _flash_backward(
            *(gradient, query, key, value, context, log_sums, bounds, longest, dropout, draws, more_draws)
        )
    found = tuple(torch.zeros(query.shape, dtype=query.dtype) for _ in range(3))
    wide = log_sums.dtype
    for part in _parts(bounds):
        q, k, v, g, c = (one[part].transpose(0, 1).to(wide) for one in (query, key, value, gradient, context))
        weights = (_scores(query[part], key[part]) - log_sums[:, part, None]).exp()
        of_scores = weights * (g @ v.transpose(1, 2) - (g * c).sum(-1, keepdim=True)) * q.shape[-1] ** -0.5
        parts = (of_scores @ k, of_scores.transpose(1, 2) @ q, weights.transpose(1, 2) @ g)
        for gathered, one in zip(found, parts, strict=True):
            gathered[part] = one.transpose(0, 1)
    return found[0], found[1], found[2]


@_attend_backward.register_fake
def _(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    context: Tensor,
    log_sums: Tensor,
    bounds: Tensor,
    longest: int,
    dropout: float,
    draws: Tensor,
    more_draws: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    if query.device.type == "cuda":
        return _flash_backward(
            *(gradient, query, key, value, context, log_sums, bounds, longest, dropout, draws, more_draws)
        )
    return query.new_empty(query.shape), query.new_empty(query.shape), query.new_empty(query.shape)


# torch calls it with these names.
def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    query, key, value, bounds, ctx.longest, ctx.dropout = inputs
    ctx.save_for_backward(query, key, value, bounds, *output)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, gradient: Tensor | None, *unused: None) -> tuple[Tensor | None, ...]:
    if gradient is None:
        return (None,) * 6
    query, key, value, bounds, context, log_sums, draws, more_draws = ctx.saved_tensors
    gradients = _attend_backward(
        *(gradient.contiguous(), query, key, value, context, log_sums, bounds),
        *(ctx.longest, ctx.dropout, draws, more_draws),
    )
    return (*gradients, None, None, None)


_attend.register_autograd(_differentiate, setup_context=_remember)


def packed_attention(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, dropout: float
) -> Tensor:
    """Attend within each sequence of a packed batch, from every token.

    Parameters
    ----------
    query, key, value : floating, shape (tokens, heads, width)
        16-bit on CUDA. Only the last dimension need be contiguous.
    bounds : int32, shape (sequences + 1,)
        Where each sequence starts, and where the last one ends: at `tokens`. Sequences may be empty.
    longest : int
        At least the length of the longest sequence. Compiled code is specific to it.
    dropout : float, in [0, 1)
        Of the attention weights; 0 on a CPU.

    Returns
    -------
    floating, shape (tokens, heads, width), the dtype of `query`
    """
    context: Tensor = _attend(query, key, value, bounds, longest, dropout)[0]
    return context


@cache
def packed_attention_works(device: torch.device) -> bool:
    """Return whether packed attention runs on a device in bf16, and agrees with attention of each sequence by itself.

    Checked once per device, on two short sequences, forward and backward. A release of torch may have another
    operator: then a warning says so, and batches are to be padded.
    """
    try:
        apart = _difference_from_plain(device)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        found = str(error).partition("\n")[0] or type(error).__name__
    else:
        if apart <= _BF16_TOLERANCE:
            return True
        found = f"results differ by {apart:.2g}"
    warnings.warn(
        f"packed attention does not work on {device} with torch {torch.__version__} ({found}); batches are padded,"
        " which is slower",
        stacklevel=2,
    )
    return False


@torch.enable_grad()
def _difference_from_plain(device: torch.device) -> float:
    """Return the largest difference of context and gradients from plain float32 attention, for numbers near 1."""
    lengths = (5, 11)
    generator = torch.Generator().manual_seed(0)
    given = torch.randn((3, sum(lengths), 2, 32), generator=generator).to(device, torch.bfloat16)
    bounds = torch.tensor((0, *accumulate(lengths)), dtype=torch.int32, device=device)
    packed, plain = (given.to(dtype, copy=True).requires_grad_() for dtype in (given.dtype, torch.float32))
    context = packed_attention(packed[0], packed[1], packed[2], bounds, max(lengths), 0.0)
    apart = [
        functional.scaled_dot_product_attention(*(one.transpose(0, 1) for one in part)).transpose(0, 1)
        for part in plain.split(lengths, dim=1)
    ]
    expected = torch.cat(apart)
    context.float().square().sum().backward()
    expected.square().sum().backward()
    assert packed.grad is not None
    assert plain.grad is not None
    pairs = ((context, expected), (packed.grad, plain.grad))
    return max(float((one.float() - other).detach().abs().max()) for one, other in pairs)


def _flash(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, dropout: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    # The operator that scaled_dot_product_attention calls for sequences of equal length. The public
    # varlen_attn of torch 2.10 and later calls it too, but has no dropout.
    context, log_sums, draws, more_draws, _ = torch.ops.aten._flash_attention_forward(
        query, key, value, bounds, bounds, longest, longest, dropout, False, False, **_NO_WINDOW
    )
    return context, log_sums, draws, more_draws


def _flash_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    context: Tensor,
    log_sums: Tensor,
    bounds: Tensor,
    longest: int,
    dropout: float,
    draws: Tensor,
    more_draws: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(
        *(gradient, query, key, value, context, log_sums, bounds, bounds, longest, longest),
        *(dropout, False, draws, more_draws),
        **_NO_WINDOW,
    )
    return gradients


def _parts(bounds: Tensor) -> list[slice]:
    return [slice(start, stop) for start, stop in pairwise(bounds.tolist()) if stop > start]


def _scores(query: Tensor, key: Tensor) -> Tensor:
    wide = torch.promote_types(query.dtype, torch.float32)
    q, k = (one.transpose(0, 1).to(wide) for one in (query, key))
    return q @ k.transpose(1, 2) * q.shape[-1] ** -0.5


def has_flash_attention_3(device: torch.device, dropout: float) -> bool:
    """Return whether FlashAttention 3 can be used: on Hopper, without dropout, if its package is installed."""
    return (
        device.type == "cuda"
        and dropout == 0.0
        and torch.cuda.get_device_capability(device)[0] == 9
        and importlib.util.find_spec("flash_attn_interface") is not None
        # torch 2.11 and later.
        and hasattr(torch.nn.attention, "activate_flash_attention_impl")
    )


@contextmanager
def fastest_flash_attention(device: torch.device, dropout: float) -> Iterator[str]:
    """Use FlashAttention 3 within the context if it can be used, and say which version is used: "2" or "3".

    Only within the context: every FlashAttention with dropout would fail while the third version is active.
    """
    if not has_flash_attention_3(device, dropout):
        yield "2"
        return
    try:
        torch.nn.attention.activate_flash_attention_impl("FA3")
    except (ImportError, OSError, RuntimeError, ValueError):
        # Built for another torch, or without the backward pass.
        yield "2"
        return
    try:
        yield "3"
    finally:
        torch.nn.attention.restore_flash_attention_impl()
