"""`cmgems explain` against every mutant predicted by itself with stock `transformers`, and as a user meets it."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmgems_cli import explain, load_model, predict, regions
from cmgems_cli.explaining import effects
from cmgems_cli.explaining.edits import row_edits
from cmgems_cli.explaining.explain_options import ExplainOptions
from cmgems_cli.inference.loading import Model
from tests.command_line import CommandLine
from tests.explaining.conftest import on_other_strand
from tests.inference.conftest import LABELS, REGRESSION, random_sequence, stock_logits
from tests.kills import Killed
from tests.modeling.foreign_models import make_bpe

Naive = Callable[[str, int, str], float]


@pytest.fixture(scope="module")
def model(classifier: Path) -> Model:
    return load_model(classifier, device="cpu")


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sequences of several lengths, one with N and lower case, one too short for a token, one of N only."""
    texts = [random_sequence(length, length) for length in (20, 33, 8)]
    texts += [random_sequence(9, 1).lower() + "NNNN" + random_sequence(7, 2), "AC", "NNNNNN"]
    path = tmp_path_factory.mktemp("input") / "in.fa"
    path.write_text("".join(f">s{number}\n{text}\n" for number, text in enumerate(texts)))
    return path


@pytest.mark.parametrize("strand", ["forward", "reverse", "both"])
def test_effects_are_those_of_mutants_predicted_one_by_one(model: Model, naive: Naive, strand: Any) -> None:
    sequence = random_sequence(11, 5).lower() + "N" + random_sequence(8, 6)
    (found,) = explain(model, sequence, strand=strand, deletions=True, block=7, block_draws=2, label="yes")
    upper, label = sequence.upper(), LABELS.index("yes")
    own = naive(upper, label, strand)
    assert found.output == pytest.approx(own, abs=1e-5)
    assert found.label == label
    for at, letter in enumerate(upper):
        for column, other in enumerate("ACGT"):
            effect = naive(upper[:at] + other + upper[at + 1 :], label, strand) - own
            expected = np.nan if letter == "N" else effect
            assert found.substitutions[at, column] == pytest.approx(expected, abs=1e-5, nan_ok=True)
        deleted = np.nan if letter == "N" else naive(upper[:at] + upper[at + 1 :], label, strand) - own
        assert found.deletions is not None
        assert found.deletions[at] == pytest.approx(deleted, abs=1e-5, nan_ok=True)
    others = [
        np.delete(row, "ACGT".find(letter)).mean()
        for row, letter in zip(found.substitutions, upper, strict=True)
    ]
    assert found.importance == pytest.approx(-np.array(others), abs=1e-6, nan_ok=True)
    edits = row_edits(
        np.frombuffer(upper.encode(), np.uint8), ExplainOptions(block=7, block_draws=2), (42, 0)
    )
    letters, bounds = edits.edits.apply(np.frombuffer(upper.encode(), np.uint8))
    drawn = [
        letters[start:stop].tobytes().decode() for start, stop in zip(bounds[-7:-1], bounds[-6:], strict=True)
    ]
    moved = np.array([naive(one, label, strand) - own for one in drawn]).reshape(3, 2).mean(1)
    assert found.blocks == pytest.approx(np.repeat(moved, [7, 7, 6]), abs=1e-5)
    assert np.nanmax(np.abs(found.substitutions)) > 0.1


def test_the_value_of_a_regression_is_followed(cmgems: CommandLine, regressor: Path, tmp_path: Path) -> None:
    sequence, logits = random_sequence(14, 2), stock_logits(regressor)
    (tmp_path / "in.fa").write_text(f">s\n{sequence}\n>unknown\nNNN\n")
    words = [regressor, tmp_path / "in.fa", "--device", "cpu"]
    told = cmgems("explain", *words, "--deletions", "--out", tmp_path / "r.tsv", "--json").json
    assert told["quantity"] == "predicted value, in the unit of the value"
    lines, arrays = lines_of(tmp_path / "r.tsv"), np.load(tmp_path / "r.npz")
    letters = [*"ACGT", "importance", "deletion"]
    assert list(lines[0]) == ["name", "position", "base", "value", *letters]
    assert arrays["quantity"].tolist() == [told["quantity"]]
    assert arrays["label_names"].tolist() == ["value"]
    assert arrays["labels"].tolist() == [0, -1]

    def value(letters: str) -> float:
        return float(logits(letters)[0]) * REGRESSION.scale + REGRESSION.mean

    own = value(sequence)
    assert arrays["value"] == pytest.approx([own, np.nan], abs=1e-5, nan_ok=True)
    for at, line in enumerate(lines[:14]):
        assert float(line["value"]) == pytest.approx(own, abs=1e-5)
        for letter in "ACGT":
            moved = value(sequence[:at] + letter + sequence[at + 1 :]) - own
            assert float(line[letter]) == pytest.approx(moved, abs=1e-5)
        assert float(line["deletion"]) == pytest.approx(
            value(sequence[:at] + sequence[at + 1 :]) - own, abs=1e-5
        )
    model = load_model(regressor, device="cpu")
    assert list(explain(model, sequence, deletions=True).columns()) == list(lines[0])
    assert "predicts values" in cmgems("explain", *words, "--label", "yes", code=2).error


