"""A suspicious step computed once more: is it the numbers or the hardware, and which tensor went wrong first?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from cmgems_cli.training.engine import Batch, Engine

# ours: FlashAttention's backward pass adds in no fixed order, so on CUDA a repeated step differs in rounding.
CUDA_TOLERANCE = 0.01


def same_result(first: Sequence[float], again: Sequence[float], device: torch.device) -> bool:
    """Return whether a step computed twice on a device gave the same numbers: the same bits on a CPU."""
    tolerance = CUDA_TOLERANCE if device.type == "cuda" else 0.0
    return all(
        (math.isnan(a) and math.isnan(b)) or a == b or math.isclose(a, b, rel_tol=tolerance)
        for a, b in zip(first, again, strict=True)
    )


def first_not_finite(engine: Engine, step: int, batches: Sequence[Batch]) -> tuple[str, Batch | None]:
    """Compute a step once more on this process and find the first tensor with a value that is not finite.

    Returns
    -------
    what : str
        The parameter, output or gradient.
    batch : Batch or None
        The micro-batch it happened in; None for a parameter, and for a sum over micro-batches.
    """
    for name, parameter in engine.module.named_parameters():
        if not _finite(parameter):
            return f"the parameter {name}", None
    engine.optimizer.zero_grad(set_to_none=True)
    found: list[str] = []

    def look(what: str, tensor: Any) -> None:
        if not found and isinstance(tensor, torch.Tensor) and not _finite(tensor):
            found.append(what)

    def look_at_output(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: look(f"the output of {name}", output)

    def look_at_gradient(name: str) -> Callable[[torch.Tensor], None]:
        return lambda parameter: look(f"the gradient of {name}", parameter.grad)

    hooks = [
        module.register_forward_hook(look_at_output(name))
        for name, module in engine.module.named_modules()
        if name
    ]
    hooks += [
        parameter.register_post_accumulate_grad_hook(look_at_gradient(name))
        for name, parameter in engine.module.named_parameters()
    ]
    # Hooks of modules and inside compiled functions would not be called otherwise.
    module: Any = engine.module
    had = getattr(module, "by_modules", None)
    try:
        if had is not None:
            module.by_modules = True
        with torch.compiler.set_stance("force_eager"):
            for batch in batches:
                loss = engine.loss(engine.module, step, batch)
                look("the loss", loss)
                if not found:
                    loss.backward()
                engine.optimizer.zero_grad(set_to_none=True)
                if found:
                    return found[0], batch
    finally:
        if had is not None:
            module.by_modules = had
        for hook in hooks:
            hook.remove()
    return "a sum over the micro-batches or the processes", None


def _finite(tensor: torch.Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())
