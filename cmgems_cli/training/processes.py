"""The processes of one run: a single one, or several started by torchrun that reduce sums over all."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cmgems_cli.errors import CmgemsError, UsageError
from cmgems_cli.training.peers import Peers

# ours: the longest wait in a collective. Processes meet before it when they may arrive far apart.
COLLECTIVE_SECONDS = 60.0

# Longest value in a message.
_SHOWN = 40

_peers: Peers | None = None


@dataclass(frozen=True)
class Processes:
    """One process among those of the run.

    Attributes
    ----------
    rank : int
        0 … world_size - 1; only rank 0 writes files and messages.
    world_size : int
        Number of processes.
    device : torch.device
        The device of this process.
    """

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    @property
    def number(self) -> str:
        """The number of processes for a message: `1 process`, `4 processes`."""
        return "1 process" if self.world_size == 1 else f"{self.world_size} processes"

    def all_reduce_sum(self, values: torch.Tensor, *, after_long_work: bool = False) -> torch.Tensor:
        """Sum a tensor over all processes.

        Parameters
        ----------
        values : tensor of any dtype and shape
        after_long_work : bool, default False
            Whether the processes may come here more than a few seconds apart.

        Returns
        -------
        tensor, the dtype and shape of `values`
            A new tensor, the same on each process.
        """
        total = values.clone()
        if self.world_size > 1:
            if after_long_work:
                self.barrier()
            dist.all_reduce(total)
        return total

    def gather(self, value: Any) -> list[Any]:
        """Wait for every process, however long, and return their values (of JSON) by rank."""
        if _peers is None or self.world_size == 1:
            return [value]
        return [json.loads(other) for other in _peers.gather(json.dumps(value))]

    def broadcast_from_main(self, value: float) -> float:
        """Return rank 0's `value` on every process, so that all act on the same decision."""
        return float(self.gather(value)[0])

    def barrier(self) -> None:
        """Wait until every process has called this method."""
        self.gather(None)

    def difference(self, facts: Mapping[str, Any]) -> str | None:
        """Compare values (of JSON) with those of the other processes.

        Returns
        -------
        str or None
            A clause that names a rank and the first value in which it differs from most; None if all are equal.
        """
        gathered = self.gather(dict(facts))
        for name in sorted({name for facts_of_one in gathered for name in facts_of_one}):
            values = [json.dumps(facts_of_one.get(name)) for facts_of_one in gathered]
            usual = Counter(values).most_common(1)[0][0]
            for rank, found in enumerate(values):
                if found != usual:
                    return (
                        f"rank {rank} of {self.world_size} has `{name}` {found:.{_SHOWN}},"
                        f" rank {values.index(usual)} has {usual:.{_SHOWN}}"
                    )
        return None

    def check_equal(self, facts: Mapping[str, Any]) -> None:
        """Check that all processes run the same code with the same `facts` (of JSON).

        Raises
        ------
        UsageError
            Names a rank that differs.
        """
        if self.world_size == 1:
            return
        code = {
            "code": _code_digest(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        found = self.difference({**code, **facts})
        if found is not None:
            raise UsageError(f"{found}; start every process with the same code, options and data")

    def alone(self) -> AbstractContextManager[None]:
        """Return a context in which this process works without the others: its end waits for that of the work."""
        return nullcontext() if _peers is None else _peers.alone()


@cache
def _code_digest() -> str:
    package = Path(__file__).resolve().parents[1]
    code = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        code.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return code.hexdigest()[:16]


def start_processes(device: str) -> Processes:
    """Join the run that torchrun started, or make a run of this process alone.

    Parameters
    ----------
    device : str
        auto (CUDA if available), cpu, cuda or cuda:N. Under torchrun each process uses the device of its
        local rank, so cuda:N is refused there.

    Raises
    ------
    UsageError
        If the device is unknown or not available.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    chosen = resolve_device(device)
    if world_size > 1 and chosen.type == "cuda":
        if chosen.index is not None:
            raise UsageError(
                f"`device={device}` under torchrun: give `device=cuda`, each process uses its own GPU"
            )
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    if chosen.type == "cuda":
        # torch requires a device number here.
        chosen = torch.device("cuda", chosen.index or 0)
        torch.cuda.set_device(chosen)
        # cuDNN's attention is planned anew for every shape, and each padded micro-batch has its own. Measured
        # on an H100 (docs/log.md): it runs at a fifth of the speed for logo, at a third for dnabert.
        torch.backends.cuda.enable_cudnn_sdp(False)
    global _peers
    if world_size > 1 and not dist.is_initialized():
        _peers, store = Peers.join()
        dist.init_process_group(
            "nccl" if chosen.type == "cuda" else "gloo",
            store=store,
            rank=rank,
            world_size=world_size,
            timeout=timedelta(seconds=COLLECTIVE_SECONDS),
        )
    return Processes(rank, world_size, chosen)


def stop_processes() -> None:
    """Leave the other processes, unless an error is on its way: then this one stays with them until it has said so."""
    global _peers
    if sys.exc_info()[1] is not None or not dist.is_initialized():
        return
    if _peers is not None:
        _peers.leave()
        _peers = None
    # DDP's C++ side may be the group's last owner. It would free the group while holding Python's lock, which
    # gloo's thread needs to end: an occasional deadlock. So the group is never freed; it ends with the process.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(dist.group.WORLD))
    dist.destroy_process_group()


def speaks(exit_code: int) -> bool | None:
    """Return whether this process is to say why the run ends; None if it never joined others."""
    return None if _peers is None else _peers.speaks(exit_code)


def lost_process(error: Exception) -> CmgemsError | None:
    """Return the user error for an error of a collective operation; None for any other error."""
    if _peers is None or not isinstance(error, RuntimeError):
        return None
    named = any(word in str(error) for word in ("gloo", "NCCL", "TCPStore", "ProcessGroup"))
    return _peers.lost(error) if named or isinstance(error, dist.DistError) else None


def resolve_device(device: str) -> torch.device:
    """Return the torch device for auto, cpu, cuda or cuda:N.

    Raises
    ------
    UsageError
        If the device is unknown or not available.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name, _, index = device.partition(":")
    if name not in {"cpu", "cuda"} or (index and not index.isdigit()) or (name == "cpu" and index):
        raise UsageError(f"`device` {device!r} is unknown; choose auto, cpu, cuda or cuda:N")
    if name == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(
                f"`device={device}`: torch {torch.__version__} finds no CUDA device; use `device=cpu`"
            )
        if index and int(index) >= torch.cuda.device_count():
            raise UsageError(
                f"`device={device}`: this machine has {torch.cuda.device_count()} CUDA device(s)"
            )
    return torch.device(device)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return fp32 or bf16; auto gives bf16 where the hardware multiplies it, fp32 elsewhere.

    Raises
    ------
    UsageError
        If bf16 is requested on a GPU without it.
    """
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if precision == "bf16" and not has_bf16:
            raise UsageError(f"`precision=bf16`: {torch.cuda.get_device_name(device)} has no bf16; use fp32")
    else:
        has_bf16 = _cpu_has_bf16()
    return precision if precision != "auto" else ("bf16" if has_bf16 else "fp32")


def _cpu_has_bf16() -> bool:
    # Without AVX-512 BF16 or AMX, bf16 on a CPU is emulated and slower than fp32.
    queries = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in queries)
