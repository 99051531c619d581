"""How large a micro-batch of training is by default: as measured to be fastest, or as a card's memory allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import BertConfig

# ours, the fastest measured (docs/log.md): on a CPU 4 sequences of 512 tokens of a wide model, which then needs a
# third of the memory, 16 of a narrow one; on a CUDA card 64, and of narrow models as many more as make a
# micro-batch worth its launches.
BATCH_TOKENS = {"cpu": 2_048, "cuda": 32_768}
BATCH_TOKENS_OF_NARROW = {"cpu": 8_192, "cuda": 131_072}
# The width of `logo`, and the widest measured to behave like it.
NARROW = 256

# Packed pretraining: a whole step of the recipe, 96,437 tokens on average with a standard deviation of 2,579
# (docs/scaling.md), is one micro-batch; less memory takes halves of it.
MOST_PACKED_TOKENS, FEWEST_PACKED_TOKENS = 131_072, 4_096
# ours: what other programs may still take, and what the estimate below may be wrong by.
USED_FRACTION = 0.9
# Fitted to the peaks of `dnabert` measured on an H100, 14.0 GB with 32,768 tokens and 21.5 GB with 65,536; the 3.5 GB
# of `logo` with 131,072 tokens are 12 % below the estimate (docs/scaling.md). Per parameter; per token and layer, for
# each unit of its width and of its feed-forward block; per logit.
BYTES_PER_PARAMETER, BYTES_PER_STATE, BYTES_PER_INNER, BYTES_PER_LOGIT = 73, 9, 4, 14


def batch_tokens(device_type: str, width: int) -> int:
    """Return the default bound on a micro-batch, in tokens, for a model of that width."""
    return (BATCH_TOKENS_OF_NARROW if width <= NARROW else BATCH_TOKENS)[device_type]


def packed_bytes(config: BertConfig, mask_rate: float, tokens: int) -> int:
    """Estimate the peak memory of a packed pretraining step in bf16, in bytes.

    Parameters
    ----------
    config : BertConfig
    mask_rate : float
    tokens : int
        In the micro-batch.
    """
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    parameters = layers * (4 * width * width + 2 * width * inner) + width * (
        width + config.vocab_size + config.max_position_embeddings
    )
    # The last layer's feed-forward block and the head see masked tokens only.
    per_token = BYTES_PER_STATE * width * layers + BYTES_PER_INNER * inner * (layers - 1 + mask_rate)
    per_token += BYTES_PER_LOGIT * mask_rate * config.vocab_size
    return round(BYTES_PER_PARAMETER * parameters + tokens * per_token)


def packed_batch_tokens(config: BertConfig, mask_rate: float, free_bytes: int) -> int:
    """Return the bound on a packed micro-batch of pretraining, in tokens, that free memory allows.

    In powers of two, so that a little more or less of free memory changes nothing.

    Parameters
    ----------
    config : BertConfig
    mask_rate : float
    free_bytes : int
        Of the card, or the least of several.
    """
    tokens = MOST_PACKED_TOKENS
    while (
        tokens > FEWEST_PACKED_TOKENS and packed_bytes(config, mask_rate, tokens) > USED_FRACTION * free_bytes
    ):
        tokens //= 2
    return tokens
