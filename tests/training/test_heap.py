"""Freed memory is kept for the next tensors, and given back once it is too much."""

import sys
from pathlib import Path

import pytest

from cmgems_cli.training import heap as memory
from cmgems_cli.training.heap import HeapTrimmer
from tests.command_line import run_python

needs_glibc = pytest.mark.skipif(memory._glibc() is None, reason="needs Linux and glibc")


@needs_glibc
def test_scattered_holes_go_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KEPT_BYTES", 100 << 20)
    keeper = HeapTrimmer()
    # Every tenth block stays, so that the top of the heap is never free.
    blocks = [bytearray(b"x" * 60_000) for _ in range(4000)]
    kept = blocks[::10]
    del blocks
    before = memory._resident_bytes()
    keeper.trim()
    assert before - memory._resident_bytes() > 100e6
    assert len(kept) == 400


@needs_glibc
def test_memory_is_given_back_when_more_than_what_is_kept_has_come_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resident, calls = [500], []

    class Library:
        def mallopt(self, *arguments: int) -> None:
            pass

        def malloc_trim(self, pad: int) -> None:
            calls.append(resident[0])
            resident[0] = min(resident[0], 700)

    monkeypatch.setattr(memory, "_glibc", Library)
    monkeypatch.setattr(memory, "_resident_bytes", lambda: resident[0])
    monkeypatch.setattr(memory, "KEPT_BYTES", 1000)
    keeper = HeapTrimmer()
    for resident[0] in (900, 1500, 1501, 1600, 1700, 1701):
        keeper.trim()
    assert calls == [500, 1501, 1701]


# Sixty tensors of 64 MB, one after the other: cleared anew each time, they fault in a million pages. Before
# them a few for nothing: beside each of the first, glibc's cache of small blocks (seven of a size) may keep
# what was cut off to align it, and the next does not fit between two of those.
PROGRAM = """
import resource, sys
import torch
from cmgems_cli.training.heap import HeapTrimmer
if sys.argv[1] == "kept":
    keeper = HeapTrimmer()
for _ in range(30):
    torch.ones(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(60):
    torch.ones(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@needs_glibc
@pytest.mark.subprocess
def test_large_tensors_take_the_place_of_those_before() -> None:
    def page_faults(way: str) -> int:
        return int(run_python(PROGRAM, way).stdout)

    assert page_faults("kept") * 50 < page_faults("freed")


@needs_glibc
def test_many_runs_in_one_process_keep_no_more_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KEPT_BYTES", 200 << 20)
    HeapTrimmer()
    before, in_use = memory._resident_bytes(), []
    for run in range(6):
        keeper = HeapTrimmer()
        # Every other block stays, and what comes later is larger than the holes.
        blocks = [bytearray(b"x" * (60_000 + 20_000 * run)) for _ in range(1000)]
        in_use += blocks[::2]
        del blocks
        keeper.trim()
    assert memory._resident_bytes() - before - sum(map(len, in_use)) < 250e6


def refuse(*arguments: object) -> None:
    raise AssertionError("the C library was opened")


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_another_c_library_is_left_alone(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(memory.ctypes, "CDLL", refuse)
    HeapTrimmer().trim()


def test_a_system_without_proc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATM", Path("/nonexistent/statm"))
    monkeypatch.setattr(memory.ctypes, "CDLL", refuse)
    HeapTrimmer().trim()
