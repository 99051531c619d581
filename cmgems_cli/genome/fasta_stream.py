"""The records of a FASTA file in pieces, so that a chromosome is never held whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cmgems_cli.errors import InputError

_BLANKS = b" \t\n"


class SequenceChunk(NamedTuple):
    """Some letters of a sequence; its pieces come one after the other, in order.

    Attributes
    ----------
    name : str
        Of the sequence. Names may repeat: where one ends, `last` says.
    letters : bytes
        As they are written, blanks left out; may be none.
    last : bool
        Whether the sequence ends here.
    """

    name: str
    letters: bytes
    last: bool


def fasta_pieces(texts: Iterable[bytes], path: Path) -> Iterator[SequenceChunk]:
    r"""Cut the text of a FASTA file into pieces of its records.

    Parameters
    ----------
    texts : iterable of bytes
        The text from its first `>` on, in parts cut anywhere. Lines end in LF, CR or CRLF.
    path : Path
        For messages.

    Raises
    ------
    InputError
        If a record has no name.

    Examples
    --------
    >>> for piece in fasta_pieces([b">a first\nAC\nG", b"T\n>b\nNN\n"], Path("x.fa")): print(*piece)
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
                found = text.find(b"\n>", at)
                end = found + 1 if found >= 0 else len(text)
                letters = text[at:end].translate(None, _BLANKS)
                at_line_start = text[end - 1 : end] == b"\n"
                at = end
                if found >= 0:
                    # The record ends here: said with its last letters, for files of many short ones.
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
        where = "the first one" if before is None else f"behind {before!r}"
        raise InputError(f"{path} has a record without a name ({where}); every '>' needs one")
    return words[0].decode("utf-8", "replace")
