"""How much of what a device can multiply a run makes use of: of its measured rate, and of its nominal peak."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median

import torch
from transformers import BertConfig

from cmgems_cli.modeling.encoder import Packing
from cmgems_cli.training.collation import IGNORED, MicroBatch

# ours: large enough for the device to reach its rate, small enough to wait for. (Side of the matrices, products.)
_MEASURED = {"cuda": (8192, 20), "cpu": (1024, 5)}

# NVIDIA's data sheets: bfloat16 on tensor cores, dense (half of "with sparsity"), in TFLOP/s. No figure is
# better than a wrong one.
NOMINAL_TFLOPS = {
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H100 PCIe": 756.0,
    "NVIDIA H200": 989.4,
    "NVIDIA A100": 312.0,
    "NVIDIA L40S": 362.05,
    "NVIDIA A40": 149.7,
}
# Words in the names of slower variants, and of parts of a card.
_OTHER_VARIANTS = (" NVL", " MIG ")


def nominal_peak(device: torch.device, precision: str) -> float | None:
    """Return the nominal peak of a card in FLOP/s; None for a CPU, an unknown card, or fp32."""
    if device.type != "cuda" or precision != "bf16":
        return None
    name = torch.cuda.get_device_name(device)
    if any(words in name for words in _OTHER_VARIANTS):
        return None
    known = (
        peak for card, peak in NOMINAL_TFLOPS.items() if f"{name} ".replace("-", " ").startswith(f"{card} ")
    )
    return next((1e12 * peak for peak in known), None)


def matrix_rate(device: torch.device, precision: str) -> float:
    """Measure the FLOP/s of a large product of square matrices: the median of several.

    Parameters
    ----------
    device : torch.device
    precision : str
        fp32 or bf16.
    """
    side, products = _MEASURED[device.type]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = []
    for _ in range(products + 1):
        _wait(device)
        started = time.perf_counter()
        a @ b
        _wait(device)
        seconds.append(time.perf_counter() - started)
    # The first selects a kernel.
    return 2 * side**3 / median(seconds[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def needed_flop(batches: Sequence[MicroBatch], config: BertConfig) -> float:
    """Return the FLOP of the matrix products that the loss of a step and its gradients need.

    6 FLOP per weight and token: 2 forwards, 4 backwards. Of the last layer everything but keys and values, and the
    head, is needed at masked tokens only. What a device computes beyond that, padding and filler among it, counts
    nothing.

    Parameters
    ----------
    batches : list of MicroBatch
        On the CPU.
    config : BertConfig
    """
    width, layers = config.hidden_size, config.num_hidden_layers
    square, block = width * width, 2 * width * config.intermediate_size
    total = 0.0
    for batch in batches:
        lengths, masked = _lengths(batch)
        tokens, n_masked = int(lengths.sum()), int(masked.sum())
        weights = (layers - 1) * tokens * (4 * square + block) + 2 * square * tokens
        weights += n_masked * (2 * square + block + square + width * config.vocab_size)
        pairs = (layers - 1) * int((lengths**2).sum()) + int((lengths * masked).sum())
        total += 6.0 * weights + 12.0 * width * pairs
    return total


def _lengths(batch: MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each sequence's length and number of masked tokens: int64 tensors, shape (sequences,)."""
    index = batch.masked_index[batch.labels != IGNORED]
    rows, width = batch.input_ids.shape
    mask = batch.attention_mask
    if isinstance(mask, Packing):
        bounds = mask.bounds[: mask.n_sequences + 1].long()
        sequence = torch.searchsorted(bounds, index, right=True) - 1
        return bounds.diff(), torch.bincount(sequence, minlength=mask.n_sequences)
    lengths = torch.full((rows,), width) if mask is None else mask.sum(1)
    return lengths, torch.bincount(index // width, minlength=rows)
