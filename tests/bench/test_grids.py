"""The runs of an evaluation: which tasks there are, and how shards divide them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.bench.grids import Cell, Grid, build_grid, parse_shard, parse_shots
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.datasets.task_files import TaskFiles
from cmgems_cli.errors import InputError, UsageError


def test_cells_go_task_by_task_and_what_lacks_files_is_named(gue: Path) -> None:
    grid = build_grid(shipped("gue"), gue, tasks="mouse/0,EMP/H3,tf/0", seeds=[7, 8])
    assert [cell.folder for cell in grid.cells] == [
        "mouse-0-seed-7",
        "mouse-0-seed-8",
        "tf-0-seed-7",
        "tf-0-seed-8",
    ]
    assert [task.label for task in grid.tasks()] == ["mouse-0", "tf-0"]
    assert grid.missing == {"EMP/H3": "no train.csv"}


def test_a_folder_without_any_task_is_refused(gue: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has the data of no task wanted"):
        build_grid(shipped("gue"), gue, tasks="tf/4")
    with pytest.raises(InputError, match="is not a folder; needed the folder of the GUE benchmark"):
        build_grid(shipped("gue"), tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "0", "all,", "5-3", "none"])
def test_odd_lists_of_shots_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="`shots`"):
        parse_shots(text)


def test_all_rows_are_asked_for_in_any_case_of_letters() -> None:
    assert parse_shots("All,10") == parse_shots("all,10") == [None, 10]


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "1/", "a/b", "1/0", "-1/2"])
def test_odd_shards_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="`shard`"):
        parse_shard(text)


@given(st.integers(1, 40), st.integers(1, 12))
def test_shards_share_all_runs_without_overlap(n_seeds: int, of: int) -> None:
    task = TaskFiles(shipped("gue"), shipped("gue").task("tf/0"), {}, None)
    grid = Grid(shipped("gue"), tuple(Cell(task, seed) for seed in range(n_seeds)), {})
    shared = [cell for number in range(1, of + 1) for cell in grid.shard(number, of)]
    assert sorted(cell.seed for cell in shared) == list(range(n_seeds))
    sizes = [len(grid.shard(number, of)) for number in range(1, of + 1)]
    assert max(sizes) - min(sizes) <= 1
