"""Reading files: plain, gzip, bgzip, by content; damage; the second thread."""

import gzip
import hashlib
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.errors import InputError
from cmgems_cli.genome import fasta
from cmgems_cli.genome.fasta import FastaFile, TextChunk, check_is_fasta, check_readable, read_ahead

TEXT = b">a\n" + b"ACGTTGCA\n" * 5000


def bgzip(text: bytes, block: int = 1000, end: bool = True) -> bytes:
    """Compress as bgzip does (SAM specification 4.1): one gzip member a block, its size in an extra field."""
    blocks = [text[i : i + block] for i in range(0, len(text), block)] + [b""] * end
    out = b""
    for piece in blocks:
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        data = deflate.compress(piece) + deflate.flush()
        head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + (len(data) + 25).to_bytes(2, "little")
        out += head + data + zlib.crc32(piece).to_bytes(4, "little") + len(piece).to_bytes(4, "little")
    return out


def read(path: Path) -> tuple[bytes, int, FastaFile]:
    source = FastaFile(path)
    text, n = b"", 0
    for chunk in source.chunks():
        text += chunk.text.tobytes()
        n += chunk.bytes_read
    return text, n, source


def as_is(text: bytes) -> bytes:
    return text


def two_members(text: bytes) -> bytes:
    return gzip.compress(text[:77]) + gzip.compress(text[77:])


def padded(text: bytes) -> bytes:
    return gzip.compress(text) + b"\0" * 70000


def test_our_bgzip_ends_as_the_specification_says() -> None:
    end = "1f8b08040000000000ff0600424302001b0003000000000000000000"
    assert bgzip(b"") == bytes.fromhex(end)


@pytest.mark.parametrize("write", [as_is, gzip.compress, two_members, padded, bgzip])
@pytest.mark.parametrize("name", ["g.fa", "g.fa.gz", "g"])
@pytest.mark.parametrize("chunk_bytes", [1, 1000, 1 << 20])
def test_text_and_hash_whatever_the_name_and_the_chunks(
    write, name: str, chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fasta, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(fasta, "COMPRESSED_READ_BYTES", min(chunk_bytes, 100))
    expected = TEXT if chunk_bytes > 1 else TEXT[:500]
    raw = write(expected)
    path = tmp_path / name
    path.write_bytes(raw)
    text, n, source = read(path)
    assert text == expected
    assert n == len(raw)
    assert source.sha256 == hashlib.sha256(raw).hexdigest()
    assert source.zipped == (write is not as_is)


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_readable(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(TEXT,))
    writer.start()
    text, _, _ = read(pipe)
    writer.join()
    assert text == TEXT


def cut_short(raw: bytes) -> bytes:
    return raw[:-5]


def without_trailer(raw: bytes) -> bytes:
    return raw[:-8]


def half(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def only_header(raw: bytes) -> bytes:
    return raw[:10]


@pytest.mark.parametrize("spoil", [cut_short, without_trailer, half, only_header])
@pytest.mark.parametrize("write", [gzip.compress, bgzip])
def test_a_truncated_gzip_file_is_an_error(spoil, write, tmp_path: Path) -> None:
    path = tmp_path / "g.fa.gz"
    path.write_bytes(spoil(write(TEXT)))
    with pytest.raises(InputError, match=r"g\.fa\.gz is a truncated gzip file; fetch it again"):
        read(path)


def test_bgzip_cut_between_two_blocks_is_truncated_too(tmp_path: Path) -> None:
    path = tmp_path / "g.fa.gz"
    path.write_bytes(bgzip(TEXT, end=False))
    with pytest.raises(InputError, match="truncated"):
        read(path)


def wrong_crc(raw: bytes) -> bytes:
    return raw[:-8] + bytes([raw[-8] ^ 1]) + raw[-7:]


def wrong_length(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


def flipped_bit(raw: bytes) -> bytes:
    return raw[:40] + bytes([raw[40] ^ 16]) + raw[41:]


def trailing_text(raw: bytes) -> bytes:
    return raw + b">b\nACGT\n"


@pytest.mark.parametrize("spoil", [wrong_crc, wrong_length, flipped_bit, trailing_text])
def test_a_corrupt_gzip_file_is_an_error(spoil, tmp_path: Path) -> None:
    path = tmp_path / "g.fa.gz"
    path.write_bytes(spoil(gzip.compress(os.urandom(2000))))
    with pytest.raises(InputError, match=r"g\.fa\.gz is a (corrupt|truncated) gzip file"):
        read(path)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"@read1\nACGT\n+\nIIII\n", "looks like FASTQ or SAM"),
        (b"ACGTACGT\n", "begins with 'ACGTACGT'; needed FASTA, which begins with '>'"),
        (b"chr1\t100\t200\n", "begins with 'chr1"),
        (b">a\nACGT\0\0", "binary file"),
        (b"BZh91AY", "bzip2 file; decompress it first"),
        (b"\xfd7zXZ\0\0", "xz file"),
        (b"PK\x03\x04..", "zip file"),
        (b"\x43\x27\x41\x1a\0", "2bit file"),
        (b"\xef\xbb\xbf>a\nACGT", "byte-order mark"),
        (b"\xff\xfe>\0", "binary file"),
        (b">p\nMKVLAAGIVGLLLAQWSRKTPEEDMKVLAAGIVGLLLAQW\n", "looks like protein; needed DNA"),
    ],
)
def test_what_is_not_fasta_of_dna_is_named(head: bytes, words: str) -> None:
    with pytest.raises(InputError) as error:
        check_is_fasta(head, Path("g.fa"))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "head", [b">", b">a", b">a\nRYKM\n", b">a\n" + b"N" * 100, b">a\r\n" + b"acgt\r\n" * 99, b">a\nACGT" * 9]
)
def test_dna_passes(head: bytes) -> None:
    check_is_fasta(head, Path("g.fa"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist.*`cmgems fetch grch38`"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.touch(), "is empty"),
    ],
)
def test_paths_that_cannot_be_read_are_errors(make, words: str, tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    make(path)
    with pytest.raises(InputError, match=words):
        check_readable(path)


def chunks(n: int, fail_at: int | None = None) -> Iterator[TextChunk]:
    for i in range(n):
        if i == fail_at:
            raise InputError("broken here")
        yield TextChunk(np.zeros(0, np.uint8), i)


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cmgems-read-ahead"]


def test_reading_ahead_keeps_the_order() -> None:
    assert [chunk.bytes_read for chunk in read_ahead(chunks(100))] == list(range(100))
    assert not reading_threads()


def test_an_error_of_the_second_thread_is_raised_in_its_place() -> None:
    seen = []
    with pytest.raises(InputError, match="broken here"):
        seen += [chunk.bytes_read for chunk in read_ahead(chunks(100, fail_at=7))]
    reader = read_ahead(chunks(100, fail_at=7))
    assert [next(reader).bytes_read for _ in range(7)] == list(range(7))
    reader.close()
    assert not reading_threads()


@pytest.mark.parametrize("taken", [1, 50, 99])
def test_stopping_early_ends_the_second_thread(taken: int) -> None:
    reader = read_ahead(chunks(100))
    for _ in range(taken):
        next(reader)
    reader.close()
    assert not reading_threads()
