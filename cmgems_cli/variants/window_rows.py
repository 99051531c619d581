"""The windows around variants as rows of a model, on both strands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import InputError
from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.genome.strands import reverse_complements
from cmgems_cli.inference.loading import Model
from cmgems_cli.inference.row_blocks import Block


def both_strands(texts: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return sequences and then their reverse complements.

    Parameters
    ----------
    texts : sequence of bytes, length n

    Returns
    -------
    letters : uint8, shape (n_letters,)
        Concatenated.
    offsets : int64, shape (2 * n + 1,)
        Where each begins.
    """
    letters = np.frombuffer(b"".join(texts), np.uint8)
    offsets = offsets_of(np.array([len(text) for text in texts], np.int64))
    other = reverse_complements(letters, offsets)
    return np.concatenate([letters, other]), np.concatenate([offsets, offsets[1:] + offsets[-1]])


def rows_of_windows(model: Model, windows: Sequence[bytes], names: Sequence[str]) -> Block:
    """Return windows and then their reverse complements as rows of a model.

    Parameters
    ----------
    model : Model
    windows : sequence of bytes, length n
        Letters A, C, G, T.
    names : sequence of str, length n
        For error messages.

    Returns
    -------
    Block
        2 n rows.

    Raises
    ------
    InputError
        If a window has more tokens than the model reads, or none that it knows.
    """
    tokenization = model.tokenization
    token_ids, offsets = tokenization.encode(*both_strands(windows))
    n_tokens = np.diff(offsets)
    if len(n_tokens) and n_tokens.max() > model.max_tokens:
        raise InputError(
            f"a window has {int(n_tokens.max()):,} tokens; {model.folder} reads {model.max_tokens:,}: give a shorter"
            " `window`"
        )
    known_before = offsets_of(token_ids != tokenization.specials.unknown)
    nowhere = np.zeros(len(n_tokens), np.int64)
    known = known_before[offsets[1:]] - known_before[offsets[:-1]]
    if not known.all():
        where = [*names, *names][int(known.argmin())]
        raise InputError(
            f"{model.folder}: its tokenizer knows no token of the window around {where}; needed a model of DNA"
        )
    reverse = np.arange(len(n_tokens)) >= len(windows)
    return Block([*names, *names], nowhere, nowhere, token_ids, offsets[:-1], n_tokens, known, reverse)
