"""What a run keeps of its test split: predictions.csv, whose sole writer and reader this is, and per_class.csv."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.artifacts import PREDICTIONS
from cmgems_cli.datasets.targets import VALUE, Target
from cmgems_cli.errors import InputError
from cmgems_cli.metrics import predicted_of, problem_of
from cmgems_cli.row_writer import RowWriter
from cmgems_cli.safe_text import from_spreadsheet_cell
from cmgems_cli.training.per_class import PER_CLASS, per_class, write_per_class

# Decimals of a probability in predictions.csv.
DECIMALS = 6


def write_test_files(
    folder: Path, label_names: Sequence[str], labels: NDArray[Any], probabilities: NDArray[np.float64]
) -> list[str]:
    """Write what is kept of a test split; return the names of the files. Parameters as for `write_predictions`."""
    write_predictions(folder / PREDICTIONS, label_names, labels, probabilities)
    if problem_of(labels, len(label_names)) == "regression":
        return [PREDICTIONS]
    write_per_class(folder / PER_CLASS, per_class(tuple(label_names), labels, probabilities))
    return [PREDICTIONS, PER_CLASS]


def write_predictions(
    path: Path,
    label_names: Sequence[str],
    labels: NDArray[Any],
    probabilities: NDArray[np.float64],
) -> None:
    """Write a CSV of predictions: `row,label,predicted` and `p_LABEL` for each class, which values lack.

    Parameters
    ----------
    path : Path
    label_names : sequence of str
        The classes by number.
    labels : array of n_rows rows
        As in `metrics.score`.
    probabilities : float64, shape (n_rows, n_labels)
        Written with `DECIMALS` decimals; rows count from 0.
    """
    target = Target(problem_of(labels, len(label_names)), tuple(label_names))
    predicted = predicted_of(labels, probabilities)
    names = [] if target.problem == "regression" else label_names
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = RowWriter(stream)
        writer.row(["row", "label", "predicted", *(f"p_{name}" for name in names)])
        for row, (label, best) in enumerate(zip(labels.tolist(), predicted.tolist(), strict=True)):
            cells = (target.written(one) for one in (label, best))
            shown = probabilities[row].tolist() if names else []
            writer.row([row, *cells, *(f"{probability:.{DECIMALS}f}" for probability in shown)])


@dataclass(frozen=True, eq=False)
class Tested:
    """Labels and predictions of a test split.

    Attributes
    ----------
    target : Target
    labels, predicted : int64 or float64, n_rows rows
        As the labels of `metrics.score`.
    probabilities : float64, shape (n_rows, n_classes)
        With `DECIMALS` decimals; of a regression the values, shape (n_rows, 1).
    """

    target: Target
    labels: NDArray[Any]
    predicted: NDArray[Any]
    probabilities: NDArray[np.float64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction is the label, in each row; shape (n_rows,)."""
        return (self.labels == self.predicted).reshape(len(self.labels), -1).all(1)


def read_predictions(path: Path) -> Tested:
    """Read a CSV of `write_predictions`.

    Raises
    ------
    InputError
        If it is missing, or something else.
    """
    needed = "needed the predictions.csv of a finished run: make the run again"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream, strict=True)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; {needed}") from None
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a table of predictions ({error}); {needed}") from None
    names = tuple(name.removeprefix("p_") for name in header[3:])
    if header[:3] != ["row", "label", "predicted"] or not rows or {len(row) for row in rows} != {len(header)}:
        raise InputError(f"{path} is not a table of predictions; {needed}")
    labels, predicted = ([from_spreadsheet_cell(row[place]) for row in rows] for place in (1, 2))
    try:
        numbers = np.array([row[3:] if names else row[2:] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{path} is not a table of predictions ({error}); {needed}") from None
    if not names:
        target = Target("regression", (VALUE,))
    else:
        # Probabilities of classes sum to 1, apart from rounding.
        sums_to_1 = np.abs(numbers.sum(1) - 1).max() <= len(names) * 10.0**-DECIMALS
        one_each = sums_to_1 and {*labels, *predicted} <= set(names)
        target = Target(
            "multilabel" if not one_each else "binary" if len(names) == 2 else "multiclass", names
        )
    as_numbers = [target.numbers(each, path, "test") for each in (labels, predicted)]
    return Tested(target, as_numbers[0], as_numbers[1], numbers)
