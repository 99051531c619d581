"""`cmgems build-task`: what negatives match and never overlap, where pairs go, and what is written."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.datasets.benchmark_file import find_benchmark
from cmgems_cli.errors import InputError
from cmgems_cli.fewshot_builder.negatives import negative_of
from cmgems_cli.task_builder.build_task_options import BuildTaskOptions
from cmgems_cli.task_builder.building import build_task
from cmgems_cli.task_builder.matching import GC, OTHER, REPEAT, flags_of
from cmgems_cli.task_builder.sites import Sites, find_sites
from tests.command_line import CommandLine

CONTIGS = ("chr1", "chr2", "chr3", "chr4", "chr5")
LENGTH = 12_000


def random_contig(seed: int) -> str:
    """Stretches of different GC content, some of them in lower case, and a gap."""
    draw = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < LENGTH:
        gc = draw.uniform(0.3, 0.7)
        part = "".join(draw.choice(list("ACGT"), 400, p=[(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]))
        parts.append(part.lower() if draw.random() < 0.4 else part)
    sequence = "".join(parts)[:LENGTH]
    return sequence[:5000] + "N" * 300 + sequence[5300:]


GENOME = {name: random_contig(number) for number, name in enumerate(CONTIGS)}


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in GENOME.items()))
    return path


def write_bed(path: Path, contigs: tuple[str, ...] = CONTIGS, per_contig: int = 12) -> Path:
    draw = np.random.default_rng(9)
    lines = []
    for contig in contigs:
        for number, start in enumerate(draw.choice(LENGTH // 100 - 2, per_contig, replace=False).tolist()):
            length, strand = int(draw.integers(40, 90)), "+-"[number % 2]
            lines.append(f"{contig}\t{100 * start}\t{100 * start + length}\tp{number}\t0\t{strand}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bed(tmp_path_factory.mktemp("bed") / "x.bed")


def overlap(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


def test_flags_of_letters() -> None:
    assert flags_of(b"AcgTNr").tolist() == [0, GC | REPEAT, GC | REPEAT, 0, OTHER, OTHER]
    assert REPEAT & int(flags_of(b"t")[0])


def test_negatives_match_their_positives_and_overlap_nothing(genome: Path, bed: Path, tmp_path: Path) -> None:
    exclude = tmp_path / "exclude.bed"
    exclude.write_text("".join(f"{contig}\t6000\t9000\n" for contig in CONTIGS))
    options = BuildTaskOptions(per_positive=2, gc_tolerance=0.05, repeat_tolerance=0.1, exclude=exclude)
    found = find_sites(bed, genome, options, seed=1)
    assert found.unmatched < 10
    taken = [
        (contig, int(start), int(end))
        for contig, start, end, *_ in (line.split("\t") for line in bed.read_text().splitlines())
    ]
    lines = len(taken)
    taken += [(contig, 6000, 9000) for contig in CONTIGS]
    positives = {site.pair: site for site in found.sites if site.label == "1"}
    negatives = [site for site in found.sites if site.label == "0"]
    assert len(negatives) == 2 * len(positives)
    assert len(positives) == lines - found.unmatched - found.other_letters
    for site in found.sites:
        region = site.region
        letters = GENOME[region.contig][region.start : region.end]
        assert site.repeats == sum(letter.islower() for letter in letters) / len(letters)
        read = letters.upper()
        if region.reverse:
            read = read.translate(str.maketrans("ACGT", "TGCA"))[::-1]
        assert site.letters.decode() == read
        assert set(read) <= set("ACGT")
    for site in negatives:
        region, positive = site.region, positives[site.pair]
        assert (region.contig, region.reverse) == (positive.region.contig, positive.region.reverse)
        assert len(site.letters) == len(positive.letters)
        assert abs(site.gc - positive.gc) <= 0.05 + 1e-9
        assert site.repeats is not None
        assert positive.repeats is not None
        assert abs(site.repeats - positive.repeats) <= 0.1 + 1e-9
        place = (region.contig, region.start, region.end)
        assert not any(overlap(place, other) for other in taken)
        taken.append(place)
    again = find_sites(bed, genome, options, seed=1)
    assert again.sites == found.sites
    assert find_sites(bed, genome, options, seed=2).sites != found.sites


def test_regions_that_cannot_be_used_are_counted(genome: Path, tmp_path: Path) -> None:
    bed = tmp_path / "x.bed"
    bed.write_text("chr1\t10\t60\nchr1\t10\t60\nchr2\t4980\t5020\nchr3\t0\t8\nchr4\t11990\t12000\n")
    found = find_sites(bed, genome, BuildTaskOptions(length=30, gc_tolerance=0.3, repeat_tolerance=1))
    assert found.counts() == {
        "regions": 5,
        "dropped_repeats": 1,
        "dropped_at_contig_end": 2,
        "dropped_across_blocks": 0,
        "dropped_other_letters": 1,
        "dropped_too_short": 0,
        "dropped_unmatched": 0,
    }
    (positive, negative) = found.sites
    assert (positive.region.start, positive.region.end) == (20, 50)
    assert len(negative.letters) == 30


def test_deepromoter_negatives_and_labels_of_the_file(genome: Path, tmp_path: Path) -> None:
    bed = tmp_path / "x.bed"
    bed.write_text("chr1\t10\t60\tstrong\nchr2\t10\t25\tweak\n")
    found = find_sites(bed, genome, BuildTaskOptions(negatives="deepromoter"), seed=3)
    assert [(site.label, site.repeats is None) for site in found.sites] == [("1", False), ("0", True)]
    assert found.sites[1].letters == negative_of(found.sites[0].letters, 3, 0)
    assert found.too_short == 1
    named = find_sites(bed, genome, BuildTaskOptions(negatives="none"))
    assert [(site.label, site.pair) for site in named.sites] == [("strong", 0), ("weak", 1)]
    bed.write_text("chr1\t10\t60\tstrong\nchr2\t10\t25\n")
    with pytest.raises(
        InputError, match=r"x\.bed line 2 has no name; with `negatives=none` column 4 is the label"
    ):
        find_sites(bed, genome, BuildTaskOptions(negatives="none"))


LOOSE = BuildTaskOptions(gc_tolerance=0.1, repeat_tolerance=0.2, dev=0.2, test=0.2)


def splits_of(folder: Path) -> dict[str, list[dict[str, str]]]:
    found = {}
    for name in ("train", "dev", "test"):
        with (folder / f"{name}.csv").open(newline="") as stream:
            found[name] = list(csv.DictReader(stream))
    return found


def test_a_task_by_chromosome_is_written_with_all_it_needs(
    cmgems: CommandLine, genome: Path, bed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "peaks"
    command = ("build-task", bed, "--genome", genome, "--gc-tolerance", "0.1", "--repeat-tolerance", "0.2")
    done = cmgems(*command, "--test-chromosomes", "chr5", "--dev-chromosomes", "4", "--out", out, "--json")
    splits = splits_of(out)
    assert {name: {row["chrom"] for row in rows} for name, rows in splits.items()} == {
        "train": {"chr1", "chr2", "chr3"},
        "dev": {"chr4"},
        "test": {"chr5"},
    }
    for rows in splits.values():
        assert len(rows) > 10
        assert len({row["pair"] for row in rows}) == len(rows) / 2
        assert sum(int(row["label"]) for row in rows) == len(rows) / 2
    stats = json.loads((out / "manifest.json").read_text())["stats"]
    assert done.json["kind"] == "task"
    assert stats["split_by"] == "chromosome"
    assert all(counts == {"equal": 0, "near": 0} for counts in stats["leakage"].values())
    assert stats["n_train"] == len(splits["train"])
    with (out / "matching.csv").open() as stream:
        matching = list(csv.DictReader(stream))
    values = [float(row["gc"]) for rows in splits.values() for row in rows if row["label"] == "1"]
    (gc,) = (row for row in matching if (row["quantity"], row["label"]) == ("gc", "1"))
    assert float(gc["mean"]) == pytest.approx(np.mean(values), abs=1e-4)
    assert float(gc["q50"]) == pytest.approx(np.median(values), abs=1e-4)
    (task,) = find_benchmark(str(out / "task.toml")).tasks
    assert task.name == "peaks"
    assert "| gc | 1 |" in (out / "report.md").read_text()
    cmgems(*command, "--out", out, code=4)
    assert "give --genome FASTA" in cmgems("build-task", bed, code=2).error


def test_one_contig_is_split_by_blocks(genome: Path, tmp_path: Path) -> None:
    bed = write_bed(tmp_path / "one.bed", ("chr2",), per_contig=40)
    bed.write_text(bed.read_text() + "chr2\t1180\t1230\tx\t0\t+\n")
    options = BuildTaskOptions(gc_tolerance=0.2, repeat_tolerance=0.5, blocks=10, dev=0.2, test=0.2)
    found = find_sites(bed, genome, options)
    assert (found.by_blocks, found.across_blocks) == (True, 1)
    for site in found.sites:
        assert (
            site.block
            == f"chr2.block{site.region.start // 1200}"
            == f"chr2.block{(site.region.end - 1) // 1200}"
        )
    task = build_task(found, bed, options)
    blocks = task.stats()["chromosomes"]
    assert not set(blocks["train"]) & {*blocks["dev"], *blocks["test"]}
    assert task.stats()["split_by"] == "block"
    assert any("split by blocks of a contig" in note for note in task.notes())


@pytest.fixture
def repeated(tmp_path: Path) -> Callable[[], tuple[Path, Path]]:
    """A genome in which chr5, the test, has a copy of a region of chr1, on the other strand."""

    def write() -> tuple[Path, Path]:
        copied = GENOME["chr1"][2000:2080].upper().translate(str.maketrans("ACGT", "TGCA"))[::-1]
        changed = {**GENOME, "chr5": GENOME["chr5"][:700] + copied + GENOME["chr5"][780:]}
        (tmp_path / "g.fa").write_text("".join(f">{name}\n{one}\n" for name, one in changed.items()))
        bed = write_bed(tmp_path / "x.bed")
        bed.write_text(bed.read_text() + "chr1\t2000\t2080\tsource\nchr5\t700\t780\tcopy\n")
        return bed, tmp_path / "g.fa"

    return write


def test_pairs_with_a_near_duplicate_in_another_split_are_left_out(
    repeated: Callable[[], tuple[Path, Path]],
) -> None:
    bed, fasta = repeated()
    options = BuildTaskOptions(
        gc_tolerance=0.2, repeat_tolerance=1, dev_chromosomes="chr4", test_chromosomes="chr5"
    )
    found = find_sites(bed, fasta, options)
    names = {site.region.name for site in found.sites}
    assert {"source", "copy"} <= names
    task = build_task(found, bed, options)
    left = {site.region.name for site in task.sites}
    assert names - left >= {"copy"}
    assert "source" in left
    assert task.near == len(found.sites) - len(task.sites) >= 2
    assert all((one.equal, one.near) == (0, 0) for one in task.split.leakage)


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(
        InputError, match=r"x\.bed leaves no region for a task \(regions 3, dropped_unmatched 3\)"
    ):
        build_task(Sites(regions=3, unmatched=3), Path("x.bed"), LOOSE)


def test_too_few_regions_to_divide_are_counted(genome: Path, tmp_path: Path) -> None:
    bed = tmp_path / "few.bed"
    bed.write_text("chr2\t100\t180\ta\nchr2\t3000\t3080\tb\n")
    with pytest.raises(
        InputError,
        match=r"few\.bed has too few regions: 2 of 2 regions can be used, in 2 blocks, which leaves a split"
        r" without rows \(train 2, dev 2, test 0\); needed regions in 3 blocks or more; give more regions$",
    ):
        build_task(find_sites(bed, genome, LOOSE), bed, LOOSE)
    bed.write_text("".join(f"chr{number}\t100\t180\ta\n" for number in (1, 2, 3)))
    named = replace(LOOSE, dev_chromosomes="chr1", test_chromosomes="chr2,chr3")
    with pytest.raises(
        InputError, match=r"in 3 chromosomes, .*; give more regions, or name other chromosomes$"
    ):
        build_task(find_sites(bed, genome, named), bed, named)
