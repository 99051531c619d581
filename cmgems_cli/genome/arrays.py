"""Read the arrays of a corpus: declared sizes are compared with the file, and a file that shrinks is noticed."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np

from cmgems_cli.errors import InputError

# ours: the bases of the human genome take 775 MB. Longer arrays are mapped, so that they need no memory.
IN_MEMORY_BYTES = 1 << 30

# The header that `GrowingArray` writes, the only kind that is read: nothing in it is evaluated.
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(rb"\{'descr': (.+), 'fortran_order': False, 'shape': \(([0-9]{1,20}),\), \} *\n")


def read_array(path: Path, dtype: np.dtype) -> np.ndarray:
    """Read a one-dimensional array from a `.npy` file into memory, or map it if it is long.

    Parameters
    ----------
    path : Path
    dtype : dtype
        The only one that is accepted.

    Returns
    -------
    array of `dtype`, shape (n,)
        Not writeable.

    Raises
    ------
    InputError
        If the file is not such an array, or does not have exactly the size that its header declares.
    """
    with path.open("rb") as stream:
        begin = stream.read(len(_MAGIC) + 2)
        header = _HEADER.fullmatch(stream.read(int.from_bytes(begin[len(_MAGIC) :], "little")))
        at, size = stream.tell(), stream.seek(0, 2)
        descr = repr(np.lib.format.dtype_to_descr(dtype)).encode()
        if not begin.startswith(_MAGIC) or header is None or header[1] != descr:
            raise _damaged(path, f"it is not a one-dimensional array of {descr.decode()}")
        n_rows = int(header[2])
        if at + n_rows * dtype.itemsize != size:
            raise _damaged(path, f"its {size:,} bytes are not the {n_rows:,} rows that its header declares")
        if size > IN_MEMORY_BYTES:
            return np.memmap(stream, dtype, "r", offset=at, shape=n_rows)
        array = np.empty(n_rows, dtype)
        stream.seek(at)
        if stream.readinto(array.view(np.uint8).data) != array.nbytes:
            raise _damaged(path, "it became shorter while it was read")
        array.flags.writeable = False
        return array


def check_not_cut(*arrays: np.ndarray) -> None:
    """Check that the files of mapped arrays are as long as they were: reading beyond their end kills the process.

    Raises
    ------
    InputError
        If one is shorter.
    """
    for array in arrays:
        mapped = array.base
        if isinstance(mapped, mmap.mmap) and mapped.size() < len(mapped):
            name = getattr(array, "filename", "a file of the corpus")
            raise InputError(f"{name} became shorter while it was used; make the corpus again")


def _damaged(path: Path, problem: str) -> InputError:
    return InputError(f"{path} is damaged: {problem}; make it again with `cmgems prepare-genome`")
