"""Masked-LM models: loaded or created, and their loss, with the vocabulary head on masked positions only."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM

from cmgems_cli import draws
from cmgems_cli.errors import InputError
from cmgems_cli.modeling.encoder import Packing, compiled, states_at
from cmgems_cli.modeling.folder import read_config, vocabulary_k
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.modeling.packed_lm import PackedLM
from cmgems_cli.modeling.weights import check_sizes, fit_weights, read_weights


class MaskedPositionsLM(torch.nn.Module):
    """A stock `BertForMaskedLM` that computes the loss at masked positions only.

    About one token in seven is masked, whereas the stock forward computes 4,101 logits at every token. The
    head runs inside `forward`, because DistributedDataParallel would miss its gradients otherwise.

    Attributes
    ----------
    bert_lm : BertForMaskedLM
        The wrapped model, which is the one saved to disk.
    compiling : bool
        Compile the functions of training at their first call; False by default.
    by_modules : bool
        Call the stock modules for packed batches too, so that hooks see every output; False by default.
    packed : PackedLM
        Computes the loss of packed batches otherwise.
    """

    def __init__(self, bert_lm: BertForMaskedLM) -> None:
        super().__init__()
        self.bert_lm = bert_lm
        self.compiling = self.by_modules = False
        self.packed = PackedLM(bert_lm)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | Packing | None,
        masked_index: Tensor,
        labels: Tensor,
    ) -> Tensor:
        """Return the sum of the cross-entropies over the masked positions.

        Parameters
        ----------
        input_ids : int64, shape (b, t)
            Corrupted token ids with special tokens.
        attention_mask : bool or integer, shape (b, t), or Packing, optional
            As in `encoder.states_at`.
        masked_index : int64, shape (m,)
            Flat indices of the masked positions into b × t. m may be 0: the loss is then 0 but still depends
            on every parameter, so that all processes reduce the same gradients.
        labels : int64, shape (m,)
            The original token ids there; -100, which fills up packed batches, counts nothing.

        Returns
        -------
        float32, scalar, nats
            A sum, not a mean: only the caller knows the number of masked positions of the whole step.
        """
        compiling = self.compiling and self.training
        if isinstance(attention_mask, Packing) and not self.by_modules:
            kind, dtype = input_ids.device.type, self.bert_lm.dtype
            if torch.is_autocast_enabled(kind):
                dtype = torch.get_autocast_dtype(kind)
            with torch.autocast(kind, enabled=False):
                return self.packed.loss(
                    *(input_ids[0], attention_mask, masked_index, labels, dtype),
                    training=self.training,
                    compiling=compiling,
                )
        states = states_at(self.bert_lm.bert, input_ids, attention_mask, masked_index, compiling=compiling)
        loss: Tensor = (compiled(_loss) if compiling else _loss)(self.bert_lm.cls, states, labels)
        return loss


def _loss(head: torch.nn.Module, states: Tensor, labels: Tensor) -> Tensor:
    # Always float32: a sum over thousands of positions exceeds the precision of bfloat16.
    return functional.cross_entropy(head(states).float(), labels, reduction="sum")


def load_masked_lm(
    source: ModelSource, *, k: int | None = None, seed: int = 42
) -> tuple[BertForMaskedLM, int]:
    """Load or create a model for pretraining.

    Parameters
    ----------
    source : ModelSource
    k : int, bases, optional
        Required token length, equal to that of a folder. Default: that of the source.
    seed : int, default 42
        Random weights depend only on it and on the architecture. torch's global random state is neither used
        nor changed.

    Returns
    -------
    model : BertForMaskedLM
        float32, on the CPU, in training mode, with SDPA attention.
    k : int
        Bases per token.

    Raises
    ------
    InputError
        If a folder is missing or of the wrong kind, its vocabulary has another order or another k, or its
        weights do not match the architecture exactly.
    """
    config, k = source.config_for(k)
    weights = source.weights
    if weights is None:
        return _random_masked_lm(copy.deepcopy(config), seed), k
    if weights != source.folder:
        _check_fits(config, k, source, weights)
    tensors = read_weights(weights)
    check_sizes(config, tensors, weights)
    model = _random_masked_lm(copy.deepcopy(config), seed)
    fit_weights(model, tensors, weights)
    return model, k


def set_dropout(model: torch.nn.Module, p: float) -> None:
    """Set the dropout of a model's layers to `p`, in [0, 1); its configuration keeps its own."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = p


def _check_fits(config: BertConfig, k: int, source: ModelSource, weights: Path) -> None:
    own = read_config(weights)
    own_k = vocabulary_k(weights, own.vocab_size)
    if own_k != k:
        raise InputError(f"{weights} reads {own_k}-mers; needed a model of {k}-mers")
    # These do not affect shapes, but weights trained with one setting do not work with another.
    for name in ("num_attention_heads", "hidden_act"):
        if getattr(own, name) != getattr(config, name):
            raise InputError(
                f"{weights} was trained with {name} {getattr(own, name)}; {source.text} has"
                f" {getattr(config, name)}: use its architecture too, with `model`"
            )


def _random_masked_lm(config: BertConfig, seed: int) -> BertForMaskedLM:
    config._attn_implementation = "sdpa"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draws.key(seed, draws.WEIGHTS)))
        return BertForMaskedLM(config).train()
