"""LoRA: low-rank adapters of the linear layers of an encoder, trained in their place and merged at the end.

Hu et al., arXiv 2106.09685; by the library peft, which is optional.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from cmgems_cli import draws
from cmgems_cli.extras import need
from cmgems_cli.modeling.families import encoder_of

# Alpha 16 at rank 8, on query, key, value and dense, every linear layer of these encoders: how the published Nucleotide
# Transformer columns of GUE were made (MAGICS-LAB/DNABERT_2, finetune/scripts/run_nt.sh).
ALPHA_PER_RANK = 2
# MAGICS-LAB/DNABERT_2, finetune/train.py: the default, which those runs did not change.
LORA_DROPOUT = 0.05


# Of a linear layer in one of an encoder's numbered layers: not of a pooler, nor of ESM's head for contacts.
_IN_A_LAYER = re.compile(r"(^|\.)\d+\.")


def lora_params(rank: int) -> dict[str, Any]:
    """Return what a manifest records of adapters of this rank."""
    return {"lora": rank, "lora_alpha": ALPHA_PER_RANK * rank, "lora_dropout": LORA_DROPOUT}


def add_lora(model: Any, rank: int, *, seed: int) -> None:
    """Give every linear layer of a model's encoder an adapter; only adapters and head are trained from then on.

    Parameters
    ----------
    model
        From `new_classifier`; changed in place. Its logits stay the same: adapters begin as zero.
    rank : int
    seed : int
        The adapters' first matrices are a function of it.
    """
    need("peft", "lora", "`lora`", instead="leave `lora` out")
    from peft import LoraConfig, inject_adapter_in_model

    encoder = encoder_of(model)
    within = f"{model.base_model_prefix}."
    targets = [
        f"{within}{name}"
        for name, layer in encoder.named_modules()
        if isinstance(layer, nn.Linear) and _IN_A_LAYER.search(name)
    ]
    config = LoraConfig(
        r=rank,
        lora_alpha=ALPHA_PER_RANK * rank,
        lora_dropout=LORA_DROPOUT,
        target_modules=targets,
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draws.key(seed, draws.WEIGHTS, rank)))
        inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        if not name.startswith(within) or name.startswith(f"{within}pooler."):
            parameter.requires_grad_(True)


@torch.no_grad()
def merge_lora(model: nn.Module) -> None:
    """Add the adapters to the weights of their layers and remove them; the logits stay the same up to rounding."""
    adapted = [name for name, layer in model.named_modules() if hasattr(layer, "lora_A")]
    for name in adapted:
        layer: Any = model.get_submodule(name)
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    if adapted and hasattr(model, "peft_config"):
        del model.peft_config
    for parameter in model.parameters():
        parameter.requires_grad_(True)
