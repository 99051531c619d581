"""An input file of a command, or standard input: checked before any work, and known to be the same when read again."""

from __future__ import annotations

from pathlib import Path

from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta import STANDARD_INPUT, FastaFile, check_readable


class InputFile:
    """A file that a command reads in one pass or more, or standard input.

    Parameters
    ----------
    path : Path
        Plain, gzip or bgzip; `STANDARD_INPUT` for piped input.
    needed : str
        The end of a message about a file of another kind: what is needed.

    Attributes
    ----------
    path : Path
    name : str
        Used in error messages.
    rereadable : bool
        Whether the file may be read more than once.
    sha256 : str
        Hash of the raw bytes; empty until the file has been read to its end.

    Raises
    ------
    InputError
        If the file is missing, empty, a folder or not readable.
    """

    def __init__(self, path: Path, needed: str) -> None:
        self.path = path
        piped = path == STANDARD_INPUT
        self.name = "standard input" if piped else str(path)
        if not piped:
            check_readable(path, needed)
        self.rereadable = not piped and path.is_file()
        self.sha256 = ""

    def was_read(self, file: FastaFile) -> None:
        """Keep the hash of a file that was read to its end.

        Raises
        ------
        InputError
            If it has changed since it was read before.
        """
        if self.sha256 not in ("", file.sha256):
            raise InputError(
                f"{self.name} changed while it was read; run the command again once it is complete"
            )
        self.sha256 = file.sha256
