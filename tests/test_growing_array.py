"""An array that grows row by row."""

from pathlib import Path

import numpy as np

from cmgems_cli.growing_array import GrowingArray, growing_array

WINDOW = np.dtype([("start", "<i8"), ("n_tokens", "<u2")])


def test_a_growing_array_is_what_numpy_writes(tmp_path: Path) -> None:
    rows = np.zeros(3, WINDOW)
    rows["start"] = [1, 2, 3]
    with growing_array(tmp_path / "a.npy", WINDOW) as growing:
        growing.append(rows[:1])
        growing.append(rows[:0])
        growing.append(rows[1:])
    np.save(tmp_path / "b.npy", rows)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_a_growing_array_is_continued_by_another_process(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).random((70_000, 2, 3), np.float32)
    with (tmp_path / "a.npy").open("wb") as stream:
        array = GrowingArray(stream, np.dtype("<f4"), (2, 3))
        array.append(rows[:5])
    with (tmp_path / "a.npy").open("rb+") as stream:
        array = GrowingArray(stream, np.dtype("<f4"), (2, 3), rows=5)
        array.append(rows[5:])
        array.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), rows)
