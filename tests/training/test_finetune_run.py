"""Whole fine-tuning runs of a small model: what they write, choose and repeat, and how they resume."""

import csv
import json
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.datasets.loaded_task import EncodedSplit, LoadedTask
from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.errors import CmgemsError, OverwriteError, UsageError
from cmgems_cli.genome.vocabulary import CLS, PAD, SEP
from cmgems_cli.modeling.classifier import new_classifier
from cmgems_cli.modeling.classifier_files import load_classifier
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training import finetune_run as finetuning
from cmgems_cli.training.classifier_run import finetune
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.metrics_log import read_metrics
from cmgems_cli.training.parameter_groups import parameter_groups
from cmgems_cli.training.processes import Processes, start_processes
from cmgems_cli.training.run_files import write_predictions
from tests.command_line import CommandLine, torchrun
from tests.training.conftest import StopAfter
from tests.training.labelled_rows import DEV, TEST, TRAIN

MakeRun = Callable[..., FinetuningRun]

LABELS = ("no", "yes")
# 12 steps: two epochs of 43 rows.
RECIPE = Recipe(
    epochs=99,
    max_steps=12,
    warmup_steps="2",
    learning_rate=2e-3,
    weight_decay=0.01,
    global_batch=8,
    eval_every=3,
)


def accuracy(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Mapping[str, Any]:
    return {"accuracy": float((labels == probabilities.argmax(1)).mean())}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of an 8-wide, 2-layer BERT for 3-mers; its weights are drawn anew by each run."""
    folder = tmp_path_factory.mktemp("small")
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(
        json.dumps({"model_type": "bert", "vocab_size": 69, **shape, **plain, "max_position_embeddings": 20})
    )
    return folder


@pytest.fixture
def make_run(small: Path, tmp_path: Path) -> MakeRun:
    """Return a function that opens a short run; keywords change its recipe, dropout, dev split or score."""

    def make(
        out: str = "classifier",
        *,
        dropout: float | None = None,
        dev: EncodedSplit | None = DEV,
        processes: Processes | None = None,
        seed: int = 7,
        max_batch_tokens: int = 64,
        **changed: Any,
    ) -> FinetuningRun:
        source = ModelSource(str(small), "random")
        model = new_classifier(source, 2, dropout=dropout, seed=seed)
        recipe = replace(RECIPE, **changed)
        return FinetuningRun(
            model,
            LoadedTask(TRAIN, dev, TEST, LABELS, source.tokenization, recipe, ("made up",)),
            seed=seed,
            max_batch_tokens=max_batch_tokens,
            params={"dropout": dropout},
            inputs={"train": "0" * 64},
            out=tmp_path / out,
            processes=processes or start_processes("cpu"),
            precision="fp32",
        )

    return make


def train(run: FinetuningRun, **options: Any) -> Path:
    finetune(run, accuracy, **{"resume": True, "overwrite": False, **options})
    return run.out


def same_files(one: Path, two: Path) -> None:
    for name in ("model.safetensors", "metrics.jsonl", "predictions.csv", "config.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert read_manifest(one).digest == read_manifest(two).digest


# --- what a run leaves


def test_a_finished_run_is_a_classifier_artifact(make_run: MakeRun) -> None:
    out = train(make_run())
    manifest = read_manifest(out, "classifier", verify=True)
    assert {"config.json", "model.safetensors", "tokenizer.json", "metrics.jsonl", "predictions.csv"} <= set(
        manifest.files
    )
    stats = manifest.stats
    assert (stats["steps"], stats["n_train"], stats["n_dev"], stats["n_test"]) == (12, 43, 30, 30)
    assert stats["parameters"] == sum(p.numel() for p in load_classifier(out).model.parameters())
    assert stats["notes"] == ["made up"]
    assert not (out / "checkpoints").exists()
    records = read_metrics(out / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(1, 13))
    # 43 rows in steps of 8: six steps an epoch.
    assert [record["epoch"] for record in records] == [1] * 6 + [2] * 6
    assert [record["step"] for record in records if "dev_loss" in record] == [3, 6, 9, 12]


def test_predictions_are_those_of_the_model_on_disk_as_stock_transformers_has_it(make_run: MakeRun) -> None:
    out = train(make_run())
    stock = AutoModelForSequenceClassification.from_pretrained(out).eval()
    with (out / "predictions.csv").open() as stream:
        found = list(csv.DictReader(stream))
    assert [int(line["row"]) for line in found] == list(range(30))
    right = 0
    for row, line in enumerate(found):
        tokens = TEST.token_ids[TEST.offsets[row] : TEST.offsets[row + 1]].tolist()
        with torch.no_grad():
            shares = stock(torch.tensor([[CLS, *tokens, SEP]])).logits.double().softmax(1)[0]
        assert float(line["p_no"]) == pytest.approx(float(shares[0]), abs=2e-6)
        assert float(line["p_yes"]) == pytest.approx(float(shares[1]), abs=2e-6)
        assert line["label"] == LABELS[TEST.labels[row]]
        assert line["predicted"] == LABELS[int(shares.argmax())]
        right += line["label"] == line["predicted"]
    assert read_manifest(out).stats["accuracy"] == right / 30


def test_predictions_name_labels_that_need_quoting(tmp_path: Path) -> None:
    probabilities = np.array([[0.5, 0.5], [1e-13, 1 - 1e-13]])
    write_predictions(tmp_path / "p.csv", ["a,b", "c"], np.array([1, 1]), probabilities)
    assert (tmp_path / "p.csv").read_text() == (
        'row,label,predicted,"p_a,b",p_c\n0,c,"a,b",0.500000,0.500000\n1,c,c,0.000000,1.000000\n'
    )


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(make_run: MakeRun) -> None:
    first, again, other = (train(make_run(out, seed=seed)) for out, seed in (("a", 1), ("b", 1), ("c", 2)))
    same_files(first, again)
    assert (first / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes()


def test_a_small_model_learns_an_easy_task(make_run: MakeRun) -> None:
    out = train(make_run(max_steps=90, learning_rate=1e-2))
    losses = [record["loss"] for record in read_metrics(out / "metrics.jsonl")]
    assert np.mean(losses[:6]) > 0.6
    assert np.mean(losses[-6:]) < 0.2


# --- which model is kept


def test_the_best_model_by_dev_loss_is_tested_and_kept(make_run: MakeRun) -> None:
    # A rate this high overfits 43 rows: the best model is not the last.
    out = train(make_run(max_steps=60, learning_rate=2e-2))
    records = {record["step"]: record for record in read_metrics(out / "metrics.jsonl")}
    losses = {step: record["dev_loss"] for step, record in records.items() if "dev_loss" in record}
    best = min(losses, key=lambda step: (losses[step], step))
    stats = read_manifest(out).stats
    assert best < 60
    assert (stats["best_step"], stats["best_dev_loss"]) == (best, losses[best])
    model = load_classifier(out).model
    total = 0.0
    for row in range(len(DEV)):
        tokens = DEV.token_ids[DEV.offsets[row] : DEV.offsets[row + 1]].tolist()
        with torch.no_grad():
            logits = model(torch.tensor([[CLS, *tokens, SEP]])).logits.double()
        total += float(functional.cross_entropy(logits, torch.from_numpy(DEV.labels[row : row + 1])))
    assert total / len(DEV) == pytest.approx(losses[best], abs=1e-6)


def test_of_equally_good_models_the_earliest_is_kept(make_run: MakeRun) -> None:
    run = make_run(learning_rate=0.0)
    train(run)
    assert run.best is not None
    assert run.best[0] == 3


def test_the_last_model_is_kept_where_nothing_is_evaluated(make_run: MakeRun) -> None:
    run = make_run(dev=None, eval_every=None)
    out = train(run)
    stats = read_manifest(out).stats
    assert (stats["best_step"], stats["best_dev_loss"], stats["n_dev"]) == (None, None, 0)
    assert not any("dev_loss" in record for record in read_metrics(out / "metrics.jsonl"))
    kept = load_file(out / "model.safetensors")
    for name, parameter in run.module.model.named_parameters():
        assert torch.equal(kept[name], parameter), name


def test_a_run_shorter_than_its_interval_is_evaluated_at_its_end(make_run: MakeRun) -> None:
    out = train(make_run(max_steps=2, eval_every=200))
    assert read_manifest(out).stats["best_step"] == 2


# --- what a step is


def test_a_step_lays_out_its_rows_whole(make_run: MakeRun) -> None:
    maker = make_run().maker
    made = maker.make(6)  # the last of the epoch: 3 rows
    assert (made.n_targets, made.epoch) == (3, 1)
    laid_out = {}
    for batch in made.batches:
        for row, ids, label in zip(batch.rows.tolist(), batch.input_ids.tolist(), batch.labels, strict=True):
            laid_out[row] = [token for token in ids if token != PAD]
            assert int(label) == TRAIN.labels[row]
    for row in maker.rows_of(6).tolist():
        tokens = TRAIN.token_ids[TRAIN.offsets[row] : TRAIN.offsets[row + 1]].tolist()
        assert laid_out.pop(row) == [CLS, *tokens, SEP]
    assert not laid_out
    assert made.n_tokens == sum(int(TRAIN.lengths()[row]) for row in maker.rows_of(6))


def test_a_step_equals_plain_torch_on_one_padded_batch(make_run: MakeRun, small: Path) -> None:
    run = make_run()
    made = run.make_step(6)
    run.engine.step(6, made.batches, made.n_targets)
    model = new_classifier(ModelSource(str(small), "random"), 2, seed=7)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, 0.01), lr=run.engine.recipe.learning_rate_at(6), betas=(0.9, 0.999), eps=1e-8
    )
    chosen = run.maker.rows_of(6)
    width = int(TRAIN.lengths()[chosen].max())
    ids = torch.full((len(chosen), width), PAD)
    for place, row in enumerate(chosen.tolist()):
        tokens = TRAIN.token_ids[TRAIN.offsets[row] : TRAIN.offsets[row + 1]].tolist()
        ids[place, : len(tokens) + 2] = torch.tensor([CLS, *tokens, SEP])
    model(ids, (ids != PAD).long(), labels=torch.from_numpy(TRAIN.labels[chosen])).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    for (name, ours), stock in zip(run.module.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-4, msg=name)


# --- stopping and going on


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("stop", [2, 7, 9, 12])
def test_an_interrupted_run_resumes_to_the_same_bytes(make_run: MakeRun, stop: int, dropout: float) -> None:
    # At this rate the best of the first steps stays the best: its weights have to survive the stop.
    options = {"dropout": dropout, "learning_rate": 2e-2}
    whole = train(make_run("whole", **options))
    number = signal.SIGTERM if stop == 9 else signal.SIGINT
    with pytest.raises(CmgemsError, match=f"stopped after step {stop}") as stopped:
        train(make_run("parts", **options), observer=StopAfter(stop, number))
    assert stopped.value.exit_code == 128 + number
    same_files(train(make_run("parts", **options)), whole)


def test_regular_checkpoints_change_nothing(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(make_run("plain"))
    monkeypatch.setattr(finetuning, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    saved: list[int] = []
    run = make_run("saving")
    monkeypatch.setattr(
        run, "save", lambda step, metrics, save=run.save: (saved.append(step), save(step, metrics))
    )
    same_files(train(run), plain)
    assert saved == [3, 6, 9]


def test_a_run_with_other_options_is_not_resumed(make_run: MakeRun) -> None:
    with pytest.raises(CmgemsError):
        train(make_run(), observer=StopAfter(5))
    with pytest.raises(OverwriteError, match=r"was made with learning_rate = 0\.002, this command has 0\.1"):
        train(make_run(learning_rate=0.1))
    observer = StopAfter()
    out = train(make_run(), observer=observer)
    assert observer.resumed_after == [5]
    same_files(out, train(make_run("whole")))


def test_finished_classifiers_and_models_are_not_overwritten(make_run: MakeRun) -> None:
    out = train(make_run())
    before = (out / "model.safetensors").read_bytes()
    assert train(make_run()) == out
    with pytest.raises(
        OverwriteError, match="was made with seed = 7, this command has 1; add `overwrite=True`"
    ):
        train(make_run(seed=1))
    train(make_run(seed=1), overwrite=True)
    assert (out / "model.safetensors").read_bytes() != before
    manifest = out / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"kind": "classifier"', '"kind": "model"'))
    with pytest.raises(OverwriteError, match="holds a model artifact, not a classifier"):
        train(make_run(), overwrite=True)


def test_a_run_that_diverges_says_so(make_run: MakeRun) -> None:
    with pytest.raises(
        CmgemsError, match=r"(the loss became|the model diverged).*lower (`learning_rate`|`lr`)"
    ):
        train(make_run(learning_rate=1e30, max_steps=40))


def test_a_batch_bound_below_the_longest_row_is_refused_at_once(make_run: MakeRun) -> None:
    with pytest.raises(UsageError, match="`max_batch_tokens=10` is below the longest sequence"):
        make_run(max_batch_tokens=10)


# --- processes


def write_table(path: Path, count: int, seed: int) -> None:
    draw = random.Random(seed)
    lines = []
    for row in range(count):
        label = row % 2
        bases = "".join(draw.choice("ACGT") for _ in range(draw.randint(10, 24)))
        lines.append(f"{'TATAAA' * label}{bases},{label}")
    path.write_text("sequence,label\n" + "\n".join(lines) + "\n")


@pytest.mark.subprocess
@pytest.mark.parametrize("dropout", [pytest.param(0.0, marks=pytest.mark.soak), 0.1])
def test_two_torchrun_processes_equal_one(
    cmgems: CommandLine, tmp_path: Path, small: Path, dropout: float
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for seed, (split, count) in enumerate((("train", 41), ("dev", 12), ("test", 15))):
        write_table(data / f"{split}.csv", count, seed)
    model = tmp_path / "model"
    model.mkdir()
    shape = json.loads((small / "config.json").read_text())
    shape |= {"max_position_embeddings": 40, "hidden_dropout_prob": dropout}
    (model / "config.json").write_text(json.dumps(shape))
    # 41 rows in steps of 8: the sixth step has one row, which two processes cannot share. 80 padded tokens
    # make several micro-batches a step.
    options = "--init random --epochs 2 --lr 1e-3 --global-batch 8 --eval-every 4 --warmup-steps 2"
    fixed = f"--max-batch-tokens 80 --precision fp32 --max-tokens 38 --device cpu {options}".split()
    finetune = cmgems.of("finetune", model, data, *fixed, "--json")
    for done in (
        finetune("--out", tmp_path / "one"),
        finetune.process("--out", tmp_path / "two", launcher=torchrun(2)),
    ):
        assert done.json["stats"]["steps"] == 12
    one, two = (load_file(tmp_path / out / "model.safetensors") for out in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5, rtol=0), name
    curves = [read_metrics(tmp_path / out / "metrics.jsonl") for out in ("one", "two")]
    for first, second in zip(*curves, strict=True):
        assert first.keys() == second.keys()
        for name in first:
            assert first[name] == pytest.approx(second[name], abs=1e-5)


# --- numbers that go wrong


def change_loss_of_step(
    run: FinetuningRun, step: int, effect: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    forward, make = run.engine._forward, run.make_step

    def make_step(number: int) -> Any:
        data = make(number)
        if number != step:
            return data
        return replace(data, batches=[replace(batch, index=batch.index + 1_000) for batch in data.batches])

    run.make_step = make_step  # type: ignore[method-assign]
    run.engine._forward = lambda module, batch: (
        effect(forward(module, batch)) if batch.index >= 1_000 else forward(module, batch)
    )


def test_a_loss_that_is_not_finite_names_tensor_step_rows_and_the_last_good_checkpoint(
    make_run: MakeRun,
) -> None:
    run = make_run()
    change_loss_of_step(run, 5, lambda loss: loss * torch.nan)
    with pytest.raises(CmgemsError) as caught:
        train(run)
    rows = ", ".join(map(str, run.maker.make(5).batches[0].rows.tolist()[:8]))
    assert f"at step 5 (gradient norm nan; computed twice, equal); the first not finite: the loss in micro-batch 1000, training sequences {rows}" in str(caught.value)  # fmt: skip  # noqa: E501
    assert "checkpoints/step_000004; lower `learning_rate`" in str(caught.value)


def test_a_step_that_does_not_repeat_is_a_hardware_fault_and_the_run_resumes_to_the_same_bytes(
    make_run: MakeRun,
) -> None:
    run = make_run()
    calls: list[int] = []

    def fail_once(loss: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return loss * torch.nan if len(calls) == 1 else loss

    change_loss_of_step(run, 5, fail_once)
    with pytest.raises(CmgemsError, match=r"step 5 computed twice gave different results .* hardware fault"):
        train(run)
    observer = StopAfter()
    resumed = train(make_run(), observer=observer)
    assert observer.resumed_after == [4]
    same_files(resumed, train(make_run("whole")))
