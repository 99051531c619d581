"""Windows around alleles: the right bases, the same for equal variants, and a reason where there is none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.genome.random_access import GenomeFile
from cmgems_cli.variants.alleles import REASONS, WORDS, Allele, AlleleFinder
from cmgems_cli.variants.composition import composition_score
from tests.variants.conftest import SEQUENCES, base, other

CHR20 = SEQUENCES["chr20"]


@pytest.fixture(scope="module")
def opened(genome: Path) -> Iterator[GenomeFile]:
    with GenomeFile(genome) as found:
        yield found


@pytest.fixture(scope="module")
def finder(opened: GenomeFile) -> AlleleFinder:
    return AlleleFinder(opened, 21, 10, min_flank=3)


def test_a_substitution_has_equal_flanks(finder: AlleleFinder) -> None:
    found = finder.find("20", 101, base(101), other(base(101)))
    assert isinstance(found, Allele)
    assert (found.contig, found.start) == ("chr20", 100)
    assert found.ref_window.decode() == CHR20[90:111]
    assert found.alt_window.decode() == CHR20[90:100] + other(base(101)) + CHR20[101:111]


def test_shared_bases_are_dropped(finder: AlleleFinder) -> None:
    ref = CHR20[95:105]
    alt = ref[:5] + other(ref[5]) + ref[6:]
    assert finder.find("chr20", 96, ref, alt) == finder.find("chr20", 101, ref[5], alt[5])


def naive_haplotype(position: int, ref: str, alt: str) -> str:
    return CHR20[: position - 1] + alt + CHR20[position - 1 + len(ref) :]


@given(st.integers(250, 330), st.text("ACGT", min_size=1, max_size=4), st.integers(0, 4))
@settings(max_examples=60)
def test_all_ways_to_write_an_indel_give_the_same_windows(
    finder: AlleleFinder, at: int, inserted: str, deleted: int
) -> None:
    """Every other VCF record that gives the same sequence is found by trying all of them."""
    ref, alt = CHR20[at - 1 : at + deleted], CHR20[at - 1] + ("" if deleted else inserted)
    found = finder.find("chr20", at, ref, alt)
    if not isinstance(found, Allele):
        assert found == "too_long"
        return
    haplotype = naive_haplotype(at, ref, alt)
    for place in range(at - 15, at + 15):
        if deleted:
            written = CHR20[place - 1 : place + deleted], CHR20[place - 1]
        else:
            written = CHR20[place - 1], haplotype[place - 1 : place + len(inserted)]
        if naive_haplotype(place, *written) == haplotype:
            assert finder.find("chr20", place, *written) == found
    # The windows are parts of the two sequences, with the same flanks.
    first = found.start - len(found.left)
    assert CHR20[first:].startswith(found.ref_window.decode())
    assert haplotype[first:].startswith(found.alt_window.decode())
    assert len(found.left) == len(found.right) == (21 - max(len(found.ref), len(found.alt))) // 2


@pytest.mark.parametrize(
    ("chrom", "position", "ref", "alt", "reason"),
    [
        ("chr21", 50, "A", "C", "no_contig"),
        ("chr20", 50, other(base(50)), base(50), "ref_mismatch"),
        ("chr20", 50, base(50), None, "symbolic"),
        ("chr20", 50, base(50), "*", "symbolic"),
        ("chr20", 50, base(50), "<DEL>", "symbolic"),
        ("chr20", 50, base(50), f"{base(50)}[chr2:7[", "symbolic"),
        ("chr20", 50, base(50), base(50), "same_as_ref"),
        ("chr20", 50, base(50), base(50) + "ACGTACGTACG", "too_long"),
        ("chr20", 5, base(5), other(base(5)), "contig_end"),
        ("chr20", 600, base(600), other(base(600)), "contig_end"),
        ("chr20", 0, "A", "C", "contig_end"),
        ("chr20", 700, "A", "C", "contig_end"),
        ("chr20", 498, base(498), other(base(498)), "not_acgt"),
        ("chr20", 503, "N", "A", "not_acgt"),
        ("chr20", 50, base(50), "N", "not_acgt"),
    ],
)
def test_reasons(
    finder: AlleleFinder, chrom: str, position: int, ref: str, alt: str | None, reason: str
) -> None:
    assert finder.find(chrom, position, ref, alt) == reason


def test_a_repeat_that_fills_the_window_is_too_long(finder: AlleleFinder) -> None:
    narrow = AlleleFinder(finder.genome, 13, 10, min_flank=3)
    at = CHR20.index("CACACACACA") + 1
    assert isinstance(finder.find("chr20", at, "CAC", "C"), Allele)
    assert narrow.find("chr20", at, "CAC", "C") == "too_long"


def test_indels_can_be_left_out(opened: GenomeFile) -> None:
    finder = AlleleFinder(opened, 21, 10, indels=False)
    assert finder.find("chr20", 50, base(50), base(50) + "A") == "indel"
    assert isinstance(finder.find("chr20", 50, CHR20[49:52], "".join(map(other, CHR20[49:52]))), Allele)


def test_every_reason_has_words() -> None:
    assert set(WORDS) == set(REASONS)


LETTERS = st.text("ACGT", min_size=1, max_size=6).map(str.encode)


@given(LETTERS, LETTERS, LETTERS)
def test_composition_is_the_ratio_of_naive_likelihoods(flank: bytes, ref: bytes, alt: bytes) -> None:
    allele = Allele("1", 0, flank, ref, alt, flank[::-1])
    around = allele.left + allele.right
    strong = sum(letter in b"GC" for letter in around)
    of_strong = (strong + 1) / (2 * (len(around) + 2))
    of_weak = (len(around) - strong + 1) / (2 * (len(around) + 2))

    def likelihood(letters: bytes) -> float:
        product = 1.0
        for letter in letters:
            product *= of_strong if letter in b"GC" else of_weak
        return product

    assert 2 * (of_strong + of_weak) == pytest.approx(1)
    from math import log

    assert composition_score(allele) == pytest.approx(log(likelihood(alt) / likelihood(ref)))
