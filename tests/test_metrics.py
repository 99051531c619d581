"""Scores against an implementation from the confusion matrix; the table of metrics is the only list of them."""

import math
import warnings
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from packaging.version import Version
from scipy import stats
from sklearn import metrics as sklearn_metrics

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.comparing.comparison import as_json, compare_models, comparison_tables
from cmgems_cli.comparing.pairing import pair, read_source
from cmgems_cli.comparing.scores import Score, read_scores, write_scores
from cmgems_cli.comparing.tables import make_report
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.metrics import METRICS, MetricName, predicted_of, problem_of, score
from cmgems_cli.modeling.card import classifier_card
from tests.command_line import CommandLine, run_python

Split = tuple[NDArray[np.int64], NDArray[np.float64]]


def reference(labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> dict[str, float]:
    """Return the scores of a confusion matrix, its products in integers of any size."""
    classes = range(int(max(labels.max(), predictions.max())) + 1)
    matrix = [[int(((labels == a) & (predictions == b)).sum()) for b in classes] for a in classes]
    of_label, of_prediction = (
        [sum(row) for row in matrix],
        [sum(column) for column in zip(*matrix, strict=True)],
    )
    rows, right = len(labels), sum(matrix[one][one] for one in classes)
    covariance = right * rows - sum(a * b for a, b in zip(of_label, of_prediction, strict=True))
    spreads = [rows * rows - sum(number * number for number in of) for of in (of_label, of_prediction)]
    undefined = 0 in spreads
    either = [
        (one, of_label[one] + of_prediction[one]) for one in classes if of_label[one] + of_prediction[one]
    ]
    return {
        "mcc": 0.0 if undefined else covariance / math.sqrt(spreads[0] * spreads[1]),
        "accuracy": right / rows,
        "f1": float(np.mean([2 * matrix[one][one] / number for one, number in either])),
    }


@st.composite
def splits(draw: st.DrawFn) -> Split:
    """1 to 60 rows of 1 to 5 classes, some of which are absent from labels or predictions."""
    rows, classes = draw(st.integers(1, 60)), draw(st.integers(1, 5))
    highest_label = draw(st.integers(0, classes - 1))
    labels = draw(st.lists(st.integers(0, highest_label), min_size=rows, max_size=rows))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    probabilities = generator.dirichlet(np.ones(classes), rows)
    absent = draw(st.sets(st.integers(0, classes - 1), max_size=classes - 1))
    probabilities[:, list(absent)] = 0
    return np.array(labels), probabilities


@settings(max_examples=60, deadline=None)
@given(splits())
def test_scores_of_confusion_matrices_are_the_references_to_the_last_bit(split: Split) -> None:
    labels, probabilities = split
    predictions = probabilities.argmax(axis=1)
    expected = reference(labels, predictions)
    assert {name: METRICS[name].compute(labels, predictions) for name in expected} == expected


def random_split(problem: str, generator: np.random.Generator) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """2 to 40 rows of which some are right; probabilities of two decimals, so that many are equal."""
    rows, classes = int(generator.integers(2, 41)), int(generator.integers(3, 5))
    if problem == "regression":
        labels = generator.normal(size=rows).round(1)
        return labels, (labels + generator.normal(size=rows).round(1))[:, None]
    if problem == "multilabel":
        present = generator.integers(0, 2, (rows, classes))
        return present, ((present + generator.random((rows, classes))) / 2).round(2)
    classes = 2 if problem == "binary" else classes
    labels = generator.integers(0, classes, rows)
    probabilities = (generator.random((rows, classes)) + 0.5 * np.eye(classes)[labels]).round(2) + 0.01
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def of_library(name: str, labels: Any, probabilities: Any) -> float:
    """Return a metric by the plainest call of scikit-learn or scipy; NaN where they have no answer."""
    problem, predicted = problem_of(labels, probabilities.shape[1]), predicted_of(labels, probabilities)
    known = {
        "mcc": sklearn_metrics.matthews_corrcoef,
        "accuracy": sklearn_metrics.accuracy_score,
        "f1": partial(sklearn_metrics.f1_score, average="macro"),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score,
        "r2": sklearn_metrics.r2_score,
        "rmse": sklearn_metrics.root_mean_squared_error,
        "pearson": lambda a, b: stats.pearsonr(a, b).statistic,
        "spearman": lambda a, b: stats.spearmanr(a, b).statistic,
    }
    if name in ("mcc", "balanced_accuracy") and problem == "multilabel":
        return float(np.mean([known[name](*both) for both in zip(labels.T, predicted.T, strict=True)]))
    if name in known:
        return float(known[name](labels, predicted))
    one_hot = labels if labels.ndim == 2 else np.eye(probabilities.shape[1])[labels]
    if name in ("auroc", "auprc"):
        if one_hot.min(axis=0).any() or not one_hot.any(axis=0).all():
            return math.nan
        function = (
            sklearn_metrics.roc_auc_score if name == "auroc" else sklearn_metrics.average_precision_score
        )
        if problem == "binary":
            return float(function(labels, probabilities[:, 1]))
        return float(function(one_hot, probabilities, average="macro"))
    if name == "brier":
        if problem == "multilabel":
            return float(np.mean((labels - probabilities) ** 2))
        if problem == "binary":
            return float(sklearn_metrics.brier_score_loss(labels, probabilities[:, 1]))
        if Version(sklearn.__version__) < Version("1.7"):  # which has it for two classes only
            return float(np.mean(((one_hot - probabilities) ** 2).sum(1)))
        every = range(probabilities.shape[1])
        return float(sklearn_metrics.brier_score_loss(labels, probabilities, labels=every))
    assert name == "ece"
    right = (labels == predicted).ravel()
    confidence = (
        np.maximum(probabilities, 1 - probabilities) if labels.ndim == 2 else probabilities.max(1)
    ).ravel()
    error = 0.0
    for one in range(15):
        inside = (confidence > one / 15) & (confidence <= (one + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


def test_metrics_of_1000_random_cases_are_those_of_scikit_learn_and_scipy() -> None:
    generator, checked = np.random.default_rng(13), dict.fromkeys(METRICS, 0)
    problems = ("binary", "multiclass", "multilabel", "regression")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in range(1000):
            problem = problems[case % 4]
            names = [name for name, metric in METRICS.items() if problem in metric.problems]
            name = names[case // 4 % len(names)]
            labels, probabilities = random_split(problem, generator)
            given = probabilities if METRICS[name].of_probabilities else predicted_of(labels, probabilities)
            ours, expected = METRICS[name].compute(labels, given), of_library(name, labels, probabilities)
            if not math.isnan(expected):
                assert ours == pytest.approx(expected, rel=1e-12, abs=1e-12), (case, name, problem)
                checked[name] += 1
    assert min(checked.values()) > 40, checked


def test_golden_scores_of_a_seeded_split() -> None:
    generator = np.random.default_rng(7)
    labels, probabilities = generator.integers(0, 3, 5000), generator.random((5000, 3))
    probabilities[np.arange(5000), labels] += 0.4
    # Computed once by the implementation from the confusion matrix that cmgems 0.1 had.
    golden = {"mcc": 0.5627510457346419, "accuracy": 0.7086, "f1": 0.7083624068375958, "collapsed": False}
    assert score(labels, probabilities).items() >= golden.items()


def one_hot(predictions: list[int], classes: int = 2) -> NDArray[np.float64]:
    return np.eye(classes)[predictions]


def test_perfect_inverted_and_collapsed_predictions() -> None:
    labels = np.array([0, 1, 0, 1])
    perfect = dict.fromkeys(("mcc", "accuracy", "f1", "balanced_accuracy", "auroc", "auprc"), 1.0)
    assert score(labels, one_hot([0, 1, 0, 1])) == {**perfect, "brier": 0.0, "ece": 0.0, "collapsed": False}
    assert score(labels, one_hot([1, 0, 1, 0]))["mcc"] == -1.0
    assert score(labels, one_hot([1, 0, 1, 0]))["accuracy"] == 0.0
    collapsed = score(labels, one_hot([0, 0, 0, 0]))
    assert (collapsed["mcc"], collapsed["accuracy"], collapsed["collapsed"]) == (0.0, 0.5, True)
    assert collapsed["f1"] == pytest.approx(1 / 3)


def test_a_split_of_one_class_has_scores_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    scores = score(np.zeros(3, dtype=np.int64), one_hot([0, 0, 0]))
    assert scores["mcc"] == 0.0
    assert scores["accuracy"] == scores["f1"] == scores["balanced_accuracy"] == 1.0
    # Undefined without rows of the other class: left out, not NaN.
    assert scores["collapsed"]
    assert not {"auroc", "auprc"} & set(scores)
    assert not recwarn.list


def test_values_that_do_not_vary_have_no_correlation() -> None:
    labels, constant = np.array([0.5, 1.0, 4.5]), np.full((3, 1), 2.0)
    assert score(labels, constant) == {"r2": 0.0, "rmse": pytest.approx(np.sqrt(9.5 / 3)), "collapsed": True}
    assert set(score(constant[:, 0], labels[:, None])) == {"rmse", "collapsed"}
    assert score(labels, 2 * labels[:, None] - 1)["pearson"] == pytest.approx(1)
    assert score(labels, -(labels[:, None] ** 3))["spearman"] == -1
    assert set(score(labels[:1], labels[:1, None])) == {"rmse", "collapsed"}


def test_labels_of_several_per_row_are_averaged_over_labels() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]])
    # One label of one row is wrong; the third is in no row.
    probabilities = np.where(labels == 1, 0.8, 0.2)
    probabilities[3, 0] = 0.6
    scores = score(labels, probabilities)
    assert scores["accuracy"] == 0.75
    assert scores["f1"] == pytest.approx((0.8 + 1 + 0) / 3)
    assert scores["mcc"] == pytest.approx((1 / np.sqrt(3) + 1 + 0) / 3)
    assert scores["auroc"] == 1.0
    assert scores["brier"] == pytest.approx((11 * 0.2**2 + 0.6**2) / 12)
    assert scores["ece"] == pytest.approx((11 * 0.2 + 0.6) / 12)
    assert score(labels, np.full((4, 3), 0.1))["collapsed"]


def test_mcc_of_three_classes_by_hand() -> None:
    # 3 x 3 rows, 6 of them right: R_K = (6 * 9 - 27) / sqrt(54 * 54) = 0.5.
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert score(labels, one_hot([0, 0, 1, 1, 1, 2, 2, 2, 0], 3))["mcc"] == 0.5


def test_a_class_absent_from_both_does_not_count_in_macro_f1() -> None:
    assert score(np.array([0, 2]), one_hot([0, 2], 3))["f1"] == 1.0


def test_mcc_of_many_rows_does_not_overflow() -> None:
    labels = np.repeat([0, 1], 60_000)
    assert score(labels, one_hot(labels.tolist()))["mcc"] == 1.0


@pytest.mark.parametrize(
    ("labels", "probabilities", "words"),
    [
        ([], np.empty((0, 2)), "no rows"),
        ([0, 1], [[1.0, 0.0]], "must have shapes"),
        ([[0]], [[1.0, 0.0]], "must have shapes"),
        ([[0, 2]], [[1.0, 0.0]], "labels must be 0 to 1, got 0 to 2"),
        ([0], [1.0], "must have shapes"),
        ([0, -1], [[1.0, 0.0], [1.0, 0.0]], "labels must be 0 to 1, got -1 to 0"),
        ([0, 2], [[1.0, 0.0], [1.0, 0.0]], "labels must be 0 to 1, got 0 to 2"),
        ([0, 1], [[1.0, 0.0], [float("nan"), 0.0]], "finite"),
        ([0, 1], [[1.0, 0.0], [float("inf"), 0.0]], "finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels: Any, probabilities: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        score(np.array(labels, dtype=np.int64), np.array(probabilities))


@pytest.mark.subprocess
def test_scikit_learn_is_imported_when_a_run_is_scored() -> None:
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from cmgems_cli.metrics import score\n"
        "from cmgems_cli.commands import ttest, report, evaluate\n"
        "assert 'sklearn' not in sys.modules\n"
        "score(np.array([0, 1]), np.eye(2))\n"
        "assert 'sklearn' in sys.modules\n"
    )
    run_python(code)


# ------------------------------------------------------------------ the table is the only list


LABELS = np.array([0, 0, 1, 1])
# The order of the rows is right in 3 of 4 pairs, which their classes do not show.
PROBABILITIES = np.array([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])


def scores_of(model: str, shift: float = 0.0) -> list[Score]:
    return [
        Score(
            "gue",
            task,
            "human",
            None,
            42,
            metric,
            float(value) - shift * (METRICS[metric].name in ("mcc", "auroc")),
            4,
            4,
            model,
        )
        for task in ("tf/0", "tf/1")
        for metric, value in score(LABELS, PROBABILITIES).items()
        if metric in METRICS
    ]


def test_a_metric_of_probabilities_is_one_entry_of_the_table(tmp_path: Path) -> None:
    assert score(LABELS, PROBABILITIES)["auroc"] == 0.75

    for model, shift in (("first", 0.25), ("second", 0.0)):
        folder = tmp_path / model
        folder.mkdir()
        write_scores(folder / "scores.csv", scores_of(model, shift))
        finish_artifact(
            folder, "scores", params={}, inputs={}, stats={}, files=["scores.csv"], environment={}
        )
    rows = read_scores(tmp_path / "second" / "scores.csv")
    assert [row.metric for row in rows] == [
        name for name in METRICS if name in score(LABELS, PROBABILITIES)
    ] * 2
    times_100 = tmp_path / "times_100.csv"
    times_100.write_text("bench,task,metric,value,model\ngue,tf/0,auroc_x100,75,m\n")
    assert read_scores(times_100)[0].value == 0.75

    narrow, further = make_report(shipped("gue"), "second", rows).tables[:2]
    assert not narrow.wide
    assert not {"AUROC", "Brier score"} & set(narrow.columns)
    cells = dict(zip(further.columns, further.rows[0], strict=True))
    assert further.wide
    assert (cells["AUROC"], cells["Brier score (lower is better)"]) == ("0.750", "0.158")

    compared = compare_models(
        pair([read_source(str(tmp_path / m)) for m in ("first", "second")], "auroc"), seed=1
    )
    assert as_json(compared, ["a", "b"])["rows"][0]["difference"] == pytest.approx(0.25)
    assert comparison_tables(compared)[0].title.startswith("AUROC; p of")
    assert comparison_tables(compared)[0].rows[0][2] == "+0.250"

    params = dict.fromkeys(("steps", "global_batch", "warmup_steps"), 1) | {
        "learning_rate": 1.0,
        "seed": 1,
        "k": 6,
    }
    stats = {"best_step": 1, "notes": [], "parameters": 1, "n_train": 1, "n_dev": 1, "n_test": 1}
    card = classifier_card(params, {}, {**stats, **score(LABELS, PROBABILITIES)}, ["a", "b"])
    assert "| AUROC | 0.7500 |" in card


def test_the_lowest_is_the_best_of_a_metric_that_counts_errors(tmp_path: Path) -> None:
    sources = []
    for model, value in (("worst", 0.5), ("middle", 0.3), ("best", 0.1)):
        path = tmp_path / f"{model}.csv"
        lines = [f"gue,tf/{task},brier,{value + task / 100},{model}" for task in range(3)]
        path.write_text("\n".join(["bench,task,metric,value,model", *lines, ""]))
        sources.append(read_source(str(path)))
    compared = compare_models(pair(sources, "brier"), seed=1)
    assert compared.ranking
    assert compared.ranking.mean_ranks == [3, 2, 1]
    assert comparison_tables(compared)[0].title.startswith("Brier score (lower is better); p of")
    answer = as_json(compared, ["a", "b", "c"])
    assert answer["lower_is_better"]
    assert [row["mean_rank"] for row in answer["rows"]] == [3, 2, 1]


def test_ttest_offers_the_metrics_of_the_table(cmgems: CommandLine) -> None:
    assert get_args(MetricName) == tuple(METRICS)
    refusal = cmgems("ttest", "a", "b", "--metric", "nonsense", code=2).error
    assert ", ".join(f"'{name}'" for name in METRICS) in refusal


def test_a_perfect_model_of_any_number_of_rows_stays_within_what_is_possible() -> None:
    """scikit-learn's AUPRC of a perfect ranking of 43 and 43 rows is 1.0000000000000002."""
    for n in range(4, 120):
        labels = np.repeat([0, 1], n)
        positive = np.linspace(0.01, 0.99, 2 * n)
        found = score(labels, np.stack([1 - positive, positive], 1))
        assert [found[name] for name in ("auprc", "auroc", "mcc")] == pytest.approx([1, 1, 1], abs=1e-12)
        worst = score(1 - labels, np.stack([1 - positive, positive], 1))
        for name, value in [*found.items(), *worst.items()]:
            if name != "collapsed":
                assert METRICS[name].lowest <= value <= METRICS[name].highest, (name, n)


def test_what_is_impossible_by_more_than_rounding_is_left_to_be_found() -> None:
    assert METRICS["auprc"].within(1.0000000000000002) == 1.0
    assert METRICS["mcc"].within(-1.0000000000000002) == -1.0
    assert METRICS["auprc"].within(1.1) == 1.1
