"""The records of a FASTA file, one at a time: for files of many short sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

from cmgems_cli.genome.fasta import FastaFile, check_is_fasta

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
        If the file cannot be read or does not begin like FASTA of DNA.

    Notes
    -----
    Lines end in LF, CR or CRLF. Names may repeat or be empty; a record may have no letters.
    """
    name: str | None = None
    pieces: list[bytes] = []
    unfinished = b""
    with closing(source.chunks()) as chunks:
        for chunk in chunks:
            text = unfinished + chunk.text.tobytes()
            advance(chunk.bytes_read)
            if name is None:
                text = text.lstrip(_BLANKS)
                if text:
                    check_is_fasta(text, source.path)
            *lines, unfinished = text.replace(b"\r", b"\n").split(b"\n")
            for line in lines:
                if not line.startswith(b">"):
                    pieces.append(line)
                    continue
                if name is not None:
                    yield _record(name, pieces)
                name, pieces = _name(line), []
            # A long line is not copied again with every chunk. Its last letter says that no line begins.
            if len(unfinished) > 1 and not unfinished.startswith(b">") and not unfinished.endswith(b">"):
                pieces.append(unfinished[:-1])
                unfinished = unfinished[-1:]
    if unfinished.startswith(b">"):
        if name is not None:
            yield _record(name, pieces)
        name, pieces, unfinished = _name(unfinished), [], b""
    if name is None:
        check_is_fasta(b"", source.path)
    else:
        yield _record(name, [*pieces, unfinished])


def _name(line: bytes) -> str:
    words = line[1:].split(maxsplit=1)
    return words[0].decode("utf-8", "replace") if words else ""


def _record(name: str, pieces: list[bytes]) -> Record:
    return Record(name, b"".join(pieces).translate(None, _BLANKS).upper())
