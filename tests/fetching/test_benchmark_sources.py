"""Benchmarks from a hub of our own, in their published layouts, to a table of scores."""

import json
import random
from pathlib import Path

import pytest

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.fetching import source_names
from cmgems_cli.fetching.sources import RECORD
from tests.command_line import CommandLine
from tests.fetching.server import COMMIT, Server


def fasta(rows: int, seed: int) -> bytes:
    """Labelled FASTA in which the sequences of class 1 have a word."""
    draw, lines = random.Random(seed), []
    for row in range(rows):
        bases = "".join(draw.choices("ACGT", k=34))
        lines.append(f">chr{row}:0-40|{row % 2}\n{'TATAAA' if row % 2 else 'CCCGGG'}{bases}\n")
    return "".join(lines).encode()


def test_what_can_be_fetched_is_named() -> None:
    assert source_names() == ("grch38", "gue", "genomic-benchmarks", "nt18", "dnabert6", "model")
    assert all(
        shipped(name).data_from == f"cmgems fetch {name}" for name in ("gue", "nt18", "genomic-benchmarks")
    )


def test_nt18_is_fetched_and_evaluated(
    cmgems: CommandLine, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path))
    tasks = [task.name for task in shipped("nt18").tasks if task.name != "H2AFZ"]
    files = {
        f"{task}/{split}.fna": fasta(40, n) for n, split in enumerate(("train", "test")) for task in tasks
    }
    others = {
        "README.md": b"#",
        "code.py": b"raise SystemExit",
        "enhancers/train.parquet": b"PAR1",
        "x/train.fna": b">",
    }
    server.add_repository(shipped("nt18").source.repository, "dataset", "main", {**files, **others})
    done = cmgems("fetch", "nt18", "--mirror", server.url)
    folder = tmp_path / "benchmarks" / "nt18"
    assert "the hub does not have H2AFZ: train" in done.stderr
    assert f"next: cmgems evaluate MODEL --bench nt18 --data {folder}" in done.stderr
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert here == {*files, RECORD}
    held = json.loads((folder / RECORD).read_text())
    assert (held["revision"], len(held["files"])) == (COMMIT, 34)
    asked = server.ask_count()
    assert "nothing had to be fetched" in cmgems("fetch", "nt18").stderr
    assert server.ask_count() == asked
    out = tmp_path / "scores"
    words = ("evaluate", "kmer-linear", "--bench", "nt18", "--tasks", "enhancers,H3K9me3", "--out", out)
    said = cmgems(*words).stderr
    assert "dev is 4 of train's 40 rows" in said
    run = read_manifest(out / "runs" / "enhancers-seed-42")
    assert (run.params["dev_fraction"], run.stats["n_train"], run.stats["n_dev"]) == (0.1, 36, 4)
    assert set(run.inputs) == {"train", "test"}
    # Finished runs are recognised by what their files are.
    assert "2 done before" in cmgems(*words, "--overwrite").stderr


def test_genomic_benchmarks_come_from_a_repository_each(
    cmgems: CommandLine, server: Server, tmp_path: Path
) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    from pyarrow import parquet

    path, draw = tmp_path / "x.parquet", random.Random(1)
    rows = [("".join(draw.choices("ACGT", k=40)) + "TATAAA" * (row % 2), row % 2) for row in range(40)]
    parquet.write_table(
        arrow.table({"seq": [seq for seq, _ in rows], "label": [label for _, label in rows]}), path
    )
    for task in shipped("genomic-benchmarks").tasks:
        name = f"katarinagresova/Genomic_Benchmarks_{task.name}"
        files = {f"data/{split}-00000-of-00001-d76.parquet": path.read_bytes() for split in ("train", "test")}
        server.add_repository(name, "dataset", "main", {"README.md": b"#", **files})
    out = tmp_path / "genomic-benchmarks"
    done = cmgems("fetch", "genomic-benchmarks", "--mirror", server.url, "--out", out, "--json")
    assert (done.json["files"], done.json["revision"]) == (18, None)
    assert "and 8 more" in done.json["source"]
    assert (out / "human_ocr_ensembl" / "test.parquet").read_bytes() == path.read_bytes()
    held = json.loads((out / RECORD).read_text())
    assert all(COMMIT in entry["url"] for entry in held["files"].values())
    words = ("evaluate", "kmer-linear", "--bench", "genomic-benchmarks", "--tasks", "human_ocr_ensembl")
    assert "human_ocr_ensembl" in cmgems(*words, "--data", out, "--out", tmp_path / "scores").stdout


def test_a_hub_that_has_other_files_says_so(cmgems: CommandLine, server: Server, tmp_path: Path) -> None:
    server.add_repository(shipped("nt18").source.repository, "dataset", "main", {"data.csv": b"x"})
    error = cmgems("fetch", "nt18", "--mirror", server.url, "--out", tmp_path / "x", code=1).error
    assert "has none of its files; update cmgems" in error
