"""The baseline kmer-linear: its counts, its choice on dev, and its place in evaluations."""

import csv
import json
import os
import random
import shutil
import tarfile
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.bench import jobs, kmer_linear
from cmgems_cli.bench.evaluation import Evaluation
from cmgems_cli.bench.grids import Cell
from cmgems_cli.bench.kmer_linear import K_GRID, KmerChoices, fit_kmer_linear, kmer_counts
from cmgems_cli.bench.linear_probe import C_GRID, LinearProbe, sample_rows
from cmgems_cli.comparing.scores import KMER_LINEAR, read_scores
from cmgems_cli.datasets.loaded_task import LoadedTask, load_task
from cmgems_cli.datasets.splits import read_table
from cmgems_cli.datasets.task_files import find_task
from cmgems_cli.genome.tokenization import OverlappingKmers
from cmgems_cli.genome.vocabulary import kmers
from cmgems_cli.metrics import score
from cmgems_cli.training.observer import Observer
from tests.bench.conftest import write_table
from tests.command_line import CommandLine

# An archive of GUE tasks, for a test on real data.
GUE = Path(os.environ.get("CMGEMS_GUE_ARCHIVE", "gue_subset.tar.xz"))
COMPLEMENT = str.maketrans("ACGT", "TGCA")


@pytest.mark.parametrize("merged", [False, True])
def test_counts_equal_those_of_a_slow_reference(tmp_path: Path, merged: bool) -> None:
    draw = random.Random(3)
    rows = ["".join(draw.choices("ACGTN", (9, 9, 9, 9, 1), k=draw.randrange(2, 60))) for _ in range(40)]
    path = tmp_path / "t.csv"
    path.write_text("sequence,label\n" + "".join(f"{row},{i % 2}\n" for i, row in enumerate(rows)))
    names = kmers(4)
    counts = kmer_counts(read_table(path, tokenization=OverlappingKmers(4)), 4, merged=merged).toarray()
    assert counts.dtype == np.float32
    for row, counted in zip(rows, counts, strict=True):
        expected: Counter[str] = Counter()
        for start in range(len(row) - 3):
            word = row[start : start + 4]
            if "N" not in word:
                other = word.translate(COMPLEMENT)[::-1]
                expected[min(word, other, key=names.index) if merged else word] += 1
        assert {names[code]: counted[code] for code in np.flatnonzero(counted)} == expected


def test_every_class_is_sampled_evenly() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    rows = sample_rows(labels, 20)
    assert len(rows) == 20
    assert np.bincount(labels[rows]).tolist() == [18, 2]


@pytest.fixture(scope="module")
def separable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task whose classes differ in one 5-mer, on either strand."""
    draw = random.Random(1)
    root = tmp_path_factory.mktemp("tasks") / "motif"
    for split, count in (("train", 300), ("dev", 80), ("test", 80)):
        lines = ["sequence,label"]
        for row in range(count):
            bases = draw.choices("ACGT", k=60)
            if row % 2:
                bases[20:27] = draw.choice(["TGACTCA", "TGAGTCA"])
            lines.append(f"{''.join(bases)},{row % 2}")
        root.mkdir(exist_ok=True)
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return root


def loaded(data: Path) -> LoadedTask:
    return load_task(
        find_task(data), {"max_tokens": 2**40}, tokenization=OverlappingKmers(4), positions=2**41
    )


def test_a_motif_is_found_and_the_choice_is_of_the_grid(separable: Path) -> None:
    task = loaded(separable)
    probe = fit_kmer_linear(task, KmerChoices())
    assert score(task.test.labels, probe.probabilities)["accuracy"] > 0.9
    assert probe.params["k"] in K_GRID
    assert probe.params["C"] in C_GRID
    assert probe.dev_loss is not None
    assert probe.dev_loss < 0.5
    # Fits at a time change nothing.
    again = fit_kmer_linear(task, KmerChoices())
    assert again.params == probe.params
    assert np.array_equal(again.probabilities, probe.probabilities)


def words_of(separable: Path) -> tuple[object, ...]:
    return ("--bench", separable.parent, "--tasks", "motif", "--device", "cpu", "--jobs", "1")


@pytest.fixture(scope="module")
def evaluated(cmgems: CommandLine, separable: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluations `with` kmer-linear and `without` it."""
    root = tmp_path_factory.mktemp("evaluated")
    evaluate = cmgems.of("evaluate", "tiny", *words_of(separable), "--max-steps", "2")
    evaluate("--out", root / "with")
    evaluate("--no-kmer-linear", "--out", root / "without")
    return root


