"""`cmgems ttest` of models that share one task: over its rows, and over seeds."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cmgems_cli.artifacts import finish_artifact, read_manifest
from cmgems_cli.comparing.evaluated_runs import linear_scores
from cmgems_cli.comparing.row_tests import mcnemar
from cmgems_cli.comparing.scores import Score, in_print, write_scores
from cmgems_cli.comparing.seed_tests import seed_test
from cmgems_cli.metrics import METRICS
from cmgems_cli.metrics import score as scores_of
from tests.command_line import CommandLine

N_ROWS = 120
NAMES = ("=no", "yes")
Predictions = tuple[np.ndarray, np.ndarray]


def predictions(right: float, seed: int = 0, n_rows: int = N_ROWS) -> Predictions:
    """Return labels, the same for every model, and the probability of class 1, right in about this fraction."""
    labels = np.random.default_rng(1).integers(0, 2, n_rows)
    draw = np.random.default_rng(100 + seed)
    towards = np.where(draw.random(n_rows) < right, labels, 1 - labels)
    return labels, np.round(0.5 + (towards - 0.5) * draw.uniform(0.1, 0.9, n_rows), 6)


def run_of(folder: Path, kind: str, rows: Predictions, *, seed: int, test: str, bench: str | None) -> Path:
    """Write a run with its predictions, as `finetune` or `evaluate` does."""
    labels, positive = rows
    folder.mkdir(parents=True)
    with (folder / "predictions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["row", "label", "predicted", *(f"p_{name}" for name in NAMES)])
        cells = ["'=no", "yes"]
        for row, (label, p) in enumerate(zip(labels.tolist(), positive.tolist(), strict=True)):
            writer.writerow([row, cells[label], cells[int(p > 0.5)], f"{1 - p:.6f}", f"{p:.6f}"])
    stats_ = {**scores_of(labels, np.stack([1 - positive, positive], 1)), "n_train": 9, "n_test": len(labels)}
    files = ["predictions.csv"]
    if kind == "scores":
        write_scores(
            folder / "scores.csv",
            [
                Score(bench or "", "own", "", None, seed, name, float(stats_[name]), 9, 9, folder.parts[-3])
                for name in METRICS
                if name in stats_
            ],
        )
        files.append("scores.csv")
    params = {"bench": bench, "task": "own" if bench else None, "shots": None, "seed": seed, "model": "tiny"}
    finish_artifact(
        folder, kind, params=params, inputs={"test": test}, stats=stats_, files=files, environment={}
    )
    return folder


def evaluation(folder: Path, right: float, seeds: list[int], *, test: str = "t" * 64, first: int = 0) -> Path:
    """Write an evaluation of one task with these seeds."""
    from cmgems_cli.comparing.scores import read_scores

    names = [f"runs/own-seed-{seed}" for seed in seeds]
    for name, seed in zip(names, seeds, strict=True):
        run_of(folder / name, "scores", predictions(right, first + seed), seed=seed, test=test, bench="mine")
    write_scores(
        folder / "scores.csv", [one for name in names for one in read_scores(folder / name / "scores.csv")]
    )
    params = {"bench": "mine", "title": "mine", "metric": "mcc", "model": folder.name}
    finish_artifact(
        folder,
        "scores",
        params=params,
        inputs={name: read_manifest(folder / name).digest for name in names},
        stats={},
        files=["scores.csv"],
        environment={},
    )
    return folder


def finetuned(folder: Path, right: float, *, seed: int = 42, test: str = "t" * 64, first: int = 0) -> Path:
    return run_of(folder, "classifier", predictions(right, first), seed=seed, test=test, bench=None)


@pytest.fixture(scope="module")
def ttest(cmgems: CommandLine) -> CommandLine:
    return cmgems.of("ttest")


def json_of(ttest: CommandLine, *words: object) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(ttest(*words, "--json").stdout)
    return value


def test_two_runs_of_finetune_are_compared_over_their_rows(ttest: CommandLine, tmp_path: Path) -> None:
    worse, better = finetuned(tmp_path / "worse", 0.6), finetuned(tmp_path / "better", 0.85, first=9)
    found = json_of(ttest, worse, better)
    assert (found["compared_over"], found["n"], found["reference"]) == (["rows"], 1, "better")
    row = found["rows"][0]["over_rows"]
    labels, p = predictions(0.6)
    _, q = predictions(0.85, 9)
    expected = mcnemar((p > 0.5) == labels, (q > 0.5) == labels)
    assert row["mcnemar"] == {**expected._asdict(), "holm_p": expected.p}
    assert row["mcnemar"]["p"] < 0.01
    mcc = METRICS["mcc"].compute
    assert row["difference"] == pytest.approx(100 * (mcc(labels, q > 0.5) - mcc(labels, p > 0.5)))
    assert row["interval_low"] < row["difference"] < row["interval_high"]
    assert row["delong"]["second"] > row["delong"]["first"]
    assert found["rows"][1]["over_rows"] is None
    assert found["rows"][0]["over_seeds"] is None
    done = ttest(worse, better)
    assert "one task in common, own task (test file tttttttt)" in done.stderr
    assert "over its 120 test rows (exact McNemar, paired bootstrap, DeLong for AUROC)" in done.stderr
    assert "not compared over seeds, which needs two runs or more of each" in done.stderr
    assert "McNemar p" in done.stdout


def test_evaluations_of_one_task_are_compared_over_rows_and_shared_seeds(
    ttest: CommandLine, tmp_path: Path
) -> None:
    a, b = evaluation(tmp_path / "a", 0.6, [1, 2, 3]), evaluation(tmp_path / "b", 0.8, [1, 2, 3], first=50)
    found = json_of(ttest, a, b)
    assert found["compared_over"] == ["rows", "seeds"]
    assert found["task"] == "mine own"
    over_seeds, over_rows = found["rows"][0]["over_seeds"], found["rows"][0]["over_rows"]
    assert over_seeds["test"] == "paired t-test over 3 shared seeds"
    assert over_rows["seeds"] == [1, 1]
    values = [
        [in_print(METRICS["mcc"].compute(labels, p > 0.5), "mcc") for labels, p in runs]
        for runs in (
            [predictions(0.6, seed) for seed in (1, 2, 3)],
            [predictions(0.8, 50 + seed) for seed in (1, 2, 3)],
        )
    ]
    assert over_seeds["p"] == pytest.approx(stats.ttest_rel(*values).pvalue)
    assert found["rows"][1]["mean"] == pytest.approx(np.mean(values[1]))
    assert "over seeds (paired t-test over 3 shared seeds)" in ttest(a, b).stderr


def test_three_models_get_holms_adjustment(ttest: CommandLine, tmp_path: Path) -> None:
    folders = [
        evaluation(tmp_path / name, right, [1, 2], first=10 * number)
        for number, (name, right) in enumerate([("a", 0.6), ("b", 0.7), ("c", 0.9)])
    ]
    found = json_of(ttest, *folders)
    ps = [row["over_rows"]["mcnemar"] for row in found["rows"][:2]]
    low, high = sorted(ps, key=lambda one: one["p"])
    assert low["holm_p"] == pytest.approx(min(1, 2 * low["p"]))
    assert high["holm_p"] == pytest.approx(max(high["p"], low["holm_p"]))
    shown = ttest(*folders).stdout
    assert shown.count("Holm p") == 3


def test_a_run_of_finetune_meets_an_evaluation_by_the_same_test_file(
    ttest: CommandLine, tmp_path: Path
) -> None:
    run, whole = finetuned(tmp_path / "run", 0.6), evaluation(tmp_path / "whole", 0.9, [1, 2], first=3)
    found = json_of(ttest, run, whole)
    assert (found["task"], found["rows"][0]["over_rows"]["seeds"]) == ("mine own", [42, 1])
    other = finetuned(tmp_path / "other", 0.6, test="u" * 64)
    done = ttest(other, whole, code=3)
    assert "the rows of mcc do not pair" in done.stderr


def test_scores_without_predictions_are_compared_over_seeds_only(ttest: CommandLine, tmp_path: Path) -> None:
    a, b = evaluation(tmp_path / "a", 0.6, [1, 2, 3]), evaluation(tmp_path / "b", 0.8, [7, 8], first=50)
    found = json_of(ttest, a, b / "scores.csv")
    assert found["compared_over"] == ["seeds"]
    assert found["rows"][0]["over_seeds"]["test"] == "Welch's t-test, 3 and 2 seeds"
    assert "since one has no predictions on disk" in found["notes"][0]


@pytest.mark.parametrize(
    ("model", "reference", "name"),
    [
        ({1: 1.0, 2: 3.0, 3: 2.5}, {1: 2.0, 2: 3.5, 3: 4.0}, "paired t-test over 3 shared seeds"),
        ({1: 1.0, 2: 3.0}, {1: 2.0, 2: 3.5, 3: 4.0}, "paired t-test over 2 shared seeds"),
        ({1: 1.0, 2: 3.0, 9: 2.5}, {1: 2.0, 2: 3.5, 3: 4.0}, "Welch's t-test, 3 and 3 seeds"),
    ],
)
def test_seeds_are_paired_if_one_model_has_no_others(model, reference, name):
    found = seed_test(model, reference)
    assert found.test == name
    if name.startswith("Welch"):
        first, second = list(model.values()), list(reference.values())
        v, w = np.var(first, ddof=1) / 3, np.var(second, ddof=1) / 3
        t = (np.mean(second) - np.mean(first)) / np.sqrt(v + w)
        degrees = (v + w) ** 2 / (v**2 / 2 + w**2 / 2)
        assert found.p == pytest.approx(2 * stats.t.sf(abs(t), degrees))
    else:
        pairs = [(model[seed], reference[seed]) for seed in model.keys() & reference.keys()]
        assert found.p == pytest.approx(stats.ttest_rel(*zip(*pairs, strict=True)).pvalue)
        differences = [other - one for one, other in pairs]
        error = np.std(differences, ddof=1) / np.sqrt(len(pairs)) * stats.t.ppf(0.975, len(pairs) - 1)
        assert found.interval == pytest.approx((np.mean(differences) - error, np.mean(differences) + error))
    # The interval is of the same test as p.
    assert (found.p < 0.05) == (found.interval[0] > 0)


def test_runs_that_are_all_alike_have_no_p_and_single_runs_no_test() -> None:
    assert seed_test({1: 1.0, 2: 1.0}, {3: 2.0, 4: 2.0}).p is None
    alike = seed_test({1: 1.0, 2: 2.0}, {1: 2.0, 2: 3.0})
    assert (alike.p, alike.interval) == (None, None)
    equal = seed_test({1: 1.0, 2: 2.0}, {1: 1.0, 2: 2.0})
    assert (equal.p, equal.interval) == (1.0, (0.0, 0.0))
    assert seed_test({1: 1.0}, {1: 2.0, 2: 2.5}) is None
    assert seed_test({None: 1.0}, {1: 2.0, 2: 2.5}) is None


def test_a_report_shows_these_tests_of_one_task(cmgems: CommandLine, tmp_path: Path) -> None:
    a, b = evaluation(tmp_path / "a", 0.6, [1, 2]), evaluation(tmp_path / "b", 0.8, [1, 2], first=50)
    cmgems("report", a, b, "--out", tmp_path / "report", "--quiet")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "One task in common, mine own" in text
    assert "exact McNemar" in text
    assert "paired t-test over 2 shared seeds" in text


def test_s5_a_run_that_is_not_the_evaluations_own_is_refused(cmgems: CommandLine, tmp_path: Path) -> None:
    """As after copying a run of another model into a finished evaluation."""
    evaluation(tmp_path / "x" / "one", 0.6, [1, 2])
    evaluation(tmp_path / "x" / "two", 0.9, [1, 2], first=9)
    theirs = tmp_path / "x" / "one" / "runs" / "own-seed-1"
    shutil.rmtree(theirs)
    shutil.copytree(tmp_path / "x" / "two" / "runs" / "own-seed-1", theirs)
    words = f"{theirs} is not the one that {tmp_path / 'x' / 'one'} was made from"
    for command in (["ttest"], ["report", "--out", tmp_path / "report"]):
        assert words in cmgems(*command, tmp_path / "x" / "one", tmp_path / "x" / "two", code=3).stderr
    shutil.rmtree(theirs)
    cmgems("ttest", tmp_path / "x" / "one", tmp_path / "x" / "two")
    # What an evaluation was not made from is none of its parts.
    one, two = tmp_path / "x" / "one", tmp_path / "x" / "two"
    shutil.copytree(two / "runs" / "own-seed-2", one / "runs" / "kmer-linear")
    assert linear_scores(one) == []
