"""What a pretraining run can be told, with the recipe's defaults and where each comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cmgems_cli.errors import UsageError
from cmgems_cli.masking.curriculum import check_run_length, parse_threshold
from cmgems_cli.modeling.folder import read_config
from cmgems_cli.modeling.presets import PRESETS
from cmgems_cli.training.engine import Recipe

# DNABERT's run_pretrain default (method, section 6); GeneMask's own script used 8e-4.
LEARNING_RATE = 4e-4
# ours: the 64-wide model leaves the unigram plateau within 500 steps at this rate (docs/log.md).
TINY_LEARNING_RATE = 3e-3
# method, section 6.
BETAS, EPS, WEIGHT_DECAY, CLIP_NORM = (0.9, 0.98), 1e-6, 0.01, 1.0
WARMUP_SHARE = 0.05
# paper, section 4.2: evaluations every 500 of 10,000 steps.
EVALUATIONS = 20
# ours: two steps' worth of sequences, about 29,000 masked tokens.
EVAL_SEQUENCES = 500
# ours, the fastest measured (docs/log.md): on a CPU 4 sequences of 512 tokens of a wide model, which then needs a
# third of the memory, 16 of a narrow one; on a CUDA card 64, and of narrow models as many more as make a
# micro-batch worth its launches.
BATCH_TOKENS = {"cpu": 2_048, "cuda": 32_768}
BATCH_TOKENS_OF_NARROW = {"cpu": 8_192, "cuda": 131_072}
# The width of `logo`, and the widest measured to behave like it.
NARROW = 256


@dataclass(frozen=True)
class PretrainingOptions:
    """Options of `cmgems pretrain`, every default filled in. Make them with `pretraining_options`.

    Attributes
    ----------
    strategy, model, init : str
        As on the command line; `init` is random, a folder, or None (what `model` implies).
    steps, global_batch : int
        Optimizer steps, and sequences in each.
    max_batch_tokens : int, tokens
        Bound on one micro-batch, padding included.
    learning_rate : float
    warmup_steps, eval_every, save_every : int, steps
    eval_sequences : int
    mask_rate : float, 0 … 1
    rank_by : str
        content or position.
    switch_threshold : str
        A perplexity ("1.0") or a share of the last one ("2%").
    precision : str
        auto, fp32 or bf16.
    compile : bool
        Compile training steps (`MaskedPositionsLM.compiling`).
    seed : int
    """

    strategy: str
    model: str
    init: str | None
    steps: int
    global_batch: int
    max_batch_tokens: int
    learning_rate: float
    warmup_steps: int
    mask_rate: float
    rank_by: str
    eval_every: int
    eval_sequences: int
    switch_threshold: str
    save_every: int
    precision: str
    compile: bool
    seed: int

    def recipe(self) -> Recipe:
        """Return how the optimizer is to update the weights."""
        return Recipe(self.learning_rate, self.steps, self.warmup_steps, BETAS, EPS, WEIGHT_DECAY, CLIP_NORM)


def pretraining_options(
    *,
    device_type: str,
    strategy: str,
    model: str,
    init: str | None = None,
    steps: int = 10_000,
    global_batch: int = 250,
    max_batch_tokens: int | None = None,
    learning_rate: float | None = None,
    warmup_steps: int | None = None,
    mask_rate: float = 0.15,
    rank_by: str = "content",
    eval_every: int | None = None,
    eval_sequences: int = EVAL_SEQUENCES,
    switch_threshold: str = "1.0",
    save_every: int | None = None,
    precision: str = "auto",
    compile: bool = False,
    seed: int = 42,
) -> PretrainingOptions:
    """Fill in the defaults, which depend on one another and on the device, and refuse what cannot work.

    Parameters are the attributes of `PretrainingOptions`; None stands for the default.

    Raises
    ------
    UsageError
        If cm-gems could never compare two evaluations, its threshold is no drop, or warm-up is as long as
        the run.
    InputError
        If `model` is neither a preset nor a folder that holds a BERT's configuration.
    """
    eval_every = eval_every or max(1, steps // EVALUATIONS)
    if warmup_steps is None:
        warmup_steps = round(WARMUP_SHARE * steps)
    if learning_rate is None:
        learning_rate = TINY_LEARNING_RATE if model == "tiny" else LEARNING_RATE
    check_run_length(strategy, steps, eval_every)
    parse_threshold(switch_threshold)
    if warmup_steps >= steps > 1:
        raise UsageError(f"--warmup-steps {warmup_steps} leaves nothing of --steps {steps}; lower it")
    if max_batch_tokens is None:
        width = PRESETS[model].hidden if model in PRESETS else read_config(Path(model)).hidden_size
        max_batch_tokens = batch_tokens(device_type, width)
    return PretrainingOptions(
        strategy=strategy,
        model=model,
        init=init,
        steps=steps,
        global_batch=global_batch,
        max_batch_tokens=max_batch_tokens,
        learning_rate=learning_rate,
        warmup_steps=warmup_steps,
        mask_rate=mask_rate,
        rank_by=rank_by,
        eval_every=eval_every,
        eval_sequences=eval_sequences,
        switch_threshold=switch_threshold,
        save_every=save_every or eval_every,
        precision=precision,
        compile=compile,
        seed=seed,
    )


def batch_tokens(device_type: str, width: int) -> int:
    """Return the default bound on a micro-batch, in tokens, for a model of that width."""
    return (BATCH_TOKENS_OF_NARROW if width <= NARROW else BATCH_TOKENS)[device_type]
