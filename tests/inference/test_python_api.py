"""The Python API of models and sequences: what it returns, and what it refuses."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import cmgems_cli
from cmgems_cli.errors import CmgemsError, InputError, UsageError
from cmgems_cli.genome.vocabulary import MASK
from cmgems_cli.inference import loading
from cmgems_cli.inference.loading import Model
from cmgems_cli.pmi.ranking import UNRANKED, Ranking
from tests.command_line import run_python
from tests.inference.conftest import (
    LABELS,
    OVERFLOWING,
    Stock,
    change_after_survey,
    overflowing,
    random_sequence,
)


@pytest.fixture(scope="module")
def judge(classifier: Path) -> Model:
    return cmgems_cli.load_model(classifier, device="cpu")


@pytest.fixture
def ranking() -> Ranking:
    """A ranking of 3-mers in the order of their codes."""
    ranks = np.full(69, UNRANKED, np.int32)
    ranks[5:] = np.arange(1, 65)
    nothing = np.zeros(64)
    return Ranking(3, ranks, nothing.astype(np.int64), nothing, nothing, None)  # type: ignore[arg-type]


@pytest.mark.subprocess
def test_the_api_is_there_and_loads_nothing_before_it_is_used() -> None:
    code = "import sys, cmgems, cmgems_cli; print(dir(cmgems)); sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))"
    done = run_python(code)
    for name in cmgems_cli.__all__:
        assert name in done.stdout
        assert getattr(cmgems_cli, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        cmgems_cli.nonsense  # noqa: B018


def test_predictions_of_lists_mappings_single_sequences_and_files(
    judge: Model, stock_probabilities: Stock, tmp_path: Path
) -> None:
    sequences = [random_sequence(n, n) for n in (30, 12, 25)]
    found = cmgems_cli.predict(judge, sequences)
    assert (found.names, found.label_names, len(found)) == (["0", "1", "2"], LABELS, 3)
    for row, sequence in zip(found.probabilities, sequences, strict=True):
        np.testing.assert_allclose(row, stock_probabilities(sequence), atol=1e-5)
    named = cmgems_cli.predict(judge, {"a": sequences[0], "b": "N" * 9})
    assert (named.names, named.labels) == (["a", "b"], [found.labels[0], None])
    assert np.isnan(named.probabilities[1]).all()
    path = tmp_path / "x.csv"
    path.write_text("sequence\n" + "\n".join(sequences))
    np.testing.assert_allclose(cmgems_cli.predict(judge, path).probabilities, found.probabilities, atol=1e-6)
    alone = cmgems_cli.predict(judge, sequences[1])
    np.testing.assert_allclose(alone.probabilities, found.probabilities[1:2], atol=1e-6)
    assert list(alone.columns()) == ["name", "start", "end", "label", "p_no", "p_yes", "p_perhaps"]


def test_windows(judge: Model) -> None:
    found = cmgems_cli.predict(judge, {"s": random_sequence(50, 1)}, window=20, stride=15)
    assert list(zip(found.starts.tolist(), found.ends.tolist(), strict=True)) == [(0, 20), (15, 35), (30, 50)]


def test_embeddings(pretrained: Path, stock_states: Callable[[str], list[NDArray[np.float32]]]) -> None:
    model = cmgems_cli.load_model(pretrained)
    sequences = [random_sequence(n, n) for n in (30, 12)]
    states = [stock_states(sequence) for sequence in sequences]
    np.testing.assert_allclose(
        cmgems_cli.embed(model, sequences), [layers[-1][1:-1].mean(0) for layers in states], atol=1e-4
    )
    tokens = cmgems_cli.embed(model, sequences, pooling="tokens", layers=[-1, 0])
    for found, layers in zip(tokens, states, strict=True):
        np.testing.assert_allclose(found, np.stack([layers[-1], layers[0]], 1)[1:-1], atol=1e-4)


def test_results_become_frames_of_pandas_and_print_in_one_line(judge: Model, pretrained: Path) -> None:
    found = cmgems_cli.predict(judge, {"a": "ACGTACGTAC", "b": "N" * 9})
    frame = found.to_frame()
    assert list(frame.columns) == ["name", "start", "end", "label", "p_no", "p_yes", "p_perhaps"]
    assert frame["end"].tolist() == [10, 9]
    np.testing.assert_array_equal(frame[["p_no", "p_yes", "p_perhaps"]], found.probabilities)
    assert repr(found) == "<Predictions: 2 rows, classes no, yes, perhaps>"
    model = cmgems_cli.load_model(pretrained)
    assert "no classes" in repr(model)
    assert "no, yes, perhaps" in repr(judge)
    vectors = cmgems_cli.embed(model, ["ACGTACGTAC", "ACGT"])
    table = vectors.to_frame()
    assert list(table.columns[:2]) == ["name", "e_0"]
    np.testing.assert_array_equal(table.drop(columns="name"), np.asarray(vectors))
    assert (vectors.shape, len(repr(vectors).splitlines())) == ((2, 16), 1)
    tokens = cmgems_cli.embed(model, ["ACGTA", "ACGT"], pooling="tokens", layers=[0, -1]).to_frame()
    assert list(zip(tokens["name"], tokens["token"], strict=True)) == [
        *(("0", i) for i in range(3)),
        ("1", 0),
        ("1", 1),
    ]
    last = cmgems_cli.embed(model, ["ACGTA", "ACGT"], pooling="tokens")
    np.testing.assert_array_equal(tokens.filter(regex="^l-1_"), np.concatenate(last.vectors))


def test_a_frame_without_pandas_names_what_installs_it(judge: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(CmgemsError, match=r"needs pandas.*pip install 'cmgems\[pandas\]'"):
        cmgems_cli.predict(judge, "ACGTACGT").to_frame()


def test_a_string_is_a_path_if_it_exists_and_dna_otherwise(
    judge: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.fa").write_text(">one\nACGTACGT\n>two\nTTTTACGT\n")
    assert cmgems_cli.predict(judge, str(tmp_path / "x.fa")).names == ["one", "two"]
    monkeypatch.chdir(tmp_path)
    assert cmgems_cli.embed(judge, "x.fa").names == ["one", "two"]
    with pytest.raises(InputError, match=r"'y\.fa' is neither a file that exists nor a DNA sequence"):
        cmgems_cli.predict(judge, "y.fa")
    # Longer than any path.
    assert cmgems_cli.predict(judge, "ACGT" * 5000, truncate=True).names == ["0"]
    (tmp_path / "ACGTACGT").write_text(">three\nACGTACGT\n")
    assert cmgems_cli.predict(judge, "ACGTACGT").names == ["three"]
    assert cmgems_cli.predict(judge, ["ACGTACGT"]).names == ["0"]


def test_masks_and_what_the_model_sees_of_them(ranking: Ranking) -> None:
    sequence = "GGGGGGGGAAAGGGGGGGGG"
    masked = cmgems_cli.mask([sequence, "AC"], "global", ranking=ranking)
    assert [len(one) for one in masked] == [18, 0]
    # The best-ranked 3-mer, AAA at 8, and all that touch it.
    assert np.flatnonzero(masked[0]).tolist() == [6, 7, 8, 9, 10]
    seen = cmgems_cli.corrupt([sequence, "AC"], masked, k=3)[0]
    encoded = cmgems_cli.encode(sequence, 3)[0]
    assert np.array_equal(seen[~masked[0]], encoded[~masked[0]])
    assert MASK in seen[masked[0]]
    drawn, again = (cmgems_cli.mask([sequence * 20] * 3, "random", k=3, seed=1, epoch=2) for _ in range(2))
    assert not np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[1], again[1])
    assert 0.05 < np.mean(drawn) < 0.3


@pytest.mark.parametrize("name", OVERFLOWING)
def test_s7_outputs_that_are_not_finite_are_refused(classifier: Path, tmp_path: Path, name: str) -> None:
    model = cmgems_cli.load_model(overflowing(classifier, tmp_path / "model", name))
    with pytest.raises(InputError, match="outputs for 1 of 1 rows are not finite"):
        cmgems_cli.embed(model, "ACGTACGTACGT")
    overflowing_classifier = loading.load_model(tmp_path / "model", classes=True)
    with pytest.raises(InputError, match="outputs for 1 of 2 rows are not finite, the first 'x'"):
        cmgems_cli.predict(overflowing_classifier, {"n": "NNNN", "x": "ACGTACGTACGT"})


def test_f4_s9_sequences_in_memory_and_files_are_judged_alike(
    judge: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sequences in (["ACGUUGCAUU"] * 9, {"a": "MKVLAAGIVGLLF" * 3}, "acguugcauu" * 4):
        with pytest.raises(InputError, match=r"input.*looks like (RNA|protein)"):
            cmgems_cli.embed(judge, sequences, truncate=True)
    path = tmp_path / "x.fa"
    path.write_text(">a\nACGTACGT\n")
    change_after_survey(monkeypatch, path, b">a\nACGTACGA\n")
    with pytest.raises(InputError, match="changed while it was read"):
        cmgems_cli.predict(judge, path)


def test_what_cannot_be_is_refused_as_on_the_command_line(
    judge: Model, pretrained: Path, ranking: Ranking
) -> None:
    with pytest.raises(UsageError, match="has no classes to predict"):
        cmgems_cli.predict(cmgems_cli.load_model(pretrained), "ACGT")
    with pytest.raises(InputError, match="1 of 1 sequences are longer"):
        cmgems_cli.predict(judge, "ACGT" * 20)
    with pytest.raises(InputError, match="so that every token would be"):
        cmgems_cli.embed(judge, ["NNNN", ""])
    with pytest.raises(UsageError, match="global masks by k-mer ranks; give a `ranking`"):
        cmgems_cli.mask("ACGT", "global")
    with pytest.raises(
        UsageError, match="'cm-gems' is unknown; choose random, genemask, global, random-mask"
    ):
        cmgems_cli.mask("ACGT", "cm-gems", ranking=ranking)
