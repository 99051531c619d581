from pathlib import Path

import pytest

from cmgems_cli.datasets.task_files import (
    FewshotFiles,
    fewshot_files,
    fewshot_files_of,
    fewshot_folders,
    find_split,
    gue_folders,
)
from cmgems_cli.datasets.tasks import FEWSHOT, GUE, gue_tasks
from cmgems_cli.errors import InputError

PROM_CORE = FEWSHOT["prom-core"]


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
    there, missing = gue_folders(tmp_path, gue_tasks("tf/1,tf/0,EMP/H3,mouse/0"))
    assert there == {"tf/0": tmp_path / "TF" / "0"}
    assert missing == {
        "tf/1": "no folder tf/1",
        "EMP/H3": "no train.csv and no test.csv",
        "mouse/0": "no folder mouse/0",
    }
    with pytest.raises(
        InputError, match=r"is not a folder; needed the folder of the GUE benchmark.*`cmgems fetch gue`"
    ):
        gue_folders(tmp_path / "none", GUE.values())


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
    assert fewshot_files(tmp_path, PROM_CORE, 10) == FewshotFiles(tmp_path / train, tmp_path / test)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["Splice-40/10/train.tsv"], r"has no folder prom-core \(it has Splice-40\)"),
        (["prom-core/50/train.tsv"], r"has no train file for 10 shots \(it has 50\)"),
        (["prom-core/10/pool.tsv", "prom-core/train.tsv"], r"prom-core/10 has no train file for 10 shots"),
        (["prom-core/10/train.tsv", "prom-core/10/train_2.tsv"], "several train files"),
        (["prom-core/10/train.tsv", "test.tsv"], r"10/train.tsv has no test file near it"),
    ],
)
def test_few_shot_files_that_are_not_there_are_named(tmp_path, files, words):
    touched(tmp_path, *files)
    with pytest.raises(InputError, match=words):
        fewshot_files(tmp_path, PROM_CORE, 10)
    there, missing = fewshot_folders(tmp_path, [PROM_CORE], [10])
    assert there == {}
    assert list(missing) == [("prom-core", 10)]


def test_the_test_of_one_train_file(tmp_path):
    touched(tmp_path, "set/train.tsv", "set/test.tsv", "deep/down/train.tsv", "deep/test.tsv")
    assert fewshot_files_of(tmp_path / "set" / "train.tsv").test == tmp_path / "set" / "test.tsv"
    # A folder that is not named after a number of shots has nothing to do with the one above.
    with pytest.raises(InputError, match="no test file near it"):
        fewshot_files_of(tmp_path / "deep" / "down" / "train.tsv")
    with pytest.raises(InputError, match="is not a file"):
        fewshot_files_of(tmp_path / "set")


def test_the_real_few_shot_folder(fewshot_data):
    there, missing = fewshot_folders(fewshot_data, FEWSHOT.values(), [10, 50, 100, 500])
    assert [f"{name} {shots}" for name, shots in there] == [
        *(f"prom-core {shots}" for shots in (10, 50, 100, 500)),
        *(f"splice-40 {shots}" for shots in (10, 50, 100)),
    ]
    assert "no test file" in missing["prom-300", 10]
    assert there["splice-40", 10].train.name == "train_splice40_10.tsv"
    assert there["splice-40", 10].test == fewshot_data / "Splice-40" / "test.tsv"


def test_the_real_gue_folder(gue_data):
    there, missing = gue_folders(gue_data, GUE.values())
    assert list(there) == ["prom/prom_core_all", "prom/prom_core_tata", "tf/0", "mouse/0"]
    assert missing["EMP/H3"] == "no train.csv"
    assert len(there) + len(missing) == 28
