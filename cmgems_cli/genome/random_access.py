"""Any interval of a genome, read when it is asked for: plain FASTA by pyfaidx, other files by a temporary copy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from cmgems_cli.artifacts import sha256_of_file
from cmgems_cli.errors import InputError
from cmgems_cli.genome.contig_names import canonical_name
from cmgems_cli.genome.contigs import NAMES_SHOWN, indexed_records, is_header_of
from cmgems_cli.genome.fasta import SEQUENCE_BYTES, FastaFile, check_is_fasta, check_readable
from cmgems_cli.genome.fasta_stream import sequence_chunks

_HEAD_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20
# Whether a byte stands for no letter of a sequence.
_NO_LETTER = np.ones(256, dtype=bool)
_NO_LETTER[np.frombuffer(SEQUENCE_BYTES, np.uint8)] = False


class GenomeFile:
    """Random access to the records of a FASTA file. Nothing is ever written next to the user's file.

    A plain file is read in place, through its `.fai` index if that is up to date, else through one made in a
    temporary folder, once the whole file was found to be what the index says. A gzip or bgzip file, or one with lines
    of uneven length, is first copied to a temporary file without a name, which disappears with the process.

    Parameters
    ----------
    path : Path
        Plain, gzip or bgzip.

    Attributes
    ----------
    path : Path
    contigs : dict, str -> int
        Length in bases of each record, in file order.
    copied : bool
        Whether the file had to be copied; a plain file with lines of one length opens faster.

    Raises
    ------
    InputError
        If the file is missing, not FASTA, truncated, or has two records of one name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_readable(path)
        self._opened = _version(path)
        if not path.is_file():
            raise InputError(f"{path} is a pipe, which cannot be read at any place; give a file")
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        self._faidx: Any = None
        if head.startswith(b">") and b"\r" not in head.replace(b"\r\n", b"\n").removesuffix(b"\r"):
            check_is_fasta(head, path)
            self._faidx = _faidx(path)
        self._copy: BinaryIO | None = None
        self._offsets: dict[str, int] = {}
        self.copied = self._faidx is None
        if self._faidx is None:
            self.contigs = self._copied()
        else:
            self.contigs = {name: int(record.rlen) for name, record in self._faidx.index.items()}
        self._by_canonical: dict[str, str | None] = {}
        for name in self.contigs:
            canonical = canonical_name(name)
            self._by_canonical[canonical] = None if canonical in self._by_canonical else name

    def __enter__(self) -> GenomeFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a temporary copy disappears with it."""
        for opened in (self._faidx, self._copy):
            if opened is not None:
                opened.close()

    @cached_property
    def sha256(self) -> str:
        """Hash of the file's raw bytes."""
        return sha256_of_file(self.path)

    def check_unchanged(self) -> None:
        """Check that the file is still the one that was opened: to be called once all letters are read.

        Raises
        ------
        InputError
            If not.
        """
        if _version(self.path) != self._opened:
            raise self._changed()

    def _changed(self) -> InputError:
        return InputError(f"{self.path} changed while it was read; run the command again once it is complete")

    def find(self, name: str) -> str | None:
        """Return the record of this name, or of the same human chromosome under another naming scheme.

        None if there is no such record, or several are that chromosome.
        """
        return name if name in self.contigs else self._by_canonical.get(canonical_name(name))

    def names_shown(self) -> str:
        """Return the first names, for messages."""
        names = list(self.contigs)
        more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
        return ", ".join(names[:NAMES_SHOWN]) + more

    def letters(self, contig: str, start: int, end: int, *, keep_case: bool = False) -> bytes:
        """Return the letters of an interval, in upper case.

        Parameters
        ----------
        contig : str
            A key of `contigs`.
        start, end : int, bases
            0-based, half-open, within the record.
        keep_case : bool, default False
            Return them as in the file, where lower case means repeats.

        Raises
        ------
        InputError
            If the file has become shorter since it was opened.
        ValueError
            If the interval is not within the record.
        """
        if not 0 <= start <= end <= self.contigs[contig]:
            raise ValueError(
                f"{start} to {end} is not within {contig}, which has {self.contigs[contig]} bases"
            )
        if start == end:
            return b""
        if self._copy is not None:
            found = os.pread(self._copy.fileno(), end - start, self._offsets[contig] + start)
        else:
            found = self._faidx.fetch(contig, start + 1, end).encode("ascii", "replace")
        if len(found) != end - start:
            raise self._changed()
        return bytes(found) if keep_case else bytes(found).upper()

    def _copied(self) -> dict[str, int]:
        """Write all letters to a temporary file; return the length of each record."""
        contigs: dict[str, int] = {}
        at, length = 0, 0
        self._copy = copy = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            for name, letters, last in sequence_chunks(_texts(self.path), self.path):
                copy.write(letters)
                length += len(letters)
                if last:
                    if name in contigs:
                        raise _second(self.path, name)
                    contigs[name], self._offsets[name] = length, at
                    at, length = at + length, 0
            copy.flush()
        except BaseException:
            copy.close()
            raise
        return contigs


