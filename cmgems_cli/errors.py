"""All errors a user can cause, each with its exit code."""

import errno


class CmgemsError(Exception):
    """A failure. The message is one line: what was found, what was needed, what to do.

    Messages name parameters in backticks (`mask_rate`, `overwrite=True`); the command line shows them as options.
    """

    exit_code = 1


class UsageError(CmgemsError):
    """A parameter or option has a value that cannot be used."""

    exit_code = 2


class InputError(CmgemsError):
    """An input file or folder is missing, damaged or of the wrong kind."""

    exit_code = 3


class OverwriteError(CmgemsError):
    """The output exists and was not asked to be replaced."""

    exit_code = 4


class DivergedError(CmgemsError):
    """Training led to numbers that are not finite."""


class Interrupted(CmgemsError):
    """SIGINT (130) or SIGTERM (143) ended the command; everything it promises to save is saved."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


_FREE_SPACE = (
    "free some space or choose another `out` or workspace ($CMGEMS_WORKSPACE), then run the command again"
)
_ANOTHER_PATH = "choose another path"

# What to do about the most frequent system errors.
_REMEDIES = {
    errno.ENOSPC: _FREE_SPACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.EFBIG: _FREE_SPACE,
    errno.EACCES: f"{_ANOTHER_PATH}, or change its permissions",
    errno.EPERM: f"{_ANOTHER_PATH}, or change its permissions",
    errno.EROFS: _ANOTHER_PATH,
    errno.EEXIST: f"needed a folder; {_ANOTHER_PATH}",
    errno.ENOTDIR: f"needed a folder; {_ANOTHER_PATH}",
    errno.ENAMETOOLONG: _ANOTHER_PATH,
}

# Text of torch's CPU out-of-memory error. CUDA has its own exception class, matched by name to avoid
# importing torch.
_CPU_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"
_CUDA_OUT_OF_MEMORY = "OutOfMemoryError"


def as_user_error(error: Exception) -> CmgemsError | None:
    """Return the user error for an error of the system: no space, no memory, or an unusable path.

    None for any other error: that is a bug of this package and keeps its traceback.
    """
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        remedy = _REMEDIES.get(error.errno or 0)
        return CmgemsError(f"{where}{error.strerror}{f'; {remedy}' if remedy else ''}")
    if type(error).__name__ == _CUDA_OUT_OF_MEMORY:
        return CmgemsError(
            f"{'. '.join(str(error).split('. ')[:2])}; lower `max_batch_tokens`, and check with nvidia-smi what"
            " else uses the GPU"
        )
    if isinstance(error, MemoryError) or _CPU_OUT_OF_MEMORY in str(error):
        return CmgemsError(
            "the memory is full; lower `max_batch_tokens` if the command has it, or close other programs"
        )
    return None
