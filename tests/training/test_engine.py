"""The engine against plain torch: gradients, schedule, decay groups; nothing depends on the cutting."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from cmgems_cli.training.engine import Recipe
from cmgems_cli.training.parameter_groups import parameter_groups
from cmgems_cli.training.pretrain_run import PretrainingRun

MakeRun = Callable[..., PretrainingRun]


def one_step(run: PretrainingRun) -> dict[str, torch.Tensor]:
    """Weights after one step of `run`."""
    made = run.maker.training_step(1, run.curriculum)
    run.engine.step(1, made.batches, made.n_targets)
    return {name: value.detach().clone() for name, value in run.module.named_parameters()}


def test_a_step_equals_plain_torch_on_one_padded_batch(make_run: MakeRun) -> None:
    run = make_run(max_batch_tokens=4096, global_batch=12)
    plain = make_run(max_batch_tokens=4096, global_batch=12)
    made = plain.maker.training_step(1, plain.curriculum)
    model = plain.module.bert_lm
    optimizer = torch.optim.AdamW(
        parameter_groups(model, 0.01), lr=plain.engine.recipe.learning_rate_at(1), betas=(0.9, 0.98), eps=1e-6
    )
    total = torch.zeros(())
    for batch in made.batches:
        mask = batch.attention_mask if batch.attention_mask is not None else torch.ones_like(batch.input_ids)
        logits = model(input_ids=batch.input_ids, attention_mask=mask).logits.flatten(0, 1)
        total = total + functional.cross_entropy(logits[batch.masked_index], batch.labels, reduction="sum")
    (total / made.n_targets).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    expected = dict(plain.module.named_parameters())
    for name, value in one_step(run).items():
        assert torch.allclose(value, expected[name], atol=1e-6), name


def test_micro_batching_changes_nothing(make_run: MakeRun) -> None:
    whole = one_step(make_run(max_batch_tokens=4096))
    cut = one_step(make_run(max_batch_tokens=64))
    for name, value in whole.items():
        assert torch.allclose(value, cut[name], atol=1e-6), name


def test_dropout_is_a_pure_function_of_seed_step_and_micro_batch(make_run: MakeRun) -> None:
    runs = [make_run(), make_run()]
    for noise, run in enumerate(runs):
        for part in run.module.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.1
        run.engine._draws_dropout = True
        torch.manual_seed(noise)
    first, second = (one_step(run) for run in runs)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_decay_spares_biases_and_layernorm(make_run: MakeRun) -> None:
    module = make_run().module
    decayed, spared = parameter_groups(module, 0.01)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert {names[id(p)] for p in spared["params"]} == {
        name for name in names.values() if name.endswith("bias") or "LayerNorm" in name
    }
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)


@pytest.mark.parametrize(("steps", "warmup"), [(10_000, 500), (10, 0), (1, 0)])
def test_the_schedule_warms_up_and_decays_linearly(steps: int, warmup: int) -> None:
    recipe = Recipe(4e-4, steps, warmup, (0.9, 0.98), 1e-6, 0.01, 1.0)
    rates = [recipe.learning_rate_at(step) for step in range(1, steps + 1)]
    assert min(rates) > 0
    assert max(rates) == pytest.approx(4e-4)
    if warmup:
        assert rates[warmup - 1] == pytest.approx(4e-4)
        assert rates[warmup // 2 - 1] == pytest.approx(2e-4)
    after = rates[warmup:]
    differences = {round(b - a, 12) for a, b in pairwise(after)}
    assert len(differences) <= 2  # one slope, to rounding
    assert all(difference < 0 for difference in differences)


def test_bf16_stays_near_fp32_and_keeps_float32_weights(make_run: MakeRun) -> None:
    exact, rough = one_step(make_run()), one_step(make_run(precision="bf16"))
    for name, value in rough.items():
        assert value.dtype == torch.float32
        # Adam's first step moves each weight by at most the learning rate, whatever the gradient.
        assert torch.allclose(value, exact[name], atol=2.1 * 3e-3), name
