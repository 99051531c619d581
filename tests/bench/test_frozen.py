"""Frozen models: embeddings that are computed once, logistic regression on them, and what is written."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.bench.frozen import Scaling
from cmgems_cli.inference.embedding_cache import EMBEDDINGS
from tests.bench.conftest import write_table
from tests.command_line import CommandLine
from tests.modeling.foreign_models import make_bpe, make_nucleotide_transformer

FREEZE = ("--freeze", "--device", "cpu", "--precision", "fp32")


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task of 40, 12 and 16 rows."""
    folder = tmp_path / "bench" / "task"
    for split, count in (("train", 40), ("dev", 12), ("test", 16)):
        write_table(folder / f"{split}.csv", count, count)
    return folder


def probabilities(path: Path, separator: str) -> list[float]:
    return [float(row["p_1"]) for row in csv.DictReader(path.open(), delimiter=separator)]


def artifacts_of(workspace: Path) -> list[Path]:
    return sorted(path for path in (workspace / "embeddings").iterdir() if path.is_dir())


def check_code_of_card(out: Path, task: Path, tested: list[float]) -> None:
    """Run the lines of a card on the rows of test: they give the predictions of the run."""
    found = re.search(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)
    assert found
    code = found[1].replace("FOLDER", str(out))
    for row, probability in zip(csv.DictReader((task / "test.csv").open()), tested, strict=True):
        names: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            exec(code.replace("ACGTACGTACGT", row["sequence"]), names)
        assert float(names["logits"].softmax(0)[1]) == pytest.approx(probability, abs=1e-5)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_folded_head_gives_the_logits_of_the_fitted_model(n_classes: int) -> None:
    draw = np.random.default_rng(n_classes)
    states = draw.normal(5, draw.uniform(0.1, 9, 7), (90, 7)).astype(np.float32)
    states[:, 3] = 2.5  # never varies
    states[11] = np.nan  # a row without a known token
    labels = draw.integers(0, n_classes, 90)
    scaling = Scaling(states)
    features = scaling.of(states)
    known = np.delete(features, 11, axis=0)
    assert np.abs(known.mean(0)).max() < 1e-6
    np.testing.assert_allclose(np.delete(known.var(0), 3), 1, rtol=1e-5)
    np.testing.assert_allclose(features[11], 0, atol=1e-6)
    model = LogisticRegression(C=0.3).fit(features, labels)
    with torch.no_grad():
        logits = scaling.folded(model, n_classes)(torch.from_numpy(scaling.known(states))).double()
    np.testing.assert_allclose(logits.softmax(1).numpy(), model.predict_proba(features), atol=1e-5)


@pytest.mark.parametrize("kind", ["kmers", "esm", "dnabert2"])
def test_a_frozen_classifier_is_the_logistic_regression_on_mean_states(
    cmgems: CommandLine, workspace: Path, tmp_path: Path, task: Path, kind: str
) -> None:
    model: Path | str = "tiny"
    if kind != "kmers":
        folder = tmp_path / kind
        model = make_nucleotide_transformer(folder) if kind == "esm" else make_bpe(folder, kind)
    out = tmp_path / "classifier"
    said = cmgems("finetune", model, task, *FREEZE, "--out", out).stderr
    assert "mean over the last layer" in said
    assert "AutoModelForSequenceClassification" not in said + (out / "README.md").read_text()
    manifest = read_manifest(out, "classifier", verify=True)
    assert manifest.params["freeze"] is True
    assert manifest.params["pool"] == "mean"
    assert manifest.environment["data"] == "task"
    # What the cache holds is what `embed` gives, of the written folder as of the model.
    cmgems("embed", out, task / "train.csv", "--out", tmp_path / "e.npy", "--device", "cpu")
    cached = [np.load(folder / EMBEDDINGS) for folder in artifacts_of(workspace)]
    train = np.load(tmp_path / "e.npy")
    assert sorted(len(states) for states in cached) == [12, 16, 40]
    kept = next(states for states in cached if len(states) == 40)
    np.testing.assert_allclose(kept, train, atol=1e-6)
    # A slow reference: scikit-learn on these vectors with the C that was chosen.
    cmgems("embed", out, task / "test.csv", "--out", tmp_path / "t.npy", "--device", "cpu")
    scaled = (train - train.mean(0)) / train.std(0)
    reference = LogisticRegression(C=manifest.stats["C"], max_iter=1000).fit(scaled, np.arange(40) % 2)
    expected = reference.predict_proba((np.load(tmp_path / "t.npy") - train.mean(0)) / train.std(0))[:, 1]
    tested = probabilities(out / "predictions.csv", ",")
    np.testing.assert_allclose(tested, expected, atol=1e-3)
    # `predict` gives what was tested.
    cmgems("predict", out, task / "test.csv", "--out", tmp_path / "p.tsv", "--device", "cpu")
    np.testing.assert_allclose(probabilities(tmp_path / "p.tsv", "\t"), tested, atol=2e-6)
    card = (out / "README.md").read_text()
    if kind == "dnabert2":
        assert "AutoModel" not in card
        return
    assert f"states[1:{-1 if kind == 'kmers' else ''}].mean(0)" in card
    assert ("upper case" in card) == (kind == "esm")
    check_code_of_card(out, task, tested)


