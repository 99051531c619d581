"""A `.npy` file that grows row by row; its length need not be known beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np


class GrowingArray:
    """An array in a seekable binary file. It is valid only after `finish`.

    Parameters
    ----------
    stream : binary file
        Holds nothing, or a header and `rows` rows written earlier.
    dtype : dtype
    row_shape : tuple of int, default ()
        The array's shape without its first axis.
    rows : int, default 0
        Rows in the file already.

    Attributes
    ----------
    rows : int
        Rows written so far.
    """

    def __init__(
        self, stream: IO[bytes], dtype: np.dtype, row_shape: tuple[int, ...] = (), rows: int = 0
    ) -> None:
        self._stream, self._dtype, self._row_shape = stream, dtype, row_shape
        self.rows = rows
        self.finish()

    def append(self, rows: np.ndarray) -> None:
        """Append `rows`: of the array's dtype, shape (n, *row_shape)."""
        assert rows.dtype == self._dtype
        assert rows.shape[1:] == self._row_shape
        self._stream.write(np.ascontiguousarray(rows).view(np.uint8).data)
        self.rows += len(rows)

    def finish(self) -> None:
        """Write the header again with the number of rows so far, and go to the file's end."""
        self._stream.seek(0)
        self._stream.write(self._header((self.rows, *self._row_shape)))
        self._stream.seek(0, 2)

    def _header(self, shape: tuple[int, ...]) -> bytes:
        header = BytesIO()
        # numpy pads the header so that the first axis may grow in place (GROWTH_AXIS_MAX_DIGITS).
        np.lib.format.write_array_header_1_0(
            header,
            {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape},
        )
        return header.getvalue()


@contextmanager
def growing_array(path: Path, dtype: np.dtype) -> Iterator[GrowingArray]:
    """Write a one-dimensional array; the file is valid once the block ends without an exception."""
    with path.open("wb") as stream:
        array = GrowingArray(stream, dtype)
        yield array
        array.finish()