def test_the_log_odds_of_a_label_are_those_of_its_own_probability(labeller: Path) -> None:
    model, logits = load_model(labeller, device="cpu"), stock_logits(labeller)
    sequences = [random_sequence(12, seed) for seed in range(6)]
    named = explain(model, sequences, label="perhaps")
    for sequence, one in zip(sequences, named, strict=True):
        assert one.output == pytest.approx(logits(sequence)[2], abs=1e-5)
        for at in range(0, 12, 4):
            moved = [logits(sequence[:at] + letter + sequence[at + 1 :])[2] - one.output for letter in "ACGT"]
            assert one.substitutions[at] == pytest.approx(moved, abs=1e-5)
    followed = [one.label for one in explain(model, sequences)]
    assert followed == [int(logits(sequence).argmax()) for sequence in sequences]
    assert len(set(followed)) > 1


def test_the_predicted_class_is_followed_unless_one_is_named(model: Model) -> None:
    sequences = [random_sequence(30, seed) for seed in range(8)]
    found, predicted = explain(model, sequences), predict(model, sequences)
    assert [LABELS[one.label] for one in found] == predicted.labels
    assert len(set(predicted.labels)) > 1
    p = predicted.probabilities.max(1)
    assert [one.output for one in found] == pytest.approx(np.log(p / (1 - p)), abs=1e-5)
    named = explain(model, sequences, label="no")
    assert {one.label for one in named} == {0}


def test_the_mean_of_both_strands_is_that_of_the_other_strand_too(model: Model) -> None:
    sequence = random_sequence(25, 3)
    (one,) = explain(model, sequence, strand="both", label="no", deletions=True)
    (other,) = explain(model, on_other_strand(sequence), strand="both", label="no", deletions=True)
    np.testing.assert_allclose(one.substitutions, other.substitutions[::-1, ::-1], atol=1e-5)
    np.testing.assert_allclose(one.deletions, other.deletions[::-1], atol=1e-5)


def test_batches_and_neighbours_do_not_matter(
    model: Model, classifier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = [random_sequence(length, length) for length in (40, 12, 3, 25, 12)]
    together = explain(model, sequences, strand="both", deletions=True)
    monkeypatch.setattr(effects, "BATCHES_AHEAD", 1)
    small = load_model(classifier, device="cpu")
    object.__setattr__(small, "max_batch_tokens", 100)
    for sequence, found in zip(sequences, together, strict=True):
        (alone,) = explain(small, sequence, strand="both", deletions=True)
        np.testing.assert_allclose(found.substitutions, alone.substitutions, atol=1e-5)
        np.testing.assert_allclose(found.deletions, alone.deletions, atol=1e-5)
    # One token left after the deletion, and none.
    assert np.isnan(together[2].deletions).all()  # type: ignore[arg-type]


def test_models_with_tokens_of_their_own_are_explained(cmgems: CommandLine, tmp_path: Path) -> None:
    pretrained = make_bpe(tmp_path / "pretrained")
    rows = "".join(f"{random_sequence(40, row)},{row % 2}\n" for row in range(8))
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.csv").write_text(f"sequence,label\n{rows}")
    words = ["--max-steps", "1", "--warmup-steps", "0", "--global-batch", "4", "--device", "cpu"]
    cmgems("finetune", pretrained, tmp_path, *words, "--out", tmp_path / "classifier")
    model = load_model(tmp_path / "classifier", device="cpu")
    sequence = random_sequence(31, 77)
    (found,) = explain(model, sequence, deletions=True)
    at_each = [
        [sequence[:at] + letter + sequence[at + 1 :] for letter in "ACGT"]
        + [sequence[:at] + sequence[at + 1 :]]
        for at in range(0, 31, 5)
    ]
    p = predict(model, [sequence, *(mutant for mutants in at_each for mutant in mutants)]).probabilities[:, 1]
    log_odds = np.log(p / (1 - p))
    expected = (log_odds[1:] - log_odds[0]).reshape(-1, 5)
    assert found.label == 1
    np.testing.assert_allclose(found.substitutions[::5], expected[:, :4], atol=1e-5)
    np.testing.assert_allclose(found.deletions[::5], expected[:, 4], atol=1e-5)  # type: ignore[index]
    assert np.ptp(expected) > 0


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(), delimiter="\t"))


