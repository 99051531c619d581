"""Attention and dropout of the encoder, against what they approximate."""

from collections.abc import Callable
from functools import partial

import pytest
import torch

from cmgems_cli.modeling import encoder


@pytest.mark.parametrize("padded", [False, True])
def test_attention_with_dropout_averages_to_attention_without(padded: bool) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 6, 8).unbind(0)
    mask = (torch.arange(6) < torch.tensor([[6], [3]]))[:, None, None, :] if padded else None
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    n = 4000
    query, key, value = (tensor.repeat(n, 1, 1, 1) for tensor in (query, key, value))
    masks = None if mask is None else mask.repeat(n, 1, 1, 1)
    drawn = encoder._plain_attention(query, key, value, masks, 0.1).view(n, *expected.shape)
    error = drawn.std(0) / n**0.5
    # 384 means of 4,000 draws each: 4.5 standard errors are passed once in 400 runs; the seed is fixed.
    assert ((drawn.mean(0) - expected).abs() < 4.5 * error).all()


@pytest.mark.parametrize("padded", [False, True])
def test_plain_attention_in_bf16_errs_by_no_more_than_two_roundings(padded: bool) -> None:
    torch.manual_seed(0)
    inputs = torch.randn(3, 4, 8, 60, 32)
    mask = (torch.arange(60) < torch.tensor([[60], [41], [7], [1]]))[:, None, None, :] if padded else None

    def attended(attend: Callable[..., torch.Tensor], dtype: torch.dtype) -> list[torch.Tensor]:
        """Return the output and the gradients of query, key and value."""
        ready = [part.to(dtype).requires_grad_() for part in inputs.to(torch.bfloat16).unbind(0)]
        found = attend(*ready, mask)
        gradients = torch.autograd.grad(found.float().sin().sum(), ready)
        return [found.detach().double(), *(gradient.double() for gradient in gradients)]

    exact = attended(torch.nn.functional.scaled_dot_product_attention, torch.float32)
    plain = attended(partial(encoder._plain_attention, p=0.0), torch.bfloat16)
    rounding = torch.finfo(torch.bfloat16).eps / 2
    for right, found in zip(exact, plain, strict=True):
        assert (found - right).norm() <= 2 * rounding * right.norm()


def test_dropout_keeps_its_share_and_follows_torchs_seed() -> None:
    torch.manual_seed(3)
    kept, share = encoder._dropout_mask(torch.Size((301, 1001)), 0.1)
    torch.manual_seed(3)
    again, _ = encoder._dropout_mask(torch.Size((301, 1001)), 0.1)
    assert torch.equal(kept, again)
    assert share == pytest.approx(0.9, abs=1e-5)
    n = kept.numel()
    assert abs(kept.float().mean().item() - share) < 4 * (share * (1 - share) / n) ** 0.5
    # Sixteen bits apart in one random word must not be related.
    flat = kept.flatten().float() - share
    assert abs((flat[:-1] * flat[1:]).mean().item()) < 4 * share * (1 - share) / n**0.5
