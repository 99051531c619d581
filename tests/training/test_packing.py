"""Packed batches: what lies where, and that loss and gradients equal those of padded ones."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from cmgems_cli.datasets.loaded_task import EncodedSplit
from cmgems_cli.errors import UsageError
from cmgems_cli.genome.tokenization import OverlappingKmers
from cmgems_cli.genome.vocabulary import CLS, PAD, SEP
from cmgems_cli.modeling import packed_attention as attention
from cmgems_cli.modeling.classifier import SequenceClassifier
from cmgems_cli.modeling.encoder import Packing, packs_sequences
from cmgems_cli.modeling.folder import save_model
from cmgems_cli.modeling.masked_lm import MaskedPositionsLM, load_masked_lm
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.modeling.presets import bert_config
from cmgems_cli.training import build
from cmgems_cli.training.batching import PackedShape, length_bucketed_batches, pack_batches
from cmgems_cli.training.collation import collate_masked, n_real_tokens, pack
from cmgems_cli.training.finetune_batches import FinetuneBatches, evaluation_batches
from cmgems_cli.training.metrics_log import METRICS, read_metrics
from cmgems_cli.training.micro_batch import packed_batch_tokens, packed_bytes
from cmgems_cli.training.pretrain_run import PretrainingRun, pretrain
from cmgems_cli.training.processes import Processes, start_processes

SHAPE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def config() -> BertConfig:
    return BertConfig(vocab_size=69, max_position_embeddings=64, **SHAPE, **PLAIN)


def sequences(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random 3-mer sequences of 0 to 40 tokens: (token_ids, offsets)."""
    draw = np.random.default_rng(seed)
    offsets = np.append(0, np.cumsum(draw.integers(0, 41, count))).astype(np.int64)
    return draw.integers(5, 69, int(offsets[-1])).astype(np.int32), offsets


@example([2, 2, 57, 2, 2], 60, 1)
@given(st.lists(st.integers(2, 60), min_size=1, max_size=60), st.integers(60, 400), st.integers(1, 4))
def test_shares_hold_every_sequence_once_within_the_bound(lengths: list[int], limit: int, world: int) -> None:
    sizes = np.array(lengths)
    if len(lengths) < world:
        with pytest.raises(UsageError, match="sequences per step are too few"):
            pack_batches(sizes, limit, multiple_of=world)
        return
    parts = pack_batches(sizes, limit, multiple_of=world)
    assert np.concatenate(parts).tolist() == list(range(len(lengths)))
    assert all(len(part) and sizes[part].sum() <= limit for part in parts)
    # Every process has the same number, unless there is one sequence a micro-batch.
    assert len(parts) % world == 0 or len(parts) == len(lengths)


def test_a_sequence_beyond_the_bound_is_refused() -> None:
    with pytest.raises(UsageError, match=r"below the longest sequence \(61 tokens\)"):
        pack_batches(np.array([5, 61]), 60)


@given(st.integers(1, 30), st.integers(0, 10**6))
def test_a_packed_batch_holds_the_sequences_one_after_the_other(count: int, seed: int) -> None:
    token_ids, offsets = sequences(count, seed)
    rows = np.random.default_rng(seed).permutation(count)
    input_ids, packing = pack(token_ids, offsets, rows)
    assert input_ids.shape == packing.positions.shape
    bounds = packing.bounds.tolist()
    assert bounds[0] == 0
    assert bounds[-1] == input_ids.shape[1]
    *spans, filler = pairwise(bounds)
    for row, (start, stop) in zip(rows.tolist(), spans, strict=True):
        tokens = token_ids[offsets[row] : offsets[row + 1]].tolist()
        assert input_ids[0, start:stop].tolist() == [CLS, *tokens, SEP]
        assert packing.positions[0, start:stop].tolist() == list(range(stop - start))
    assert filler[1] > filler[0]
    assert set(input_ids[0, filler[0] :].tolist()) == {PAD}
    assert packing.longest >= max(stop - start for start, stop in pairwise(bounds))
    assert n_real_tokens(packing, input_ids) == int((offsets[rows + 1] - offsets[rows] + 2).sum())


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return found


def test_masked_lm_loss_and_gradients_equal_those_of_padded_batches() -> None:
    torch.manual_seed(0)
    module = MaskedPositionsLM(BertForMaskedLM(config())).double()
    token_ids, offsets = sequences(25, 3)
    masked = np.sort(np.random.default_rng(1).choice(len(token_ids), 60, replace=False))
    lengths = np.diff(offsets) + 2
    losses, found = [], []
    for packed, parts in ((False, length_bucketed_batches(lengths, 200)), (True, pack_batches(lengths, 200))):
        batches = collate_masked(token_ids, offsets, masked, token_ids[masked], parts, packed=packed)
        assert all(isinstance(batch.attention_mask, Packing) == packed for batch in batches)
        assert sum(batch.n_targets for batch in batches) == 60
        loss = sum(module(b.input_ids, b.attention_mask, b.masked_index, b.labels) for b in batches)
        loss.backward()
        losses.append(loss.item())
        found.append(gradients(module))
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-5, atol=1e-7), name


