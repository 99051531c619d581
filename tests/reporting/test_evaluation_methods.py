"""What the methods paragraph says of evaluations: how scores were made, and which tests the report has."""

from pathlib import Path
from typing import Any

import pytest

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.reporting.comparison_chapter import compare_runs
from cmgems_cli.reporting.methods import methods_paragraph
from cmgems_cli.reporting.sources import read_runs
from tests.reporting.conftest import make_scores
from tests.reporting.test_predictions import make_evaluation, predictions

GRID = {"k": [4, 5, 6, 7], "C": [0.1, 1.0], "scaled": [False, True], "strands_merged": [False, True]}
FIXED = {"k": [4], "C": [1.0], "scaled": [True], "strands_merged": [False]}

OVER_TASKS = ("paired t-test,", "Wilcoxon", "sign-flip", "BCa bootstrap interval", "Cohen's d_z")
OVER_ROWS = (
    "exact McNemar test",
    "95 % percentile interval, 1,999 resamples, seed 42",
    "DeLong's test of AUROC",
)
OVER_SEEDS = ("over seeds (paired t-test over 2 shared seeds)",)


def paragraph(*folders: Path) -> str:
    runs = read_runs([str(folder) for folder in folders])
    return methods_paragraph(runs, compare_runs(runs, 42), 42)


def remade(folder: Path, **params: Any) -> Path:
    """Write these parameters to the scores in a folder."""
    made = read_runs([str(folder)])[0].made
    (folder / "manifest.json").unlink()
    finish_artifact(
        folder,
        "scores",
        params={**made.params, **params},
        inputs=made.inputs,
        stats=made.stats,
        files=list(made.files),
        environment=made.environment,
    )
    return folder


def one_task(folder: Path, skill: float, seeds: int = 2) -> Path:
    make_evaluation(
        folder, folder.name, {"a": [predictions(80, 2, seed, skill=skill) for seed in range(seeds)]}
    )
    return folder


def two_tasks(folder: Path, shift: float) -> Path:
    make_scores(folder, {"tf/0": [0.5 + shift], "tf/1": [0.4 + 2 * shift]}, model=folder.name)
    return folder


def test_only_the_tests_that_the_report_has_are_stated(tmp_path: Path) -> None:
    of_one = [one_task(tmp_path / "weak", 0.3), one_task(tmp_path / "strong", 2.0)]
    of_two = [two_tasks(tmp_path / "first", 0.0), two_tasks(tmp_path / "second", 0.1)]
    found = paragraph(*of_one)
    assert "On own a, models were compared over the rows of its test split (exact" in found
    assert all(words in found for words in OVER_ROWS + OVER_SEEDS)
    assert not any(words in found for words in (*OVER_TASKS, "Holm"))
    found = paragraph(*of_two)
    assert "Models were compared over tasks, runs averaged first, by a paired t-test, Wilcoxon's" in found
    assert all(words in found for words in OVER_TASKS)
    assert not any(words in found for words in (*OVER_ROWS, *OVER_SEEDS, "Holm", "Friedman"))
    found = paragraph(*of_one, *of_two)
    assert "On GUE, models were compared over tasks" in found
    assert all(words in found for words in OVER_TASKS + OVER_ROWS + OVER_SEEDS)
    assert "compared" not in paragraph(of_one[0], of_two[0])


def test_several_models_and_single_runs_have_other_tests(tmp_path: Path) -> None:
    of_one = [
        one_task(tmp_path / name, skill, seeds=1) for name, skill in (("a", 0.3), ("b", 1.0), ("c", 2.0))
    ]
    found = paragraph(*of_one)
    assert "DeLong's test of AUROC; p Holm-adjusted), all tests two-sided." in found
    assert "over seeds" not in found
    found = paragraph(*(two_tasks(tmp_path / f"of-two-{shift}", shift) for shift in (0.0, 0.1, 0.3)))
    assert "a paired t-test (Holm-adjusted), Wilcoxon's" in found
    assert "mean ranks by Friedman's test with Nemenyi's critical difference." in found


def test_kmer_linear_is_fitted_and_its_choices_are_in_words(tmp_path: Path) -> None:
    make_scores(tmp_path / "linear", {"tf/0": [0.5, 0.6]}, model="kmer-linear", pretrained=None)
    found = paragraph(remade(tmp_path / "linear", grid=GRID))
    assert (
        "The baseline kmer-linear, a logistic regression on k-mer counts, was fitted on 1 task of GUE"
        in found
    )
    assert (
        "Chosen on dev were k (4 to 7), C (0.1 and 1), the scaling of the counts (none or by the largest of each k-mer)"
        " and the strands (separate or merged)." in found
    )
    found = paragraph(remade(tmp_path / "linear", grid=FIXED))
    assert (
        "Tasks without a dev split had k 4, C 1, counts divided by the largest of each k-mer and separate"
        in found
    )
    # Next to a model, which is fine-tuned.
    make_scores(tmp_path / "model", {"tf/0": [0.5]}, model="tuned")
    found = paragraph(
        remade(tmp_path / "model", learning_rate=[0.1, 0.2], truncate=True), tmp_path / "linear"
    )
    assert "The model tuned was fine-tuned on 1 task of GUE (tf/0), once (seed 42; " in found
    assert "published recipe, changed in learning_rate = 0.1 or 0.2, truncate = yes." in found
    assert not any(words in found for words in ("grid", "{", "False", "True"))


def test_frozen_models_are_not_fine_tuned(tmp_path: Path) -> None:
    make_scores(tmp_path / "frozen", {"tf/0": [0.5]}, model="m-frozen")
    found = paragraph(remade(tmp_path / "frozen", freeze=True, pool="max", C=[0.1, 1.0]))
    assert (
        "A logistic regression on embeddings of the frozen model m-frozen was fitted on 1 task of GUE"
        in found
    )
    assert "Chosen on dev was C (0.1 and 1). The recipe of each task was changed in pool = max." in found
    assert "fine-tuned" not in found


@pytest.mark.parametrize(
    ("bench", "tasks", "said"),
    [
        ("fewshot", ["prom-core"], "1 task of Few-shot (prom-core) with 10 training rows per class"),
        ("fewshot", ["prom-core"], "Each task was trained by its published recipe."),
        ("fewshot", ["mine"], "fine-tuned on 1 own task (mine) with 10 training rows per class"),
        ("fewshot", ["mine"], "Each task was trained by the recipe of the Few-shot benchmark."),
        ("gue", ["tf/0", "mine"], "fine-tuned on 1 task of GUE (tf/0) and 1 own task (mine), once"),
        ("gue", ["tf/0", "mine"], "by its published recipe, and mine by the recipe of the GUE benchmark."),
        ("nt18", ["enhancers"], "by the recipe of cmgems for Nucleotide Transformer tasks, revised."),
    ],
)
def test_only_published_recipes_are_called_published(
    tmp_path: Path, bench: str, tasks: list[str], said: str
) -> None:
    make_scores(tmp_path / "m", {task: [0.5] for task in tasks}, model="m", bench=bench)
    assert said in paragraph(tmp_path / "m")
