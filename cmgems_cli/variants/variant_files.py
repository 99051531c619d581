"""Read variants record by record from VCF, or from a table with chrom, pos, ref and alt; plain or gzip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cmgems_cli.datasets.input_file import InputFile
from cmgems_cli.datasets.sequence_table import SequenceTable
from cmgems_cli.datasets.text_lines import lines_of, texts_of
from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta import FastaFile
from cmgems_cli.genome.file_kinds import other_kind

NEEDED = (
    "needed VCF, whose first line is ##fileformat=VCFv4…, or a CSV or TSV file whose first line names the columns"
    " chrom, pos, ref and alt"
)

# The first columns of a VCF (VCF 4.5, section 1.5).
VCF_COLUMNS = ("#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO")
_FILE_FORMAT = b"##fileformat=VCF"

# Names that a table may use for the same column.
TABLE_COLUMNS = {
    "chrom": ("chrom", "#chrom", "chr", "chromosome"),
    "pos": ("pos", "position"),
    "ref": ("ref", "reference"),
    "alt": ("alt", "alternative", "alternate"),
}
_ID_COLUMNS = ("id", "rsid", "name")

# Far beyond any chromosome; a VCF position is a 32-bit number.
_MAX_POSITION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class VariantRecord:
    """A line of a VCF, or a row of a table.

    Attributes
    ----------
    line : int
        From 1.
    chrom : str
    position : int, bases
        1-based position of the first base of `ref`.
    identifier : str or None
    ref : str
        In upper case.
    alts : tuple of str
        In upper case unless symbolic; empty if there is none (`.`).
    fields : list of str
        All columns of a VCF line; empty for a table.
    """

    line: int
    chrom: str
    position: int
    identifier: str | None
    ref: str
    alts: tuple[str, ...]
    fields: list[str]

    @property
    def n_rows(self) -> int:
        """Number of alternative alleles, 1 if there is none: each gets a row."""
        return max(1, len(self.alts))


class VariantFile(InputFile):
    """A file with variants, or standard input. The format is recognised by the first line, never by the name.

    Parameters
    ----------
    path : Path
        `STANDARD_INPUT` for piped input.

    Attributes
    ----------
    header : list of str
        The header of a VCF, without line ends; known once the first record was yielded, or the records ended. Empty
        for a table.
    others
        As of `InputFile`, which also says what raises.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, NEEDED)
        self.header: list[str] = []

    def records(self) -> Iterator[VariantRecord]:
        """Yield all records in file order.

        Raises
        ------
        InputError
            If the file is neither VCF nor such a table, truncated or corrupt, a VCF lacks its header, a line is
            wrong (the message names it), or the file has changed since it was first read.
        """
        shown = Path(self.name)
        file = FastaFile(self.path)
        self.header = []
        with closing(texts_of(file)) as texts:
            head = next(texts, b"")
            self._check_kind(head)
            with closing(lines_of(chain([head], texts), shown, NEEDED)) as lines:
                if head.startswith((b"##", b"#CHROM\tPOS\tID")):
                    yield from self._vcf(lines)
                else:
                    yield from _table(lines, shown)
        self.was_read(file)

    def _check_kind(self, head: bytes) -> None:
        if not head.strip():
            raise InputError(f"{self.name} is empty; {NEEDED}")
        if head.startswith((b"BCF\x02", b"BCF\x04")):
            raise InputError(
                f"{self.name} is a BCF file; needed VCF: convert it with bcftools view, and give - to read its output"
            )
        if head.startswith((b"##fileformat=VCF", b"##")):
            return
        if head.startswith(b">"):
            raise InputError(f"{self.name} is FASTA; {NEEDED}")
        if kind := other_kind(head):
            raise InputError(f"{self.name} looks like {kind[0]}; {NEEDED}")
        if b"\0" in head[: 1 << 16]:
            raise InputError(f"{self.name} is a binary file; {NEEDED}")

    def _vcf(self, lines: Iterator[str]) -> Iterator[VariantRecord]:
        columns = None
        for number, line in enumerate(lines, start=1):
            text = line.rstrip("\r\n")
            if number == 1 and not text.startswith(_FILE_FORMAT.decode()):
                raise InputError(
                    f"{self.name} has no header: its first line is {text[:40]!r}, not ##fileformat=VCFv4…; add the"
                    " header that the file was made with (bcftools reheader)"
                )
            if columns is None:
                if text.startswith("##"):
                    self.header.append(text)
                    continue
                columns = self._columns(text, number)
                self.header.append(text)
            elif text:
                yield self._vcf_record(text, number, columns)
        if columns is None:
            raise InputError(f"{self.name} ends within its header, without a line #CHROM; get it again")

    def _columns(self, text: str, number: int) -> int:
        """Return the number of columns that the line #CHROM names."""
        names = text.split("\t")
        if tuple(names[: len(VCF_COLUMNS)]) != VCF_COLUMNS:
            raise InputError(
                f"{self.name} line {number} is {text[:40]!r}; needed the line of columns, {' '.join(VCF_COLUMNS)},"
                " separated by tabs, after the lines that begin with ##"
            )
        return len(names)

    def _vcf_record(self, text: str, number: int, columns: int) -> VariantRecord:
        fields = text.split("\t")
        if len(fields) != columns:
            raise InputError(
                f"{self.name} line {number} has {len(fields)} columns separated by tabs, its header {columns};"
                " correct or remove the line"
            )
        identifier = None if fields[2] in (".", "") else fields[2]
        where = f"{self.name} line {number}"
        return variant_record(where, number, fields[0], fields[1], identifier, fields[3], fields[4], fields)


