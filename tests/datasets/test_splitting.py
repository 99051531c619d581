import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.datasets.containment import THRESHOLD, clusters
from cmgems_cli.datasets.labelled_table import read_labelled_rows
from cmgems_cli.datasets.split_options import SplitOptions
from cmgems_cli.datasets.splits import read_splits
from cmgems_cli.datasets.splitting import assign_groups, split_rows
from cmgems_cli.errors import InputError, UsageError
from tests.command_line import CommandLine
from tests.datasets.test_containment import changed, random_sequence, slow_containment

SPLITS = ("train", "dev", "test")


def table(path: Path, rows: list[tuple[str, ...]], header: str = "sequence,label") -> Path:
    path.write_text("\n".join([header, *map(",".join, rows)]) + "\n")
    return path


def sequences(number: int, length: int = 60, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [random_sequence(rng, length).decode() for _ in range(number)]


def test_the_default_containment_is_that_of_leakage() -> None:
    assert SplitOptions().containment == THRESHOLD


@pytest.fixture
def families(tmp_path: Path) -> Path:
    """60 families of one to four near-duplicates; a third of the families is positive."""
    rng = np.random.default_rng(1)
    rows = []
    for number, first in enumerate(sequences(60)):
        for _ in range(number % 4 + 1):
            rows.append((changed(rng, first.encode(), 1).decode(), str(int(number % 3 == 0))))
    return table(tmp_path / "families.csv", rows)


@pytest.fixture
def located(tmp_path: Path) -> Path:
    """200 rows of ten chromosomes, whose intervals are their names."""
    rows = [
        (f"chr{i % 10 + 1}:{i}-{i + 60}(+)", one, str(i // 10 % 2)) for i, one in enumerate(sequences(200))
    ]
    return table(tmp_path / "located.csv", rows, "name,sequence,label")


def split_of(path: Path, seed: int = 42, **options: object):
    return split_rows(read_labelled_rows(path), SplitOptions(**options), seed=seed)  # type: ignore[arg-type]


# --- what is divided


def test_near_duplicates_are_in_one_split_and_the_leakage_afterwards_is_zero(families: Path) -> None:
    task = split_of(families)
    rows = [one.encode() for one, _ in csv.reader(families.open())][1:]
    near = [
        (i, j)
        for i, one in enumerate(rows)
        for j, other in enumerate(rows[:i])
        if slow_containment(one, other) >= THRESHOLD
    ]
    assert len(near) > 60
    assert all(task.split[i] == task.split[j] for i, j in near)
    assert all((one.equal, one.near) == (0, 0) for one in task.leakage)
    by_row = split_of(families, by="stratified")
    assert by_row.leakage[0].near > 0
    assert task.counted["clusters"] == len({int(c) for c in clusters(rows)}) >= 60


def test_shares_of_rows_and_labels_are_those_asked_for(families: Path, located: Path) -> None:
    for path, by in ((families, "cluster"), (families, "stratified"), (located, "chromosome")):
        task = split_of(path, by=by, dev=0.2, test=0.1)
        labels = Counter(task.rows.labels)
        for number, share in enumerate((0.7, 0.2, 0.1)):
            found = task.labels_of(number)
            assert abs(found.total() - share * labels.total()) <= 4, (by, number)
            assert all(abs(found[label] - share * labels[label]) <= 4 for label in labels), (by, number)


def test_named_chromosomes_go_where_they_are_wanted_in_either_naming(located: Path) -> None:
    task = split_of(located, by="chromosome", test_chromosomes="8,chr9", dev_chromosomes="7")
    assert task.counted["chromosomes"] == {
        "train": ["chr1", "chr2", "chr3", "chr4", "chr5", "chr6", "chr10"],
        "dev": ["chr7"],
        "test": ["chr8", "chr9"],
    }
    # The other split is chosen by its share.
    task = split_of(located, by="chromosome", test_chromosomes="chr3", dev=0.3)
    assert len(task.counted["chromosomes"]["dev"]) == 3
    assert task.counted["chromosomes"]["test"] == ["chr3"]
    # Each chromosome is a tenth, so that none fits a twentieth: dev and test are one all the same.
    task = split_of(located, by="chromosome", dev=0.05, test=0.05)
    assert [len(task.counted["chromosomes"][name]) for name in SPLITS] == [8, 1, 1]


def test_measured_values_are_spread_by_their_size(tmp_path: Path) -> None:
    rows = [(one, f"{i}.5") for i, one in enumerate(sequences(200))]
    task = split_of(table(tmp_path / "t.csv", rows), by="stratified")
    values = np.array([float(label) for label in task.rows.labels])
    for number in range(3):
        assert abs(values[task.split == number].mean() - values.mean()) < 10
    assert "rows_of_label" not in task.stats()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=1, max_size=60),
    st.floats(0.05, 0.4),
    st.floats(0.05, 0.4),
    st.integers(0, 9),
)
def test_groups_stay_whole_and_no_split_but_train_exceeds_its_share(rows, dev, test, seed):
    number = {group: index for index, group in enumerate(dict.fromkeys(group for group, _ in rows))}
    groups = np.array([number[group] for group, _ in rows])
    strata = np.array([stratum for _, stratum in rows])
    shares = np.array([1 - dev - test, dev, test])
    split = assign_groups(groups, strata, shares, seed=seed)
    assert all(len(set(split[groups == group].tolist())) == 1 for group in number.values())
    assert all((split == part).sum() <= shares[part] * len(rows) + 0.5 for part in (1, 2))
    assert assign_groups(groups, strata, shares, seed=seed).tolist() == split.tolist()


def test_another_seed_is_another_split(families: Path) -> None:
    one, other = split_of(families, seed=1), split_of(families, seed=2)
    assert one.split.tolist() != other.split.tolist()


# --- what is refused


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"dev": 0.5, "test": 0.5}, UsageError, "needed both above 0, and below 1 together"),
        ({"test_chromosomes": "chr8"}, UsageError, "need `by=chromosome`"),
        ({"by": "chromosome"}, InputError, r"has no column with chromosomes \(it has: sequence, label\)"),
        ({"by": "chromosome", "column": "where"}, UsageError, "has no column 'where'"),
        ({"by": "chromosome", "column": "label", "test_chromosomes": "Z"}, UsageError, "it has 1, 0"),
    ],
)
def test_options_that_do_not_fit_the_table(
    families: Path, options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        split_of(families, **options)


def test_splits_without_rows_or_labels_are_refused(tmp_path: Path) -> None:
    same = table(tmp_path / "same.csv", [(sequences(1)[0], str(i % 2)) for i in range(20)])
    with pytest.raises(InputError, match=r"leaves a split without rows \(train 20, dev 0, test 0\)"):
        split_of(same)
    rows = [(f"chr{i // 10}", one, "rare" if i < 10 else str(i % 2)) for i, one in enumerate(sequences(50))]
    rare = table(tmp_path / "rare.csv", rows, "Chrom,sequence,label")
    with pytest.raises(InputError, match="leaves train without the label rare"):
        split_of(rare, by="chromosome", test_chromosomes="chr0")
    with pytest.raises(UsageError, match="chr1 is in `dev_chromosomes` and in `test_chromosomes`"):
        split_of(rare, by="chromosome", test_chromosomes="chr1", dev_chromosomes="1,chr1")
    (tmp_path / "gap.csv").write_text("chrom,sequence,label\nchr1,ACGT,0\n,ACGT,1\n")
    with pytest.raises(InputError, match="row 2 has '' in its column 'chrom'"):
        split_of(tmp_path / "gap.csv", by="chromosome")


# --- the command


def test_the_command_writes_a_task_that_can_be_read_with_all_columns(
    cmgems: CommandLine, located: Path, tmp_path: Path, workspace: Path
) -> None:
    done = cmgems("split", located, "--by", "chromosome", "--test-chromosomes", "chr10", "--json")
    folder = workspace / "tasks" / "located"
    manifest = read_manifest(folder, "task", verify=True)
    assert done.json["kind"] == "task"
    assert manifest.stats["n_test"] == 20
    assert manifest.stats["rows_of_label"]["0"]["test"] + manifest.stats["rows_of_label"]["1"]["test"] == 20
    assert manifest.stats["leakage"]["test in train"] == {"equal": 0, "near": 0}
    written = [row for name in SPLITS for row in csv.reader((folder / f"{name}.csv").open())]
    original = list(csv.reader(located.open()))
    assert sorted(written) == sorted([*original, original[0], original[0]])
    tables = read_splits({name: folder / f"{name}.csv" for name in SPLITS}).tables
    assert {name: len(one) for name, one in tables.items()}["test"] == 20


def test_a_second_call_is_done_at_once_and_another_way_is_refused(
    cmgems: CommandLine, families: Path, tmp_path: Path
) -> None:
    out = tmp_path / "task"
    assert cmgems("split", families, "--out", out, "--dry-run", "--json").json["n_train"] > 100
    assert not out.exists()
    cmgems("split", families, "--out", out, "--quiet")
    before = (out / "manifest.json").read_bytes()
    cmgems("split", families, "--out", out, "--quiet")
    assert (out / "manifest.json").read_bytes() == before
    cmgems("split", families, "--by", "stratified", "--out", out, "--quiet", code=4)
    assert (
        "near-duplicate"
        in cmgems("split", families, "--by", "stratified", "--out", out, "--overwrite").stderr
    )


def test_b3_cells_with_returns_and_formulas_are_read_back(cmgems: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow(["name", "sequence", "label", "=1+1"])
        for row in range(40):
            writer.writerow(
                [f"n{row}\rmore", "".join("ACGT"[(row * 7 + at * at) % 4] for at in range(40)), row % 2, "x"]
            )
    cmgems("split", path, "--by", "stratified", "--out", tmp_path / "out")
    for name in ("train.csv", "dev.csv", "test.csv"):
        with (tmp_path / "out" / name).open(newline="") as stream:
            rows = list(csv.reader(stream))
        assert rows[0] == ["name", "sequence", "label", "'=1+1"]
        assert all(row[0].endswith("\rmore") and len(row) == 4 for row in rows[1:])
