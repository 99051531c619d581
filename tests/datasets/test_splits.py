from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmgems_cli.artifacts import sha256_of_file
from cmgems_cli.datasets.benchmark import SPLITS
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.datasets.splits import Splits, read_splits, read_table
from cmgems_cli.datasets.task_files import find_split
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.tokenization import OverlappingKmers
from cmgems_cli.genome.vocabulary import UNK, tokens
from tests.timing import within


def written(path: Path, rows: list[tuple[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("sequence,label\n" + "".join(f"{sequence},{label}\n" for sequence, label in rows))
    return path


def read_task(folder: Path, *, splits: tuple[str, ...] = SPLITS, **options: Any) -> Splits:
    return read_splits({split: find_split(folder, split) for split in splits}, **options)


def slow_token_ids(sequence: str, k: int) -> list[int]:
    ids = {token: number for number, token in enumerate(tokens(k))}
    return [ids.get(sequence[i : i + k].upper(), UNK) for i in range(len(sequence) - k + 1)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.text("ACGTacgtNR", max_size=30), st.sampled_from("0123")), min_size=1),
    st.sampled_from([3, 6]),
    st.integers(8, 20),
)
def test_tables_counts_and_tokens_are_those_of_a_slow_reading(tmp_path, rows, k, max_tokens):
    # One row that is known to every k, or the table would be refused.
    rows = [*rows, ("ACGTACGT", "0")]
    table = read_table(
        written(tmp_path / "t.csv", rows),
        tokenization=OverlappingKmers(k),
        max_tokens=max_tokens,
        truncate=True,
    )
    cut = [sequence.upper()[: max_tokens + k - 1] for sequence, _ in rows]
    ids = [slow_token_ids(sequence, k) for sequence in cut]
    assert [sequence.decode() for sequence in table.sequences()] == cut
    assert [table.label_names[label] for label in table.labels] == [label for _, label in rows]
    assert list(table.label_names) == sorted({label for _, label in rows})
    token_ids, offsets = table.encode(OverlappingKmers(k))
    assert [token_ids[a:b].tolist() for a, b in pairwise(offsets)] == ids
    counts = table.counts
    assert counts.rows == len(table) == len(rows)
    assert dict(zip(table.label_names, counts.rows_of_label, strict=True)) == Counter(
        label for _, label in rows
    )
    assert counts.duplicate_rows == len(cut) - len(set(cut))
    assert counts.short_rows == sum(len(sequence) < k for sequence in cut)
    assert counts.rows_with_other_letters == sum(bool(set(sequence) - set("ACGT")) for sequence in cut)
    assert counts.unknown_rows == sum(bool(row) and set(row) == {UNK} for row in ids)
    assert counts.truncated_rows == sum(len(sequence) > max_tokens + k - 1 for sequence, _ in rows)


def test_types_and_offsets_of_a_table(tmp_path):
    table = read_table(written(tmp_path / "t.csv", [("acgtac", 1), ("AC", 0), ("ACGTACG", 1)]))
    assert (table.bases.dtype, table.offsets.dtype, table.labels.dtype) == (np.uint8, np.int64, np.int64)
    assert table.bases.tobytes() == b"ACGTACACACGTACG"
    assert table.offsets.tolist() == [0, 6, 8, 15]
    token_ids, offsets = table.encode()
    assert (token_ids.dtype, offsets.tolist()) == (np.int32, [0, 1, 1, 3])


def test_take_keeps_rows_in_the_order_asked_for(tmp_path):
    table = read_table(written(tmp_path / "t.csv", [("ACGTAC", "b"), ("AC", "a"), ("ACGTACG", "b")]))
    taken = table.take(np.array([2, 1]))
    assert taken.sequences() == [b"ACGTACG", b"AC"]
    assert taken.labels.tolist() == [1, 0]
    assert taken.label_names == ("a", "b")
    assert len(table.take(np.array([], dtype=np.int64))) == 0


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["1", "0"], ("0", "1")),
        (["10", "9", "0"], ("0", "9", "10")),
        (["promoter", "other"], ("other", "promoter")),
        (["1", "1.0"], ("1", "1.0")),
        (["02", "1"], ("02", "1")),
        (["-1", "1"], ("-1", "1")),
    ],
)
def test_labels_are_numbered_in_their_order(tmp_path, labels, names):
    table = read_table(written(tmp_path / "t.csv", [("ACGTAC", label) for label in labels]))
    assert table.label_names == names
    assert [names[label] for label in table.labels] == labels


