"""The whole stage, from files to the artifact, by function and by command."""

import csv
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyfaidx
import pytest

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.errors import InputError
from cmgems_cli.genome import fasta as fasta_module
from cmgems_cli.genome.corpus import BASES, CONTIGS, RUNS, WINDOWS, Corpus
from cmgems_cli.genome.preparation import plan, prepare_genome
from tests.command_line import CommandLine, Result, environment
from tests.genome import reference
from tests.genome.reference import write_fasta
from tests.genome.test_fasta import bgzip


def genome(seed: int = 1) -> dict[str, str]:
    """Three chromosomes with gaps and soft masking, and two records that are none."""
    draw = random.Random(seed)

    def bases(n: int) -> str:
        return "".join(draw.choices("ACGTacgt", k=n))

    return {
        "chr1 first": "N" * 300 + bases(4000) + "n" * 50 + bases(900) + "NNN" + bases(12) + "R" + bases(3),
        "chr1_alt": bases(500),
        "chrX": bases(2500),
        "chrY": "",
        "chrM": bases(100) + "-" + bases(100),
    }


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "g.fa", genome())


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (BASES, WINDOWS, RUNS, CONTIGS)}


def test_sequences_are_cut_from_the_records_as_the_method_says(fasta: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    manifest = prepare_genome([fasta], out, max_tokens=100)
    corpus = Corpus.open(out)
    records = {
        r.name: r for r in reference.read_records(fasta.read_bytes()) if r.name in {"chr1", "chrX", "chrY"}
    }
    runs = [(name, start, letters) for name, record in records.items() for start, letters in record.runs]
    assert [
        (
            list(records)[run["contig"]],
            run["contig_start"],
            reference.unpack(corpus.bases, run["start"], run["length_bases"]),
        )
        for run in corpus.runs
    ] == runs
    assert manifest.stats["bases"] == sum(len(letters) for _, _, letters in runs)
    sequences = reference.sequences(corpus)
    assert len(set(sequences)) == len(sequences) == manifest.stats["sequences"]
    assert all(any(sequence in letters for _, _, letters in runs) for sequence in sequences)
    shares = (manifest.stats["train_sequences"], manifest.stats["valid_sequences"])
    assert shares == (corpus.n_train, corpus.n_valid)
    valid = np.array(corpus.windows["valid"])
    assert not valid[: corpus.n_train].any()
    assert valid[corpus.n_train :].all()
    for part in (corpus.windows[: corpus.n_train], corpus.windows[corpus.n_train :]):
        assert (np.diff(part["start"]) > 0).all()
    assert manifest.stats["full_length_sequences"] == (corpus.windows["n_tokens"] == 100).sum()
    assert manifest.stats["tokens"] == corpus.windows["n_tokens"].sum()
    assert manifest.stats["dropped_n"] == 353
    assert (manifest.stats["dropped_iupac"], manifest.stats["dropped_other"]) == (1, 0)
    assert manifest.stats["contigs"] == 3


def test_the_digest_is_what_it_was(tmp_path: Path) -> None:
    # A change here changes every corpus anybody made: raise the schema, or find what went wrong.
    fasta = write_fasta(tmp_path / "g.fa", {"chr20": "ACGTTGCATTAGGACC" * 40 + "N" + "TTGACCAGATTACA" * 30})
    manifest = prepare_genome([fasta], tmp_path / "corpus", max_tokens=60)
    assert manifest.digest == "9b3165dbd23d8e3dcc6d279baa404408aeee2090e5334a99f689c733d7d98447"


def test_the_digest_depends_on_the_seed_and_not_on_the_run(fasta: Path, tmp_path: Path) -> None:
    digests = [
        prepare_genome([fasta], tmp_path / name, seed=seed, max_tokens=50).digest
        for name, seed in (("a", 42), ("b", 42), ("c", 43))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_chunks_of_any_size_give_the_same_artifact(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = prepare_genome([fasta], tmp_path / "whole").digest
    for size in (64, 1000):
        monkeypatch.setattr(fasta_module, "CHUNK_BYTES", size)
        assert prepare_genome([fasta], tmp_path / str(size)).digest == whole


@pytest.mark.parametrize("write", [gzip.compress, bgzip])
def test_zipped_and_plain_differ_in_their_inputs_only(write, fasta: Path, tmp_path: Path) -> None:
    plain = prepare_genome([fasta], tmp_path / "plain")
    zipped = tmp_path / "zipped"
    zipped.write_bytes(write(fasta.read_bytes()))
    other = prepare_genome([zipped], tmp_path / "other")
    assert content(tmp_path / "plain") == content(tmp_path / "other")
    assert (plain.params, plain.stats, plain.files) == (other.params, other.stats, other.files)
    assert plain.inputs.keys() == other.inputs.keys() == {"fasta_1"}
    assert plain.inputs != other.inputs


def test_naming_schemes_give_the_same_sequences(tmp_path: Path) -> None:
    bases = genome()["chrX"]
    made = [
        prepare_genome([write_fasta(tmp_path / f"{name}.fa", {name: bases})], tmp_path / name).files
        for name in ("chrX", "X", "NC_000023.11")
    ]
    assert made[0][WINDOWS] == made[1][WINDOWS] == made[2][WINDOWS]
    assert made[0][BASES] == made[1][BASES] == made[2][BASES]


def test_several_files_equal_one(fasta: Path, tmp_path: Path) -> None:
    parts = []
    for number, (name, letters) in enumerate(genome().items()):
        parts.append(write_fasta(tmp_path / f"{number}.fa", {name: letters}, width=50 + number))
    prepare_genome([fasta], tmp_path / "one")
    several = prepare_genome(parts, tmp_path / "several")
    assert content(tmp_path / "one") == content(tmp_path / "several")
    assert list(several.inputs) == ["fasta_1", "fasta_2", "fasta_3", "fasta_4", "fasta_5"]


def test_an_up_to_date_index_saves_the_scan_and_changes_nothing(
    fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"contigs": "chrX,chr1_alt"}
    without = prepare_genome([fasta], tmp_path / "without", **options)
    pyfaidx.Faidx(str(fasta)).close()
    scanned: list[int] = []
    from cmgems_cli.genome import scanner

    feed = scanner.Scanner.feed

    def counted(self: scanner.Scanner, text: np.ndarray) -> None:
        scanned.append(text.size)
        feed(self, text)

    monkeypatch.setattr(scanner.Scanner, "feed", counted)
    with_index = prepare_genome([fasta], tmp_path / "with", **options)
    assert with_index.digest == without.digest
    assert sum(scanned) < 3100 < len(fasta.read_bytes())
    monkeypatch.setattr(fasta_module, "CHUNK_BYTES", 100)
    assert prepare_genome([fasta], tmp_path / "pieces", **options).digest == without.digest
    os.utime(tmp_path / "g.fa.fai", (1, 1))
    scanned.clear()
    assert prepare_genome([fasta], tmp_path / "stale", **options).digest == without.digest
    assert sum(scanned) == len(fasta.read_bytes())
    os.utime(tmp_path / "g.fa.fai")
    with pytest.raises(InputError, match=r"no record named 'chr1_al'.*the closest: chr1_alt"):
        prepare_genome([fasta], tmp_path / "unknown", contigs="chrX,chr1_al")


def test_contigs_csv_counts_what_is_there(fasta: Path, tmp_path: Path) -> None:
    manifest = prepare_genome([fasta], tmp_path / "corpus", contigs="all", max_tokens=40)
    with (tmp_path / "corpus" / CONTIGS).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    corpus = Corpus.open(tmp_path / "corpus")
    assert [row["name"] for row in rows] == ["chr1", "chr1_alt", "chrX", "chrY", "chrM"]
    assert [row["canonical_name"] for row in rows] == ["1", "chr1_alt", "X", "Y", "chrM"]
    for record, row in zip(reference.read_records(fasta.read_bytes()), rows, strict=True):
        assert int(row["length_bases"]) == len(record.letters)
        assert int(row["bases"]) == sum(len(letters) for _, letters in record.runs)
        assert int(row["runs"]) == len(record.runs)
    for name in ("sequences", "train_sequences", "valid_sequences", "bases"):
        assert sum(int(row[name]) for row in rows) == manifest.stats[name]
    counted = Counter(corpus.windows["contig"][: corpus.n_train].tolist())
    assert [int(row["train_sequences"]) for row in rows] == [counted[number] for number in range(5)]
    assert [row["dropped_other"] for row in rows] == ["0", "0", "0", "0", "1"]


def test_equal_records_are_cut_differently_but_equal_runs_of_one_sequence_once(tmp_path: Path) -> None:
    short = "ACGTTGCAAC"
    fasta = write_fasta(tmp_path / "g.fa", {"a": f"{short}N{short}N{short}", "b": f"{short}N{short[:-1]}T"})
    manifest = prepare_genome([fasta], tmp_path / "corpus", contigs="all", valid_share=0.5)
    assert manifest.stats["sequences"] == 2
    assert manifest.stats["duplicates_dropped"] == 3
    assert manifest.stats["bases"] == 50


def test_corpus_decodes_sequences_in_any_order(fasta: Path, tmp_path: Path) -> None:
    prepare_genome([fasta], tmp_path / "corpus", k=4, max_tokens=30)
    corpus = Corpus.open(tmp_path / "corpus")
    sequences = reference.sequences(corpus)
    wanted = np.array([5, 0, len(sequences) - 1, 5])
    ids, offsets = corpus.token_ids(wanted)
    assert ids.dtype == np.int32
    assert offsets.dtype == np.int64
    for i, index in enumerate(wanted):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == reference.token_ids(sequences[index], 4)
    assert corpus.token_ids(np.zeros(0, np.int64))[0].size == 0
    with pytest.raises(IndexError):
        corpus.token_ids(np.array([len(sequences)]))


def test_a_damaged_corpus_is_an_input_error(fasta: Path, tmp_path: Path) -> None:
    prepare_genome([fasta], tmp_path / "corpus")
    damaged = bytearray((tmp_path / "corpus" / WINDOWS).read_bytes())
    damaged[:6] = b"pickle"
    (tmp_path / "corpus" / WINDOWS).write_bytes(damaged)
    words = r"windows\.npy does not have the sha256 .* is damaged; make it again with `cmgems prepare-genome`"
    with pytest.raises(InputError, match=words):
        Corpus.open(tmp_path / "corpus")


BAD = {
    "empty": (b"", "is empty"),
    "blank": (b"\n\n  \n", "holds no text"),
    "fastq": (b"@r\nACGT\n+\nIIII\n", "looks like FASTQ"),
    "text before": (b"hello\n>chr1\nACGT\n", "begins with 'hello'"),
    "binary": (b"\x7fELF\2\1\1\0" + b"\0" * 100, "needed FASTA"),
    "empty gzip": (gzip.compress(b""), "holds no text"),
    "truncated gzip": (
        gzip.compress(b">chr1\n" + random.Random(1).randbytes(9999).hex().encode())[:-100],
        "truncated gzip",
    ),
    "corrupt gzip": (gzip.compress(b">chr1\nACGT\n")[:-8] + b"12345678", "corrupt gzip"),
    "fastq in gzip": (gzip.compress(b"@r\nACGT\n+\nIIII\n"), "looks like FASTQ"),
    "no name": (b">chr1\nACGTACGTACGT\n>\nACGT\n", "record without a name (after 'chr1')"),
    "no primary": (
        b">scaffold1\nACGT\n>scaffold2\nACGT\n",
        "there are: scaffold1, scaffold2; use --contigs all",
    ),
    "too short": (b">chr1\nACGTACGTANACGTACGTA\n", "the longest run of A, C, G, T has 9 bases"),
    "no base at all": (b">chr1\nNNNNNNNNNNNNNNNNNNNNNNNN\n", "has 0 bases"),
    "only headers": (b">chr1\n>chr2\n", "has 0 bases"),
    "duplicate": (b">chr1\nACGTACGTACGT\n>chr1\nACGT\n", "second record named 'chr1'"),
    "RNA": (b">chr1\nACGUUGCAUNNACGUACGAUUAGCCGAUUACGAAGUC\n", "write T in place of U"),
    "protein": (b">chr1\n" + b"MKVLAAGIVGLLLAQWSRKTPEED" * 5, "looks like protein"),
    "protein later": (
        b">chr1\nACGTACGTACGT\n" + b"\n" * 70000 + b"MKVLAAGIVGLLLAQWSRKTPEED" * 9,
        "looks like protein",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_line_exit_code_3_and_nothing_written(
    cmgems: CommandLine, case: str, tmp_path: Path
) -> None:
    text, words = BAD[case]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "g.fa"
    path.write_bytes(text)
    done = cmgems("prepare-genome", path, "--out", tmp_path / "made" / "corpus", "--quiet", code=3)
    assert words in done.error
    assert not (tmp_path / "made").exists() or not list((tmp_path / "made").iterdir())
    assert [entry.name for entry in path.parent.iterdir()] == ["g.fa"]


def test_missing_files_and_folders_are_input_errors(cmgems: CommandLine, tmp_path: Path) -> None:
    cmgems("prepare-genome", tmp_path / "no.fa", "--out", tmp_path / "c", code=3)
    done = cmgems("prepare-genome", tmp_path, "--out", tmp_path / "c", code=3)
    assert "is a folder" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--k", "2"],
        ["--k", "9"],
        ["--min-tokens", "0"],
        ["--min-tokens", "600"],
        ["--max-tokens", "70000"],
        ["--full-share", "1.1"],
        ["--valid-share", "-0.1"],
        ["--contigs", ""],
        ["--contigs", "primary,all"],
    ],
)
def test_options_out_of_range_are_usage_errors(
    cmgems: CommandLine, options: list[str], fasta: Path, tmp_path: Path
) -> None:
    cmgems("prepare-genome", fasta, "--out", tmp_path / "c", *options, code=2)
    assert not (tmp_path / "c").exists()


def test_the_command_prints_a_table_or_one_json_object(
    cmgems: CommandLine, fasta: Path, tmp_path: Path
) -> None:
    done = cmgems("prepare-genome", fasta, "--out", tmp_path / "a", "--valid-share", "0.5")
    for words in ("bases kept", "dropped: N", "sequences", "validation"):
        assert words in done.stdout
    done = cmgems(
        "prepare-genome", fasta, "--out", tmp_path / "b", "--valid-share", "0.5", "--json", "--quiet"
    )
    result = done.json
    assert list(result) == ["kind", "digest", "stats", "out", "elapsed_s"]
    assert result["digest"] == read_manifest(tmp_path / "a", "corpus", verify=True).digest
    assert done.stderr == ""


@pytest.mark.parametrize(("share", "part"), [("0", "validation"), ("1", "training")])
def test_an_empty_part_is_warned_about(
    cmgems: CommandLine, share: str, part: str, fasta: Path, tmp_path: Path
) -> None:
    done = cmgems("prepare-genome", fasta, "--out", tmp_path / "a", "--valid-share", share, "--quiet")
    assert (
        done.stderr
        == f"warning: no sequence is left for {part}; give more sequence or another --valid-share\n"
    )


def test_the_workspace_says_where_to_write(
    cmgems: CommandLine, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path / "work"))
    cmgems("prepare-genome", fasta)
    assert Corpus.open(tmp_path / "work" / "corpus").k == 6


def test_a_finished_corpus_is_only_replaced_when_told_to(
    cmgems: CommandLine, fasta: Path, tmp_path: Path
) -> None:
    out = tmp_path / "corpus"
    cmgems("prepare-genome", fasta, "--out", out)
    before = read_manifest(out).digest
    cmgems("prepare-genome", fasta, "--out", out, "--seed", "7", code=4)
    (tmp_path / "bad.fa").write_text("nothing")
    cmgems("prepare-genome", tmp_path / "bad.fa", "--out", out, "--overwrite", code=3)
    assert read_manifest(out, verify=True).digest == before
    cmgems("prepare-genome", fasta, "--out", out, "--seed", "7", "--overwrite")
    assert read_manifest(out).digest != before


def test_an_interrupt_leaves_nothing(fasta: Path, tmp_path: Path) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_genome([fasta], tmp_path / "corpus", advance=interrupt)
    assert [entry.name for entry in tmp_path.iterdir()] == ["g.fa"]


def test_progress_adds_up_to_the_files(fasta: Path, tmp_path: Path) -> None:
    done: list[float] = []
    prepare_genome([fasta], tmp_path / "corpus", advance=done.append)
    assert sum(done) == fasta.stat().st_size


def test_a_dry_run_says_what_would_be_read_and_writes_nothing(
    cmgems: CommandLine, fasta: Path, tmp_path: Path
) -> None:
    done = cmgems("prepare-genome", fasta, "--out", tmp_path / "corpus", "--dry-run", "--json")
    result = done.json
    assert result["dry_run"] is True
    assert result["files"][0]["bytes"] == fasta.stat().st_size
    assert result["files"][0]["contigs"] == ["chr1", "chrX", "chrY"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["g.fa"]
    pyfaidx.Faidx(str(fasta)).close()
    assert plan([fasta], contigs="chrX,chrM").files[0].contigs == ["chrX", "chrM"]
    assert plan([fasta]).files[0].letters == 4000 + 2500 + 350 + 900 + 3 + 12 + 1 + 3
    cmgems("prepare-genome", fasta, "--contigs", "chr9", "--dry-run", code=3)
    cmgems("prepare-genome", fasta, fasta, "--dry-run", code=3)
    (tmp_path / "bad.fa").write_text("nothing")
    cmgems("prepare-genome", tmp_path / "bad.fa", "--dry-run", code=3)


def test_standard_input_gives_the_corpus_of_the_file(
    cmgems: CommandLine, fasta: Path, tmp_path: Path
) -> None:
    made = prepare_genome([fasta], tmp_path / "file")

    def piped(content: bytes, *options: object, code: int = 0) -> Result:
        # `FileIO(0)` reads the descriptor, which only a process or a replaced one has.
        with tempfile.TemporaryFile() as stream:
            stream.write(content)
            stream.seek(0)
            kept = os.dup(0)
            try:
                os.dup2(stream.fileno(), 0)
                return cmgems("prepare-genome", "-", "--json", *options, code=code)
            finally:
                os.dup2(kept, 0)
                os.close(kept)

    plain = fasta.read_bytes()
    out = ("--out", tmp_path / "piped")
    assert piped(plain, *out, "--dry-run").json["stats"] == made.stats
    assert not (tmp_path / "piped").exists()
    assert piped(plain, *out).json["digest"] == made.digest
    # Whether it is the same cannot be told before it is read.
    said = piped(plain, *out, code=4).error
    assert (
        f"was made from fasta_1 {made.inputs['fasta_1'][:12]}, this command has fasta_1 from a pipe" in said
    )
    other = piped(gzip.compress(plain), *out, "--overwrite").json
    assert (other["stats"], other["digest"] == made.digest) == (made.stats, False)
    bases = genome()["chrX"]
    mouse = "".join(f">{name}\n{bases[number:]}\n" for number, name in enumerate(("MT", "1", "2", "23")))
    said = piped(mouse.encode(), "--out", tmp_path / "x", code=3).error
    assert "give --contigs all or --contigs NAME,…, since a pipe cannot be read twice" in said
    assert "named twice" in cmgems("prepare-genome", "-", "-", "--out", tmp_path / "x", code=2).error


@pytest.mark.soak
@pytest.mark.subprocess
def test_whole_chromosome_20(shared_data: Path, tmp_path: Path) -> None:
    # Through a small process in between: a child of this one would be charged with this one's peak memory.
    between = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-m", "cmgems_cli", "prepare-genome", str(shared_data / "hs37_chr20.fa.gz")]
    done = subprocess.run(
        [sys.executable, "-c", between, *command, "--out", str(tmp_path / "corpus"), "--json", "--quiet"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment(),
    )
    summary, peak = done.stdout.splitlines()
    stats = json.loads(summary)["stats"]
    assert stats["bases"] == 59_505_520
    assert stats["letters"] == 63_025_520
    assert (stats["runs"], stats["contigs"], stats["dropped_n"]) == (6, 1, 3_520_000)
    assert int(peak) * (1 if sys.platform == "darwin" else 1024) < 600e6


def test_soft_masked_human_sequence_counts_as_sequence(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "hg38_chr2_1-2333275.fa.gz"
    (record,) = reference.read_records(gzip.decompress(source.read_bytes()))
    prepare_genome([source], tmp_path / "corpus", contigs="all")
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.manifest.stats["bases"] == sum(len(letters) for _, letters in record.runs)
    draw = random.Random(1)
    for _ in range(200):
        index = draw.randrange(corpus.n_train + corpus.n_valid)
        row = corpus.windows[index]
        (run,) = (
            run for run in corpus.runs if run["start"] <= row["start"] < run["start"] + run["length_bases"]
        )
        at = int(row["start"] - run["start"] + run["contig_start"])
        letters = record.letters[at : at + int(row["n_tokens"]) + 5]
        assert corpus.token_ids(np.array([index]))[0].tolist() == reference.token_ids(letters, 6)
