"""FASTA files as a stream of bytes: plain, gzip or bgzip, told apart by their first bytes, hashed on the way.

Nothing is ever read twice, so a named pipe will do, and nothing larger than a few chunks is held.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Generator, Iterator
from io import BufferedReader, FileIO
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems_cli.errors import InputError
from cmgems_cli.genome.contigs import IUPAC

# ours: about the size of a core's second-level cache, so that the scan reads what was just written.
CHUNK_BYTES = 1 << 20
CHUNKS_AHEAD = 4

# Small enough that few bgzip blocks (18 kB) are copied again and again as "what is left".
COMPRESSED_READ_BYTES = 1 << 16

GZIP = b"\x1f\x8b"
# SAM specification 4.1: a bgzip member says so in an extra field, and an empty one ends the file.
_BGZIP_EXTRA = slice(12, 16)
_BGZIP_MARK = b"BC\x02\x00"
_BGZIP_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

# What a command line calls it.
STANDARD_INPUT = Path("-")

# Files people give by mistake, by their first bytes.
_OTHER_KINDS = {
    b"BZh": "a bzip2 file; decompress it first",
    b"\xfd7zXZ": "an xz file; decompress it first",
    b"\x28\xb5\x2f\xfd": "a zstd file; decompress it first",
    b"PK\x03\x04": "a zip file; unpack it first",
    b"\x43\x27\x41\x1a": "a 2bit file; convert it with twoBitToFa first",
    b"\x1a\x41\x27\x43": "a 2bit file; convert it with twoBitToFa first",
    b"BAM\x01": "a BAM file",
    b"@": "FASTQ or SAM",
    b"\xef\xbb\xbf>": "FASTA behind a byte-order mark; save it without one",
}
_HEAD_BYTES = 1 << 16
# Fewer letters than this say nothing about what a file holds.
_LETTERS_TO_JUDGE = 30


class Chunk(NamedTuple):
    """A piece of a file's text. `text` is only valid until the next piece is asked for."""

    text: np.ndarray
    bytes_read: int


class FastaFile:
    """One file's text in chunks, and the sha256 of the file.

    Parameters
    ----------
    path : Path
        Plain, gzip or bgzip, whatever its name; `STANDARD_INPUT` for what is piped in.

    Attributes
    ----------
    sha256 : str
        Of the file's raw bytes; complete once `chunks` is exhausted.
    zipped : bool
        Whether the file is gzip or bgzip; known once `chunks` has yielded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.zipped = False
        self._hash = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def chunks(self) -> Generator[Chunk, None, None]:
        """Yield the text from first to last, read and inflated in a second thread.

        Raises
        ------
        InputError
            If the file cannot be read, or is a truncated or corrupt gzip file.
        """
        yield from read_ahead(self._read())

    def _read(self) -> Iterator[Chunk]:
        try:
            piped = self.path == STANDARD_INPUT
            # Descriptor 0 stays open: it is not this file's to close.
            opened = FileIO(0, closefd=False) if piped else FileIO(self.path)
            with BufferedReader(opened) as stream:
                self.zipped = stream.peek(len(GZIP))[: len(GZIP)] == GZIP
                yield from self._read_zipped(stream) if self.zipped else self._read_plain(stream)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from None

    def _read_plain(self, stream: BufferedReader[FileIO]) -> Iterator[Chunk]:
        # One buffer is being filled and one scanned while the others wait: each is free when its turn comes.
        for buffer in cycle([bytearray(CHUNK_BYTES) for _ in range(CHUNKS_AHEAD + 2)]):
            n = stream.readinto(buffer)
            if not n:
                return
            text = memoryview(buffer)[:n]
            self._hash.update(text)
            yield Chunk(_as_text(text), n)

    def _read_zipped(self, stream: BufferedReader[FileIO]) -> Iterator[Chunk]:
        pieces: list[bytes] = []
        waiting = bytes_read = 0
        for piece, n in self._inflate(stream):
            pieces.append(piece)
            waiting += len(piece)
            bytes_read += n
            if waiting >= CHUNK_BYTES:
                yield Chunk(_as_text(b"".join(pieces)), bytes_read)
                pieces, waiting, bytes_read = [], 0, 0
        yield Chunk(_as_text(b"".join(pieces)), bytes_read)

    def _inflate(self, stream: BufferedReader[FileIO]) -> Iterator[tuple[bytes, int]]:
        """Yield (inflated bytes, raw bytes newly read) of all members, checking each one's CRC."""
        member = None
        is_bgzip = stream.peek(_BGZIP_EXTRA.stop)[_BGZIP_EXTRA] == _BGZIP_MARK
        last = b""
        while raw := stream.read(COMPRESSED_READ_BYTES):
            self._hash.update(raw)
            last = (last + raw)[-len(_BGZIP_END) :]
            n = len(raw)
            full = False
            while raw or full:
                if member is None:
                    raw = raw.lstrip(b"\0")  # gzip allows zeros between and behind members
                    if not raw:
                        break
                    member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
                try:
                    piece = member.decompress(raw, CHUNK_BYTES)
                except zlib.error as error:
                    raise InputError(
                        f"{self.path} is a corrupt gzip file ({error}); fetch it again"
                    ) from None
                full = len(piece) == CHUNK_BYTES
                raw = member.unconsumed_tail
                if member.eof:
                    raw, full, member = member.unused_data, False, None
                yield piece, n
                n = 0
            if n:
                yield b"", n
        if member is not None or (is_bgzip and last != _BGZIP_END):
            raise InputError(f"{self.path} is a truncated gzip file; fetch it again")


