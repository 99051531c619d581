"""Forward and backward passes of micro-batches, recorded once per shape as a CUDA graph and replayed.

A replay is one launch instead of thousands. Dropout would be drawn alike in each, so models that draw it cannot be
recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from cmgems_cli.modeling.encoder import Packing

# torch's documentation: a few passes before a recording, since the first ones allocate and select kernels.
_WARM_UPS = 3

# Runs a function as often as it needs to, and returns its result and what computes it anew in place.
Recorder = Callable[[Callable[[], Tensor]], tuple[Tensor, Callable[[], Any]]]


class CudaRecorder:
    """Records on the current card; all recordings share the memory of one, since they run one after the other."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], Any]]:
        """Return the result, a tensor of fixed address, and the function that computes it anew."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = function()
        return result, graph.replay


class RecordedSteps:
    """Adds the gradients of micro-batches to those of the parameters, by replaying what was recorded.

    Parameters
    ----------
    loss : callable
        Returns the sum of the losses of a micro-batch on the device: float32, shape ().
    parameters : list of float32 parameters, of any shape
        Those that get gradients.
    recorder : callable
        `CudaRecorder`.
    """

    def __init__(
        self, loss: Callable[[Any], Tensor], parameters: Iterable[torch.nn.Parameter], recorder: Recorder
    ) -> None:
        self._loss, self._parameters, self._recorder = loss, list(parameters), recorder
        # Recorded code adds to these, whatever becomes of the parameters' own.
        self._gradients = [torch.zeros_like(one) for one in self._parameters]
        self._scale = torch.ones((), device=self._parameters[0].device)
        self._recordings: dict[Any, tuple[list[Tensor], Tensor, Callable[[], Any]]] = {}

    def begin(self) -> None:
        """Set all gradients to zero."""
        torch._foreach_zero_(self._gradients)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def run(self, batch: Any, scale: float) -> Tensor:
        """Add the gradients of a micro-batch.

        Parameters
        ----------
        batch : micro-batch
            A dataclass with tensors on any device.
        scale : float
            Factor of the loss before the backward pass.

        Returns
        -------
        float32 tensor, shape ()
            The sum of its losses. The next call may overwrite it.
        """
        batch = batch.to(self._scale.device)
        self._scale.fill_(scale)
        key = tuple((one.shape, one.dtype) for one in _tensors(batch)), _constants(batch)
        if key not in self._recordings:
            self._recordings[key] = self._record(batch)
        inputs, loss, replay = self._recordings[key]
        for kept, one in zip(inputs, _tensors(batch), strict=True):
            kept.copy_(one)
        replay()
        return loss

    def _record(self, batch: Any) -> tuple[list[Tensor], Tensor, Callable[[], Any]]:
        before = [gradient.clone() for gradient in self._gradients]
        kept = _copy(batch)

        def passes() -> Tensor:
            loss = self._loss(kept)
            (loss * self._scale).backward()
            return loss.detach()

        loss, replay = self._recorder(passes)
        torch._foreach_copy_(self._gradients, before)
        return _tensors(kept), loss, replay


def _tensors(batch: Any) -> list[Tensor]:
    """Return the tensors of a micro-batch, in the order of its fields."""
    found: list[Tensor] = []
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Packing):
            found += [value.bounds, value.positions]
        elif isinstance(value, Tensor):
            found.append(value)
    return found


def _constants(batch: Any) -> tuple[int, ...]:
    """Return what recorded code is specific to besides shapes."""
    values = (getattr(batch, field.name) for field in fields(batch))
    return tuple(value.longest for value in values if isinstance(value, Packing))


def _copy(batch: Any) -> Any:
    copies: dict[str, Tensor | Packing] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Packing):
            copies[field.name] = value._replace(
                bounds=value.bounds.clone(), positions=value.positions.clone()
            )
        elif isinstance(value, Tensor):
            copies[field.name] = value.clone()
    return replace(batch, **copies)