def _version(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _texts(path: Path) -> Iterator[bytes]:
    """Yield the text of a FASTA file from its first '>' on."""
    with closing(FastaFile(path).chunks()) as chunks:
        begun = False
        for chunk in chunks:
            text = chunk.text.tobytes()
            if not begun:
                text = text.lstrip()
                if not text:
                    continue
                check_is_fasta(text, path)
                begun = True
            yield text
        if not begun:
            raise InputError(f"{path} is empty; needed a FASTA file")


def _faidx(path: Path) -> Any:
    """Open a plain file through an index; None if its lines are of uneven length, or hold more than letters."""
    from pyfaidx import Faidx, FastaIndexingError

    options = {"as_raw": True, "rebuild": False, "read_ahead": 1 << 14}
    if indexed_records(path) is not None:
        opened = Faidx(str(path), build_index=False, **options)
    else:
        with tempfile.TemporaryDirectory(prefix="cmgems-") as folder:
            try:
                # The index is in memory once it is read.
                opened = Faidx(str(path), indexname=str(Path(folder) / "fai"), **options)
            except (FastaIndexingError, UnicodeDecodeError, RuntimeError):
                return None
            except ValueError as error:
                if "Duplicate key" not in str(error):
                    raise
                raise _second(path, str(error).split('"')[1]) from None
    if _is_laid_out(path, opened.index):
        return opened
    opened.close()
    return None


def _is_laid_out(path: Path, index: Mapping[str, Any]) -> bool:
    """Return whether a file consists of the records of an index: headers, lines of one length, letters alone.

    pyfaidx itself does not look at a record's last line, nor at what its lines hold.
    """
    with path.open("rb") as stream:
        for name, record in sorted(index.items(), key=lambda entry: int(entry[1].offset)):
            header = stream.read(record.offset - stream.tell())
            if not is_header_of(header, name) or not _has_lines(stream, record):
                return False
        return not stream.read(1)


def _has_lines(stream: BinaryIO, record: Any) -> bool:
    """Read a record's letters; return whether they stand in the lines that an index says."""
    n_letters, width, period = int(record.rlen), int(record.lenc or 0), int(record.lenb or 0)
    if not n_letters:
        return True
    line_end = {1: b"\n", 2: b"\r\n"}.get(period - width)
    if width < 1 or line_end is None:
        return False
    # Up to the end of the last line, which the file's last line may lack.
    at, n_bytes = 0, n_letters + (-(-n_letters // width) - 1) * len(line_end)
    while at < n_bytes:
        text = np.frombuffer(stream.read(min(_CHUNK_BYTES, n_bytes - at)), np.uint8)
        if not len(text):
            return False
        # Most are letters, in either case: this is quicker than a look-up of every byte.
        others = np.flatnonzero((text | 0x20) - np.uint8(ord("a")) >= 26)
        others = others[_NO_LETTER[text[others]]]
        column = (at + others) % period - width
        ends = [
            before // period * len(line_end) + max(0, before % period - width)
            for before in (at, at + len(text))
        ]
        if len(others) != ends[1] - ends[0] or (column < 0).any():
            return False
        if (text[others] != np.frombuffer(line_end, np.uint8)[column]).any():
            return False
        at += len(text)
    return stream.read(len(line_end)) in (line_end, b"")


def _second(path: Path, name: str) -> InputError:
    return InputError(f"{path} has a second record named {name!r}; names must differ: remove or rename one")
