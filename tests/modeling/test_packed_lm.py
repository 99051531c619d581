"""Packed batches as a card computes them, on a CPU: the operator, the copies of the weights, the compiled graphs."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.library import opcheck
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM

from cmgems_cli.modeling import packed_attention as attention
from cmgems_cli.modeling import packed_lm
from cmgems_cli.modeling.encoder import Packing
from cmgems_cli.modeling.masked_lm import MaskedPositionsLM
from cmgems_cli.modeling.packed_attention import packed_attention
from cmgems_cli.training.batching import PackedShape, fixed_shape
from cmgems_cli.training.collation import IGNORED, MicroBatch, collate_masked
from cmgems_cli.training.engine import Engine, Recipe
from cmgems_cli.training.pretrain_run import _forward
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.recorded_steps import RecordedSteps
from tests.training.test_packing import config, gradients, sequences

BOUNDS = torch.tensor([0, 5, 5, 12, 20, 20], dtype=torch.int32)  # two sequences are empty


def attended(dtype: torch.dtype) -> list[Tensor]:
    """Queries, keys and values as views of one product."""
    torch.manual_seed(0)
    return list(torch.randn(20, 3, 2, 4).to(dtype).unbind(1))


@pytest.mark.subprocess  # of torch 2.6's compiler
def test_the_operator_is_what_the_compiler_takes_it_for() -> None:
    inputs = [one.clone().requires_grad_() for one in attended(torch.float32)]
    opcheck(attention._attend, (*inputs, BOUNDS, 8, 0.0))
    plain = attended(torch.float32)
    saved = attention._attend(*plain, BOUNDS, 8, 0.0)
    opcheck(
        attention._attend_backward, (plain[0], *plain, *saved[:2], BOUNDS, 8, 0.0, *saved[2:]),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip


@torch.no_grad()
def test_the_calls_of_flash_attention_fit_its_signature() -> None:
    """No card here: torch's own shape functions stand in for the kernels."""
    with FakeTensorMode():
        query, key, value = torch.empty(64, 3, 2, 8, device="cuda", dtype=torch.bfloat16).unbind(1)
        bounds = torch.empty(5, device="cuda", dtype=torch.int32)
        for dropout in (0.0, 0.1):
            context, *saved = attention._attend(query, key, value, bounds, 128, dropout)
            assert (context.shape, context.dtype, context.device.type) == (query.shape, query.dtype, "cuda")
            gradients_of = attention._attend_backward(
                *(context, query, key, value, context, saved[0], bounds, 128, dropout, *saved[1:])
            )
            assert [one.shape for one in gradients_of] == 3 * [query.shape]


def test_attention_stays_within_a_sequence() -> None:
    ours, stock = ([one.clone().requires_grad_() for one in attended(torch.float64)] for _ in range(2))
    context = packed_attention(*ours, BOUNDS, 8, 0.0)
    same = torch.zeros(20, 20, dtype=torch.bool)
    for start, stop in ((0, 5), (5, 12), (12, 20)):
        same[start:stop, start:stop] = True
    heads_first = [one.transpose(0, 1) for one in stock]
    expected = functional.scaled_dot_product_attention(*heads_first, attn_mask=same).transpose(0, 1)
    torch.testing.assert_close(context, expected)
    weights = torch.randn(20, 2, 4, dtype=torch.float64)
    for found, right in zip(
        torch.autograd.grad((context * weights).sum(), ours),
        torch.autograd.grad((expected * weights).sum(), stock),
        strict=True,
    ):
        torch.testing.assert_close(found, right)
    with pytest.raises(NotImplementedError, match="no dropout on a CPU"):
        packed_attention(*attended(torch.float32), BOUNDS, 8, 0.1)


def made(seed: int, shape: PackedShape, count: int = 12) -> MicroBatch:
    """A packed micro-batch of `count` sequences of at most 42 positions."""
    token_ids, offsets = sequences(count, seed)
    masked = (
        torch.randperm(len(token_ids), generator=torch.Generator().manual_seed(seed))[:40].sort()[0].numpy()
    )
    (batch,) = collate_masked(
        *(token_ids, offsets, masked, token_ids[masked], [torch.arange(count).numpy()]),
        packed=True,
        shape=shape,
    )
    return batch


def loss_of(module: MaskedPositionsLM, batch: MicroBatch) -> Tensor:
    loss: Tensor = module(batch.input_ids, batch.attention_mask, batch.masked_index, batch.labels)
    return loss


LOOSE, FIXED = PackedShape(64, 8), PackedShape(512, 64, 30, 128)