def test_sequences_beyond_the_limit_are_refused_or_cut_with_a_count(tmp_path):
    longest = "ACGTT" * 103
    path = written(tmp_path / "t.csv", [(longest, 0), (longest + "A", 1), (longest + "ACG", 1)])
    with pytest.raises(
        InputError, match=r"2 of 3 sequences are longer than 510 tokens, the longest 513.*`truncate=True`"
    ):
        read_table(path)
    table = read_table(path, truncate=True)
    assert np.diff(table.encode()[1]).tolist() == [510, 510, 510]
    assert table.counts.truncated_rows == 2
    assert "sequences cut to the longest input: 2" in table.counts.notes()
    # One limit in tokens is another in bases under another k.
    assert read_table(path, tokenization=OverlappingKmers(8), max_tokens=511).counts.truncated_rows == 0


def test_input_that_would_be_all_unk_is_refused(tmp_path):
    path = written(tmp_path / "t.csv", [("ACGTANACGT", 0), ("MKVLAT", 1), ("ACGTN", 1)])
    with pytest.raises(
        InputError, match=r"none of its 3 sequences has 6 letters A, C, G, T in a row.*\[UNK\]"
    ):
        read_table(path)
    assert read_table(path, tokenization=OverlappingKmers(5)).counts.unknown_rows == 2


def test_a_k_no_vocabulary_has_is_refused():
    with pytest.raises(UsageError):
        OverlappingKmers(9)


def test_what_is_odd_is_said_and_what_is_not_is_not(tmp_path):
    plain = read_table(written(tmp_path / "plain.csv", [("ACGTACGT", 0), ("ACGTACGG", 1)]))
    assert plain.counts.notes() == []
    path = tmp_path / "odd.csv"
    path.write_bytes(
        b"\xef\xbb\xbfSequence,Label,id\r\nacgtacgt,0,1\r\n\r\nACGTACGT,1,2\r\nACGNACGT,1,3\r\nA,1,4\r\n"
    )
    counts = read_table(path).counts
    assert counts.notes() == [
        "rows that repeat an earlier sequence: 1",
        "sequences with more than one label: 1",
        "rows shorter than one token: 1",
        "rows with letters other than A, C, G, T: 1",
        "rows of nothing but [UNK]: 1",
    ]


ROWS = [("ACGTACGA", "no"), ("ACGTACGC", "yes"), ("ACGTACGG", "no")]


def task_folder(folder: Path, **splits: list[tuple[str, object]]) -> Path:
    for split, rows in ({"train": ROWS, "dev": ROWS[:1], "test": [("TTTTTTTT", "yes")]} | splits).items():
        written(folder / f"{split}.csv", rows)
    return folder


def test_splits_share_the_labels_of_train_and_repeats_are_counted(tmp_path):
    dev = [("acgtacgc", "yes"), ("ACGTACGC", "yes"), ("ACGTACGG", "no")]
    splits = read_task(task_folder(tmp_path, dev=dev))
    assert splits.label_names == ("no", "yes")
    assert splits.rows == {"train": 3, "dev": 3, "test": 1}
    assert splits.tables["test"].labels.tolist() == [1]
    assert splits.notes() == [
        "test has one class only, 'yes', in its 1 row(s): MCC is 0 by definition, and accuracy and F1 tell nothing",
        "dev rows that repeat an earlier sequence: 1",
    ]


def test_a_label_unseen_in_train_names_itself_and_its_split(tmp_path):
    dev = [("ACGTACGA", "maybe"), ("ACGTACGC", "no"), ("ACGTACGT", "maybe")]
    with pytest.raises(
        InputError, match=r"the dev split has the label 'maybe', unseen in train \(no, yes\), in 2 of 3"
    ):
        read_task(task_folder(tmp_path, dev=dev))


def test_one_label_is_nothing_to_learn(tmp_path):
    with pytest.raises(InputError, match="has the label 'no' in every row"):
        read_task(task_folder(tmp_path, train=ROWS[:1]))


def test_a_missing_split_is_named(tmp_path):
    (task_folder(tmp_path) / "dev.csv").unlink()
    with pytest.raises(InputError, match=r"no dev\.csv"):
        read_task(tmp_path)