def _table(lines: Iterator[str], shown: Path) -> Iterator[VariantRecord]:
    table = SequenceTable(lines, shown, NEEDED, required=())
    places = [_place(table, name, others) for name, others in TABLE_COLUMNS.items()]
    id_place = table.column(*_ID_COLUMNS)
    for cells in table.cells():
        chrom, position, ref, alt = (table.cell(cells, place) for place in places)
        identifier = table.cell(cells, id_place) if id_place is not None else None
        yield variant_record(
            f"{shown} line {table.line}", table.line, chrom, position, identifier or None, ref, alt, []
        )


def _place(table: SequenceTable, name: str, others: tuple[str, ...]) -> int:
    place = table.column(*others)
    if place is None:
        raise table.without(name)
    return place


def variant_record(
    where: str,
    line: int,
    chrom: str,
    position: str,
    identifier: str | None,
    ref: str,
    alt: str,
    fields: list[str],
) -> VariantRecord:
    """Return the record of these texts, checked.

    Parameters
    ----------
    where : str
        For messages, such as `calls.vcf line 3`.
    line, chrom, identifier, fields
        As in `VariantRecord`.
    position, ref, alt : str
        As in a VCF: alternatives separated by commas.

    Raises
    ------
    InputError
        If there is no chromosome, or the position or the reference allele cannot be one.
    """
    if not chrom:
        raise InputError(f"{where} names no chromosome; correct or remove the line")
    if not re.fullmatch("[0-9]{1,10}", position) or int(position) > _MAX_POSITION:
        raise InputError(
            f"{where} has the position {position[:20]!r}; needed a whole number, counted from 1 as in VCF"
        )
    if not re.fullmatch("[A-Za-z]+", ref):
        raise InputError(f"{where} has the reference allele {ref[:20]!r}; needed letters, one at least")
    alts = () if alt in (".", "") else tuple(_upper(one) for one in alt.split(","))
    return VariantRecord(line, chrom, int(position), identifier, ref.upper(), alts, fields)


def _upper(allele: str) -> str:
    """Return an allele of letters in upper case; symbols and breakends name contigs, whose case matters."""
    return allele.upper() if allele.isalpha() else allele
