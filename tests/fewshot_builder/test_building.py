"""Few-shot data sets: what is kept, that pairs stay together, what the files hold, who can read them."""

import gzip
import math
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.datasets.benchmark import TaskDefinition
from cmgems_cli.datasets.benchmark_file import no_benchmark
from cmgems_cli.datasets.shots import draw_shots
from cmgems_cli.datasets.splits import read_splits
from cmgems_cli.datasets.task_files import find_task, find_task_files
from cmgems_cli.errors import InputError, OverwriteError, UsageError
from cmgems_cli.fewshot_builder.building import (
    FewshotSet,
    Positives,
    Rows,
    make_fewshot,
    read_positives,
    write_fewshot,
)
from cmgems_cli.fewshot_builder.negatives import negative_of
from tests.command_line import CommandLine


def letters(n: int, seed: int, among: str = "ACGT") -> str:
    return "".join(random.Random(seed).choices(among, k=n))


def fasta(path: Path, sequences: list[str]) -> Path:
    text = "".join(f">s{number}\n{sequence}\n" for number, sequence in enumerate(sequences))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def positives_of(n: int, bases: int = 60) -> Positives:
    sequences = [letters(bases, seed).encode() for seed in range(n)]
    return Positives(Path("some.fa"), "0" * 64, sequences, list(range(n)), n, 0, 0, 0, 0)


def content(rows: Rows) -> list[tuple[bytes, int, int]]:
    return list(zip(rows.sequences, rows.labels.tolist(), rows.pairs.tolist(), strict=True))


# --- positives


def test_each_record_is_kept_or_counted_under_the_first_reason(tmp_path: Path) -> None:
    good, longest = letters(100, 1), letters(300, 2)
    path = fasta(
        tmp_path / "some.fa.gz",
        [
            good,
            letters(301, 3),  # too long
            longest,
            good.lower(),  # a repeat, soft-masked
            letters(19, 4),  # too short
            "N" + letters(10, 5),  # other letters, and too short as well
            letters(50, 6) + "R",  # other letters
            "",  # too short
            letters(20, 7),
        ],
    )
    found = read_positives(path)
    assert found.sequences == [good.encode(), longest.encode(), letters(20, 7).encode()]
    assert found.numbers == [0, 2, 8]
    assert (found.records, found.other_letters, found.too_short, found.too_long, found.repeats) == (
        9,
        2,
        2,
        1,
        1,
    )
    assert read_positives(path, max_bases=301).numbers == [0, 1, 2, 8]


def test_a_file_without_two_usable_records_is_refused(tmp_path: Path) -> None:
    path = fasta(tmp_path / "some.fa", [letters(100, 1), letters(100, 1), letters(301, 2), "ACGN" * 10])
    words = "has 1 usable positives of 4 records (1 with letters other than A, C, G, T, 0 under 20 bases, 1 over 300"
    with pytest.raises(InputError, match=re.escape(words)):
        read_positives(path)
    with pytest.raises(InputError, match="does not exist"):
        read_positives(tmp_path / "none.fa")


# --- the split


@settings(max_examples=60)
@given(st.integers(2, 40), st.floats(0.05, 0.95), st.integers(0, 2**63 - 1))
def test_no_pair_straddles_the_split(n: int, test_share: float, seed: int) -> None:
    positives = positives_of(n)
    n_test = round(test_share * n)
    if not 0 < n_test < n:
        with pytest.raises(UsageError, match="training and test need at least one each"):
            make_fewshot(positives, test_share=test_share, seed=seed)
        return
    made = make_fewshot(positives, test_share=test_share, seed=seed)
    assert set(made.train.pairs.tolist()).isdisjoint(made.test.pairs.tolist())
    assert made.pairs_across_split == 0
    assert len(made.test) == 2 * n_test
    # All rows are there, once, a positive beside the negative that its number gives.
    wanted = []
    for number, positive in enumerate(positives.sequences):
        wanted += [(positive, 1, number), (negative_of(positive, seed, number), 0, number)]
    assert Counter(content(made.train) + content(made.test)) == Counter(wanted)


def test_the_original_s_split_leaks() -> None:
    positives = positives_of(500)
    made = make_fewshot(positives, compat=True)
    assert len(made.test) == 100
    # A test row's other half is among the 900 training rows with chance 900 / 999.
    assert 80 <= made.pairs_across_split <= 97
    leaked = set(made.train.pairs.tolist()) & set(made.test.pairs.tolist())
    assert len(leaked) == made.pairs_across_split
    # The share that sil-300 was split by: 16,566 rows are 14,909 and 1,657 in Table 1 of the paper.
    assert round(0.1 * 16_566) == 1657


