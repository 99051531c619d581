"""The masked-LM loss of a stock BERT, with the vocabulary head run on masked positions only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from transformers import BertForMaskedLM

from cmgems_cli.modeling.encoder import Packing, compiled, states_at


class MaskedPositionsLM(torch.nn.Module):
    """A stock `BertForMaskedLM` whose loss costs only what the masked positions need.

    About one token in seven is masked, and the stock forward computes 4,101 logits at every token. The
    head runs inside `forward`, or DistributedDataParallel would not see its gradients.

    Attributes
    ----------
    bert_lm : BertForMaskedLM
        The wrapped model; what goes to disk.
    compiling : bool
        Compile training, part by part, when it is first run; False at first.
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
            Flat indices of the masked positions into b × t. m may be 0: the loss is then a zero that
            still reaches every parameter, so that all processes reduce the same gradients.
        labels : int64, shape (m,)
            The token ids that were there.

        Returns
        -------
        float32, scalar, nats
            A sum, not a mean: only the caller knows how many positions the whole step masks.
        """
        compiling = self.compiling and self.training
        states = states_at(self.bert_lm.bert, input_ids, attention_mask, masked_index, compiling=compiling)
        loss: Tensor = (compiled(_loss) if compiling else _loss)(self.bert_lm.cls, states, labels)
        return loss


def _loss(head: torch.nn.Module, states: Tensor, labels: Tensor) -> Tensor:
    # In float32 whatever autocast says: a sum over thousands of positions outgrows bfloat16's 8 bits.
    return functional.cross_entropy(head(states).float(), labels, reduction="sum")
