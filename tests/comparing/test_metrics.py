import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, matthews_corrcoef

from cmgems_cli.comparing.metrics import confusion, macro_f1_of, mcc_of, score


@st.composite
def judged(draw):
    """Labels and predictions of 1 to 60 rows; half of the cases use one class in either of them."""
    rows = draw(st.integers(1, 60))
    label_classes, prediction_classes = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    first = draw(st.integers(0, 2))
    labels = draw(st.lists(st.integers(0, label_classes - 1), min_size=rows, max_size=rows))
    predictions = draw(st.lists(st.integers(0, prediction_classes - 1), min_size=rows, max_size=rows))
    return np.array(labels) + first, np.array(predictions)


@settings(max_examples=1000, deadline=None)
@given(judged())
def test_every_score_is_scikit_learns(case):
    labels, predictions = case
    found, matrix = score(labels, predictions), confusion(labels, predictions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where only one label is left
        mcc = matthews_corrcoef(labels, predictions)
        f1 = f1_score(labels, predictions, average="macro", zero_division=0)
        counted = confusion_matrix(labels, predictions, labels=range(len(matrix)))
    assert found.mcc == pytest.approx(mcc, abs=1e-12)
    assert found.f1 == pytest.approx(f1, abs=1e-12)
    assert found.accuracy == pytest.approx(accuracy_score(labels, predictions), abs=1e-12)
    assert found.collapsed == (len(set(predictions.tolist())) == 1)
    np.testing.assert_array_equal(matrix, counted)


def test_perfect_inverted_and_collapsed_predictions():
    labels = np.array([0, 1, 0, 1])
    perfect = score(labels, labels)
    assert (perfect.mcc, perfect.f1, perfect.collapsed) == (1.0, 1.0, False)
    assert score(labels, 1 - labels).mcc == -1.0
    assert score(labels, 1 - labels).accuracy == 0.0
    one_class = score(labels, np.zeros(4, dtype=np.int64))
    assert (one_class.mcc, one_class.accuracy, one_class.collapsed) == (0.0, 0.5, True)
    assert one_class.f1 == pytest.approx(1 / 3)


def test_mcc_of_three_classes_by_hand():
    # 3 x 3 rows, 6 of them right: R_K = (6 * 9 - 27) / sqrt(54 * 54) = 0.5.
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    predictions = np.array([0, 0, 1, 1, 1, 2, 2, 2, 0])
    assert mcc_of(confusion(labels, predictions)) == 0.5


def test_mcc_of_many_rows_does_not_overflow():
    matrix = np.array([[2_000_000_000, 0], [0, 3_000_000_000]])
    assert mcc_of(matrix) == pytest.approx(1.0)


def test_a_class_absent_from_both_does_not_count_in_macro_f1():
    assert macro_f1_of(confusion(np.array([0, 2]), np.array([0, 2]))) == 1.0


def test_small_integer_types_do_not_wrap():
    labels = np.array([15, 0] * 20, dtype=np.int8)
    assert score(labels, labels).mcc == 1.0


@pytest.mark.parametrize(
    ("labels", "predictions", "words"),
    [
        ([], [], "no row"),
        ([0, 1], [0], "equally long"),
        ([[0]], [[0]], "equally long"),
        ([0, -1], [0, 1], "negative"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, predictions, words):
    with pytest.raises(ValueError, match=words):
        score(np.array(labels, dtype=np.int64), np.array(predictions, dtype=np.int64))
