"""Lines of bounded length from a text file, plain or gzip, which is read and hashed once."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta import FastaFile

# ours: a row with 10 million bases is a chromosome, which FASTA holds better.
LONGEST_LINE = 10_000_000


def texts_of(file: FastaFile) -> Generator[bytes, None, None]:
    """Yield the text of a file in parts of about a megabyte."""
    with closing(file.chunks()) as chunks:
        for chunk in chunks:
            yield chunk.text.tobytes()


def lines_of(texts: Iterator[bytes], path: Path, needed: str) -> Generator[str, None, None]:
    """Split text in parts into its lines, with their ends; a byte order mark is skipped.

    Parameters
    ----------
    texts : iterator of bytes
    path : Path
        For messages.
    needed : str
        What the file should have been, for messages.

    Yields
    ------
    str

    Raises
    ------
    InputError
        If it is not UTF-8, or a line is longer than `LONGEST_LINE`.
    """
    with io.TextIOWrapper(io.BufferedReader(_Bytes(texts)), encoding="utf-8-sig", newline="") as stream:
        number = 0
        try:
            while line := stream.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise InputError(
                        f"{path} line {number} has more than {LONGEST_LINE:,} characters; {needed}: give long"
                        " sequences as FASTA"
                    )
                yield line
        except UnicodeDecodeError:
            raise InputError(f"{path} is not UTF-8 text; {needed}: save it as UTF-8 text") from None


class _Bytes(io.RawIOBase):
    """Parts of a text as a readable file."""

    def __init__(self, texts: Iterator[bytes]) -> None:
        self._texts = texts
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            text = next(self._texts, None)
            if text is None:
                return 0
            self._left = memoryview(text)
        n = min(len(buffer), len(self._left))
        buffer[:n] = self._left[:n]
        self._left = self._left[n:]
        return n
