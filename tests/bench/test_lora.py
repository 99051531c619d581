"""Adapters (LoRA): what is trained, what is merged, what is saved, and what is refused."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.bench.build import Finetuner
from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.datasets.task_files import find_task
from cmgems_cli.errors import CmgemsError, Interrupted, UsageError
from cmgems_cli.metrics import score
from cmgems_cli.modeling.classifier import SequenceClassifier, new_classifier
from cmgems_cli.modeling.lora import ALPHA_PER_RANK, add_lora, merge_lora
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.classifier_run import finetune
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.processes import Processes
from tests.bench.conftest import write_table
from tests.modeling.foreign_models import make_bpe, make_nucleotide_transformer
from tests.training.conftest import StopAfter

pytest.importorskip("peft", reason="peft is not installed: pip install 'cmgems[lora]'")

MakeRun = Callable[..., FinetuningRun]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lora") / "task"
    for split, count in (("train", 24), ("dev", 8), ("test", 8)):
        write_table(folder / f"{split}.csv", count, count)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of an 8-wide BERT for 3-mers."""
    folder = tmp_path_factory.mktemp("small")
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertConfig(vocab_size=69, max_position_embeddings=40, **shape).save_pretrained(folder)
    return folder


@pytest.fixture
def make_run(data: Path, small: Path, tmp_path: Path) -> MakeRun:
    """Return a function that opens a run of six steps with adapters of rank 3."""

    def make(out: str = "out", *, model: Path | None = None, **changed: Any) -> FinetuningRun:
        options = {
            "max_steps": 6,
            "eval_every": 2,
            "warmup_steps": "1",
            "global_batch": 6,
            "learning_rate": 0.05,
        }
        chosen = FinetuneOptions(precision="fp32", lora=3, **{**options, **changed})
        source = ModelSource(str(model or small), "random")
        finetuner = Finetuner(source, chosen, Processes(0, 1, torch.device("cpu")))
        return finetuner.build_finetuning_run(find_task(data), tmp_path / out, 7)  # type: ignore[return-value]

    return make


def train(run: FinetuningRun, **options: Any) -> Path:
    finetune(run, score, **{"resume": True, "overwrite": False, **options})
    return run.out


@pytest.mark.parametrize(
    ("kind", "per_layer"), [("kmers", 6), ("esm", 6), ("modernbert", 4), ("dnabert2", 4)]
)
def test_every_linear_layer_of_an_encoder_gets_an_adapter_that_is_merged_exactly(
    small: Path, tmp_path: Path, kind: str, per_layer: int
) -> None:
    folder = small
    if kind != "kmers":
        folder = (
            make_nucleotide_transformer(tmp_path / "m") if kind == "esm" else make_bpe(tmp_path / "m", kind)
        )
    source = ModelSource(str(folder), "random")
    model = new_classifier(source, 2, seed=3)
    module = SequenceClassifier(model, source.tokenization).eval()
    ids = torch.randint(5, source.config.vocab_size, (4, 9), generator=torch.Generator().manual_seed(1))
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with torch.no_grad():
        plain = module.logits(ids, None)
    add_lora(model, 2, seed=3)
    module.eval()
    adapters = {name: one for name, one in model.named_parameters() if "lora_" in name}
    assert len(adapters) == 2 * per_layer * source.config.num_hidden_layers
    trained = {name for name, one in model.named_parameters() if one.requires_grad}
    within = f"{model.base_model_prefix}."
    assert {
        name for name in trained - adapters.keys() if name.startswith(within) and "pooler" not in name
    } == set()
    assert {name for name in before if not name.startswith(within)} <= trained
    with torch.no_grad():
        # Adapters begin as zero.
        np.testing.assert_allclose(module.logits(ids, None), plain, atol=1e-6)
        for one in adapters.values():
            one.copy_(torch.randn(one.shape, generator=torch.Generator().manual_seed(one.numel())))
        adapted = module.logits(ids, None)
        assert not torch.allclose(adapted, plain, atol=2e-4)
        name = next(name for name in adapters if "lora_A" in name)
        low, high = adapters[name].clone(), adapters[name.replace("lora_A", "lora_B")].clone()
    merge_lora(model)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    # A slow reference: W + alpha / rank · B A.
    weight = name.replace(".lora_A.default", "")
    np.testing.assert_allclose(
        after[weight].detach(), before[weight] + ALPHA_PER_RANK * high @ low, atol=1e-6
    )
    with torch.no_grad():
        np.testing.assert_allclose(module.logits(ids, None), adapted, atol=1e-5)