def test_embeddings_are_shared_by_seeds_and_evaluations_and_made_again_if_damaged(
    cmgems: CommandLine, workspace: Path, tmp_path: Path, task: Path
) -> None:
    model = tmp_path / "model"
    make_bpe(model)
    words = ("evaluate", model, "--bench", task.parent, *FREEZE, "--no-kmer-linear")
    first = cmgems(*words, "--seeds", "1,2", "--out", tmp_path / "a")
    made = artifacts_of(workspace)
    assert len(made) == 3
    times = [(folder / EMBEDDINGS).stat().st_mtime_ns for folder in made]
    report = (tmp_path / "a" / "report.md").read_text()
    assert "freeze True" in report
    assert "logistic regression on embeddings (mean over the last layer)" in report
    assert "model-frozen" in (tmp_path / "a" / "scores.csv").read_text()
    # Few shots of the same rows need nothing new, and find all in another evaluation.
    cmgems(*words, "--seeds", "3", "--out", tmp_path / "b")
    assert [(folder / EMBEDDINGS).stat().st_mtime_ns for folder in artifacts_of(workspace)] == times
    # Another pooling is another artifact.
    cmgems(*words, "--pool", "max", "--out", tmp_path / "c")
    assert len(artifacts_of(workspace)) == 6
    # A damaged one is made again, with the same scores.
    content = bytearray((made[0] / EMBEDDINGS).read_bytes())
    content[-1] ^= 1
    (made[0] / EMBEDDINGS).write_bytes(content)
    (made[1] / "manifest.json").unlink()
    (made[1] / EMBEDDINGS).unlink()
    cmgems(*words, "--seeds", "1,2", "--out", tmp_path / "d")
    assert (tmp_path / "d" / "scores.csv").read_bytes() == (tmp_path / "a" / "scores.csv").read_bytes()
    read_manifest(made[0], "embeddings", verify=True)
    assert first.code == 0


def test_random_weights_and_drawn_rows(
    cmgems: CommandLine, workspace: Path, tmp_path: Path, task: Path
) -> None:
    words = ("evaluate", "tiny", "--bench", task.parent, *FREEZE, "--no-kmer-linear", "--shots", "5,7")
    cmgems(*words, "--seeds", "1,2", "--out", tmp_path / "a")
    # Train and test of two seeds: random weights differ by seed, and both shots draw from the same rows.
    assert sorted(len(np.load(folder / EMBEDDINGS)) for folder in artifacts_of(workspace)) == [16, 16, 40, 40]
    run = read_manifest(tmp_path / "a" / "runs" / "task-5-seed-1", "scores", verify=True)
    assert run.stats["n_train"] == 10
    assert run.stats["C"] == 1.0
    assert run.stats["dev_loss"] is None


