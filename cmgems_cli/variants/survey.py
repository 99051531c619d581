"""What a file of variants holds, found before anything is computed, so that its errors are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cmgems_cli.errors import InputError
from cmgems_cli.readable import none_of
from cmgems_cli.variants.alleles import WORDS, Allele, AlleleFinder, Reason
from cmgems_cli.variants.variant_files import VariantFile, VariantRecord


@dataclass
class VariantSurvey:
    """What a file of variants holds, found before anything is computed.

    Attributes
    ----------
    records, alleles : int
    reasons : Counter of reasons
        Alleles that get no score.
    examples : dict, reason -> str
        The first allele of each.
    renamed : dict, str -> str
        Contigs of the variants that have another name in the genome.
    unsorted : bool
        Whether positions do not ascend within each contig, or contigs are scattered.
    """

    records: int = 0
    alleles: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)
    examples: dict[Reason, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    unsorted: bool = False

    @property
    def scored(self) -> int:
        """Alleles that get a score."""
        return self.alleles - sum(self.reasons.values())


def survey_variants(file: VariantFile, finder: AlleleFinder) -> VariantSurvey:
    """Read all variants and compare them with the genome.

    Raises
    ------
    InputError
        As for `VariantFile.records`, or if there is no variant, or none gets a score.
    """
    counted = VariantSurvey()
    chrom, position = "", 0
    seen: set[str] = set()
    for record in file.records():
        counted.records += 1
        counted.alleles += record.n_rows
        if record.chrom != chrom:
            counted.unsorted |= record.chrom in seen
            seen.add(record.chrom)
            contig = finder.genome.find(record.chrom)
            if contig not in (None, record.chrom):
                counted.renamed[record.chrom] = str(contig)
        else:
            counted.unsorted |= record.position < position
        chrom, position = record.chrom, record.position
        for alt, found in alleles_of(record, finder):
            if not isinstance(found, Allele):
                counted.reasons[found] += 1
                if found not in counted.examples:
                    counted.examples[found] = example_of(record, alt, found, finder)
    check_scored(file.name, counted.alleles, counted.reasons, counted.examples)
    return counted


def check_scored(
    name: str, alleles: int, reasons: Mapping[Reason, int], examples: Mapping[Reason, str]
) -> None:
    """Check that some alleles have a score.

    Raises
    ------
    InputError
        If there is no allele, or each has a reason for having no score.
    """
    if not alleles:
        raise InputError(f"{name} has no variants; needed one at least after the header")
    if alleles > sum(reasons.values()):
        return
    words: list[str] = []
    for reason, count in reasons.items():
        example = f" ({examples[reason]})" if reason in examples else ""
        words.append(f"{count:,} × {WORDS[reason]}{example}")
    raise InputError(
        f"{name}: {none_of(alleles, 'allele', 'its')} can be scored: {'; '.join(words)}; needed the genome that the"
        " variants were called on"
    )


def example_of(record: VariantRecord, alt: str | None, reason: Reason, finder: AlleleFinder) -> str:
    """Describe an allele without a score in a few words."""
    shown = f"{record.chrom}:{record.position} {_short(record.ref)} > {_short(alt or '.')}"
    genome = finder.genome
    if reason == "ref_mismatch":
        start = record.position - 1
        there = genome.letters(str(genome.find(record.chrom)), start, start + len(record.ref)).decode()
        return f"{shown}, the genome has {_short(there)}"
    if reason == "no_contig":
        return f"{shown}, the genome has {genome.names_shown()}"
    return shown


def _short(allele: str) -> str:
    return allele if len(allele) <= 20 else f"{allele[:20]}…"


def alleles_of(record: VariantRecord, finder: AlleleFinder) -> Iterator[tuple[str | None, Allele | Reason]]:
    """Yield each alternative of a record with its surroundings, or the reason why it gets no score."""
    for alt in record.alts or (None,):
        yield alt, finder.find(record.chrom, record.position, record.ref, alt)
