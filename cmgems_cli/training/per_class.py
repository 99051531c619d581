"""Precision, recall and confusion of each class of a test split: per_class.csv, next to predictions.csv."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import InputError
from cmgems_cli.metrics import predicted_of
from cmgems_cli.row_writer import RowWriter
from cmgems_cli.safe_text import from_spreadsheet_cell

PER_CLASS = "per_class.csv"

# A number as `write_per_class` writes it; a ratio may lack one.
_NUMBER = re.compile(r"[0-9]*(\.[0-9]+)?")
COLUMNS = ("class", "rows", "precision", "recall", "f1")
# ours: more columns do not fit a screen.
SHOWN = 6
# The columns of a label's confusion matrix, where a row may have several.
OF_A_LABEL = ("true_positives", "false_positives", "false_negatives", "true_negatives")


@dataclass(frozen=True, eq=False)
class PerClass:
    """What a model gets right and wrong, by class or label.

    Attributes
    ----------
    names : tuple of str
        Classes or labels by number.
    rows : int64, shape (n_classes,)
        Of the test split.
    precision, recall, f1 : float64, shape (n_classes,)
        NaN where undefined: nothing is predicted, or there is nothing to find.
    confusion : int64, shape (n_classes, n_classes), or (n_labels, 4)
        Rows of class i that are predicted as class j; or the counts of `OF_A_LABEL`.
    several : bool
        Whether rows may have several labels.
    """

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    confusion: NDArray[np.int64]
    several: bool


def per_class(
    names: tuple[str, ...], labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> PerClass:
    """Count what is right and wrong.

    Parameters
    ----------
    names : tuple of str
    labels : int64, shape (n_rows,), or (n_rows, n_labels)
    probabilities : float64, shape (n_rows, n_classes)
        Both as in `metrics.score`.
    """
    predicted = predicted_of(labels, probabilities)
    if labels.ndim == 2:
        found, wanted = predicted.sum(0), labels.sum(0)
        right = (labels & predicted).sum(0)
        nothing = len(labels) - found - wanted + right
        confusion = np.stack([right, found - right, wanted - right, nothing], 1)
    else:
        size = len(names)
        confusion = np.bincount(labels * size + predicted, minlength=size * size).reshape(size, size)
        right, wanted, found = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    with np.errstate(invalid="ignore"):
        ratios = right / found, right / wanted, 2 * right / (found + wanted)
    return PerClass(names, wanted, *ratios, confusion, labels.ndim == 2)


def write_per_class(path: Path, counted: PerClass) -> None:
    """Write a CSV with one row per class: `COLUMNS`, and the row of the confusion matrix (`predicted_CLASS`)."""
    more = OF_A_LABEL if counted.several else tuple(f"predicted_{name}" for name in counted.names)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = RowWriter(stream)
        writer.row([*COLUMNS, *more])
        for number, name in enumerate(counted.names):
            ratios = (counted.precision[number], counted.recall[number], counted.f1[number])
            cells = ("" if np.isnan(ratio) else f"{ratio:.6f}" for ratio in ratios)
            row = counted.confusion[number].tolist()
            writer.row([name, counted.rows[number], *cells, *row])


def shown_per_class(rows: list[dict[str, str]]) -> tuple[list[str], list[list[str | None]]]:
    """Return the columns and rows of a table for people; a matrix of more than `SHOWN` classes is left out."""
    columns = list(rows[0]) if len(rows[0]) <= len(COLUMNS) + SHOWN else list(COLUMNS)
    ratios = set(COLUMNS[2:])
    cells = [
        [f"{float(row[name]):.3f}" if name in ratios and row[name] else row[name] or None for name in columns]
        for row in rows
    ]
    return [name.replace("_", " ", 1) for name in columns], cells


def read_per_class(path: Path) -> list[dict[str, str]]:
    """Read a CSV of `write_per_class`: its cells as text, by column.

    Raises
    ------
    InputError
        If it is missing, or something else.
    """
    needed = "needed the per_class.csv of a finished run: make the run again"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows: list[dict[str, Any]] = list(csv.DictReader(stream, strict=True))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; {needed}") from None
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a table of classes ({error}); {needed}") from None
    if (
        not rows
        or not set(COLUMNS) <= rows[0].keys()
        or any(None in row.values() or None in row for row in rows)
    ):
        raise InputError(f"{path} is not a table of classes; {needed}")
    for name in COLUMNS[1:]:
        if strange := [row[name] for row in rows if not _NUMBER.fullmatch(row[name])]:
            raise InputError(f"{path} has {strange[0]!r} as {name}, which is not a number; {needed}")
    return [{**row, "class": from_spreadsheet_cell(row["class"])} for row in rows]
