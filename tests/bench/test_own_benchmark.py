"""Benchmarks of one's own, from a folder and from a TOML file: text labels, several seeds, a baseline, a t-test."""

import csv
import random
from pathlib import Path

import pytest

from cmgems_cli.artifacts import read_manifest
from tests.command_line import CommandLine

LABELS = ("promoter", "other, distal")


def write_task(folder: Path, seed: int) -> None:
    """Write train.csv, dev.tsv and test.csv of 40-base sequences; promoters have TATAAA."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    for split, count in (("train.csv", 24), ("dev.tsv", 8), ("test.csv", 12)):
        with (folder / split).open("w", newline="") as stream:
            table = csv.writer(stream, delimiter="\t" if split.endswith("tsv") else ",")
            table.writerow(["sequence", "label"])
            for row in range(count):
                bases = "".join(draw.choices("ACGT", k=34))
                table.writerow([("TATAAA" if row % 2 else "CCCGGG") + bases, LABELS[row % 2 == 0]])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three task folders; names with `_` and capital letters."""
    root = tmp_path_factory.mktemp("own") / "My_bench"
    for seed, name in enumerate(("prom_text", "Enhancers", "nested/silencers")):
        write_task(root / name, seed)
    return root


@pytest.fixture(scope="session")
def evaluate(evaluate_tiny: CommandLine) -> CommandLine:
    return evaluate_tiny.of("--jobs", "1", "--max-steps", "2")


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_folder_of_task_folders_is_evaluated_and_tested_like_a_shipped_benchmark(
    evaluate: CommandLine, cmgems: CommandLine, data: Path, tmp_path: Path
) -> None:
    blank, out = tmp_path / "random", tmp_path / "scores"
    evaluate("--bench", data, "--seeds", "1,2", "--init", "random", "--out", blank)
    done = evaluate("--bench", data, "--seeds", "1,2", "--lr", "1e-2", "--baseline", blank, "--out", out)
    assert "random weights" in done.stdout
    rows = rows_of(out)
    assert {(row["bench"], row["task"], row["seed"]) for row in rows} == {
        ("My_bench", task, seed) for task in ("prom_text", "Enhancers", "nested/silencers") for seed in "12"
    }
    manifest = read_manifest(out, "scores", verify=True)
    assert (manifest.params["bench"], manifest.params["seeds"]) == ("My_bench", [1, 2])
    assert manifest.inputs["baseline"] == read_manifest(blank).digest
    run = read_manifest(out / "runs" / "nested-silencers-seed-2", "scores", verify=True)
    assert (run.params["bench"], run.params["task"], run.params["epochs"]) == (
        "My_bench",
        "nested/silencers",
        3,
    )
    with (out / "runs" / "prom_text-seed-1" / "predictions.csv").open() as stream:
        predictions = list(csv.DictReader(stream))
    assert {row["label"] for row in predictions} == set(LABELS)
    assert set(predictions[0]) == {"row", "label", "predicted", *(f"p_{label}" for label in LABELS)}
    tested = cmgems("ttest", blank, out, "--json").json
    assert (tested["n"], len(tested["rows"])) == (3, 2)


def test_a_toml_file_sets_tasks_recipes_seeds_and_the_metric(
    evaluate: CommandLine, cmgems: CommandLine, data: Path, tmp_path: Path
) -> None:
    bench = data.parent / "bench.toml"
    bench.write_text(
        'name = "promoters"\ntitle = "My promoters"\nmetric = "accuracy"\nseeds = [5, 6]\n'
        '[[task]]\nname = "text"\npath = "My_bench/prom_text"\ngroup = "human"\n'
        "recipe = { epochs = 7, lr = 1e-3 }\n"
        '[[task]]\nname = "enhancers"\npath = "My_bench/Enhancers"\n'
    )
    done = evaluate("--bench", bench, "--out", tmp_path / "one")
    assert "My promoters" in (tmp_path / "one" / "report.md").read_text()
    assert "accuracy" in done.stdout
    rows = rows_of(tmp_path / "one")
    assert {(row["bench"], row["task"], row["species"], row["seed"]) for row in rows} == {
        ("promoters", task, group, seed)
        for task, group in (("text", "human"), ("enhancers", ""))
        for seed in "56"
    }
    params = read_manifest(tmp_path / "one" / "runs" / "text-seed-5").params
    assert (params["epochs"], params["learning_rate"], params["task"]) == (7, 1e-3, "text")
    assert (params["title"], params["metric"]) == ("My promoters", "accuracy")
    evaluate("--bench", bench, "--init", "random", "--out", tmp_path / "two")
    tested = cmgems("ttest", tmp_path / "two", tmp_path / "one", "--metric", "accuracy", "--json").json
    assert tested["n"] == 2
    # What a comparison needs of the benchmark is in the scores, of a single run too.
    bench.unlink()
    run = tmp_path / "one" / "runs" / "text-seed-5"
    assert (
        cmgems("ttest", tmp_path / "two" / "runs" / "text-seed-5", run, "--json").json["metric"] == "accuracy"
    )
    assert cmgems("ttest", tmp_path / "two", tmp_path / "one", "--json").json["metric"] == "accuracy"
    cmgems("report", tmp_path / "two", tmp_path / "one", "--out", tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "## Scores: My promoters" in text
    assert "### Accuracy on the test split" in text
    assert "paper:" not in text
    # Paths are relative to --data if it is given.
    moved = data / "elsewhere.toml"
    moved.write_text('name = "moved"\n[[task]]\nname = "text"\npath = "prom_text"\n')
    (tmp_path / "moved.toml").write_text(moved.read_text())
    moved.unlink()
    evaluate("--bench", tmp_path / "moved.toml", "--data", data, "--out", tmp_path / "three")
    refused = evaluate("--bench", tmp_path / "moved.toml", "--out", tmp_path / "four", code=3)
    assert "has the data of no task wanted (text: no folder prom_text)" in refused.error


def test_shots_are_drawn_from_any_benchmark(evaluate: CommandLine, data: Path, tmp_path: Path) -> None:
    evaluate(
        "--bench", data, "--tasks", "prom_text", "--shots", "3,all", "--seeds", "1", "--out", tmp_path / "out"
    )
    rows = {(row["shots"], row["n_train"]) for row in rows_of(tmp_path / "out")}
    assert rows == {("3", "6"), ("", "24")}
    run = read_manifest(tmp_path / "out" / "runs" / "prom_text-3-seed-1")
    assert (run.params["epochs"], run.params["keeps"]) == (20, "last")


def test_mistakes_are_one_line(evaluate: CommandLine, data: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "out"]
    assert "did you mean gue?" in evaluate("--bench", "geu", *out, code=2).error
    refused = evaluate("--bench", data, "--tasks", "prom_txt", *out, code=2)
    assert "'prom_txt' is not a task of My_bench; close are: prom_text" in refused.error
    refused = evaluate("--bench", data, "--tasks", "../data/prom_text", *out, code=2)
    assert "'../data/prom_text' is not a task of My_bench" in refused.error
    (tmp_path / "bench.toml").write_text('name = "x"\nmetric = "aurox"\n[[task]]\nname = "a"\n')
    assert "the metric 'aurox'" in evaluate("--bench", tmp_path / "bench.toml", *out, code=3).error
    assert not (tmp_path / "out").exists()
