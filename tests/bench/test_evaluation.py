"""Whole evaluations of the tiny model on small data: grids, shards, going on, merging, and what is refused."""

import contextlib
import csv
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.comparing.evaluated_runs import linear_scores
from cmgems_cli.comparing.scores import read_scores
from cmgems_cli.metrics import METRICS
from cmgems_cli.modeling.folder import save_model
from cmgems_cli.modeling.masked_lm import load_masked_lm
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.staging import write_marker
from tests.bench.conftest import write_table
from tests.command_line import CommandLine, torchrun, wait_until
from tests.kills import Kill, Killed

TWO_BY_TWO = ["--tasks", "tf/0,mouse/0", "--seeds", "42-43", "--max-steps", "3"]


@pytest.fixture(scope="session")
def evaluate(evaluate_tiny: CommandLine) -> CommandLine:
    """One run at a time, in this process."""
    return evaluate_tiny.of("--jobs", "1")


@pytest.fixture(scope="module")
def whole(evaluate: CommandLine, gue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def made_with(out: Path) -> set[int]:
    return {read_manifest(run, verify=True).params["max_steps"] for run in (out / "runs").glob("*-seed-*")}


# --- what is written


def test_scores_hold_every_metric_of_every_task_and_seed(whole: Path) -> None:
    with (whole / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["task"], row["seed"], row["metric"]) for row in rows} == {
        (task, seed, metric)
        for task in ("tf/0", "mouse/0")
        for seed in ("42", "43")
        for metric in ("mcc", "accuracy", "f1", "balanced_accuracy", "auroc", "auprc", "brier", "ece")
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


@pytest.mark.parametrize("name", ["scores.csv", "predictions.csv", "metrics.jsonl", "manifest.json"])
def test_s5_a_damaged_run_below_an_evaluation_is_noticed(
    cmgems: CommandLine, whole: Path, tmp_path: Path, name: str
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "scores"))
    assert "verified: 22 files" in cmgems("info", out, "--verify").stdout
    path = out / "runs" / "tf-0-seed-42" / name
    content = bytearray(path.read_bytes())
    content[content.index(b"0")] ^= 1
    path.write_bytes(content)
    assert "tf-0-seed-42" in cmgems("info", out, "--verify", code=3).error


def test_r2_what_a_kill_left_in_finished_runs_and_beside_them_is_removed(
    evaluate: CommandLine, gue: Path, whole: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "scores"))
    run = out / "runs" / "tf-0-seed-42"
    manifest = read_manifest(run)
    (run / "checkpoints" / "step_000003").mkdir(parents=True)
    write_marker(run, "scores", manifest.params, manifest.inputs)
    (out.parent / ".scores.lock").write_text("")
    (run.parent / f".{run.name}.lock").write_text("")
    evaluate("--data", gue, *TWO_BY_TWO, "--out", out)
    names = [sorted(path.relative_to(root) for path in root.rglob("*")) for root in (whole, out)]
    assert names[0] == names[1]
    assert [path.name for path in tmp_path.iterdir()] == ["scores"]


