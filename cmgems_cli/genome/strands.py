"""The other strand of sequences of letters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.kernels import kernel

# IUPAC codes of nucleotides and their complements; any other byte is its own.
_CODES, _COMPLEMENTS = b"ACGTURYKMBVDHacgturykmbvdh", b"TGCAAYRMKVBHDtgcaayrmkvbhd"
_COMPLEMENT_OF_BYTE = np.arange(256, dtype=np.uint8)
_COMPLEMENT_OF_BYTE[np.frombuffer(_CODES, np.uint8)] = np.frombuffer(_COMPLEMENTS, np.uint8)

_COMPLEMENTS_TABLE = _COMPLEMENT_OF_BYTE.tobytes()


def reverse_complement(letters: bytes) -> bytes:
    """Return the reverse complement of one sequence; letters as in `reverse_complements`.

    >>> reverse_complement(b"AACGtN")
    b'NaCGTT'
    """
    return letters.translate(_COMPLEMENTS_TABLE)[::-1]


def reverse_complements(letters: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the reverse complement of each of several concatenated sequences, at the place of the sequence.

    Parameters
    ----------
    letters : uint8, shape (n_letters,)
        IUPAC codes of nucleotides, in either case, which is kept; others stay as they are.
    offsets : int64, shape (n + 1,)
        Sequence i is `letters[offsets[i]:offsets[i + 1]]`.

    Returns
    -------
    uint8, shape (n_letters,)

    Examples
    --------
    >>> reverse_complements(np.frombuffer(b"AACGtNR", np.uint8), np.array([0, 4, 7])).tobytes()
    b'CGTTYNa'
    """
    reversed_letters = np.empty_like(letters)
    _fill_reversed(letters, offsets, _COMPLEMENT_OF_BYTE, reversed_letters)
    return reversed_letters


@kernel()
def _fill_reversed(letters, offsets, complement, out):  # type: ignore[no-untyped-def]
    for sequence in range(len(offsets) - 1):
        first, end = offsets[sequence], offsets[sequence + 1]
        for i in range(first, end):
            out[first + end - 1 - i] = complement[letters[i]]
