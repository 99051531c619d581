"""Stream the records of a FASTA file in chunks, so that no whole chromosome is held in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cmgems_cli.genome.contig_names import check_header_length, record_name
from cmgems_cli.genome.fasta import SEQUENCE_BYTES, check_only_letters

_BLANKS = b" \t\n"


class SequenceChunk(NamedTuple):
    """Consecutive letters of one sequence. The chunks of a sequence follow each other in order.

    Attributes
    ----------
    name : str
        Name of the sequence. Names may repeat; `last` marks where a sequence ends.
    letters : bytes
        As in the file, without blanks; may be empty.
    last : bool
        Whether this is the last chunk of the sequence.
    """

    name: str
    letters: bytes
    last: bool


def sequence_chunks(texts: Iterable[bytes], path: Path) -> Iterator[SequenceChunk]:
    r"""Split the text of a FASTA file into chunks of its sequences.

    Parameters
    ----------
    texts : iterable of bytes
        The text from its first `>` on, split at any byte. Lines end in LF, CR or CRLF.
    path : Path
        Used in error messages.

    Yields
    ------
    SequenceChunk

    Raises
    ------
    InputError
        If a record has no name, a header is too long, or a sequence line holds what no sequence has.

    Examples
    --------
    >>> for chunk in sequence_chunks([b">a first\nAC\nG", b"T\n>b\nNN\n"], Path("x.fa")): print(*chunk)
    a b'ACG' False
    a b'T' True
    b b'NN' False
    b b'' True
    """
    name: str | None = None
    header = bytearray()
    in_header, at_line_start = False, True
    for text in texts:
        text = text.replace(b"\r", b"\n")
        at = 0
        while at < len(text):
            if in_header:
                end = text.find(b"\n", at)
                header += text[at : end if end >= 0 else len(text)]
                at = end + 1 if end >= 0 else len(text)
                check_header_length(header, path)
                if end >= 0:
                    name, in_header, at_line_start = record_name(header, path, name), False, True
            elif at_line_start and text.startswith(b">", at):
                if name is not None:
                    yield SequenceChunk(name, b"", True)
                header, in_header = bytearray(), True
                at += 1
            else:
                next_record = text.find(b"\n>", at)
                end = next_record + 1 if next_record >= 0 else len(text)
                letters = text[at:end].translate(None, _BLANKS)
                if strange := letters.translate(None, SEQUENCE_BYTES):
                    check_only_letters(Counter(strange), path, name or "")
                at_line_start = text[end - 1 : end] == b"\n"
                at = end
                if next_record >= 0:
                    # Its last letters also end the record: one chunk per record in files of short ones.
                    yield SequenceChunk(name or "", letters, True)
                    header, in_header = bytearray(), True
                    at += 1
                elif letters:
                    yield SequenceChunk(name or "", letters, False)
    if in_header:
        name = record_name(header, path, name)
    if name is not None:
        yield SequenceChunk(name, b"", True)
