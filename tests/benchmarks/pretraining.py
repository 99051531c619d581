"""Pretraining speed: this engine beside a plain padded `BertForMaskedLM` loop, on the same sequences.

    python tests/benchmarks/pretraining.py CORPUS PMI [--models logo,dnabert] [--sequences 64] [--rounds 3]

The peer is what a careful script does with transformers alone: batches of 10 sequences as they come, padded
to the longest, labels of -100 elsewhere, logits at every position, SDPA attention, fused AdamW, fp32. Both
train on the same masked sequences; real tokens exclude padding. Every loop runs in processes of its own, whose
first step warms up, and they take turns, so that a machine whose speed drifts slows all; medians are reported.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from transformers import BertForMaskedLM

from cmgems_cli.console import Console
from cmgems_cli.modeling.presets import bert_config
from cmgems_cli.training.build import build_pretraining_run
from cmgems_cli.training.heap import HeapTrimmer
from cmgems_cli.training.pretrain_options import PretrainingOptions
from cmgems_cli.training.pretrain_run import PretrainingRun
from cmgems_cli.training.processes import start_processes

# paper, Table 5: the published per-GPU batch of DNABERT.
PEER_BATCH = 10


class Peer:
    """The plain loop."""

    def __init__(self, run: PretrainingRun, model: str) -> None:
        self.run = run
        self.model = BertForMaskedLM._from_config(
            bert_config(model, run.corpus.k), attn_implementation="sdpa"
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=4e-4, fused=True)

    def step(self, step: int) -> int:
        """Train on the sequences of `step`; return the real tokens."""
        sequences = self._sequences(step)
        real = 0
        self.model.train()
        for start in range(0, len(sequences), PEER_BATCH):
            part = sequences[start : start + PEER_BATCH]
            width = max(len(ids) for ids, _ in part)
            input_ids = torch.zeros((len(part), width), dtype=torch.int64)
            labels = torch.full((len(part), width), -100)
            mask = torch.zeros((len(part), width), dtype=torch.int64)
            for row, (ids, targets) in enumerate(part):
                input_ids[row, : len(ids)], labels[row, : len(ids)] = ids, targets
                mask[row, : len(ids)] = 1
            loss = self.model(input_ids=input_ids, attention_mask=mask, labels=labels).loss
            (loss * len(part) / len(sequences)).backward()
            real += int(mask.sum())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return real

    def _sequences(self, step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Unpack the step's micro-batches into single sequences, in the order they came."""
        made = self.run.maker.training_step(step, self.run.curriculum)
        sequences = []
        for batch in made.batches:
            targets = torch.full((batch.input_ids.numel(),), -100)
            targets[batch.masked_index] = batch.labels
            targets = targets.view(batch.input_ids.shape)
            lengths = (batch.input_ids != 0).sum(1)
            sequences += [
                (ids[:n], own[:n]) for ids, own, n in zip(batch.input_ids, targets, lengths, strict=True)
            ]
        # The engine sorts by length; a loop that does not meets them in any order.
        order = torch.randperm(len(sequences), generator=torch.Generator().manual_seed(step))
        return [sequences[i] for i in order]


def engine_step(run: PretrainingRun, step: int) -> int:
    """Train on `step` as `cmgems pretrain` does, masking and batching included; return the real tokens."""
    made = run.maker.training_step(step, run.curriculum)
    run.engine.step(step, made.batches, made.n_targets)[0].item()
    return made.n_tokens


PLAIN = "plain loop, fp32"
LOOPS = {PLAIN: "fp32", "cmgems, fp32": "fp32", "cmgems, auto": "auto"}


def worker(arguments: argparse.Namespace) -> None:
    """Run one loop for a warm-up step and those that count; print its precision and real tokens/s."""
    options = PretrainingOptions(
        strategy="cm-gems",
        model=arguments.models,
        global_batch=arguments.sequences,
        precision=LOOPS[arguments.loop],
        max_batch_tokens=arguments.max_batch_tokens,
        eval_sequences=8,
    )
    if arguments.loop == PLAIN:
        # Before anything of this package has told the C library how to keep memory.
        HeapTrimmer.__init__ = lambda self: setattr(self, "_library", None)  # type: ignore[method-assign]
    run = build_pretraining_run(
        arguments.corpus, arguments.pmi, Path("unused"), options, start_processes("cpu")
    )
    peer = Peer(run, arguments.models) if arguments.loop == PLAIN else None
    tokens = 0
    for step in range(1, arguments.steps + 2):
        if step == 2:
            started, tokens = time.perf_counter(), 0
        tokens += peer.step(step) if peer else engine_step(run, step)
    print(run.precision, tokens / (time.perf_counter() - started))


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("pmi", type=Path)
    parser.add_argument("--models", default="logo,dnabert")
    parser.add_argument("--sequences", type=int, default=64, help="sequences a step")
    parser.add_argument("--steps", type=int, default=2, help="that count, in each process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-batch-tokens", type=int, default=None)
    parser.add_argument("--loop", choices=LOOPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        worker(arguments)
        return
    console, rows = Console(), []
    options = [f"--{name}={getattr(arguments, name)}" for name in ("sequences", "steps")]
    if arguments.max_batch_tokens:
        options.append(f"--max-batch-tokens={arguments.max_batch_tokens}")
    for model in arguments.models.split(","):
        rates: dict[str, list[float]] = {loop: [] for loop in LOOPS}
        precisions = {}
        for number in range(arguments.rounds):
            for loop in LOOPS:
                ran = subprocess.run(
                    [
                        *(sys.executable, __file__, str(arguments.corpus), str(arguments.pmi)),
                        *("--models", model, "--loop", loop, *options),
                    ],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                precisions[loop], rate = ran.stdout.split()[-2:]
                rates[loop].append(float(rate))
            console.say(f"{model}: round {number + 1} of {arguments.rounds} done")
        base = median(rates[PLAIN])
        rows += [
            [
                model,
                loop.replace("auto", precisions[loop]),
                round(median(found)),
                round(min(found)),
                round(max(found)),
                f"{median(found) / base:.2f}",
            ]
            for loop, found in rates.items()
        ]
    console.table(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.sequences} sequences a step",
        ["model", "loop", "real tokens/s", "min", "max", "ratio"],
        rows,
    )


if __name__ == "__main__":
    main()
