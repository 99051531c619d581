"""`cmgems predict` against stock `transformers`, one sequence at a time, and as a user meets it."""

import csv
import gzip
import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cmgems_cli import load_model, predict
from cmgems_cli.inference import prediction
from tests.command_line import CommandLine
from tests.inference.conftest import (
    LABELS,
    MAX_BASES,
    OVERFLOWING,
    Stock,
    as_standard_input,
    change_after_survey,
    overflowing,
    random_sequence,
)
from tests.timing import within

COLUMNS = [f"p_{label}" for label in LABELS]


def rows_of(text: str, delimiter: str = "\t") -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(), delimiter=delimiter))


def has_known_kmer(sequence: str) -> bool:
    return any(set(sequence[i : i + 3].upper()) <= set("ACGT") for i in range(len(sequence) - 2))


def check(row: dict[str, Any], expected: np.ndarray) -> None:
    """The row's probabilities are these, to what is printed, and its label is the most probable."""
    found = np.array([float(row[name]) for name in COLUMNS])
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    assert row["label"] == LABELS[int(expected.argmax())]


@pytest.fixture
def chromosome(tmp_path: Path) -> tuple[Path, str]:
    """1,000 bases with a gap, in lower case here and there, in lines of 60."""
    sequence = random_sequence(400, 1) + "N" * 130 + random_sequence(470, 2).lower()
    path = tmp_path / "chr.fa"
    lines = (sequence[i : i + 60] for i in range(0, len(sequence), 60))
    path.write_text(">chr9 made up\n" + "\n".join(lines) + "\n")
    return path, sequence


# --- what is predicted


@pytest.mark.parametrize("max_batch_tokens", ["64", "4096"])
def test_windows_are_predicted_as_if_one_by_one(
    cmgems: CommandLine,
    classifier: Path,
    stock_probabilities: Stock,
    chromosome: tuple[Path, str],
    max_batch_tokens: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prediction, "BATCHES_AHEAD", 3)
    path, sequence = chromosome
    done = cmgems(
        "predict", classifier, path, "--window", "30", "--stride", "7", "--max-batch-tokens", max_batch_tokens
    )
    rows = rows_of(done.stdout)
    spans = [(start, min(start + 30, 1000)) for start in range(0, 974 + 3, 7)]
    assert spans[-2:] == [(966, 996), (973, 1000)]
    known = [(start, end) for start, end in spans if has_known_kmer(sequence[start:end])]
    assert [(row["name"], int(row["start"]), int(row["end"])) for row in rows] == [
        ("chr9", *span) for span in known
    ]
    assert len(known) < len(spans)
    assert f"{len(spans) - len(known)} windows without a known k-mer" in done.stderr
    for row in rows[:5] + rows[50:70] + rows[-5:]:
        check(row, stock_probabilities(sequence[int(row["start"]) : int(row["end"])]))
    # Judged alike, all of this would show nothing.
    assert len({row["label"] for row in rows}) == 3
    assert np.std([float(row["p_no"]) for row in rows]) > 0.02


def test_sequences_of_any_length_keep_their_order(
    cmgems: CommandLine, classifier: Path, stock_probabilities: Stock, tmp_path: Path
) -> None:
    draw = np.random.default_rng(5)
    sequences = [
        random_sequence(int(n), i, "ACGTN") for i, n in enumerate(draw.integers(3, MAX_BASES + 1, 90))
    ]
    path = tmp_path / "many.csv"
    path.write_text("id,sequence\n" + "\n".join(f"row{i},{s}" for i, s in enumerate(sequences)) + "\n")
    rows = rows_of(cmgems("predict", classifier, path, "--max-batch-tokens", "128").stdout)
    assert [row["name"] for row in rows] == [f"row{i}" for i in range(90)]
    assert list(rows[0]) == ["name", "label", *COLUMNS]
    for row, sequence in zip(rows, sequences, strict=True):
        if has_known_kmer(sequence):
            check(row, stock_probabilities(sequence))


