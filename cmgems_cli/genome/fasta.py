"""Stream FASTA files as bytes and hash them: plain, gzip or bgzip, recognised by their first bytes.

Every byte is read once, so a named pipe works. Only a few chunks are in memory at a time.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from io import BufferedReader, FileIO
from itertools import chain, cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems_cli.errors import InputError
from cmgems_cli.genome.contigs import IUPAC
from cmgems_cli.genome.file_kinds import other_kind

# ours: about the size of a core's second-level cache, so that the scan finds new chunks there.
CHUNK_BYTES = 1 << 20
CHUNKS_AHEAD = 4

# Small enough that the unconsumed rest, which zlib copies for every bgzip block (18 kB), stays short.
COMPRESSED_READ_BYTES = 1 << 16

GZIP = b"\x1f\x8b"
# SAM specification 4.1: an extra field marks a bgzip member, and an empty member ends the file.
_BGZIP_EXTRA = slice(12, 16)
_BGZIP_MARK = b"BC\x02\x00"

NEEDED = "needed a FASTA file"

# Its name on the command line.
STANDARD_INPUT = Path("-")

# What sequence lines hold, without blanks.
SEQUENCE_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz*-.?~"

_HEAD_BYTES = 1 << 16
# Too few letters to guess what a file holds.
_LETTERS_TO_JUDGE = 30
# ours: at least so many of the first letters of RNA are U.
_RNA_FRACTION = 0.05


class TextChunk(NamedTuple):
    """A chunk of a file's text. `text` (uint8, shape (n,)) is only valid until the next chunk is read."""

    text: np.ndarray
    bytes_read: int


