"""A genome of two short contigs, and the small models of the inference tests."""

from pathlib import Path

import pytest

from tests.inference.conftest import classifier, labeller, pretrained, random_sequence, regressor, shape

__all__ = ["classifier", "labeller", "pretrained", "regressor", "shape"]

# With N far from most places, and a repeat for insertions and deletions.
SEQUENCES = {
    "chr20": random_sequence(300, 20)
    + "CACACACACA"
    + random_sequence(190, 21)
    + "NNNNN"
    + random_sequence(95, 22),
    "scaffold": random_sequence(200, 23).lower(),
}


@pytest.fixture(scope="session")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The FASTA file of `SEQUENCES`."""
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    lines = [
        line
        for name, letters in SEQUENCES.items()
        for line in (f">{name}", *(letters[i : i + 60] for i in range(0, len(letters), 60)))
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def base(position: int, contig: str = "chr20") -> str:
    """Return the letter at a 1-based position."""
    return SEQUENCES[contig][position - 1].upper()


def other(letter: str, step: int = 1) -> str:
    """Return another letter."""
    return "ACGT"[("ACGT".index(letter) + step) % 4]


HEADER = ["##fileformat=VCFv4.2", '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">']
COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def vcf(path: Path, *records: tuple[object, ...], end: str = "\n") -> Path:
    """Write a VCF of (chrom, pos, ref, alt) records."""
    lines = [*HEADER, COLUMNS]
    lines += [f"{chrom}\t{pos}\t.\t{ref}\t{alt}\t.\tPASS\tDP=3" for chrom, pos, ref, alt in records]
    path.write_bytes("".join(line + end for line in lines).encode())
    return path
