"""scores.csv: what is written is read again, and what cannot be meant is refused with its line."""

import random
from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cmgems_cli.comparing.scores import COLUMNS, Score, as_printed, read_scores, rounded, write_scores
from cmgems_cli.errors import InputError

ONE = Score("gue", "tf/0", "human", None, 42, "mcc", 0.644, 32378, 1000, "logo-random", "")
HEADER = ",".join(COLUMNS)
ROW = "gue,tf/0,human,,42,mcc,0.644,32378,1000,logo-random,"

names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=8)
counts = st.none() | st.integers(0, 10**6)
records = st.builds(
    Score,
    bench=st.sampled_from(["gue", "fewshot"]),
    task=names,
    species=st.sampled_from(["human", "mouse", "yeast", ""]),
    shots=st.none() | st.sampled_from([10, 50]),
    seed=st.none() | st.integers(0, 2**63 - 1),
    metric=st.sampled_from(["mcc", "accuracy", "f1", "loss"]),
    value=st.floats(0, 1),
    n_train=counts,
    n_test=counts,
    model=names,
    note=st.just("") | names,
)


def file_with(folder: Path, text: str | bytes) -> Path:
    path = folder / "scores.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_columns_are_the_contracts() -> None:
    assert HEADER == "bench,task,species,shots,seed,metric,value,n_train,n_test,model,note"


@given(st.lists(records, min_size=1, max_size=8), st.randoms())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_written_scores_read_back_equal_whatever_their_order(
    tmp_path: Path, scores: list[Score], order: random.Random
) -> None:
    once = {(s.model, s.bench, s.task, s.shots, s.seed, s.metric): s for s in scores}
    scores = list(once.values())
    path, other = tmp_path / "a.csv", tmp_path / "b.csv"
    write_scores(path, scores)
    order.shuffle(scores)
    write_scores(other, scores)
    assert path.read_bytes() == other.read_bytes()
    read = read_scores(path)
    assert len(read) == len(scores)
    assert set(read) == set(scores)


def test_written_bytes_are_golden(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    shot = replace(ONE, bench="fewshot", task="prom-core", shots=10, metric="accuracy", value=0.1 + 0.2)
    write_scores(path, [replace(ONE, metric="accuracy", value=1), ONE, replace(ONE, seed=7), shot])
    assert path.read_bytes().decode() == (
        f"{HEADER}\n"
        "fewshot,prom-core,human,10,42,accuracy,0.30000000000000004,32378,1000,logo-random,\n"
        "gue,tf/0,human,,7,mcc,0.644,32378,1000,logo-random,\n"
        f"{ROW}\n"
        "gue,tf/0,human,,42,accuracy,1,32378,1000,logo-random,\n"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 64.4])
def test_writer_refuses_what_no_reader_takes(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="logo-random gue tf/0 seed 42 mcc: mcc is"):
        write_scores(tmp_path / "scores.csv", [replace(ONE, value=value)])
    assert not (tmp_path / "scores.csv").exists()


def test_writer_refuses_a_row_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is repeated"):
        write_scores(tmp_path / "scores.csv", [ONE, replace(ONE, value=0.1)])


def test_byte_order_mark_crlf_blank_lines_and_spaces_are_harmless(tmp_path: Path) -> None:
    text = f"\ufeff{HEADER}\r\n\r\n{ROW.replace(',', ' , ')}\r\n,,,,,,,,,,\r\n"
    assert read_scores(file_with(tmp_path, text)) == [ONE]


def test_other_peoples_tables_need_five_columns_in_any_order(tmp_path: Path) -> None:
    path = file_with(tmp_path, "model,value,metric,task,bench,lab\nm,61.5,mcc_x100,tf/0,gue,ours\n")
    assert read_scores(path) == [Score("gue", "tf/0", "", None, None, "mcc", 0.615, None, None, "m")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\ufeff", "is empty"),
        (f"{HEADER}\n", "has a header but no scores"),
        ("bench,task,metric,model\ngue,tf/0,mcc,m\n", "has no column value"),
        (
            "bench;task;metric;value;model\ngue;tf/0;mcc;0,5;m\n",
            "has no column bench, task, metric, value, model",
        ),
        ("bench,task,metric,value,model,value\ngue,tf/0,mcc,0.5,m,0.6\n", "has the column value twice"),
        (f"{HEADER}\n{ROW}\ngue,tf/1,human\n", "line 3 has 3 fields, the header 11"),
        (f"{HEADER}\n{ROW},and more\n", "line 2 has 12 fields"),
        (f"{HEADER}\n{ROW}\n\n{ROW}\n", "line 4 repeats line 2 (logo-random gue tf/0 seed 42 mcc)"),
        (
            f"{HEADER}\n{ROW.replace('0.644', 'good')}\n",
            "line 2 (logo-random gue tf/0 mcc): 'good' is not a number",
        ),
        (f"{HEADER}\n{ROW.replace('0.644', '')}\n", "'' is not a number"),
        (f"{HEADER}\n{ROW.replace('0.644', '0.6_44')}\n", "'0.6_44' is not a number"),
        (f"{HEADER}\n{ROW.replace('0.644', '٠.٦')}\n", "is not a number"),
        (f"{HEADER}\n{ROW.replace('0.644', 'nan')}\n", "line 2 (logo-random gue tf/0 mcc): mcc is nan"),
        (f"{HEADER}\n{ROW.replace('0.644', '-inf')}\n", "mcc is -inf"),
        (
            f"{HEADER}\n{ROW.replace('0.644', '64.4')}\n",
            "mcc is 64.4; needed -1 to 1: values times 100 are called mcc_x100",
        ),
        (f"{HEADER}\n{ROW.replace('mcc,0.644', 'accuracy,-0.1')}\n", "accuracy is -0.1; needed 0 to 1"),
        (f"{HEADER}\n{ROW.replace('42', 'first')}\n", "line 2: seed is 'first'"),
        (f"{HEADER}\n{ROW.replace('42', '-1')}\n", "line 2: seed is -1"),
        (f"{HEADER}\n{ROW.replace('1000', '1e3')}\n", "line 2: n_test is '1e3'"),
        (f"{HEADER}\n{ROW.replace('tf/0', ' ')}\n", "line 2 has no task"),
        (f"{HEADER}\n{ROW}\n".encode("utf-16"), "is not UTF-8"),
        (f'{HEADER}\n{ROW}"a"b\n', "is not a readable CSV"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = file_with(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_scores(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="cannot read"):
            read_scores(path)


@given(st.integers(-(10**6), 10**6), st.integers(0, 4))
def test_rounding_agrees_with_exact_decimals_in_spite_of_float_noise(thousandths: int, decimals: int) -> None:
    exact = Decimal(thousandths) / 1000
    noisy = float(exact / 100) * 100
    expected = exact.quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    assert rounded(noisy, decimals) == f"{expected if expected else abs(expected):f}"


def test_printed_as_in_the_paper() -> None:
    assert as_printed(0.6069037, "mcc") == "60.69"
    assert as_printed(0.6395, "accuracy") == "0.640"
    assert as_printed(-0.00004, "mcc") == "0.00"
