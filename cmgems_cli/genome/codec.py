"""Encode letters or packed bases as k-mer token ids, compiled (method, section 1).

Packed bases take 2 bits per base: base i is bits 2 * (i % 4) and the next one of byte i // 4.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import uint64

from cmgems_cli.errors import UsageError
from cmgems_cli.genome.vocabulary import BASE_CODE_OF_BYTE, FIRST_KMER, MAX_K, MIN_K, NOT_A_BASE, UNK
from cmgems_cli.kernels import kernel

BASES_PER_BYTE = 4


@kernel(inline="always")
def base_at(bases, i):  # type: ignore[no-untyped-def]
    """Return the code (0 … 3) of base `i` of packed `bases`. uint8 array, int64 -> int64."""
    return (bases[i >> 2] >> ((i & 3) << 1)) & 3


@kernel(inline="always")
def word_at(data, at):  # type: ignore[no-untyped-def]
    """Return data[at:at + 8] (uint8) as one uint64, the first byte lowest. LLVM compiles it to one load."""
    i = uint64(at)
    word = uint64(data[i])
    word |= uint64(data[i + uint64(1)]) << uint64(8)
    word |= uint64(data[i + uint64(2)]) << uint64(16)
    word |= uint64(data[i + uint64(3)]) << uint64(24)
    word |= uint64(data[i + uint64(4)]) << uint64(32)
    word |= uint64(data[i + uint64(5)]) << uint64(40)
    word |= uint64(data[i + uint64(6)]) << uint64(48)
    word |= uint64(data[i + uint64(7)]) << uint64(56)
    return word


@kernel()
def unpack_token_ids(bases, starts, n_tokens, k, offsets, token_ids):  # type: ignore[no-untyped-def]
    """Decode windows of packed bases into token ids.

    Parameters
    ----------
    bases : uint8, shape (n_bytes,)
        Packed bases.
    starts, n_tokens : integers, shape (n,)
        First base and number of tokens of each window.
    k : int
        Bases per token.
    offsets : int64, shape (n + 1,)
        Where each window's ids begin in `token_ids`: the cumulative sum of `n_tokens`.
    token_ids : int32, shape (offsets[-1],)
        Output array.
    """
    mask = (1 << (2 * k)) - 1
    for window in range(starts.size):
        base = np.int64(starts[window])
        code = 0
        for _ in range(k - 1):
            code = (code << 2) | base_at(bases, base)
            base += 1
        for at in range(offsets[window], offsets[window + 1]):
            code = ((code << 2) | base_at(bases, base)) & mask
            base += 1
            token_ids[at] = code + FIRST_KMER


@kernel()
def _encode_letters(text, text_offsets, k, offsets, token_ids):  # type: ignore[no-untyped-def]
    mask = (1 << (2 * k)) - 1
    for sequence in range(text_offsets.size - 1):
        first = text_offsets[sequence]
        out = offsets[sequence]
        code = 0
        # Letters until the last k are A, C, G, T alone again.
        unknown_for = 0
        for at in range(first, text_offsets[sequence + 1]):
            base = BASE_CODE_OF_BYTE[text[at]]
            if base == NOT_A_BASE:
                unknown_for = k
                base = 0
            code = ((code << 2) | base) & mask
            if at - first >= k - 1:
                token_ids[out] = UNK if unknown_for > 0 else code + FIRST_KMER
                out += 1
            unknown_for -= unknown_for > 0


def encode_sequences(
    text: bytes | np.ndarray, text_offsets: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Encode many concatenated sequences (method, section 1).

    Parameters
    ----------
    text : bytes, or uint8 of shape (n_letters,)
        Letters of all sequences, upper or lower case.
    text_offsets : int64, shape (n + 1,)
        Sequence i is `text[text_offsets[i]:text_offsets[i + 1]]`.
    k : int
        Bases per token, 3 … 8.

    Returns
    -------
    token_ids : int32, shape (offsets[-1],)
        A k-mer with any letter other than A, C, G, T becomes `[UNK]`.
    offsets : int64, shape (n + 1,)
        Where each sequence's ids begin. A sequence of n letters has max(0, n - k + 1) tokens.

    Raises
    ------
    UsageError
        If `k` is outside 3 … 8.

    Examples
    --------
    >>> encode_sequences(b"AAAAacnGG", np.array([0, 4, 9]), 3)
    (array([5, 5, 1, 1, 1], dtype=int32), array([0, 2, 5]))
    """
    check_k(k)
    letters = np.frombuffer(text, np.uint8) if isinstance(text, bytes) else np.asarray(text, np.uint8)
    text_offsets = np.asarray(text_offsets, np.int64)
    offsets = offsets_of(np.maximum(np.diff(text_offsets) - (k - 1), 0))
    token_ids = np.empty(offsets[-1], np.int32)
    _encode_letters(letters, text_offsets, k, offsets, token_ids)
    return token_ids, offsets


