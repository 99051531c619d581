"""Scored variants as VCF with INFO fields, or as a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cmgems_cli.genome.bgzf import BgzfWriter
from cmgems_cli.inference.output_formats import TableWriter, format_of
from cmgems_cli.variants.alleles import REASONS, WORDS
from cmgems_cli.variants.scorers import Column
from cmgems_cli.variants.scoring import ScoredBlock
from cmgems_cli.variants.variant_files import VCF_COLUMNS, VariantRecord
from cmgems_cli.variants.variant_options import VARIANT_FORMATS, VariantFormat

# Same as in predictions.
DECIMALS = 6

_PREFIX = "CMGEMS_"
# Characters of an INFO key (VCF 4.3, section 1.6.1).
_NOT_OF_A_KEY = re.compile("[^0-9A-Za-z_.]")
_BLANKS = re.compile(r"[\s;]+")

COMPOSITION = Column(
    "composition",
    "Control: log-likelihood ratio of the alternative to the reference allele by the base composition of the window"
    " alone, nats",
)
REASON = Column(
    "reason",
    "Why the allele has no score: " + "; ".join(f"{reason}: {WORDS[reason]}" for reason in REASONS),
)


def variant_format(out: Path | None, format: VariantFormat | None) -> VariantFormat:
    """Return the format of a table of scores, as `format_of`."""
    return format_of(out, format, VARIANT_FORMATS)


def table_columns(columns: Sequence[Column]) -> list[str]:
    """Return the columns of a table: chrom, pos, id, ref, alt, the scores, composition and reason."""
    return ["chrom", "pos", "id", "ref", "alt", *(one.name for one in columns), "composition", "reason"]


def table_rows(block: ScoredBlock) -> Iterator[tuple[Any, ...]]:
    """Yield one row per allele with the columns of `table_columns`; None for what is not there."""
    records = [record for record in block.records for _ in range(record.n_rows)]
    for record, alt, reason, scores, composition in zip(
        records, block.alts, block.reasons, block.scores.tolist(), block.composition.tolist(), strict=True
    ):
        values = (_rounded(value) for value in (*scores, composition))
        yield record.chrom, record.position, record.identifier, record.ref, alt, *values, reason


@contextmanager
def block_writer(
    form: VariantFormat,
    stream: IO[bytes],
    columns: Sequence[Column],
    header: VcfHeader,
    *,
    begun: bool = False,
) -> Iterator[Callable[[ScoredBlock], None]]:
    """Give a function that writes a block, and before the first one the header; end the file if nothing fails.

    Parameters
    ----------
    form : one of VARIANT_FORMATS
    stream : binary file
    columns : sequence of Column
    header : VcfHeader
        For VCF.
    begun : bool, default False
        Whether an earlier run wrote the header.
    """
    if form == "vcf":
        yield VcfWriter(stream, columns, None if begun else header).write
    elif form == "vcf.gz":
        compressed = BgzfWriter(stream)
        yield VcfWriter(compressed, columns, None if begun else header).write
        compressed.finish()
    else:
        table = TableWriter(stream, form, table_columns(columns), header=not begun)
        yield lambda block: table.write(table_rows(block))


@dataclass(frozen=True, eq=False)
class VcfHeader:
    """What the header of a VCF is made from.

    Attributes
    ----------
    given : callable
        Returns the header of the VCF that was read, empty for a table; called at the first record.
    contigs : mapping, str -> int
        The genome's contigs and their lengths: for a table.
    settings : mapping
        What determines the scores; recorded in a line of their own.
    """

    given: Callable[[], Sequence[str]]
    contigs: Mapping[str, int]
    settings: Mapping[str, object]


class VcfWriter:
    """Writes records as VCF, with the scores as INFO fields of one value per alternative allele.

    Records of a VCF keep all they had; those of a table get `.` for what a table lacks.

    Parameters
    ----------
    stream : binary file, or BgzfWriter
    columns : sequence of Column
    header : VcfHeader or None
        Written before the first block; None if it is there already.
    """

    def __init__(
        self, stream: IO[bytes] | BgzfWriter, columns: Sequence[Column], header: VcfHeader | None
    ) -> None:
        self._stream, self._header = stream, header
        self._columns = [*columns, COMPOSITION]
        self._keys = _keys([*self._columns, REASON])

    def _header_lines(self, header: VcfHeader) -> list[str]:
        given = list(header.given()) or [
            "##fileformat=VCFv4.3",
            *(f"##contig=<ID={name},length={length}>" for name, length in header.contigs.items()),
            "\t".join(VCF_COLUMNS),
        ]
        ours = tuple(f"##INFO=<ID={key}," for key in self._keys)
        lines = [line for line in given[:-1] if not line.startswith((*ours, "##cmgems_score_variants="))]
        for key, column in zip(self._keys, [*self._columns, REASON], strict=True):
            kind = "String" if column is REASON else "Float"
            lines.append(f'##INFO=<ID={key},Number=A,Type={kind},Description="{_quoted(column.words)}">')
        values = ",".join(
            f'{name}="{_quoted(str(value))}"' for name, value in header.settings.items() if value is not None
        )
        return [*lines, f"##cmgems_score_variants=<ID=cmgems,{values}>", given[-1]]

    def write(self, block: ScoredBlock) -> None:
        """Write the records of a block."""
        lines, first = self._header_lines(self._header) if self._header else [], 0
        self._header = None
        values = [
            [_text(value) for value in (*scores, composition)]
            for scores, composition in zip(block.scores.tolist(), block.composition.tolist(), strict=True)
        ]
        for record in block.records:
            rows = range(first, first + record.n_rows)
            first += record.n_rows
            cells = [[*values[row], block.reasons[row] or "."] for row in rows]
            lines.append(self._line(record, cells))
        self._stream.write("".join(f"{line}\n" for line in lines).encode())

    def _line(self, record: VariantRecord, cells: list[list[str]]) -> str:
        fields = record.fields or [
            _BLANKS.sub("_", record.chrom),
            str(record.position),
            _BLANKS.sub("_", record.identifier or "."),
            record.ref,
            ",".join(record.alts) or ".",
            ".",
            ".",
            ".",
        ]
        given = [one for one in fields[7].split(";") if one not in ("", ".")]
        kept = [one for one in given if one.split("=", 1)[0] not in self._keys]
        for key, column in zip(self._keys, zip(*cells, strict=True), strict=True):
            # A record without an alternative has no values of one per alternative.
            if record.alts and any(cell != "." for cell in column):
                kept.append(f"{key}={','.join(column)}")
        return "\t".join([*fields[:7], ";".join(kept) or ".", *fields[8:]])


def _keys(columns: Sequence[Column]) -> list[str]:
    """Return INFO keys, all different, whatever letters the names of classes have."""
    keys: list[str] = []
    for column in columns:
        key = _PREFIX + _NOT_OF_A_KEY.sub("_", column.name)
        while key in keys:
            key += "_"
        keys.append(key)
    return keys


def _quoted(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')


def _rounded(value: float) -> float | None:
    # Adding 0 makes -0 a 0.
    return None if value != value else round(value, DECIMALS) + 0.0


def _text(value: float) -> str:
    rounded = _rounded(value)
    return "." if rounded is None else f"{rounded:.{DECIMALS}f}".rstrip("0").rstrip(".")
