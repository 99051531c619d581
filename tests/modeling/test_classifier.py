"""Classifiers against stock `BertForSequenceClassification`: made, trained on, written and opened again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    BertForSequenceClassification,
)

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.errors import InputError
from cmgems_cli.genome.tokenization import OverlappingKmers
from cmgems_cli.genome.vocabulary import tokens
from cmgems_cli.modeling.classifier import SequenceClassifier, new_classifier
from cmgems_cli.modeling.classifier_files import load_classifier, save_classifier
from cmgems_cli.modeling.folder import save_model
from cmgems_cli.modeling.head_outputs import no_labels
from cmgems_cli.modeling.masked_lm import load_masked_lm
from cmgems_cli.modeling.model_source import ModelSource

SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """A model folder this package wrote: `tiny` for 3-mers."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    save_model(folder, *load_masked_lm(ModelSource("tiny"), k=3, seed=5))
    return folder


@pytest.fixture
def dnabert(tmp_path: Path) -> Path:
    """A folder as DNABERT's: pickled weights with a pooler and two heads."""
    folder = tmp_path / "DNABERT3"
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(
        BertForPreTraining(BertConfig(vocab_size=69, **SHAPE)).state_dict(), folder / "pytorch_model.bin"
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 69, **SHAPE}))
    (folder / "vocab.txt").write_text("\n".join(tokens(3)) + "\n")
    return folder


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def same(one: dict[str, Tensor], two: dict[str, Tensor], beginning: str = "") -> bool:
    chosen = [name for name in one if name.startswith(beginning)]
    assert chosen, beginning
    return all(torch.equal(one[name], two[name]) for name in chosen)


def batch(lengths: list[int], n_labels: int, seed: int = 0) -> tuple[Tensor, Tensor | None, Tensor]:
    """Random sequences of these lengths, padded; no mask where nothing is."""
    draw = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(5, 69, (len(lengths), max(lengths)), generator=draw)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    input_ids[mask == 0] = 0
    labels = torch.randint(0, n_labels, (len(lengths),), generator=draw)
    return input_ids, None if min(lengths) == max(lengths) else mask, labels


# --- the loss


@pytest.mark.parametrize("lengths", [[20, 20, 20], [20, 3, 11, 7], [2, 2], [9]])
def test_loss_logits_and_gradients_equal_those_of_stock_bert(pretrained: Path, lengths: list[int]) -> None:
    ours, stock = (new_classifier(ModelSource(str(pretrained)), 3) for _ in range(2))
    input_ids, mask, labels = batch(lengths, 3)
    out = stock(input_ids=input_ids, attention_mask=torch.ones_like(input_ids) if mask is None else mask)
    expected = functional.cross_entropy(out.logits, labels, reduction="sum")
    expected.backward()
    module = SequenceClassifier(ours, OverlappingKmers(3))
    loss = module(input_ids, mask, labels)
    loss.backward()
    torch.testing.assert_close(module.logits(input_ids, mask), out.logits, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for (name, one), two in zip(ours.named_parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_rows_without_label_add_nothing_but_reach_every_parameter(pretrained: Path) -> None:
    model = new_classifier(ModelSource(str(pretrained)), 2)
    input_ids, mask, labels = batch([5, 5], 2)
    loss = SequenceClassifier(model, OverlappingKmers(3))(input_ids, mask, no_labels(labels))
    loss.backward()
    assert loss.item() == 0.0
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_logits_are_float32_under_autocast(pretrained: Path) -> None:
    model = new_classifier(ModelSource(str(pretrained)), 2)
    input_ids, mask, _ = batch([9, 4], 2)
    exact = SequenceClassifier(model, OverlappingKmers(3)).logits(input_ids, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = SequenceClassifier(model, OverlappingKmers(3)).logits(input_ids, mask)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, atol=0.02, rtol=0.05)


# --- where weights come from


def test_the_encoder_is_the_folders_and_the_head_follows_from_the_seed(pretrained: Path) -> None:
    lm = weights(load_masked_lm(ModelSource(str(pretrained)))[0])
    one, again, other = (
        weights(new_classifier(ModelSource(str(pretrained)), 2, seed=seed)) for seed in (1, 1, 2)
    )
    for name, tensor in lm.items():
        if name.startswith("bert."):
            assert torch.equal(one[name], tensor), name
    assert same(one, again)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])
    assert not torch.equal(one["bert.pooler.dense.weight"], other["bert.pooler.dense.weight"])
    assert one["classifier.weight"].std() == pytest.approx(0.02, rel=0.5)


