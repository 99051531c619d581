"""BED files: what is read of them, and what is refused with its line."""

import gzip
from pathlib import Path

import pytest

from cmgems_cli.datasets.bed import BedFile, Region
from cmgems_cli.errors import InputError
from cmgems_cli.genome.random_access import GenomeFile


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> GenomeFile:
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(f">20\n{'ACGT' * 25}\n>scaffold\n{'TTGCA' * 4}\n")
    return GenomeFile(path)


def regions(text: str | bytes, genome: GenomeFile, folder: Path) -> list[Region]:
    path = folder / "x.bed"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(BedFile(path, genome).regions())


def test_columns_and_lines_of_every_kind(genome: GenomeFile, tmp_path: Path) -> None:
    text = (
        "browser position chr20:1-50\ntrack name=peaks\n# comment\n\n"
        "chr20\t0\t10\n"
        "20\t5\t100\tpeak 1\t960\t-\n"
        "scaffold 3 7 x 0 + 3 7 255,0,0 1 4, 0,\n"
        "20\t1\t2\t.\t.\t.\n"
    )
    expected = [
        Region("20", 0, 10, "20:0-10", False, 5),
        Region("20", 5, 100, "peak 1", True, 6),
        Region("scaffold", 3, 7, "x", False, 7),
        Region("20", 1, 2, "20:1-2", False, 8),
    ]
    assert regions(text, genome, tmp_path) == expected
    assert regions(text.replace("\n", "\r\n"), genome, tmp_path) == expected
    assert regions(b"\xef\xbb\xbf" + text.removesuffix("\n").encode(), genome, tmp_path) == expected
    assert regions(gzip.compress(text.encode()), genome, tmp_path) == expected


def test_other_names_of_a_chromosome_are_matched_and_noted(genome: GenomeFile, tmp_path: Path) -> None:
    (tmp_path / "x.bed").write_text("chr20\t0\t5\nNC_000020.11\t0\t5\n20\t0\t5\n")
    bed = BedFile(tmp_path / "x.bed", genome)
    assert {region.contig for region in bed.regions()} == {"20"}
    assert bed.renamed == {"chr20": "20", "NC_000020.11": "20"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("20\t7\t7", "starts at 7 and ends at 7; needed an end behind the start"),
        ("20\t9\t7", "starts at 9 and ends at 7"),
        ("20\t-1\t7", "starts at -1; needed 0 or more"),
        ("20\t90\t101", "ends at 101, and 20 of .* has 100 bases"),
        ("chr21\t0\t5", "names 'chr21', which .* does not have; it has 20, scaffold"),
        ("20\t5", "has 2 column"),
        ("chrom\tstart\tend", "has 'start' where a whole number belongs"),
        ("20\t1.5\t7", "has '1.5' where"),
        ("20\t1\t7\tx\t0\t*", r"has '\*' as its strand, column 6; needed \+, - or \."),
    ],
)
def test_a_line_that_is_no_region_is_named(line: str, words: str, genome: GenomeFile, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"x\.bed line 3 {words}"):
        regions(f"# two lines\n20\t0\t5\n{line}\n", genome, tmp_path)


def test_files_without_regions_are_refused(genome: GenomeFile, tmp_path: Path) -> None:
    for text in ("# nothing\n\n", "track name=x\n"):
        with pytest.raises(InputError, match="has no regions; needed BED"):
            regions(text, genome, tmp_path)
    with pytest.raises(InputError, match="does not exist; needed BED"):
        BedFile(tmp_path / "none.bed", genome)
    with pytest.raises(InputError, match="is empty; needed BED"):
        regions("", genome, tmp_path)
    with pytest.raises(InputError, match="is a folder; needed BED"):
        BedFile(tmp_path, genome)
    with pytest.raises(InputError, match="looks like a zip file"):
        regions(b"PK\x03\x04 zipped", genome, tmp_path)
