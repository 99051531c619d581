"""Count the n-grams of a packed corpus, every order from 1 to k, exactly (method, section 3)."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import uint64

from cmgems_cli.errors import InputError
from cmgems_cli.genome.arrays import check_not_cut
from cmgems_cli.kernels import kernel
from cmgems_cli.pmi.scoring import shorter_orders
from cmgems_cli.threads import available_threads

BASES_PER_BYTE = 4
BASES_PER_WORD = 32

# Bases per chunk, which one thread counts at a time (16 MiB packed, 15 ms): its uint32 counts cannot
# overflow, and few mapped pages are resident at once. A multiple of BASES_PER_WORD.
CHUNK_BASES = 1 << 26

# One thread counts 4 Gbp/s; with more threads than this, memory bandwidth is the limit.
MAX_THREADS = 8


def count_orders(
    bases: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    k: int,
    *,
    threads: int | None = None,
    chunk_bases: int = CHUNK_BASES,
    advance: Callable[[float], None] | None = None,
) -> dict[int, np.ndarray]:
    """Count the 1-, 2-, … k-mers of all runs; no n-gram spans two runs.

    The kernel counts longer words of k + s - 1 bases that begin at every s-th base (s = 4; s = 2 for k > 6),
    each of which covers s consecutive k-mers. The k-mer counts are marginals of these, and shorter orders
    are prefix marginals plus the last bases of each run.

    Parameters
    ----------
    bases : uint8, shape (n_bytes,)
        Packed bases, base i in bits 2 * (i % 4) and up of byte i // 4. Pages of a read-only memory map are
        released once counted, so that memory use does not grow with the genome.
    starts, lengths : int64, shape (n_runs,), bases
        The runs, in order and without overlap. Length 0 is allowed.
    k : int
        The longest order, 3 … 8.
    threads : int, optional
        Default: as many as this process may use, at most 8. Does not change the counts.
    chunk_bases : int, default 2^26
        Bases that one thread counts at a time, a multiple of 32.
    advance : callable, optional
        Called with the number of bases just counted; from any thread, never from two at once.

    Returns
    -------
    dict, order -> int64, shape (4^order,)
        Occurrences by n-gram code (first base most significant, A T C G = 0 1 2 3).

    Raises
    ------
    InputError
        If the runs are out of order, overlap or extend beyond `bases`: the corpus is damaged. Or if the file of a
        memory map became shorter.
    """
    starts = np.ascontiguousarray(starts, dtype=np.int64)
    ends = starts + np.ascontiguousarray(lengths, dtype=np.int64)
    _check_runs(starts, ends, BASES_PER_BYTE * len(bases))
    plain = np.asarray(bases).view()
    plain.flags.writeable = False  # one compiled version for arrays and read-only maps
    words = plain[: len(plain) // 8 * 8].view(np.uint64)
    stride = 4 if k <= 6 else 2
    chunks = _chunks(int(ends[-1]) if len(ends) else 0, chunk_bases)
    lock = threading.Lock()

    def work() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        blocks = np.zeros(4 ** (k + stride - 1), dtype=np.int64)
        singles = np.zeros(4**k, dtype=np.int64)
        last = np.zeros(_ngrams_up_to(k - 1), dtype=np.int64)
        in_chunk = np.zeros(len(blocks), dtype=np.uint32)
        while True:
            with lock:
                lo, hi = next(chunks, (0, 0))
            if lo == hi:
                return blocks, singles, last
            first_run = int(np.searchsorted(ends, lo, side="right"))
            check_not_cut(bases)
            in_chunk[:] = 0
            _count_chunk(plain, words, starts, ends, first_run, lo, hi, k, stride, in_chunk, singles, last)
            np.add(blocks, in_chunk, out=blocks)
            _release(bases, lo // BASES_PER_BYTE, hi // BASES_PER_BYTE)
            if advance is not None:
                with lock:
                    advance(hi - lo)

    n_threads = threads or min(available_threads(), MAX_THREADS)
    with ThreadPoolExecutor(n_threads) as pool:
        tables_per_thread = [future.result() for future in [pool.submit(work) for _ in range(n_threads)]]
    blocks, singles, last = (np.sum(tables, axis=0) for tables in zip(*tables_per_thread, strict=True))
    counts = _first_base_first(_inner_kmers(blocks, k, stride) + singles, k)
    last_ngrams = np.split(last, [_ngrams_up_to(order) for order in range(1, k - 1)])
    return shorter_orders(counts, k, dict(enumerate(last_ngrams, start=1)))


def _check_runs(starts: np.ndarray, ends: np.ndarray, n_bases: int) -> None:
    valid = len(starts) == 0 or (
        starts[0] >= 0 and ends[-1] <= n_bases and (ends >= starts).all() and (starts[1:] >= ends[:-1]).all()
    )
    if not valid:
        raise InputError(
            f"the runs of the corpus overlap or extend beyond its {n_bases:,} packed bases:"
            " it is damaged; make it again with `cmgems prepare-genome`"
        )


def _ngrams_up_to(order: int) -> int:
    """Return the number of possible n-grams of 1 to `order` bases."""
    return (4 ** (order + 1) - 4) // 3


def _chunks(n_bases: int, chunk_bases: int) -> Iterator[tuple[int, int]]:
    for lo in range(0, n_bases, chunk_bases):
        yield lo, min(lo + chunk_bases, n_bases)


@kernel()
def _count_chunk(  # type: ignore[no-untyped-def]
    bases, words, starts, ends, run, lo, hi, k, stride, blocks, singles, last
):
    """Count the k-mers that start in [lo, hi), from run number `run` on, and the n-grams that end runs there.

    Starts in whole 32-base words are counted in `blocks` (uint32, 4^(k + stride - 1)), the starts before and
    after them in `singles` (int64, 4^k). Both use codes with the first base *least* significant, like the
    packing. `last` (int64) counts the last n-grams of each run, orders 1, 2, … k - 1 concatenated: those
    with which no longer n-gram starts. Their codes have the first base most significant.
    """
    while run < len(starts) and starts[run] < hi:
        first = max(lo, starts[run])
        beyond = min(hi, ends[run] - k + 1)
        word = (first + BASES_PER_WORD - 1) // BASES_PER_WORD
        # The last word of the array has no next word to complete its k-mers.
        stop = min(beyond // BASES_PER_WORD, len(words) - 1)
        if word < stop:
            _count_singles(bases, first, word * BASES_PER_WORD, k, singles)
            _count_blocks(words, word, stop, k, stride, blocks)
            first = stop * BASES_PER_WORD
        _count_singles(bases, first, beyond, k, singles)
        if ends[run] <= hi:
            _count_last(bases, ends[run], min(k - 1, ends[run] - starts[run]), last)
        run += 1


@kernel()
def _count_blocks(words, word, stop, k, stride, blocks):  # type: ignore[no-untyped-def]
    """Count the words of k + stride - 1 bases that begin at every stride-th base of 64-bit words.

    Constant bounds let the compiler unroll the inner loops: 3 times as fast as one loop for both strides.
    """
    mask = (uint64(1) << uint64(2 * (k + stride - 1))) - uint64(1)
    here = words[word]
    for index in range(word + 1, stop + 1):
        after = words[index]
        blocks[here & mask] += 1
        if stride == 4:
            for shift in range(8, 64, 8):
                blocks[((here >> uint64(shift)) | (after << uint64(64 - shift))) & mask] += 1
        else:
            for shift in range(4, 64, 4):
                blocks[((here >> uint64(shift)) | (after << uint64(64 - shift))) & mask] += 1
        here = after


@kernel()
def _count_singles(bases, first, beyond, k, singles):  # type: ignore[no-untyped-def]
    """Count the k-mers that start in [first, beyond), one by one."""
    code = 0
    for base in range(first, beyond + k - 1 if first < beyond else first):
        code = (code >> 2) | (((bases[base >> 2] >> (2 * (base & 3))) & 3) << (2 * (k - 1)))
        if base >= first + k - 1:
            singles[code] += 1


@kernel()
def _count_last(bases, end, longest, last):  # type: ignore[no-untyped-def]
    """Count the n-grams of 1 to `longest` bases that end at `end`."""
    code = 0
    offset = 0
    for order in range(1, longest + 1):
        base = end - order
        code |= ((bases[base >> 2] >> (2 * (base & 3))) & 3) << (2 * (order - 1))
        last[offset + code] += 1
        offset += 1 << (2 * order)


def _release(bases: np.ndarray, lo: int, hi: int) -> None:
    """Release the resident pages of bytes [lo, hi) of a memory map; do nothing for other arrays."""
    mapped = bases.base
    if not (isinstance(bases, np.memmap) and bases.mode == "r" and isinstance(mapped, mmap.mmap)):
        return
    if not hasattr(mapped, "madvise"):  # Windows
        return
    before = bases.offset % mmap.ALLOCATIONGRANULARITY
    start = (before + lo) // mmap.PAGESIZE * mmap.PAGESIZE
    mapped.madvise(mmap.MADV_DONTNEED, start, min(before + hi, len(mapped)) - start)


def _inner_kmers(blocks: np.ndarray, k: int, stride: int) -> np.ndarray:
    """Sum counts of (k + stride - 1)-mers over the positions of a k-mer in them."""
    return np.sum(
        [blocks.reshape(4 ** (stride - 1 - at), 4**k, 4**at).sum(axis=(0, 2)) for at in range(stride)], axis=0
    )


def _first_base_first(counts: np.ndarray, k: int) -> np.ndarray:
    """Reorder counts from codes with the first base least significant to codes with it most significant."""
    return np.ascontiguousarray(counts.reshape((4,) * k).transpose(range(k)[::-1])).ravel()
