"""Pretraining on a CUDA card: this engine beside the Hugging Face Trainer, and beside the card's own matmul rate.

    python tests/benchmarks/cuda.py CORPUS PMI [--models logo,dnabert] [--steps 6] [--compile]

The peer is `transformers.Trainer` (needs `pip install accelerate`) with bf16, fused AdamW and the same masked
sequences, padded to the longest of each batch of 32. Real tokens exclude padding. The matrix products that the loss
needs (`matrix_rate.needed_flop`) are divided by the rate of a large bf16 product on this card, measured in the same
run, and by the card's nominal peak.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import BertForMaskedLM

from cmgems_cli.console import Console
from cmgems_cli.modeling.encoder import Packing
from cmgems_cli.modeling.presets import bert_config
from cmgems_cli.training.build import build_pretraining_run
from cmgems_cli.training.matrix_rate import matrix_rate, needed_flop, nominal_peak
from cmgems_cli.training.pretrain_options import PretrainingOptions
from cmgems_cli.training.pretrain_run import PretrainingRun
from cmgems_cli.training.processes import start_processes

PEER_BATCH = 32


def engine_rates(run: PretrainingRun, steps: int) -> tuple[float, float]:
    """Return (real tokens/s, needed FLOP/s) of the engine as `cmgems pretrain` drives it, medians over steps."""
    config = run.module.bert_lm.config
    made = run.maker.training_step(1, run.curriculum)
    tokens, flop = [], []
    for step in range(1, 2 * steps + 1):
        torch.cuda.synchronize()
        started = time.perf_counter()
        loss = run.engine.step(step, made.batches, made.n_targets)
        upcoming = run.maker.training_step(step + 1, run.curriculum)
        loss.item()
        seconds = time.perf_counter() - started
        if step > steps:  # the first half warms up, and compiles
            tokens.append(made.n_tokens / seconds)
            flop.append(needed_flop(made.batches, config) / seconds)
        made = upcoming
    return median(tokens), median(flop)


class Sequences(torch.utils.data.Dataset[dict[str, Any]]):
    """Masked sequences of some steps, one by one."""

    def __init__(self, run: PretrainingRun, steps: int) -> None:
        self.rows: list[dict[str, Any]] = []
        for step in range(1, steps + 1):
            made = run.maker.training_step(step, run.curriculum)
            for batch in made.batches:
                labels = torch.full((batch.input_ids.numel(),), -100)
                labels[batch.masked_index] = batch.labels  # filler has none
                packing = batch.attention_mask
                assert isinstance(packing, Packing)
                for start, stop in pairwise(packing.bounds[: packing.n_sequences + 1].tolist()):
                    row = {"input_ids": batch.input_ids[0, start:stop], "labels": labels[start:stop]}
                    self.rows.append(row)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad to the longest, as DataCollatorWithPadding does."""
    pad = torch.nn.utils.rnn.pad_sequence
    input_ids = pad([row["input_ids"] for row in rows], batch_first=True, padding_value=0)
    return {
        "input_ids": input_ids,
        "attention_mask": (input_ids != 0).long(),
        "labels": pad([row["labels"] for row in rows], batch_first=True, padding_value=-100),
    }


def trainer_rate(run: PretrainingRun, model: str, sequences_a_step: int, steps: int) -> float:
    """Return the real tokens/s of the Hugging Face Trainer, its first steps left out."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    data = Sequences(run, steps + 3)

    class Clock(TrainerCallback):  # type: ignore[misc]
        at: dict[int, float]

        def __init__(self) -> None:
            self.at = {}

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            torch.cuda.synchronize()
            self.at[state.global_step] = time.perf_counter()

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=PEER_BATCH,
            gradient_accumulation_steps=max(1, sequences_a_step // PEER_BATCH),
            max_steps=steps + 2,
            bf16=True,
            optim="adamw_torch_fused",
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        peer = BertForMaskedLM(bert_config(model, run.corpus.k))
        Trainer(
            model=peer, args=arguments, train_dataset=data, data_collator=collate, callbacks=[clock]
        ).train()
    ends = sorted(clock.at)
    used = (ends[-1] - ends[1]) * arguments.gradient_accumulation_steps * PEER_BATCH
    mean_tokens = sum(len(row["input_ids"]) for row in data.rows) / len(data)
    return used * mean_tokens / (clock.at[ends[-1]] - clock.at[ends[1]])


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("pmi", type=Path)
    parser.add_argument("--models", default="logo,dnabert")
    parser.add_argument("--sequences", type=int, default=256, help="sequences a step")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--max-batch-tokens", type=int, default=None)
    parser.add_argument("--compile", action="store_true", help="also time the compiled engine")
    parser.add_argument("--no-peer", action="store_true")
    arguments = parser.parse_args()
    card = torch.device("cuda", torch.cuda.current_device())
    console, peak, nominal = Console(), matrix_rate(card, "bf16"), nominal_peak(card, "bf16")
    rows = []
    for model in arguments.models.split(","):
        base = None
        for compiled in (False, True) if arguments.compile else (False,):
            options = PretrainingOptions(
                strategy="cm-gems",
                model=model,
                global_batch=arguments.sequences,
                max_batch_tokens=arguments.max_batch_tokens,
                eval_sequences=8,
                compile=compiled,
            )
            run = build_pretraining_run(
                arguments.corpus, arguments.pmi, Path("unused"), options, start_processes("cuda")
            )
            if base is None and not arguments.no_peer:
                base = trainer_rate(run, model, arguments.sequences, arguments.steps)
                rows.append([model, "Trainer, bf16, padded", round(base), "1.00", None, None, None])
            torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            rate, flops = engine_rates(run, arguments.steps)
            rows.append(
                [
                    model,
                    f"cmgems, {run.precision}{', compiled' if compiled else ''}",
                    round(rate),
                    None if base is None else f"{rate / base:.2f}",
                    f"{100 * flops / peak:.1f} %",
                    f"{100 * flops / nominal:.1f} %" if nominal else None,
                    f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB",
                ]
            )
            console.say(f"{rows[-1]} ({time.perf_counter() - started:.0f} s in all)")
            del run
            torch.cuda.empty_cache()
    name = torch.cuda.get_device_name()
    columns = ["model", "loop", "real tokens/s", "ratio", "of matmul rate", "of nominal peak", "peak memory"]
    console.table(
        f"{name}, torch {torch.__version__}: bf16 matmul {peak / 1e12:.0f} TFLOP/s,"
        f" {arguments.sequences} sequences a step",
        columns,
        rows,
    )


if __name__ == "__main__":
    main()
