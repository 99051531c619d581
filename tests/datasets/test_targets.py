"""What labels are, inferred and given; how lists of labels and values are read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmgems_cli.datasets.splits import Splits, read_splits
from cmgems_cli.datasets.targets import Target, target_of
from cmgems_cli.errors import InputError, UsageError


def read(folder: Path, train: list[str], test: list[str], **options: Any) -> Splits:
    for split, labels in (("train", train), ("test", test)):
        letters = ("".join("ACGT"[(row // 4**place) % 4] for place in range(8)) for row in range(len(labels)))
        rows = [f'{sequence},"{label}"' for sequence, label in zip(letters, labels, strict=True)]
        (folder / f"{split}.csv").write_text("\n".join(["sequence,label", *rows, ""]))
    return read_splits({split: folder / f"{split}.csv" for split in ("train", "test")}, **options)


@pytest.mark.parametrize(
    ("labels", "problem", "names"),
    [
        (["1", "0", "1"], "binary", ("0", "1")),
        (["1", "0", "-1"], "multiclass", ("-1", "0", "1")),
        (["b", "a", "c;a"], "multiclass", ("a", "b", "c;a")),
        (["1.0", "0.0"], "binary", ("0.0", "1.0")),
        (["1.5", "2", "-3e-2"], "regression", ("value",)),
        (["0;2", "10", "[]"], "multilabel", ("0", "2", "10")),
        (["[1, 2]", "[0, 1]"], "multilabel", ("0", "1", "2")),
        (["0 1", "1 0"], "multilabel", ("0", "1")),
        (["[0, 1, 0]", "[1, 1, 0]"], "multilabel", ("0", "1", "2")),
    ],
)
def test_what_labels_are_follows_from_their_form(
    labels: list[str], problem: str, names: tuple[str, ...]
) -> None:
    target = target_of(labels, None, Path("t.csv"))
    assert (target.problem, target.names) == (problem, names)


def test_lists_of_numbers_and_vectors_of_0_and_1_are_told_apart() -> None:
    path = Path("t.csv")
    lists, vectors = ["0;1", "1", "[]"], ["0 1 1", "0 0 0", "1 0 0"]
    as_lists, as_vectors = (target_of(labels, None, path) for labels in (lists, vectors))
    assert (as_lists.vectors, as_vectors.vectors) == (False, True)
    assert as_lists.numbers(lists, path, "train").tolist() == [[1, 1], [0, 1], [0, 0]]
    assert as_vectors.numbers(vectors, path, "train").tolist() == [[0, 1, 1], [0, 0, 0], [1, 0, 0]]
    with pytest.raises(
        InputError, match=r"the dev split has the label '0 1'; needed a 0 or 1 for each of the 3"
    ):
        as_vectors.numbers(["0 1"], path, "dev")
    with pytest.raises(InputError, match=r"the dev split has the label '7', unseen in train \(0, 1\)"):
        as_lists.numbers(["0;7"], path, "dev")


def test_labels_are_written_as_they_are_read() -> None:
    several = Target("multilabel", ("donor", "weak acceptor", "=x"))
    for row in ([0, 0, 0], [1, 0, 1], [0, 1, 0]):
        numbers = several.numbers([several.written(row)], Path("t.csv"), "test")
        assert numbers.tolist() == [row]
    assert several.written([0, 0, 0]) == "[]"
    assert Target("binary", ("no", "yes")).written(1) == "yes"
    assert Target("regression", ("value",)).written(-0.125) == "-0.125"


def test_values_are_read_and_the_problem_can_be_told(tmp_path: Path) -> None:
    splits = read(tmp_path, ["1", "2", "3"], ["2.5", "7"], problem="regression")
    assert splits.tables["train"].problem == "regression"
    assert splits.tables["test"].labels.tolist() == [2.5, 7.0]
    assert splits.tables["train"].counts.rows_of_label == (3,)
    assert splits.tables["train"].take(np.array([2, 0])).labels.tolist() == [3.0, 1.0]
    assert splits.warnings() == []
    named = read(tmp_path, ["a,b", "c", "[]"], ["b", "a;c"], problem="multilabel")
    assert named.label_names == ("a", "b", "c")
    assert named.tables["test"].labels.tolist() == [[0, 1, 0], [1, 0, 1]]
    assert named.tables["train"].counts.rows_of_label == (1, 1, 1)
    assert read(tmp_path, ["0.5", "1.5"], ["0.5"], problem="binary").label_names == ("0.5", "1.5")


def test_what_tells_nothing_is_warned_of(tmp_path: Path) -> None:
    (note,) = read(tmp_path, ["1.5", "2"], ["2", "2"]).warnings()
    assert note == "test has one value only, 2, in its 2 row(s): it correlates with nothing"
    (note,) = read(tmp_path, ["0;1", "2"], ["0", "0;2"]).warnings()
    assert note == "test labels that no row has, or every row: 0, 1"


@pytest.mark.parametrize(
    ("train", "test", "problem", "words"),
    [
        (["1.5", "1.50"], ["1.5"], None, "has the value 1.5 in every row"),
        (["1.5", "2.5"], ["high"], None, "has the label 'high' in 1 of 1 rows; a regression needs a number"),
        (["1.5", "2.5"], ["inf"], None, "has the label 'inf' in 1 of 1 rows; a regression needs a number"),
        (["a", "b"], ["a"], "regression", "has the label 'a' in 2 of 2 rows; a regression needs a number"),
        (["a", "b", "c"], ["a"], "binary", r"has 3 labels \(a, b, c\); a binary problem has two"),
        (["[]", "[1]"], ["[1]"], "multilabel", "has the label '1' in every row; needed at least two"),
        (["0", "1"], ["0.25"], None, "look like measured values; add `problem=regression`"),
        (["0", "1"], ["0;1"], None, "look like several labels per row; add `problem=multilabel`"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, train: list[str], test: list[str], problem: Any, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read(tmp_path, train, test, problem=problem)


def test_shots_need_classes(tmp_path: Path) -> None:
    from cmgems_cli.datasets.shots import draw_shots

    pool = read(tmp_path, ["1.5", "2.5"], ["2.5"]).tables["train"]
    with pytest.raises(UsageError, match=r"are rows per class, and .* is regression"):
        draw_shots(pool, 1, 42)
