"""What is read off the machine, from files and cards of our own."""

import os
import platform
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from cmgems_cli import system_info as machine
from cmgems_cli.system_info import Version

GB = 10**9


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system whose files are those the test writes."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine, "NVIDIA_DRIVER", tmp_path / "nvidia")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    (tmp_path / "meminfo").write_text(
        "MemTotal:       1000000 kB\nMemFree: 5 kB\nMemAvailable:    600000 kB\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 16.0),
        ({"cpu.max": "max 100000\n"}, 16.0),
        ({"cpu.max": "250000 100000\n"}, 2.5),
        ({"cpu.max": "6400000 100000\n"}, 16.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16.0),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu.max": ""}, 16.0),
    ],
)
def test_cores_are_those_of_the_container(system: Path, files: dict[str, str], expected: float) -> None:
    for name, text in files.items():
        (system / name).parent.mkdir(exist_ok=True)
        (system / name).write_text(text)
    assert machine.cores() == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (1_024_000_000, 614_400_000)),
        ({"memory.max": "max\n", "memory.current": "5\n"}, (1_024_000_000, 614_400_000)),
        ({"memory.max": "500000000\n", "memory.current": "100000000\n"}, (500_000_000, 400_000_000)),
        ({"memory.max": "900000000\n", "memory.current": "100000000\n"}, (900_000_000, 614_400_000)),
        ({"memory.max": "9000000000\n", "memory.current": "1\n"}, (1_024_000_000, 614_400_000)),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, (1_024_000_000, 614_400_000)),
        ({"memory/memory.limit_in_bytes": "1000\n", "memory/memory.usage_in_bytes": "3000\n"}, (1000, 0)),
    ],
)
def test_memory_is_that_of_the_container(
    system: Path, files: dict[str, str], expected: tuple[int, int]
) -> None:
    for name, text in files.items():
        (system / name).parent.mkdir(exist_ok=True)
        (system / name).write_text(text)
    assert machine.memory() == expected


def test_memory_where_no_file_tells(system: Path) -> None:
    (system / "meminfo").unlink()
    total, free = machine.memory()
    assert total is None or total > 10**8
    assert free is None


def test_the_processor_names_itself(system: Path) -> None:
    (system / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Abacus 9000 @ 2 Hz\nmodel name\t: other\n")
    assert machine.cpu_model() == "Abacus 9000 @ 2 Hz"
    (system / "cpuinfo").unlink()
    assert machine.cpu_model() == (platform.processor() or platform.machine())


def test_cards_are_listed_after_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [("NVIDIA A", 80 * GB, 79 * GB, True), ("NVIDIA B", 16 * GB, 1 * GB, False)]
    asked: list[int] = []

    def enter(index: int) -> nullcontext[None]:
        asked.append(index)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "device", enter)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (cards[index][2], cards[index][1]))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: cards[index][0])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: cards[asked[-1]][3])
    cpu, first, second = machine.devices()
    assert cpu.name == "cpu"
    assert (first.name, first.model, first.memory_bytes, first.free_bytes) == ("cuda:0", *cards[0][:3])
    assert (first.bf16, second.bf16) == (True, False)


def test_versions_are_those_installed_and_fit_here() -> None:
    found = {version.name: version for version in machine.versions()}
    assert found["python"].installed == ".".join(map(str, sys.version_info[:3]))
    # A build's own label, such as +cu132, is not in the metadata of every release.
    installed = str(found["torch"].installed)
    assert installed.partition("+")[0] == torch.__version__.partition("+")[0]
    assert found["torch"].needed.startswith(">=")
    assert all(version.fits for version in found.values())
    assert "pytest" not in found  # of an extra


@pytest.mark.parametrize(
    ("found", "needed", "fits"),
    [
        ("2.13.0+cpu", ">=2.6", True),
        ("2.13.0.dev20261101", ">=2.6", True),
        ("2.5.1", ">=2.6", False),
        ("6.0.0", "<6,>=5.17", False),
        (None, "", False),
        ("1", "", True),
    ],
)
def test_which_versions_fit(found: str | None, needed: str, fits: bool) -> None:
    assert Version("torch", found, needed).fits is fits


def test_disk_and_right_to_write_are_those_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    assert machine.free_disk(tmp_path / "a" / "b") == pytest.approx(machine.free_disk(tmp_path), rel=0.1)
    assert machine.may_write(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    assert not machine.may_write(tmp_path / "file" / "b")


def test_a_driver_is_seen_without_torch(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(system))
    assert not machine.has_nvidia_driver()
    (system / "nvidia").touch()
    assert machine.has_nvidia_driver()
