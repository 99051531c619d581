"""The formats of labelled sequences give the same rows, and name the place of what is wrong."""

import gzip
import random
from pathlib import Path

import pytest

from cmgems_cli.datasets.labelled_formats import digest_of_rows
from cmgems_cli.datasets.labelled_table import read_rows
from cmgems_cli.datasets.task_files import find_split
from cmgems_cli.errors import CmgemsError, InputError

PLENTY = 10**6
DRAW = random.Random(3)
ROWS = [("".join(DRAW.choices("ACGT", k=30 + row)), str(row % 3)) for row in range(12)]


def write_csv(folder: Path) -> Path:
    (folder / "train.csv").write_text("sequence,label\n" + "".join(f"{seq},{label}\n" for seq, label in ROWS))
    return folder / "train.csv"


def write_fasta(folder: Path) -> Path:
    text = "".join(
        f">chr1:{row}-9|x|{label}\n{seq[:20]}\n{seq[20:].lower()}\n" for row, (seq, label) in enumerate(ROWS)
    )
    (folder / "train.fna.gz").write_bytes(gzip.compress(text.encode()))
    return folder / "train.fna.gz"


def write_folders(folder: Path) -> Path:
    for row, (seq, label) in enumerate(ROWS):
        (folder / "train" / label).mkdir(parents=True, exist_ok=True)
        (folder / "train" / label / f"{row:02}.txt").write_text(f"{seq}\n")
    return folder / "train"


def write_parquet(folder: Path) -> Path:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    from pyarrow import parquet

    # Labels of hubs are numbers, and the column of sequences has two names.
    table = arrow.table({"seq": [seq for seq, _ in ROWS], "label": [int(label) for _, label in ROWS]})
    parquet.write_table(table, folder / "train.parquet")
    return folder / "train.parquet"


WRITERS = [write_csv, write_fasta, write_folders, write_parquet]


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same_rows_and_is_found_and_hashed(tmp_path: Path, write) -> None:
    path = write(tmp_path)
    assert find_split(tmp_path, "train") == path
    found = read_rows(path, max_bases=PLENTY)
    # Folders have no order of rows but that of their classes.
    expected = sorted(ROWS, key=lambda row: row[1]) if write is write_folders else ROWS
    assert list(zip(found.sequences, found.labels, strict=True)) == [
        (seq.encode(), label) for seq, label in expected
    ]
    assert found.sha256 == digest_of_rows(path)
    assert read_rows(path, max_bases=30).too_long == 11


def test_a_table_comes_before_the_other_formats(tmp_path: Path) -> None:
    for write, kept in zip(
        WRITERS[::-1], ("train.parquet", "train", "train.fna.gz", "train.csv"), strict=True
    ):
        write(tmp_path)
        assert find_split(tmp_path, "train").name == kept


def test_a_changed_file_of_a_class_changes_the_digest(tmp_path: Path) -> None:
    path = write_folders(tmp_path)
    before = digest_of_rows(path)
    (path / "0" / "00.txt").rename(path / "1" / "00.txt")
    assert digest_of_rows(path) != before


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "x.fna",
            ">a|1\nACGT\n>b\nACGT\n",
            r"record 2 \(b\) has no label in its header; needed >NAME\|LABEL",
        ),
        ("x.fna", ">a|1\nACGT\n>b|\nACGT\n", r"record 2 \(b\|\) has no label; add one"),
        ("x.fna", "", "begins with ''; needed FASTA"),
        ("x.fna", ">a|1\nAUGGCUAUGGCUAUGGCUAUGGCUAUGGCUAUGGCU\n", "RNA"),
        ("x/0/a.txt", "ACGT 1", r"x/0/a\.txt holds no sequence of letters"),
        ("x/0/a.txt", "", r"x/0/a\.txt holds no sequence of letters"),
        ("x/0/a.txt", "MKVLAAGIVGLCAKLMEEQPPPWYRHDDNSTFKL", "protein"),
        ("x/a.txt", "ACGT", "has no files in folders; needed a folder per class"),
        ("x.parquet", "PAR1 of something else", "is not a readable Parquet file"),
    ],
)
def test_what_is_wrong_has_a_place(tmp_path: Path, name: str, text: str, said: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_rows(tmp_path / name.split("/")[0], max_bases=PLENTY)


def test_parquet_of_other_columns_or_values_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    from pyarrow import parquet

    for columns, said in (
        ({"text": ["ACGT"], "label": [1]}, "has the columns text, label; needed sequence and label"),
        ({"sequence": ["ACGT", "AC-T"], "label": [1, 0]}, "row 2 has no sequence of letters"),
        ({"sequence": ["ACGT", "ACT"], "label": [1, None]}, "row 2 has no label"),
        ({"sequence": [], "label": []}, "has no rows"),
    ):
        parquet.write_table(arrow.table(columns), tmp_path / "x.parquet")
        with pytest.raises(InputError, match=said):
            read_rows(tmp_path / "x.parquet", max_bases=PLENTY)


def test_parquet_without_pyarrow_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(
        CmgemsError, match=r"x\.parquet needs pyarrow, .*: pip install 'cmgems\[parquet\]', or save it as CSV"
    ):
        read_rows(tmp_path / "x.parquet", max_bases=PLENTY)
