"""The machine: versions, devices, and the cores, memory and disk space that this process may use."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from cmgems_cli.training.processes import resolve_precision

# Linux control groups, which hold the limits of a container (versions 2 and 1).
CGROUP = Path("/sys/fs/cgroup")
MEMINFO, CPUINFO = Path("/proc/meminfo"), Path("/proc/cpuinfo")
# Version 1 writes "no limit" as the largest number of whole pages.
_NO_LIMIT = 1 << 62

# Exists if an NVIDIA driver is loaded, whether torch can use it or not.
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Version:
    """A required package and its installed version.

    Attributes
    ----------
    name : str
    installed : str or None
        None if it is not installed.
    needed : str
        Version specifier in the metadata of this package, such as `>=2.6`; empty for any version.
    """

    name: str
    installed: str | None
    needed: str

    @property
    def fits(self) -> bool:
        """Whether the installed version meets the specifier."""
        from packaging.specifiers import SpecifierSet

        return self.installed is not None and SpecifierSet(self.needed).contains(
            self.installed, prereleases=True
        )


@dataclass(frozen=True)
class Device:
    """A device to compute on.

    Attributes
    ----------
    name : str
        As for the parameter `device`: cpu, cuda:0.
    model : str
    memory_bytes, free_bytes : int or None
        Total and free memory; None if unknown.
    bf16 : bool
        Whether the hardware multiplies bfloat16.
    """

    name: str
    model: str
    memory_bytes: int | None
    free_bytes: int | None
    bf16: bool


def versions() -> list[Version]:
    """Return Python and the required packages, without those of extras."""
    from packaging.requirements import Requirement

    try:
        own = metadata.metadata("cmgems")
    except metadata.PackageNotFoundError:
        return [Version("python", platform.python_version(), "")]
    required = [Version("python", platform.python_version(), own["Requires-Python"] or "")]
    for text in metadata.requires("cmgems") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            installed: str | None = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            installed = None
        required.append(Version(requirement.name, installed, str(requirement.specifier)))
    return required


def devices() -> list[Device]:
    """Return the CPU and every CUDA device that torch can use."""
    total, free = memory()
    available = [Device("cpu", cpu_model(), total, free, _has_bf16(torch.device("cpu")))]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        with torch.cuda.device(index):
            gpu_free, gpu_total = torch.cuda.mem_get_info(index)
            bf16 = _has_bf16(torch.device("cuda", index))
        name = torch.cuda.get_device_name(index)
        available.append(Device(f"cuda:{index}", name, gpu_total, gpu_free, bf16))
    return available


def _has_bf16(device: torch.device) -> bool:
    return resolve_precision("auto", device) == "bf16"


def cpu_model() -> str:
    """Return the model name of the processor, or its architecture."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def cores() -> float:
    """Return the number of cores this process may use, given its affinity and the limit of its container."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota, period = _number(CGROUP / "cpu.max"), _number(CGROUP / "cpu.max", index=1)
    if period is None:
        quota = _number(CGROUP / "cpu" / "cpu.cfs_quota_us")
        period = _number(CGROUP / "cpu" / "cpu.cfs_period_us")
    if quota is None or period is None or quota <= 0 or period <= 0:
        return float(allowed)
    return min(float(allowed), quota / period)


def memory() -> tuple[int | None, int | None]:
    """Return (total, free) main memory in bytes, within the limit of the container; None if unknown."""
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
        limit, used = _number(limit_file), _number(used_file)
        if limit is not None and limit < min(_NO_LIMIT, total or _NO_LIMIT):
            total = int(limit)
            # Used memory includes file pages that the kernel would release, so this is a lower bound.
            left = max(0, total - int(used or 0))
            free = left if free is None else min(free, left)
    return total, free


def _number(path: Path, index: int = 0) -> float | None:
    """Return a number from a file of a control group; None if it is missing, or the word max."""
    try:
        return float(path.read_text(encoding="ascii").split()[index])
    except (OSError, ValueError, IndexError):
        return None


def free_disk(folder: Path) -> int:
    """Return the free bytes on the disk of `folder`, which may not exist yet."""
    return shutil.disk_usage(_existing_parent(folder)).free


def may_write(folder: Path) -> bool:
    """Return whether this process may write to `folder` or create it."""
    existing = _existing_parent(folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _existing_parent(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def busy_cores() -> float:
    """Return the load average of the last minute; 0 if unknown."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return 0.0


def has_nvidia_driver() -> bool:
    """Return whether the system has an NVIDIA driver, which torch may be unable to use."""
    return NVIDIA_DRIVER.exists() or shutil.which("nvidia-smi") is not None