class FastaFile:
    """One file's text in chunks, and the sha256 of the file.

    Parameters
    ----------
    path : Path
        Plain, gzip or bgzip, whatever its name; `STANDARD_INPUT` for piped input.

    Attributes
    ----------
    sha256 : str
        Hash of the file's raw bytes; complete once `chunks` is exhausted.
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

    def chunks(self) -> Generator[TextChunk, None, None]:
        """Yield the text from start to end, read and inflated in a second thread.

        Raises
        ------
        InputError
            If the file cannot be read, or is a truncated or corrupt gzip file.
        """
        yield from read_ahead(self._utf8())

    def _utf8(self) -> Iterator[TextChunk]:
        """Yield the text without a byte-order mark, and UTF-16 after one, as Windows writes it, as UTF-8."""
        chunks = self._read()
        for first in chunks:
            start = bytes(first.text[:4])
            if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and start != codecs.BOM_UTF32_LE:
                yield from self._from_utf16(chain([first], chunks))
            else:
                yield TextChunk(first.text[3:], first.bytes_read) if start[:3] == codecs.BOM_UTF8 else first
                yield from chunks

    def _from_utf16(self, chunks: Iterable[TextChunk]) -> Iterator[TextChunk]:
        decoder = codecs.getincrementaldecoder("utf-16")()
        try:
            for chunk in chunks:
                yield TextChunk(_as_text(decoder.decode(chunk.text.tobytes()).encode()), chunk.bytes_read)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise InputError(f"{self.path} is not valid UTF-16 ({error.reason}); save it as UTF-8") from None

    def _read(self) -> Iterator[TextChunk]:
        try:
            piped = self.path == STANDARD_INPUT
            # Descriptor 0 stays open: this object did not open it.
            raw = FileIO(0, closefd=False) if piped else FileIO(self.path)
            with BufferedReader(raw) as stream:
                self.zipped = stream.peek(len(GZIP))[: len(GZIP)] == GZIP
                yield from self._read_zipped(stream) if self.zipped else self._read_plain(stream)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror or error}") from None

    def _read_plain(self, stream: BufferedReader[FileIO]) -> Iterator[TextChunk]:
        # One buffer is filled and one scanned while the others wait, so each is free when its turn comes.
        for buffer in cycle([bytearray(CHUNK_BYTES) for _ in range(CHUNKS_AHEAD + 2)]):
            n = stream.readinto(buffer)
            if not n:
                return
            text = memoryview(buffer)[:n]
            self._hash.update(text)
            yield TextChunk(_as_text(text), n)

    def _read_zipped(self, stream: BufferedReader[FileIO]) -> Iterator[TextChunk]:
        blocks: list[bytes] = []
        n_inflated = bytes_read = 0
        for block, n in self._inflate(stream):
            if block:
                blocks.append(block)
            n_inflated += len(block)
            bytes_read += n
            if n_inflated >= CHUNK_BYTES:
                yield TextChunk(_as_text(b"".join(blocks)), bytes_read)
                blocks, n_inflated, bytes_read = [], 0, 0
        yield TextChunk(_as_text(b"".join(blocks)), bytes_read)

    def _inflate(self, stream: BufferedReader[FileIO]) -> Iterator[tuple[bytes, int]]:
        """Yield (inflated bytes, raw bytes newly read) of all members and check each CRC."""
        member = None
        whole = True  # of bgzip, whether the last member is the one that ends a file
        while raw := stream.read(COMPRESSED_READ_BYTES):
            self._hash.update(raw)
            n = len(raw)
            full = False
            while raw or full:
                if member is None:
                    raw = raw.lstrip(b"\0")  # gzip allows zeros between and after members
                    if not raw:
                        break
                    if len(raw) < _BGZIP_EXTRA.stop and (more := stream.read(COMPRESSED_READ_BYTES)):
                        self._hash.update(more)
                        raw, n = raw + more, n + len(more)
                    is_bgzip = raw[_BGZIP_EXTRA] == _BGZIP_MARK
                    whole = True
                    member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
                try:
                    block = member.decompress(raw, CHUNK_BYTES)
                except zlib.error as error:
                    raise InputError(
                        f"{self.path} is a corrupt gzip file ({error}); fetch it again"
                    ) from None
                full = len(block) == CHUNK_BYTES
                whole = whole and not (is_bgzip and block)
                raw = member.unconsumed_tail
                if member.eof:
                    raw, full, member = member.unused_data, False, None
                yield block, n
                n = 0
            if n:
                yield b"", n
        if member is not None or not whole:
            raise InputError(f"{self.path} is a truncated gzip file; fetch it again")


def _as_text(data: bytes | memoryview) -> np.ndarray:
    text = np.frombuffer(data, np.uint8)
    text.flags.writeable = False  # one compiled kernel for both kinds of buffer
    return text


def read_ahead(chunks: Iterator[TextChunk]) -> Iterator[TextChunk]:
    """Yield the items of `chunks`, which a second thread produces up to CHUNKS_AHEAD in advance.

    Exceptions of the producer are raised here. If the consumer stops early, so does the producer.
    """
    ready: queue.Queue[TextChunk | BaseException | None] = queue.Queue(CHUNKS_AHEAD)
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
        while isinstance(item := ready.get(), TextChunk):
            yield item
        if item is not None:
            raise item
    finally:
        stop.set()
        while thread.is_alive():
            # Empty the queue: the producer may be waiting to put a last chunk.
            while not ready.empty():
                ready.get_nowait()
            thread.join(timeout=0.01)


def check_readable(path: Path, needed: str = NEEDED) -> None:
    """Check before any work that a path is a readable, non-empty file.

    Parameters
    ----------
    path : Path
    needed : str, default NEEDED
        The end of the message: the kind of file needed.

    Raises
    ------
    InputError
        If it is not.
    """
    if not path.exists():
        where = " (the human genome: `cmgems fetch grch38`)" if needed == NEEDED else ""
        raise InputError(f"{path} does not exist; {needed}{where}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; {needed}: name the files in it")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty; {needed}")
    # A named pipe must not be opened twice.
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} is not readable; change its permissions")


def check_is_fasta(head: bytes, path: Path, *, judge_rna: bool = True) -> None:
    """Check that text begins like a FASTA file of DNA.

    Parameters
    ----------
    head : bytes
        The first bytes after any blank lines; only the first 64 KiB are examined.
    path : Path
        Used in error messages.
    judge_rna : bool, default True
        Whether many U and few T are refused. Otherwise the caller does so by the letters of the whole file.

    Raises
    ------
    InputError
        If it does not; the message says what the file looks like.
    """
    head = head[:_HEAD_BYTES]
    needed = "needed FASTA, which begins with '>'"
    check_is_text(head, path, needed)
    if not head.startswith(b">"):
        raise InputError(f"{path} begins with {_first_line(head)}; {needed}")
    lines = head.replace(b"\r", b"\n").split(b"\n")
    text = np.frombuffer(b"".join(line for line in lines if not line.startswith(b">")).upper(), np.uint8)
    if text.size >= _LETTERS_TO_JUDGE:
        letters = np.bincount(text, minlength=256)
        if not judge_rna or letters[ord("U")] < _RNA_FRACTION * text.size:
            letters[ord("U")] = 0  # the letters T may come later
        check_is_dna(letters, path)


def check_is_text(head: bytes, path: Path, needed: str) -> None:
    """Check that a file does not begin like a binary file or one often given by mistake.

    Parameters
    ----------
    head : bytes
        As in `check_is_fasta`.
    path : Path
    needed : str
        The end of the message: the kind of file needed.

    Raises
    ------
    InputError
        If it does.
    """
    if kind := other_kind(head):
        raise InputError(f"{path} is not FASTA but looks like {kind[0]}; {kind[1]}; {needed}")
    if b"\0" in head[:_HEAD_BYTES]:
        raise InputError(f"{path} is a binary file; {needed}")


def check_only_letters(counts: Mapping[int, int], path: Path, record: str) -> None:
    """Check that a record holds nothing but letters and the signs that stand for gaps and stops.

    Parameters
    ----------
    counts : mapping, byte value -> int
        The bytes of its sequence lines that are not blanks, or some of them.
    path : Path
    record : str
        Name of the record.

    Raises
    ------
    InputError
        If there is anything else, since the letters next to it are then not sequence either.
    """
    strange = {byte: n for byte, n in counts.items() if byte not in SEQUENCE_BYTES}
    if strange:
        shown = ", ".join(ascii(chr(byte)) for byte in list(strange)[:8])
        raise InputError(
            f"{path}: record {record!r} has {sum(strange.values()):,} characters that no sequence has ({shown}), as in"
            " a comment line, a '>' that does not begin its line, or another format; remove or mend these lines"
        )


def check_is_dna(letters: np.ndarray, path: Path) -> None:
    """Check that letters are DNA, neither RNA nor mostly other letters (a protein, most likely).

    Parameters
    ----------
    letters : int64, shape (256,)
        Count of each byte value, letters in upper case.
    path : Path
        Used in error messages.

    Raises
    ------
    InputError
        If they are not.
    """
    if letters[ord("U")] > letters[ord("T")]:
        raise InputError(
            f"{path} has the letter U {letters[ord('U')]:,} times and T {letters[ord('T')]:,} times, so it looks"
            " like RNA; needed DNA: write T in place of U"
        )
    others = letters.copy()
    others[list(b"ACGTN \t\r\n")] = 0
    other_fraction = others.sum() / max(1, letters.sum())
    if other_fraction <= 0.5:
        return
    kinds = bytes(np.flatnonzero(others).astype(np.uint8))
    likely = "ambiguous sequence" if set(kinds) <= set(IUPAC + b"UX-.*") else "protein"
    raise InputError(
        f"{path}: {100 * other_fraction:.0f} % of the letters are not A, C, G, T or N (but"
        f" {kinds[:12].decode('ascii', 'replace')}), so it looks like {likely}; needed DNA"
    )


def _first_line(head: bytes) -> str:
    first = head.splitlines()[0] if head.splitlines() else b""
    return repr(first[:30].decode("ascii", "replace"))
