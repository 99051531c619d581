from pathlib import Path

import pytest

from cmgems_cli.bench.grids import build_grid
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.datasets.task_files import find_split, find_task, find_task_files
from cmgems_cli.errors import InputError

GUE, FEWSHOT = shipped("gue"), shipped("fewshot")


def fewshot_files(root: Path, name: str, shots: int | None) -> tuple[Path, Path]:
    files = find_task_files(FEWSHOT, FEWSHOT.task(name), root, shots).files
    return files["pool"], files["test"]


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_splits_are_found_in_any_case_and_csv_before_tsv(tmp_path):
    touched(tmp_path, "Train.CSV", "dev.tsv", "test.tsv", "test.csv")
    assert [find_split(tmp_path, split).name for split in ("train", "dev", "test")] == [
        "Train.CSV",
        "dev.tsv",
        "test.csv",
    ]


def test_gue_tasks_there_and_missing(tmp_path):
    touched(tmp_path, "TF/0/train.csv", "TF/0/dev.csv", "TF/0/test.csv", "TF/notes.txt", "EMP/H3/dev.csv")
    grid = build_grid(GUE, tmp_path, tasks="tf/1,tf/0,EMP/H3,mouse/0")
    assert [task.name for task in grid.tasks()] == ["tf/0"]
    assert {path.parent for path in grid.tasks()[0].files.values()} == {tmp_path / "TF" / "0"}
    assert grid.missing == {
        "tf/1": "no folder tf/1",
        "EMP/H3": "no train.csv and no test.csv",
        "mouse/0": "no folder mouse/0",
    }
    with pytest.raises(
        InputError, match=r"is not a folder; needed the folder of the GUE benchmark.*`cmgems fetch gue`"
    ):
        build_grid(GUE, tmp_path / "none")


@pytest.mark.parametrize(
    ("files", "train", "test"),
    [
        (["Prom-core/10/train.tsv", "Prom-core/test.tsv"], "Prom-core/10/train.tsv", "Prom-core/test.tsv"),
        (["prom_core/10/train_promcore_10.tsv", "prom_core/10/test.tsv", "prom_core/test.tsv"],
         "prom_core/10/train_promcore_10.tsv", "prom_core/10/test.tsv"),
        (["PROM-CORE/10/TRAIN.TSV", "PROM-CORE/full-dataset/test.tsv", "PROM-CORE/full-dataset/train.tsv"],
         "PROM-CORE/10/TRAIN.TSV", "PROM-CORE/full-dataset/test.tsv"),
        # No folder of that many shots: the whole train file is the pool.
        (["prom-core/50/train.tsv", "prom-core/full-dataset/train.tsv", "prom-core/full-dataset/test.tsv"],
         "prom-core/full-dataset/train.tsv", "prom-core/full-dataset/test.tsv"),
        (["prom-core/train.csv", "prom-core/test.csv"], "prom-core/train.csv", "prom-core/test.csv"),
        # Other files with such beginnings are not meant.
        (["prom-core/10/train.tsv", "prom-core/10/training.tsv", "prom-core/tests.tsv", "prom-core/test.tsv"],
         "prom-core/10/train.tsv", "prom-core/test.tsv"),
    ],
)  # fmt: skip
def test_few_shot_files_are_found_under_their_several_names(tmp_path, files, train, test):
    touched(tmp_path, *files)
    assert fewshot_files(tmp_path, "prom-core", 10) == (tmp_path / train, tmp_path / test)


def test_all_rows_of_a_few_shot_dataset_are_its_full_files(tmp_path):
    touched(
        tmp_path,
        "Prom-core/10/train.tsv",
        "Prom-core/full-dataset/train.tsv",
        "Prom-core/full-dataset/test.tsv",
    )
    full = tmp_path / "Prom-core" / "full-dataset"
    assert fewshot_files(tmp_path, "prom-core", None) == (full / "train.tsv", full / "test.tsv")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["Splice-40/10/train.tsv"], "no folder prom-core"),
        (["prom-core/50/train.tsv"], r"no train file for 10 shots in prom-core \(it has 50\)"),
        (
            ["prom-core/10/pool.tsv", "prom-core/train.tsv"],
            r"no train file for 10 shots in 10 \(it has pool.tsv\)",
        ),
        (["prom-core/10/train.tsv", "prom-core/10/train_2.tsv"], "several train files"),
        (["prom-core/10/train.tsv", "test.tsv"], r"10/train.tsv has no test file near it"),
    ],
)
def test_few_shot_files_that_are_not_there_are_named(tmp_path, files, words):
    touched(tmp_path, *files)
    with pytest.raises(InputError, match=words):
        fewshot_files(tmp_path, "prom-core", 10)
    with pytest.raises(InputError, match=r"has the data of no task wanted \(prom-core, 10 shots: "):
        build_grid(FEWSHOT, tmp_path, tasks="prom-core", shots=[10])


def test_the_test_of_one_train_file(tmp_path):
    touched(tmp_path, "set/train.tsv", "set/test.tsv", "deep/down/train.tsv", "deep/test.tsv")
    assert find_task(tmp_path / "set" / "train.tsv").files["test"] == tmp_path / "set" / "test.tsv"
    # A folder that is not named after a number of shots has nothing to do with the one above.
    with pytest.raises(InputError, match="no test file near it"):
        find_task(tmp_path / "deep" / "down" / "train.tsv")


@pytest.mark.parametrize("name", ["genome.fa.gz", "hg38.FASTA", "trained.fna"])
def test_fasta_in_place_of_labelled_tables_is_named(tmp_path, name):
    touched(tmp_path, name, "train.fna")
    with pytest.raises(
        InputError, match=rf"{name} is a FASTA file; needed a folder with train, dev and test\.csv"
    ):
        find_task(tmp_path / name)
    with pytest.raises(InputError, match=r"train\.fna has no test file near it"):
        find_task(tmp_path / "train.fna")


def test_the_real_few_shot_folder(fewshot_data):
    grid = build_grid(FEWSHOT, fewshot_data, shots=[10, 50, 100, 500], seeds=[1])
    assert [str(task) for task in grid.tasks()] == [
        *(f"prom-core, {shots} shots" for shots in (10, 50, 100, 500)),
        *(f"splice-40, {shots} shots" for shots in (10, 50, 100)),
    ]
    assert "no test file" in grid.missing["prom-300, 10 shots"]
    train, test = fewshot_files(fewshot_data, "splice-40", 10)
    assert train.name == "train_splice40_10.tsv"
    assert test == fewshot_data / "Splice-40" / "test.tsv"


def test_the_real_gue_folder(gue_data):
    grid = build_grid(GUE, gue_data, tasks=",".join(task.name for task in GUE.tasks))
    assert [task.name for task in grid.tasks()] == [
        "prom/prom_core_all",
        "prom/prom_core_tata",
        "tf/0",
        "mouse/0",
        "mouse/2",
    ]
    assert grid.missing["EMP/H3"] == "no train.csv"
    assert len(grid.tasks()) + len(grid.missing) == 28
