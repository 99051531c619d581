"""The options of a fine-tuning run: those of `finetune` and `evaluate`, and the keys of recipes in benchmark files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from cmgems_cli.errors import UsageError
from cmgems_cli.metrics import Problem
from cmgems_cli.option_fields import (
    MachineOptions,
    Precision,
    machine_fields,
    one_or_several,
    option,
    options_of,
    same_option,
    value_check,
)

Pool = Literal["cls", "mean", "max"]
Strands = Literal["none", "augment", "average", "both"]
ClassWeights = Literal["none", "balanced"]

# Fields that affect a run with a frozen model.
OF_FROZEN = frozenset({"freeze", "pool", "rc", "max_tokens", "truncate", "problem"})

RECIPE = "Recipe (default: as published for the task)"


@dataclass(frozen=True)
class FinetuneOptions:
    """What a user may change of a run; None: as in the task's recipe, or the model's own.

    All but the fields of the machine are keys of a recipe in a benchmark's TOML file, under their option's name.

    Attributes
    ----------
    epochs, max_steps, global_batch, eval_every : int or None
    learning_rate, weight_decay : float, several or None
        Of AdamW. Of this and the others that may be several, every combination is fine-tuned and the best on dev is
        tested.
    warmup_steps : str or None
        Steps ("50"), or a percentage of all steps ("10%").
    dropout : float, several or None, in [0, 1)
        Of hidden layers.
    pool : str, several or None
        How a sequence's states become one vector.
    rc : str, several or None
        Reverse complements: in training (augment), at test time (average), both, or none.
    embedding_lr : float, several or None
        Factor of the learning rate for the embeddings.
    class_weights : str, several or None
    trials : int or None
        Most combinations of several values.
    max_tokens : int or None, tokens
        Special tokens not counted.
    truncate : bool
    freeze : bool
        No fine-tuning: a logistic regression on the embeddings of the model as it is.
    lora : int or None
        Rank of adapters that are trained in place of the encoder's weights.
    problem : str or None
        What the labels are; None: inferred from them (`targets.target_of`).
    max_batch_tokens : int or None, tokens
    precision : str
    """

    epochs: int | None = option(None, "--epochs", "Passes over the training split.", panel=RECIPE, min=1)
    max_steps: int | None = option(
        None, "--max-steps", "Maximum number of steps, whatever the epochs.", panel=RECIPE, min=1
    )
    learning_rate: float | tuple[float, ...] | None = option(
        None, "--lr", "Peak learning rate.", panel=RECIPE, min=0.0, several=True
    )
    warmup_steps: str | None = option(
        None,
        "--warmup-steps",
        "Steps of linear warm-up, or a percentage of all steps (10%).",
        panel=RECIPE,
        metavar="N|P%",
    )
    weight_decay: float | tuple[float, ...] | None = option(
        None, "--weight-decay", "Weight decay of AdamW.", panel=RECIPE, min=0.0, several=True
    )
    dropout: float | tuple[float, ...] | None = option(
        None, "--dropout", "Dropout of hidden layers.", panel=RECIPE, min=0.0, max=0.99, several=True
    )
    global_batch: int | None = option(
        None, "--global-batch", "Sequences per step, over all processes.", panel=RECIPE, min=1
    )
    eval_every: int | None = option(
        None,
        "--eval-every",
        "Steps between evaluations on the dev split; the best checkpoint is tested.",
        panel=RECIPE,
        min=1,
    )
    pool: Pool | tuple[Pool, ...] | None = option(
        None,
        "--pool",
        "The state of [CLS], or the mean or maximum over the known tokens.",
        panel=RECIPE,
        several=True,
    )
    rc: Strands | tuple[Strands, ...] | None = option(
        None,
        "--rc",
        "Reverse complements: half of the training rows (augment), the mean of both strands at test time (average),"
        " or both.",
        panel=RECIPE,
        several=True,
    )
    embedding_lr: float | tuple[float, ...] | None = option(
        None,
        "--embedding-lr",
        "Factor of the learning rate for the embeddings.",
        panel=RECIPE,
        min=0.0,
        several=True,
    )
    class_weights: ClassWeights | tuple[ClassWeights, ...] | None = option(
        None,
        "--class-weights",
        "balanced: every class counts the same in the loss.",
        panel=RECIPE,
        several=True,
    )
    trials: int | None = option(
        None,
        "--trials",
        "Of options with several values: most combinations to fine-tune; the best on dev is tested.",
        panel=RECIPE,
        min=1,
        shown="all",
    )
    max_tokens: int | None = option(
        None, "--max-tokens", "Longest sequence, without [CLS] and [SEP].", panel=RECIPE, min=1
    )
    truncate: bool = option(
        False, "--truncate", "Truncate longer sequences instead of refusing them.", panel=RECIPE
    )
    freeze: bool = option(
        False,
        "--freeze",
        "No fine-tuning: logistic regression on the model's embeddings, which are kept for later runs.",
        panel=RECIPE,
    )
    lora: int | None = option(
        None,
        "--lora",
        "Train adapters of this rank (LoRA) and the head, not the encoder's weights; needs peft.",
        panel=RECIPE,
        metavar="RANK",
        min=1,
    )
    problem: Problem | None = option(
        None,
        "--problem",
        "What the labels are: one of two classes or of several, several labels per row, or measured values.",
        panel=RECIPE,
        shown="inferred from the labels",
    )
    max_batch_tokens: int | None = same_option(MachineOptions, "max_batch_tokens")
    precision: Precision = same_option(MachineOptions, "precision")

    @property
    def suffix(self) -> str:
        """What the names of scores and folders get after the model's: `-frozen`, `-lora` or nothing."""
        return "-frozen" if self.freeze else "-lora" if self.lora else ""

    def check(self) -> None:
        """Check that options do not contradict each other (or raise UsageError)."""
        if self.freeze:
            unused = sorted(self.changes().keys() - OF_FROZEN)
            if unused:
                raise UsageError(f"`freeze=True` trains no weights; leave out `{unused[0]}`")
        if self.lora and self.embedding_lr is not None:
            raise UsageError("`lora` leaves the embeddings as they are; leave out `embedding_lr`")

    def changes(self) -> dict[str, Any]:
        """Return what differs from the recipe, by field name: every given value but the machine's."""
        given = {name: getattr(self, name) for name in recipe_keys().values()}
        return {name: value for name, value in given.items() if value is not None and value is not False}


