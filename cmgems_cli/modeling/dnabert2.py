"""DNABERT-2's encoder: ALiBi instead of position embeddings, gated feed-forward blocks.

The published folders of DNABERT-2 and DNABERT-S need remote code in `transformers`. This module implements the
architecture that their paper describes (Zhou et al., arXiv 2306.15006; MosaicBERT, Portes et al., arXiv
2312.17482) under the parameter names of those folders, so that their weights fit without a conversion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN


@dataclass
class DnaBert2Config:
    """The settings of a DNABERT-2 config.json that affect its results; defaults as published (117M).

    Attributes
    ----------
    hidden_dropout_prob, attention_probs_dropout_prob : float, in [0, 1)
    num_labels : int
        Classes of the head.
    """

    vocab_size: int = 4096
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    type_vocab_size: int = 2
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.0
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    pad_token_id: int = 0
    num_labels: int = 2


def alibi_slopes(heads: int) -> list[float]:
    """Return each head's penalty per token of distance (Press et al., arXiv 2108.12409, section 3).

    Powers of two get a geometric series; other numbers get that of the power of two below, then every second
    slope of the one above.

    >>> alibi_slopes(4)
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    below = 2 ** math.floor(math.log2(heads))
    ratio = 2.0 ** (-8.0 / below)
    slopes = [ratio**power for power in range(1, below + 1)]
    return slopes if below == heads else slopes + alibi_slopes(2 * below)[::2][: heads - below]


class _Embeddings(nn.Module):
    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor) -> Tensor:
        # All inputs are single sequences: token type 0.
        states = self.word_embeddings(input_ids) + self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(states))


class _SelfAttention(nn.Module):
    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.Wqkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        b, t, width = hidden.shape
        query, key, value = (
            self.Wqkv(hidden).view(b, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        context = functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=bias.to(query.dtype),
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        return context.transpose(1, 2).reshape(b, t, width)


class _AttentionOutput(nn.Module):
    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, context: Tensor, hidden: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(context)) + hidden)


class _GatedFeedForward(nn.Module):
    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.gated_layers = nn.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.act = ACT2FN[config.hidden_act]
        self.wo = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        gate, linear = self.gated_layers(hidden).chunk(2, dim=-1)
        return self.layernorm(self.wo(self.dropout(self.act(gate) * linear)) + hidden)


class _Layer(nn.Module):
    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        # Two levels, as the published parameters are named: attention.self.Wqkv, attention.output.dense.
        self.attention = nn.ModuleDict({"self": _SelfAttention(config), "output": _AttentionOutput(config)})
        self.mlp = _GatedFeedForward(config)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        context = self.attention["self"](hidden, bias)
        return self.mlp(self.attention["output"](context, hidden))


class DnaBert2Model(nn.Module):
    """The encoder. Its parameters have the names of the published weights after `bert.`."""

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))}
        )
        self.pooler = nn.ModuleDict({"dense": nn.Linear(config.hidden_size, config.hidden_size)})
        self.slopes: Tensor
        slopes = torch.tensor(alibi_slopes(config.num_attention_heads))
        self.register_buffer("slopes", slopes, persistent=False)

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor | None) -> list[Tensor]:
        """Return the embeddings' output and each layer's.

        Parameters
        ----------
        input_ids : int64, shape (b, t)
            Token ids with special tokens.
        attention_mask : bool or integer, shape (b, t), optional
            Nonzero at real tokens.

        Returns
        -------
        list of floating tensors, shape (b, t, hidden)
            Values at padding are meaningless.
        """
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        distance = (place[:, None] - place[None, :]).abs()
        bias = -self.slopes.view(-1, 1, 1) * distance
        if attention_mask is not None:
            bias = bias[None].masked_fill(~attention_mask[:, None, None, :].bool(), -torch.inf)
        else:
            bias = bias[None]
        states = [self.embeddings(input_ids)]
        for layer in self.encoder["layer"].children():
            states.append(layer(states[-1], bias))
        return states


class DnaBert2ForSequenceClassification(nn.Module):
    """Encoder, pooler on the first token, dropout and a linear layer: the head of the published fine-tuning code."""

    base_model_prefix = "bert"

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.config = config
        self.bert = DnaBert2Model(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=config.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.bert.embeddings.word_embeddings.weight[config.pad_token_id].zero_()

    def head(self, pooled: Tensor) -> Tensor:
        """Return the logits of sequence vectors.

        Parameters
        ----------
        pooled : floating, shape (b, hidden)

        Returns
        -------
        floating, shape (b, n_labels)
        """
        return self.classifier(self.dropout(torch.tanh(self.bert.pooler["dense"](pooled))))