def test_torchs_own_random_state_is_neither_used_nor_changed(pretrained: Path) -> None:
    torch.manual_seed(1)
    one = weights(new_classifier(ModelSource(str(pretrained)), 2))
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3), drawn)
    torch.manual_seed(99)
    assert same(weights(new_classifier(ModelSource(str(pretrained)), 2)), one)


def test_random_initialisation_shares_the_head_alone_with_the_folders_weights(pretrained: Path) -> None:
    given = weights(new_classifier(ModelSource(str(pretrained)), 2, seed=3))
    random = weights(new_classifier(ModelSource(str(pretrained), "random"), 2, seed=3))
    assert given.keys() == random.keys()
    assert same(given, random, "classifier.")
    assert not torch.equal(
        given["bert.embeddings.word_embeddings.weight"], random["bert.embeddings.word_embeddings.weight"]
    )


def test_a_preset_is_random_for_6_mers() -> None:
    source = ModelSource("tiny")
    model, k = new_classifier(source, 2, seed=3), source.k
    assert k == 6
    assert model.config.vocab_size == 4101
    assert same(weights(model), weights(new_classifier(ModelSource("tiny", "random"), 2, seed=3)))


def test_dnaberts_pooler_is_taken_and_its_heads_are_not(dnabert: Path) -> None:
    stored = torch.load(dnabert / "pytorch_model.bin", weights_only=True)
    source = ModelSource(str(dnabert))
    model, k = new_classifier(source, 2), source.k
    assert k == 3
    for name, tensor in weights(model).items():
        if not name.startswith("classifier."):
            assert torch.equal(tensor, stored[name]), name


def test_another_tasks_head_is_left_behind(pretrained: Path, tmp_path: Path) -> None:
    source = ModelSource(str(pretrained))
    first = new_classifier(source, 2, seed=1)
    folder = tmp_path / "from elsewhere"
    folder.mkdir()
    save_classifier(folder, SequenceClassifier(first, source.tokenization), ["no", "yes"])
    second = new_classifier(ModelSource(str(folder)), 5, seed=2)
    assert second.classifier.weight.shape == (5, 64)
    assert same(weights(first), weights(second), "bert.")


def test_dropout_is_the_models_own_unless_said(dnabert: Path) -> None:
    assert new_classifier(ModelSource("tiny"), 2).dropout.p == 0.0
    model = new_classifier(ModelSource("tiny"), 2, dropout=0.25)
    assert (model.dropout.p, model.bert.embeddings.dropout.p) == (0.25, 0.25)
    assert new_classifier(ModelSource(str(dnabert)), 2).dropout.p == 0.1


def _without(names: str) -> Callable[[Path], Any]:
    def drop(folder: Path) -> None:
        kept = {name: x for name, x in load_file(folder / "model.safetensors").items() if names not in name}
        save_file(kept, folder / "model.safetensors")

    return drop


def test_an_incomplete_encoder_or_pooler_is_refused(pretrained: Path, dnabert: Path) -> None:
    _without("layer.1.output.dense")(pretrained)
    with pytest.raises(
        InputError, match=r"no weights for bert\.encoder\.layer\.1\.output\.dense\.bias and 1 more"
    ):
        new_classifier(ModelSource(str(pretrained)), 2)
    stored = torch.load(dnabert / "pytorch_model.bin", weights_only=True)
    torch.save(
        {name: x for name, x in stored.items() if name != "bert.pooler.dense.bias"},
        dnabert / "pytorch_model.bin",
    )
    with pytest.raises(InputError, match=r"no weights for bert\.pooler\.dense\.bias; needed"):
        new_classifier(ModelSource(str(dnabert)), 2)


def test_missing_folders_and_other_artifacts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist; needed a model's name"):
        new_classifier(ModelSource(str(tmp_path / "nowhere")), 2)
    (tmp_path / "x.csv").write_text("")
    finish_artifact(tmp_path, "pmi", params={}, inputs={}, stats={}, files=["x.csv"], environment={})
    with pytest.raises(InputError, match="is a pmi artifact; needed a model"):
        new_classifier(ModelSource(str(tmp_path)), 2)


