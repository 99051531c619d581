"""The loss at masked positions against stock `BertForMaskedLM`, which computes it at every position."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertForMaskedLM

from cmgems_cli.modeling import encoder
from cmgems_cli.modeling.encoder import states_at
from cmgems_cli.modeling.masked_lm import MaskedPositionsLM, load_masked_lm, set_dropout
from cmgems_cli.modeling.model_source import ModelSource


@pytest.fixture
def model() -> BertForMaskedLM:
    return load_masked_lm(ModelSource("tiny"), k=3, seed=1)[0]


def batch(lengths: list[int], width: int, seed: int = 0, share: float = 0.3) -> dict[str, Tensor]:
    """Make a padded batch with random masked positions, a few of them, and stock labels beside ours."""
    draw = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(5, 69, (len(lengths), width), generator=draw)
    attention_mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    input_ids[attention_mask == 0] = 0
    masked = (torch.rand(input_ids.shape, generator=draw) < share) & (attention_mask == 1)
    masked_index = masked.flatten().nonzero().squeeze(1)
    labels = torch.randint(5, 69, (len(masked_index),), generator=draw)
    stock_labels = torch.full((input_ids.numel(),), -100)
    stock_labels[masked_index] = labels
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "masked_index": masked_index,
        "labels": labels,
        "stock_labels": stock_labels.view(input_ids.shape),
    }


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    return found


LAYOUTS = {
    "no padding": ([20, 20, 20], 20, 0.3),
    "padding": ([20, 3, 11, 7], 20, 0.3),
    "padding beyond the longest": ([9, 3], 20, 0.3),
    "every position masked": ([6, 4], 6, 1.0),
    "one masked position at most": ([8, 8, 8], 8, 0.05),
    "one sequence": ([20], 20, 0.3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("device_path", ["cpu", "other devices"])
def test_loss_and_gradients_equal_those_of_stock_bert(
    model: BertForMaskedLM, layout: str, device_path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths, width, share = LAYOUTS[layout]
    b = batch(lengths, width, share=share)
    expected = model(b["input_ids"], b["attention_mask"], labels=b["stock_labels"]).loss * len(b["labels"])
    expected.backward()
    stock = gradients(model)

    monkeypatch.setattr(encoder, "restricts_queries", lambda states: device_path == "cpu")
    mask = None if min(lengths) == width else b["attention_mask"]
    loss = MaskedPositionsLM(model)(b["input_ids"], mask, b["masked_index"], b["labels"])
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, stock[name], atol=1e-5, rtol=1e-4, msg=name)


def test_states_come_in_the_order_asked_for(model: BertForMaskedLM) -> None:
    b = batch([7, 5, 6], 7)
    index = torch.tensor([15, 0, 20, 8, 8, 3])
    expected = model.bert(b["input_ids"], b["attention_mask"]).last_hidden_state.flatten(0, 1)[index]
    torch.testing.assert_close(states_at(model.bert, b["input_ids"], b["attention_mask"], index), expected)


def test_padding_changes_nothing(model: BertForMaskedLM) -> None:
    lm = MaskedPositionsLM(model)
    padded = batch([12, 5, 9], 12)
    together = lm(*[padded[name] for name in ("input_ids", "attention_mask", "masked_index", "labels")])
    alone = torch.tensor(0.0)
    for row, length in enumerate((12, 5, 9)):
        mine = padded["masked_index"] // 12 == row
        index = padded["masked_index"][mine] % 12
        alone += lm(padded["input_ids"][row : row + 1, :length], None, index, padded["labels"][mine])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_mask_of_ones_equals_no_mask(model: BertForMaskedLM) -> None:
    b = batch([10, 10], 10)
    lm = MaskedPositionsLM(model)
    with_mask = lm(b["input_ids"], b["attention_mask"], b["masked_index"], b["labels"])
    torch.testing.assert_close(with_mask, lm(b["input_ids"], None, b["masked_index"], b["labels"]))


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("bf16", [False, True])
def test_nothing_masked_is_a_zero_that_reaches_every_parameter(
    model: BertForMaskedLM, dropout: float, bf16: bool
) -> None:
    set_dropout(model, dropout)
    nothing = torch.empty(0, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = MaskedPositionsLM(model)(batch([6, 4], 6)["input_ids"], None, nothing, nothing)
    loss.backward()
    assert loss.item() == 0.0
    assert all(not gradient.any() for gradient in gradients(model).values())


def test_bf16_sums_in_float32_and_stays_close(model: BertForMaskedLM) -> None:
    b = batch([60, 41, 52], 60)
    lm = MaskedPositionsLM(model)
    arguments = [b[name] for name in ("input_ids", "attention_mask", "masked_index", "labels")]
    exact = lm(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        loss = lm(*arguments)
    assert loss.dtype == torch.float32
    assert loss != exact
    assert loss.item() == pytest.approx(exact.item(), rel=2e-3)


@pytest.mark.parametrize(
    ("precision", "grad", "expected"), [("bf16", True, 1), ("bf16", False, 0), ("fp32", True, 0)]
)
def test_plain_attention_is_for_training_in_bf16(
    model: BertForMaskedLM, monkeypatch: pytest.MonkeyPatch, precision: str, grad: bool, expected: int
) -> None:
    seen = []
    plain = encoder._plain_attention

    def watched(*given: Any) -> Tensor:
        seen.append(given)
        return plain(*given)

    monkeypatch.setattr(encoder, "_plain_attention", watched)
    b = batch([10, 7], 10)
    with (
        torch.set_grad_enabled(grad),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
    ):
        encoder.states_at(model.bert, b["input_ids"], b["attention_mask"], b["masked_index"])
    assert len(seen) == expected * len(model.bert.encoder.layer)


def test_dropout_acts_in_training_and_not_in_evaluation(model: BertForMaskedLM) -> None:
    set_dropout(model, 0.5)
    b = batch([10, 7], 10)
    arguments = [b[name] for name in ("input_ids", "attention_mask", "masked_index", "labels")]
    lm = MaskedPositionsLM(model)
    assert lm(*arguments) != lm(*arguments)
    lm.eval()
    stock = model(b["input_ids"], b["attention_mask"], labels=b["stock_labels"]).loss * len(b["labels"])
    torch.testing.assert_close(lm(*arguments), stock, atol=1e-5, rtol=1e-5)


class CountingCompiler:
    """Compiles to what was there, and counts."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingCompiler]:
    counting = CountingCompiler()
    monkeypatch.setattr(encoder.torch, "compile", partial(torch.compile, backend=counting))
    monkeypatch.setattr(encoder, "restricts_queries", lambda states: False)
    encoder.compiled.cache_clear()
    yield counting
    encoder.compiled.cache_clear()
    torch._dynamo.reset()


