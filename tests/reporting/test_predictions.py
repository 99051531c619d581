"""Curves, calibration and confusion matrices of predictions, and their pictures in reports."""

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cmgems_cli.artifacts import finish_artifact, read_manifest
from cmgems_cli.comparing.curves import area, calibration, confusion, precision_recall, roc, thinned
from cmgems_cli.comparing.scores import Score, write_scores
from cmgems_cli.datasets.targets import VALUE, Target
from cmgems_cli.metrics import METRICS, predicted_of, problem_of, score
from cmgems_cli.reporting.elements import Document, Section
from cmgems_cli.reporting.html import page
from cmgems_cli.reporting.predictions_chapter import prediction_parts
from cmgems_cli.reporting.sources import read_runs
from cmgems_cli.training import run_files
from cmgems_cli.training.run_files import write_predictions
from tests.command_line import CommandLine
from tests.reporting.conftest import Reported, make_classifier


def predictions(
    n_rows: int, n_classes: int, seed: int, *, decimals: int = 6, skill: float = 1.0
) -> run_files.Tested:
    """Draw predictions; of one seed and different skill the labels are the same, and the last class is in no row."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, max(2, n_classes - 1), n_rows)
    logits = draw.normal(size=(n_rows, n_classes))
    logits[np.arange(n_rows), labels] += skill
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    names = tuple(f"class {number}" for number in range(n_classes))
    return made(labels, np.round(probabilities, decimals), names)


def made(
    labels: NDArray[Any], probabilities: NDArray[np.float64], names: tuple[str, ...]
) -> run_files.Tested:
    return run_files.Tested(
        Target(problem_of(labels, len(names)), names),
        labels,
        predicted_of(labels, probabilities),
        probabilities,
    )


def several_labels(seed: int) -> run_files.Tested:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, (80, 3))
    return made(labels, np.clip(0.3 * labels + draw.uniform(0, 0.7, (80, 3)), 0, 1), ("a", "b", "c"))


@pytest.mark.parametrize(
    "runs",
    [
        [predictions(400, 2, 1)],
        [predictions(400, 2, 1, decimals=1)],  # many ties
        [predictions(90, 2, 1), predictions(90, 2, 2), predictions(90, 2, 3, decimals=1)],
        [predictions(120, 5, 1)],
        [predictions(120, 5, 1, decimals=1), predictions(120, 5, 2)],
        [several_labels(1), several_labels(2)],
    ],
    ids=["binary", "ties", "runs", "classes", "runs of classes", "labels"],
)
def test_areas_are_the_metrics_and_thinning_does_not_show(runs: list[run_files.Tested]) -> None:
    scores = [score(run.labels, run.probabilities) for run in runs]
    for curve, metric in ((roc(runs), "auroc"), (precision_recall(runs), "auprc")):
        assert curve is not None
        assert (curve[0, 0], curve[-1, 0]) == (0, 1)
        assert (np.diff(curve[:, 0]) >= 0).all()
        assert area(curve) == pytest.approx(np.mean([one[metric] for one in scores]), abs=1e-12)
        drawn = thinned(curve)
        assert len(drawn) <= len(curve)
        assert max(distance_to(point, drawn) for point in curve) <= 0.002


def distance_to(point: NDArray[np.float64], line: NDArray[np.float64]) -> float:
    """Return the distance of a point and a polyline, segment by segment."""
    start, chord = line[:-1], np.diff(line, axis=0)
    length = np.maximum((chord**2).sum(1), 1e-30)
    along = np.clip(((point - start) * chord).sum(1) / length, 0, 1)
    return float(np.hypot(*(point - start - along[:, None] * chord).T).min())


def test_a_long_curve_is_drawn_with_few_points() -> None:
    curve = precision_recall([predictions(6000, 2, 1)])
    assert curve is not None
    assert len(curve) > 10_000
    assert len(thinned(curve)) < 300


def test_there_is_no_curve_where_one_class_is_all_there_is() -> None:
    one = made(np.zeros(5, np.int64), np.full((5, 2), 0.5), ("a", "b"))
    assert roc([one]) is None
    assert precision_recall([one]) is None


def test_bins_and_matrices_are_those_of_the_metrics() -> None:
    runs = [predictions(300, 3, 1), predictions(300, 3, 2)]
    counts = confusion(runs)
    assert counts.sum() == 300
    accuracy = np.mean([score(run.labels, run.probabilities)["accuracy"] for run in runs])
    assert np.trace(counts) / 300 == pytest.approx(accuracy)
    bins = calibration(runs[:1])
    rows = np.bincount(np.ceil(15 * runs[0].probabilities.max(1)).astype(int), minlength=16)
    error = (rows[rows > 0] * abs(bins[:, 0] - bins[:, 1])).sum() / 300
    assert error == pytest.approx(score(runs[0].labels, runs[0].probabilities)["ece"])


# ------------------------------------------------------------------ reports


def make_evaluation(
    folder: Path, model: str, tasks: dict[str, list[run_files.Tested]]
) -> dict[str, list[float]]:
    """Write an evaluation with its runs, task -> one run_files.Tested per seed; return the AUROCs of each task."""
    rows, inputs = [], {}
    for task, runs in tasks.items():
        for seed, one in enumerate(runs):
            part = folder / "runs" / f"{task.replace('/', '-')}-seed-{seed}"
            part.mkdir(parents=True)
            stats = score(one.labels, one.probabilities)
            scores = [
                Score("own", task, "", None, seed, name, float(stats[name]), 9, len(one.labels), model, "")
                for name in METRICS
                if name in stats
            ]
            write_scores(part / "scores.csv", scores)
            files = run_files.write_test_files(part, one.target.names, one.labels, one.probabilities)
            artifact = finish_artifact(
                part,
                "scores",
                params={"seed": seed},
                inputs={"test": (task.encode().hex() * 64)[:64]},
                stats=stats,
                files=["scores.csv", *files],
                environment={},
            )
            rows += scores
            inputs[f"runs/{part.name}"] = artifact.digest
    write_scores(folder / "scores.csv", rows)
    metric = "mcc" if "mcc" in {row.metric for row in rows} else "pearson"
    finish_artifact(
        folder,
        "scores",
        params={"bench": "own", "title": "Own", "metric": metric, "model": model, "seeds": [0], "init": None},
        inputs={"model": "e" * 64, **inputs},
        stats={"runs": len(rows), "tasks": len(tasks), "missing_tasks": [], "collapsed_runs": 0},
        files=["scores.csv"],
        environment={},
    )
    return {task: [row.value for row in rows if (row.task, row.metric) == (task, "auroc")] for task in tasks}


def test_models_are_drawn_side_by_side_on_each_task(tmp_path: Path) -> None:
    binary = [[predictions(80, 2, seed, skill=skill) for seed in (1, 2)] for skill in (0.3, 2.0)]
    many = [[predictions(60, 3, 3, skill=skill)] for skill in (0.3, 2.0)]
    weak = make_evaluation(tmp_path / "weak", "weak", {"one/a": binary[0], "b": many[0]})
    strong = make_evaluation(tmp_path / "strong", "<strong>", {"one/a": binary[1], "b": many[1]})
    runs = read_runs([str(tmp_path / "weak"), str(tmp_path / "strong")])
    document = Document("report", [Section("Scores", prediction_parts(runs, {"weak": 0, "<strong>": 1}))])
    folded = re.search(
        r"<summary>Predictions in pictures: 2 tasks</summary>(.*?)</details>", page(document), re.S
    )
    assert folded is not None
    pictures = dict(
        re.findall(r'<figure id="predictions-own-([\w.-]+)-\w{8}">.*?alt="([^"]*)"', folded[1], re.S)
    )
    assert list(pictures) == ["b", "one-a"]
    for task, alt in zip(("b", "one/a"), pictures.values(), strict=True):
        first, second = np.mean(weak[task]), np.mean(strong[task])
        assert f"AUROC: weak {first:.3f} and &lt;strong&gt; {second:.3f}; AUPRC: " in alt
    matrix = confusion(binary[1])
    assert f"&lt;strong&gt;: true class 0 as class 0 {matrix[0, 0]:,.0f}," in pictures["one-a"]
    assert "80 rows of the test split, means over 2 runs of each model." in folded[1]
    assert folded[1].count("means of each class against the rest") == 1
    # Small, and readable in a column of 400 pixels: 4.17 inches of 72 points.
    for url in re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', folded[1]):
        drawing = base64.b64decode(url)
        assert len(drawing) < 100_000
        assert b'width="300.24pt"' in drawing
    assert [picture.title for picture in document.pictures] == ["b", "one/a"]


def test_values_are_drawn_against_predictions(tmp_path: Path, reported: Reported) -> None:
    draw = np.random.default_rng(1)
    labels = draw.normal(size=900)
    one = made(labels, (labels + draw.normal(size=900))[:, None], (VALUE,))
    make_evaluation(tmp_path / "one", "one", {"a": [one]})
    out = reported(tmp_path / "one")
    text = (out / "report.md").read_text()
    correlation = np.corrcoef(labels, one.probabilities[:, 0])[0, 1]
    assert f"![Pearson r: one {correlation:.3f}; RMSE: one " in text
    drawn = re.findall(r"\]\((pictures/predictions-own-a-\w+\.png)\)", text)
    assert (out / drawn[0]).read_bytes().startswith(b"\x89PNG")
    assert "900 rows of the test split. Drawn are 400 of them" in text


def test_damaged_predictions_are_refused(tmp_path: Path, report: CommandLine) -> None:
    make_evaluation(tmp_path / "one", "one", {"a": [predictions(20, 2, 1)]})
    damaged = tmp_path / "one" / "runs" / "a-seed-0" / "predictions.csv"
    damaged.write_text(damaged.read_text().replace("class 0", "class 1"))
    assert str(damaged.parent) in report(tmp_path / "one", "--out", tmp_path / "out", "--quiet", code=3).error


def test_trials_are_a_table_with_the_chosen_one(tmp_path: Path, reported: Reported) -> None:
    folder = tmp_path / "sorter"
    make_classifier(folder)
    made = read_manifest(folder)
    trials = [
        {"rc": "none", "dev_mcc": 0.25, "dev_loss": 0.5, "best_step": 1},
        {"rc": "augment", "dev_mcc": 0.5, "dev_loss": 0.4, "best_step": 2},
        {"rc": "both", "diverged": True},
    ]
    finish_artifact(
        folder,
        "classifier",
        params=made.params,
        inputs=made.inputs,
        stats={**made.stats, "trials": trials, "chosen": {"rc": "augment"}},
        files=list(made.files),
        environment={},
    )
    text = (reported(folder) / "report.md").read_text()
    assert "| sorter | none | 25.00 | 0.5000 | no |" in text
    assert "|  | augment | 50.00 | 0.4000 | yes |" in text
    assert "|  | both | – | – | diverged |" in text


def test_data_of_no_benchmark_are_named_after_their_folder(tmp_path: Path, reported: Reported) -> None:
    tested, folder = predictions(20, 2, 1), tmp_path / "sorter"
    made = make_classifier(folder, bench=None, task=None)
    (folder / "manifest.json").unlink()
    write_predictions(folder / "predictions.csv", tested.target.names, tested.labels, tested.probabilities)
    finish_artifact(
        folder,
        "classifier",
        params=made.params,
        inputs={"test": "a" * 64},
        stats=made.stats,
        files=list(made.files),
        environment={"data": "prom_text"},
    )
    assert "### prom_text\n\n![AUROC: sorter " in (reported(folder) / "report.md").read_text()
