"""Small models whose outputs differ from sequence to sequence, and the stock library's word on each."""

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.inference import survey
from cmgems_cli.modeling.classifier import SequenceClassifier, new_classifier
from cmgems_cli.modeling.classifier_files import save_classifier
from cmgems_cli.modeling.folder import save_model
from cmgems_cli.modeling.head_outputs import Outputs
from cmgems_cli.modeling.masked_lm import load_masked_lm
from cmgems_cli.modeling.model_source import ModelSource

LABELS = ("no", "yes", "perhaps")
# 3-mers, 40 positions: at most 38 tokens, 40 bases.
SHAPE = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "hidden_dropout_prob": 0.1,
}
MAX_BASES = 40

# Finite weights whose products are not: in a LayerNorm, in an embedding, in a dense layer.
OVERFLOWING = {
    "bert.encoder.layer.0.output.LayerNorm.weight": 3e38,
    "bert.encoder.layer.2.attention.output.dense.bias": 3e38,
    "bert.encoder.layer.1.intermediate.dense.weight": 1e38,
}

Stock = Callable[[str], NDArray[np.float64]]


def _enlarge(model: torch.nn.Module) -> None:
    """Draw weights so large that no two sequences are judged alike."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3, generator=draw)


@pytest.fixture(scope="session")
def shape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the configuration of a small BERT for 3-mers."""
    folder = tmp_path_factory.mktemp("shape")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 69, **SHAPE}))
    return folder


def make_classifier(folder: Path, shape: Path, labels: tuple[str, ...], outputs: Outputs) -> Path:
    """Write a classifier artifact, said to be fine-tuned on sequences of up to 30 tokens."""
    folder.mkdir()
    source = ModelSource(str(shape), "random")
    model = new_classifier(source, len(labels), seed=3)
    _enlarge(model)
    files = save_classifier(folder, SequenceClassifier(model, source.tokenization, outputs=outputs), labels)
    finish_artifact(
        folder, "classifier", params={"max_tokens": 30}, inputs={}, stats={}, files=files, environment={}
    )
    return folder


@pytest.fixture(scope="session")
def classifier(shape: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier artifact of three classes."""
    return make_classifier(tmp_path_factory.mktemp("models") / "classifier", shape, LABELS, Outputs())


REGRESSION = Outputs("regression", mean=7.0, scale=2.5)


@pytest.fixture(scope="session")
def regressor(shape: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model artifact that predicts values."""
    return make_classifier(tmp_path_factory.mktemp("models") / "values", shape, ("value",), REGRESSION)


@pytest.fixture(scope="session")
def labeller(shape: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model artifact of three labels, several of which a row may have."""
    folder = tmp_path_factory.mktemp("models") / "labels"
    return make_classifier(folder, shape, LABELS, Outputs("multilabel"))


def stock_logits(folder: Path) -> Stock:
    """Return a function: the logits of one sequence by stock `transformers`, alone, float64 of shape (n_labels,)."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def logits(sequence: str) -> NDArray[np.float64]:
        return np.asarray(model(**tokenizer(_kmers(sequence, 3), return_tensors="pt")).logits[0].double())

    return logits


@pytest.fixture(scope="session")
def pretrained(shape: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model artifact, which has no classes."""
    folder = tmp_path_factory.mktemp("models") / "pretrained"
    folder.mkdir()
    model, k = load_masked_lm(ModelSource(str(shape), "random"), seed=4)
    _enlarge(model)
    files = save_model(folder, model, k)
    finish_artifact(folder, "model", params={}, inputs={}, stats={}, files=files, environment={})
    return folder


@pytest.fixture(scope="session")
def stock_probabilities(classifier: Path) -> Stock:
    """Return a function: one sequence through stock `transformers`, alone, as float64 of shape (3,)."""
    logits = stock_logits(classifier)

    def judge(sequence: str) -> NDArray[np.float64]:
        exp = np.exp(logits(sequence))
        return np.asarray(exp / exp.sum())

    return judge


@pytest.fixture(scope="session")
def stock_states(pretrained: Path) -> Callable[[str], list[NDArray[np.float32]]]:
    """Return a function: all layers' states of one sequence by stock `transformers`, [CLS] and [SEP] included."""
    model = AutoModel.from_pretrained(pretrained).eval()
    tokenizer = AutoTokenizer.from_pretrained(pretrained)

    @torch.no_grad()
    def states(sequence: str) -> list[NDArray[np.float32]]:
        inputs = tokenizer(_kmers(sequence, 3), return_tensors="pt")
        return [layer[0].numpy() for layer in model(**inputs, output_hidden_states=True).hidden_states]

    return states


def overflowing(model: Path, folder: Path, name: str) -> Path:
    """Copy a model folder without its manifest, one weight of which makes the outputs overflow."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("manifest.json"))
    weights = load_file(folder / "model.safetensors")
    weights[name] = torch.full_like(weights[name], OVERFLOWING[name])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def change_after_survey(monkeypatch: pytest.MonkeyPatch, path: Path, content: bytes) -> None:
    """Let a file change between its survey and its reading."""
    surveyed = survey.survey

    def change(*arguments: Any) -> Any:
        counted = surveyed(*arguments)
        path.write_bytes(content)
        return counted

    monkeypatch.setattr(survey, "survey", change)


def _kmers(sequence: str, k: int) -> str:
    """Spell a sequence out the way DNABERT's users do."""
    return " ".join(sequence[i : i + k] for i in range(len(sequence) - k + 1))


@contextmanager
def as_standard_input(data: bytes) -> Iterator[None]:
    """Put `data` in a pipe on file descriptor 0."""
    end, start = os.pipe()
    saved = os.dup(0)
    os.dup2(end, 0)

    def feed() -> None:
        with os.fdopen(start, "wb") as stream, suppress(BrokenPipeError):
            stream.write(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield
    finally:
        os.dup2(saved, 0)
        for descriptor in (saved, end):
            os.close(descriptor)
        feeder.join()


def random_sequence(length: int, seed: int, letters: str = "ACGT") -> str:
    """Return letters drawn at random."""
    return "".join(np.random.default_rng(seed).choice(list(letters), length).tolist())