def test_a_split_does_not_hang_on_the_other_records() -> None:
    every = positives_of(200)
    some = Positives(every.path, every.sha256, every.sequences[::2], every.numbers[::2], 100, 0, 0, 0, 0)
    more, fewer = (make_fewshot(positives, test_share=0.5, seed=3) for positives in (every, some))
    same = len(set(more.test.sequences) & set(fewer.test.sequences))
    # Chance alone would agree on half of the 100 rows.
    assert same > 85


def test_a_seed_gives_one_data_set_and_another_seed_another() -> None:
    one, same, other = (make_fewshot(positives_of(50), seed=seed) for seed in (1, 1, 2))
    assert content(one.train) == content(same.train)
    assert content(one.pools[10]) == content(same.pools[10])
    assert set(one.test.sequences) != set(other.test.sequences)


def test_classes_are_mixed_in_every_file() -> None:
    made = make_fewshot(positives_of(200))
    for rows, _ in made.files().values():
        changes = int((np.diff(rows.labels) != 0).sum())
        assert changes > 0.3 * len(rows)


# --- the pools


@pytest.mark.parametrize("compat", [False, True])
def test_a_pool_is_ten_draws_of_n_a_class_that_share_no_row(compat: bool) -> None:
    made = make_fewshot(positives_of(300), compat=compat)
    train = set(content(made.train))
    assert list(made.pools) == [10, 50, 100]
    assert made.too_few == (500, 1000)
    for shots, pool in made.pools.items():
        rows = content(pool)
        n_draws = 10 if shots == 10 else min(Counter(made.train.labels.tolist()).values()) // shots
        assert len(rows) == len(set(rows)) == 2 * shots * n_draws
        assert set(rows) <= train
        for draw in range(n_draws):
            labels = [label for _, label, _ in rows[2 * shots * draw : 2 * shots * (draw + 1)]]
            assert Counter(labels) == {0: shots, 1: shots}
    assert set(content(made.pools[10])) < set(content(made.pools[50]))


def test_shots_that_were_asked_for_must_be_there() -> None:
    positives = positives_of(20)
    assert list(make_fewshot(positives, shots=[18, 3, 3]).pools) == [18, 3]
    with pytest.raises(InputError, match="leaves 18 training rows per class; `shots=19` needs as many"):
        make_fewshot(positives, shots=[3, 19])
    with pytest.raises(UsageError, match="`shots`"):
        make_fewshot(positives, shots=[0])
    assert make_fewshot(positives_of(5), test_share=0.4).pools == {}


# --- the folder


def written(tmp_path: Path, n: int = 40, **options: object) -> tuple[Path, FewshotSet]:
    made = make_fewshot(positives_of(n), **options)  # type: ignore[arg-type]
    write_fewshot(made, tmp_path / "Silencers")
    return tmp_path / "Silencers", made


def test_files_are_written_as_the_published_ones(tmp_path: Path) -> None:
    folder, made = written(tmp_path)
    train = (folder / "10" / "train.tsv").read_text().splitlines()
    test = (folder / "test.tsv").read_text().splitlines()
    assert train[0] == '"sequence"\t"label"'
    assert test[0] == "sequence\tlabel"
    first = made.test.sequences[0].decode()
    kmers = " ".join(first[start : start + 6] for start in range(55))
    assert test[1] == f"{kmers}\t{made.test.labels[0]}"
    assert re.fullmatch(r'"([ACGT]{6} ){54}[ACGT]{6}"\t[01]', train[1])
    assert (folder / "test.tsv").read_bytes() == (folder / "full-dataset" / "test.tsv").read_bytes()


def test_the_real_published_files_are_of_this_form(fewshot_data: Path) -> None:
    for name, pattern in (
        ("Prom-core/10/train.tsv", r'"sequence"\t"label"\n("([ACGT]{6} ){64}[ACGT]{6}"\t[01]\n)+'),
        ("Prom-core/test.tsv", r"sequence\tlabel\n(([ACGTN]{6} )+[ACGTN]{6}\t[01]\n)+"),
    ):
        text = (fewshot_data / name).read_bytes().decode()
        assert re.fullmatch(pattern, text)


def test_our_readers_read_it(tmp_path: Path) -> None:
    _, made = written(tmp_path)
    task = TaskDefinition("silencers", "silencers")
    tables = read_splits(find_task_files(no_benchmark(), task, tmp_path, 10).files).tables
    assert tables["pool"].sequences() == made.pools[10].sequences
    assert tables["pool"].labels.tolist() == made.pools[10].labels.tolist()
    assert tables["test"].sequences() == made.test.sequences
    assert len(draw_shots(tables["pool"], 10, 1)) == 20
    # Without a folder of 1,000 shots, the whole of train is the pool.
    whole = read_splits(find_task_files(no_benchmark(), task, tmp_path, 1000).files).tables["pool"]
    assert whole.sequences() == made.train.sequences


