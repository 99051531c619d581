"""Scores against an implementation from the confusion matrix; the table of metrics is the only list of them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.comparing.comparison import as_json, compare_models, comparison_tables
from cmgems_cli.comparing.pairing import pair, read_source
from cmgems_cli.comparing.scores import Score, read_scores, write_scores
from cmgems_cli.comparing.tables import make_report
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.metrics import METRICS, Metric, MetricName, score
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


@settings(max_examples=500, deadline=None)
@given(splits())
def test_every_score_is_the_references_to_the_last_bit(split: Split) -> None:
    labels, probabilities = split
    scores = score(labels, probabilities)
    predictions = probabilities.argmax(axis=1)
    assert scores == {**reference(labels, predictions), "collapsed": len(set(predictions.tolist())) == 1}


def test_golden_scores_of_a_seeded_split() -> None:
    generator = np.random.default_rng(7)
    labels, probabilities = generator.integers(0, 3, 5000), generator.random((5000, 3))
    probabilities[np.arange(5000), labels] += 0.4
    # Computed once by the implementation from the confusion matrix that cmgems 0.1 had.
    golden = {"mcc": 0.5627510457346419, "accuracy": 0.7086, "f1": 0.7083624068375958}
    assert score(labels, probabilities) == {**golden, "collapsed": False}


def one_hot(predictions: list[int], classes: int = 2) -> NDArray[np.float64]:
    return np.eye(classes)[predictions]


def test_perfect_inverted_and_collapsed_predictions() -> None:
    labels = np.array([0, 1, 0, 1])
    assert score(labels, one_hot([0, 1, 0, 1])) == {
        "mcc": 1.0,
        "accuracy": 1.0,
        "f1": 1.0,
        "collapsed": False,
    }
    assert score(labels, one_hot([1, 0, 1, 0]))["mcc"] == -1.0
    assert score(labels, one_hot([1, 0, 1, 0]))["accuracy"] == 0.0
    collapsed = score(labels, one_hot([0, 0, 0, 0]))
    assert (collapsed["mcc"], collapsed["accuracy"], collapsed["collapsed"]) == (0.0, 0.5, True)
    assert collapsed["f1"] == pytest.approx(1 / 3)


def test_a_split_of_one_class_has_scores_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    scores = score(np.zeros(3, dtype=np.int64), one_hot([0, 0, 0]))
    assert scores == {"mcc": 0.0, "accuracy": 1.0, "f1": 1.0, "collapsed": True}
    assert not recwarn.list


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
        ([[0]], [[1.0]], "must have shapes"),
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


def auroc(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    if probabilities.shape[1] != 2 or len(set(labels.tolist())) < 2:
        return math.nan
    return float(roc_auc_score(labels, probabilities[:, 1]))


@pytest.fixture
def with_auroc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One more metric of probabilities: one entry in the table, nothing else."""
    monkeypatch.setitem(METRICS, "auroc", Metric("auroc", "AUROC", auroc, decimals=4, of_probabilities=True))
    return


LABELS = np.array([0, 0, 1, 1])
# The order of the rows is right in 3 of 4 pairs, which their classes do not show.
PROBABILITIES = np.array([[0.9, 0.1], [0.6, 0.4], [0.65, 0.35], [0.2, 0.8]])


def scores_of(model: str, shift: float = 0.0) -> list[Score]:
    return [
        Score("gue", task, "human", None, 42, metric, float(value) - shift, 4, 4, model)
        for task in ("tf/0", "tf/1")
        for metric, value in score(LABELS, PROBABILITIES).items()
        if metric in METRICS
    ]


@pytest.mark.usefixtures("with_auroc")
def test_a_metric_of_probabilities_is_one_entry_of_the_table(tmp_path: Path) -> None:
    assert score(LABELS, PROBABILITIES)["auroc"] == 0.75
    # Undefined for a single class: left out, not NaN.
    assert "auroc" not in score(np.zeros(4, dtype=np.int64), PROBABILITIES)

    for model, shift in (("first", 0.25), ("second", 0.0)):
        folder = tmp_path / model
        folder.mkdir()
        write_scores(folder / "scores.csv", scores_of(model, shift))
        finish_artifact(
            folder, "scores", params={}, inputs={}, stats={}, files=["scores.csv"], environment={}
        )
    rows = read_scores(tmp_path / "second" / "scores.csv")
    assert [row.metric for row in rows] == ["mcc", "accuracy", "f1", "auroc"] * 2
    times_100 = tmp_path / "times_100.csv"
    times_100.write_text("bench,task,metric,value,model\ngue,tf/0,auroc_x100,75,m\n")
    assert read_scores(times_100)[0].value == 0.75

    table = make_report(shipped("gue"), "second", rows).tables[0]
    assert dict(zip(table.columns, table.rows[0], strict=True))["AUROC"] == "0.7500"

    compared = compare_models(
        pair([read_source(str(tmp_path / m)) for m in ("first", "second")], "auroc"), seed=1
    )
    assert as_json(compared, ["a", "b"])["rows"][0]["difference"] == pytest.approx(0.25)
    assert comparison_tables(compared)[0].title.startswith("AUROC; p of")
    assert comparison_tables(compared)[0].rows[0][2] == "+0.2500"

    params = dict.fromkeys(("steps", "global_batch", "warmup_steps"), 1) | {
        "learning_rate": 1.0,
        "seed": 1,
        "k": 6,
    }
    stats = {"best_step": 1, "notes": [], "parameters": 1, "n_train": 1, "n_dev": 1, "n_test": 1}
    card = classifier_card(params, {}, {**stats, **score(LABELS, PROBABILITIES)}, ["a", "b"])
    assert "| AUROC | 0.7500 |" in card


def test_ttest_offers_the_metrics_of_the_table(cmgems: CommandLine) -> None:
    assert get_args(MetricName) == tuple(METRICS)
    refusal = cmgems("ttest", "a", "b", "--metric", "nonsense", code=2).error
    assert ", ".join(f"'{name}'" for name in METRICS) in refusal