def kmer_codes(letters: np.ndarray, k: int) -> np.ndarray:
    """Return the code of the k-mer that begins at each letter: two bits per base, in order of `BASES`.

    Parameters
    ----------
    letters : uint8, shape (n,)
    k : int
        1 … 14; unlike those of a vocabulary.

    Returns
    -------
    int32, shape (max(0, n - k + 1),)
        Negative for a k-mer with any letter other than A, C, G, T.

    Examples
    --------
    >>> kmer_codes(np.frombuffer(b"ACGNAA", np.uint8), 2)
    array([ 2, 11, -4, -4,  0], dtype=int32)
    """
    offsets = np.array([0, max(0, len(letters) - k + 1)])
    token_ids = np.empty(offsets[1], np.int32)
    _encode_letters(letters, np.array([0, len(letters)]), k, offsets, token_ids)
    return token_ids - np.int32(FIRST_KMER)


def encode_sequence(text: bytes | str, k: int) -> np.ndarray:
    """Return the token ids (int32, shape (n,)) of one sequence; see `encode_sequences`.

    >>> encode_sequence("ATCGatcg", 6)
    array([ 438, 1739, 2848], dtype=int32)
    >>> encode_sequence("ATNGA", 3), encode_sequence("AT", 3).size
    (array([1, 1, 1], dtype=int32), 0)
    """
    # A non-ASCII character counts as one letter that is not a base, however many bytes it has.
    letters = text.encode("ascii", "replace") if isinstance(text, str) else text
    return encode_sequences(letters, np.array([0, len(letters)]), k)[0]


def reversed_kmers(token_ids: np.ndarray, k: int) -> np.ndarray:
    """Return the tokens of the reverse complement of a sequence: each k-mer's own, in reverse order.

    Parameters
    ----------
    token_ids : int32, shape (n,)
        Special tokens stay what they are.
    k : int
        Bases per token, 3 … 8.

    Returns
    -------
    int32, shape (n,)

    Examples
    --------
    >>> reversed_kmers(encode_sequence("AACGN", 3), 3), encode_sequence("NCGTT", 3)
    (array([ 1, 50, 58], dtype=int32), array([ 1, 50, 58], dtype=int32))
    """
    return _token_of_reverse_complement(k)[token_ids[::-1]]


@cache
def _token_of_reverse_complement(k: int) -> np.ndarray:
    tokens = np.append(np.arange(FIRST_KMER), FIRST_KMER + complement_codes(k)).astype(np.int32)
    tokens.flags.writeable = False
    return tokens


def complement_codes(k: int) -> np.ndarray:
    """Return the code of each k-mer's reverse complement: int64, shape (4^k,)."""
    codes = np.arange(4**k)
    complements = np.zeros_like(codes)
    for _ in range(k):
        # The codes of A and T, and of C and G, differ in their last bit.
        complements, codes = complements * 4 + (codes & 3 ^ 1), codes >> 2
    return complements


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Return the cumulative sum of `lengths` (integers, shape (n,)) with a leading 0: int64, shape (n + 1,)."""
    offsets = np.zeros(lengths.size + 1, np.int64)
    np.cumsum(lengths, dtype=np.int64, out=offsets[1:])
    return offsets


def check_k(k: int) -> None:
    """Check that this package supports `k`.

    Raises
    ------
    UsageError
        If `k` is outside 3 … 8.
    """
    if not MIN_K <= k <= MAX_K:
        raise UsageError(f"`k` is {k}; needed {MIN_K} to {MAX_K}")
