"""What the loss needs is what a counter of matrix products counts, and cards are known by their names."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertForMaskedLM

from cmgems_cli.modeling.masked_lm import MaskedPositionsLM
from cmgems_cli.training.batching import PackedShape
from cmgems_cli.training.collation import collate_masked
from cmgems_cli.training.matrix_rate import matrix_rate, needed_flop, nominal_peak
from tests.training.test_packing import config, sequences


def test_needed_flop_are_those_of_a_step_without_padding() -> None:
    module = MaskedPositionsLM(BertForMaskedLM(config()))
    token_ids, offsets = sequences(6, 3)
    masked = np.sort(np.random.default_rng(1).choice(len(token_ids), 30, replace=False))
    # One sequence per micro-batch: nothing is padded, neither tokens nor queries.
    singly, together = [np.array([row]) for row in range(6)], [np.arange(6)]
    batches = collate_masked(token_ids, offsets, masked, token_ids[masked], singly)
    batches = [batch for batch in batches if batch.n_targets]
    with FlopCounterMode(display=False) as counter, torch.autocast("cpu", torch.bfloat16):
        for batch in batches:
            module(batch.input_ids, batch.attention_mask, batch.masked_index, batch.labels).backward()
    assert needed_flop(batches, config()) == counter.get_total_flops()
    # However the step is divided and filled up.
    whole = collate_masked(token_ids, offsets, masked, token_ids[masked], together)
    packed = collate_masked(
        *(token_ids, offsets, masked, token_ids[masked], together),
        packed=True,
        shape=PackedShape(512, 64, 9, 128),
    )
    alone = collate_masked(token_ids, offsets, masked, token_ids[masked], singly)
    assert needed_flop(whole, config()) == needed_flop(packed, config()) == needed_flop(alone, config())


@pytest.mark.parametrize(
    ("name", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA A100-SXM4-80GB", 312.0),
        ("NVIDIA A100 80GB PCIe", 312.0),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA A4000", None),
        ("Abacus", None),
    ],
)
def test_a_card_has_the_peak_of_its_name(
    name: str, tflops: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    card = torch.device("cuda", 0)
    assert nominal_peak(card, "bf16") == (None if tflops is None else tflops * 1e12)
    assert nominal_peak(card, "fp32") is nominal_peak(torch.device("cpu"), "bf16") is None


def test_the_rate_of_this_machine_is_measured() -> None:
    # A core does at least 0.1 and at most 1,000 GFLOP/s.
    assert 1e8 < matrix_rate(torch.device("cpu"), "fp32") < 256e12
