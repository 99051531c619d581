"""The records of a FASTA file, one at a time: for files of many short sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from cmgems_cli.genome.fasta import FastaFile, check_is_fasta
from cmgems_cli.genome.fasta_stream import fasta_pieces

_BLANKS = b" \t\n\r"


class Record(NamedTuple):
    """One record: the first word behind its '>', and its letters, upper case, without any blanks."""

    name: str
    letters: bytes


def fasta_records(source: FastaFile, advance: Callable[[float], None] = lambda n: None) -> Iterator[Record]:
    """Read a FASTA file (plain, gzip or bgzip) record by record; only one is held.

    Parameters
    ----------
    source : FastaFile
        Its `sha256` is complete once the last record was taken.
    advance : callable, optional
        Told the number of raw file bytes newly read.

    Raises
    ------
    InputError
        If the file cannot be read, does not begin like FASTA of DNA, or has a record without a name.

    Notes
    -----
    Lines end in LF, CR or CRLF. Names may repeat; a record may have no letters.
    """
    letters: list[bytes] = []
    with closing(source.chunks()) as chunks:
        texts = ((chunk.text.tobytes(), chunk.bytes_read) for chunk in chunks)
        for piece in fasta_pieces(_from_the_first(texts, source, advance), source.path):
            letters.append(piece.letters)
            if piece.last:
                yield Record(piece.name, b"".join(letters).upper())
                letters = []


def _from_the_first(
    texts: Iterator[tuple[bytes, int]], source: FastaFile, advance: Callable[[float], None]
) -> Iterator[bytes]:
    """Pass a file's text on from its first record, once it is known to be FASTA."""
    begun = False
    for text, bytes_read in texts:
        advance(bytes_read)
        if not begun:
            text = text.lstrip(_BLANKS)
            if not text:
                continue
            check_is_fasta(text, source.path)
            begun = True
        yield text
    if not begun:
        check_is_fasta(b"", source.path)