def test_r1_an_evaluation_killed_while_it_marks_its_folder_can_be_repeated(
    evaluate: CommandLine, gue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, words = tmp_path / "scores", ["--tasks", "tf/0", "--seeds", "42", "--max-steps", "2"]
    kill = Kill(monkeypatch.setattr)
    for at in range(12):
        kill.arm(at)
        with contextlib.suppress(Killed):
            evaluate("--data", gue, *words, "--out", out)
        kill.arm(-1)
        assert evaluate("--data", gue, *words, "--out", out, "--dry-run").stderr
    evaluate("--data", gue, *words, "--out", out)
    assert [path.name for path in tmp_path.iterdir()] == ["scores"]


def test_a_seed_and_task_are_what_finetune_gives(
    cmgems: CommandLine, gue: Path, whole: Path, tmp_path: Path
) -> None:
    words = ["finetune", "tiny", str(gue / "tf" / "0"), "--seed", "43", "--max-steps", "3"]
    fixed = ["--precision", "fp32", "--device", "cpu", "--out", str(tmp_path / "alone")]
    cmgems(*words, *fixed)
    run = whole / "runs" / "tf-0-seed-43"
    assert (tmp_path / "alone" / "predictions.csv").read_bytes() == (run / "predictions.csv").read_bytes()


def test_tasks_without_data_are_listed_and_left_out(evaluate: CommandLine, gue: Path, tmp_path: Path) -> None:
    tasks = ["--tasks", "mouse/0,EMP/H3,tf/4", "--max-steps", "2"]
    done = evaluate("--data", gue, *tasks, "--out", tmp_path / "out")
    assert "no data for 2 of the tasks, which are left out: EMP/H3, tf/4" in done.stderr
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Not run, EMP/H3: no train.csv." in report
    assert read_manifest(tmp_path / "out").stats["missing_tasks"] == ["EMP/H3", "tf/4"]


# --- going on, sharing, replacing


def test_a_missing_run_is_made_again_and_the_rest_is_kept(
    evaluate: CommandLine, gue: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    evaluate("--data", gue, *TWO_BY_TWO, "--out", out, "--shard", "1/2")
    assert not (out / "manifest.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/manifest.json")}
    assert len(kept) == 2
    evaluate("--data", gue, *TWO_BY_TWO, "--out", out)
    assert bytes_of(out) == bytes_of(whole)
    assert all(path.stat().st_mtime_ns == before for path, before in kept.items())


def test_two_shards_in_any_order_give_the_same_bytes(
    evaluate: CommandLine, gue: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    evaluate("--data", gue, *TWO_BY_TWO, "--out", out, "--shard", "2/2")
    said = evaluate("--data", gue, *TWO_BY_TWO, "--out", out, "--shard", "2/2", "--json").json
    assert said == {"kind": "scores", "runs": 4, "runs_done": 2, "out": str(out)}
    evaluate("--data", gue, *TWO_BY_TWO, "--out", out, "--shard", "1/2")
    assert bytes_of(out) == bytes_of(whole)


@pytest.mark.subprocess
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_evaluation_goes_on_to_the_same_bytes(
    evaluate: CommandLine, gue: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    # Long enough for the signal to come within a run.
    options = ["--data", gue, "--tasks", "tf/0,mouse/0", "--epochs", "40", "--seeds", "42"]
    evaluate(*options, "--out", tmp_path / "straight")
    running = evaluate.start(*options, "--out", tmp_path / "stopped")
    log = tmp_path / "stopped" / "runs" / "tf-0-seed-42" / "metrics.jsonl"
    wait_until(lambda: log.exists() and log.stat().st_size, running)
    running.send_signal(number)
    evaluate.finish(running, code=code)
    assert not (tmp_path / "stopped" / "manifest.json").exists()
    evaluate(*options, "--out", tmp_path / "stopped")
    assert bytes_of(tmp_path / "stopped") == bytes_of(tmp_path / "straight")


@pytest.mark.subprocess
def test_two_torchrun_processes_find_the_same_scores(
    evaluate_tiny: CommandLine, gue: Path, whole: Path, tmp_path: Path
) -> None:
    words = ("--data", gue, *TWO_BY_TWO, "--kmer-linear")
    evaluate_tiny.process(*words, "--out", tmp_path / "two", launcher=torchrun(2))
    # Of one process only, for each task and seed.
    assert len({(score.task, score.seed) for score in linear_scores(tmp_path / "two")}) == 4
    two, one = (read_scores(folder / "scores.csv") for folder in (tmp_path / "two", whole))
    assert [replace(score, value=0) for score in two] == [replace(score, value=0) for score in one]
    # Probabilities differ by rounding.
    assert [score.value for score in two] == pytest.approx([score.value for score in one], rel=1e-5)
    exact = [
        [score for score in scores if not METRICS[score.metric].of_probabilities] for scores in (two, one)
    ]
    assert exact[0] == exact[1]


def test_finished_scores_are_not_overwritten_but_may_grow(
    evaluate: CommandLine, gue: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ["--data", gue, "--tasks", "tf/0", "--max-steps", "2", "--out", out]
    evaluate(*options, "--seeds", "42")
    done = evaluate(*options, "--seeds", "42,43", code=4)
    assert done.stderr.count("\n") == 1
    words = " ".join(done.stderr.split())
    assert "was made with seeds = [42], this command has [42, 43]; add --overwrite" in words
    merged = (out / "manifest.json").stat().st_mtime_ns
    assert "nothing to do" in evaluate(*options, "--seeds", "42").stderr
    assert (out / "manifest.json").stat().st_mtime_ns == merged
    # It says how long the run took, so that of a second run differs.
    first = (out / "runs" / "tf-0-seed-42" / "manifest.json").read_bytes()
    evaluate(*options, "--seeds", "42,43", "--overwrite")
    assert read_manifest(out, "scores", verify=True).params["seeds"] == [42, 43]
    assert (out / "runs" / "tf-0-seed-42" / "manifest.json").read_bytes() == first


def test_runs_made_otherwise_are_refused_or_replaced(
    evaluate: CommandLine, gue: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ["--data", gue, "--tasks", "tf/0,mouse/0", "--out", out]
    evaluate(*options, "--max-steps", "2", "--shard", "1/2")
    done = evaluate(*options, "--max-steps", "3", code=4)
    assert done.stderr.count("error:") == 1
    assert "was made with max_steps = 2, this command has 3" in done.stderr
    evaluate(*options, "--max-steps", "3", "--overwrite")
    assert read_manifest(out / "runs" / "tf-0-seed-42").params["max_steps"] == 3


def test_runs_of_another_shard_made_otherwise_are_never_merged(
    evaluate: CommandLine, gue: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ["--data", gue, "--tasks", "tf/0,mouse/0", "--out", out]
    evaluate(*options, "--max-steps", "2", "--shard", "1/2")
    done = evaluate(*options, "--max-steps", "3", "--shard", "2/2", code=4)
    assert done.stderr.count("error:") == 1
    assert "was made with max_steps = 2, this command has 3" in done.stderr
    assert not (out / "manifest.json").exists()
    # Its own run is kept; to be replaced by the other shard, that of other options is no run of this evaluation.
    said = evaluate(*options, "--max-steps", "3", "--shard", "2/2", "--overwrite", "--json").json
    assert (said["runs"], said["runs_done"]) == (2, 1)
    assert not (out / "manifest.json").exists()
    evaluate(*options, "--max-steps", "3", "--shard", "1/2", "--overwrite")
    assert read_manifest(out).params["max_steps"] == 3
    # Scores and runs stay until the new ones of every shard are complete; the old command finds its own.
    before = bytes_of(out)
    said = evaluate(*options, "--max-steps", "4", "--shard", "1/2", "--overwrite", "--json").json
    assert (said["runs"], said["runs_done"]) == (2, 1)
    assert (bytes_of(out), made_with(out)) == (before, {3})
    assert "nothing to do" in evaluate(*options, "--max-steps", "3").stderr
    evaluate(*options, "--max-steps", "4", "--shard", "2/2", "--overwrite")
    assert read_manifest(out, verify=True).params["max_steps"] == 4
    assert made_with(out) == {4}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_finished_evaluation_is_known_by_its_digests_and_changed_data_by_theirs(
    evaluate: CommandLine, gue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, out = tmp_path / "GUE", tmp_path / "out"
    shutil.copytree(gue, root)
    options = ["--data", root, "--tasks", "tf/0", "--max-steps", "2", "--out", out]
    evaluate(*options)
    with monkeypatch.context() as patched:
        patched.setattr("cmgems_cli.bench.build.load_task", None)
        assert "nothing to do" in evaluate(*options).stderr
    with (root / "tf" / "0" / "test.csv").open("a") as stream:
        stream.write("ACGTACGTACGT,1\n")
    done = evaluate(*options, code=4)
    assert "was made from test" in done.stderr


def test_runs_of_another_precision_are_kept_and_said_to_be(
    evaluate: CommandLine, gue: Path, tmp_path: Path
) -> None:
    options = ["--data", gue, "--tasks", "tf/0", "--max-steps", "2", "--out", tmp_path / "out"]
    evaluate(*options, "--precision", "bf16")
    done = evaluate(*options, "--seeds", "42-43", "--overwrite")
    assert "this evaluation uses fp32: --no-resume computes them again" in done.stderr
    assert read_manifest(tmp_path / "out").environment["precision"] == "bf16, fp32"


def test_a_folder_of_other_things_is_left_alone(evaluate: CommandLine, gue: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = evaluate("--data", gue, *TWO_BY_TWO, "--out", tmp_path, "--overwrite", code=4)
    assert "exists and is not a scores artifact" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


# --- refusals and plans


def test_a_fault_in_the_last_task_is_found_before_the_first_is_run(
    evaluate: CommandLine, gue: Path, tmp_path: Path
) -> None:
    root = tmp_path / "GUE"
    for split in ("train", "dev", "test"):
        write_table(root / "tf" / "0" / f"{split}.csv", 8, 1)
        write_table(root / "mouse" / "0" / f"{split}.csv", 8, 1)
    (root / "mouse" / "0" / "test.csv").write_text("sequence,label\nACGTACGTACGT,7\n")
    done = evaluate("--data", root, "--tasks", "tf/0,mouse/0", "--out", tmp_path / "out", code=3)
    assert done.stdout == ""
    assert "the test split has the label 7, unseen in train" in done.stderr.replace("'", "")
    assert not (tmp_path / "out").exists()


def test_no_data_at_all_is_one_line(evaluate: CommandLine, tmp_path: Path) -> None:
    done = evaluate("--data", tmp_path / "nowhere", code=3)
    assert done.stderr.count("\n") == 1
    (tmp_path / "GUE").mkdir()
    done = evaluate("--data", tmp_path / "GUE", code=3)
    assert done.stderr.count("\n") == 1
    assert "has the data of none of the 27 tasks wanted" in done.stderr


def test_a_dry_run_plans_and_writes_nothing(evaluate: CommandLine, gue: Path, tmp_path: Path) -> None:
    said = evaluate("--data", gue, *TWO_BY_TWO, "--out", tmp_path / "out", "--dry-run", "--json")
    plan = said.json["plan"]
    assert (plan["runs"], plan["runs_left"], plan["missing_tasks"]) == (4, 4, {})
    assert not (tmp_path / "out").exists()


# --- baseline and few-shot


def test_a_baseline_stands_beside_and_among_the_inputs(
    evaluate: CommandLine, gue: Path, whole: Path, tmp_path: Path
) -> None:
    options = ["--data", gue, "--tasks", "tf/0", "--max-steps", "2"]
    evaluate(*options, "--baseline", whole, "--out", tmp_path / "out")
    assert "| random weights |" in (tmp_path / "out" / "report.md").read_text()
    assert read_manifest(tmp_path / "out").inputs["baseline"] == read_manifest(whole).digest


def test_a_baseline_of_another_recipe_is_noted_and_one_of_trained_weights_refused(
    cmgems: CommandLine, evaluate: CommandLine, gue: Path, whole: Path, tmp_path: Path
) -> None:
    options = ["--data", gue, "--tasks", "tf/0", "--max-steps", "2"]
    evaluate(*options, "--baseline", whole, "--out", tmp_path / "out")
    note = "The baseline was not made with the same recipe, but with max_steps 3."
    assert note in (tmp_path / "out" / "report.md").read_text()
    (tmp_path / "trained").mkdir()
    save_model(tmp_path / "trained", *load_masked_lm(ModelSource("tiny")))
    words = ["evaluate", tmp_path / "trained", *options, "--jobs", "1", "--out", tmp_path / "scores"]
    cmgems(*words)
    done = evaluate(*options, "--baseline", tmp_path / "scores", "--out", tmp_path / "other", code=3)
    assert "holds scores of trained, whose weights are not random; needed those of" in done.stderr


def test_the_workspaces_baseline_is_found(
    evaluate: CommandLine, gue: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path))
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "tiny-random-gue").symlink_to(whole)
    evaluate("--data", gue, "--tasks", "tf/0", "--max-steps", "2")
    assert "baseline" in read_manifest(tmp_path / "scores" / "tiny-gue").inputs


def test_a_baseline_that_comes_later_to_the_workspace_is_said_and_added_on_demand(
    evaluate: CommandLine, gue: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path))
    options, out = ["--data", gue, "--tasks", "tf/0", "--max-steps", "2"], tmp_path / "scores" / "tiny-gue"
    evaluate(*options)
    run = (out / "runs" / "tf-0-seed-42" / "manifest.json").read_bytes()
    (tmp_path / "scores" / "tiny-random-gue").symlink_to(whole)
    again = evaluate(*options)
    assert "nothing to do" in again.stderr
    assert "--overwrite adds them, and repeats no run" in " ".join(again.stderr.split())
    assert "baseline" not in read_manifest(out).inputs
    evaluate(*options, "--overwrite")
    assert read_manifest(out).inputs["baseline"] == read_manifest(whole).digest
    assert (out / "runs" / "tf-0-seed-42" / "manifest.json").read_bytes() == run
    assert "made without" not in evaluate(*options).stderr
    # One that is asked for has to be among the inputs.
    (tmp_path / "scores" / "tiny-random-gue").unlink()
    evaluate(*options, "--out", tmp_path / "other")
    refused = evaluate(*options, "--out", tmp_path / "other", "--baseline", whole, code=4)
    assert "was made from no baseline" in refused.stderr


@pytest.fixture
def fewshot(tmp_path: Path) -> Path:
    """A folder with one published dataset's name and one of one's own, pools of 12 rows a class."""
    root = tmp_path / "fewshot"
    for place, name in enumerate(("Prom-core", "mine")):
        write_table(root / name / "10" / "train.tsv", 24, place, separator="\t")
        write_table(root / name / "test.tsv", 9, 5 + place, separator="\t")
    return root


def test_few_shot_draws_are_ten_by_default_and_stand_beside_table_4(
    evaluate: CommandLine, fewshot: Path, tmp_path: Path
) -> None:
    options = ["--bench", "fewshot", "--data", fewshot, "--tasks", "prom-core", "--max-steps", "2"]
    done = evaluate(*options, "--out", tmp_path / "out")
    assert "no data for 1 of the tasks, which are left out: prom-core, 50 shots" in done.stderr
    manifest = read_manifest(tmp_path / "out", "scores")
    assert manifest.params["seeds"] == list(range(42, 52))
    assert (manifest.params["shots"], manifest.stats["runs"]) == ([10], 10)
    # paper, Table 4: DNABERT with 10 shots of prom-core.
    assert "0.606 ± 0.045" in done.stdout
    with (tmp_path / "out" / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["shots"], row["n_train"], row["n_test"]) for row in rows} == {("10", "20", "9")}


def test_few_shot_data_of_ones_own_are_taken_by_the_folders_name(
    evaluate: CommandLine, fewshot: Path, tmp_path: Path
) -> None:
    options = ["--bench", "fewshot", "--data", fewshot, "--tasks", "mine", "--shots", "10", "--seeds", "1,2"]
    evaluate(*options, "--max-steps", "2", "--out", tmp_path / "out")
    assert read_manifest(tmp_path / "out").params["tasks"] == ["mine"]
    done = evaluate("--bench", "fewshot", "--data", fewshot, "--tasks", "yours", code=2)
    assert "'yours' is not a task of Few-shot" in done.stderr