def test_compiled_training_is_the_same_and_no_layer_or_shape_is_compiled_twice(
    compiler: CountingCompiler, tmp_path: Path
) -> None:
    shape = {"num_hidden_layers": 5, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 128}
    config = {"model_type": "bert", "vocab_size": 69, "max_position_embeddings": 40, **shape}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_masked_lm(ModelSource(str(tmp_path), "random"), k=3, seed=1)[0]
    set_dropout(model, 0.0)
    lm = MaskedPositionsLM(model)
    # Padded throughout, and no size that is also a width of the model: these would be other graphs.
    for lengths, width in (([20, 3, 11, 7], 20), ([13, 12, 2], 13), ([9, 5, 5, 5, 4], 9)):
        b = [
            batch(lengths, width)[name] for name in ("input_ids", "attention_mask", "masked_index", "labels")
        ]
        lm.train()
        lm.compiling = False
        plain = lm(*b)
        plain.backward()
        expected = gradients(model)
        lm.compiling = True
        loss = lm(*b)
        loss.backward()
        torch.testing.assert_close(loss, plain)
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(gradient, expected[name], msg=name)
        assert compiler.graphs == 4  # the entrance, four layers alike, the last one, the head
    lm.eval()
    lm(*b)
    assert compiler.graphs == 4
