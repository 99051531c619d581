"""The options of a pretraining run: each declared once, with the recipe's defaults and their sources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cmgems_cli.errors import UsageError
from cmgems_cli.masking import RankBy, StrategyName
from cmgems_cli.masking.curriculum import check_run_length, parse_threshold
from cmgems_cli.modeling.presets import PRESETS, known_name
from cmgems_cli.option_fields import MACHINE, MachineOptions, Precision, option, same_option
from cmgems_cli.training.loss_watch import FACTOR, as_ranges, parse_steps
from cmgems_cli.training.micro_batch import batch_tokens

if TYPE_CHECKING:
    from cmgems_cli.training.engine import Recipe

MASKING = "Masking and curriculum"
RECIPE = "Recipe"
SPIKES = "Loss spikes"

# A stopped run may resume with others, from a checkpoint for which they make no difference.
REVISABLE = ("spike_factor", "on_spike", "skip_steps")

# DNABERT's run_pretrain default (method, section 6); GeneMask's own script used 8e-4.
LEARNING_RATE = 4e-4
# ours: the 64-wide model leaves the unigram plateau within 500 steps at this rate (docs/log.md).
TINY_LEARNING_RATE = 3e-3
# method, section 6.
BETAS, EPS, WEIGHT_DECAY, CLIP_NORM = (0.9, 0.98), 1e-6, 0.01, 1.0
WARMUP_FRACTION = 0.05
# paper, section 4.2: evaluations every 500 of 10,000 steps.
EVALUATIONS = 20
# ours: two steps' worth of sequences, about 29,000 masked tokens.
EVAL_SEQUENCES = 500


@dataclass(frozen=True)
class PretrainingOptions:
    """The options of `cmgems pretrain`; the fields that are not the machine's are the manifest's params.

    A default of None depends on other options or on the machine: `resolve` fills it in.
    """

    model: str = option("dnabert", "--model", f"{', '.join(PRESETS)}, or a folder in Hugging Face format.")
    init: str | None = option(
        None, "--init", "random, or a folder to take the weights from.", shown="as --model implies"
    )
    strategy: StrategyName = option("cm-gems", "--strategy", "Which tokens are masked.", panel=MASKING)
    mask_rate: float = option(
        0.15, "--mask-rate", "Fraction of the tokens to mask.", panel=MASKING, min=0.001, max=1.0
    )
    rank_by: RankBy = option(
        "content",
        "--rank-by",
        "How ranks are looked up: by k-mer (content), or by position as in the released code.",
        panel=MASKING,
    )
    # A perplexity ("1.0") or a percentage of the last one ("2%").
    switch_threshold: str = option(
        "1.0",
        "--switch-threshold",
        "cm-gems switches when perplexity drops by less: an absolute value (paper: 1.0) or a percentage (2%).",
        panel=MASKING,
    )
    eval_every: int = option(
        None, "--eval-every", "Steps between evaluations.", panel=MASKING, min=1, shown="steps/20"
    )
    eval_sequences: int = option(
        EVAL_SEQUENCES, "--eval-sequences", "Validation sequences per evaluation.", panel=MASKING, min=1
    )
    steps: int = option(10_000, "--steps", "Optimizer steps.", panel=RECIPE, min=1)
    global_batch: int = option(
        250, "--global-batch", "Sequences per step, over all processes.", panel=RECIPE, min=1
    )
    learning_rate: float = option(
        None, "--lr", "Peak learning rate.", panel=RECIPE, min=0.0, shown="4e-4, tiny 3e-3"
    )
    warmup_steps: int = option(
        None, "--warmup-steps", "Steps of linear warm-up.", panel=RECIPE, min=0, shown="5 % of the steps"
    )
    dropout: float | None = option(
        None,
        "--dropout",
        "Dropout while pretraining (the paper: the model's). The saved configuration keeps the model's own.",
        panel=RECIPE,
        min=0.0,
        max=0.9,
        shown="the model's",
    )
    max_batch_tokens: int = same_option(
        MachineOptions,
        "max_batch_tokens",
        shown="2048 on CPU, 8192 for models up to 256 wide; on CUDA as memory allows, up to 131072",
    )
    precision: Precision = same_option(MachineOptions, "precision")
    compile: bool = option(
        False,
        "--compile",
        "Compile the steps with torch.compile: minutes at the start, then faster (docs/scaling.md).",
        panel=MACHINE,
        machine=True,
    )
    cuda_graph: bool = option(
        False,
        "--cuda-graph",
        "On one CUDA card, without dropout: record the work of a micro-batch once and replay it.",
        panel=MACHINE,
        machine=True,
    )
    save_every: int = option(
        None,
        "--save-every",
        "Steps between checkpoints.",
        panel=MACHINE,
        min=1,
        shown="as --eval-every",
        machine=True,
    )
    spike_factor: float = option(
        FACTOR,
        "--spike-factor",
        "A loss this many times the median of the last 100 steps is a spike.",
        panel=SPIKES,
        min=1.0,
    )
    on_spike: Literal["report", "skip"] = option(
        "report",
        "--on-spike",
        "skip: go back to the last good checkpoint and leave out the spike and the 10 steps before.",
        panel=SPIKES,
    )
    skip_steps: str | None = option(
        None,
        "--skip-steps",
        "Steps to leave out, such as 4100-4300 or 4100-4300,5000.",
        panel=SPIKES,
        shown="none",
    )
    seed: int = 42

    def __post_init__(self) -> None:
        # As `ModelSource` reads them.
        object.__setattr__(self, "model", known_name(self.model))
        if self.init is not None:
            object.__setattr__(self, "init", known_name(self.init, ("random",)))

    def resolve(self, device_type: str) -> PretrainingOptions:
        """Return the options with every default filled in, after checking that they fit each other.

        Raises
        ------
        UsageError
            If cm-gems could never compare two evaluations, its threshold is not a drop, or warm-up takes the whole
            run.
        InputError
            If `model` is neither a preset nor a folder with the configuration of a BERT.
        """
        eval_every = self.eval_every or max(1, self.steps // EVALUATIONS)
        warmup_steps = self.warmup_steps
        if warmup_steps is None:
            warmup_steps = round(WARMUP_FRACTION * self.steps)
        learning_rate = self.learning_rate
        if learning_rate is None:
            learning_rate = TINY_LEARNING_RATE if self.model == "tiny" else LEARNING_RATE
        check_run_length(self.strategy, self.steps, eval_every)
        parse_threshold(self.switch_threshold)
        if warmup_steps >= self.steps > 1:
            raise UsageError(
                f"`warmup_steps={warmup_steps}` leaves no step after warm-up, of `steps={self.steps}`; lower it"
            )
        return replace(
            self,
            eval_every=eval_every,
            warmup_steps=warmup_steps,
            learning_rate=learning_rate,
            max_batch_tokens=self.max_batch_tokens or batch_tokens(device_type, self._width()),
            save_every=self.save_every or eval_every,
            skip_steps=as_ranges(parse_steps(self.skip_steps, self.steps)),
        )

    def _width(self) -> int:
        if self.model in PRESETS:
            return PRESETS[self.model].hidden
        from cmgems_cli.modeling.folder import read_config

        width: int = read_config(Path(self.model)).hidden_size
        return width

    def recipe(self) -> Recipe:
        """Return how the optimizer is to update the weights."""
        from cmgems_cli.training.engine import Recipe

        return Recipe(self.learning_rate, self.steps, self.warmup_steps, BETAS, EPS, WEIGHT_DECAY, CLIP_NORM)