def test_the_table_and_the_arrays_hold_what_the_python_api_returns(
    cmgems: CommandLine, classifier: Path, model: Model, fasta: Path, tmp_path: Path
) -> None:
    out = tmp_path / "why.tsv"
    words = ["--deletions", "--block", "5", "--strand", "both"]
    told = cmgems("explain", classifier, fasta, *words, "--out", out, "--device", "cpu", "--json").json
    assert (told["rows"], told["without_values"], told["strand"]) == (6, 2, "both")
    table = explain(model, fasta, deletions=True, block=5, strand="both").columns()
    lines = lines_of(out)
    assert list(lines[0]) == list(table)
    for name, values in table.items():
        for line, value in zip(lines, values, strict=True):
            if value is None or value != value:
                assert line[name] == ""
            elif isinstance(value, str):
                assert line[name] == value
            else:
                assert float(line[name]) == pytest.approx(value, abs=1e-6)
    assert cmgems("explain", classifier, fasta, *words, "--device", "cpu").stdout == out.read_text()
    arrays = np.load(out.with_suffix(".npz"))
    assert arrays["names"].tolist() == [f"s{number}" for number in range(6)]
    assert (
        np.diff(arrays["offsets"]).tolist()
        == [20, 33, 8, 20, 2, 6]
        == (arrays["ends"] - arrays["starts"]).tolist()
    )
    assert arrays["bases"].tobytes().decode() == "".join(table["base"])
    assert arrays["label_names"].tolist() == list(LABELS)
    assert arrays["quantity"].tolist() == ["log-odds of the class, nats"]
    names = [*LABELS, None]
    assert [names[label] for label in np.repeat(arrays["labels"], np.diff(arrays["offsets"]))] == table[
        "label"
    ]
    for name, column in (("importance", "importance"), ("deletions", "deletion"), ("blocks", "block")):
        assert arrays[name].dtype == np.float32
        np.testing.assert_array_equal(arrays[name], table[column])
    np.testing.assert_array_equal(arrays["substitutions"].T, [table[letter] for letter in "ACGT"])
    assert np.isnan(arrays["log_odds"]).tolist() == [False] * 4 + [True] * 2


def test_windows_are_explained_each_by_itself(
    cmgems: CommandLine, classifier: Path, model: Model, tmp_path: Path
) -> None:
    sequence = random_sequence(70, 9)
    (tmp_path / "in.fa").write_text(f">c\n{sequence[:30]}\n{sequence[30:]}\n>gap\n{'N' * 40}\n")
    words = ["--window", "30", "--stride", "20", "--out", tmp_path / "w.tsv", "--device", "cpu"]
    told = cmgems("explain", classifier, tmp_path / "in.fa", *words, "--json").json
    assert (told["rows"], told["left_out"]) == (3, 2)
    lines = lines_of(tmp_path / "w.tsv")
    spans = [(0, 30), (20, 50), (40, 70)]
    assert [(int(line["start"]), int(line["end"]), int(line["position"])) for line in lines] == [
        (*span, at) for span in spans for at in range(*span)
    ]
    for number, (start, end) in enumerate(spans):
        (alone,) = explain(model, sequence[start:end])
        shown = [float(line["importance"]) for line in lines[30 * number : 30 * (number + 1)]]
        assert shown == pytest.approx(alone.importance, abs=1e-5)