def test_finetune_takes_its_shots_and_name_from_the_folders(tmp_path: Path) -> None:
    folder, _ = written(tmp_path)
    task = find_task(folder / "10" / "train.tsv")
    assert (task.name, task.shots, task.label) == ("Silencers", 10, "Silencers-10")
    assert task.benchmark == no_benchmark()
    assert find_task(folder / "10" / "train.tsv", 5).shots == 5
    whole = find_task(folder / "full-dataset" / "train.tsv")
    assert (whole.name, whole.shots) == ("Silencers", None)


def test_a_numbered_folder_with_its_own_test_is_no_number_of_shots(tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    for split in ("train", "test"):
        (tmp_path / "3" / f"{split}.csv").write_text("sequence,label\nACGTACGT,0\n")
    assert find_task(tmp_path / "3" / "train.csv").shots is None


def test_the_manifest_says_what_was_done_and_an_artifact_is_not_replaced_unasked(tmp_path: Path) -> None:
    folder, made = written(tmp_path, seed=7)
    manifest = read_manifest(folder, "fewshot", verify=True)
    assert manifest.params["seed"] == 7
    assert manifest.params["compat"] is False
    assert manifest.stats["pairs"] == 40
    assert manifest.stats["pairs_on_both_sides"] == 0
    assert manifest.stats["pool_rows"] == {"10": 60}
    assert not write_fewshot(made, folder).fresh
    (tmp_path / "other").mkdir()
    with pytest.raises(OverwriteError, match="was made with seed = 7, this command has 8"):
        write_fewshot(written(tmp_path / "other", seed=8)[1], folder)
    assert write_fewshot(made, folder, overwrite=True).digest == manifest.digest


# --- the command


@pytest.fixture
def silencers(tmp_path: Path) -> Path:
    return fasta(tmp_path / "silencers.fa.gz", [letters(50, seed) for seed in range(30)] + ["ACGTN" * 10])


def test_the_command_makes_a_folder_named_after_the_file(
    cmgems: CommandLine, silencers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(silencers.parent / "work"))
    done = cmgems("build-fewshot", silencers)
    folder = silencers.parent / "work" / "benchmarks" / "fewshot" / "silencers"
    assert sorted(path.name for path in folder.iterdir()) == [
        "10",
        "full-dataset",
        "manifest.json",
        "test.tsv",
    ]
    assert re.search(r"letters other than A, C, G, T +1 *\n", done.stdout)
    assert re.search(r"10/train\.tsv +20 +20 +2 draws of 10 per class", done.stdout)
    assert "skipped 50, 100, 500, 1000 shots: fewer training rows per class" in done.stderr
    assert f"cmgems finetune MODEL {folder / '10' / 'train.tsv'}" in done.stderr


def test_json_is_one_object(cmgems: CommandLine, silencers: Path, tmp_path: Path) -> None:
    done = cmgems("build-fewshot", silencers, "--out", tmp_path / "set", "--json", "--shots", "5")
    value = done.json
    assert value["kind"] == "fewshot"
    assert value["stats"]["dropped_other_letters"] == 1
    assert (value["stats"]["train_rows"], value["stats"]["test_rows"]) == (54, 6)
    assert math.isfinite(value["elapsed_s"])


def test_a_dry_run_writes_nothing(cmgems: CommandLine, silencers: Path, tmp_path: Path) -> None:
    done = cmgems("build-fewshot", silencers, "--out", tmp_path / "set", "--json", "--dry-run")
    assert done.json["pairs"] == 30
    assert not (tmp_path / "set").exists()


def test_compat_says_that_it_leaks(cmgems: CommandLine, silencers: Path, tmp_path: Path) -> None:
    done = cmgems("build-fewshot", silencers, "--out", tmp_path / "set", "--compat", "--test-share", "0.5")
    assert "test rows have their own positive or negative in training" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--shots", "ten"], 2, "--shots 'ten': needed whole numbers from 1"),
        (["--shots", "50"], 3, "leaves 27 training rows per class; --shots 50 needs as many"),
        (["--test-share", "0.001"], 2, "training and test need at least one each"),
        (["--max-bases", "49"], 3, "has 0 usable positives of 31 records"),
    ],
)
def test_mistakes_are_one_line(
    cmgems: CommandLine, silencers: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = cmgems("build-fewshot", silencers, "--out", tmp_path / "set", "--quiet", *arguments, code=code)
    assert done.stdout == ""
    assert words in done.stderr
    assert not (tmp_path / "set").exists()
