"""Ends a command, as far as the disk can tell, just before or just after one of its file operations."""

import os
from collections.abc import Callable
from typing import Any, NoReturn

from cmgems_cli import staging

OPERATIONS = ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync", "open", "chmod")


class Killed(BaseException):
    """The process ended here: nothing that would clean up runs any more."""


def _raise() -> NoReturn:
    raise Killed


class Kill:
    """Counts file operations, and calls `end` just before or after one of them.

    Parameters
    ----------
    replace : callable
        Sets an attribute of a module, as pytest's `monkeypatch.setattr` or `setattr` does.
    end : callable, optional
        Ends the command; by default it raises `Killed`.
    """

    def __init__(self, replace: Callable[[Any, str, Any], None], end: Callable[[], object] = _raise) -> None:
        self.at, self.done, self.after, self.end = -1, 0, False, end
        for name in OPERATIONS:
            replace(os, name, self.counted(getattr(os, name)))
        replace(staging, "exchange", self.counted(staging.exchange))

    def counted(self, whole: Callable[..., Any]) -> Callable[..., Any]:
        """Return an operation that is counted."""

        def operation(*arguments: Any, **more: Any) -> Any:
            if whole.__name__ == "open" and not arguments[1] & os.O_CREAT:
                return whole(*arguments, **more)
            self.done += 1
            if self.at >= 0 and self.done > self.at + self.after:
                self.end()
            found = whole(*arguments, **more)
            if self.after and self.done > self.at >= 0:
                self.end()
            return found

        return operation

    def arm(self, at: int, *, after: bool = False) -> None:
        """End at the operation with this number, from 0; never if it is negative."""
        self.at, self.done, self.after = at, 0, after
