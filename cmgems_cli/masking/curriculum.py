"""The strategy of each step: fixed ones, cm-step's blocks, cm-gems' switch, random-mask's stages.

The state is small and stored in every checkpoint as JSON. Together with the step it determines everything,
so a resumed run uses the same strategies as an uninterrupted one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.masking import SINGLE, STRATEGIES, Strategy

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# method, section 4: cm-step divides the steps into 100 equal blocks.
CM_STEP_BLOCKS = 100

# Liang et al. 2023 (arXiv 2310.07644), Algorithm 1: five stages, with the last step of each in
# thousands; the longest span grows by 2 per stage.
RANDOM_MASK_STAGE_ENDS = (30, 60, 100, 150, 480)
RANDOM_MASK_GROWTH = 2

# ours: above this fraction of the unigram baseline a model has learnt little more than base composition.
UNLEARNT_FRACTION = 0.95


@dataclass(frozen=True)
class Threshold:
    """The drop in validation perplexity below which cm-gems switches.

    Attributes
    ----------
    value : float
        Perplexity (absolute), or a fraction of the previous evaluation's perplexity (relative).
    relative : bool
        False in the paper. True is ours, for runs too small for the paper's absolute drop.
    """

    # paper, section 4.2: "in our case, the value is one"
    value: float = 1.0
    relative: bool = False

    def __str__(self) -> str:
        return f"{self.value * 100:.12g}%" if self.relative else f"{self.value:.12g}"


def parse_threshold(text: str) -> Threshold:
    """Parse a switch threshold: a perplexity such as "1.0", or a fraction of the previous one such as "2%".

    Raises
    ------
    UsageError
        If `text` is not a number, negative, not finite, or more than 100 %.

    Examples
    --------
    >>> parse_threshold("1.0")
    Threshold(value=1.0, relative=False)
    >>> parse_threshold("2%")
    Threshold(value=0.02, relative=True)
    """
    relative = text.strip().endswith("%")
    try:
        number = float(text.strip().removesuffix("%"))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0 or (relative and number > 100):
        raise UsageError(
            f"`switch_threshold` is {text!r}, not a drop in perplexity;"
            " give a number from 0 up such as 1.0, or a percentage of the previous value up to 100% such as 2%"
        )
    return Threshold(number / 100 if relative else number, relative)


@dataclass
class Curriculum:
    """The strategy of every step of a run, and the state of the cm-gems rule.

    Attributes
    ----------
    strategy : str
        One of `STRATEGIES`.
    steps : int
        Steps of the whole run; cm-step's blocks and random-mask's stages are fractions of it.
    seed : int
        Seed of the run.
    k : int, default 6
        Bases per token; random-mask's spans start at this length.
    threshold : Threshold, default 1.0 perplexity
        For cm-gems.
    switched_at_step : int or None, default None
        The step whose evaluation made cm-gems switch; `global` applies from the next step. None before.
    last_evaluation : (int, float) or None, default None
        Step and validation perplexity of the latest evaluation.

    Raises
    ------
    UsageError
        If `strategy` is unknown.
    """

    strategy: str
    steps: int
    seed: int
    k: int = 6
    threshold: Threshold = field(default_factory=Threshold)
    switched_at_step: int | None = None
    last_evaluation: tuple[int, float] | None = None

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            raise UsageError(f"`strategy` {self.strategy!r} is unknown; choose {', '.join(STRATEGIES)}")

    def strategy_codes(
        self, step: int, epochs: NDArray[np.int64], sequence_indices: NDArray[np.int64]
    ) -> NDArray[np.uint8]:
        """Return each sequence's `Strategy` in a step.

        Parameters
        ----------
        step : int
            1-based.
        epochs, sequence_indices : int64, shape (n,)
            Keys of cm-step's draws: in block b of 100 a sequence takes `global` with probability b/100.

        Returns
        -------
        uint8, shape (n,)
            All equal, except under cm-step.

        Raises
        ------
        ValueError
            If `step` is outside the run.
        """
        import numpy as np

        if self.strategy == "cm-step":
            from cmgems_cli.masking.strategies import draw_strategies

            global_fraction = self._block(step) / CM_STEP_BLOCKS
            seed, codes = np.uint64(self.seed), (int(Strategy.GLOBAL), int(Strategy.RANDOM))
            return draw_strategies(global_fraction, *codes, seed, epochs, sequence_indices)
        return np.full(len(sequence_indices), SINGLE[self.name(step)], dtype=np.uint8)

    def name(self, step: int) -> str:
        """Return the name of a step's strategy for messages and metrics; under cm-gems, the active one."""
        self._check_step(step)
        if self.strategy != "cm-gems":
            return self.strategy
        return "genemask" if self.switched_at_step is None or step <= self.switched_at_step else "global"

    def span_limit(self, step: int) -> int:
        """Return the longest span that random-mask may draw in a step: k, k + 2 … k + 8 over its five stages.

        Liang et al. (2023) mask the positions i - m/2 + 1 … i + m/2 about a centre i, as `random` does for
        m = 6, with m growing by 2 over five stages that end at 30k, 60k, 100k, 150k and 480k of 480k
        steps. Their centre probability stays at r/k (2.5 %), so the masked fraction grows with the spans.
        Ours: runs of other lengths keep the stages' proportions, another k starts at m = k, and the growing
        number is the limit of the span that `mask_batch` draws.
        """
        self._check_step(step)
        total = RANDOM_MASK_STAGE_ENDS[-1]
        stage = sum(step * total > end * self.steps for end in RANDOM_MASK_STAGE_ENDS)
        return self.k + RANDOM_MASK_GROWTH * stage

    def observe(self, step: int, valid_perplexity: float) -> bool:
        """Record an evaluation, and switch cm-gems if perplexity no longer drops enough.

        The drop since the previous evaluation decides; a rise counts as a drop below the threshold. The
        switch happens once, takes effect at the next step and is never reversed. Other strategies never
        switch.

        Parameters
        ----------
        step : int
            1-based; the evaluation follows this step.
        valid_perplexity : float
            On the fixed sample under fixed GENEMASK masks, the same on all processes.

        Returns
        -------
        bool
            Whether this evaluation caused the switch.

        Raises
        ------
        ValueError
            If the step was already observed (an evaluation compared with itself would show no drop and
            switch), or the perplexity is not a finite positive number.
        """
        self._check_step(step)
        if not (math.isfinite(valid_perplexity) and valid_perplexity > 0):
            raise ValueError(
                f"`valid_perplexity` is {valid_perplexity} at step {step}; needed a finite positive number"
            )
        previous, self.last_evaluation = self.last_evaluation, (step, valid_perplexity)
        if previous is None:
            return False
        if step <= previous[0]:
            raise ValueError(f"step {step} was evaluated after step {previous[0]}")
        if self.strategy != "cm-gems" or self.switched_at_step is not None:
            return False
        needed = self.threshold.value * (previous[1] if self.threshold.relative else 1.0)
        if previous[1] - valid_perplexity >= needed:
            return False
        self.switched_at_step = step
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return the whole state as JSON types; floats are exact."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Curriculum:
        """Rebuild the state that `to_dict` returned.

        Raises
        ------
        InputError
            If the state has fields unknown to this version, or lacks one.
        """
        try:
            state = {**state, "threshold": Threshold(**state["threshold"])}
            if state["last_evaluation"] is not None:
                step, perplexity = state["last_evaluation"]
                state["last_evaluation"] = (int(step), float(perplexity))
            return cls(**state)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the checkpoint's curriculum state is not readable ({error}); start again with `resume=False`"
            ) from None

    def _block(self, step: int) -> int:
        self._check_step(step)
        return (step - 1) * CM_STEP_BLOCKS // self.steps

    def _check_step(self, step: int) -> None:
        if not 1 <= step <= self.steps:
            raise ValueError(f"step {step} is not one of 1 … {self.steps}")


def check_run_length(strategy: str, steps: int, eval_every: int) -> None:
    """Check that a cm-gems run is long enough to compare two evaluations.

    Raises
    ------
    UsageError
        If it is not; the message gives the number of steps it needs.
    """
    if strategy == "cm-gems" and steps < 2 * eval_every:
        raise UsageError(
            f"`steps={steps}` with `eval_every={eval_every}` ends before cm-gems can compare two evaluations;"
            f" it needs at least {2 * eval_every} steps, or a smaller `eval_every`"
        )


def is_unlearnt(valid_perplexity: float, unigram_perplexity: float) -> bool:
    """Return whether a model predicts no better than about the unigram baseline.

    A switch at this point would leave the easy strategy before anything was learnt: the run is too short,
    or its evaluations are too frequent. The caller should then warn the user.
    """
    return valid_perplexity >= UNLEARNT_FRACTION * unigram_perplexity
