"""Faults found by trying public reports: inputs of `prepare-genome` that users have."""

import codecs
import gzip
import io
import json
import random
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import pytest

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.errors import InputError
from cmgems_cli.genome import file_scan, preparation
from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.fasta import FastaFile
from cmgems_cli.genome.fasta_stream import sequence_chunks
from cmgems_cli.genome.preparation import prepare_genome
from tests.command_line import CommandLine
from tests.genome.reference import write_fasta
from tests.genome.test_fasta import bgzip

DRAW = random.Random(5)
BASES = "".join(DRAW.choices("ACGT", k=3000))


def records(names: str) -> dict[str, str]:
    return {name: "".join(DRAW.choices("ACGT", k=400)) for name in names.split()}


SPECIES = {
    "fly": "2L 2R 3L 3R 4 X Y mitochondrion_genome",
    "yeast": "chrI chrII chrIII chrIV chrV chrVI chrVII chrVIII chrIX chrX chrXI chrXII chrM",
    "worm": "I II III IV V X MtDNA",
    "zebrafish": " ".join(map(str, range(1, 26))) + " MT",
    "mitochondrion first": "MT 1 2 23",
    "mouse of RefSeq": "NC_000067.7 NC_000068.8 NC_005089.1",
}


@pytest.mark.parametrize("species", SPECIES)
@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_f1_names_of_another_species_take_every_record(
    cmgems: CommandLine, species: str, dry_run: tuple[str, ...], tmp_path: Path
) -> None:
    fasta = write_fasta(tmp_path / "g.fa", records(SPECIES[species]))
    done = cmgems("prepare-genome", fasta, "--out", tmp_path / "c", "--json", "--quiet", *dry_run)
    stats = done.json["stats"]
    assert stats["contigs"] == len(SPECIES[species].split())
    assert (stats["records_passed_over"], stats["letters_passed_over"]) == (0, 0)
    assert "not human's by their names" in done.stderr


def test_f1_what_is_passed_over_is_shown(cmgems: CommandLine, tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "g.fa", records("chr1 chr1_KI270706v1_random chrX chrM"))
    done = cmgems("prepare-genome", fasta, "--out", tmp_path / "c")
    assert "records passed over" in done.stdout
    assert "800 letters" in done.stdout
    assert "not human" not in done.stderr


@pytest.mark.parametrize("where", [5, 2900])
def test_f2_letters_u_are_compared_with_all_letters_t(where: int, tmp_path: Path) -> None:
    letters = BASES[:where] + "U" + BASES[where:]
    manifest = prepare_genome([write_fasta(tmp_path / "g.fa", {"chr1": letters})], tmp_path / "c")
    assert manifest.stats["dropped_other"] == 1
    rna = write_fasta(tmp_path / "r.fa", {"chr1": BASES.replace("T", "U")})
    with pytest.raises(InputError, match=rf"U {BASES.count('T'):,} times and T 0 times.*RNA"):
        prepare_genome([rna], tmp_path / "r")


def test_f2_a_part_in_which_u_stands_for_t_is_compared_with_the_whole(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "g.fa", {"chr1": BASES[:900].replace("T", "U"), "chr2": BASES})
    assert prepare_genome([fasta], tmp_path / "c").stats["contigs"] == 2


@pytest.mark.parametrize("second", [gzip.compress, bgzip])
@pytest.mark.parametrize("end", [True, False])
def test_f9_members_of_bgzip_and_gzip_mix(second, end: bool, tmp_path: Path) -> None:
    path = tmp_path / "g.fa.gz"
    path.write_bytes(bgzip(b">a\nACGT\n", end=end) + second(b">b\nACGT\n"))
    text = b"".join(chunk.text.tobytes() for chunk in FastaFile(path).chunks())
    assert text == b">a\nACGT\n>b\nACGT\n"
    path.write_bytes(gzip.compress(b">a\nACGT\n") + bgzip(b">b\nACGT\n", end=False))
    with pytest.raises(InputError, match="truncated"):
        list(FastaFile(path).chunks())


NO_SEQUENCE = {
    "semicolon": ";comment: GATTACA",
    "hash": "# GATTACA",
    "slashes": "// GATTACA",
    "percent": "% GATTACA",
    "web page": "<html>GATTACA</html>",
    "indented header": " >chr2",
    "header after a tab": "\t>chr2",
    "glued header": "ACGT>chr2",
    "numbered": "61 ACGTACGTAC",
}


