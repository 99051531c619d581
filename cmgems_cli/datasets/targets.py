"""What the labels of a task are: classes, several labels per row, or measured values; and how each is written."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.datasets.labels import are_lists, are_measured, listed, ordered, value_of
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.metrics import Problem

# The name of a regression's only output.
VALUE = "value"

# Between the labels of a row, and a row without any.
SEPARATOR, NONE = ";", "[]"


@dataclass(frozen=True)
class Target:
    """What a model of a task predicts.

    Attributes
    ----------
    problem : str
        binary, multiclass, multilabel or regression.
    names : tuple of str
        Classes or labels by number; `VALUE` alone of a regression.
    vectors : bool
        Several labels per row are written as a 0 or 1 for each: `[0, 1, 0]`.
    """

    problem: Problem
    names: tuple[str, ...]
    vectors: bool = False

    @property
    def member(self) -> str:
        """What one of `names` is: a class or a label."""
        return "label" if self.problem == "multilabel" else "class"

    def number_of(self, name: str) -> int:
        """Return the number of a class or label.

        Raises
        ------
        UsageError
            If no class or label has this name.
        """
        if name in self.names:
            return self.names.index(name)
        if self.problem == "regression":
            raise UsageError(f"`label={name}` was given, but the model predicts values; leave it out")
        raise UsageError(
            f"`label={name}` is not a {self.member} of the model; choose {', '.join(self.names)}"
        )

    def numbers(self, labels: Sequence[str], path: Path, split: str) -> NDArray[Any]:
        """Return the labels of a split's rows as numbers.

        Parameters
        ----------
        labels : sequence of str
            As written.
        path, split
            For messages.

        Returns
        -------
        int64 or float64, shape (n_rows,), or int64, shape (n_rows, n_labels)
            As the labels of `metrics.score`.

        Raises
        ------
        InputError
            If there are classes or labels that `names` lacks, vectors of another length, or no numbers.
        """
        if self.problem == "regression":
            return _values(labels, path)
        number_of = {name: number for number, name in enumerate(self.names)}
        if self.problem != "multilabel":
            self._check_known(labels, labels, path, split)
            return np.array([number_of[label] for label in labels], dtype=np.int64)
        members_of = {label: members(label) for label in set(labels)}
        if self.vectors:
            self._check_vectors(members_of, path, split)
            members_of = {
                label: tuple(name for name, one in zip(self.names, vector, strict=True) if one == "1")
                for label, vector in members_of.items()
            }
        rows = [members_of[label] for label in labels]
        self._check_known([name for row in rows for name in row], labels, path, split)
        numbers = np.zeros((len(labels), len(self.names)), dtype=np.int64)
        for row, names in enumerate(rows):
            numbers[row, [number_of[name] for name in names]] = 1
        return numbers

    def _check_known(self, found: Sequence[str], labels: Sequence[str], path: Path, split: str) -> None:
        among = set(found) - set(self.names)
        if not among:
            return
        unseen = min(among)
        number = sum(label in among for label in found)
        same = [name for name in self.names if value_of(name) == value_of(unseen)]
        if same:
            remedy = f"write it as in train, {same[0]!r}"
        elif are_measured(self.names) or are_measured([*among]):
            remedy = "these look like measured values; add `problem=regression`, or give a few classes"
        elif self.problem != "multilabel" and are_lists([*among]):
            remedy = "these look like several labels per row; add `problem=multilabel`"
        else:
            remedy = "correct these labels or add such rows to train"
        raise InputError(
            f"{path}: the {split} split has the label {listed([unseen])!r}, unseen in train ({listed(self.names)}),"
            f" in {number:,} of {len(labels):,} rows: {remedy}"
        )

    def _check_vectors(self, vectors: dict[str, tuple[str, ...]], path: Path, split: str) -> None:
        for label, vector in vectors.items():
            if len(vector) != len(self.names) or set(vector) - {"0", "1"}:
                raise InputError(
                    f"{path}: the {split} split has the label {label!r}; needed a 0 or 1 for each of the"
                    f" {len(self.names)} labels, as in train"
                )

    def in_every_row(self, labels: NDArray[Any]) -> list[str]:
        """Return what all rows of a split have in common, so that some of its scores tell nothing.

        Parameters
        ----------
        labels : int64 or float64, shape (n_rows,), or int64, shape (n_rows, n_labels)
        """
        if self.problem == "multilabel":
            means = labels.mean(axis=0).tolist()
            alike = [name for name, mean in zip(self.names, means, strict=True) if mean in (0, 1)]
            return [f"labels that no row has, or every row: {listed(alike)}"] if alike else []
        if (labels != labels[0]).any():
            return []
        where = f"in its {len(labels):,} row(s)"
        if self.problem == "regression":
            return [f"has one value only, {labels[0]:g}, {where}: it correlates with nothing"]
        name = self.names[labels[0]]
        return [
            f"has one class only, {name!r}, {where}: MCC is 0 by definition, and accuracy and F1 tell nothing"
        ]

    def written(self, row: Any) -> str:
        """Return one row's numbers as a label: the class, the labels with `SEPARATOR` between, or the value."""
        if self.problem == "regression":
            return f"{float(row):.9g}"
        if self.problem == "multilabel":
            names = [name for name, one in zip(self.names, row, strict=True) if one]
            return SEPARATOR.join(names) or NONE
        return self.names[int(row)]


