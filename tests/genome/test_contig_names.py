"""Names of records: which human chromosome they are, and which no human genome has."""

from pathlib import Path

import pytest

from cmgems_cli.errors import InputError
from cmgems_cli.genome.contig_names import (
    MAX_HEADER_BYTES,
    MAX_NAME_BYTES,
    PRIMARY,
    canonical_name,
    check_header_length,
    is_not_human,
    record_name,
)

FASTA = Path("genome.fa")


@pytest.mark.parametrize("style", ["chr{}", "{}", "Chr{}"])
def test_ucsc_and_ensembl_names_of_all_24_chromosomes(style: str) -> None:
    assert [canonical_name(style.format(name)) for name in PRIMARY] == list(PRIMARY)


def test_ncbi_names_of_all_24_chromosomes_in_any_version() -> None:
    names = [
        f"NC_{number:06}.{version}" for number, version in zip(range(1, 25), [9, 10, 11, 12] * 6, strict=True)
    ]
    assert [canonical_name(name) for name in names] == list(PRIMARY)
    assert canonical_name("NC_000001") == "1"


@pytest.mark.parametrize(
    "name",
    [
        "chrM",
        "MT",
        "NC_012920.1",
        "NC_000025.1",
        "chr23",
        "chr0",
        "chr1_KI270706v1_random",
        "chr1_alt",
        "NC_0000011",
        "01",
    ],
)
def test_other_names_stay_as_they_are(name: str) -> None:
    assert canonical_name(name) == name


@pytest.mark.parametrize(
    ("style", "first", "step"),
    [
        ("CM{:06}.2", 663, 1),
        ("CM{:06}.1", 663, 1),
        ("NC_{:06}.1", 60925, 1),
        ("gi|5|gb|CM{:06}.2|", 663, 1),
        ("gi|224589800|ref|NC_{:06}.10|", 1, 1),
        ("ref|NC_{:06}.11|", 1, 1),
        ("ENA|CM{0:06}|CM{0:06}.2", 663, 1),
    ],
)
def test_f19_accessions_of_all_24_chromosomes(style: str, first: int, step: int) -> None:
    assert [canonical_name(style.format(first + step * number)) for number in range(24)] == list(PRIMARY)


def test_f19_genbank_accessions_of_t2t() -> None:
    names = [f"CP{68277 - number:06}.2" for number in range(23)]
    assert [canonical_name(name) for name in (*names, "CP086569.2")] == list(PRIMARY)


@pytest.mark.parametrize(
    "name", ["CM000687.2", "NC_060949.1", "CP068254.1", "CP086568.2", "gi|5|gb|AC123456.1|", "a|b"]
)
def test_f19_other_accessions_are_no_primary_chromosome(name: str) -> None:
    assert canonical_name(name) == name


OTHER_SPECIES = {
    "fly": "2L 2R 3L 3R chr2L mitochondrion_genome 2RHet chrXHet",
    "yeast": "chrI chrII chrIII chrIV chrV chrIX chrXI chrXVI Mito I II VIII XVI",
    "worm": "I II III IV V MtDNA",
    "zebrafish": "23 24 25 chr23 chr24 chr25",
    "chicken": "Z W chrZ chrW 30 39",
    "thale cress": "Pt ChrC ChrPt",
    "chimpanzee": "2A 2B chr2A chr2B",
    "wheat": "1A 1B 1D 7D chr7D",
    "frog": "chr1L chr1S",
    "stickleback": "groupI groupX groupXXI",
    "accessions": "NC_000067.7 NC_003279.8 NC_000913.3 CM000994.3 LR999451.1 OX359243.1 CP002684.1"
    " gi|1|ref|NC_001133.9|",
    "linkage groups": "LG1 LG_12 LG24",
    "platypus": "X1 X5 chrX1",
}


@pytest.mark.parametrize("species", OTHER_SPECIES)
def test_f1_chromosomes_of_other_species_are_recognised(species: str) -> None:
    names = OTHER_SPECIES[species].split()
    assert [name for name in names if not is_not_human(name)] == []


HUMAN = (
    "chr1 1 X chrY chrM MT M chrMT NC_012920.1 J01415.2 NC_001807.4 NC_007605 NC_007605.1 chrEBV hs37d5 hs38d1"
    " chr1_KI270706v1_random chrUn_KI270302v1 chrUn_GL000220v1 chr1_KI270762v1_alt chr1_KN196472v1_fix chr6_apd_hap1"
    " chr17_gl000204_random GL000207.1 KI270728.1 NT_187361.1 NW_003315947.1 HLA-A*01:01:01:01 CP068254.1 CM000663.2"
    " CHR_HSCHR1_1_CTG3 HSCHR1_CTG1_UNLOCALIZED HG1012_PATCH chrUn_KN707606v1_decoy NC_060948.1"
    " gi|251831106|ref|NC_012920.1|"
)


@pytest.mark.parametrize("name", [*HUMAN.split(), "scaffold_7", "contig1", "first", "read/1", "phiX174"])
def test_f1_names_of_human_assemblies_and_of_scaffolds_say_nothing_else(name: str) -> None:
    assert not is_not_human(name)


def test_m_a_header_or_a_name_that_is_too_long_is_an_error() -> None:
    check_header_length(b"x" * MAX_HEADER_BYTES, FASTA)
    with pytest.raises(InputError, match="header line of more than 1,048,576 bytes"):
        check_header_length(b"x" * (MAX_HEADER_BYTES + 1), FASTA)
    assert record_name(b" " + b"x" * MAX_NAME_BYTES + b" y", FASTA, None) == "x" * MAX_NAME_BYTES
    with pytest.raises(InputError, match="a record name of 16,385 bytes"):
        record_name(b"x" * (MAX_NAME_BYTES + 1), FASTA, None)