def test_an_interrupted_run_is_resumed_to_the_same_bytes(
    cmgems: CommandLine, classifier: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cmgems_cli.explaining.effects_output import EffectsWriter

    monkeypatch.setattr(effects, "BATCHES_AHEAD", 1)
    words = ["--block", "4", "--max-batch-tokens", "2000", "--device", "cpu"]
    cmgems("explain", classifier, fasta, *words, "--out", tmp_path / "whole.tsv")
    write, calls = EffectsWriter.write, []

    def stopped(self: EffectsWriter, one: Any) -> None:
        write(self, one)
        calls.append(one)
        if len(calls) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(EffectsWriter, "write", stopped)
    out = tmp_path / "resumed.tsv"
    assert "resumes" in cmgems("explain", classifier, fasta, *words, "--out", out, code=130).stderr
    assert not out.exists()
    other = cmgems("explain", classifier, fasta, *words, "--strand", "both", "--out", out, code=4)
    assert "strand = forward, this command has both" in other.stderr
    cmgems("explain", classifier, fasta, *words, "--out", out)
    # The third row and the fourth are computed with the two after them, and so they are again: other batches round
    # otherwise.
    assert len(calls) == 4 + 4
    assert out.read_bytes() == (tmp_path / "whole.tsv").read_bytes()
    assert out.with_suffix(".npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "resumed.npz",
        "resumed.tsv",
        "whole.npz",
        "whole.tsv",
    ]


def test_a_run_killed_before_its_last_rename_makes_the_same_arrays(
    cmgems: CommandLine, classifier: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["explain", classifier, fasta, "--device", "cpu", "--out"]
    cmgems(*words, tmp_path / "whole.tsv")
    out = tmp_path / "killed.tsv"
    replace = Path.replace

    def killed(path: Path, target: Path) -> Path:
        if path.suffix == ".npz":
            raise Killed
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        with pytest.raises(Killed):
            cmgems(*words, out)
    cmgems(*words, out)
    assert out.with_suffix(".npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_what_cannot_be_explained_is_refused(
    cmgems: CommandLine, classifier: Path, fasta: Path, tmp_path: Path
) -> None:
    said = cmgems("explain", classifier, fasta, "--label", "maybe", code=2).error
    assert "--label maybe" in said
    assert "choose no, yes, perhaps" in said
    assert "--block-step 3" in cmgems("explain", classifier, fasta, "--block-step", "3", code=2).error
    assert ".tsv" in cmgems("explain", classifier, fasta, "--out", tmp_path / "x.csv", code=2).error
    (tmp_path / "x.npz").touch()
    assert "--overwrite" in cmgems("explain", classifier, fasta, "--out", tmp_path / "x.tsv", code=4).error


def test_regions_of_a_genome_are_explained_where_they_are(
    cmgems: CommandLine, classifier: Path, model: Model, tmp_path: Path
) -> None:
    genome = random_sequence(90, 4)
    (tmp_path / "g.fa").write_text(f">chr7\n{genome}\n")
    (tmp_path / "r.bed").write_text("chr7\t10\t30\tone\t0\t+\nchr7\t50\t75\ttwo\t0\t-\n")
    words = ["--regions", tmp_path / "r.bed", "--genome", tmp_path / "g.fa", "--device", "cpu"]
    cmgems("explain", classifier, *words, "--out", tmp_path / "r.tsv")
    lines = lines_of(tmp_path / "r.tsv")
    places = [int(line["start"]) for line in lines]
    assert places == [*range(10, 30), *range(74, 49, -1)]
    assert {int(line["end"]) - int(line["start"]) for line in lines} == {1}
    assert {(line["chrom"], line["name"], line["strand"]) for line in lines} == {
        ("chr7", "one", "+"),
        ("chr7", "two", "-"),
    }
    assert "".join(line["base"] for line in lines) == genome[10:30] + on_other_strand(genome[50:75])
    found = explain(model, [genome[10:30], on_other_strand(genome[50:75])])
    expected = np.concatenate([one.importance for one in found])
    assert [float(line["importance"]) for line in lines] == pytest.approx(expected, abs=1e-5)
    arrays = np.load(tmp_path / "r.npz")
    assert [arrays[name].tolist() for name in ("contigs", "strands", "starts", "ends")] == [
        ["chr7", "chr7"],
        ["+", "-"],
        [10, 50],
        [30, 75],
    ]
    table = explain(model, regions(tmp_path / "r.bed", tmp_path / "g.fa")).columns()
    assert list(table) == list(lines[0])
    assert table["start"].tolist() == places
