"""The stage and its command: what is written, what is refused, what is said."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.artifacts import read_manifest, sha256_of_file
from cmgems_cli.errors import InputError, OverwriteError, UsageError
from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.vocabulary import kmers
from cmgems_cli.pmi.ranking import KMERS_CSV, read_ranking
from cmgems_cli.pmi.scoring import score
from cmgems_cli.pmi.stage import build_pmi
from cmgems_cli.pmi.tables import read_kmer_table
from tests.command_line import CommandLine
from tests.pmi.packing import random_dna, slow_orders, write_corpus

SEQUENCES = [random_dna(1, 3_000), "ACGTACGTACGT" * 20, "AC", random_dna(2, 500)]


@pytest.fixture
def run(cmgems: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Run `cmgems build-pmi` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CMGEMS_WORKSPACE", raising=False)
    return cmgems.of("build-pmi")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "cmgems-work" / "corpus", SEQUENCES, 4)


@pytest.mark.parametrize("definition", ["paper", "released"])
def test_artifact_of_a_corpus(tmp_path: Path, corpus: Path, definition: str) -> None:
    opened = Corpus.open(corpus)
    manifest = build_pmi(opened, tmp_path / "out", definition=definition, min_count=10)  # type: ignore[arg-type]
    orders = slow_orders(SEQUENCES, 4)
    ranked = int((orders[4] >= 10).sum())
    assert 2 <= ranked < 256
    assert manifest.params == {"k": 4, "definition": definition, "min_count": 10}
    assert manifest.inputs == {"corpus": opened.manifest.digest}
    assert manifest.stats == {
        "ranked": ranked, "unranked": 256 - ranked, "positions_counted": int(orders[4].sum()),
    }  # fmt: skip
    assert read_manifest(tmp_path / "out", "pmi", verify=True) == manifest
    pmi, npmi = score(orders, definition, min_count=10)  # type: ignore[arg-type]
    ranking = read_ranking(tmp_path / "out")
    np.testing.assert_array_equal(ranking.counts, orders[4])
    np.testing.assert_array_equal(ranking.pmi_nats, pmi)
    np.testing.assert_array_equal(ranking.npmi_nats, npmi)


def test_the_corpus_may_be_counted_for_another_k(tmp_path: Path, corpus: Path) -> None:
    manifest = build_pmi(Corpus.open(corpus), tmp_path / "out", k=3, min_count=10)
    assert manifest.params["k"] == 3
    np.testing.assert_array_equal(read_ranking(tmp_path / "out").counts, slow_orders(SEQUENCES, 3)[3])


def write_table(path: Path, sequence: str, k: int) -> Path:
    counts = Counter(sequence[at : at + k] for at in range(len(sequence) - k + 1))
    path.write_text("kmer,count\n" + "".join(f"{kmer},{count}\n" for kmer, count in counts.items()))
    return path


def test_artifact_of_a_table(tmp_path: Path) -> None:
    table = write_table(tmp_path / "counts.csv", SEQUENCES[0], 3)
    manifest = build_pmi(read_kmer_table(table), tmp_path / "out", min_count=5)
    assert manifest.inputs == {"counts": sha256_of_file(table)}
    assert manifest.stats["positions_counted"] == len(SEQUENCES[0]) - 2
    # Marginals: every order has the total of the 3-mers, the last base and pair of the sequence are missing.
    full = slow_orders([SEQUENCES[0]], 3)
    marginal = {3: full[3], 2: full[3].reshape(16, 4).sum(1), 1: full[3].reshape(4, 16).sum(1)}
    pmi, _ = score(marginal, "paper", min_count=5)
    np.testing.assert_array_equal(read_ranking(tmp_path / "out").pmi_nats, pmi)


def test_same_counts_same_digest_whatever_the_order_of_work(tmp_path: Path, corpus: Path) -> None:
    opened = Corpus.open(corpus)
    first = build_pmi(opened, tmp_path / "a", min_count=10)
    assert build_pmi(opened, tmp_path / "b", min_count=10).digest == first.digest
    assert build_pmi(opened, tmp_path / "c", min_count=11).digest != first.digest


def test_golden_digest_of_kmers_csv(tmp_path: Path) -> None:
    """Bytes that every machine must write: they change only with the method."""
    rows = "".join(f"{kmer},{100 + 37 * code * code % 1009}\n" for code, kmer in enumerate(kmers(3)))
    (tmp_path / "counts.csv").write_text(rows)
    build_pmi(read_kmer_table(tmp_path / "counts.csv"), tmp_path / "out")
    assert sha256_of_file(tmp_path / "out" / KMERS_CSV) == (
        "65eb9c8424b10648f837f0e6029f79421bd9cb1a1058ce624705467fca14f436"
    )


def test_refusals_of_the_stage(tmp_path: Path, corpus: Path) -> None:
    opened = Corpus.open(corpus)
    out = tmp_path / "out"
    wrong_options = [
        ({"k": 2}, "`k` is 2; needed 3 to 8"),
        ({"k": 9}, "`k` is 9; needed 3 to 8"),
        ({"min_count": 1}, "`min_count` is 1; needed 2 or more"),
        ({"definition": "both"}, "'both'"),
    ]
    for wrong, message in wrong_options:
        with pytest.raises(UsageError, match=message):
            build_pmi(opened, out, **wrong)  # type: ignore[arg-type]
    largest, second = sorted(slow_orders(SEQUENCES, 4)[4])[:-3:-1]
    with pytest.raises(InputError, match=f"largest count is {largest:,}: use `min_count={second}` or less"):
        build_pmi(opened, out, min_count=1_000_000)
    assert build_pmi(opened, out, min_count=int(second)).stats["ranked"] >= 2
    with pytest.raises(
        OverwriteError, match=r"was made with min_count = .*, this command has 101; add `overwrite"
    ):
        build_pmi(opened, out)
    assert not build_pmi(opened, out, min_count=int(second)).fresh


def test_sequences_without_a_kmer_that_repeats_are_refused(tmp_path: Path) -> None:
    for name, sequences in (("short", ["ACG", "TT"]), ("once", ["ACGTTGCAA"])):
        opened = Corpus.open(write_corpus(tmp_path / name, sequences, 5))
        with pytest.raises(InputError, match="use a larger corpus"):
            build_pmi(opened, tmp_path / "out", min_count=2)
    assert not (tmp_path / "out").exists()


def test_counts_of_no_sequence_are_refused(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("CCA,500\nCCC,300\n")
    with pytest.raises(InputError, match="CCA holds n-grams with which no 3-mer of the table starts"):
        build_pmi(read_kmer_table(tmp_path / "counts.csv"), tmp_path / "out")


def test_command_with_workspace_defaults(run: CommandLine, corpus: Path) -> None:
    result = run("--min-count", 10)
    with (corpus.parent / "pmi" / KMERS_CSV).open() as stream:
        rows = list(csv.DictReader(stream))
    ranked = [row for row in rows if row["rank"]]
    assert rows[0]["kmer"] in result.stdout
    assert ranked[9]["kmer"] in result.stdout
    assert ranked[-1]["kmer"] in result.stdout
    assert ranked[10]["kmer"] not in result.stdout.split("…")[0]
    assert f"{len(ranked)} ranked" in result.stdout
    assert "pmi written to cmgems-work/pmi" in result.stderr


def test_command_json_is_one_object(run: CommandLine, corpus: Path) -> None:
    result = run("--min-count", 10, "--json", "--quiet", "--out", "here")
    value = json.loads(result.stdout)
    manifest = read_manifest(Path("here"), "pmi")
    assert value["digest"] == manifest.digest
    assert value["stats"] == manifest.stats
    assert value["out"] == "here"
    assert result.stderr == ""


def test_command_from_counts_and_overwrite(run: CommandLine, tmp_path: Path) -> None:
    table = write_table(tmp_path / "counts.csv", SEQUENCES[0], 3)
    run("--from-counts", table, "--definition", "released", "--min-count", 5, "--k", 3)
    assert read_manifest(Path("cmgems-work/pmi"), "pmi").params["definition"] == "released"
    assert "--overwrite" in run("--from-counts", table, "--min-count", 5, code=4).error
    run("--from-counts", table, "--min-count", 5, "--overwrite")
    assert "holds 3-mers" in run("--from-counts", table, "--k", 4, "--out", "x", code=3).error
    assert not Path("x").exists()


def test_command_dry_run_writes_nothing(run: CommandLine, corpus: Path) -> None:
    plan = run("--dry-run", "--json").json
    assert plan["bases"] == sum(map(len, SEQUENCES))
    assert plan["k"] == 4
    assert "nothing was written" in run("--dry-run").stdout
    assert not (corpus.parent / "pmi").exists()


def test_command_warns_when_k_is_not_that_of_the_corpus(run: CommandLine, corpus: Path) -> None:
    assert "pretraining needs" in run("--k", 3, "--min-count", 10).stderr
    assert "pretraining needs" not in run("--k", 4, "--min-count", 10, "--overwrite").stderr


def test_command_refusals(run: CommandLine, corpus: Path, tmp_path: Path) -> None:
    assert "give one of them" in run(corpus, "--from-counts", "x.csv", code=2).error
    assert "cmgems prepare-genome" in run("elsewhere", code=3).error
    assert "is not a file" in run("--from-counts", "x.csv", code=3).error
    assert "--min-count is 1; needed 2 or more" in run("--min-count", 1, code=2).error
    assert "holds a corpus artifact" in run("--out", corpus, code=4).error
    assert "use --min-count" in run("--min-count", 10**6, "--quiet", code=3).error
    assert not (corpus.parent / "pmi").exists()
