"""The one training engine: a step of micro-batches over any number of processes, in plain torch.

Nothing the result depends on changes with micro-batching or with the number of processes: the loss is the
sum over the whole step divided by the number of targets of the whole step (method, section 6).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.parallel import DistributedDataParallel

from cmgems_cli import draws
from cmgems_cli.training.heap import HeapTrimmer
from cmgems_cli.training.processes import Processes

# torch 2.13 renamed the option. BERT's buffers never change: there is nothing to exchange.
_DDP_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_RENAMED = "forward_sync_buffers" in _DDP_OPTIONS
_NO_SYNC: dict[str, Any] = {"forward_sync_buffers" if _RENAMED else "broadcast_buffers": False}


@dataclass(frozen=True)
class Recipe:
    """How weights are updated.

    Attributes
    ----------
    learning_rate : float
        Peak of the schedule.
    steps, warmup_steps : int
        Length of the run and of its linear warm-up; then linear decay towards 0.
    betas, eps, weight_decay, clip_norm
        Of AdamW and of gradient clipping; decay spares biases and LayerNorm.
    """

    learning_rate: float
    steps: int
    warmup_steps: int
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip_norm: float

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step (1 … steps): no step is spent at rate 0.

        >>> recipe = Recipe(1.0, 10, 2, (0.9, 0.98), 1e-6, 0.01, 1.0)
        >>> [round(recipe.learning_rate_at(step), 2) for step in (1, 2, 3, 10)]
        [0.5, 1.0, 0.89, 0.11]
        """
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        # Counted from the step at the peak: the last one of the warm-up, or the first step without one.
        return self.learning_rate * (self.steps + 1 - step) / (self.steps + 1 - max(1, self.warmup_steps))


class Batch(Protocol):
    """A micro-batch: knows its place in the step and can move to a device."""

    @property
    def index(self) -> int: ...

    def to(self, device: torch.device) -> Any: ...


class Engine:
    """Model, optimizer and processes of one run.

    Parameters
    ----------
    module : torch.nn.Module
        Called with a micro-batch's fields; returns the *sum* of its losses as a float32 scalar.
    forward : callable
        `forward(module, batch)` makes that call.
    recipe : Recipe
    processes : Processes
    precision : str
        fp32, or bf16: forward passes under autocast, weights and optimizer stay float32.
    seed : int
        Dropout of micro-batch i of step s is a pure function of (seed, s, i).
    """

    def __init__(
        self,
        module: torch.nn.Module,
        forward: Any,
        recipe: Recipe,
        *,
        processes: Processes,
        precision: str,
        seed: int,
    ) -> None:
        self.processes = processes
        self.recipe = recipe
        self.precision = precision
        self._forward = forward
        self._seed = seed
        self._memory = HeapTrimmer()
        self.module = module.to(processes.device)
        self._draws_dropout = any(
            isinstance(part, torch.nn.Dropout) and part.p > 0 for part in module.modules()
        )
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.module, recipe.weight_decay),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.eps,
            fused=True,
        )
        self._parallel: torch.nn.Module = self.module
        if processes.world_size > 1:
            # Gradients are all that is ever exchanged: every process starts from the same weights.
            self._parallel = DistributedDataParallel(
                self.module,
                device_ids=[processes.device.index] if processes.device.type == "cuda" else None,
                **_NO_SYNC,
                gradient_as_bucket_view=True,
            )

    def step(self, step: int, batches: Sequence[Batch], n_targets: int) -> torch.Tensor:
        """Take one optimizer step.

        Parameters
        ----------
        step : int
            1 … `recipe.steps`.
        batches : list of micro-batches
            This process's share of the step, at least one.
        n_targets : int
            Number of targets of the whole step, over all processes.

        Returns
        -------
        float32 tensor, shape ()
            Sum of this process's losses, on its device: reading it is the step's only wait.
        """
        self.module.train()
        self._parallel.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate_at(step)
        # DDP averages over processes; the loss is a mean over the targets of all of them.
        scale = self.processes.world_size / max(1, n_targets)
        total = torch.zeros((), device=self.processes.device)
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            if self._draws_dropout:
                key = int(draws.key(self._seed, draws.DROPOUT, step, batch.index))
                torch.manual_seed(key & (2**63 - 1))
            with nullcontext() if last or self.processes.world_size == 1 else self._parallel.no_sync():  # type: ignore[operator]
                with self._autocast():
                    loss = self._forward(self._parallel, batch.to(self.processes.device))
                (loss * scale).backward()
            total += loss.detach()
            self._memory.trim()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    @torch.no_grad()
    def loss_sum(self, batches: Sequence[Batch]) -> torch.Tensor:
        """Return the float64 sum of the losses of this process's `batches`, without training."""
        self.module.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.processes.device)
        for batch in batches:
            with self._autocast():
                total += self._forward(self.module, batch.to(self.processes.device)).double()
            self._memory.trim()
        return total

    @torch.no_grad()
    def outputs(
        self, forward: Callable[[torch.nn.Module, Any], torch.Tensor], batches: Sequence[Batch]
    ) -> list[torch.Tensor]:
        """Return `forward(module, batch)` of each of this process's `batches`, without training."""
        self.module.eval()
        found = []
        for batch in batches:
            with self._autocast():
                found.append(forward(self.module, batch.to(self.processes.device)))
            self._memory.trim()
        return found

    @property
    def draws_dropout(self) -> bool:
        """Whether training steps draw anything at random."""
        return self._draws_dropout

    def _autocast(self) -> torch.autocast:
        enabled = self.precision == "bf16"
        return torch.autocast(self.processes.device.type, dtype=torch.bfloat16, enabled=enabled)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return (weights, optimizer state) as flat name → tensor mappings."""
        weights = {name: parameter.detach() for name, parameter in self.module.named_parameters()}
        moments = {
            f"{moment}.{name}": self.optimizer.state[parameter][moment]
            for name, parameter in self.module.named_parameters()
            if parameter in self.optimizer.state
            for moment in ("exp_avg", "exp_avg_sq")
        }
        return weights, moments

    @torch.no_grad()
    def load_state(
        self, step: int, weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor]
    ) -> None:
        """Put back what `state` returned after `step` steps."""
        for name, parameter in self.module.named_parameters():
            parameter.copy_(weights[name])
            if f"exp_avg.{name}" not in moments:
                continue
            self.optimizer.state[parameter] = {
                # The fused kernel keeps its step count as a float32 tensor beside the weights.
                "step": torch.tensor(float(step), dtype=torch.float32, device=parameter.device),
                **{m: moments[f"{m}.{name}"].to(parameter.device) for m in ("exp_avg", "exp_avg_sq")},
            }


def parameter_groups(module: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into those with weight decay and those without: biases and LayerNorm (method, section 6)."""
    spared = {
        parameter
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if name.endswith("bias") or isinstance(part, torch.nn.LayerNorm)
    }
    with_decay = [parameter for parameter in module.parameters() if parameter not in spared]
    without = [parameter for parameter in module.parameters() if parameter in spared]
    return [{"params": with_decay, "weight_decay": weight_decay}, {"params": without, "weight_decay": 0.0}]