def test_limits_and_k_reach_every_split(tmp_path):
    folder = task_folder(tmp_path, test=[("ACGTACGTACGT", "no")])
    with pytest.raises(
        InputError, match=r"test.csv: 1 of 1 sequences are longer than 6 tokens, the longest 7"
    ):
        read_task(folder, max_tokens=6)
    assert (
        "test sequences cut to the longest input: 1" in read_task(folder, max_tokens=6, truncate=True).notes()
    )
    assert (
        len(read_task(folder, tokenization=OverlappingKmers(3)).tables["test"].encode(OverlappingKmers(3))[0])
        == 10
    )


@pytest.mark.parametrize("name", ["tf/0", "mouse/0", "prom/prom_core_all"])
def test_published_rows_of_the_real_files(gue_data, name):
    task = shipped("gue").task(name)
    splits = read_task(gue_data / name, max_tokens=task.recipe["max_tokens"])
    assert splits.rows == task.rows
    assert len(splits.label_names) == task.classes


def test_what_is_odd_in_real_files(gue_data):
    splits = read_task(gue_data / "prom/prom_core_all")
    # Counted apart from this code, with collections.Counter over csv rows.
    train = splits.tables["train"].counts
    assert (train.duplicate_rows, train.contradictory_sequences, train.rows_of_label) == (
        148,
        40,
        (23705, 23651),
    )
    plain = read_task(gue_data / "mouse/0").tables["train"].counts
    assert plain == replace(plain, duplicate_rows=0, short_rows=0, rows_with_other_letters=0)


def test_a_task_without_train_is_refused(gue_data):
    assert read_task(gue_data / "EMP/H3", splits=["dev", "test"]).rows == {"dev": 1497, "test": 1497}
    with pytest.raises(InputError, match=r"no train\.csv"):
        read_task(gue_data / "EMP/H3")


def test_a_large_task_is_read_and_encoded_within_a_second(gue_data):
    read_task(gue_data / "mouse/0").tables["dev"].encode()

    def read() -> None:
        for table in read_task(gue_data / "prom/prom_core_all").tables.values():
            table.encode()

    # 0.15 s where nothing else runs.
    assert within(1.0, read)


def test_real_few_shot_files_in_either_quoting(fewshot_data):
    folder = fewshot_data / "Splice-40"
    splits = read_splits({"train": folder / "10" / "train_splice40_10.tsv", "test": folder / "test.tsv"})
    assert splits.rows == {"train": 300, "test": 3000}
    assert splits.tables["train"].counts.rows_of_label == (100, 100, 100)
    assert {len(sequence) for table in splits.tables.values() for sequence in table.sequences()} == {40}


# --- labels and letters that are most likely a mistake


def labelled(folder: Path, *labels: str, **splits: list[tuple[str, object]]) -> Path:
    """A task whose train split has these labels, two rows of each."""
    rows = [(f"ACGTACG{'ACGT'[i % 4]}{'ACGT'[i // 4 % 4]}", label) for i, label in enumerate(labels * 2)]
    return task_folder(folder, train=rows, **({"dev": rows[:2], "test": rows[:2]} | splits))


@pytest.mark.parametrize(
    ("labels", "group"),
    [
        (("0", "1", "1.0"), "1, 1.0"),
        (("0", "1", "01"), "01, 1"),
        (("True", "False", "true"), "True, true"),
        (("1", "0", "TRUE"), "1, TRUE"),
        (("yes", "no", "Yes"), "Yes, yes"),
        (("1e3", "1000", "5"), "1000, 1e3"),
        (("first class", "first  class", "b"), "first  class, first class"),
        (("one", "two", "ｏｎｅ"), "one, ｏｎｅ"),
    ],
)
def test_f5_labels_that_say_the_same_are_warned_of(
    tmp_path: Path, labels: tuple[str, ...], group: str
) -> None:
    splits = read_task(labelled(tmp_path, *labels))
    assert len(splits.label_names) == 3
    assert f"labels that say the same and are classes of their own: {group}" in splits.warnings()
    assert set(splits.warnings()) <= set(splits.notes())


def test_f5_labels_of_their_own_are_not_warned_of(tmp_path: Path) -> None:
    assert read_task(labelled(tmp_path, "0", "1", "10", "-1")).warnings() == []