def test_both_strands_give_the_same_answer(
    cmgems: CommandLine, workspace: Path, tmp_path: Path, task: Path
) -> None:
    out = tmp_path / "c"
    cmgems("finetune", "tiny", task, *FREEZE, "--rc", "both", "--out", out)
    tested = probabilities(out / "predictions.csv", ",")
    check_code_of_card(out, task, tested)
    complement = str.maketrans("ACGT", "TGCA")
    lines = (task / "test.csv").read_text().splitlines()
    turned = [f"{line[:30].translate(complement)[::-1]}{line[30:]}" for line in lines[1:]]
    (tmp_path / "turned.csv").write_text("\n".join([lines[0], *turned]) + "\n")
    cmgems("predict", out, tmp_path / "turned.csv", "--out", tmp_path / "p.tsv", "--device", "cpu")
    np.testing.assert_allclose(probabilities(tmp_path / "p.tsv", "\t"), tested, atol=2e-6)
    states = [np.load(folder / EMBEDDINGS) for folder in artifacts_of(workspace)]
    assert sorted(map(len, states)) == [24, 32, 80]
    train = max(states, key=len)
    assert not np.allclose(train[:40], train[40:])


def test_the_best_of_several_poolings_on_dev_is_tested(
    cmgems: CommandLine, workspace: Path, tmp_path: Path, task: Path
) -> None:
    finetune = cmgems.of("finetune", "tiny", task, *FREEZE)
    several = ("--pool", "cls,mean,max", "--out", tmp_path / "several")
    assert finetune(*several, "--dry-run", "--json").json["plan"]["pool"] == ["cls", "mean", "max"]
    finetune(*several)
    made = read_manifest(tmp_path / "several", "classifier", verify=True)
    trials = made.stats["trials"]
    assert [trial["pool"] for trial in trials] == ["cls", "mean", "max"]
    assert len({trial["dev_loss"] for trial in trials}) == 3
    best = min(trials, key=lambda trial: trial["dev_loss"])
    assert made.stats["chosen"] == {"pool": best["pool"]}
    assert (made.params["pool"], made.stats["C"]) == (best["pool"], best["C"])
    assert made.params["choices"] == {"pool": ["cls", "mean", "max"]}
    finetune("--pool", best["pool"], "--out", tmp_path / "alone")
    tested = tmp_path / "several" / "predictions.csv"
    assert tested.read_bytes() == (tmp_path / "alone" / "predictions.csv").read_bytes()
    # The folder pools as chosen, and is known again.
    cmgems("predict", tested.parent, task / "test.csv", "--out", tmp_path / "p.tsv", "--device", "cpu")
    found = probabilities(tmp_path / "p.tsv", "\t")
    np.testing.assert_allclose(found, probabilities(tested, ","), atol=2e-6)
    assert "nothing to do" in finetune(*several).stderr
    words = ("evaluate", "tiny", "--bench", task.parent, *FREEZE, "--no-kmer-linear", *several[:2])
    cmgems(*words, "--out", tmp_path / "scores")
    report = (tmp_path / "scores" / "report.md").read_text()
    assert report.count(" yes |") == 1
    assert "nothing to do" in cmgems(*words, "--out", tmp_path / "scores").stderr
    said = finetune("--rc", "none,augment", code=2).error
    assert "--freeze chooses the penalty and --pool on dev, and no other option: give one --rc" in said


@pytest.mark.parametrize("option", ["--lr", "--epochs", "--dropout", "--eval-every"])
def test_options_of_training_are_refused(cmgems: CommandLine, task: Path, option: str) -> None:
    value = "0.1" if option in ("--lr", "--dropout") else "2"
    said = cmgems("finetune", "tiny", task, *FREEZE, option, value, code=2).error
    assert "--freeze trains no weights; leave out --" in said
    assert option in said


def test_a_recipe_of_a_benchmark_may_freeze(
    cmgems: CommandLine, workspace: Path, tmp_path: Path, task: Path
) -> None:
    toml = task.parent / "mine.toml"
    toml.write_text(
        'name = "mine"\nrecipe = { freeze = true, pool = "max" }\n\n[[task]]\nname = "task"\n',
        encoding="utf-8",
    )
    cmgems(
        "evaluate", "tiny", "--bench", toml, "--no-kmer-linear", "--device", "cpu", "--out", tmp_path / "a"
    )
    run = read_manifest(tmp_path / "a" / "runs" / "task-seed-42", "scores")
    assert run.params["freeze"] is True
    assert run.params["pool"] == "max"
    assert "Not the" not in (tmp_path / "a" / "report.md").read_text()