@pytest.mark.parametrize("case", NO_SEQUENCE)
def test_f10_lines_that_are_no_sequence_are_refused(cmgems: CommandLine, case: str, tmp_path: Path) -> None:
    text = f">chr1\n{BASES}\n{NO_SEQUENCE[case]}\n{BASES}\n"
    path = tmp_path / "g.fa"
    path.write_text(text)
    done = cmgems("prepare-genome", path, "--contigs", "all", "--out", tmp_path / "c", "--quiet", code=3)
    assert "record 'chr1' has" in done.error
    assert "characters that no sequence has" in done.error
    with pytest.raises(InputError, match="characters that no sequence has"):
        list(sequence_chunks([text.encode()], path))


@pytest.mark.parametrize("line", [" >chr2", "ACGT>chr2"])
def test_f10_a_header_within_a_record_that_is_passed_over_is_seen(line: str, tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    path.write_text(f">chr1\n{BASES}\n>alt\nACGTACGTACGT\n{line}\n{BASES}\n")
    with pytest.raises(InputError, match="record 'alt' has 1 characters"):
        prepare_genome([path], tmp_path / "c")


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        (f">chr1\n{BASES}\n", ["--contigs", "chr9"], 3),
        (f">chr1\n{BASES}\n", ["--contigs", "chr1,nothing"], 3),
        (f">scaffold1\n{BASES}\n", [], 3),
        (f">chr1\n{BASES}\n>chr1\n{BASES}\n", [], 3),
        (f"> seq 1\n{BASES}\n> seq 2\n{BASES}\n", ["--contigs", "all"], 3),
        (">chr1\nACGTACG\n", [], 3),
        (f">chr1\n{BASES}\n#x\n", [], 3),
        (f">chr1\n{BASES}\n", ["--prefix", "a,b"], 2),
        (f">chr1\n{BASES}\n>chr1_alt\n{BASES}N\n", ["--contigs", "primary"], 0),
        (f">CM000663.2\n{BASES}\n>J01415.2\n{BASES}N\n", [], 0),
        (f">a\n{BASES}\n>b\n{BASES[::-1]}\n", ["--contigs", "b"], 0),
    ],
)
def test_f11_a_dry_run_ends_as_the_run_does(
    cmgems: CommandLine, text: str, options: list[str], code: int, tmp_path: Path
) -> None:
    path = tmp_path / "g.fa"
    path.write_text(text)
    command = ["prepare-genome", path, "--out", tmp_path / "c", "--json", "--quiet", *options]
    planned = cmgems(*command, "--dry-run", code=code)
    assert not (tmp_path / "c").exists()
    made = cmgems(*command, code=code)
    assert planned.stderr == made.stderr
    if code == 0:
        assert planned.json["stats"] == made.json["stats"]
        assert cmgems(*command, "--seed", "1", "--dry-run", code=4).error


