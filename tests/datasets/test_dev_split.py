"""The dev split that is made of train: by class, by sequence, whatever the order of the rows."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.datasets.dev_split import split_off_dev
from cmgems_cli.datasets.labelled_formats import digest_of_rows
from cmgems_cli.datasets.loaded_task import load_task
from cmgems_cli.datasets.splits import SIX_MERS, Counts, Table
from cmgems_cli.datasets.task_files import find_task
from cmgems_cli.genome.codec import offsets_of


def table_of(rows: list[tuple[str, int]]) -> Table:
    letters = np.frombuffer("".join(seq for seq, _ in rows).encode(), np.uint8)
    offsets = offsets_of(np.array([len(seq) for seq, _ in rows], np.int64))
    labels = np.array([label for _, label in rows], np.int64)
    counts = Counts(len(rows), tuple(np.bincount(labels, minlength=3).tolist()), 0, 0, 0, 0, 0, 0)
    return Table(Path("x"), letters, offsets, labels, ("0", "1", "2"), counts)


def rows_of(table: Table) -> list[tuple[bytes, int]]:
    return list(zip(table.sequences(), table.labels.tolist(), strict=True))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.text("ACGT", min_size=6, max_size=8), st.integers(0, 2)), min_size=3, max_size=60),
    st.floats(0.05, 0.9),
    st.randoms(use_true_random=False),
)
def test_dev_is_a_part_of_each_class_and_shares_no_sequence_with_train(rows, fraction, shuffle) -> None:
    table = table_of(rows)
    train, dev = split_off_dev(table, fraction)
    assert sorted(rows_of(train) + rows_of(dev)) == sorted(rows_of(table))
    assert not set(train.sequences()) & set(dev.sequences())
    assert len(dev) == dev.counts.rows
    assert train.counts == table.counts
    # Without repeated sequences, the sizes are exact.
    if len({seq for seq, _ in rows}) == len(rows):
        for label in range(3):
            n = sum(one == label for _, one in rows)
            assert int((dev.labels == label).sum()) == min(max(1, round(fraction * n)), max(0, n - 1))
    # The order of the rows is none of its business.
    shuffled = list(rows)
    shuffle.shuffle(shuffled)
    assert sorted(rows_of(split_off_dev(table_of(shuffled), fraction)[1])) == sorted(rows_of(dev))


def write(folder: Path, rows: int, splits: tuple[str, ...]) -> Path:
    folder.mkdir(parents=True)
    for number, split in enumerate(splits):
        letters = np.random.default_rng(number).choice(list("ACGT"), (rows, 40))
        text = "".join(f">r{row}|{row % 2}\n{''.join(line)}\n" for row, line in enumerate(letters))
        (folder / f"{split}.fna").write_text(text)
    return folder


def load(folder: Path):
    task = find_task(folder)
    return task, load_task(task, {}, tokenization=SIX_MERS, positions=512)


def test_a_task_of_a_benchmark_without_dev_gets_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "nt18" / "enhancers", 100, ("train", "test"))
    task, loaded = load(folder)
    assert (task.benchmark, task.name) == (shipped("nt18"), "enhancers")
    assert (len(loaded.train), len(loaded.dev), len(loaded.test)) == (90, 10, 100)
    assert np.bincount(loaded.dev.labels).tolist() == [5, 5]
    assert (
        "dev is 10 of train's 100 rows, drawn class by class: the benchmark has no dev split" in loaded.notes
    )
    assert loaded.sha256 == {split: digest_of_rows(path) for split, path in task.files.items()}
    assert set(loaded.sha256) == {"train", "test"}
    # One in the data is used as it is.
    own, with_own = load(write(tmp_path / "again" / "nt18" / "enhancers", 20, ("train", "dev", "test")))
    assert own.dev_fraction is None
    assert len(with_own.dev) == 20


def test_folders_named_like_a_task_alone_are_of_no_benchmark(tmp_path: Path) -> None:
    folder = write(tmp_path / "enhancers", 10, ("train", "dev", "test"))
    assert find_task(folder).benchmark.name == ""


@pytest.mark.parametrize("name", ["nt18", "genomic-benchmarks"])
def test_the_shipped_benchmarks_are_as_published(name: str) -> None:
    bench = shipped(name)
    assert len(bench.tasks) == {"nt18": 18, "genomic-benchmarks": 9}[name]
    assert (bench.metric, bench.dev_fraction) == ({"nt18": "mcc"}.get(name, "accuracy"), 0.1)
    three = {"enhancers_types", "splice_sites_all", "human_ensembl_regulatory"}
    assert {task.name for task in bench.tasks if task.classes == 3} == three & {t.name for t in bench.tasks}
