from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.datasets import leakage as module
from cmgems_cli.datasets.containment import THRESHOLD, K
from cmgems_cli.datasets.leakage import (
    TITLE,
    Leakage,
    leakage,
    leakage_note,
    leakage_of_tables,
    leakage_stats,
)
from cmgems_cli.datasets.splits import read_splits
from cmgems_cli.datasets.task_files import find_split
from tests.datasets.test_containment import changed, random_sequence, reverse_complement, slow_containment


def test_equal_and_near_rows_of_every_later_split_are_those_of_a_slow_count() -> None:
    rng = np.random.default_rng(3)
    train = [random_sequence(rng, 80) for _ in range(30)]
    dev = [*train[:4], *(changed(rng, one, 1) for one in train[4:9]), random_sequence(rng, 80)]
    test = [train[0], train[0], reverse_complement(train[1]), dev[-1], b"ACGT", b"", *(train[9:10])]
    counted = leakage({"train": train, "dev": dev, "test": test})
    assert [(one.split, one.other) for one in counted] == [
        ("test", "train"), ("dev", "train"), ("test", "dev"),
    ]  # fmt: skip
    splits = {"train": train, "dev": dev, "test": test}
    for one in counted:
        rows, others = splits[one.split], splits[one.other]
        near = [row for row in rows if any(slow_containment(row, other) >= THRESHOLD for other in others)]
        assert one.rows == len(rows)
        assert one.equal == sum(row in others for row in rows)
        assert one.near == sum(row not in others for row in near)
    assert (counted[0].equal, counted[0].near, counted[2].equal) == (3, 1, 3)


def test_the_note_leaves_out_what_is_zero_and_statistics_do_not() -> None:
    counted = [Leakage("test", "train", 1200, 1, 20), Leakage("dev", "train", 9, 0, 0)]
    assert leakage_note(counted) == f"{module.NOTE_START}1 + 20 of 1,200 test rows in train"
    assert "; " not in str(leakage_note([*counted, *counted]))
    assert leakage_note(counted[1:]) is None
    assert leakage_stats(counted)["dev in train"] == {"equal": 0, "near": 0}
    assert (f"{K}-mers" in TITLE, "half" in TITLE, THRESHOLD) == (True, True, 0.5)


def test_a_pool_comes_first_and_is_named() -> None:
    assert [(one.split, one.other) for one in leakage({"pool": [b"A"], "test": [b"A"]})] == [("test", "pool")]


def test_tables_are_counted_once_per_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    paths = {}
    for split in ("train", "dev", "test"):
        rows = [f"{random_sequence(rng, 40).decode()},{i % 2}\n" for i in range(4)]
        paths[split] = tmp_path / f"{split}.csv"
        paths[split].write_text("sequence,label\n" + "".join(rows))
    first = leakage_of_tables(read_splits(paths).tables)
    monkeypatch.setattr(module, "leakage", None)
    assert leakage_of_tables(read_splits(paths).tables) is first
    # Sequences that were cut may differ: they are counted again.
    with pytest.raises(TypeError):
        leakage_of_tables(read_splits(paths, max_tokens=20, truncate=True).tables)


def test_leakage_in_real_files(gue_data: Path) -> None:
    folder = gue_data / "prom/prom_core_all"
    splits = read_splits({split: find_split(folder, split) for split in ("train", "dev", "test")})
    # Equal rows were counted apart from this code, by sets over csv rows.
    assert [one.equal for one in leakage_of_tables(splits.tables)] == [43, 54, 8]
