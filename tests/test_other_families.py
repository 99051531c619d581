"""Models of other families through the commands: fine-tuned, evaluated, predicted with, embedded."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from cmgems_cli.modeling.families import family_config, family_states, new_family_classifier
from tests.command_line import CommandLine
from tests.modeling.foreign_models import make_bpe, make_nucleotide_transformer

SHORT = [
    "--max-steps",
    "2",
    "--eval-every",
    "1",
    "--warmup-steps",
    "1",
    "--global-batch",
    "4",
    "--device",
    "cpu",
]


def sequence(bases: int, seed: int) -> str:
    return "".join("ACGT"[i] for i in np.random.default_rng(seed).integers(0, 4, bases))


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Twelve rows per split, of two classes and several lengths."""
    folder = tmp_path / "data" / "task"
    folder.mkdir(parents=True)
    for number, split in enumerate(("train", "dev", "test")):
        rows = [f"{sequence(60 + row, 100 * number + row)},{row % 2}\n" for row in range(12)]
        (folder / f"{split}.csv").write_text("sequence,label\n" + "".join(rows))
    return folder


def sequences_of(path: Path) -> list[str]:
    return [row["sequence"] for row in csv.DictReader(path.open())]


@pytest.mark.parametrize("kind", ["esm", "modernbert"])
def test_a_fine_tuned_model_opens_in_transformers_and_predicts_the_same(
    cmgems: CommandLine, tmp_path: Path, task: Path, kind: str
) -> None:
    folder = tmp_path / kind
    model = make_nucleotide_transformer(folder) if kind == "esm" else make_bpe(folder, kind)
    out = tmp_path / "classifier"
    assert cmgems("finetune", model, task, *SHORT, "--out", out, "--json").json["kind"] == "classifier"
    cmgems("predict", out, task / "test.csv", "--out", tmp_path / "p.tsv", "--device", "cpu")
    found = [float(row["p_1"]) for row in csv.DictReader((tmp_path / "p.tsv").open(), delimiter="\t")]
    stock = AutoModelForSequenceClassification.from_pretrained(out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    for text, probability in zip(sequences_of(task / "test.csv"), found, strict=True):
        with torch.no_grad():
            logits = stock(**tokenizer(text, return_tensors="pt")).logits
        assert probability == pytest.approx(float(logits.softmax(1)[0, 1]), abs=1e-5)


@pytest.mark.parametrize("kind", ["esm", "modernbert"])
def test_an_evaluation_on_mouse_2_is_a_plain_forward_pass(
    cmgems: CommandLine, tmp_path: Path, gue_data: Path, kind: str
) -> None:
    """The weights of an evaluation's run are not kept: the same run of `finetune` has them."""
    model = make_nucleotide_transformer(tmp_path / "nt") if kind == "esm" else make_bpe(tmp_path / kind, kind)
    rows = tmp_path / "GUE" / "mouse" / "2"
    rows.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        lines = (gue_data / "mouse" / "2" / f"{split}.csv").read_text().splitlines()[:25]
        (rows / f"{split}.csv").write_text("\n".join(lines) + "\n")
    run = [*SHORT, "--precision", "fp32"]
    words = ["--bench", "gue", "--data", tmp_path / "GUE", "--tasks", "mouse/2", "--no-kmer-linear"]
    cmgems("evaluate", model, *words, *run, "--out", tmp_path / "scores")
    cmgems("finetune", model, rows, *run, "--out", tmp_path / "classifier")
    predicted = tmp_path / "scores" / "runs" / "mouse-2-seed-42" / "predictions.csv"
    assert predicted.read_bytes() == (tmp_path / "classifier" / "predictions.csv").read_bytes()
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path / "classifier").eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    found = [float(row["p_1"]) for row in csv.DictReader(predicted.open())]
    assert len(found) == 24
    # Ten times the tolerance below: how far apart they are depends on the version that drew the weights.
    assert max(found) - min(found) > 1e-4
    for text, probability in zip(sequences_of(rows / "test.csv"), found, strict=True):
        with torch.no_grad():
            logits = stock(**tokenizer(text, return_tensors="pt")).logits
        assert probability == pytest.approx(float(logits.softmax(1)[0, 1]), abs=1e-5)


def test_embeddings_are_those_of_transformers(cmgems: CommandLine, tmp_path: Path, task: Path) -> None:
    model = make_nucleotide_transformer(tmp_path / "nt")
    out = tmp_path / "e.npy"
    cmgems("embed", model, task / "test.csv", "--pooling", "cls", "--out", out, "--device", "cpu")
    stock, tokenizer = AutoModel.from_pretrained(model).eval(), AutoTokenizer.from_pretrained(model)
    for text, found in zip(sequences_of(task / "test.csv"), np.load(out), strict=True):
        with torch.no_grad():
            expected = stock(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_dnabert2_is_evaluated_and_its_classifier_read_again(
    cmgems: CommandLine, tmp_path: Path, task: Path
) -> None:
    model = make_bpe(tmp_path / "dnabert2", "dnabert2")
    scores = cmgems(
        "evaluate", model, "--bench", task.parent, *SHORT, "--seeds", "1,2", "--out", tmp_path / "s", "--json"
    ).json
    assert scores["kind"] == "scores"
    out = tmp_path / "classifier"
    said = cmgems("finetune", model, task, *SHORT, "--pool", "mean", "--out", out).stderr
    assert "open it with transformers" not in said
    assert "AutoModel" not in (out / "README.md").read_text()
    cmgems("predict", out, task / "test.csv", "--out", tmp_path / "p.tsv", "--device", "cpu")
    assert len((tmp_path / "p.tsv").read_text().splitlines()) == 13


def test_a_mean_of_states_leaves_out_special_tokens_and_padding(
    cmgems: CommandLine, tmp_path: Path, task: Path
) -> None:
    model = make_bpe(tmp_path / "mb")
    cmgems("embed", model, task / "test.csv", "--out", tmp_path / "e.npy", "--device", "cpu")
    path = model / "config.json"
    plain = new_family_classifier(family_config(json.loads(path.read_text()), path), 2, model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    for text, found in zip(sequences_of(task / "test.csv"), np.load(tmp_path / "e.npy"), strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            states = family_states(plain, ids, None)[-1][0, 1:-1]
        np.testing.assert_allclose(found, states.mean(0).numpy(), atol=1e-5)


@pytest.mark.parametrize("command", ["finetune", "embed"])
def test_adapters_beside_a_model_are_refused(
    cmgems: CommandLine, task: Path, tmp_path: Path, command: str
) -> None:
    """transformers would add them to the weights, unseen by the digest of the folder."""
    folder = tmp_path / "model"
    make_bpe(folder)
    (folder / "adapter_config.json").write_text("{}")
    words = (
        [folder, task] if command == "finetune" else [folder, tmp_path / "s.fa", "--out", tmp_path / "e.npy"]
    )
    (tmp_path / "s.fa").write_text(">a\nACGTACGTAC\n")
    said = cmgems(command, *words, code=3).error
    assert f"{folder} has adapter_config.json: adapters of peft next to the weights" in said
