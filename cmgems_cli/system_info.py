"""What the machine is: versions, devices, cores, memory and disk, as far as a program may use them."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from cmgems_cli.training.processes import resolve_precision

# Where Linux keeps a container's limits: version 2 of control groups, then version 1.
CGROUP = Path("/sys/fs/cgroup")
MEMINFO, CPUINFO = Path("/proc/meminfo"), Path("/proc/cpuinfo")
# Version 1 writes "no limit" as the largest number of whole pages.
_NO_LIMIT = 1 << 62

# There once a driver for NVIDIA cards is loaded, whatever torch can do.
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Version:
    """One package this one needs.

    Attributes
    ----------
    name : str
    found : str or None
        What is installed.
    needed : str
        As in this package's own metadata: `>=2.6`; empty where any will do.
    """

    name: str
    found: str | None
    needed: str

    @property
    def fits(self) -> bool:
        """Whether what is installed is what is needed."""
        from packaging.specifiers import SpecifierSet

        return self.found is not None and SpecifierSet(self.needed).contains(self.found, prereleases=True)


@dataclass(frozen=True)
class Device:
    """Something to compute on.

    Attributes
    ----------
    name : str
        As `--device` takes it: cpu, cuda:0.
    model : str
    memory_bytes, free_bytes : int or None
        All, and what is free now; None where the system does not tell.
    bf16 : bool
        Whether the hardware multiplies it.
    """

    name: str
    model: str
    memory_bytes: int | None
    free_bytes: int | None
    bf16: bool


def versions() -> list[Version]:
    """Return Python and the packages this one needs, those of its extras excepted."""
    from packaging.requirements import Requirement

    try:
        own = metadata.metadata("cmgems")
    except metadata.PackageNotFoundError:
        return [Version("python", platform.python_version(), "")]
    listed = [Version("python", platform.python_version(), own["Requires-Python"] or "")]
    for text in metadata.requires("cmgems") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found = None
        listed.append(Version(requirement.name, found, str(requirement.specifier)))
    return listed


def devices() -> list[Device]:
    """Return the CPU and every CUDA card torch sees."""
    total, free = memory()
    listed = [Device("cpu", cpu_model(), total, free, _has_bf16(torch.device("cpu")))]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        with torch.cuda.device(index):
            card_free, card_total = torch.cuda.mem_get_info(index)
            bf16 = _has_bf16(torch.device("cuda", index))
        name = torch.cuda.get_device_name(index)
        listed.append(Device(f"cuda:{index}", name, card_total, card_free, bf16))
    return listed


def _has_bf16(device: torch.device) -> bool:
    return resolve_precision("auto", device) == "bf16"


def cpu_model() -> str:
    """Return the processor's name as it gives it itself, or its kind."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def cores() -> float:
    """Return how many cores this process may use: those it may run on, or the container's share if less."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _first_number(CGROUP / "cpu.max"), _second_number(CGROUP / "cpu.max")
    if share == (None, None):
        share = (
            _first_number(CGROUP / "cpu" / "cpu.cfs_quota_us"),
            _first_number(CGROUP / "cpu" / "cpu.cfs_period_us"),
        )
    quota, period = share
    if quota is None or period is None or quota <= 0 or period <= 0:
        return float(allowed)
    return min(float(allowed), quota / period)


def memory() -> tuple[int | None, int | None]:
    """Return (all, free) main memory in bytes, within the container's limit; None where nothing tells."""
    fields = {}
    try:
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            fields[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    total, free = fields.get("MemTotal"), fields.get("MemAvailable")
    if total is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit_file, used_file in (
        (CGROUP / "memory.max", CGROUP / "memory.current"),
        (CGROUP / "memory" / "memory.limit_in_bytes", CGROUP / "memory" / "memory.usage_in_bytes"),
    ):
        limit, used = _first_number(limit_file), _first_number(used_file)
        if limit is not None and limit < min(_NO_LIMIT, total or _NO_LIMIT):
            total = int(limit)
            # What counts as used includes file pages the kernel would give back: a lower bound.
            left = max(0, total - int(used or 0))
            free = left if free is None else min(free, left)
    return total, free


def _first_number(path: Path) -> float | None:
    return _number(path, 0)


def _second_number(path: Path) -> float | None:
    return _number(path, 1)


def _number(path: Path, place: int) -> float | None:
    """Return a number of a control group's file; None where there is none, or the word max."""
    try:
        return float(path.read_text(encoding="ascii").split()[place])
    except (OSError, ValueError, IndexError):
        return None


def free_disk(folder: Path) -> int:
    """Return the bytes free where `folder` is, or would be made."""
    return shutil.disk_usage(_existing(folder)).free


def may_write(folder: Path) -> bool:
    """Tell whether this process may write in `folder`, or make it."""
    there = _existing(folder)
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def busy_cores() -> float:
    """Return how many processes wanted a core over the last minute; 0 where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return 0.0


def has_nvidia_driver() -> bool:
    """Tell whether the system has an NVIDIA card's driver, which torch may be unable to use."""
    return NVIDIA_DRIVER.exists() or shutil.which("nvidia-smi") is not None
