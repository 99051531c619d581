"""SIGINT and SIGTERM make a run save and stop after its current step, instead of ending it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """The signal that requested the run to stop (0: none)."""

    def __init__(self) -> None:
        self.signum = 0


@contextmanager
def stop_on_signals(*, single_process: bool) -> Iterator[StopRequest]:
    """Record SIGINT and SIGTERM in the yielded request while the block runs.

    With `single_process` a second Ctrl-C stops at once. Under torchrun further signals are ignored: the
    launcher repeats the one that the terminal has already sent to every process.
    """
    request = StopRequest()

    def record(signum: int, frame: FrameType | None) -> None:
        if single_process and request.signum == signum == signal.SIGINT:
            raise KeyboardInterrupt
        request.signum = request.signum or signum

    before = {signum: signal.signal(signum, record) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
