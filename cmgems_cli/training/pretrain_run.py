"""Pretraining: the loop from a corpus to a model artifact, resumable at any step."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cmgems_cli.artifacts import Manifest, read_manifest
from cmgems_cli.errors import InputError
from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.vocabulary import vocabulary_size
from cmgems_cli.masking import Strategy
from cmgems_cli.masking.curriculum import Curriculum, is_unlearnt, parse_threshold
from cmgems_cli.metrics import printed_perplexity
from cmgems_cli.modeling.card import masked_lm_card, write_card
from cmgems_cli.modeling.folder import save_model
from cmgems_cli.modeling.masked_lm import MaskedPositionsLM
from cmgems_cli.modeling.model_source import RANDOM, ModelSource
from cmgems_cli.modeling.packed_attention import fastest_flash_attention
from cmgems_cli.option_fields import recipe_fields
from cmgems_cli.training.checkpoints import STATE, Checkpoint
from cmgems_cli.training.collation import MicroBatch, n_real_tokens
from cmgems_cli.training.engine import Engine
from cmgems_cli.training.loss_watch import LossWatch, as_ranges, parse_steps
from cmgems_cli.training.matrix_rate import matrix_rate, needed_flop
from cmgems_cli.training.metrics_log import METRICS
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.pretrain_batches import PretrainBatches, Step
from cmgems_cli.training.pretrain_options import PretrainingOptions
from cmgems_cli.training.processes import Processes
from cmgems_cli.training.recorded_steps import CudaRecorder, RecordedSteps
from cmgems_cli.training.run import Run
from cmgems_cli.training.validation import (
    perplexity,
    unigram_perplexity,
    validation_sample,
)

# What `validation_masks` are made with, whatever the run's own rate is: values of all runs compare.
VALIDATION_MASK_RATE = 0.15


def _forward(module: torch.nn.Module, batch: MicroBatch) -> torch.Tensor:
    loss: torch.Tensor = module(batch.input_ids, batch.attention_mask, batch.masked_index, batch.labels)
    return loss


@dataclass(frozen=True)
class PretrainOutcome:
    """The result of a pretraining run.

    Attributes
    ----------
    module : MaskedPositionsLM
        Trained.
    stats : dict
        For the manifest.
    perplexities : (float, float) or None
        At the last evaluation: under the fixed validation masks, and under the active strategy's.
    """

    module: MaskedPositionsLM
    stats: dict[str, Any]
    perplexities: tuple[float, float] | None


class PretrainingRun(Run[Step, PretrainOutcome]):
    """One run, checked and loaded, ready to be planned, timed or trained.

    Parameters
    ----------
    corpus : Corpus
    maker : PretrainBatches
    load : callable
        Returns the model; called when the first step, or its plan, needs it.
    source : ModelSource
        Of the model, for the manifest.
    options : PretrainingOptions
    inputs : dict, name -> digest
        For the manifest.
    validation_strategy : Strategy
        What the fixed validation masks are made by: genemask, or random for a run without ranks.
    out : Path
    processes : Processes
    precision : str
        fp32 or bf16, resolved.
    """

    def __init__(
        self,
        corpus: Corpus,
        maker: PretrainBatches,
        load: Callable[[], MaskedPositionsLM],
        source: ModelSource,
        options: PretrainingOptions,
        *,
        inputs: dict[str, str],
        validation_strategy: Strategy,
        out: Path,
        processes: Processes,
        precision: str,
    ) -> None:
        self.corpus, self.maker, self.options, self._load = corpus, maker, options, load
        params = {
            **recipe_fields(options),
            "k": corpus.k,
            # A folder is named by its digest among the inputs: no path enters an artifact's digest.
            "model": source.preset or "folder",
            "init": source.init if source.init in (None, RANDOM) else "folder",
            # Named only where it decides something: runs that differ in nothing else are the same run.
            "switch_threshold": options.switch_threshold if options.strategy == "cm-gems" else None,
            "on_spike": "skip" if options.on_spike == "skip" else None,
            "spike_factor": options.spike_factor if options.on_spike == "skip" else None,
            "validation_masks": validation_strategy.name.lower(),
        }
        if options.dropout is None:
            # Runs of earlier versions, which had no such option, are the same runs.
            del params["dropout"]
        super().__init__(
            kind="model", params=params, inputs=inputs, out=out, processes=processes, precision=precision
        )
        self.curriculum = self._new_curriculum()
        self.perplexities: tuple[float, float] | None = None
        self._validation_strategy = validation_strategy
        self.watch = self._new_watch()
        self.goes_back = options.on_spike == "skip"
        self.skipped = self._asked_to_skip = parse_steps(options.skip_steps, options.steps)
        if not self.goes_back:
            self.advice = '; `on_spike="skip"` would go back and skip such steps'

    def _new_curriculum(self) -> Curriculum:
        return Curriculum(
            self.options.strategy,
            steps=self.options.steps,
            seed=self.options.seed,
            k=self.corpus.k,
            threshold=parse_threshold(self.options.switch_threshold),
        )

    def _new_watch(self) -> LossWatch:
        return LossWatch(self.options.spike_factor, math.log(vocabulary_size(self.corpus.k)))

    @cached_property
    def module(self) -> MaskedPositionsLM:
        """The model."""
        module = self._load()
        module.compiling = self.options.compile
        return module

    def make_engine(self) -> Engine:
        """Return the engine that trains the model."""
        engine = Engine(
            self.module,
            _forward,
            self.options.recipe(),
            processes=self.processes,
            precision=self.precision,
            seed=self.options.seed,
        )
        if self.options.cuda_graph:
            self.module.packed.keeps_copies = False
            loss = partial(engine.loss, self.module, 0)
            engine.recorded = RecordedSteps(loss, engine.trained().values(), CudaRecorder())
        return engine

    @cached_property
    def sample(self) -> np.ndarray:
        """Validation sequences, int64, shape (n,)."""
        return validation_sample(self.corpus, self.options.eval_sequences, self.options.seed)

    @cached_property
    def validation(self) -> Step:
        """The validation sequences under the fixed masks."""
        return self.maker.sample_fixed(self.sample, self._validation_strategy, VALIDATION_MASK_RATE)

    @cached_property
    def unigram(self) -> float:
        """Perplexity of the unigram baseline on the validation masks."""
        return unigram_perplexity(self.corpus, self.validation, self.options.seed)

    # ------------------------------------------------------------------ planning

    def probe(self, seconds: float = 5.0) -> dict[str, float]:
        """Time a few micro-batches of the first step and measure memory. Changes the weights: plan only.

        Returns
        -------
        dict
            `tokens_per_s` (real tokens, this process), `memory_bytes` (peak, this process), `padding_share` of the
            step, `flop_per_s` (`needed_flop`) and `matrix_flop_per_s` (`matrix_rate`).
        """
        made = self.maker.training_step(1, self.curriculum)
        self._timed_step(1, made.batches[:1])
        one = self._timed_step(1, made.batches[:1])
        count = max(1, min(len(made.batches), int(seconds / max(one, 1e-6))))
        # Evenly spaced, since the batches are sorted by length.
        chosen = made.batches[:: max(1, len(made.batches) // count)][:count]
        elapsed = self._timed_step(2, chosen)
        real = sum(n_real_tokens(batch.attention_mask, batch.input_ids) for batch in chosen)
        laid_out = sum(batch.input_ids.numel() for batch in made.batches)
        tokens = sum(n_real_tokens(batch.attention_mask, batch.input_ids) for batch in made.batches)
        return {
            "tokens_per_s": real / elapsed,
            "memory_bytes": float(_peak_memory(self.processes.device)),
            "padding_share": 1.0 - tokens / laid_out,
            "flop_per_s": needed_flop(chosen, self.module.bert_lm.config) / elapsed,
            "matrix_flop_per_s": matrix_rate(self.processes.device, self.precision),
        }

    def _timed_step(self, step: int, batches: list[MicroBatch]) -> float:
        with self._attention():
            return self.timed_step(step, batches, sum(batch.n_targets for batch in batches))

    # ------------------------------------------------------------------ training

    def _attention(self) -> AbstractContextManager[str]:
        """Return the context in which this run's attention is the fastest of the device."""
        first: Any = self.module.bert_lm.bert.encoder.layer[0]
        return fastest_flash_attention(self.processes.device, first.attention.self.dropout.p)

    def train(self, *, resume: bool, observer: Observer) -> None:
        """Train to the last step, from the newest checkpoint if there is one."""
        with self._attention():
            super().train(resume=resume, observer=observer)

    def make_step(self, step: int) -> Step:
        """Return what step `step` trains on, masked as the curriculum now has it."""
        return self.maker.training_step(step, self.curriculum)

    def describe(self, step: int, data: Step) -> dict[str, Any]:
        """Return the realised masking rate and the strategy."""
        return {"masked_fraction": data.masked_fraction, "strategy": self.curriculum.name(step)}

    def sequences(self, step: int, batch: MicroBatch) -> list[int]:
        """Return the numbers of a micro-batch's sequences in the corpus."""
        return self.maker.sequences_of(step)[batch.rows].tolist()

    def evaluates_after(self, step: int) -> bool:
        """Return whether perplexity is due: at the end too."""
        return step % self.options.eval_every == 0 or step == self.options.steps

    def saves_after(self, step: int) -> bool:
        """Return whether a checkpoint is due."""
        return step % self.options.save_every == 0

    def state(self) -> dict[str, Any]:
        """Return the curriculum's state, the perplexities that the model card shows, and steps skipped after spikes."""
        return {
            "curriculum": self.curriculum.to_dict(),
            "perplexities": self.perplexities,
            "skipped": as_ranges(self.skipped - self._asked_to_skip),
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore what `state` returned (raises ValueError if it does not follow from the metrics)."""
        curriculum, watch = self._new_curriculum(), self._new_watch()
        perplexities: list[float] | None = None
        for record in checkpoint.records():
            if watch.observe(record) and self.goes_back:
                raise InputError(f"the loss spiked at step {record['step']}")
            if "valid_perplexity" in record:
                perplexities = [record["valid_perplexity"], record["valid_perplexity_active"]]
                if record["step"] % self.options.eval_every == 0:
                    curriculum.observe(record["step"], perplexities[0])
        if (curriculum, perplexities) != (
            Curriculum.from_dict(checkpoint.state["curriculum"]),
            checkpoint.state["perplexities"],
        ):
            raise ValueError(f"{STATE} and {METRICS} differ in their evaluations")
        skipped = self._asked_to_skip | self._found_to_skip(checkpoint)
        if {record["step"] for record in checkpoint.records() if "skipped" in record} != {
            step for step in skipped if step <= checkpoint.step
        }:
            raise InputError("it skipped other steps than this command is to skip")
        self.watch, self.skipped = watch, skipped
        self.curriculum = curriculum
        self.perplexities = (perplexities[0], perplexities[1]) if perplexities else None

    def _found_to_skip(self, checkpoint: Checkpoint) -> frozenset[int]:
        """Return the steps that spikes made the run skip, if this command treats spikes alike."""
        before = checkpoint.state["run"]["params"]
        alike = all(before.get(name) == self.params[name] for name in ("on_spike", "spike_factor"))
        return parse_steps(checkpoint.state.get("skipped") if alike else None, self.options.steps)

    def evaluate(self, step: int, observer: Observer) -> dict[str, float]:
        """Measure perplexity after `step` and let the curriculum decide; return the values to log."""
        fixed = perplexity(self.engine, self.validation)
        active = fixed
        if not self._active_masks_are_the_fixed_ones(step):
            active = perplexity(self.engine, self.maker.sample_at_step(self.sample, step, self.curriculum))
        # The last evaluation may come early, a few steps after the one before: no interval to judge by.
        if step % self.options.eval_every == 0:
            before = self.curriculum.last_evaluation
            # Every process measures the same sums; rank 0's value decides, so that rounding never splits them.
            if (
                self.curriculum.observe(step, self.processes.broadcast_from_main(fixed))
                and before is not None
            ):
                observer.switched(step, before[1], fixed)
                if is_unlearnt(fixed, self.unigram):
                    observer.warned(
                        f"the switch to global came at perplexity {printed_perplexity(fixed)}, still at the unigram"
                        f" baseline ({self.unigram:,.0f}): nothing of context has been learnt yet. Train longer,"
                        " evaluate further apart (--eval-every) or lower --switch-threshold"
                    )
        self.perplexities = (fixed, active)
        return {"valid_perplexity": fixed, "valid_perplexity_active": active}

    def _active_masks_are_the_fixed_ones(self, step: int) -> bool:
        return (
            self.curriculum.name(step) == self.params["validation_masks"]
            and self.options.mask_rate == VALIDATION_MASK_RATE
            and self.options.rank_by == "content"
        )

    def outcome(self) -> PretrainOutcome:
        """Return the trained model and what was counted."""
        stats: dict[str, Any] = {
            "steps": self.options.steps,
            "parameters": self.parameters,
            "switched_at_step": self.curriculum.switched_at_step,
            "unigram_perplexity": self.unigram,
            "sequences": (self.options.steps - len(self.skipped)) * self.options.global_batch,
            "eval_sequences": len(self.sample),
        }
        if self.skipped:
            stats["skipped_steps"] = as_ranges(self.skipped)
        return PretrainOutcome(self.module, stats, self.perplexities)


def pretrain(
    run: PretrainingRun, *, resume: bool, overwrite: bool, observer: Observer | None = None
) -> Manifest:
    """Train and write the model artifact, unless it is finished already (errors as `Run.training`)."""
    done = run.finished(overwrite=overwrite)
    if done is not None:
        return done
    with run.training(resume=resume, overwrite=overwrite, observer=observer) as outcome:
        if run.processes.is_main:
            files = save_model(run.folder, outcome.module.bert_lm, run.corpus.k)
            card = masked_lm_card(
                run.params, run.inputs, outcome.stats, run.corpus.manifest.stats, outcome.perplexities
            )
            files.append(write_card(run.folder, card))
            options = run.options
            machine = {"compiled": options.compile, "max_batch_tokens": options.max_batch_tokens}
            if options.cuda_graph:
                machine["cuda_graph"] = True
            return run.finish(stats=outcome.stats, files=files, **machine)
    return read_manifest(run.out, run.kind)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
