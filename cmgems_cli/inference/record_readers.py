"""Read named sequences in chunks from FASTA, CSV or TSV; plain or gzip; a file or standard input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from cmgems_cli.datasets.dna_check import DnaCheck
from cmgems_cli.datasets.input_file import InputFile
from cmgems_cli.datasets.sequence_table import SequenceTable
from cmgems_cli.datasets.text_lines import lines_of, texts_of
from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta import FastaFile, check_is_fasta, check_is_text
from cmgems_cli.genome.fasta_stream import SequenceChunk, sequence_chunks

NEEDED = "needed FASTA, or a CSV or TSV file whose first line names a column 'sequence'"

# Columns of a table with the names of sequences; the first one present is used.
NAME_COLUMNS = ("name", "id")

_BLANKS = b" \t\r\n"

# The first line of regions: a contig, a start and an end, after lines for a browser.
_BED_LINE = re.compile(rb"(?:(?:#|track|browser)[^\n]*\n)*[^\s,>]+\t[0-9]+\t[0-9]+\s")


class Source(InputFile):
    """A file or standard input with sequences.

    The format is recognised by the first letters, never by the file name. In a table the column `sequence` holds
    bases or overlapping k-mers separated by spaces, and a column `name` or `id` the names; without one, rows are
    numbered from 0. Other columns are ignored.

    Parameters
    ----------
    path : Path
        `STANDARD_INPUT` for piped input.

    Attributes
    ----------
    regions : bool
        Whether the sequences are regions of a genome (`RegionSource`).
    others
        As of `InputFile`, which also says what raises.
    """

    regions = False

    def __init__(self, path: Path) -> None:
        super().__init__(path, NEEDED)

    def notes(self) -> list[str]:
        """Return what there is to say of the sequences read so far."""
        return []

    def chunks(self) -> Iterator[SequenceChunk]:
        """Yield all sequences in file order.

        Raises
        ------
        InputError
            If the file is empty, neither FASTA nor a table of DNA, truncated or corrupt, a record has no name,
            a row does not match the header of its table (the message names the line), or the file has changed
            since it was first read.
        """
        shown = Path(self.name)
        file = FastaFile(self.path)
        with closing(texts_of(file)) as texts:
            head = b""
            for head in texts:
                if head.lstrip(_BLANKS):
                    break
            start = head.lstrip(_BLANKS)
            if not start:
                raise InputError(f"{self.name} is empty; {NEEDED}")
            _check_no_places(start, self.name)
            check_is_text(start, shown, NEEDED)
            if start.startswith(b">"):
                check_is_fasta(start, shown, judge_rna=False)
                yield from checked_dna(sequence_chunks(chain([start], texts), shown), shown)
            else:
                yield from _table_chunks(chain([head], texts), shown)
        self.was_read(file)


def _check_no_places(head: bytes, name: str) -> None:
    """Check that a file is not a list of places in a genome (or raise InputError): those have their own ways in."""
    if head.startswith(b"##fileformat=VCF"):
        raise InputError(
            f"{name} is VCF, which has no sequences; for the effects of variants run"
            f" `cmgems score-variants MODEL {name} --genome FASTA`"
        )
    if _BED_LINE.match(head):
        raise InputError(
            f"{name} looks like BED, which has no sequences; read its regions from a genome: `regions={name}` with"
            " `genome=FASTA`"
        )


def checked_dna(chunks: Iterable[SequenceChunk], path: Path) -> Iterator[SequenceChunk]:
    """Yield chunks of sequences, and judge their letters at the end.

    Raises
    ------
    InputError
        If they are RNA or protein.
    """
    dna = DnaCheck(path)
    for chunk in chunks:
        dna.add(chunk.letters)
        yield chunk
    dna.finish()


def _table_chunks(texts: Iterator[bytes], shown: Path) -> Iterator[SequenceChunk]:
    with closing(lines_of(texts, shown, NEEDED)) as lines:
        table = SequenceTable(lines, shown, NEEDED)
        name_column = table.column(*NAME_COLUMNS)
        for number, (sequence, cells) in enumerate(table.rows()):
            name = str(number) if name_column is None else table.cell(cells, name_column)
            yield SequenceChunk(name, sequence, True)
