"""Regression and several labels per row: losses against plain formulas, and whole runs of a small model."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, multilabel_confusion_matrix, precision_recall_fscore_support
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.bench.linear_probe import Candidate, Features, Labels, choose
from cmgems_cli.datasets.loaded_task import EncodedSplit, LoadedTask
from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.metrics import predicted_of, score
from cmgems_cli.modeling.classifier import new_classifier
from cmgems_cli.modeling.classifier_files import load_classifier
from cmgems_cli.modeling.head_outputs import Outputs, no_labels, outputs_for, outputs_of
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.classifier_run import finetune
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.metrics_log import read_metrics
from cmgems_cli.training.per_class import read_per_class, shown_per_class
from cmgems_cli.training.processes import start_processes
from cmgems_cli.training.run_files import read_predictions, write_predictions, write_test_files

NAMES = {"regression": ("value",), "multilabel": ("seven", "eight", "=nine")}


def rows(count: int, seed: int, problem: str) -> EncodedSplit:
    """Sequences of 12 of five 3-mers: the label is how many are token 7, or which of tokens 7, 8 and 9 are frequent."""
    tokens = np.random.default_rng(seed).integers(6, 11, (count, 12)).astype(np.int32)
    offsets = 12 * np.arange(count + 1, dtype=np.int64)
    if problem == "regression":
        labels: NDArray[Any] = 100 + 0.25 * (tokens == 7).sum(1)
    else:
        labels = np.stack([(tokens == one).sum(1) > 2 for one in (7, 8, 9)], 1).astype(np.int64)
    return EncodedSplit(tokens.ravel(), offsets, labels)


def task_of(problem: str, tokenization: Any, recipe: Recipe) -> LoadedTask:
    splits = [rows(count, seed, problem) for seed, count in enumerate((160, 60, 60))]
    return LoadedTask(*splits, NAMES[problem], tokenization, recipe)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tmp_path_factory.mktemp("small")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(
        json.dumps({"model_type": "bert", "vocab_size": 69, **shape, **plain, "max_position_embeddings": 20})
    )
    return ModelSource(str(folder), "random")


@pytest.mark.parametrize("problem", ["regression", "multilabel"])
def test_a_run_learns_and_its_folder_predicts_the_same_everywhere(
    source: ModelSource, tmp_path: Path, problem: str
) -> None:
    recipe = Recipe(
        epochs=99, max_steps=120, warmup_steps="5", learning_rate=1e-2, global_batch=16, eval_every=20
    )
    task = task_of(problem, source.tokenization, recipe)
    run = FinetuningRun(
        new_classifier(source, len(task.label_names), seed=3),
        task,
        seed=3,
        max_batch_tokens=512,
        params={},
        inputs={},
        out=tmp_path / problem,
        processes=start_processes("cpu"),
        precision="fp32",
    )
    folder = run.out
    stats = finetune(run, score, resume=True, overwrite=False).stats
    assert stats["problem"] == problem
    assert stats["r2"] > 0.5 if problem == "regression" else stats["auroc"] > 0.8

    loaded = load_classifier(folder)
    outputs = loaded.outputs
    assert (loaded.label_names, outputs.problem) == (NAMES[problem], problem)
    stock = AutoModelForSequenceClassification.from_pretrained(folder)
    types = {"regression": "regression", "multilabel": "multi_label_classification"}
    assert stock.config.problem_type == types[problem]
    dev, test = task.dev, task.test
    assert dev is not None
    ids = [
        np.pad(split.token_ids.reshape(len(split), 12), ((0, 0), (1, 1)), constant_values=(2, 3))
        for split in (dev, test)
    ]
    with torch.no_grad():
        logits = [stock(torch.from_numpy(one).long()).logits for one in ids]
    # Stock classes compute the loss of dev that the best step had, of standardised values.
    if problem == "regression":
        assert (outputs.mean, outputs.scale) == (task.train.labels.mean(), task.train.labels.std())
        wanted = (dev.labels - outputs.mean) / outputs.scale
        loss = functional.mse_loss(logits[0][:, 0].double(), torch.from_numpy(wanted))
    else:
        loss = functional.binary_cross_entropy_with_logits(logits[0], torch.from_numpy(dev.labels).float())
    assert stats["best_dev_loss"] == pytest.approx(float(loss), rel=1e-4)
    last = read_metrics(folder / "metrics.jsonl")[-1]
    assert ("dev_r2" in last, "dev_accuracy" in last) == (problem == "regression", problem == "multilabel")

    with (folder / "predictions.csv").open() as stream:
        header, *written = list(csv.reader(stream))
    if problem == "regression":
        assert header == ["row", "label", "predicted"]
        values = logits[1][:, 0].double().numpy() * outputs.scale + outputs.mean
        assert [float(row[1]) for row in written] == test.labels.tolist()
        np.testing.assert_allclose([float(row[2]) for row in written], values, rtol=1e-5)
    else:
        assert header == ["row", "label", "predicted", "p_seven", "p_eight", "p_=nine"]
        probabilities = logits[1].sigmoid().numpy()
        np.testing.assert_allclose(
            [[float(one) for one in row[3:]] for row in written], probabilities, atol=2e-6
        )
        sets = [
            ";".join(name for name, one in zip(NAMES[problem], row, strict=True) if one) or "[]"
            for row in test.labels
        ]
        assert [row[1].lstrip("'") for row in written] == sets
    assert read_manifest(folder).stats == stats
    tested = read_predictions(folder / "predictions.csv")
    assert (tested.target.problem, tested.target.names) == (problem, NAMES[problem])
    assert (tested.labels == test.labels).all()
    again = score(tested.labels, tested.probabilities)
    assert [again[name] for name in again] == pytest.approx([stats[name] for name in again], abs=1e-4)
    card = (folder / "README.md").read_text()
    assert ("DNA regression model" in card) == (problem == "regression")


def test_predictions_of_classes_are_read_as_they_were_written(tmp_path: Path) -> None:
    path, generator = tmp_path / "predictions.csv", np.random.default_rng(1)
    for names in (("0", "1"), ("a", "=b", "c;d")):
        labels = generator.integers(0, len(names), 20)
        probabilities = generator.dirichlet(np.ones(len(names)), 20)
        write_predictions(path, names, labels, probabilities)
        tested = read_predictions(path)
        assert (tested.target.problem, tested.target.names) == (
            "binary" if len(names) == 2 else "multiclass",
            names,
        )
        assert (tested.labels == labels).all()
        np.testing.assert_allclose(tested.probabilities, probabilities, atol=1e-6)
    for text in ("", "row,label\n0,1\n", "row,label,predicted\n", "row,label,predicted,p_0\n0,0,0,x\n"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"needed the predictions\.csv of a finished run"):
            read_predictions(path)
    with pytest.raises(InputError, match="cannot read"):
        read_predictions(tmp_path / "none.csv")


def test_what_is_right_of_each_class_is_that_of_scikit_learn(tmp_path: Path) -> None:
    generator, names = np.random.default_rng(2), ("a", "=b", "never", "c")
    labels = generator.choice([0, 1, 3], 60)
    probabilities = generator.dirichlet(np.ones(4), 60)
    probabilities[:, 2] = 0
    several = generator.integers(0, 2, (60, 4))
    for numbers, header in ((labels, "predicted_a"), (several, "true_positives")):
        predicted = predicted_of(numbers, probabilities)
        assert write_test_files(tmp_path, names, numbers, probabilities) == [
            "predictions.csv",
            "per_class.csv",
        ]
        rows = read_per_class(tmp_path / "per_class.csv")
        assert [row["class"] for row in rows] == list(names)
        assert list(rows[0])[5] == header
        expected = precision_recall_fscore_support(
            numbers, predicted, labels=None if numbers.ndim == 2 else range(4), zero_division=np.nan
        )
        for name, values in zip(("precision", "recall", "f1", "rows"), expected, strict=True):
            found = [float(row[name] or "nan") for row in rows]
            np.testing.assert_allclose(found, values, atol=1e-6)
        matrix = np.array([list(row.values())[5:] for row in rows], dtype=int)
        if numbers.ndim == 1:
            assert (matrix == confusion_matrix(numbers, predicted, labels=range(4))).all()
        else:
            of_labels = multilabel_confusion_matrix(numbers, predicted)
            assert (matrix == of_labels[:, [1, 0, 1, 0], [1, 1, 0, 0]]).all()
    columns, cells = shown_per_class(rows)
    assert columns[:6] == ["class", "rows", "precision", "recall", "f1", "true positives"]
    assert len(cells) == 4
    assert write_test_files(tmp_path, ("value",), np.array([0.5]), np.array([[0.25]])) == ["predictions.csv"]
    for damaged in ("a,4,0.5000x0,0.5,0.5", "a,4_0,0.5,0.5,0.5", "a,4,0.5,nan,0.5"):
        (tmp_path / "per_class.csv").write_text(f"class,rows,precision,recall,f1\n{damaged}\n")
        with pytest.raises(InputError, match="which is not a number; needed"):
            read_per_class(tmp_path / "per_class.csv")
    (tmp_path / "per_class.csv").write_text("class,rows\n")
    with pytest.raises(InputError, match="is not a table of classes"):
        read_per_class(tmp_path / "per_class.csv")


def test_losses_are_the_plain_formulas_and_no_label_counts_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn((5, 3), generator=generator, dtype=torch.float64, requires_grad=True)
    several = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 0, 0]])
    p = logits.sigmoid()
    plain = -(several * p.log() + (1 - several) * (1 - p).log()).mean(1).sum()
    assert float(Outputs("multilabel").loss(logits.detach(), several)) == pytest.approx(float(plain.detach()))
    values = np.array([3.0, 5.0, 4.0, 4.0, 9.0])
    outputs = outputs_for("regression", values)
    targets = torch.from_numpy(outputs.standardised(values))
    assert (float(targets.mean()), float(targets.var(correction=0))) == pytest.approx((0, 1), abs=1e-6)
    plain = (
        ((outputs.predictions(logits[:, :1])[:, 0] - torch.from_numpy(values)) / values.std()).square().sum()
    )
    assert float(outputs.loss(logits[:, :1].detach(), targets)) == pytest.approx(float(plain.detach()))
    for one, labels in ((Outputs("multilabel"), several), (outputs, targets), (Outputs(), several[:, 0])):
        logits.grad = None
        loss = one.loss(logits, no_labels(labels))
        loss.backward()  # type: ignore[no-untyped-call]
        assert float(loss) == 0
        assert logits.grad is not None
        assert not logits.grad.any()


def test_outputs_are_read_from_config_json_and_refused_where_they_contradict(tmp_path: Path) -> None:
    for outputs in (Outputs("regression", 1.5, 0.25), Outputs("multilabel"), Outputs("binary")):
        n_labels = {"regression": 1, "multilabel": 3, "binary": 2}[outputs.problem]
        assert outputs_of(outputs.settings(), n_labels) == outputs
    # As in published folders.
    assert outputs_of({}, 1) == Outputs("regression")
    assert outputs_of({"problem_type": None}, 3) == Outputs("multiclass")
    for settings, n_labels in (
        ({"problem_type": "regression"}, 2),
        ({"problem_type": "single_label_classification"}, 1),
        ({"problem_type": "other"}, 2),
        ({"problem_type": "regression", "cmgems_target_scale": "1"}, 1),
    ):
        with pytest.raises(ValueError, match=r"problem_type|a regression of"):
            outputs_of(settings, n_labels)


def test_class_weights_need_classes(source: ModelSource) -> None:
    with pytest.raises(UsageError, match="needs one class per row, and this is regression"):
        task_of("regression", source.tokenization, Recipe()).class_weights()


@pytest.mark.parametrize("problem", ["regression", "multilabel"])
def test_linear_models_fit_values_and_several_labels(problem: str) -> None:
    splits = [rows(count, seed, problem) for seed, count in enumerate((160, 60, 60))]
    counts = [
        np.stack([(one.token_ids.reshape(-1, 12) == token).sum(1) for token in range(6, 11)], 1)
        for one in splits
    ]
    constant = [np.ones((len(one), 1)) for one in splits]

    def candidate(name: str, features: list[NDArray[Any]]) -> Candidate:
        def made(chosen: NDArray[np.int64] | None) -> Features:
            train = features[0] if chosen is None else features[0][chosen]
            return Features(train, *features[1:])

        return Candidate({"features": name}, made)

    labels = Labels(splits[0].labels, splits[1].labels, len(NAMES[problem]))
    several = [
        candidate("constant", constant),
        candidate("half", [one[:, :2] for one in counts]),
        candidate("counts", counts),
    ]
    probe = choose(several, labels, first_rows=80, threads=1)
    assert probe.params["features"] == "counts"
    assert probe.probabilities.shape == (60, len(NAMES[problem]))
    scores = score(splits[2].labels, probe.probabilities)
    assert scores["r2"] > 0.99 if problem == "regression" else scores["auroc"] > 0.97
    assert probe.dev_loss is not None
    assert probe.dev_loss < 0.3
