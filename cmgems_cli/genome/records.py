"""Read a FASTA file one record at a time, for files of many short sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from cmgems_cli.genome.fasta import FastaFile, check_is_fasta
from cmgems_cli.genome.fasta_stream import sequence_chunks

_BLANKS = b" \t\n\r"


class Record(NamedTuple):
    """One FASTA record: the first word after '>', and its letters in upper case, without blanks."""

    name: str
    letters: bytes


def fasta_records(
    source: FastaFile, advance: Callable[[float], None] = lambda n: None, *, max_bases: int | None = None
) -> Iterator[Record]:
    """Read a FASTA file (plain, gzip or bgzip) record by record, holding one record at a time.

    Parameters
    ----------
    source : FastaFile
        Its `sha256` is complete once the last record has been yielded.
    advance : callable, optional
        Called with the number of raw file bytes newly read.
    max_bases : int, optional
        Of a longer record only enough is kept to see that it is longer, and whether it has letters other than A, C,
        G and T.

    Yields
    ------
    Record

    Raises
    ------
    InputError
        If the file cannot be read, does not begin like FASTA of DNA, or has a record without a name.

    Notes
    -----
    Lines end in LF, CR or CRLF. Names may repeat; a record may have no letters.
    """
    letters: list[bytes] = []
    n_letters = 0
    with closing(source.chunks()) as text_chunks:
        texts = ((text_chunk.text.tobytes(), text_chunk.bytes_read) for text_chunk in text_chunks)
        for chunk in sequence_chunks(_from_first_record(texts, source, advance), source.path):
            enough = max_bases is not None and n_letters > max_bases
            letters.append(chunk.letters.translate(None, b"ACGTacgt")[:1] if enough else chunk.letters)
            n_letters += len(chunk.letters)
            if chunk.last:
                yield Record(chunk.name, b"".join(letters).upper())
                letters, n_letters = [], 0


def _from_first_record(
    texts: Iterator[tuple[bytes, int]], source: FastaFile, advance: Callable[[float], None]
) -> Iterator[bytes]:
    """Yield a file's text from its first record on, after checking that it is FASTA."""
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
