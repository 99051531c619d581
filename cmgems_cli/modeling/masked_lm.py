"""The masked-LM loss of a stock BERT, with the vocabulary head applied to masked positions only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertForMaskedLM

from cmgems_cli.modeling.encoder import Packing, compiled, states_at


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
    """

    def __init__(self, bert_lm: BertForMaskedLM) -> None:
        super().__init__()
        self.bert_lm = bert_lm
        self.compiling = False

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
            The original token ids there.

        Returns
        -------
        float32, scalar, nats
            A sum, not a mean: only the caller knows the number of masked positions of the whole step.
        """
        compiling = self.compiling and self.training
        states = states_at(self.bert_lm.bert, input_ids, attention_mask, masked_index, compiling=compiling)
        loss: Tensor = (compiled(_loss) if compiling else _loss)(self.bert_lm.cls, states, labels)
        return loss


def _loss(head: torch.nn.Module, states: Tensor, labels: Tensor) -> Tensor:
    # Always float32: a sum over thousands of positions exceeds the precision of bfloat16.
    return functional.cross_entropy(head(states).float(), labels, reduction="sum")