def tar(text: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("chr1.fa")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return stream.getvalue()


KINDS = {
    "tar archive": tar(b">a\nACGT\n"),
    "gzip inside gzip": gzip.compress(b">a\nACGT\n"),
    "CRAM": b"CRAM\3\0" + b"\0" * 100,
    "BAM": b"BAM\1" + b"\0" * 100,
    "zip": b"PK\3\4" + b"\0" * 100,
    "zstd": b"\x28\xb5\x2f\xfd" + b"\0" * 100,
    "xz": b"\xfd7zXZ\0",
    "bzip2": b"BZh91AY&SY",
    "7z": b"7z\xbc\xaf\x27\x1c\0",
    "lz4": b"\x04\x22\x4d\x18\0",
    "web page": b"<!DOCTYPE html><html></html>",
    "git-lfs": b"version https://git-lfs.github.com/spec/v1\n",
    "GenBank": b"LOCUS       NC_000913 4641652 bp DNA\n",
    "UTF-32": codecs.BOM_UTF32_LE + ">a\nACGT".encode("utf-32-le"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zipped", [True, False])
def test_f14_other_kinds_of_files_are_named(
    cmgems: CommandLine, kind: str, zipped: bool, tmp_path: Path
) -> None:
    path = tmp_path / "g.fa"
    path.write_bytes(gzip.compress(KINDS[kind]) if zipped or kind.startswith("gzip") else KINDS[kind])
    done = cmgems("prepare-genome", path, "--contigs", "all", "--out", tmp_path / "c", "--quiet", code=3)
    assert kind in done.error


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("zipped", [True, False])
def test_f16_a_byte_order_mark_before_fasta_is_fine(encoding: str, zipped: bool, tmp_path: Path) -> None:
    text = f">chr1\n{BASES}\n"
    marks = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
    data = marks.get(encoding, b"") + text.encode(encoding)
    (tmp_path / "plain.fa").write_text(text)
    (tmp_path / "g.fa").write_bytes(gzip.compress(data) if zipped else data)
    plain = prepare_genome([tmp_path / "plain.fa"], tmp_path / "plain")
    marked = prepare_genome([tmp_path / "g.fa"], tmp_path / "marked")
    assert (plain.files, plain.stats) == (marked.files, marked.stats)


def test_f17_more_than_65536_records(tmp_path: Path) -> None:
    n = 65_600
    fasta = tmp_path / "g.fa"
    fasta.write_text("".join(f">s{i}\n{f'{i:020b}'.translate({48: 65, 49: 67})}\n" for i in range(n)))
    prepare_genome([fasta], tmp_path / "c", contigs="all")
    corpus = Corpus.open(tmp_path / "c")
    assert corpus.manifest.stats["contigs"] == n
    assert corpus.windows["contig"].max() == n - 1
    assert corpus.runs["contig"].tolist() == list(range(n))


def test_f17_a_corpus_of_the_older_schema_has_its_own_sentence(tmp_path: Path) -> None:
    prepare_genome([write_fasta(tmp_path / "g.fa", {"chr1": BASES})], tmp_path / "c")
    manifest = tmp_path / "c" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema": 1}))
    with pytest.raises(
        InputError, match=r"has schema 1, too old .* make it again with `cmgems prepare-genome`"
    ):
        read_manifest(tmp_path / "c", "corpus")


def test_f18_two_genomes_of_equal_names_get_a_prefix_each(cmgems: CommandLine, tmp_path: Path) -> None:
    one = write_fasta(tmp_path / "one.fa", records("chr1 chr2 chrM"))
    other = write_fasta(tmp_path / "other.fa", records("chr1 chr2 chrM"))
    command = ["prepare-genome", one, other, "--out", tmp_path / "c", "--quiet"]
    assert "--prefix NAME,…" in cmgems(*command, code=3).error
    cmgems(*command, "--prefix", "hg38,mm39")
    lines = (tmp_path / "c" / "contigs.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1:3] for line in lines] == [
        ["hg38.chr1", "hg38.1"],
        ["hg38.chr2", "hg38.2"],
        ["mm39.chr1", "mm39.1"],
        ["mm39.chr2", "mm39.2"],
    ]
    cmgems(*command, "--prefix", "hg38,mm39", "--contigs", "mm39.chr1,hg38.2", "--overwrite")
    assert read_manifest(tmp_path / "c").stats["contigs"] == 2


@pytest.mark.parametrize("prefix", ["a", "a,b,c", "a,"])
def test_f18_prefixes_must_fit_the_files(cmgems: CommandLine, prefix: str, tmp_path: Path) -> None:
    one = write_fasta(tmp_path / "one.fa", records("chr1"))
    other = write_fasta(tmp_path / "other.fa", records("chr2"))
    done = cmgems("prepare-genome", one, other, "--prefix", prefix, "--out", tmp_path / "c", code=2)
    assert "needed one name for each file" in done.error


def test_s9_an_input_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "g.fa", {"chr1": BASES})

    def change(_: float) -> None:
        fasta.write_text(f">chr1\n{BASES[::-1]}A\n")

    with pytest.raises(InputError, match="changed while it was read"):
        prepare_genome([fasta], tmp_path / "c", advance=change)
    assert not (tmp_path / "c").exists()


def test_s9_two_readings_of_an_input_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fasta = write_fasta(tmp_path / "g.fa", {"chr1": BASES})
    prepare_genome([fasta], tmp_path / "c")
    monkeypatch.setattr(preparation, "sha256_of_file", lambda path: "0" * 64)
    with pytest.raises(InputError, match="changed while it was read"):
        prepare_genome([fasta], tmp_path / "c", overwrite=True)
    with pytest.raises(InputError, match="changed while it was read"):
        file_scan.check_unchanged([fasta], ["a"], ["b"])


@pytest.mark.parametrize("letter", ["N", "h"])
def test_m_a_bomb_of_one_record_or_header_is_bounded(letter: str, tmp_path: Path) -> None:
    deflate = zlib.compressobj(9, wbits=31)
    head = ">" if letter == "h" else ">chr1\n"
    data = deflate.compress(head.encode())
    for _ in range(64):
        data += deflate.compress(letter.encode() * (1 << 20))
    path = tmp_path / "g.fa.gz"
    path.write_bytes(data + deflate.flush())
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"header line of more than|too few"):
            prepare_genome([path], tmp_path / "c")
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()
