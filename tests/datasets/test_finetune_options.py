"""Recipes of benchmark files and options of finetune: one declaration."""

from typing import Any

import pytest

from cmgems_cli.datasets.finetune_options import (
    FinetuneOptions,
    from_recipe,
    recipe_checks,
    recipe_keys,
    warmup_of,
)
from cmgems_cli.errors import UsageError
from cmgems_cli.option_fields import machine_fields


def test_recipe_keys_are_the_names_of_the_options() -> None:
    assert recipe_keys() == {
        "epochs": "epochs",
        "max_steps": "max_steps",
        "lr": "learning_rate",
        "warmup_steps": "warmup_steps",
        "weight_decay": "weight_decay",
        "dropout": "dropout",
        "global_batch": "global_batch",
        "eval_every": "eval_every",
        "pool": "pool",
        "rc": "rc",
        "embedding_lr": "embedding_lr",
        "class_weights": "class_weights",
        "trials": "trials",
        "max_tokens": "max_tokens",
        "truncate": "truncate",
        "freeze": "freeze",
        "lora": "lora",
        "problem": "problem",
    }
    assert machine_fields(FinetuneOptions) == {"max_batch_tokens", "precision"}


def test_a_recipe_becomes_options_and_options_say_what_they_change() -> None:
    recipe: dict[str, Any] = {"lr": 3e-5, "epochs": 3, "warmup_steps": 50}
    options = from_recipe(recipe)
    assert options == FinetuneOptions(learning_rate=3e-5, epochs=3, warmup_steps="50")
    assert options.changes() == {"learning_rate": 3e-5, "epochs": 3, "warmup_steps": "50"}
    assert FinetuneOptions(precision="fp32", max_batch_tokens=64).changes() == {}


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("lr", 3e-5, True),
        ("lr", "3e-5", False),
        ("epochs", 0, False),
        ("epochs", 3, True),
        ("dropout", 0.1, True),
        ("dropout", 1.0, False),
        ("truncate", True, True),
        ("truncate", 1, False),
        ("warmup_steps", 50, True),
        ("warmup_steps", "10%", True),
        ("warmup_steps", "10", True),
        ("warmup_steps", "9" * 5000, False),
        ("warmup_steps", 0.1, False),
        ("warmup_steps", -1, False),
        ("warmup_steps", "all", False),
        ("warmup_steps", True, False),
    ],
)
def test_values_of_a_recipe_are_checked(key: str, value: Any, fits: bool) -> None:
    assert recipe_checks()[key][1](value) is fits


@pytest.mark.parametrize(
    ("given", "steps", "warmup"),
    [("50", 1000, 50), ("0", 10, 0), ("10%", 1000, 100), ("10%", 19, 1), ("2.5 %", 1000, 25), ("0%", 5, 0)],
)
def test_warm_up_is_a_number_of_steps_or_a_percentage(given: str, steps: int, warmup: int) -> None:
    assert warmup_of(given, steps) == warmup


@pytest.mark.parametrize("given", ["", "ten", "-1", "1.5", "100%", "-5%", "nan%", "10%%"])
def test_what_is_neither_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match=r"`warmup_steps=.*neither a number of steps nor a percentage"):
        warmup_of(given, 100)
