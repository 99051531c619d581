"""What reverse complements in training cost: steps with --rc augment and steps without, in turn.

    python tests/benchmarks/ways.py --data GUE [--task mouse/0] [--models tiny,logo] [--steps 60]

Both runs have the same rows, steps and micro-batches. What is timed is a whole step: making its data, the forward
and backward pass and the update. Steps of both alternate, so that a machine whose speed drifts slows both, and the
order within each pair alternates too. Loading is timed apart: there both strands are encoded once.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from cmgems_cli.bench.build import Finetuner
from cmgems_cli.console import Console
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.datasets.task_files import find_task
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.processes import start_processes

WAYS = ("none", "augment")
WARM_UP = 3


def opened(model: str, data: Path, rc: str, out: Path) -> tuple[FinetuningRun, float]:
    """Return a run and the seconds that loading it took."""
    started = time.perf_counter()
    finetuner = Finetuner(
        ModelSource(model), FinetuneOptions(rc=rc, precision="fp32"), start_processes("auto")
    )
    run = finetuner.build_finetuning_run(find_task(data), out, 42)
    return run, time.perf_counter() - started


def seconds_of(run: FinetuningRun, step: int) -> float:
    """Return how long a whole step takes."""
    started = time.perf_counter()
    made = run.make_step(step)
    run.engine.step(step, made.batches, made.n_targets)[0].item()
    return time.perf_counter() - started


def main() -> None:
    """Time the models asked for and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="GUE's folder")
    parser.add_argument("--task", default="mouse/0")
    parser.add_argument("--models", default="tiny,logo")
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    data = arguments.data / shipped("gue").task(arguments.task).path
    rows = []
    with tempfile.TemporaryDirectory(prefix="ways-") as scratch:
        for model in arguments.models.split(","):
            opened(model, data, "augment", Path(scratch) / "first")  # compiles
            runs, loading = zip(*(opened(model, data, rc, Path(scratch) / rc) for rc in WAYS), strict=True)
            taken: dict[str, list[float]] = {rc: [] for rc in WAYS}
            for step in range(1, WARM_UP + arguments.steps + 1):
                pairs = list(zip(WAYS, runs, strict=True))
                for rc, run in pairs if step % 2 else reversed(pairs):
                    seconds = seconds_of(run, step)
                    if step > WARM_UP:
                        taken[rc].append(seconds)
            ratios = [b / a for a, b in zip(taken["none"], taken["augment"], strict=True)]
            ms = [1000 * median(taken[rc]) for rc in WAYS]
            change = 100 * (median(ratios) - 1)
            least = 100 * (min(taken["augment"]) / min(taken["none"]) - 1)
            rows.append(
                [
                    *(model, f"{ms[0]:.1f}", f"{ms[1]:.1f}", f"{change:+.1f} %", f"{least:+.1f} %"),
                    *(f"{seconds:.2f}" for seconds in loading),
                ]
            )
    Console().table(
        f"{arguments.task}, {arguments.steps} steps of each in turn; torch {torch.__version__},"
        f" {torch.get_num_threads()} threads",
        [
            "model",
            "none, ms",
            "augment, ms",
            "median ratio of pairs",
            "of the fastest",
            "loading none, s",
            "augment, s",
        ],
        rows,
    )


if __name__ == "__main__":
    main()
