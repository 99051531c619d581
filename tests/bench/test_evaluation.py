"""Whole evaluations of the tiny model on small data: grids, shards, going on, merging, and what is refused."""

import csv
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.bench.grids import Cell, Grid, parse_numbers, parse_shard
from cmgems_cli.cli import app
from cmgems_cli.datasets.task_rows import FoundTask
from cmgems_cli.datasets.tasks import gue_task
from cmgems_cli.errors import UsageError
from cmgems_cli.modeling.folder import load_masked_lm, save_model
from cmgems_cli.modeling.model_source import ModelSource

REPOSITORY = Path(__file__).resolve().parents[2]


def table(path: Path, count: int, seed: int, *, bases: int = 30, separator: str = ",") -> None:
    """Write `count` random sequences, every second of class 1."""
    draw = random.Random(seed)
    lines = [f"sequence{separator}label"]
    lines += [f"{''.join(draw.choices('ACGT', k=bases))}{separator}{row % 2}" for row in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def gue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GUE folder with tf/0 and mouse/0, a few rows each; EMP/H3 lacks its train split."""
    root = tmp_path_factory.mktemp("data") / "GUE"
    for place, task in enumerate(("tf/0", "mouse/0")):
        for split, count in (("train", 40), ("dev", 12), ("test", 16)):
            table(root / task / f"{split}.csv", count, 100 * place + count)
    table(root / "EMP" / "H3" / "dev.csv", 4, 1)
    table(root / "EMP" / "H3" / "test.csv", 4, 1)
    return root


TWO_BY_TWO = ["--tasks", "tf/0,mouse/0", "--seeds", "42-43", "--max-steps", "3"]


def command(*arguments: str | Path) -> tuple[int, str, str]:
    words = [
        "evaluate",
        "tiny",
        "--precision",
        "fp32",
        "--device",
        "cpu",
        "--jobs",
        "1",
        *map(str, arguments),
    ]
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.stdout, result.stderr


def evaluate(*arguments: str | Path) -> str:
    code, out, err = command(*arguments)
    assert code == 0, err
    return out


@pytest.fixture(scope="module")
def whole(gue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of two tasks with two seeds, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "scores"
    evaluate("--data", gue, *TWO_BY_TWO, "--out", out)
    return out


def bytes_of(out: Path) -> tuple[bytes, bytes, str]:
    return (
        (out / "scores.csv").read_bytes(),
        (out / "report.md").read_bytes(),
        read_manifest(out, "scores", verify=True).digest,
    )


# --- what is written


def test_scores_hold_every_metric_of_every_task_and_seed(whole: Path) -> None:
    with (whole / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["task"], row["seed"], row["metric"]) for row in rows} == {
        (task, seed, metric)
        for task in ("tf/0", "mouse/0")
        for seed in ("42", "43")
        for metric in ("mcc", "accuracy", "f1")
    }
    assert {(row["bench"], row["model"], row["n_train"], row["n_test"]) for row in rows} == {
        ("gue", "tiny", "40", "16")
    }
    assert {row["species"] for row in rows if row["task"] == "mouse/0"} == {"mouse"}
    # Where the counts differ from the published ones, every row says so.
    assert all("train has 40 rows, published are" in row["note"] for row in rows)


def test_a_run_is_an_artifact_whose_predictions_give_its_scores(whole: Path) -> None:
    run = whole / "runs" / "tf-0-seed-42"
    manifest = read_manifest(run, "scores", verify=True)
    with (run / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert manifest.stats["accuracy"] == right / 16
    # The weights are not kept: a grid of them would fill a disk.
    assert not list(run.glob("*.safetensors"))
    assert not (run / "checkpoints").exists()


def test_the_artifact_names_its_runs_and_how_they_differ_from_the_recipe(whole: Path) -> None:
    manifest = read_manifest(whole, "scores")
    runs = {f"runs/{task}-seed-{seed}" for task in ("tf-0", "mouse-0") for seed in (42, 43)}
    assert set(manifest.inputs) == runs
    assert all(
        read_manifest(whole / name, "scores").digest == digest for name, digest in manifest.inputs.items()
    )
    assert manifest.params["max_steps"] == 3
    assert "Not the published recipe: max_steps 3." in (whole / "report.md").read_text()
    assert (manifest.stats["runs"], manifest.stats["tasks"]) == (4, 2)


def test_a_seed_and_task_are_what_finetune_gives(gue: Path, whole: Path, tmp_path: Path) -> None:
    words = ["finetune", "tiny", str(gue / "tf" / "0"), "--seed", "43", "--max-steps", "3"]
    fixed = ["--precision", "fp32", "--device", "cpu", "--out", str(tmp_path / "alone")]
    assert CliRunner().invoke(app, [*words, *fixed]).exit_code == 0
    run = whole / "runs" / "tf-0-seed-43"
    assert (tmp_path / "alone" / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()


def test_tasks_without_data_are_listed_and_left_out(gue: Path, tmp_path: Path) -> None:
    tasks = ["--tasks", "mouse/0,EMP/H3,tf/4", "--max-steps", "2"]
    code, _, err = command("--data", gue, *tasks, "--out", tmp_path / "out")
    assert code == 0
    assert "no data for 2 of the tasks, which are left out: EMP/H3, tf/4" in err
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Not run, EMP/H3: no train.csv." in report
    assert read_manifest(tmp_path / "out").stats["missing_tasks"] == ["EMP/H3", "tf/4"]


# --- going on, sharing, replacing


def test_a_missing_run_is_made_again_and_the_rest_is_kept(gue: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate("--data", gue, *TWO_BY_TWO, "--out", out, "--shard", "1/2")
    assert not (out / "manifest.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/manifest.json")}
    assert len(kept) == 2
    evaluate("--data", gue, *TWO_BY_TWO, "--out", out)
    assert bytes_of(out) == bytes_of(whole)
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())


def test_two_shards_in_any_order_give_the_same_bytes(gue: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluate("--data", gue, *TWO_BY_TWO, "--out", out, "--shard", "2/2")
    said = json.loads(evaluate("--data", gue, *TWO_BY_TWO, "--out", out, "--shard", "2/2", "--json"))
    assert said == {"kind": "scores", "runs": 4, "runs_done": 2, "out": str(out)}
    evaluate("--data", gue, *TWO_BY_TWO, "--out", out, "--shard", "1/2")
    assert bytes_of(out) == bytes_of(whole)


def process(*arguments: str | Path, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    words = ["evaluate", "tiny", "--precision", "fp32", "--device", "cpu", *map(str, arguments)]
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "cmgems_cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_evaluation_goes_on_to_the_same_bytes(
    gue: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    # Long enough for the signal to come within a run.
    options = ["--data", gue, "--tasks", "tf/0,mouse/0", "--epochs", "40", "--seeds", "42"]
    evaluate(*options, "--out", tmp_path / "straight")
    running = process(*options, "--out", tmp_path / "stopped")
    log = tmp_path / "stopped" / "runs" / "tf-0-seed-42" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(number)
    _, err = running.communicate(timeout=120)
    assert running.returncode == code, err
    assert not (tmp_path / "stopped" / "manifest.json").exists()
    evaluate(*options, "--out", tmp_path / "stopped")
    assert bytes_of(tmp_path / "stopped") == bytes_of(tmp_path / "straight")


def test_two_torchrun_processes_find_the_same_scores(gue: Path, whole: Path, tmp_path: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    running = process("--data", gue, *TWO_BY_TWO, "--out", tmp_path / "two", launcher=launcher)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert (tmp_path / "two" / "scores.csv").read_bytes() == (whole / "scores.csv").read_bytes()


def test_finished_scores_are_not_overwritten_but_may_grow(gue: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--data", gue, "--tasks", "tf/0", "--max-steps", "2", "--out", out]
    evaluate(*options, "--seeds", "42")
    code, _, err = command(*options, "--seeds", "42,43")
    assert (code, err.count("\n")) == (4, 1)
    assert "add --overwrite to make it again from the runs that fit" in " ".join(err.split())
    first = (out / "runs" / "tf-0-seed-42" / "manifest.json").stat().st_mtime_ns
    evaluate(*options, "--seeds", "42,43", "--overwrite")
    assert read_manifest(out, "scores", verify=True).params["seeds"] == [42, 43]
    assert (out / "runs" / "tf-0-seed-42" / "manifest.json").stat().st_mtime_ns == first


def test_runs_made_otherwise_are_refused_or_replaced(gue: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--data", gue, "--tasks", "tf/0,mouse/0", "--out", out]
    evaluate(*options, "--max-steps", "2", "--shard", "1/2")
    code, _, err = command(*options, "--max-steps", "3")
    assert (code, err.count("error:")) == (2, 1)
    assert "was made with max_steps = 2, this evaluation has 3" in err
    evaluate(*options, "--max-steps", "3", "--overwrite")
    assert read_manifest(out / "runs" / "tf-0-seed-42").params["max_steps"] == 3


def test_runs_of_another_shard_made_otherwise_are_never_merged(gue: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--data", gue, "--tasks", "tf/0,mouse/0", "--out", out]
    evaluate(*options, "--max-steps", "2", "--shard", "1/2")
    code, _, err = command(*options, "--max-steps", "3", "--shard", "2/2")
    assert (code, err.count("error:")) == (2, 1)
    assert "was made with max_steps = 2, this evaluation has 3" in err
    assert not (out / "manifest.json").exists()
    # Its own run is kept; to be replaced by the other shard, that of other options is no run of this evaluation.
    said = json.loads(evaluate(*options, "--max-steps", "3", "--shard", "2/2", "--overwrite", "--json"))
    assert (said["runs"], said["runs_done"]) == (2, 1)
    assert not (out / "manifest.json").exists()
    evaluate(*options, "--max-steps", "3", "--shard", "1/2", "--overwrite")
    assert read_manifest(out).params["max_steps"] == 3
    # A finished evaluation whose runs are replaced one shard at a time: unfinished, or of one kind.
    evaluate(*options, "--max-steps", "4", "--shard", "1/2", "--overwrite")
    made = {read_manifest(path).params["max_steps"] for path in (out / "runs").iterdir()}
    assert made == {3, 4}
    assert not (out / "manifest.json").exists()


def test_runs_of_another_precision_are_kept_and_said_to_be(gue: Path, tmp_path: Path) -> None:
    options = ["--data", gue, "--tasks", "tf/0", "--max-steps", "2", "--out", tmp_path / "out"]
    evaluate(*options, "--precision", "bf16")
    code, _, err = command(*options, "--seeds", "42-43", "--overwrite")
    assert code == 0
    assert "some were computed in bf16 before, now it is fp32; --no-resume computes them again" in err
    assert read_manifest(tmp_path / "out").environment["precision"] == "bf16, fp32"


def test_a_folder_of_other_things_is_left_alone(gue: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = command("--data", gue, *TWO_BY_TWO, "--out", tmp_path, "--overwrite")
    assert code == 4
    assert "is not an unfinished evaluation" in err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# --- refusals and plans


def test_a_fault_in_the_last_task_is_found_before_the_first_is_run(gue: Path, tmp_path: Path) -> None:
    root = tmp_path / "GUE"
    for split in ("train", "dev", "test"):
        table(root / "tf" / "0" / f"{split}.csv", 8, 1)
        table(root / "mouse" / "0" / f"{split}.csv", 8, 1)
    (root / "mouse" / "0" / "test.csv").write_text("sequence,label\nACGTACGTACGT,7\n")
    code, out, err = command("--data", root, "--tasks", "tf/0,mouse/0", "--out", tmp_path / "out")
    assert (code, out) == (3, "")
    assert "the test split has the label 7, unseen in train" in err.replace("'", "")
    assert not (tmp_path / "out").exists()


def test_no_data_at_all_is_one_line(tmp_path: Path) -> None:
    code, _, err = command("--data", tmp_path / "nowhere")
    assert (code, err.count("\n")) == (3, 1)
    (tmp_path / "GUE").mkdir()
    code, _, err = command("--data", tmp_path / "GUE")
    assert (code, err.count("\n")) == (3, 1)
    assert "has the data of none of the 27 tasks wanted" in err


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "1/", "a/b", "1/0", "-1/2"])
def test_odd_shards_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        parse_shard(text)


@pytest.mark.parametrize("text", ["", "a", "5-3", "1,,2", "-1", "1-", "1.5"])
def test_odd_lists_of_numbers_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        parse_numbers("--seeds", text, least=0)


def test_shots_of_gue_are_refused(gue: Path) -> None:
    code, _, err = command("--data", gue, "--shots", "10")
    assert code == 2
    assert "--shots belongs to --bench fewshot" in err


def test_a_dry_run_plans_and_writes_nothing(gue: Path, tmp_path: Path) -> None:
    said = evaluate("--data", gue, *TWO_BY_TWO, "--out", tmp_path / "out", "--dry-run", "--json")
    plan = json.loads(said)["plan"]
    assert (plan["runs"], plan["runs_left"], plan["missing_tasks"]) == (4, 4, {})
    assert not (tmp_path / "out").exists()


@given(st.integers(1, 40), st.integers(1, 12))
def test_shards_share_all_runs_without_overlap(n_seeds: int, of: int) -> None:
    found = FoundTask({}, gue_task("tf/0"), None, "tf/0")
    grid = Grid("gue", tuple(Cell(found, seed) for seed in range(n_seeds)), {})
    shared = [cell for number in range(1, of + 1) for cell in grid.shard(number, of)]
    assert sorted(cell.seed for cell in shared) == list(range(n_seeds))
    sizes = [len(grid.shard(number, of)) for number in range(1, of + 1)]
    assert max(sizes) - min(sizes) <= 1


# --- baseline and few-shot


def test_a_baseline_stands_beside_and_among_the_inputs(gue: Path, whole: Path, tmp_path: Path) -> None:
    options = ["--data", gue, "--tasks", "tf/0", "--max-steps", "2"]
    evaluate(*options, "--baseline", whole, "--out", tmp_path / "out")
    assert "| random weights |" in (tmp_path / "out" / "report.md").read_text()
    assert read_manifest(tmp_path / "out").inputs["baseline"] == read_manifest(whole).digest


def test_a_baseline_of_another_recipe_is_noted_and_one_of_trained_weights_refused(
    gue: Path, whole: Path, tmp_path: Path
) -> None:
    options = ["--data", gue, "--tasks", "tf/0", "--max-steps", "2"]
    evaluate(*options, "--baseline", whole, "--out", tmp_path / "out")
    note = "The baseline was not made with the same recipe, but with max_steps 3."
    assert note in (tmp_path / "out" / "report.md").read_text()
    (tmp_path / "trained").mkdir()
    save_model(tmp_path / "trained", *load_masked_lm(ModelSource("tiny")))
    words = ["evaluate", tmp_path / "trained", *options, "--jobs", "1", "--out", tmp_path / "scores"]
    assert CliRunner().invoke(app, [*map(str, words)]).exit_code == 0
    code, _, err = command(*options, "--baseline", tmp_path / "scores", "--out", tmp_path / "other")
    assert code == 3
    assert "holds scores of trained, whose weights are not random; needed those of" in err


def test_the_workspaces_baseline_is_found(
    gue: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path))
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "tiny-random-gue").symlink_to(whole)
    evaluate("--data", gue, "--tasks", "tf/0", "--max-steps", "2")
    assert "baseline" in read_manifest(tmp_path / "scores" / "tiny-gue").inputs


@pytest.fixture
def fewshot(tmp_path: Path) -> Path:
    """A folder with one published dataset's name and one of one's own, pools of 12 rows a class."""
    root = tmp_path / "fewshot"
    for place, name in enumerate(("Prom-core", "mine")):
        table(root / name / "10" / "train.tsv", 24, place, separator="\t")
        table(root / name / "test.tsv", 9, 5 + place, separator="\t")
    return root


def test_few_shot_draws_are_ten_by_default_and_stand_beside_table_4(fewshot: Path, tmp_path: Path) -> None:
    options = ["--bench", "fewshot", "--data", fewshot, "--tasks", "prom-core", "--max-steps", "2"]
    code, out, err = command(*options, "--out", tmp_path / "out")
    assert code == 0, err
    assert "no data for 1 of the tasks, which are left out: prom-core, 50 shots" in err
    manifest = read_manifest(tmp_path / "out", "scores")
    assert manifest.params["seeds"] == list(range(42, 52))
    assert (manifest.params["shots"], manifest.stats["runs"]) == ([10], 10)
    # paper, Table 4: DNABERT with 10 shots of prom-core.
    assert "0.606 ± 0.045" in out
    with (tmp_path / "out" / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["shots"], row["n_train"], row["n_test"]) for row in rows} == {("10", "20", "9")}


def test_few_shot_data_of_ones_own_are_taken_by_the_folders_name(fewshot: Path, tmp_path: Path) -> None:
    options = ["--bench", "fewshot", "--data", fewshot, "--tasks", "mine", "--shots", "10", "--seeds", "1,2"]
    evaluate(*options, "--max-steps", "2", "--out", tmp_path / "out")
    assert read_manifest(tmp_path / "out").params["tasks"] == ["mine"]
    code, _, err = command("--bench", "fewshot", "--data", fewshot, "--tasks", "yours")
    assert code == 2
    assert "'yours' is not a few-shot dataset" in err
