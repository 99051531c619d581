"""The processes of one run: alone, or started by torchrun and reducing sums over all of them."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from cmgems_cli.errors import UsageError


@dataclass(frozen=True)
class Processes:
    """One process's place among those of the run.

    Attributes
    ----------
    rank : int
        0 … world_size - 1; rank 0 alone writes files and talks.
    world_size : int
        Number of processes.
    device : torch.device
        Where this process computes.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes and talks."""
        return self.rank == 0

    def all_reduce_sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return `values` summed over all processes (a new tensor, the same on each)."""
        total = values.clone()
        if self.world_size > 1:
            dist.all_reduce(total)
        return total

    def broadcast_from_main(self, value: float) -> float:
        """Return rank 0's `value` on every process, so that a decision is made once."""
        if self.world_size == 1:
            return value
        held = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(held, src=0)
        return float(held.item())

    def barrier(self) -> None:
        """Return once every process has arrived here."""
        if self.world_size > 1:
            self.all_reduce_sum(torch.zeros(1, device=self.device)).item()


def start_processes(device: str) -> Processes:
    """Join the run that torchrun started, or make a run of this process alone.

    Parameters
    ----------
    device : str
        auto (CUDA where there is any), cpu, cuda or cuda:N. Under torchrun every process takes the
        device of its local rank, so cuda:N is refused there.

    Raises
    ------
    UsageError
        If the device is unknown or absent.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    chosen = resolve_device(device)
    if world > 1 and chosen.type == "cuda":
        if chosen.index is not None:
            raise UsageError(
                f"--device {device} under torchrun: give --device cuda, each process takes its own"
            )
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if chosen.type == "cuda":
        # torch refuses a device without a number here.
        chosen = torch.device("cuda", chosen.index or 0)
        torch.cuda.set_device(chosen)
        # cuDNN's attention plans anew at every shape, and padded micro-batches each have their own. Measured
        # on an H100 (docs/log.md): a fifth of the speed for logo, a third for dnabert.
        torch.backends.cuda.enable_cudnn_sdp(False)
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Processes(rank, world, chosen)


def stop_processes() -> None:
    """Leave the process group, if there is one: torch warns of those who forget."""
    if dist.is_initialized():
        # DDP's C++ side may be the group's last owner, and it lets go holding Python's lock, which gloo's
        # thread needs to end: a deadlock, now and then. So the group is never freed; it ends with the process.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
        dist.destroy_process_group()


def resolve_device(device: str) -> torch.device:
    """Turn `--device` into a torch device, refusing what this machine does not have."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, _, index = device.partition(":")
    if name not in {"cpu", "cuda"} or (index and not index.isdigit()) or (name == "cpu" and index):
        raise UsageError(f"--device {device!r} is not one of auto, cpu, cuda, cuda:N")
    if name == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(
                f"--device {device}: torch {torch.__version__} sees no CUDA device here; use --device cpu"
            )
        if index and int(index) >= torch.cuda.device_count():
            raise UsageError(
                f"--device {device}: this machine has {torch.cuda.device_count()} CUDA device(s)"
            )
    return torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn `--precision` auto into bf16 where the hardware multiplies it, fp32 elsewhere.

    Raises
    ------
    UsageError
        If bf16 is asked of a CUDA card that has none.
    """
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
        if precision == "bf16" and not able:
            raise UsageError(f"--precision bf16: {torch.cuda.get_device_name(device)} has no bf16; use fp32")
    else:
        able = _cpu_has_bf16()
    return precision if precision != "auto" else ("bf16" if able else "fp32")


def _cpu_has_bf16() -> bool:
    # AVX-512 BF16 or AMX: without one of them bf16 on a CPU is emulated and slower than fp32.
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in questions)
