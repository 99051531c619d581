"""What Ctrl-C (SIGINT) and SIGTERM do to a command: one line, and exit code 130 or 143.

`__main__` calls `install(end_at_once)` before it imports anything else, so this module imports next to nothing.
"""

from __future__ import annotations

# `signal` would first import `enum`: milliseconds in which nothing is handled.
import _signal as signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

IGNORE: int = signal.SIG_IGN

# ours: long enough for a running finalizer to return, or an import to end, before a signal is sent again.
SECONDS_BETWEEN_SIGNALS = 0.05

# The modules that import what a command needs before it writes anything.
_BEFORE_WORK = ("cmgems_cli.cli", "cmgems_cli.commands", "cmgems_cli.__main__")

_IMPORT = "<frozen importlib._bootstrap>"

# The modules that own what LLVM has made of a kernel.
_CODE_GENERATORS = ("llvmlite.", "numba.core.codegen")


class Stopped(KeyboardInterrupt):
    """A signal stops the command. Not an `Exception`: libraries catch those and continue."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


def stopped_by(exit_code: int) -> str:
    """Say which signal an exit code stands for."""
    return "stopped by SIGTERM" if exit_code == 128 + signal.SIGTERM else "stopped by Ctrl-C"


def install(handler: Callable[[int, FrameType | None], Any] | int) -> dict[int, Any]:
    """Handle SIGINT and SIGTERM by `handler`; return the handlers before, for `restore`.

    Only the main thread can, and a command that was started to ignore Ctrl-C still ignores it.
    """
    before: dict[int, Any] = {}
    try:
        for signum in (signal.SIGINT, signal.SIGTERM):
            if signum == signal.SIGTERM or signal.getsignal(signum) != IGNORE:
                before[signum] = signal.signal(signum, handler)
    except ValueError:
        pass
    return before


def restore(before: dict[int, Any]) -> None:
    """Install the handlers that `install` replaced."""
    for signum, handler in before.items():
        signal.signal(signum, handler)


def under_torchrun() -> bool:
    """Return whether this is one of torchrun's processes."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def end_at_once(signum: int, frame: FrameType | None = None) -> None:
    """End the process with one line, which rank 0 of torchrun's processes writes for all."""
    try:
        if os.environ.get("RANK", "0") == "0" or not under_torchrun():
            os.write(2, f"{stopped_by(128 + signum)}; nothing half-written was kept\n".encode())
    finally:
        os._exit(128 + signum)


def send_again(signum: int) -> None:
    """Repeat a signal that came when its exception would be lost."""
    import threading

    again = threading.Timer(SECONDS_BETWEEN_SIGNALS, os.kill, (os.getpid(), signum))
    again.daemon = True
    again.start()


class Stopper:
    """The handler of a command at work: raises `Stopped` once; a second Ctrl-C ends the process at once.

    Attributes
    ----------
    signum : int
        The signal that stops the command, 0 if there was none.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._raised = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._raised:
            # torchrun repeats the Ctrl-C that the terminal has sent to each of its processes.
            if signum == self.signum == signal.SIGINT and not under_torchrun():
                end_at_once(signum)
            return
        self.signum = self.signum or signum
        importer = _importer(frame)
        if importer.startswith(_BEFORE_WORK):
            end_at_once(self.signum)
        if importer or _generates_code(frame):
            # An exception amid an import may be lost, or become another one; amid LLVM's work it ends in a crash.
            send_again(signum)
            return
        self._raised = True
        raise Stopped(self.signum)

    def lost(self) -> None:
        """Send the signal again: its exception was raised where Python ignores it."""
        self._raised = False
        send_again(self.signum)


def _importer(frame: FrameType | None) -> str:
    """Return the name of the module that began the import under way; empty if there is none."""
    name = ""
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT:
            name = "importlib"
        elif name.startswith("importlib"):
            name = frame.f_globals.get("__name__", "")
        frame = frame.f_back
    return name


def _generates_code(frame: FrameType | None) -> bool:
    """Return whether numba is handing a kernel to LLVM."""
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_CODE_GENERATORS):
            return True
        frame = frame.f_back
    return False