def test_filling_up_changes_neither_loss_nor_gradients() -> None:
    torch.manual_seed(0)
    module = MaskedPositionsLM(BertForMaskedLM(config())).double()
    losses, found = [], []
    for shape in (LOOSE, FIXED):
        batch = made(3, shape)
        assert isinstance(batch.attention_mask, Packing)
        assert (batch.n_targets, int((batch.labels == IGNORED).sum())) == (40, 0 if shape is LOOSE else 24)
        losses.append(loss_of(module, batch))
        losses[-1].backward()  # type: ignore[no-untyped-call]
        found.append(gradients(module))
    assert batch.input_ids.shape == (1, 512)
    assert len(batch.attention_mask.bounds) == 30 + 4 + 1  # fillers of at most 128 tokens
    assert int(batch.attention_mask.bounds.diff().max()) <= batch.attention_mask.longest == 128
    torch.testing.assert_close(*losses, rtol=1e-12, atol=0)
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], rtol=1e-9, atol=1e-12, msg=name)


def test_a_handful_of_sizes_serve_a_whole_run() -> None:
    shape = fixed_shape(131_072, 250, 512)
    # Four standard deviations around the mean of the recipe's steps (docs/scaling.md).
    sizes = {tokens // shape.size_step for tokens in range(96_437 - 10_316, 96_437 + 10_316)}
    assert len(sizes) <= 4
    assert fixed_shape(600, 3, 40) == PackedShape(512, 512, 3, 128)


def test_a_step_of_copies_equals_a_step_of_autocast_within_the_noise_of_bf16() -> None:
    """Each is compared with float64: the copies may not err by much more than autocast of the stock modules does."""
    torch.manual_seed(0)
    module = MaskedPositionsLM(BertForMaskedLM(config()))
    batch, errors = made(4, LOOSE), {}
    exact = MaskedPositionsLM(BertForMaskedLM(config())).double()
    exact.load_state_dict(module.state_dict())
    loss_of(exact, batch).backward()  # type: ignore[no-untyped-call]
    right = gradients(exact)
    for by_modules in (True, False):
        module.by_modules = by_modules
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(module, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        assert loss.dtype == torch.float32
        assert all(one.dtype == torch.float32 for one in module.parameters())
        found = gradients(module)
        assert found.keys() == right.keys()
        assert all(one.dtype == torch.float32 for one in found.values())
        errors[by_modules] = {
            name: float((one - right[name]).norm() / (right[name].norm() + 1e-6))
            for name, one in found.items()
        }
        errors[by_modules]["loss"] = abs(loss.item() / 40 - loss_of(exact, batch).item() / 40)
    for name, error in errors[False].items():
        assert error < 2 * errors[True][name] + 0.01, (name, error, errors[True][name])


def new_engine(precision: str) -> Any:
    torch.manual_seed(0)
    module = MaskedPositionsLM(BertForMaskedLM(config()))
    recipe = Recipe(1e-3, 6, 0, (0.9, 0.98), 1e-6, 0.01, 1.0)
    processes = Processes(0, 1, torch.device("cpu"))
    return Engine(module, _forward, recipe, processes=processes, precision=precision, seed=1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_steps_with_copies_are_steps_of_the_modules(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []
    copy = packed_lm._copied
    monkeypatch.setattr(packed_lm, "_copied", lambda *given: copied.append(given) or copy(*given))
    engines = []
    for by_modules in (False, True, False):
        engines.append(new_engine(precision))
        engines[-1].module.by_modules = by_modules
    ours, stock, resumed = engines
    batches = [made(seed, LOOSE) for seed in (1, 2)]
    before = [ours.loss_sum(batches), stock.loss_sum(batches)]
    for step in range(1, 4):
        made_before = len(copied)
        sums = [engine.step(step, batches, 80) for engine in (ours, stock)]
        # Once for two micro-batches.
        assert len(copied) == made_before + 1
        torch.testing.assert_close(sums[0], sums[1], rtol=1e-5 if precision == "fp32" else 2e-2, atol=0)
    weights, moments = ours.state()
    resumed.load_state(3, *({name: one.clone() for name, one in part.items()} for part in (weights, moments)))
    for engine in (ours, resumed):
        engine.step(4, batches, 80)
    assert ours.checksum() == resumed.checksum()
    stock.step(4, batches, 80)
    after = [engine.loss_sum(batches) for engine in (ours, stock)]
    torch.testing.assert_close(after[0], after[1], rtol=1e-5 if precision == "fp32" else 2e-3, atol=0)
    assert after[0] < before[0]


def test_replayed_steps_are_the_same_steps() -> None:
    """No card here: a recorder that runs the function again stands in for the graph, with the same fixed addresses."""
    recorded = []

    def record(function: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], Any]]:
        function()  # a warm-up, whose gradients must not count
        result = function()
        recorded.append(result)
        return result, lambda: result.copy_(function())

    engines = []
    for replays in (False, True):
        engine = new_engine("bf16")
        if replays:
            engine.module.packed.keeps_copies = False
            loss = partial(engine.loss, engine.module, 0)
            engine.recorded = RecordedSteps(loss, engine.trained().values(), record)
        engines.append(engine)
    batches = [made(1, FIXED), made(2, FIXED, 9), made(3, PackedShape(1024, 64, 30, 128)), made(4, FIXED, 11)]
    for step, chosen in enumerate((batches[:2], batches[2:], batches), start=1):
        sums = [engine.step(step, chosen, 40 * len(chosen)) for engine in engines]
        assert torch.equal(*sums)
        # As a suspicious step does (`step_check`), which drops the gradients.
        engines[1].optimizer.zero_grad(set_to_none=True)
    assert engines[0].checksum() == engines[1].checksum()
    assert len(recorded) == 2  # shapes


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The graphs that the compiler made; it runs them as they are."""
    made_graphs: list[Any] = []

    def compiler(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        made_graphs.append(graph)
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **how: compile_(function, backend=compiler, **how))
    packed_lm.compiled_for_a_shape.cache_clear()
    yield made_graphs
    packed_lm.compiled_for_a_shape.cache_clear()
    torch._dynamo.reset()


def test_compiled_steps_are_the_same_and_nothing_is_compiled_twice(graphs: list[Any]) -> None:
    torch.manual_seed(0)
    deep = BertConfig.from_dict({**config().to_dict(), "num_hidden_layers": 4})
    module = MaskedPositionsLM(BertForMaskedLM(deep))
    for seed, count in ((1, 9), (2, 12), (3, 7)):
        batch = made(seed, FIXED, count)
        results = []
        for module.compiling in (False, True):
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss_of(module, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            results.append((loss, gradients(module)))
        torch.testing.assert_close(results[0][0], results[1][0])
        for name, gradient in results[0][1].items():
            torch.testing.assert_close(gradient, results[1][1][name], msg=name)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.99)
    # The entrance, layers of one kind, the last layer, the head; whole, since `fullgraph` would raise otherwise.
    assert len(graphs) == 4
    module.eval()
    loss_of(module, batch)
    assert len(graphs) == 4


def test_a_head_of_an_odd_vocabulary_has_even_columns() -> None:
    module = MaskedPositionsLM(BertForMaskedLM(config()))
    _, head = packed_lm._copied(module.bert_lm, torch.bfloat16)
    assert head.decoder.weight.shape == (128, 16)  # of 69 tokens
    assert (
        torch.softmax(functional.linear(torch.randn(3, 16), *map(Tensor.float, head.decoder)), -1)[
            :, 69:
        ].max()
        == 0
    )


@pytest.mark.parametrize(
    ("capability", "dropout", "installed", "expected"),
    [((9, 0), 0.0, True, "3"), ((9, 0), 0.1, True, "2"), ((8, 0), 0.0, True, "2"), ((9, 0), 0.0, False, "2")],
)
def test_flash_attention_3_is_used_where_it_can_be_and_given_up_afterwards(
    capability: tuple[int, int],
    dropout: float,
    installed: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No card here: torch's own functions are stood in for."""
    calls: list[Any] = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(attention.importlib.util, "find_spec", lambda name: object() if installed else None)
    monkeypatch.setattr(torch.nn.attention, "activate_flash_attention_impl", calls.append, raising=False)
    monkeypatch.setattr(
        torch.nn.attention, "restore_flash_attention_impl", lambda: calls.append("restored"), raising=False
    )
    with attention.fastest_flash_attention(torch.device("cuda", 0), dropout) as version:
        assert version == expected
        assert calls == (["FA3"] if expected == "3" else [])
    assert calls == (["FA3", "restored"] if expected == "3" else [])


def test_a_flash_attention_3_that_does_not_load_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise RuntimeError("does not expose FA3 backward kernels")

    monkeypatch.setattr(attention, "has_flash_attention_3", lambda device, dropout: True)
    monkeypatch.setattr(torch.nn.attention, "activate_flash_attention_impl", refuse, raising=False)
    with attention.fastest_flash_attention(torch.device("cuda", 0), 0.0) as version:
        assert version == "2"
