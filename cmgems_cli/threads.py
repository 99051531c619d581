"""How many threads of the CPU a command may use."""

from __future__ import annotations

import os
import sys

# What numerical libraries read when they are first imported; the first is ours to read too.
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def use_threads(count: int) -> None:
    """Let numerical libraries use this many threads, in this process and in those that it starts."""
    os.environ.update(dict.fromkeys(VARIABLES, str(count)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def available_threads() -> int:
    """Return the number of threads that this process may use: as OMP_NUM_THREADS says, or its processors."""
    wanted = os.environ.get(VARIABLES[0], "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