def test_s5_a_damaged_run_of_kmer_linear_is_noticed(
    cmgems: CommandLine, evaluated: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(evaluated / "with", tmp_path / "scores"))
    cmgems("info", out, "--verify")
    path = sorted(out.glob("runs/kmer-linear/runs/*/per_class.csv"))[0]
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    assert path.parent.name in cmgems("info", out, "--verify", code=3).error


def test_evaluate_shows_kmer_linear_with_every_model(
    cmgems: CommandLine, separable: Path, evaluated: Path, tmp_path: Path
) -> None:
    words, out = words_of(separable), evaluated / "with"
    assert f"| {KMER_LINEAR} " in (out / "report.md").read_text()
    linear = out / "runs" / KMER_LINEAR
    manifest = read_manifest(out, "scores", verify=True)
    assert manifest.inputs[f"runs/{KMER_LINEAR}"] == read_manifest(linear, "scores").digest
    assert {score.model for score in read_scores(out / "scores.csv")} == {"tiny"}
    # Alone, far from the other one, it gives the same scores, and says what was chosen.
    alone = tmp_path / "alone"
    assert "were copied" not in cmgems("evaluate", KMER_LINEAR, *words, "--out", alone).stderr
    assert (alone / "scores.csv").read_bytes() == (linear / "scores.csv").read_bytes()
    run = read_manifest(alone / "runs" / "motif-seed-42", "scores", verify=True)
    assert {"k", "C", "strands_merged", "scaled", "dev_loss", "dev_mcc"} <= run.stats.keys()
    assert "chosen on dev" in (alone / "report.md").read_text()
    # Again there is nothing to do.
    assert "nothing to do" in cmgems("evaluate", KMER_LINEAR, *words, "--out", alone).stderr
    done = cmgems("evaluate", "tiny", *words, "--max-steps", "2", "--out", out)
    assert "nothing to do" in done.stderr


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[LoadedTask]:
    """The tasks that were fitted since the test began."""
    fitted: list[LoadedTask] = []

    def fit(task: LoadedTask, choices: KmerChoices) -> LinearProbe:
        fitted.append(task)
        return fit_kmer_linear(task, KmerChoices((4,), (False,), (True,)))

    monkeypatch.setattr(kmer_linear, "fit_kmer_linear", fit)
    return fitted


def run_here(
    evaluation: Evaluation, cells: Sequence[Cell], n_jobs: int, *, resume: bool, report: jobs.Report
) -> None:
    evaluation.run(cells, resume=resume, watch=lambda *run: nullcontext(Observer()))


def test_equal_runs_of_other_evaluations_are_copied(
    cmgems: CommandLine,
    separable: Path,
    tmp_path: Path,
    fits: list[LoadedTask],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["--bench", separable.parent, "--tasks", "motif", "--device", "cpu"]
    linear = cmgems.of("evaluate", KMER_LINEAR, *words)
    place = tmp_path / "scores"
    linear("--out", place / "one")
    assert len(fits) == 1
    said = linear("--out", place / "two").stderr
    assert f"1 finished runs of the same data and options were copied, the first from {place / 'one'}" in said
    assert len(fits) == 1
    assert read_manifest(place / "two", verify=True).digest == read_manifest(place / "one").digest
    # With a model, before its jobs, which are in this process here.
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "run_in_jobs", run_here)
        options = ("--max-steps", "1", "--seeds", "42-43", "--jobs", "2", "--out", place / "three")
        assert "1 finished runs" in cmgems("evaluate", "tiny", *words, *options).stderr
    assert len(fits) == 2
    copied = read_manifest(place / "three" / "runs" / KMER_LINEAR / "runs" / "motif-seed-42", verify=True)
    assert copied == read_manifest(place / "one" / "runs" / "motif-seed-42")
    # By shards, of whom the second finds both seeds in different evaluations; they are the workspace's.
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path))
    for shard in ("1/2", "2/2"):
        linear("--seeds", "42-43", "--shard", shard, "--out", tmp_path / "far" / "four")
    assert len(fits) == 2
    assert read_manifest(tmp_path / "far" / "four", verify=True).stats["runs"] == 2


