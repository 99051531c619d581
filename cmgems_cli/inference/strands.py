"""Rows of a block read as their reverse complements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cmgems_cli.errors import UsageError
from cmgems_cli.genome.codec import reversed_kmers
from cmgems_cli.genome.strands import reverse_complements
from cmgems_cli.genome.tokenization import Tokenization
from cmgems_cli.inference.row_blocks import Block
from cmgems_cli.inference.row_groups import joined


def reverse_complement_of(block: Block, tokenization: Tokenization, max_tokens: int) -> Block:
    """Return the same rows, read as their reverse complements.

    Parameters
    ----------
    block : Block
    tokenization : Tokenization
        That of the block.
    max_tokens : int
        Other tokenizers than k-mers may have more tokens for a reverse complement than for its row: those beyond
        this number are cut.

    Raises
    ------
    UsageError
        If the block has neither k-mers nor letters.
    """
    if tokenization.k:
        # Of windows that overlap, one reversal of all their tokens serves all.
        token_ids = reversed_kmers(block.token_ids, tokenization.k)
        return replace(block, token_ids=token_ids, first=len(token_ids) - block.first - block.n_tokens)
    if block.letters is None:
        raise UsageError("this model averages both strands, for which the letters of its input are needed")
    letters, starts = joined(block.letters)
    token_ids, offsets = tokenization.encode(reverse_complements(letters, starts), starts)
    n_tokens = np.minimum(np.diff(offsets), max_tokens)
    return replace(block, token_ids=token_ids, first=offsets[:-1], n_tokens=n_tokens)
