"""`cmgems embed` against the hidden states of stock `transformers`, one sequence at a time."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file

import cmgems_cli
from cmgems_cli.errors import UsageError
from cmgems_cli.inference import embedding
from cmgems_cli.inference.embedding import check_layers
from cmgems_cli.inference.output_formats import array_writer
from tests.command_line import CommandLine
from tests.inference.conftest import OVERFLOWING, SHAPE, overflowing, random_sequence

StockStates = Callable[[str], list[NDArray[np.float32]]]

HIDDEN = SHAPE["hidden_size"]
# Of several lengths, in no order of them; the last has a gap.
SEQUENCES = [random_sequence(n, n) for n in (40, 7, 33, 3, 18, 40, 25)] + ["ACGTACGTNNNNNACGGT"]


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "x.fa"
    path.write_text("".join(f">s{i}\n{sequence}\n" for i, sequence in enumerate(SEQUENCES)))
    return path


def names_of(array: Path) -> list[dict[str, str]]:
    with array.with_suffix(".names.tsv").open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def known(sequence: str) -> NDArray[np.bool_]:
    """Which k-mers of a sequence have no N."""
    return np.array(["N" not in sequence[i : i + 3] for i in range(len(sequence) - 2)])


@pytest.mark.parametrize("layers", ["-1", "-1,-2", "0,3,1"])
@pytest.mark.parametrize("pooling", ["mean", "max", "cls", "tokens"])
def test_states_are_those_of_transformers(
    cmgems: CommandLine, pretrained: Path, stock_states: StockStates, fasta: Path, pooling: str, layers: str
) -> None:
    out = fasta.with_name("x.npy")
    how = [
        "--pool" if pooling == "max" else "--pooling",
        pooling,
        "--layers",
        layers,
        "--max-batch-tokens",
        "96",
    ]
    cmgems("embed", pretrained, fasta, "--out", out, *how)
    found = np.load(out)
    assert found.dtype == np.float32
    expected = []
    for sequence in SEQUENCES:
        by_layer = stock_states(sequence)
        chosen = np.stack([by_layer[int(layer)] for layer in layers.split(",")], axis=1)
        inside = chosen[1:-1]
        expected += {
            "mean": [inside[known(sequence)].mean(0)],
            "max": [inside[known(sequence)].max(0)],
            "cls": [chosen[0]],
            "tokens": list(inside),
        }[pooling]
    wanted = np.stack(expected) if "," in layers else np.stack(expected)[:, 0]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)
    assert wanted.std() > 0.5
    rows = names_of(out)
    assert [row["name"] for row in rows] == [f"s{i}" for i in range(len(SEQUENCES))]
    if pooling == "tokens":
        sizes = [len(sequence) - 2 for sequence in SEQUENCES]
        assert [int(row["tokens"]) for row in rows] == sizes
        assert [int(row["first"]) for row in rows] == [sum(sizes[:i]) for i in range(len(sizes))]


def test_a_classifier_is_a_model_too(cmgems: CommandLine, classifier: Path, fasta: Path) -> None:
    value = json.loads(
        cmgems("embed", classifier, fasta, "--out", fasta.with_name("c.npy"), "--json", "--quiet").stdout
    )
    assert value["shape"] == [len(SEQUENCES), HIDDEN]
    assert value["names"] == str(fasta.with_name("c.names.tsv"))


def test_safetensors_hold_the_same_numbers(cmgems: CommandLine, pretrained: Path, fasta: Path) -> None:
    arrays = [fasta.with_name("x.npy"), fasta.with_name("y.safetensors")]
    for out in arrays:
        cmgems("embed", pretrained, fasta, "--out", out, "--layers", "-1,-2", "--quiet")
    found = load_file(arrays[1])["embeddings"]
    np.testing.assert_array_equal(found, np.load(arrays[0]))
    with safe_open(arrays[1], "np") as file:
        assert file.metadata() == {"pooling": "mean", "layers": "-1,-2"}
    assert np.load(arrays[0], mmap_mode="r").shape == found.shape


def test_windows_and_sequences_without_known_kmers(
    cmgems: CommandLine, pretrained: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / "x.fa", tmp_path / "x.npy"
    path.write_text(f">a\n{random_sequence(50, 1)}\n>b\n{'N' * 30}\n>c\nACGTAC\n")
    cmgems("embed", pretrained, path, "--out", out, "--window", "20", "--quiet")
    spans = [(row["name"], int(row["start"]), int(row["end"])) for row in names_of(out)]
    assert spans == [("a", 0, 20), ("a", 20, 40), ("a", 40, 50), ("c", 0, 6)]
    assert np.isfinite(np.load(out)).all()
    done = cmgems("embed", pretrained, path, "--out", out, "--truncate", "--overwrite")
    assert np.isnan(np.load(out)).all(axis=1).tolist() == [False, True, False]
    assert "1 sequence without a known k-mer" in done.stderr


def test_many_rows_come_in_blocks_of_bounded_size(
    cmgems: CommandLine, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, whole, parts = tmp_path / "x.fa", tmp_path / "whole.npy", tmp_path / "parts.npy"
    path.write_text(f">a\n{random_sequence(2000, 1)}\n")
    how = ["--window", "20", "--stride", "9", "--pooling", "tokens", "--quiet", "--max-batch-tokens", "64"]
    cmgems("embed", pretrained, path, "--out", whole, *how)
    sizes = []
    original = embedding._states
    monkeypatch.setattr(embedding, "BLOCK_BYTES", 100 * 4 * HIDDEN)
    monkeypatch.setattr(
        embedding, "_states", lambda *given: sizes.append(len(given[1].known)) or original(*given)
    )
    cmgems("embed", pretrained, path, "--out", parts, *how)
    assert len(sizes) > 30
    assert max(sizes) <= 6
    np.testing.assert_allclose(np.load(parts), np.load(whole), atol=1e-6)


def test_layers_are_counted_from_the_embeddings_or_from_the_end() -> None:
    assert check_layers([-1, 0, 2], 3) == (3, 0, 2)
    for wrong, words in (([4], "layer 4 is not"), ([-5], "layer -5 is not"), ([1, -3], "and each once")):
        with pytest.raises(UsageError, match=words):
            check_layers(wrong, 3)


def test_an_unknown_pooling_is_refused(pretrained: Path) -> None:
    with pytest.raises(UsageError, match="'sum' is unknown; choose mean, max, cls, tokens"):
        cmgems_cli.embed(cmgems_cli.load_model(pretrained, device="cpu"), ["ACGTACGT"], pooling="sum")


@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ([], 2, "embed writes an array to --out FILE"),
        (["--out", "x.txt"], 2, "ends in .npy or .safetensors"),
        (["--out", "x.npy", "--layers", "last"], 2, "is not a list of layers"),
        (["--out", "x.npy", "--layers", "9"], 2, "it has 0 (the embeddings) to 3"),
        (["--out", "x.npy", "--window", "41"], 2, "needed 3 to 40 bases"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    cmgems: CommandLine,
    pretrained: Path,
    fasta: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.chdir(fasta.parent)
    done = cmgems("embed", pretrained, fasta, *how, code=code)
    assert words in done.error
    assert [path.name for path in fasta.parent.iterdir()] == ["x.fa"]


def test_existing_arrays_and_names_are_kept(cmgems: CommandLine, pretrained: Path, fasta: Path) -> None:
    out = fasta.with_name("x.npy")
    out.with_suffix(".names.tsv").write_text("mine")
    assert "x.names.tsv exists" in cmgems("embed", pretrained, fasta, "--out", out, code=4).stderr
    cmgems("embed", pretrained, fasta, "--out", out, "--overwrite")
    assert len(names_of(out)) == len(np.load(out))


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_an_array_grows_row_by_row(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    parts = [np.random.default_rng(i).random((n, 2, 3), np.float32) for i, n in enumerate((5, 0, 70_000))]
    with path.open("wb+") as stream:
        writer = array_writer(stream, suffix, (2, 3), {})
        for part in parts:
            writer.append(part)
        writer.finish()
    found = np.load(path) if suffix == ".npy" else load_file(path)["embeddings"]
    np.testing.assert_array_equal(found, np.concatenate(parts))


@pytest.mark.parametrize("name", OVERFLOWING)
@pytest.mark.parametrize(
    "how", [("mean", "-1"), ("cls", "-1"), ("tokens", "-1"), ("mean", "-1,-2"), ("cls", "3,2")]
)
def test_s7_outputs_that_are_not_finite_stop_embed(
    cmgems: CommandLine, pretrained: Path, fasta: Path, name: str, how: tuple[str, str]
) -> None:
    model = overflowing(pretrained, fasta.parent / "model", name)
    arguments = ("--pooling", how[0], "--layers", how[1], "--out", fasta.parent / "e.npy")
    error = cmgems("embed", model, fasta, *arguments, code=3).stderr
    assert "rows are not finite, the first 's0', so its weights overflow" in error.splitlines()[-1]
    assert sorted(path.name for path in fasta.parent.iterdir()) == ["model", "x.fa"]


def test_s7_rows_without_a_known_kmer_stay_what_they_are(
    cmgems: CommandLine, pretrained: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.fa").write_text(">a\nACGTACGT\n>b\nNNNNNN\n>c\nAC\n>d\nACGNNNN\n")
    for pooling, rows in (
        ("mean", [True, False, False, True]),
        ("tokens", [True] * 6 + [False] * 4 + [True] * 5),
    ):
        out = tmp_path / f"{pooling}.npy"
        cmgems("embed", pretrained, tmp_path / "x.fa", "--pooling", pooling, "--out", out)
        assert np.isfinite(np.load(out)).all(1).tolist() == rows