@pytest.mark.parametrize("world", [1, 2])
def test_classifier_logits_and_gradients_equal_those_of_padded_batches(world: int) -> None:
    torch.manual_seed(0)
    module = SequenceClassifier(BertForSequenceClassification(config()), OverlappingKmers(3))
    token_ids, offsets = sequences(25, 4)
    data = EncodedSplit(token_ids, offsets, np.arange(25) % 2)
    logits, found = [], []
    for packed in (False, True):
        at = [Processes(rank, world, torch.device("cpu")) for rank in range(world)]
        made = [
            FinetuneBatches(data, 16, 200, 7, place, fixed_cut=False, packed=packed).make(1) for place in at
        ]
        for step in made:
            for batch in step.batches:
                assert isinstance(batch.attention_mask, Packing) == packed
                module(batch.input_ids, batch.attention_mask, batch.labels).backward()
        found.append(gradients(module))
        values = torch.zeros(25, 2)
        for place in at:
            for batch in evaluation_batches(data, 200, place, packed=packed):
                with torch.no_grad():
                    values[batch.rows] = module.eval().logits(batch.input_ids, batch.attention_mask)
        module.train()
        logits.append(values)
    assert torch.allclose(logits[0], logits[1], atol=1e-5)
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-5), name


def test_packed_attention_is_tried_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    works = attention.packed_attention_works.__wrapped__
    assert works(cpu)
    right = attention.packed_attention
    monkeypatch.setattr(attention, "packed_attention", lambda *given: 1.2 * right(*given))
    with pytest.warns(UserWarning, match=r"not work on cpu .*\(results differ by .*batches are padded"):
        assert not works(cpu)

    def missing(*given: object) -> None:
        raise AttributeError("no operator of this name")

    monkeypatch.setattr(attention, "packed_attention", missing)
    with pytest.warns(UserWarning, match="no operator of this name"):
        assert not works(cpu)


def test_nothing_is_packed_on_a_cpu() -> None:
    assert not packs_sequences(torch.device("cpu"), "bf16")


@pytest.mark.parametrize(("device", "number"), [("cuda", 0), ("cuda:1", 1), ("auto", 0)])
def test_a_cuda_device_has_a_number(monkeypatch: pytest.MonkeyPatch, device: str, number: int) -> None:
    """torch refuses a device without one. No card here: torch's own functions are stood in for."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert start_processes(device).device == torch.device("cuda", number)
    assert chosen == [torch.device("cuda", number)]


def test_a_packed_run_is_a_padded_run(
    make_run: Callable[..., PretrainingRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU plays the card: what is on disk has the same form, and what was learnt is the same to rounding."""
    padded = pretrain(make_run("padded"), resume=True, overwrite=False)
    monkeypatch.setattr(build, "packs_sequences", lambda device, precision: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 2 * 10**9))
    run = make_run("packed", max_batch_tokens=None)
    assert run.maker.max_batch_tokens == packed_batch_tokens(run.module.bert_lm.config, 0.15, 10**9) == 65_536
    packed = pretrain(run, resume=True, overwrite=False)
    assert (packed.params, packed.inputs) == (padded.params, padded.inputs)
    curves = [read_metrics(tmp_path / name / METRICS) for name in ("padded", "packed")]
    for one, other in zip(*curves, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one.keys() == other.keys()
        if "valid_perplexity" in one:
            assert one["valid_perplexity"] == pytest.approx(other["valid_perplexity"], rel=1e-3)
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("padded", "packed")]
    assert [(n, t.shape, t.dtype) for n, t in files[0].items()] == [
        (n, t.shape, t.dtype) for n, t in files[1].items()
    ]
    again, k = load_masked_lm(ModelSource(str(tmp_path / "packed")))
    (tmp_path / "again").mkdir()
    save_model(tmp_path / "again", again, k)
    assert (tmp_path / "again/model.safetensors").read_bytes() == (
        tmp_path / "packed/model.safetensors"
    ).read_bytes()


def test_a_recorded_run_is_refused_where_it_would_be_wrong(
    make_run: Callable[..., PretrainingRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UsageError, match="one process on a CUDA card with bf16; here are 1 process on cpu in fp32"
    ):
        make_run(cuda_graph=True)
    monkeypatch.setattr(build, "packs_sequences", lambda device, precision: True)
    assert make_run(cuda_graph=True, max_batch_tokens=2048).maker.shape == PackedShape(512, 512, 12, 128)
    with pytest.raises(UsageError, match="would replay the same dropout"):
        _ = make_run(cuda_graph=True, dropout=0.1).module


def test_a_card_takes_the_micro_batch_that_fits() -> None:
    dnabert, logo = bert_config("dnabert", 6), bert_config("logo", 6)
    # Measured on an H100 (docs/scaling.md).
    for config, tokens, peak in ((dnabert, 32_768, 14.0), (dnabert, 65_536, 21.5)):
        assert packed_bytes(config, 0.15, tokens) / 1e9 == pytest.approx(peak, rel=0.02)
    assert 3.5 <= packed_bytes(logo, 0.15, 131_072) / 1e9 < 4.0
    fits = {free: packed_batch_tokens(dnabert, 0.15, free * 10**9) for free in (79, 39, 23, 15, 1)}
    assert fits == {79: 131_072, 39: 65_536, 23: 32_768, 15: 16_384, 1: 4_096}
    assert packed_batch_tokens(logo, 0.15, 7 * 10**9) == 131_072
