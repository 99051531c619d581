"""Freed memory that glibc keeps is given back, and not at every call."""

import sys
from pathlib import Path

import pytest

from cmgems_cli.training import memory
from cmgems_cli.training.memory import MemoryKeeper

STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * 4096


@pytest.mark.skipif(not STATM.exists() or memory._malloc_trim() is None, reason="needs Linux and glibc")
def test_scattered_holes_go_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SECONDS_BETWEEN", 0.0)
    # Below glibc's threshold for blocks of their own, so that they share the heap; every tenth stays.
    blocks = [bytearray(b"x" * 60_000) for _ in range(4000)]
    kept = blocks[::10]
    del blocks
    before = resident_bytes()
    MemoryKeeper().give_back()
    assert before - resident_bytes() > 100e6
    assert len(kept) == 400


def test_it_is_done_now_and_then_only(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(memory, "_malloc_trim", lambda: calls.append)
    now = [0.0]
    monkeypatch.setattr(memory.time, "monotonic", lambda: now[0])
    keeper = MemoryKeeper()
    for _ in range(100):
        now[0] += 0.1
        keeper.give_back()
    assert 9 <= len(calls) <= 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    MemoryKeeper().give_back()
