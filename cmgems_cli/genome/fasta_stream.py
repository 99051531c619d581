"""Stream the records of a FASTA file in chunks, so that no whole chromosome is held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cmgems_cli.errors import InputError

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
        If a record has no name.

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
                if end >= 0:
                    name, in_header, at_line_start = _name(header, name, path), False, True
            elif at_line_start and text.startswith(b">", at):
                if name is not None:
                    yield SequenceChunk(name, b"", True)
                header, in_header = bytearray(), True
                at += 1
            else:
                next_record = text.find(b"\n>", at)
                end = next_record + 1 if next_record >= 0 else len(text)
                letters = text[at:end].translate(None, _BLANKS)
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
        name = _name(header, name, path)
    if name is not None:
        yield SequenceChunk(name, b"", True)


def _name(header: bytearray, before: str | None, path: Path) -> str:
    words = header.split(maxsplit=1)
    if not words:
        where = "the first one" if before is None else f"after {before!r}"
        raise InputError(f"{path} has a record without a name ({where}); every '>' needs one")
    return words[0].decode("utf-8", "replace")
