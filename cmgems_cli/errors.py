"""The one family of errors a user can meet, each with its exit code."""

import errno


class CmgemsError(Exception):
    """Something failed; the message is one line: what was found, what was needed, what to do."""

    exit_code = 1


class UsageError(CmgemsError):
    """The command line itself cannot be carried out as written."""

    exit_code = 2


class InputError(CmgemsError):
    """A file or folder given as input is missing, damaged or not of the needed kind."""

    exit_code = 3


class OverwriteError(CmgemsError):
    """The output exists, and nothing was said about replacing it."""

    exit_code = 4


class Interrupted(CmgemsError):
    """SIGINT (130) or SIGTERM (143) ended the command; what was promised to be saved has been."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


_MORE_ROOM = "free some space or choose another --out or workspace ($CMGEMS_WORKSPACE), then run the same command again"
_ANOTHER_PATH = "choose another path"

# What to do about what a system most often says no to.
_REMEDIES = {
    errno.ENOSPC: _MORE_ROOM,
    errno.EDQUOT: _MORE_ROOM,
    errno.EFBIG: _MORE_ROOM,
    errno.EACCES: f"{_ANOTHER_PATH}, or have its permissions changed",
    errno.EPERM: f"{_ANOTHER_PATH}, or have its permissions changed",
    errno.EROFS: _ANOTHER_PATH,
    errno.EEXIST: f"needed a folder; {_ANOTHER_PATH}",
    errno.ENOTDIR: f"needed a folder; {_ANOTHER_PATH}",
    errno.ENAMETOOLONG: _ANOTHER_PATH,
}

# How torch says that a CPU's memory is full; of a card's it has a class, which would have to be imported.
_CPU_IS_FULL = "DefaultCPUAllocator: can't allocate memory"
_CARD_IS_FULL = "OutOfMemoryError"


def as_user_error(error: Exception) -> CmgemsError | None:
    """Return as a user's error what the system refused: room on a disk or in memory, or a path.

    None for any other error, which is a fault of ours and keeps its traceback.
    """
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        remedy = _REMEDIES.get(error.errno or 0)
        return CmgemsError(f"{where}{error.strerror}{f'; {remedy}' if remedy else ''}")
    if type(error).__name__ == _CARD_IS_FULL:
        return CmgemsError(
            f"{'. '.join(str(error).split('. ')[:2])}; give fewer --max-batch-tokens, and see with nvidia-smi"
            " who else uses the card"
        )
    if isinstance(error, MemoryError) or _CPU_IS_FULL in str(error):
        return CmgemsError(
            "the memory is full; give fewer --max-batch-tokens where the command has them, or close other programs"
        )
    return None