def test_a_run_trains_adapters_and_head_and_writes_a_stock_classifier(make_run: MakeRun, data: Path) -> None:
    run = make_run()
    start = {name: one.detach().clone() for name, one in run.module.model.named_parameters()}
    out = train(run)
    manifest = read_manifest(out, "classifier", verify=True)
    assert {"lora": 3, "lora_alpha": 6, "lora_dropout": 0.05}.items() <= manifest.params.items()
    # 2 layers of 4 square layers and 2 of 8 to 16, the pooler and the head.
    adapters = 2 * (4 * 3 * (8 + 8) + 2 * 3 * (8 + 16))
    assert manifest.stats["trained_parameters"] == adapters + (8 * 8 + 8) + (2 * 8 + 2)
    written = load_file(out / "model.safetensors")
    assert manifest.stats["parameters"] == sum(one.numel() for one in written.values())
    assert "LoRA (rank 3, alpha 6, dropout 0.05)" in (out / "README.md").read_text()
    for name, weight in written.items():
        part, _, own = name.rpartition(".")
        adapted = f"{part}.base_layer.{own}"
        moved = not torch.equal(weight, start[adapted if adapted in start else name])
        is_head = "pooler" in name or name.startswith("classifier")
        assert moved == (is_head or (adapted in start and own == "weight")), name
    stock = AutoModelForSequenceClassification.from_pretrained(out).eval()
    tokenizer = AutoTokenizer.from_pretrained(out)
    tested = csv.DictReader((out / "predictions.csv").open())
    for row, found in zip(csv.DictReader((data / "test.csv").open()), tested, strict=True):
        with torch.no_grad():
            logits = stock(**tokenizer(row["sequence"], return_tensors="pt")).logits
        assert float(found["p_1"]) == pytest.approx(float(logits.softmax(1)[0, 1]), abs=1e-5)


def test_a_stopped_run_resumes_to_the_same_bytes(make_run: MakeRun) -> None:
    whole = train(make_run("whole"))
    with pytest.raises(Interrupted):
        train(make_run("parts"), observer=StopAfter(3))
    kept = next((make_run("parts").out / "checkpoints").glob("step_*"))
    names = load_file(kept / "weights.safetensors").keys()
    assert all("lora_" in name or "pooler" in name or ".classifier." in name for name in names)
    parts = train(make_run("parts"))
    assert read_manifest(parts).digest == read_manifest(whole).digest


def test_a_rate_is_chosen_on_dev(make_run: MakeRun) -> None:
    out = train(make_run(learning_rate=(0.001, 0.05)))
    manifest = read_manifest(out, "classifier", verify=True)
    alone = read_manifest(train(make_run("alone", learning_rate=manifest.params["learning_rate"])))
    assert alone.files["predictions.csv"] == manifest.files["predictions.csv"]
    assert alone.files["model.safetensors"] == manifest.files["model.safetensors"]
    assert alone.stats["trained_parameters"] == manifest.stats["trained_parameters"]


def test_what_contradicts_adapters_is_refused(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="`lora` leaves the embeddings"):
        make_run(embedding_lr=2.0)
    with pytest.raises(UsageError, match="`freeze=True` trains no weights; leave out"):
        make_run(freeze=True)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(CmgemsError, match=r"pip install 'cmgems\[lora\]'"):
        make_run()