@pytest.mark.parametrize("change", ["damage", "data", "versions", "no resume", "problem"])
def test_other_runs_are_not_copied(
    cmgems: CommandLine, separable: Path, tmp_path: Path, fits: list[LoadedTask], change: str
) -> None:
    data = shutil.copytree(separable.parent, tmp_path / "tasks")
    words = ["--bench", data, "--tasks", "motif", "--device", "cpu"]
    cmgems("evaluate", KMER_LINEAR, *words, "--out", tmp_path / "scores" / "one")
    run = tmp_path / "scores" / "one" / "runs" / "motif-seed-42"
    if change == "damage":
        table = run / "predictions.csv"
        table.write_text(table.read_text().replace(",0,", ",1,", 1))
    elif change == "data":
        with (data / "motif" / "test.csv").open("a") as stream:
            stream.write("ACGTACGTACGT,1\n")
    elif change == "versions":
        made = json.loads((run / "manifest.json").read_text())
        made["environment"]["versions"]["scikit-learn"] = "0.1"
        (run / "manifest.json").write_text(json.dumps(made))
    elif change == "no resume":
        words.append("--no-resume")
    else:
        words += ["--problem", "regression"]
    assert (
        "were copied"
        not in cmgems("evaluate", KMER_LINEAR, *words, "--out", tmp_path / "scores" / "two").stderr
    )
    assert len(fits) == 2


def test_a_report_without_it_says_so(evaluated: Path) -> None:
    assert "No kmer-linear" in (evaluated / "without" / "report.md").read_text()


def test_kmer_linear_takes_no_recipe(cmgems: CommandLine, separable: Path) -> None:
    done = cmgems("evaluate", KMER_LINEAR, "--bench", separable.parent, "--lr", "1e-3", code=2)
    assert "has no weights and no recipe" in done.error


def test_few_shots_have_fixed_choices(cmgems: CommandLine, tmp_path: Path) -> None:
    write_table(tmp_path / "data" / "own" / "train.csv", 60, 1)
    write_table(tmp_path / "data" / "own" / "test.csv", 20, 2)
    write_table(tmp_path / "data" / "own" / "dev.csv", 20, 3)
    words = ["--bench", tmp_path / "data", "--shots", "10", "--seeds", "1,2", "--out", tmp_path / "out"]
    cmgems("evaluate", KMER_LINEAR, *words)
    with (tmp_path / "out" / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["n_train"] for row in rows} == {"20"}
    assert all("fixed, since there is no dev split" in row["note"] for row in rows)


@pytest.mark.skipif(not GUE.exists(), reason="CMGEMS_GUE_ARCHIVE names no archive")
@pytest.mark.parametrize(
    ("name", "mcc", "within"), [("mouse/0", 52.8, 1), ("mouse/2", 78.1, 2), ("tf/2", 64.7, 2)]
)
def test_six_mers_reproduce_known_scores(tmp_path: Path, name: str, mcc: float, within: float) -> None:
    with tarfile.open(GUE) as archive:
        members = [one for one in archive.getmembers() if f"GUE/{name}/" in one.name]
        archive.extractall(tmp_path, members=members, filter="data")
    task = loaded(tmp_path / "GUE" / name)
    probe = fit_kmer_linear(task, KmerChoices((6,), (False,), (True,)))
    assert 100 * score(task.test.labels, probe.probabilities)["mcc"] == pytest.approx(mcc, abs=within)


def test_report_shows_it_next_to_the_models_or_says_how_to_get_it(
    cmgems: CommandLine, evaluated: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    cmgems("report", evaluated / "with", "--out", tmp_path / "one")
    text = (tmp_path / "one" / "report.md").read_text()
    header = next(line for line in text.splitlines() if line.startswith("| task"))
    assert "kmer-linear (1 run)" in header
    assert "No kmer-linear" not in text
    cmgems("report", evaluated / "without", "--out", tmp_path / "two")
    text = (tmp_path / "two" / "report.md").read_text()
    assert text.count("No kmer-linear: ") == 1
    assert "cmgems evaluate kmer-linear --bench BENCH" in text