def _as_text(data: bytes | memoryview) -> np.ndarray:
    text = np.frombuffer(data, np.uint8)
    text.flags.writeable = False  # one compiled kernel for both kinds of buffer
    return text


def read_ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield what `chunks` yields, produced in a second thread up to CHUNKS_AHEAD in advance.

    An exception of the producer is raised here; if the consumer stops early, so does the producer.
    """
    ready: queue.Queue[Chunk | BaseException | None] = queue.Queue(CHUNKS_AHEAD)
    stop = threading.Event()

    def produce() -> None:
        end: BaseException | None = None
        try:
            for chunk in chunks:
                ready.put(chunk)
                if stop.is_set():
                    return
        except BaseException as error:
            end = error
        ready.put(end)

    thread = threading.Thread(target=produce, name="cmgems-read-ahead", daemon=True)
    thread.start()
    try:
        while isinstance(item := ready.get(), Chunk):
            yield item
        if item is not None:
            raise item
    finally:
        stop.set()
        while thread.is_alive():
            # Make room: the producer may be waiting to hand over a last chunk.
            while not ready.empty():
                ready.get_nowait()
            thread.join(timeout=0.01)


def check_readable(path: Path) -> None:
    """Refuse a path that is no readable, non-empty file, before any work is done.

    Raises
    ------
    InputError
    """
    if not path.exists():
        raise InputError(
            f"{path} does not exist; needed a FASTA file (the human genome: `cmgems fetch grch38`)"
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder; needed a FASTA file: name the files in it")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty; needed a FASTA file")
    # A named pipe must not be opened twice.
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read; change its permissions")


def check_is_fasta(head: bytes, path: Path) -> None:
    """Refuse text that does not begin like a FASTA file of DNA, saying what it looks like instead.

    Parameters
    ----------
    head : bytes
        The first bytes behind any blank lines; more than the first 64 KiB are not looked at.

    Raises
    ------
    InputError
    """
    head = head[:_HEAD_BYTES]
    needed = "needed FASTA, which begins with '>'"
    check_is_text(head, path, needed)
    if not head.startswith(b">"):
        raise InputError(f"{path} begins with {_excerpt(head)}; {needed}")
    lines = head.replace(b"\r", b"\n").split(b"\n")
    letters = np.frombuffer(b"".join(line for line in lines if not line.startswith(b">")).upper(), np.uint8)
    if letters.size >= _LETTERS_TO_JUDGE:
        check_is_dna(np.bincount(letters, minlength=256), path)


def check_is_text(head: bytes, path: Path, needed: str) -> None:
    """Refuse the beginnings of files that are often given by mistake, and of binary ones.

    Parameters
    ----------
    head : bytes
        As in `check_is_fasta`.
    path : Path
    needed : str
        The end of the message: what should have been given.

    Raises
    ------
    InputError
    """
    for magic, kind in _OTHER_KINDS.items():
        if head.startswith(magic):
            raise InputError(f"{path} is not FASTA but looks like {kind}; {needed}")
    if b"\0" in head[:_HEAD_BYTES]:
        raise InputError(f"{path} is a binary file; {needed}")


def check_is_dna(letters: np.ndarray, path: Path) -> None:
    """Refuse RNA, and text most of whose letters are not A, C, G, T or N: a protein, most likely.

    Parameters
    ----------
    letters : int64, shape (256,)
        How often each byte value occurs, letters in upper case.

    Raises
    ------
    InputError
    """
    if letters[ord("U")] > letters[ord("T")]:
        raise InputError(
            f"{path} has the letter U {letters[ord('U')]:,} times and T {letters[ord('T')]:,} times, so it looks"
            " like RNA; needed DNA: write T in place of U"
        )
    others = letters.copy()
    others[list(b"ACGTN \t\r\n")] = 0
    share = others.sum() / max(1, letters.sum())
    if share <= 0.5:
        return
    kinds = bytes(np.flatnonzero(others).astype(np.uint8))
    likely = "ambiguous sequence" if set(kinds) <= set(IUPAC + b"UX-.*") else "protein"
    raise InputError(
        f"{path}: {100 * share:.0f} % of the letters are not A, C, G, T or N (but"
        f" {kinds[:12].decode('ascii', 'replace')}), so it looks like {likely}; needed DNA"
    )


def _excerpt(head: bytes) -> str:
    first = head.splitlines()[0] if head.splitlines() else b""
    return repr(first[:30].decode("ascii", "replace"))
