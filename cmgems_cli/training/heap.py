"""Freed memory: kept for the next tensors, and given back to the system before it is too much.

Left alone, glibc does neither. Large tensors get a mapping of their own each, whose pages the system clears
anew every time: a third of a forward pass on a CPU. And tensors whose sizes never repeat, as those of
micro-batches of whole sequences, scatter what it keeps: pretraining `logo` on a CPU grew by tens of MB a
step (docs/log.md has both).
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

# ours: what may be kept beyond the memory in use, a few micro-batches' worth.
KEPT_BYTES = 512 << 20

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_INT = 2**31 - 1

_STATM = Path("/proc/self/statm")


class HeapTrimmer:
    """Has the C library keep freed memory, within `KEPT_BYTES`, where it can be told to.

    For the whole process, and from the first one made on.
    """

    def __init__(self) -> None:
        self._library = _glibc()
        if self._library is not None:
            self._library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_INT)
            self._library.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
            # What one run left behind is not in use by the next.
            self._give_back()

    def trim(self) -> None:
        """Give freed memory back, if more may have come together than is to be kept."""
        if self._library is not None and _resident_bytes() > self._in_use + KEPT_BYTES:
            self._give_back()

    def _give_back(self) -> None:
        self._library.malloc_trim(0)
        self._in_use = _resident_bytes()


def _glibc() -> Any:
    """Return the C library; None on systems with another one, or that do not tell what a process holds."""
    if not (sys.platform.startswith("linux") and _STATM.exists()):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def _resident_bytes() -> int:
    """Return what this process holds in memory, files it has mapped (a corpus) not counted."""
    _, resident, of_files, *_ = _STATM.read_bytes().split()
    return (int(resident) - int(of_files)) * os.sysconf("SC_PAGE_SIZE")
