"""How a classifier is fine-tuned: the hyper-parameters that a benchmark publishes and options may replace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

from cmgems_cli.datasets.finetune_options import warmup_of
from cmgems_cli.metrics import Problem

# ours: masked-LM pretraining has no sentence objective, so that nothing made the state of [CLS] a summary.
FROZEN_POOL = "mean"


@dataclass(frozen=True)
class Recipe:
    """How a model is fine-tuned on a task: the fields of `FinetuneOptions`, every one with a value.

    The defaults are ours, for tasks without a published recipe: those of GUE's EMP tasks, its most general ones
    (method, section 7).

    Attributes
    ----------
    epochs : int
        Passes over the training rows.
    max_steps : int or None
        Upper limit of the number of steps, whatever the epochs.
    warmup_steps : str
        Steps of linear warm-up, or a percentage of all steps: `10%`.
    eval_every : int or None, steps
        Interval of evaluations on the dev split; None: no evaluation, the last model is tested.
    learning_rate, weight_decay : float
        Of AdamW; the rate then falls linearly to 0.
    global_batch : int, sequences
        Rows per step, over all micro-batches and processes.
    dropout : float or None, in [0, 1)
        Of hidden layers; None: the model's own.
    pool : cls, mean or max
        How a sequence's states become the vector that the head reads.
    rc : none, augment, average or both
        Reverse complements. augment: each row of a step is read as its reverse complement with probability 1/2.
        average: the logits of a row of dev and test are the means of those of both strands.
    embedding_lr : float
        The learning rate of the embeddings divided by that of all other weights.
    class_weights : none or balanced
        balanced: the loss of a row is weighted by rows / (classes * rows of its class) of the training split.
    max_tokens : int or None, tokens
        Longest sequence, special tokens not counted; None: the model's longest.
    truncate : bool
        Truncate longer ones instead of refusing them.
    freeze : bool
        Leave the encoder as it is and fit a logistic regression on its embeddings; then only `pool`, `rc`,
        `max_tokens` and `truncate` matter.
    lora : int or None
        Rank of the adapters that are trained in place of the encoder's weights; None: no adapters.
    choices : mapping, field -> tuple
        Fields of several values: every combination is fine-tuned, and the best on dev is tested. The field itself has
        the first of them, or the one that was chosen.
    trials : int or None
        Most combinations to fine-tune; None: all.
    problem : str or None
        What the labels are; None: inferred from them.
    """

    epochs: int = 3
    max_steps: int | None = None
    warmup_steps: str = "50"
    eval_every: int | None = 200
    learning_rate: float = 3e-5
    weight_decay: float = 0.01
    global_batch: int = 32
    dropout: float | None = None
    pool: str = "cls"
    rc: str = "none"
    embedding_lr: float = 1.0
    class_weights: str = "none"
    max_tokens: int | None = None
    truncate: bool = False
    freeze: bool = False
    lora: int | None = None
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict, hash=False)
    trials: int | None = None
    problem: Problem | None = None

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """Return the recipe with these fields replaced; a tuple is several values.

        A frozen encoder is pooled by `FROZEN_POOL` by default.
        """
        if changes.get("freeze") and self.pool == "cls":
            changes = {"pool": FROZEN_POOL, **changes}
        choices = {name: values for name, values in self.choices.items() if name not in changes}
        choices |= {name: value for name, value in changes.items() if isinstance(value, tuple)}
        first = {name: value[0] if isinstance(value, tuple) else value for name, value in changes.items()}
        return replace(self, **first, choices=choices)

    def combinations(self) -> list[Recipe]:
        """Return the recipe of every combination of the choices, of one value each, in their order."""
        return [
            replace(self, **dict(zip(self.choices, values, strict=True)), choices={}, trials=None)
            for values in product(*self.choices.values())
        ]

    def chosen(self, values: Mapping[str, Any] | None) -> Recipe:
        """Return the recipe with what was chosen among its choices; None, or something else: the first of each."""
        possible = values and all(values.get(name) in known for name, known in self.choices.items())
        return replace(self, **{name: values[name] for name in self.choices}) if values and possible else self

    def chosen_values(self) -> dict[str, Any]:
        """Return the values of the fields among `choices`."""
        return {name: getattr(self, name) for name in self.choices}

    def _values(self, name: str) -> tuple[Any, ...]:
        return self.choices.get(name, (getattr(self, name),))

    @property
    def selects(self) -> Literal["best", "last"]:
        """Which model is tested: the best by dev loss, or the last if there are no evaluations."""
        return "last" if self.eval_every is None else "best"

    @property
    def augments(self) -> bool:
        """Whether reverse complements are trained on, by any of several values."""
        return not {"augment", "both"}.isdisjoint(self._values("rc"))

    @property
    def averages(self) -> bool:
        """Whether the logits of both strands are averaged at test time, by any of several values."""
        return not {"average", "both"}.isdisjoint(self._values("rc"))

    @property
    def balances(self) -> bool:
        """Whether rows are weighted by their class in the loss."""
        return self.class_weights == "balanced"

    def ways(self) -> dict[str, Any]:
        """Return what is not the default of later options and of choices, for the manifest."""
        default = Recipe()
        names = ("rc", "embedding_lr", "class_weights", "problem", "choices", "trials")
        return {
            name: getattr(self, name)
            for name in names
            if name in self.choices or getattr(self, name) != getattr(default, name)
        }

    def total_steps(self, train_rows: int) -> int:
        """Return the number of steps over `train_rows` rows; an epoch's last step may be smaller."""
        steps = self.epochs * -(-train_rows // self.global_batch)
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def warmup(self, total_steps: int) -> int:
        """Return the number of warm-up steps of a run of `total_steps` (UsageError as `warmup_of`)."""
        return warmup_of(self.warmup_steps, total_steps)
