"""Which parameters share the settings of AdamW."""

from __future__ import annotations

from typing import Any

import torch


def parameter_groups(
    module: torch.nn.Module, weight_decay: float, embedding_lr: float = 1.0
) -> list[dict[str, Any]]:
    """Split the parameters that are trained into groups of AdamW by weight decay and learning rate.

    Biases and LayerNorm have no weight decay (method, section 6). The embeddings (tokens, positions and types: every
    `torch.nn.Embedding`) have `embedding_lr` times the learning rate, as `lr_factor` says.
    """
    embeddings = {
        parameter
        for layer in module.modules()
        if isinstance(layer, torch.nn.Embedding)
        for parameter in layer.parameters()
    }
    undecayed = {
        parameter
        for layer in module.modules()
        for name, parameter in layer.named_parameters(recurse=False)
        if name.endswith("bias") or isinstance(layer, torch.nn.LayerNorm)
    }
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {(weight_decay, 1.0): [], (0.0, 1.0): []}
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        key = (
            0.0 if parameter in undecayed else weight_decay,
            embedding_lr if parameter in embeddings else 1.0,
        )
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_factor": factor}
        for (decay, factor), parameters in groups.items()
        if parameters
    ]