def test_padded_batches_come_in_few_widths(classifier: Path) -> None:
    """Torch keeps a kernel for each shape it meets: memory would grow with the variety of lengths."""
    model = load_model(classifier, device="cpu")
    shapes: list[tuple[int, bool]] = []
    assert model.classifier is not None
    original = model.classifier.logits

    def logits(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        shapes.append((input_ids.shape[1], attention_mask is None))
        return original(input_ids, attention_mask)

    model.classifier.logits = logits  # type: ignore[method-assign, assignment]
    model = replace(model, max_batch_tokens=128)
    predict(model, [random_sequence(n, n) for n in range(3, MAX_BASES + 1)])
    assert {width for width, alike in shapes if not alike} <= {16, 32, 40}
    shapes.clear()
    predict(model, [random_sequence(25, n) for n in range(9)])
    assert set(shapes) == {(25, True)}


def test_a_sequence_without_a_known_kmer_has_empty_cells(
    cmgems: CommandLine, classifier: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">a\nACGTACGT\n>b\nNNNNNNNN\n>c\nAC\n>d\n>e\nACGT\n")
    done = cmgems("predict", classifier, path)
    rows = rows_of(done.stdout)
    assert [row["name"] for row in rows] == ["a", "b", "c", "d", "e"]
    assert [bool(row["label"]) for row in rows] == [True, False, False, False, True]
    assert [row["p_yes"] for row in rows[1:4]] == ["", "", ""]
    assert "3 sequences without a known k-mer" in done.stderr
    record = json.loads(cmgems("predict", classifier, path, "--format", "jsonl").stdout.splitlines()[1])
    assert record == {"name": "b", "label": None, **dict.fromkeys(COLUMNS)}


def test_input_of_nothing_known_is_an_error(cmgems: CommandLine, classifier: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "x.fa", tmp_path / "out.tsv"
    path.write_text(">a\n" + "N" * 100 + "\n>b\nAC\n")
    for how in (["--truncate"], ["--window", "20"]):
        done = cmgems("predict", classifier, path, *how, "--out", out, code=3)
        assert "none of its 2 sequences has 3 letters A, C, G, T in a row" in done.stderr
        assert not any(other.name.startswith((".out", "out")) for other in tmp_path.iterdir())


def test_long_sequences_are_refused_cut_or_slid_along(
    cmgems: CommandLine, classifier: Path, stock_probabilities: Stock, tmp_path: Path
) -> None:
    sequence = random_sequence(MAX_BASES + 1, 8)
    path = tmp_path / "x.csv"
    path.write_text(f"sequence\n{sequence}\nACGTACGT\n")
    done = cmgems("predict", classifier, path, code=3)
    assert "1 of 2 sequences are longer than the 40 bases" in done.error
    done = cmgems("predict", classifier, path, "--truncate")
    check(rows_of(done.stdout)[0], stock_probabilities(sequence[:MAX_BASES]))
    assert "1 sequence was truncated to 40 bases" in done.stderr
    rows = rows_of(cmgems("predict", classifier, path, "--window", "40").stdout)
    assert [(row["name"], row["start"], row["end"]) for row in rows] == [("0", "0", "40"), ("1", "0", "8")]


# --- how it is read and written


def test_formats_agree_and_are_told_by_the_name(
    cmgems: CommandLine, classifier: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.fa.gz"
    path.write_bytes(gzip.compress(f">a,b\n{random_sequence(100, 3)}\n>c\nACGTT\n".encode()))
    window = ("--window", "20", "--quiet")
    for name in ("t.tsv", "t.csv", "t.jsonl"):
        cmgems("predict", classifier, path, *window, "--out", tmp_path / "new" / name)
    tsv, comma, lines = ((tmp_path / "new" / name).read_text() for name in ("t.tsv", "t.csv", "t.jsonl"))
    assert tsv.splitlines()[0].split("\t") == ["name", "start", "end", "label", *COLUMNS]
    assert rows_of(tsv) == rows_of(comma, ",")
    for row, line in zip(rows_of(tsv), lines.splitlines(), strict=True):
        assert {name: str(value) for name, value in json.loads(line).items()} == row
    assert cmgems("predict", classifier, path, *window).stdout == tsv
    assert cmgems("predict", classifier, path, *window, "--format", "csv").stdout == comma
    assert cmgems("predict", classifier, path, *window, "--no-header").stdout == tsv.split("\n", 1)[1]
    refused = cmgems("predict", classifier, path, "--out", tmp_path / "t.txt", code=2).error
    assert (
        "t.txt does not end in .tsv, .csv, .jsonl, .bed, .bedgraph, .bg, .bigwig or .bw; rename it" in refused
    )


@pytest.mark.parametrize("zipped", [False, True])
def test_standard_input_gives_what_the_file_gives(
    cmgems: CommandLine, classifier: Path, tmp_path: Path, zipped: bool
) -> None:
    path = tmp_path / "x.fa"
    path.write_text(f">a\n{random_sequence(100, 3)}\n")
    data = gzip.compress(path.read_bytes()) if zipped else path.read_bytes()
    with as_standard_input(data):
        done = cmgems("predict", classifier, "-", "--window", "20")
    assert done.stdout == cmgems("predict", classifier, path, "--window", "20").stdout
    assert "standard input in windows of 20 bases" in done.stderr


def test_json_is_one_object_beside_the_file(cmgems: CommandLine, classifier: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "x.fa", tmp_path / "out.tsv"
    path.write_text(f">a\n{random_sequence(100, 3)}{'N' * 40}\n>b\nACGT\n")
    value = json.loads(
        cmgems("predict", classifier, path, "--window", "20", "--out", out, "--json", "--quiet").stdout
    )
    assert (value["sequences"], value["rows"], value["left_out"]) == (2, 6, 2)
    assert sum(value["labels"].values()) == 6
    assert value["rows_per_s"] > 0
    assert value["out"] == str(out)
    assert len(rows_of(out.read_text())) == 6
    assert "give --out" in cmgems("predict", classifier, path, "--json", code=2).stderr


def test_a_table_of_labels_and_the_rate_are_shown(
    cmgems: CommandLine, classifier: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_text("sequence,label\nACGTACGT,no\nACGTT,yes\n")
    done = cmgems("predict", classifier, path, "--out", tmp_path / "out.csv")
    for label in LABELS:
        assert label in done.stdout
    assert "2 sequences in" in done.stderr
    assert "per second" in done.stderr


def test_what_exists_is_kept_unless_told_and_a_failure_leaves_nothing(
    cmgems: CommandLine, classifier: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "x.fa", tmp_path / "out.tsv"
    path.write_text(">a\nACGTACGT\n")
    out.write_text("mine")
    assert "add --overwrite" in cmgems("predict", classifier, path, "--out", out, code=4).stderr
    # Piped in, the long sequence is only met after the first rows were written.
    broken = f">a\nACGTACGT\n>b\n{'ACGT' * 100}\n".encode()
    with as_standard_input(broken):
        done = cmgems("predict", classifier, "-", "--out", out, "--overwrite", code=3)
    assert "'b' is longer" in done.stderr
    assert out.read_text() == "mine"
    assert sorted(other.name for other in tmp_path.iterdir()) == ["out.tsv", "x.fa"]
    cmgems("predict", classifier, path, "--out", out, "--overwrite")
    assert rows_of(out.read_text())[0]["name"] == "a"
    assert (
        "is a folder"
        in cmgems(
            "predict", classifier, path, "--out", tmp_path, "--format", "csv", "--overwrite", code=4
        ).stderr
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (">a\n", "no sequence has "),
        ("label\n1\n", "no column 'sequence'"),
        (
            "##fileformat=VCFv4.3\n",
            "is VCF, which has no sequences; for the effects of variants run `cmgems score-v",
        ),
        (
            "track name=x\nchr1\t5\t9\tone\n",
            "looks like BED, which has no sequences; read its regions from a genome",
        ),
    ],
)
def test_input_that_holds_no_sequence_is_refused(
    cmgems: CommandLine, classifier: Path, tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    done = cmgems("predict", classifier, path, code=3)
    assert words in done.stderr.splitlines()[-1]


def test_a_model_without_classes_is_refused(cmgems: CommandLine, pretrained: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">a\nACGTACGT\n")
    done = cmgems("predict", pretrained, path, code=3)
    assert "is a model artifact; needed a classifier artifact: make one with `cmgems finetune`" in done.stderr
    assert (
        "does not exist; needed the folder of a classifier"
        in cmgems("predict", tmp_path / "nowhere", path, code=3).stderr
    )


def test_lengths_the_classifier_never_saw_are_warned_of(
    cmgems: CommandLine, classifier: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.fa"
    path.write_text(f">a\n{random_sequence(40, 3)}\n")
    assert "fine-tuned on 32 at most" in cmgems("predict", classifier, path).stderr
    assert "fine-tuned on" not in cmgems("predict", classifier, path, "--window", "32").stderr


def test_bf16_stays_close(cmgems: CommandLine, classifier: Path, chromosome: tuple[Path, str]) -> None:
    exact, rough = (
        rows_of(
            cmgems("predict", classifier, chromosome[0], "--window", "40", "--precision", precision).stdout
        )
        for precision in ("fp32", "bf16")
    )
    difference = [abs(float(a["p_no"]) - float(b["p_no"])) for a, b in zip(exact, rough, strict=True)]
    assert 0 < max(difference) < 0.05


# --- what is most likely a mistake


@pytest.mark.parametrize("name", OVERFLOWING)
@pytest.mark.parametrize("window", [[], ["--window", "20"]])
def test_s7_outputs_that_are_not_finite_stop_predict(
    cmgems: CommandLine, classifier: Path, tmp_path: Path, name: str, window: list[str]
) -> None:
    model = overflowing(classifier, tmp_path / "model", name)
    (tmp_path / "x.fa").write_text("".join(f">s{i}\n{random_sequence(30, i)}\n" for i in range(9)))
    out = tmp_path / "out.tsv"
    error = cmgems("predict", model, tmp_path / "x.fa", "--out", out, *window, code=3).stderr
    assert "rows are not finite, the first 's0', so its weights overflow" in error.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "x.fa"]
    assert cmgems("predict", model, tmp_path / "x.fa", *window, code=3).stdout.count("\n") <= 1


CHANGED = {
    "half the rows": b">a\nACGTACGTAC\n",
    "twice the rows": b">a\nACGTACGTAC\n>b\nACGTACGTAA\n" * 2,
    "other letters": b">a\nACGTACGTAC\n>b\nACGTACGTAT\n",
    "another name": b">a\nACGTACGTAC\n>c\nACGTACGTAA\n",
}


@pytest.mark.parametrize("how", CHANGED)
@pytest.mark.parametrize("command", ["predict", "embed"])
def test_s9_input_that_changes_after_the_survey_is_refused(
    cmgems: CommandLine,
    classifier: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    command: str,
) -> None:
    path = tmp_path / "x.fa"
    path.write_bytes(b">a\nACGTACGTAC\n>b\nACGTACGTAA\n")
    out = tmp_path / ("out.tsv" if command == "predict" else "out.npy")
    # Small blocks, so that a checkpoint is there when the change is seen.
    arguments = (command, classifier, path, "--max-batch-tokens", "12", "--out", out)
    with monkeypatch.context() as patch:
        change_after_survey(patch, path, CHANGED[how])
        assert "x.fa changed while it was read" in cmgems(*arguments, code=3).stderr.splitlines()[-1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.fa"]
    cmgems(*arguments)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("rna.csv", "sequence\n" + "ACGUUGCAUU\n" * 9, "looks like RNA"),
        ("rna.tsv", "name\tsequence\n" + "x\tacguugcauu\n" * 9 + "y\tACGTACGT\n", "looks like RNA"),
        ("rna.fa", ">a\n" + "ACGUUGCAUU" * 3, "looks like RNA"),
        ("late.fa", ">a\n" + "ACGT" * 9 + "\n>b\n" + "ACGUUGCAUU" * 30, "looks like RNA"),
        ("protein.csv", "sequence\n" + "MKVLAAGIVGLLF\n" * 9 + "AAAAAAAA\n", "looks like protein"),
        ("protein.fa", ">a\n" + "MKVLAAGIVGLLF" * 9, "looks like protein"),
    ],
)
@pytest.mark.parametrize("piped", [False, True])
def test_f4_rna_and_protein_get_the_same_answer_in_every_format(
    cmgems: CommandLine, classifier: Path, tmp_path: Path, name: str, text: str, words: str, piped: bool
) -> None:
    path = tmp_path / name
    path.write_text(text)
    command = ("predict", classifier, "-" if piped else path, "--window", "40")
    with as_standard_input(text.encode()) if piped else nullcontext():
        assert words in cmgems(*command, code=3).stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("letters", "words"), [("ACGUUGCA", "looks like RNA; needed DNA"), ("MKVLEEQI", "no sequence has ")]
)
def test_what_is_refused_for_its_letters_prints_no_header(
    cmgems: CommandLine, classifier: Path, letters: str, words: str
) -> None:
    with as_standard_input(f">a\n{letters}\n".encode()):
        done = cmgems("predict", classifier, "-", code=3)
    assert done.stdout == ""
    assert words in done.stderr


def test_of_values_hits_and_a_table_of_labels_make_no_sense(
    cmgems: CommandLine, regressor: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.fa"
    path.write_text(">a\nACGTACGTACGT\n")
    for chosen in (("--top", "1"), ("--min-prob", "0")):
        refused = cmgems("predict", regressor, path, *chosen, code=2).error
        assert f"{chosen[0]} {chosen[1]}" in refused
        assert "chooses hits by the probability of a class, and this model predicts values" in refused
    assert "BED has probabilities" in cmgems("predict", regressor, path, "--format", "bed", code=2).error
    done = cmgems("predict", regressor, path, "--out", tmp_path / "x.tsv")
    assert "labels in" not in done.stdout
    assert "1 sequence in " in done.stderr


def test_f4_many_unknown_tokens_are_warned_of(cmgems: CommandLine, classifier: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("sequence\nACGTNNNNNNNNNNNNN\nACGNNNN\n")
    assert "85 % of all tokens are [UNK]" in cmgems("predict", classifier, path).stderr
    path.write_text("sequence\nACGTACGTN\n")
    assert "[UNK]" not in cmgems("predict", classifier, path).stderr


@pytest.mark.parametrize("text", [">a\nACGTACGT\n", "name,sequence\na,ACGTACGT\n"])
def test_f16_a_byte_order_mark_is_skipped(
    cmgems: CommandLine, classifier: Path, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    plain = cmgems("predict", classifier, path).stdout
    path.write_text("\ufeff" + text)
    assert cmgems("predict", classifier, path).stdout == plain


def test_m_a_header_of_600_mb_is_refused_without_memory(
    cmgems: CommandLine, classifier: Path, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.fa.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(b">")
        for _ in range(100):
            stream.write(b"x" * 3_000_000)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def refused() -> None:
        assert "bomb.fa.gz" in cmgems("predict", classifier, path, "--truncate", code=3).stderr

    assert within(10, refused)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


@pytest.mark.parametrize("kind", ["tsv", "csv"])
def test_security_names_that_a_spreadsheet_would_run_are_escaped_and_read_back(
    cmgems: CommandLine, classifier: Path, tmp_path: Path, kind: str
) -> None:
    names = ["=cmd|x", "+1+1", "@SUM", "-2+3", "plain", "-1"]
    table, out = tmp_path / "x.csv", tmp_path / f"out.{kind}"
    table.write_text("name,sequence\n" + "".join(f"{name},ACGTACGT\n" for name in names))
    cmgems("predict", classifier, table, "--out", out)
    written = [row["name"] for row in rows_of(out.read_text(), "\t" if kind == "tsv" else ",")]
    assert written == ["'=cmd|x", "'+1+1", "'@SUM", "'-2+3", "plain", "-1"]
    table.write_text("name,sequence\n" + "".join(f"{name},ACGTACGT\n" for name in written))
    assert predict(load_model(classifier), table).names == names
    lines = cmgems("predict", classifier, table, "--format", "jsonl").stdout.splitlines()
    assert [json.loads(line)["name"] for line in lines] == names


@pytest.mark.parametrize("length", [245, 250, 255])
def test_names_of_any_length_are_written(
    cmgems: CommandLine, classifier: Path, tmp_path: Path, length: int
) -> None:
    (tmp_path / "x.fa").write_text(">a\nACGTACGT\n")
    out = tmp_path / ("x" * (length - 4) + ".tsv")
    cmgems("predict", classifier, tmp_path / "x.fa", "--out", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.fa", out.name]
    array = tmp_path / ("y" * (length - 4) + ".npy")
    done = cmgems("embed", classifier, tmp_path / "x.fa", "--out", array, code=0 if length == 245 else 1)
    assert length == 245 or "File name too long; choose another path" in done.error