def test_f5_another_spelling_in_another_split_names_that_of_train(tmp_path: Path) -> None:
    folder = labelled(tmp_path, "0", "1", dev=[("ACGTACGT", "1.0")])
    with pytest.raises(InputError, match=r"has the label '1\.0', unseen in train.*write it as in train, '1'"):
        read_task(folder)


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("rows", [1, 3])
def test_s11_f6_a_split_of_one_class_is_named(tmp_path: Path, split: str, rows: int) -> None:
    one: dict[str, list[tuple[str, object]]] = {split: [("ACGTACGT", "b")] * rows}
    splits = read_task(labelled(tmp_path, "a", "b", **one))
    assert [note for note in splits.warnings() if note.startswith(f"{split} has one class only, 'b'")]


def test_f15_measured_values_as_classes_are_named_in_a_short_line(tmp_path: Path) -> None:
    values = [f"0.{number:03}" for number in range(900)]
    folder = labelled(tmp_path, *values, dev=[("ACGTACGT", "0.9999")])
    with pytest.raises(
        InputError, match=r"\(900 labels\).*look like measured values; add `problem=regression`"
    ) as caught:
        read_task(folder, problem="multiclass")
    assert len(str(caught.value).replace(str(folder), "")) < 300


def test_f15_numbers_with_decimals_as_classes_are_named(tmp_path: Path) -> None:
    splits = read_task(labelled(tmp_path, *(f"{number / 10}" for number in range(11))), problem="multiclass")
    assert splits.warnings() == [
        "labels that look like measured values, each a class of its own: 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, … (11 labels)"
    ]


@pytest.mark.parametrize(
    "labels", [("0", "0;1", "2"), ("0,1", "1"), ("[0, 1]", "[2]"), ("1 0 1", "0 1 1"), ("0|1", "1")]
)
def test_f15_lists_of_labels_as_classes_are_named(tmp_path: Path, labels: tuple[str, ...]) -> None:
    quoted = [f'"{label}"' for label in labels]
    (warning,) = read_task(labelled(tmp_path, *quoted), problem="multiclass").warnings()
    assert warning.startswith("labels that look like lists (multilabel), each a class of its own: ")


def test_c3_labels_of_many_digits_are_ordered(tmp_path: Path) -> None:
    long = "1" + "0" * 150
    assert read_table(written(tmp_path / "t.csv", [("ACGTAC", long), ("ACGTAC", 2)])).label_names == (
        "2",
        long,
    )


@pytest.mark.parametrize(
    ("sequences", "words"),
    [
        (["ACGU" * 10] * 3, "looks like RNA"),
        (["acgu" * 10, "ACGTACGT"], "looks like RNA"),
        (["MKVLAAGIVGLLFTAEQW" * 2] * 9 + ["AAAAAAAA"], "looks like protein"),
        (["RYSWKMBDHV" * 4] * 3 + ["ACGTACGT"], "looks like ambiguous sequence"),
    ],
)
def test_f4_rna_and_protein_in_a_table_are_refused(tmp_path: Path, sequences: list[str], words: str) -> None:
    path = written(tmp_path / "t.csv", [(sequence, number % 2) for number, sequence in enumerate(sequences)])
    with pytest.raises(InputError, match=words):
        read_table(path)


def test_f4_dna_with_a_letter_u_or_many_n_is_dna_and_half_unknown_is_warned_of(tmp_path: Path) -> None:
    read_table(written(tmp_path / "one-u.csv", [("ACGTACGTTTTT" * 3, 0), ("ACGUACGTTTTT" * 3, 1)]))
    table = read_table(written(tmp_path / "n.csv", [("ACGTACGTNNNNNNNNNNNNNN" * 3, 0), ("ACGTACGT", 1)]))
    assert table.counts.warnings() == ["tokens that are [UNK]: 81 %"]
    assert (
        read_table(written(tmp_path / "t.csv", [("ACGTACGTACGTACGTNACGTACGTACGT", 0)])).counts.warnings()
        == []
    )


def test_s9_the_sha256_is_of_the_bytes_that_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = labelled(tmp_path, "a", "b")
    before = {split: sha256_of_file(folder / f"{split}.csv") for split in SPLITS}

    def change(*arguments: Any, **named: Any) -> Any:
        table = read_table(*arguments, **named)
        written(arguments[0], [("ACGTACGT", "another")])
        return table

    monkeypatch.setattr("cmgems_cli.datasets.splits.read_table", change)
    splits = read_task(folder)
    assert {split: table.sha256 for split, table in splits.tables.items()} == before
