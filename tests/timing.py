"""Limits of time in tests. They are wide, and any of three attempts may keep them: other programs share the machine."""

import time
from collections.abc import Callable


def within(seconds: float, work: Callable[[], object]) -> bool:
    """Return whether `work` takes less than that by the clock, in one of three attempts."""

    def attempt() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return any(attempt() < seconds for _ in range(3))
