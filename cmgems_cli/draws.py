"""Random draws as pure functions of (seed, purpose, indices): no state, so resuming replays nothing.

A 64-bit key identifies a stream; its n-th draw is `mix(key + n * STEP)`, the SplitMix64 generator
(Steele, Lea and Flood, OOPSLA 2014). All functions are compiled and callable from compiled code.
In Python `key` returns an int: pass it on as `np.uint64(key)`, since numba treats ints as int64.
"""

from __future__ import annotations

import numpy as np
from numba import uint64

from cmgems_cli.kernels import kernel

# SplitMix64's increment, the odd integer nearest to 2^64 / golden ratio, and its two multipliers.
STEP = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)

# Purposes: draws for different purposes never share a stream.
(
    SEQUENCE_START,
    SEQUENCE_LENGTH,
    SEQUENCE_SPLIT,
    EPOCH_ORDER,
    MASKED_POSITIONS,
    CORRUPTION,
    STRATEGY_CHOICE,
) = range(7)
VALIDATION_SAMPLE, DROPOUT, WEIGHTS, FEWSHOT_ROWS = range(7, 11)
NEGATIVES, FEWSHOT_SPLIT, FEWSHOT_POOLS, FEWSHOT_ORDER, TASK_SPLIT = range(11, 16)
STRANDS, TRIALS, DEV_SPLIT = range(16, 19)
TASK_NEGATIVES = 20
EXPLAINED_BLOCKS, SHUFFLED_CONTROLS = range(30, 32)


@kernel(inline="always")
def mix(x):  # type: ignore[no-untyped-def]
    """Scramble 64 bits so that every input bit reaches every output bit. uint64 -> uint64."""
    x = uint64(x)
    x = (x ^ (x >> uint64(30))) * _MULTIPLIER_1
    x = (x ^ (x >> uint64(27))) * _MULTIPLIER_2
    return x ^ (x >> uint64(31))


@kernel(nogil=False)
def key(seed, purpose, a=0, b=0):  # type: ignore[no-untyped-def]
    """Return the key (uint64) of the stream for `purpose` at indices `a` and `b` under `seed`."""
    x = mix(uint64(seed) + STEP)
    x = mix(x ^ (uint64(purpose) + STEP))
    x = mix(x ^ (uint64(a) + STEP))
    return mix(x ^ (uint64(b) + STEP))


@kernel(inline="always")
def bits(stream, n):  # type: ignore[no-untyped-def]
    """Return the n-th 64 bits of a stream. uint64, int -> uint64."""
    # The casts are needed: numba turns int64 + uint64 into float64.
    return mix(uint64(stream) + (uint64(n) + uint64(1)) * STEP)


@kernel(inline="always")
def uniform(stream, n):  # type: ignore[no-untyped-def]
    """Return the n-th draw of a stream as float64, uniform over [0, 1) in steps of 2^-53."""
    return float(bits(stream, n) >> uint64(11)) * (1.0 / 9007199254740992.0)


@kernel(inline="always")
def below(stream, n, limit):  # type: ignore[no-untyped-def]
    """Return the n-th draw of a stream as int64, uniform over 0 … limit - 1 (0 < limit < 2^31).

    Scaling 32 bits causes a bias below limit / 2^32: under 10^-4 of an outcome's probability for any k here.
    """
    return np.int64(((bits(stream, n) >> uint64(32)) * uint64(limit)) >> uint64(32))


@kernel(nogil=False)
def permuted(index, n, stream):  # type: ignore[no-untyped-def]
    """Return the image (int64) of `index` under a keyed random permutation of 0 … n - 1, without building it.

    A four-round Feistel network over the smallest even number of bits that can represent n, iterated until
    the value is below n (at most four iterations on average). Every index costs the same.
    """
    half = 1
    while (uint64(1) << uint64(2 * half)) < uint64(n):
        half += 1
    low = (uint64(1) << uint64(half)) - uint64(1)
    value = uint64(index)
    while True:
        left, right = value >> uint64(half), value & low
        for rounds in range(4):
            left, right = right, left ^ (mix(uint64(stream) ^ mix(right + uint64(rounds) * STEP)) & low)
        value = (left << uint64(half)) | right
        if value < uint64(n):
            return np.int64(value)
