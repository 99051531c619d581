"""The training engine: steps of micro-batches over any number of processes, in plain torch.

Results depend neither on micro-batching nor on the number of processes: the loss is the sum over the whole
step divided by the number of targets of the whole step (method, section 6).
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn.parallel import DistributedDataParallel

from cmgems_cli import draws
from cmgems_cli.errors import InputError
from cmgems_cli.training.heap import HeapTrimmer
from cmgems_cli.training.parameter_groups import parameter_groups
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.recorded_steps import RecordedSteps

# torch 2.13 renamed the option. BERT's buffers never change, so they need no synchronisation.
_DDP_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_RENAMED = "forward_sync_buffers" in _DDP_OPTIONS
_NO_SYNC: dict[str, Any] = {"forward_sync_buffers" if _RENAMED else "broadcast_buffers": False}

# ours: a twelfth of the time for which a collective waits.
SECONDS_OF_A_SLOW_STEP = 5.0

# What AdamW keeps of each parameter.
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters of the optimizer and its schedule.

    Attributes
    ----------
    learning_rate : float
        Peak of the schedule.
    steps, warmup_steps : int
        Length of the run and of its linear warm-up, after which the rate decays linearly towards 0.
    betas, eps, weight_decay, clip_norm
        Of AdamW and of gradient clipping. Biases and LayerNorm have no weight decay.
    embedding_lr : float
        Factor of the learning rate for the embeddings.
    """

    learning_rate: float
    steps: int
    warmup_steps: int
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    clip_norm: float
    embedding_lr: float = 1.0

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step (1 … steps); it is never 0.

        >>> recipe = Recipe(1.0, 10, 2, (0.9, 0.98), 1e-6, 0.01, 1.0)
        >>> [round(recipe.learning_rate_at(step), 2) for step in (1, 2, 3, 10)]
        [0.5, 1.0, 0.89, 0.11]
        """
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        # Counted from the step with the peak rate: the last of the warm-up, or step 1 without a warm-up.
        return self.learning_rate * (self.steps + 1 - step) / (self.steps + 1 - max(1, self.warmup_steps))


class Batch(Protocol):
    """A micro-batch: has an index within the step and can move to a device."""

    @property
    def index(self) -> int: ...

    def to(self, device: torch.device) -> Any: ...


class Engine:
    """Model, optimizer and processes of one run.

    Parameters
    ----------
    module : torch.nn.Module
        Called with the fields of a micro-batch; returns the *sum* of its losses as a float32 scalar.
    forward : callable
        `forward(module, batch)` makes this call.
    recipe : Recipe
    processes : Processes
    precision : str
        fp32, or bf16: forward passes use autocast; weights and optimizer stay float32.
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
        self._draws_dropout = draws_dropout(module)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.module, recipe.weight_decay, recipe.embedding_lr),
            lr=recipe.learning_rate,
            betas=recipe.betas,
            eps=recipe.eps,
            fused=True,
        )
        self._weights = list(self.trained().values())
        # Replays the passes of micro-batches, if set: with one process and without dropout only.
        self.recorded: RecordedSteps | None = None
        self._parallel: torch.nn.Module = self.module
        # Whether processes meet before each step's gradients are exchanged: not once a step has proved to be quick.
        self._meets, self._steps_taken = processes.world_size > 1, 0
        if processes.world_size > 1:
            # Only gradients are exchanged, since every process starts from the same weights.
            self._parallel = DistributedDataParallel(
                self.module,
                device_ids=[processes.device.index] if processes.device.type == "cuda" else None,
                **_NO_SYNC,
                gradient_as_bucket_view=True,
            )

    def step(
        self, step: int, batches: Sequence[Batch], n_targets: int, limit: float = math.inf
    ) -> torch.Tensor:
        """Take one optimizer step, unless its loss or gradient is not finite or its loss exceeds `limit`.

        Parameters
        ----------
        step : int
            1 … `recipe.steps`.
        batches : list of micro-batches
            Those of this process, at least one.
        n_targets : int
            Number of targets of the whole step, summed over all processes.
        limit : float, default infinity
            Of the sum of all losses. The weights stay as they were if it is exceeded.

        Returns
        -------
        float64 tensor, shape (2,)
            As `gradients`.
        """
        sums = self.gradients(step, batches, n_targets)
        # Decided on the device, so that nothing waits for it.
        self.update(step, held=~(sums.isfinite().all() & (sums[0] <= limit)))
        return sums

    def gradients(self, step: int, batches: Sequence[Batch], n_targets: int) -> torch.Tensor:
        """Compute the gradients of a step, clipped (parameters as `step`).

        Returns
        -------
        float64 tensor, shape (2,)
            Sum of the losses of all processes and norm of the gradient before clipping, on this process's device.
            Reading it waits for the step to end.
        """
        started = time.monotonic()
        # Those of a step that was not finished.
        self.optimizer.zero_grad(set_to_none=True)
        if self.recorded is not None:
            self.recorded.begin()
        if not (self.module.training and self._parallel.training):
            self._parallel.train()
        # DDP averages over processes; the loss is a mean over the targets of all of them.
        scale = self.processes.world_size / max(1, n_targets)
        total = torch.zeros((), device=self.processes.device)
        for number, batch in enumerate(batches):
            if self.recorded is not None:
                total += self.recorded.run(batch, scale)
                continue
            last = number == len(batches) - 1
            with nullcontext() if last or self.processes.world_size == 1 else self._parallel.no_sync():  # type: ignore[operator]
                loss = self.loss(self._parallel, step, batch)
                # Not before the forward pass: DDP's second one, of whichever micro-batch, is a collective itself.
                if last and self._meets:
                    self._keep_together(time.monotonic() - started)
                (loss * scale).backward()
            total += loss.detach()
            self._memory.trim()
        norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_norm)
        return torch.stack([self.processes.all_reduce_sum(total.double()), norm.double()])

    def loss(self, module: torch.nn.Module, step: int, batch: Batch) -> torch.Tensor:
        """Return the sum of a micro-batch's losses in training, a float32 tensor of shape ()."""
        if self._draws_dropout:
            key = int(draws.key(self._seed, draws.DROPOUT, step, batch.index))
            # `torch.manual_seed` also seeds devices that are not there, and formats a stack for each: 0.4 ms or more.
            on_cpu = self.processes.device.type == "cpu"
            seed = torch.default_generator.manual_seed if on_cpu else torch.manual_seed
            seed(key & (2**63 - 1))
        with self._autocast():
            loss: torch.Tensor = self._forward(module, batch.to(self.processes.device))
        return loss

    def update(self, step: int, *, held: torch.Tensor | None = None) -> None:
        """Update the weights by the gradients and drop these.

        Parameters
        ----------
        step : int
            1 … `recipe.steps`.
        held : bool tensor, shape (), optional
            Whether to leave weights and optimizer as they are.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate_at(step) * group["lr_factor"]
        # What torch's GradScaler uses: the fused kernel reads it on the device.
        self.optimizer.found_inf = None if held is None else held.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        # The fused kernel does not raise the versions, by which copies of the weights know that they are old.
        for weight in self._weights:
            torch.autograd.graph.increment_version(weight)
        self.optimizer.zero_grad(set_to_none=True)

    def is_finite(self) -> bool:
        """Return whether all weights and the optimizer's state are finite."""
        tensors = [tensor for part in self.state() for tensor in part.values()]
        return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())

    def _keep_together(self, seconds: float) -> None:
        """Wait for the other processes, which may be slower: a collective gives up after a minute."""
        self._steps_taken += 1
        slowest = max(self.processes.gather(seconds))
        # The first step compiles.
        self._meets = self._steps_taken == 1 or slowest > SECONDS_OF_A_SLOW_STEP

    def trained(self) -> dict[str, torch.nn.Parameter]:
        """Return the parameters that are trained, by name: all, or adapters and head."""
        return {name: one for name, one in self.module.named_parameters() if one.requires_grad}

    def checksum(self) -> int:
        """Return a number that follows from every bit of the weights and of the optimizer's state."""
        total = 0
        for tensors in self.state():
            for tensor in tensors.values():
                bits = tensor.contiguous().view(torch.int32)
                total = (31 * total + int(bits.sum(dtype=torch.int64))) % 2**61
        return total

    @torch.no_grad()
    def loss_sum(self, batches: Sequence[Batch]) -> torch.Tensor:
        """Return the sum of the losses of this process's `batches` without training (float64 tensor, shape ())."""
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
        """Return `forward(module, batch)` for each of this process's `batches` without training.

        Parameters
        ----------
        forward : callable
            Returns a tensor of any dtype and shape.
        batches : list of micro-batches

        Returns
        -------
        list of tensors
            In the dtype and shape that `forward` returns, one per batch.
        """
        self.module.eval()
        outputs = []
        for batch in batches:
            with self._autocast():
                outputs.append(forward(self.module, batch.to(self.processes.device)))
            self._memory.trim()
        return outputs

    def _autocast(self) -> torch.autocast:
        enabled = self.precision == "bf16"
        return torch.autocast(self.processes.device.type, dtype=torch.bfloat16, enabled=enabled)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Return the trained weights and the optimizer state by name.

        Returns
        -------
        weights : dict, parameter name -> float32 tensor, the shape of the parameter
        moments : dict, "exp_avg.NAME" or "exp_avg_sq.NAME" -> float32 tensor, the shape of the parameter
            Empty before the first step.
        """
        weights = {name: parameter.detach() for name, parameter in self.trained().items()}
        moments = {
            f"{moment}.{name}": self.optimizer.state[parameter][moment]
            for name, parameter in self.trained().items()
            if parameter in self.optimizer.state
            for moment in _MOMENTS
        }
        return weights, moments

    @torch.no_grad()
    def load_state(
        self, updates: int, weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor]
    ) -> None:
        """Restore the state that `state` returned after a number of updates.

        Parameters
        ----------
        updates : int
            Without any there are no moments yet.
        weights, moments : dict, name -> float32 tensor, the shape of the parameter
            As returned by `state`.

        Raises
        ------
        InputError
            If a tensor is missing or superfluous, or has another shape or type, or impossible values. Nothing is
            changed then.
        """
        parameters = self.trained()
        needed = {f"{m}.{name}": p for name, p in parameters.items() for m in _MOMENTS}
        needed = needed if updates or moments else {}
        _check_tensors(moments, needed)
        for name, moment in moments.items():
            if name.startswith(_MOMENTS[1]) and bool((moment < 0).any()):
                raise InputError(f"the saved state has {name} with negative values; needed a mean of squares")
        self.load_weights(weights)
        self.optimizer.state.clear()
        for name, parameter in parameters.items() if updates else ():
            self.optimizer.state[parameter] = {
                # The fused kernel stores its step count as a float32 tensor on the device of the weights.
                "step": torch.tensor(float(updates), dtype=torch.float32, device=parameter.device),
                **{m: moments[f"{m}.{name}"].to(parameter.device) for m in _MOMENTS},
            }

    @torch.no_grad()
    def load_weights(self, weights: dict[str, torch.Tensor]) -> None:
        """Replace the weights (InputError as `load_state`).

        Parameters
        ----------
        weights : dict, name -> float32 tensor, the shape of the parameter
        """
        self.check_weights(weights)
        for name, parameter in self.trained().items():
            parameter.copy_(weights[name])

    def check_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Check that weights, float32 tensors of the parameters' shapes, fit and are finite (or raise InputError)."""
        _check_tensors(weights, self.trained())


def _check_tensors(given: Mapping[str, torch.Tensor], needed: Mapping[str, torch.Tensor]) -> None:
    for name in sorted({*given, *needed}):
        forms = [_form(tensors[name]) if name in tensors else "nothing" for tensors in (given, needed)]
        if forms[0] != forms[1]:
            raise InputError(f"the saved state has {name}: {forms[0]}; needed {forms[1]}")
        if not bool(torch.isfinite(given[name]).all()):
            raise InputError(
                f"the saved state has {name} with values that are not finite; needed finite ones"
            )


def _form(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"


def draws_dropout(module: torch.nn.Module) -> bool:
    """Return whether training steps of a module draw dropout."""
    return bool(getattr(module, "draws_dropout", False)) or any(
        isinstance(layer, torch.nn.Dropout) and layer.p > 0 for layer in module.modules()
    )


def device_name(device: torch.device) -> str:
    """Return the name of a device for the environment of a manifest."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    import platform

    return f"cpu ({platform.machine()})"
