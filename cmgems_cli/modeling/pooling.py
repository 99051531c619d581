"""How a sequence's states become one vector."""

from __future__ import annotations

import torch
from torch import Tensor

from cmgems_cli.genome.tokenization import SpecialIds


def has_content(input_ids: Tensor, specials: SpecialIds) -> Tensor:
    """Tell known tokens of a sequence from special and unknown ones and padding.

    Parameters
    ----------
    input_ids : int64, shape (b, t)
    specials : SpecialIds

    Returns
    -------
    bool, shape (b, t)
    """
    content = torch.ones_like(input_ids, dtype=torch.bool)
    for token_id in set(specials.without_content):
        content &= input_ids != token_id
    return content


def pool_states(states: Tensor, content: Tensor, pool: str) -> Tensor:
    """Return one vector per sequence.

    Parameters
    ----------
    states : floating, shape (b, t, hidden)
    content : bool, shape (b, t)
        From `has_content`; a sequence without content gets the state of its first token.
    pool : cls, mean or max
        The first token's state, or the mean or maximum over the tokens with content.

    Returns
    -------
    floating, shape (b, hidden)
    """
    first = states[:, 0]
    if pool == "cls":
        return first
    if pool == "mean":
        pooled = torch.einsum("bt,bth->bh", content.to(states.dtype), states)
        pooled = pooled / content.sum(1, keepdim=True).clamp(min=1)
    else:
        pooled = states.masked_fill(~content[..., None], -torch.inf).amax(1)
    return torch.where(content.any(1, keepdim=True), pooled, first)
