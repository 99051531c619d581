"""Keep freed memory for the next tensors, but return it to the system before it grows too large.

By default glibc does neither. It maps every large tensor separately, and the system clears the pages of each
mapping: a third of a forward pass on a CPU. And tensors whose sizes never repeat, like those of micro-batches
of whole sequences, fragment its heap: pretraining `logo` on a CPU grew by tens of MB per step (docs/log.md
has both).
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

# ours: freed memory to keep beyond the memory in use, enough for a few micro-batches.
KEPT_BYTES = 512 << 20

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_INT = 2**31 - 1

_STATM = Path("/proc/self/statm")


class HeapTrimmer:
    """Makes glibc keep up to `KEPT_BYTES` of freed memory; does nothing with another C library.

    The setting applies to the whole process from the first instance on.
    """

    def __init__(self) -> None:
        self._library = _glibc()
        if self._library is not None:
            self._library.mallopt(_M_MMAP_THRESHOLD, _LARGEST_INT)
            self._library.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT)
            # Memory freed by an earlier run does not count as in use.
            self._trim()

    def trim(self) -> None:
        """Return freed memory to the system if it may exceed `KEPT_BYTES`."""
        if self._library is not None and _resident_bytes() > self._in_use + KEPT_BYTES:
            self._trim()

    def _trim(self) -> None:
        self._library.malloc_trim(0)
        self._in_use = _resident_bytes()


def _glibc() -> Any:
    """Return glibc; None with another C library or where resident memory cannot be read."""
    if not (sys.platform.startswith("linux") and _STATM.exists()):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") and hasattr(library, "mallopt") else None


def _resident_bytes() -> int:
    """Return the resident memory of this process, without mapped files (such as a corpus)."""
    _, resident, file_backed, *_ = _STATM.read_bytes().split()
    return (int(resident) - int(file_backed)) * os.sysconf("SC_PAGE_SIZE")