def test_an_architecture_is_read_without_its_weights(pretrained: Path) -> None:
    (pretrained / "model.safetensors").unlink()
    source = ModelSource(str(pretrained))
    config, k = source.config, source.k
    assert (config.max_position_embeddings, k) == (512, 3)
    assert ModelSource("logo").config.hidden_size == 256


# --- on disk


@pytest.fixture
def saved(pretrained: Path, tmp_path: Path) -> tuple[Path, BertForSequenceClassification]:
    folder = tmp_path / "classifier"
    folder.mkdir()
    source = ModelSource(str(pretrained))
    model = new_classifier(source, 3, dropout=0.1)
    save_classifier(folder, SequenceClassifier(model, source.tokenization), ["acceptor", "donor", "neither"])
    return folder, model.eval()


def test_transformers_opens_a_saved_classifier_whole(
    saved: tuple[Path, BertForSequenceClassification],
) -> None:
    folder, expected = saved
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    assert model.config.id2label == {0: "acceptor", 1: "donor", 2: "neither"}
    assert model.config.label2id == {"acceptor": 0, "donor": 1, "neither": 2}
    assert model.config.hidden_dropout_prob == 0.1
    inputs = AutoTokenizer.from_pretrained(folder)("ACGTTGCATN", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(model(**inputs).logits, expected(**inputs).logits)
        ours = SequenceClassifier(expected, OverlappingKmers(3)).logits(inputs["input_ids"], None)
    torch.testing.assert_close(ours, model(**inputs).logits.detach(), atol=1e-6, rtol=1e-5)


def test_a_saved_classifier_loads_here_as_it_was_and_saves_to_the_same_bytes(
    saved: tuple[Path, BertForSequenceClassification], tmp_path: Path
) -> None:
    folder, expected = saved
    loaded = load_classifier(folder)
    assert (loaded.architecture.tokenization.k, loaded.label_names) == (3, ("acceptor", "donor", "neither"))
    assert not loaded.model.training
    assert same(weights(expected), weights(loaded.model))
    (tmp_path / "again").mkdir()
    for name in save_classifier(tmp_path / "again", loaded.module, loaded.label_names):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_damaged_classifier_is_refused(
    saved: tuple[Path, BertForSequenceClassification], pretrained: Path
) -> None:
    folder, _ = saved
    config = json.loads((folder / "config.json").read_text())
    for labels, words in (
        ([], "names no labels"),
        ({"0": "a"}, "says problem_type 'single_label_classification' with 1 outputs"),
        ({"1": "a", "2": "b"}, "does not number its labels from 0"),
        ({"0": 1, "1": 2}, "does not number its labels from 0"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, "id2label": labels}))
        with pytest.raises(InputError, match=words):
            load_classifier(folder)
    (folder / "config.json").write_text(json.dumps(config))
    _without("classifier.bias")(folder)
    with pytest.raises(InputError, match=r"no weights for classifier\.bias"):
        load_classifier(folder)
    with pytest.raises(InputError, match="names no labels"):
        load_classifier(pretrained)


@pytest.mark.parametrize("n_labels", [2, 3])
def test_f8_classes_without_names_are_named_as_transformers_does(
    pretrained: Path, tmp_path: Path, n_labels: int
) -> None:
    """transformers leaves the default names of two classes out of config.json."""
    made = new_classifier(ModelSource(str(pretrained)), n_labels)
    folder = tmp_path / "theirs"
    made.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    assert ("id2label" in config) == (n_labels > 2)
    config.pop("id2label", None)
    (folder / "config.json").write_text(json.dumps(config))
    loaded = load_classifier(folder)
    assert loaded.label_names == tuple(f"LABEL_{number}" for number in range(n_labels))
    assert same(weights(made), weights(loaded.model))


def test_f8_one_output_or_none_is_no_classifier(pretrained: Path) -> None:
    with pytest.raises(InputError, match="names no labels"):
        load_classifier(pretrained)
    config = json.loads((pretrained / "config.json").read_text())
    (pretrained / "config.json").write_text(json.dumps({**config, "architectures": ["BertModel"]}))
    made = new_classifier(ModelSource(str(pretrained)), 2)
    head = {"classifier.weight": made.classifier.weight[:1], "classifier.bias": made.classifier.bias[:1]}
    save_file({**made.state_dict(), **head}, pretrained / "model.safetensors")
    with pytest.raises(InputError, match="names no labels"):
        load_classifier(pretrained)
