"""What a fine-tuning run predicted for the rows of its test split."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.comparing.evaluated_runs import PREDICTIONS, EvaluatedRun
from cmgems_cli.errors import InputError
from cmgems_cli.safe_text import from_spreadsheet_cell


@dataclass(frozen=True, eq=False)
class PredictedRows:
    """Predictions for the rows of a test split, in its order.

    Attributes
    ----------
    right : bool, shape (n_rows,)
        Whether the predicted label is the true one.
    labels, predicted : int64, shape (n_rows,), or float64, shape (n_rows,), or None
        Classes from 0, or measured values; None for lists of labels.
    probabilities : float64, shape (n_rows, n_classes), or None
        Of each class; None for measured values and lists of labels.
    """

    right: NDArray[np.bool_]
    labels: NDArray[Any] | None = None
    predicted: NDArray[Any] | None = None
    probabilities: NDArray[np.float64] | None = None


def read_predicted_rows(run: EvaluatedRun) -> PredictedRows:
    """Read the predictions of a run.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    read_manifest(run.folder, verify=True)
    path = run.folder / PREDICTIONS
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            names = [name.removeprefix("p_") for name in next(reader)[3:]]
            rows = list(reader)
        labels, predicted = ([from_spreadsheet_cell(row[place]) for row in rows] for place in (1, 2))
        right = np.array([one == other for one, other in zip(labels, predicted, strict=True)], dtype=np.bool_)
        if not names:
            of_values = [np.array([float(value) for value in column]) for column in (labels, predicted)]
            return PredictedRows(right, *of_values)
        number_of = {name: number for number, name in enumerate(names)}
        if any(label not in number_of for label in (*labels, *predicted)):
            return PredictedRows(right)
        numbers = [np.array([number_of[one] for one in column], np.int64) for column in (labels, predicted)]
        probabilities = np.array([[float(cell) for cell in row[3:]] for row in rows])
        return PredictedRows(right, numbers[0], numbers[1], probabilities)
    except (ValueError, IndexError, StopIteration, csv.Error) as error:
        raise InputError(
            f"{path} is not a readable table of predictions ({error}); make the run again"
        ) from None
