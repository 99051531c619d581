"""Regions of a genome as input of `predict` and `embed`: the same values as for the letters cut out by hand."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import cmgems_cli
from cmgems_cli.errors import UsageError
from cmgems_cli.inference.inference_options import RegionOptions
from cmgems_cli.inference.region_source import source_of
from tests.command_line import CommandLine
from tests.inference.conftest import as_standard_input, random_sequence

CHROMOSOME = random_sequence(300, 1) + random_sequence(300, 2).lower() + "N" * 60 + random_sequence(340, 3)
BED = "chr7\t10\t40\ta\t0\t+\nchr7\t290\t320\tb\t0\t-\n7\t0\t30\nplasmid\t5\t33\tz\n"
# What these regions are: contig, start, end, name, strand.
REGIONS = [
    ("7", 10, 40, "a", "+"),
    ("7", 290, 320, "b", "-"),
    ("7", 0, 30, "7:0-30", "+"),
    ("plasmid", 5, 33, "z", "+"),
]


def reverse_complement(sequence: str) -> str:
    return sequence.upper().translate(str.maketrans("ACGT", "TGCA"))[::-1]


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    """Two contigs in lines of 60, in a folder that cannot be written to."""
    folder = tmp_path / "genome"
    folder.mkdir()
    path = folder / "g.fa"
    lines = "\n".join(CHROMOSOME[i : i + 60] for i in range(0, 1000, 60))
    path.write_text(f">7 made up\n{lines}\n>plasmid\n{random_sequence(50, 4)}\n")
    folder.chmod(0o555)
    return path


@pytest.fixture
def bed(tmp_path: Path) -> Path:
    path = tmp_path / "x.bed"
    path.write_text(BED)
    return path


def letters_of(contig: str, start: int, end: int, strand: str) -> str:
    sequence = (CHROMOSOME if contig == "7" else random_sequence(50, 4))[start:end]
    return reverse_complement(sequence) if strand == "-" else sequence.upper()


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def test_predict_reads_regions_as_their_letters(
    cmgems: CommandLine, classifier: Path, genome: Path, bed: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.fa"
    cut.write_text("".join(f">{name}\n{letters_of(*region, strand)}\n" for *region, name, strand in REGIONS))
    expected = rows_of(cmgems("predict", classifier, cut).stdout)
    done = cmgems("predict", classifier, "--regions", bed, "--genome", genome)
    rows = rows_of(done.stdout)
    assert list(rows[0])[:6] == ["chrom", "start", "end", "name", "strand", "label"]
    where = [(row["chrom"], int(row["start"]), int(row["end"]), row["name"], row["strand"]) for row in rows]
    assert where == REGIONS
    for row, other in zip(rows, expected, strict=True):
        assert [row[name] for name in other] == list(other.values())
    assert "1 region is on the strand -: read as reverse complements" in done.stderr
    assert f"contigs are named as in {genome}: chr7 is 7" in done.stderr
    piped = as_standard_input(BED.encode())
    with piped:
        assert cmgems("predict", classifier, "--regions", "-", "--genome", genome).stdout == done.stdout
    assert [path.name for path in genome.parent.iterdir()] == ["g.fa"]


@pytest.mark.parametrize("strand", ["forward", "reverse", "both"])
def test_windows_of_regions_are_placed_in_the_genome(
    classifier: Path, genome: Path, bed: Path, strand: str
) -> None:
    model = cmgems_cli.load_model(classifier, device="cpu")
    source = cmgems_cli.regions(bed, genome)
    found = cmgems_cli.predict(model, source, window=12, stride=5, strand=strand)
    assert found.contigs is not None
    assert found.strands is not None
    places = list(zip(found.contigs, found.starts.tolist(), found.ends.tolist(), found.strands, strict=True))
    expected = []
    for contig, start, end, _, plus in REGIONS:
        minus = "-" if plus == "+" else "+"
        for at in range(0, end - start, 5):
            last = min(at + 12, end - start)
            place = (start + at, start + last) if plus == "+" else (end - last, end - at)
            read = {"forward": [plus], "reverse": [minus], "both": [plus, minus]}[strand]
            expected += [(contig, *place, one) for one in read]
            if last == end - start:
                break
    assert places == expected
    alone = cmgems_cli.predict(model, [letters_of(*place) for place in places])
    np.testing.assert_allclose(found.probabilities, alone.probabilities, atol=1e-6)
    assert list(found.columns())[:5] == ["chrom", "name", "start", "end", "strand"]


def test_embed_names_the_places_of_regions(
    cmgems: CommandLine, pretrained: Path, genome: Path, bed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.npy"
    cmgems("embed", pretrained, "--regions", bed, "--genome", genome, "--out", out)
    rows = rows_of((tmp_path / "x.names.tsv").read_text())
    assert [tuple(row.values()) for row in rows] == [tuple(map(str, region)) for region in REGIONS]
    model = cmgems_cli.load_model(pretrained, device="cpu")
    alone = cmgems_cli.embed(model, [letters_of(*region, strand) for *region, _, strand in REGIONS])
    np.testing.assert_allclose(np.load(out), alone, atol=1e-5)


def test_a_long_region_on_the_reverse_strand_is_read_in_parts(
    genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmgems_cli.inference.region_source._PART_BASES", 7)
    (tmp_path / "y.bed").write_text("7\t5\t100\tx\t0\t-\n7\t5\t100\ty\n7\t0\t7\n")
    read: dict[str, str] = {}
    for chunk in cmgems_cli.regions(tmp_path / "y.bed", genome).chunks():
        read[chunk.name] = read.get(chunk.name, "") + chunk.letters.decode()
    upper = CHROMOSOME[5:100].upper()
    assert read == {"x": reverse_complement(upper), "y": upper, "7:0-7": CHROMOSOME[:7]}


def test_input_or_regions_with_a_genome_are_needed(
    cmgems: CommandLine, classifier: Path, genome: Path, bed: Path, tmp_path: Path
) -> None:
    assert "there is no input; give INPUT" in cmgems("predict", classifier, code=2).error
    for options in (["--regions", bed], ["--genome", genome]):
        assert "give both of them" in cmgems("predict", classifier, *options, code=2).error
        with pytest.raises(UsageError, match="are both given"):
            source_of(bed, RegionOptions(**{options[0][2:]: options[1]}))
    bed.write_text(BED + "7\t990\t1001\n")
    done = cmgems(
        *("predict", classifier, "--regions", bed, "--genome", genome, "--out", tmp_path / "o.tsv"), code=3
    )
    assert "x.bed line 5 ends at 1,001, and 7 of" in done.error


def test_a_scan_of_regions_goes_by_both_files(
    cmgems: CommandLine, classifier: Path, genome: Path, bed: Path, tmp_path: Path
) -> None:
    """The digest in the report, by which runs resume, changes with either file."""

    def digest() -> str:
        done = cmgems(
            *("predict", classifier, "--regions", bed, "--genome", genome, "--json"),
            *("--out", tmp_path / "o.tsv", "--overwrite"),
        )
        return str(json.loads(done.stdout)["input_sha256"])

    first = digest()
    assert digest() == first
    genome.chmod(0o644)
    genome.write_text(genome.read_text().replace(">plasmid", ">plasmid again"))
    second = digest()
    bed.write_text(BED.replace("\tz", "\ty"))
    assert len({first, second, digest()}) == 3
