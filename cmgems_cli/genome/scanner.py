"""The compiled state machine that scans every byte of every FASTA file.

Runs are maximal sequences of A, C, G, T in either case. Line ends (LF, CR, CRLF), blank lines, spaces and
tabs are layout. Any other byte ends a run, so that no sequence spans a gap (method, section 2). Text may be
fed in chunks of any size.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import uint8, uint64

from cmgems_cli.errors import InputError
from cmgems_cli.genome.codec import base_at, word_at
from cmgems_cli.genome.contig_names import check_header_length, record_name
from cmgems_cli.genome.contigs import IUPAC, Contig, ContigSelection
from cmgems_cli.genome.corpus import RUN
from cmgems_cli.genome.fasta import check_is_fasta, check_only_letters
from cmgems_cli.kernels import kernel

LINE_FEED, RETURN, SPACE, TAB, HEADER_MARK, N = b"\n\r \t>N"
BLANKS = b"\n\r \t"

# Bytes needed after the packed bases of a chunk: a last, partly filled write may touch them.
SPARE_BYTES = 4

# Runs collected before they are written.
RUNS_BUFFERED = 1 << 14

# ours: they take 500 MB of memory. A human genome has a thousand.
MAX_RUNS = 1 << 24

# Slots of the scanner's state, int64 each. PENDING holds less than a byte of packed bases.
AT_LINE_START, RUN_BASES, LETTERS, TOTAL_BASES, PENDING, PENDING_BITS = range(6)

_LOW_BITS = np.uint64(0x0101010101010101)
_LETTERS_A = np.uint64(0x4141414141414141)
_HIGH_BITS = np.uint64(0x8080808080808080)
_LETTERS_N = np.uint64(0x4E4E4E4E4E4E4E4E)
_HEADER_MARKS = np.uint64(0x3E3E3E3E3E3E3E3E)
_UPPER = np.uint64(0xDFDFDFDFDFDFDFDF)
_LOW_SEVEN_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_ABOVE_BLANKS = np.uint64(0x5F5F5F5F5F5F5F5F)
_ODD_BITS = np.uint64(0x5555555555555555)

_UPPER_OF_BYTE = np.frombuffer(bytes(range(256)).upper(), np.uint8)


@kernel(inline="always")
def _leading_bases(word):  # type: ignore[no-untyped-def]
    """Return the number of leading bases among a word's eight letters, and their packed codes.

    In ASCII, bits 2 and 1 of A, C, T, G in either case are 00, 01, 10, 11; our codes A T C G = 0 1 2 3 are
    bits 1 and 2. Rebuild letters from these bits: the word differs from them wherever it does not hold a
    base.
    """
    word &= _UPPER
    bit_1, bit_2 = (word >> uint64(1)) & _LOW_BITS, (word >> uint64(2)) & _LOW_BITS
    is_t = bit_2 & ~bit_1
    rebuilt = (_LETTERS_A | (bit_1 << uint64(1)) | (bit_2 << uint64(2))) ^ (is_t | (is_t << uint64(4)))
    codes = (bit_1 << uint64(1)) | bit_2
    codes = (codes | (codes >> uint64(6))) & uint64(0x000F000F000F000F)
    codes = (codes | (codes >> uint64(12))) & uint64(0x000000FF000000FF)
    codes = (codes | (codes >> uint64(24))) & uint64(0xFFFF)
    wrong = rebuilt ^ word
    if wrong == 0:
        return 8, codes
    # The lowest bit that differs is in the first wrong byte; count the whole bytes below it.
    below = ((wrong & (~wrong + uint64(1))) - uint64(1)) & _HIGH_BITS
    n = ((below >> uint64(7)) * _LOW_BITS) >> uint64(56)
    return np.int64(n), codes & ((uint64(1) << (uint64(2) * n)) - uint64(1))


@kernel()
def scan_sequence(text, at, contig, state, packed, n_packed, runs, dropped):  # type: ignore[no-untyped-def]
    """Scan the text of a kept record from `at` to the next header, to the end, or until `runs` is full.

    Parameters
    ----------
    text : uint8, shape (n,)
    at : int
        First byte to scan.
    contig : int
        Row of the contig, for `runs`.
    state : int64, shape (6,)
        Read and updated; the slots are named above.
    packed : uint8, shape (m,)
        Output: packed bases, from `n_packed` on. m >= n_packed + n // 4 + `SPARE_BYTES`.
    n_packed : int
        Bytes of `packed` already filled.
    runs : `RUN`, shape (r,)
        Output: the runs that ended.
    dropped : int64, shape (256,)
        Output: counts of letters that are not bases, by the byte value of their upper case.

    Returns
    -------
    at, n_packed, n_runs : int
        Next byte to scan (a '>' or the end, unless n_runs == len(runs)), and how much was filled.
    """
    n = text.size
    n_runs = 0
    # Only `at` and `total` change with every word; the other counts are stored relative to them.
    line_start = at if state[AT_LINE_START] else -1
    total = state[TOTAL_BASES]
    run_start = total - state[RUN_BASES]
    no_bases = state[LETTERS] - total
    pending, n_bits = uint64(state[PENDING]), uint64(state[PENDING_BITS])
    while at < n and n_runs < runs.size:
        if at + 8 <= n:
            word = word_at(text, at)
        else:
            word = uint64(0)  # not a base, so that nothing after the end counts
            for i in range(n - at):
                word |= uint64(text[at + i]) << uint64(8 * i)
        n_good, codes = _leading_bases(word)
        if n_good > 0:
            pending |= codes << n_bits
            packed[uint64(n_packed)] = uint8(pending)
            packed[uint64(n_packed + 1)] = uint8(pending >> uint64(8))
            at += n_good
            total += n_good
            if n_good == 8:
                n_packed += 2
                pending >>= uint64(16)
                continue
            # Keep those of the two written bytes that are full.
            n_bits += uint64(2 * n_good)
            n_packed += np.int64(n_bits >> uint64(3))
            pending >>= n_bits & ~uint64(7)
            n_bits &= uint64(7)
            if at == n:
                break
        byte = text[uint64(at)]
        if byte in (LINE_FEED, RETURN):
            line_start = at + 1
        elif byte == HEADER_MARK and at == line_start:
            break
        elif byte not in (SPACE, TAB):
            if total > run_start:
                runs[n_runs].start = run_start
                runs[n_runs].length_bases = total - run_start
                runs[n_runs].contig = contig
                runs[n_runs].contig_start = run_start + no_bases
                n_runs += 1
                run_start = total
            elif word & _UPPER == _LETTERS_N:
                dropped[N] += 8
                no_bases += 8
                at += 8
                continue
            dropped[_UPPER_OF_BYTE[byte]] += 1
            no_bases += 1
        at += 1
    state[AT_LINE_START] = at == line_start
    state[RUN_BASES], state[LETTERS], state[TOTAL_BASES] = total - run_start, total + no_bases, total
    state[PENDING], state[PENDING_BITS] = np.int64(pending), np.int64(n_bits)
    return at, n_packed, n_runs


@kernel()
def skip_sequence(text, at, state):  # type: ignore[no-untyped-def]
    """Return where the next '>' is at or after `at`, or the end of the text, and the number of letters before it."""
    begin, n = at, text.size
    letters = 0
    while at < n:
        if at + 8 <= n:
            word = word_at(text, at)
            # A byte is 0 where the text has '>'; bytes below the first such byte never borrow (Mycroft 1987).
            marked = word ^ _HEADER_MARKS
            if (marked - _LOW_BITS) & ~marked & _HIGH_BITS == 0:
                above = (((word & _LOW_SEVEN_BITS) + _ABOVE_BLANKS) | word) & _HIGH_BITS
                letters += np.int64(((above >> uint64(7)) * _LOW_BITS) >> uint64(56))
                at += 8
                continue
        if text[at] == HEADER_MARK:
            break
        letters += text[at] > SPACE
        at += 1
    if at > begin:
        state[AT_LINE_START] = text[at - 1] in (LINE_FEED, RETURN)
    return at, letters


@kernel()
def count_t(packed):  # type: ignore[no-untyped-def]
    """Return how many of the packed bases are T, whose code is 1."""
    n = 0
    whole = packed.size // 8 * 8
    for at in range(0, whole, 8):
        word = word_at(packed, at)
        bits = word & ~(word >> uint64(1)) & _ODD_BITS
        # Add neighbours: fields of 4, then of 8 bits.
        bits = (bits & uint64(0x3333333333333333)) + ((bits >> uint64(2)) & uint64(0x3333333333333333))
        bits = (bits + (bits >> uint64(4))) & uint64(0x0F0F0F0F0F0F0F0F)
        n += np.int64((bits * _LOW_BITS) >> uint64(56))
    for base in range(4 * whole, 4 * packed.size):
        n += base_at(packed, base) == 1
    return n


@kernel()
def end_of_line(text, at):  # type: ignore[no-untyped-def]
    """Return the end of the line that contains `at`: the index of its LF or CR, or the end of the text."""
    while at < text.size and text[at] != LINE_FEED and text[at] != RETURN:
        at += 1
    return at


class Scanner:
    """Turns FASTA text into packed bases, runs and contigs.

    Parameters
    ----------
    selection : ContigSelection
        Decides which records are kept and collects them.
    write_bases : callable
        Called with packed bases (uint8, shape (n,)), in order.
    write_runs : callable
        Called with rows of `RUN` (shape (n,)), in order.

    Attributes
    ----------
    n_bases : int
        Bases kept so far, over all files.
    dropped : int64, shape (256,)
        Counts of letters of finished records that are not bases, by the byte value of their upper case.
    longest_run : int
        Length of the longest run so far, in bases.
    letters_passed_over : int
        Letters of records that were not kept.
    """

    def __init__(
        self,
        selection: ContigSelection,
        write_bases: Callable[[np.ndarray], None],
        write_runs: Callable[[np.ndarray], None],
    ) -> None:
        self._selection = selection
        self._write_bases = write_bases
        self._write_runs = write_runs
        self._state = np.zeros(6, np.int64)
        self._runs = np.zeros(RUNS_BUFFERED, RUN)
        self._packed = np.zeros(0, np.uint8)
        self._contig: Contig | None = None
        self._header: bytearray | None = None
        self._path = Path()
        self._begun = False
        self._dropped = np.zeros(256, np.int64)
        self.dropped = np.zeros(256, np.int64)
        self.longest_run = self.letters_passed_over = 0
        self._n_t = self._n_runs = 0

    @property
    def n_bases(self) -> int:
        return int(self._state[TOTAL_BASES])

    @property
    def n_t(self) -> int:
        """Letters T among the bases kept so far."""
        # Bits of PENDING above those in use are 0, the code of A.
        return self._n_t + int(count_t(self._state[PENDING : PENDING + 1].view(np.uint8)))

    def begin_file(self, path: Path) -> None:
        """Continue with the text of another file; `path` is used in error messages."""
        self._path = path
        self._begun = False
        self._state[AT_LINE_START] = True

    def feed(self, text: np.ndarray) -> None:
        """Scan the next chunk of a file's text (uint8, shape (n,)), which is not retained.

        Raises
        ------
        InputError
            If the text is not FASTA, or a record has no name, or one that `ContigSelection` rejects.
        """
        at = 0
        if not self._begun:
            rest = text.tobytes().lstrip(BLANKS)
            if not rest:
                return
            check_is_fasta(rest, self._path, judge_rna=False)
            self._begun = True
            at = text.size - len(rest)
        if self._packed.size < text.size // 4 + SPARE_BYTES:
            self._packed = np.zeros(text.size // 4 + SPARE_BYTES, np.uint8)
        n_packed = 0
        while at < text.size:
            if self._header is not None:
                at = self._read_header(text, at)
            elif self._contig is None:
                at, letters = skip_sequence(text, at, self._state)
                self.letters_passed_over += letters
                if at < text.size:
                    if not self._state[AT_LINE_START]:
                        check_only_letters({HEADER_MARK: 1}, self._path, self._selection.last_name or "")
                    self._header = bytearray()
            else:
                at, n_packed = self._scan(text, at, n_packed)
        self._n_t += int(count_t(self._packed[:n_packed]))
        self._write_bases(self._packed[:n_packed])

    def pass_over(self, text: np.ndarray) -> None:
        """Count the letters (bytes that are not blanks) of text that is not scanned (uint8, shape (n,))."""
        self.letters_passed_over += int(np.count_nonzero(text > SPACE))

    def end_file(self) -> None:
        """End the file's last record.

        Raises
        ------
        InputError
            If the file holds only blanks, or its last record has no name.
        """
        if not self._begun:
            raise InputError(f"{self._path} holds no text; needed a FASTA file")
        if self._header is not None:
            self._begin_record()
        self._end_record()

    def finish(self) -> None:
        """Write the last, partly filled byte."""
        if self._state[PENDING_BITS]:
            self._write_bases(self._state[PENDING : PENDING + 1].astype(np.uint8))

    def _read_header(self, text: np.ndarray, at: int) -> int:
        assert self._header is not None
        end = end_of_line(text, at)
        self._header += text[at:end].tobytes()
        check_header_length(self._header, self._path)
        if end < text.size:
            self._begin_record()
            self._state[AT_LINE_START] = True
        return end

    def _begin_record(self) -> None:
        assert self._header is not None
        self._end_record()
        name = record_name(self._header[1:], self._path, self._selection.last_name)
        self._contig = self._selection.add(name, self._path)
        self._header = None
        self._state[LETTERS] = 0

    def _end_record(self) -> None:
        run_bases, letters, total = (int(self._state[slot]) for slot in (RUN_BASES, LETTERS, TOTAL_BASES))
        if self._contig is None:
            return
        if run_bases:
            row = len(self._selection.kept) - 1
            self._end_runs(np.array([(total - run_bases, run_bases, row, letters - run_bases)], RUN))
            self._state[RUN_BASES] = 0
        contig, self._contig = self._contig, None
        contig.length_bases = contig.bases = letters
        if not self._dropped.any():
            return
        counts = {int(byte): int(self._dropped[byte]) for byte in np.flatnonzero(self._dropped)}
        check_only_letters(counts, self._path, contig.name)
        contig.bases -= sum(counts.values())
        contig.dropped_n = counts.get(N, 0)
        contig.dropped_iupac = sum(counts.get(byte, 0) for byte in IUPAC)
        contig.dropped_other = letters - contig.bases - contig.dropped_n - contig.dropped_iupac
        self.dropped += self._dropped
        self._dropped[:] = 0

    def _scan(self, text: np.ndarray, at: int, n_packed: int) -> tuple[int, int]:
        assert self._contig is not None
        row = len(self._selection.kept) - 1
        at, n_packed, n_runs = scan_sequence(
            text, at, row, self._state, self._packed, n_packed, self._runs, self._dropped
        )
        if n_runs:
            self._end_runs(self._runs[:n_runs])
        if at < text.size and n_runs < self._runs.size:
            self._header = bytearray()
        return at, n_packed

    def _end_runs(self, runs: np.ndarray) -> None:
        assert self._contig is not None
        self._contig.runs += runs.size
        self._n_runs += runs.size
        if self._n_runs > MAX_RUNS:
            raise InputError(
                f"{self._path}: more than {MAX_RUNS:,} runs of A, C, G, T, over all files; needed longer ones: give an"
                " assembly with fewer other letters"
            )
        self.longest_run = max(self.longest_run, int(runs["length_bases"].max()))
        self._write_runs(runs)