def target_of(labels: Collection[str], problem: Problem | None, path: Path) -> Target:
    """Return what a model is to predict, from the labels of train.

    Parameters
    ----------
    labels : collection of str
    problem : str or None
        None: measured values are a regression, lists of numbers several labels per row; else they are classes.
    path : Path
        For messages.

    Raises
    ------
    InputError
        If there are more than two labels of a binary problem, or no numbers of a regression.
    """
    distinct = sorted(set(labels))
    if problem is None:
        problem = "regression" if are_measured(distinct) else "multilabel" if are_lists(distinct) else None
    if problem == "regression":
        _values(distinct, path)
        return Target(problem, (VALUE,))
    vectors = False
    if problem == "multilabel":
        rows = [members(label) for label in distinct]
        vectors = _are_vectors(rows)
        names = (
            tuple(map(str, range(len(rows[0])))) if vectors else ordered({one for row in rows for one in row})
        )
    else:
        names = ordered(distinct)
    if problem == "binary" and len(names) != 2:
        raise InputError(f"{path} has {len(names):,} labels ({listed(names)}); a binary problem has two")
    return Target(problem or ("binary" if len(names) == 2 else "multiclass"), names, vectors)


def members(label: str) -> tuple[str, ...]:
    """Return the labels in a list.

    >>> members("[0, 2]"), members("donor;acceptor"), members("weak donor"), members("[]"), members("0 1 0")
    (('0', '2'), ('donor', 'acceptor'), ('weak donor',), (), ('0', '1', '0'))
    """
    inner = label.strip().removeprefix("[").removeprefix("(").removesuffix("]").removesuffix(")")
    by_blanks = re.fullmatch(r"[\d\s]*", inner)
    parts = (part.strip().strip("'\"") for part in (inner.split() if by_blanks else re.split("[,;|]", inner)))
    return tuple(part for part in parts if part)


def _are_vectors(rows: Sequence[tuple[str, ...]]) -> bool:
    """Return whether each list is a 0 or 1 for each label: of one length, and no lists of different labels."""
    alike = len(set(map(len, rows))) == 1 and set().union(*rows) <= {"0", "1"}
    return alike and any(len(set(row)) < len(row) for row in rows)


def _values(labels: Sequence[str], path: Path) -> NDArray[np.float64]:
    values = [value_of(label) for label in labels]
    wrong = [label for label, value in zip(labels, values, strict=True) if not isinstance(value, float)]
    if wrong:
        raise InputError(
            f"{path} has the label {listed(wrong[:1])!r} in {len(wrong):,} of {len(labels):,} rows; a regression"
            " needs a number in every row"
        )
    return np.array(values, dtype=np.float64)
