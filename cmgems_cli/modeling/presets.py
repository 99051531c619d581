"""The model sizes that have names (method, section 5; paper, Table 5)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cmgems_cli.errors import UsageError
from cmgems_cli.readable import meant

if TYPE_CHECKING:
    from transformers import BertConfig


@dataclass(frozen=True)
class Preset:
    """The size of a BERT.

    Attributes
    ----------
    hidden, layers, heads, intermediate : int
        Width of a token's state, encoder layers, attention heads, width inside the feed-forward block.
    dropout : float, in [0, 1)
        Fraction dropped of hidden states and of attention weights alike.
    """

    hidden: int
    layers: int
    heads: int
    intermediate: int
    dropout: float


# paper, Table 5; `tiny` is ours, for tests and demos.
PRESETS = {
    "dnabert": Preset(hidden=768, layers=12, heads=12, intermediate=3072, dropout=0.1),
    "logo": Preset(hidden=256, layers=2, heads=8, intermediate=3072, dropout=0.0),
    "tiny": Preset(hidden=64, layers=2, heads=2, intermediate=256, dropout=0.0),
}

# paper, Table 5: 510 tokens, [CLS] and [SEP].
POSITIONS = 512

# DNABERT's config.json. One type is used; two are kept so that its checkpoints fit.
TYPES = 2

# method, section 5.
INITIALIZER_RANGE = 0.02


def known_name(text: str, names: Collection[str] = tuple(PRESETS)) -> str:
    """Return the name that a text is, in any case of letters.

    Parameters
    ----------
    text : str
        A name or a folder.
    names : collection of str
        In lower case; by default those of the presets.

    Returns
    -------
    str
        The text itself if it is another one, or the path of something that exists.

    Examples
    --------
    >>> known_name("Tiny"), known_name("models/Tiny")
    ('tiny', 'models/Tiny')
    """
    lower = text.casefold()
    return lower if text not in names and lower in names and not Path(text).exists() else text


def bert_config(name: str, k: int) -> BertConfig:
    """Return the stock configuration of a preset for k-mers.

    Parameters
    ----------
    name : str
        One of `PRESETS`.
    k : int, bases
        Token length; it sets the vocabulary, 5 + 4^k.

    Raises
    ------
    UsageError
        If there is no such preset.

    Examples
    --------
    >>> bert_config("logo", 6).vocab_size
    4101
    """
    from transformers import BertConfig

    from cmgems_cli.genome.vocabulary import PAD, vocabulary_size

    if name not in PRESETS:
        raise UsageError(
            f"no model is called {name!r}; needed one of {', '.join(PRESETS)}, or a folder{meant(name, PRESETS)}"
        )
    preset = PRESETS[name]
    return BertConfig(
        vocab_size=vocabulary_size(k),
        hidden_size=preset.hidden,
        num_hidden_layers=preset.layers,
        num_attention_heads=preset.heads,
        intermediate_size=preset.intermediate,
        hidden_act="gelu",
        hidden_dropout_prob=preset.dropout,
        attention_probs_dropout_prob=preset.dropout,
        max_position_embeddings=POSITIONS,
        type_vocab_size=TYPES,
        initializer_range=INITIALIZER_RANGE,
        pad_token_id=PAD,
    )
