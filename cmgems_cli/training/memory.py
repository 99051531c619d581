"""Freed memory goes back to the system.

glibc keeps what is freed for later, and tensors whose sizes never repeat, as those of micro-batches of whole
sequences, scatter it: pretraining `logo` on a CPU grew by tens of MB a step (docs/log.md).
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable

# ours: a call takes milliseconds, and in so much time a step frees some hundred MB.
SECONDS_BETWEEN = 1.0


class MemoryKeeper:
    """Gives freed memory back now and then, where the C library can be told to."""

    def __init__(self) -> None:
        self._trim = _malloc_trim()
        self._last = time.monotonic()

    def give_back(self) -> None:
        """Give freed memory back, unless that was done a moment ago."""
        if self._trim is not None and time.monotonic() - self._last >= SECONDS_BETWEEN:
            self._trim(0)
            self._last = time.monotonic()


def _malloc_trim() -> Callable[[int], int] | None:
    """Return glibc's function; None on systems with another C library."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
