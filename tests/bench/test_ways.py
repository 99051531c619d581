"""Reverse complements, the rate of the embeddings and class weights in fine-tuning."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import cmgems_cli
from cmgems_cli.artifacts import read_manifest
from cmgems_cli.errors import Interrupted
from cmgems_cli.genome.strands import reverse_complements
from cmgems_cli.metrics import score
from cmgems_cli.modeling.classifier import SequenceClassifier, new_classifier
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.classifier_run import finetune
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.metrics_log import read_metrics
from cmgems_cli.training.parameter_groups import parameter_groups
from cmgems_cli.training.processes import Processes
from tests.modeling.foreign_models import make_bpe
from tests.training.conftest import StopAfter

MakeRun = Callable[..., FinetuningRun]


def reversed_letters(text: str) -> str:
    letters = np.frombuffer(text.encode(), np.uint8)
    return reverse_complements(letters, np.array([0, len(letters)])).tobytes().decode()


def train(run: FinetuningRun, **options: Any) -> Path:
    finetune(run, score, **{"resume": True, "overwrite": False, **options})
    return run.out


def sequences_of(path: Path) -> list[str]:
    with path.open() as stream:
        return [row["sequence"] for row in csv.DictReader(stream)]


def probabilities_in(path: Path) -> np.ndarray:
    with path.open() as stream:
        return np.array([[float(row["p_0"]), float(row["p_1"])] for row in csv.DictReader(stream)])


# --- reverse complements in training


def test_rows_are_read_on_the_strand_that_seed_epoch_and_row_draw(
    make_small_run: MakeRun, labelled: Path
) -> None:
    run = make_small_run(rc="augment", epochs=9, max_steps=36)
    texts = sequences_of(labelled / "train.csv")
    strands = np.zeros((9, len(texts)), int)
    for step in range(1, 37):
        rows = run.maker.rows_of(step)
        chosen = {}
        for batch in run.maker.make(step).batches:
            for number, ids in zip(batch.rows.tolist(), batch.input_ids.tolist(), strict=True):
                chosen[number % len(texts)] = number // len(texts)
                text = texts[number % len(texts)]
                tokens = cmgems_cli.encode(reversed_letters(text) if number >= len(texts) else text, 3)[0]
                assert ids[: len(tokens) + 2] == [2, *tokens.tolist(), 3]
            labels = run.task.train.labels[batch.rows % len(texts)]
            assert batch.labels.tolist() == labels.tolist()
            assert run.sequences(step, batch) == (batch.rows % len(texts)).tolist()
        assert sorted(chosen) == sorted(rows.tolist())
        for row, strand in chosen.items():
            strands[(step - 1) // 4, row] = strand
        shares = [replace(run.maker, processes=Processes(rank, 2, torch.device("cpu"))) for rank in (0, 1)]
        shared = np.concatenate([batch.rows for share in shares for batch in share.make(step).batches])
        assert sorted(shared.tolist()) == sorted(run.maker.sequences_of(step).tolist())
    # 198 draws of a coin: outside these bounds with a probability of 10^-6.
    assert 64 < strands.sum() < 134
    assert strands.mean(0).min() > 0 or strands.mean(0).max() < 1
    assert run.task.test.strands == 1
    assert make_small_run().maker.sequences_of(3).tolist() == make_small_run().maker.rows_of(3).tolist()


@pytest.mark.parametrize("stop", [3, 5])
def test_a_run_with_every_way_resumes_to_the_same_bytes(make_small_run: MakeRun, stop: int) -> None:
    ways = {"rc": "both", "embedding_lr": 3.0, "class_weights": "balanced"}
    whole = train(make_small_run("whole", **ways))
    with pytest.raises(Interrupted):
        train(make_small_run("parts", **ways), observer=StopAfter(stop))
    parts = train(make_small_run("parts", **ways))
    assert read_manifest(parts).digest == read_manifest(whole).digest
    assert {name: read_manifest(whole).params[name] for name in ways} == ways
    plain = read_manifest(train(make_small_run("plain")))
    assert not plain.params.keys() & ways.keys()
    assert plain.files["model.safetensors"] != read_manifest(whole).files["model.safetensors"]


# --- reverse complements at test time


def test_both_strands_are_averaged_in_dev_test_and_every_prediction(
    make_small_run: MakeRun, labelled: Path, tmp_path: Path
) -> None:
    run = make_small_run(rc="average")
    out = train(run)
    assert run.task.train.strands == 1
    stock = AutoModelForSequenceClassification.from_pretrained(out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)

    def mean_logits(text: str) -> torch.Tensor:
        with torch.no_grad():
            return sum(
                stock(**tokenizer(one, return_tensors="pt")).logits.double()[0]
                for one in (text, reversed_letters(text))
            ) / torch.tensor(2.0)

    texts = sequences_of(labelled / "test.csv")
    expected = np.array([mean_logits(text).softmax(0).numpy() for text in texts])
    np.testing.assert_allclose(probabilities_in(out / "predictions.csv"), expected, atol=2e-6)
    model = cmgems_cli.load_model(out, device="cpu")
    np.testing.assert_allclose(cmgems_cli.predict(model, texts).probabilities, expected, atol=1e-5)
    # Windows that overlap share tokens.
    windows = cmgems_cli.predict(model, texts[:2], window=9, stride=2)
    parts = [
        texts[int(name)][a:b] for name, a, b in zip(windows.names, windows.starts, windows.ends, strict=True)
    ]
    expected = np.array([mean_logits(part).softmax(0).numpy() for part in parts])
    np.testing.assert_allclose(windows.probabilities, expected, atol=1e-5)
    dev = torch.stack([mean_logits(text) for text in sequences_of(labelled / "dev.csv")])
    loss = float(functional.cross_entropy(dev, torch.from_numpy(run.task.dev.labels)))  # type: ignore[union-attr]
    assert read_manifest(out).stats["best_dev_loss"] == pytest.approx(loss, abs=1e-6)
    assert "AutoModel" not in (out / "README.md").read_text()


def test_other_tokenizers_read_the_letters_of_the_other_strand(
    make_small_run: MakeRun, labelled: Path, tmp_path: Path
) -> None:
    out = train(make_small_run(model=make_bpe(tmp_path / "bpe"), rc="both", max_steps=2))
    texts = sequences_of(labelled / "test.csv")
    model = cmgems_cli.load_model(out, device="cpu")
    found = cmgems_cli.predict(model, texts).probabilities
    np.testing.assert_allclose(found, probabilities_in(out / "predictions.csv"), atol=1e-5)
    other = cmgems_cli.predict(model, [reversed_letters(text) for text in texts]).probabilities
    np.testing.assert_allclose(found, other, atol=1e-5)
    stock = AutoModelForSequenceClassification.from_pretrained(out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    with torch.no_grad():
        both = [
            stock(**tokenizer(one, return_tensors="pt")).logits[0]
            for one in (texts[0], reversed_letters(texts[0]))
        ]
    expected = torch.stack(both).mean(0).softmax(0).numpy()
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


# --- the rate of the embeddings


def test_the_embeddings_have_a_learning_rate_of_their_own(make_small_run: MakeRun, small_bert: Path) -> None:
    run = make_small_run(embedding_lr=4.0, weight_decay=0.1)
    made = run.make_step(2)
    run.engine.step(2, made.batches, made.n_targets)
    model = new_classifier(ModelSource(str(small_bert), "random"), 2, seed=7)
    rate = run.engine.recipe.learning_rate_at(2)
    named = dict(model.named_parameters())
    undecayed = {name for name in named if name.endswith("bias") or "LayerNorm" in name}
    embeddings = {name for name in named if name.endswith("embeddings.weight")}
    assert len(embeddings) == 3
    groups = [
        {"params": [named[name]], "lr": rate * factor, "weight_decay": 0.0 if name in undecayed else 0.1}
        for name in named
        for factor in [4.0 if name in embeddings else 1.0]
    ]
    optimizer = torch.optim.AdamW(groups)
    plain = SequenceClassifier(model, run.task.tokenization)
    losses = [plain(batch.input_ids, batch.attention_mask, batch.labels) for batch in made.batches]
    (sum(losses) / torch.tensor(float(made.n_targets))).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    for name, parameter in run.module.model.named_parameters():
        torch.testing.assert_close(parameter, named[name], atol=1e-6, rtol=1e-5, msg=name)


def test_a_factor_of_0_keeps_the_embeddings_and_1_changes_no_group(make_small_run: MakeRun) -> None:
    out = train(make_small_run("kept", embedding_lr=0.0))
    fresh = make_small_run("fresh").module.model
    kept = load_file(out / "model.safetensors")
    for name, parameter in fresh.named_parameters():
        assert torch.equal(kept[name], parameter) is name.endswith("embeddings.weight"), name
    groups = parameter_groups(fresh, 0.01, 1.0)
    assert [(group["weight_decay"], group["lr_factor"]) for group in groups] == [(0.01, 1.0), (0.0, 1.0)]


# --- class weights


def test_balanced_weights_are_those_of_scikit_learn_and_weight_the_sum(make_small_run: MakeRun) -> None:
    run = make_small_run(class_weights="balanced", learning_rate=0.0)
    labels = run.task.train.labels
    weights = run.module.class_weights
    assert weights is not None
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)
    assert weights.numpy()[labels].mean() == pytest.approx(1.0)
    made = run.maker.make(1)
    sums = run.engine.gradients(1, made.batches, made.n_targets)
    by_hand = 0.0
    for batch in made.batches:
        with torch.no_grad():
            logits = run.module.logits(batch.input_ids, batch.attention_mask).double()
        for one, label in zip(logits.log_softmax(1), batch.labels.tolist(), strict=True):
            by_hand -= expected[label] * float(one[label])
    assert float(sums[0]) == pytest.approx(by_hand, rel=1e-5)
    assert "class_weights" not in dict(run.module.named_parameters())


def test_a_class_without_rows_has_no_weight(make_small_run: MakeRun) -> None:
    task = make_small_run().task
    train = replace(task.train, labels=np.zeros_like(task.train.labels))
    assert replace(task, train=train).class_weights().tolist() == [1.0, 0.0]


def test_a_recipe_of_a_toml_file_names_the_ways(
    labelled: Path, small_bert: Path, tmp_path: Path, cmgems: Any
) -> None:
    (labelled.parent / "ours.toml").write_text(
        'name = "ours"\n[recipe]\nrc = "augment"\nembedding_lr = 5.0\n[[task]]\nname = "task"\n'
    )
    short = ["--max-steps", "1", "--device", "cpu", "--jobs", "1", "--class-weights", "balanced"]
    out = tmp_path / "scores"
    words = ["evaluate", small_bert, "--init", "random", "--bench", labelled.parent / "ours.toml", *short]
    cmgems(*words, "--no-kmer-linear", "--out", out)
    run = read_manifest(out / "runs" / "task-seed-42")
    assert [run.params[name] for name in ("rc", "embedding_lr", "class_weights")] == [
        "augment",
        5.0,
        "balanced",
    ]
    assert read_manifest(out).params["class_weights"] == "balanced"
    assert "max_steps 1, class_weights balanced" in (out / "report.md").read_text()
    assert len(read_metrics(out / "runs" / "task-seed-42" / "metrics.jsonl")) == 1