def said_of(changes: Mapping[str, Any]) -> str:
    """Return what differs from a recipe in words; several values were chosen from on dev.

    >>> said_of({"max_steps": 9, "rc": ["none", "augment"], "learning_rate": [3e-05, 0.0003]})
    'max_steps 9, rc none or augment, learning_rate 3e-05 or 0.0003, chosen on dev from 4 trials'
    """
    said = [
        f"{name} {' or '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for name, value in changes.items()
        if name != "trials"
    ]
    several = [len(value) for value in changes.values() if isinstance(value, list | tuple)]
    if several:
        said.append(f"chosen on dev from {min(prod(several), changes.get('trials') or prod(several))} trials")
    return ", ".join(said)


def recipe_keys() -> dict[str, str]:
    """Return the keys of a recipe in a benchmark's file with the field that each sets: `lr` is `learning_rate`."""
    left_out = machine_fields(FinetuneOptions)
    return {
        declared.key: name for name, declared in options_of(FinetuneOptions).items() if name not in left_out
    }


def recipe_checks() -> dict[str, tuple[str, Callable[[Any], bool]]]:
    """Return for each key of a recipe what its value must be, in words and as a check."""
    checks = {key: value_check(FinetuneOptions, name) for key, name in recipe_keys().items()}
    return {**checks, "warmup_steps": ("a whole number from 0 or a percentage such as 10%", _is_warmup)}


def from_recipe(recipe: Mapping[str, Any]) -> FinetuneOptions:
    """Return the options that a recipe sets; its keys and values fit `recipe_checks`."""
    names = recipe_keys()
    values = {
        names[key]: one_or_several(value) if isinstance(value, list) else value
        for key, value in recipe.items()
    }
    if "warmup_steps" in values:
        values["warmup_steps"] = str(values["warmup_steps"])
    return FinetuneOptions(**values)


# More steps than any run takes.
_DIGITS = 18


def warmup_of(given: str | int, total_steps: int) -> int:
    """Return the number of warm-up steps: `given` itself, or its percentage of all steps, rounded down.

    >>> warmup_of("50", 1000), warmup_of("10%", 1000)
    (50, 100)

    Raises
    ------
    UsageError
        If `given` is neither a number of steps nor a percentage below 100.
    """
    text = str(given).strip()
    if text.isdecimal() and len(text) <= _DIGITS:
        return int(text)
    try:
        percentage = float(text.removesuffix("%")) if text.endswith("%") else -1.0
    except ValueError:
        percentage = -1.0
    if not 0 <= percentage < 100:
        raise UsageError(
            f"`warmup_steps={given}` is neither a number of steps nor a percentage; give one such as 50 or 10%"
        )
    return int(total_steps * percentage / 100)


def _is_warmup(value: Any) -> bool:
    if type(value) not in (int, str):
        return False
    try:
        warmup_of(value, 1)
    except UsageError:
        return False
    return True
