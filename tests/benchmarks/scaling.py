"""Scaling on a CPU: pretraining by processes of one thread each, beside one process with as many threads.

    python tests/benchmarks/scaling.py CORPUS PMI [--models logo] [--processes 2] [--sequences 64] [--rounds 3]

Both train on the same steps; the two take turns, so that a machine whose speed drifts slows both. Timed are
steps as `cmgems pretrain` takes them: masking, forward and backward, reducing gradients, the optimizer. The
first two steps of each run warm up.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

WARM_UP = 2


def worker(arguments: argparse.Namespace) -> None:
    """Train, as one of the processes; the first prints real tokens a second over all of them."""
    from cmgems_cli.training.build import build_pretraining_run
    from cmgems_cli.training.pretrain_options import PretrainingOptions
    from cmgems_cli.training.processes import start_processes, stop_processes

    options = PretrainingOptions(
        strategy="cm-gems",
        model=arguments.models,
        global_batch=arguments.sequences,
        precision=arguments.precision,
        eval_sequences=8,
    )
    processes = start_processes("cpu")
    run = build_pretraining_run(arguments.corpus, arguments.pmi, Path("unused"), options, processes)
    tokens = 0
    for step in range(1, WARM_UP + arguments.steps + 1):
        if step == WARM_UP + 1:
            processes.barrier()
            started, tokens = time.perf_counter(), 0
        made = run.make_step(step)
        run.engine.step(step, made.batches, made.n_targets)[0].item()
        tokens += made.n_tokens
    if processes.is_main:
        print(tokens / (time.perf_counter() - started))
    stop_processes()


def rate(arguments: argparse.Namespace, model: str, processes: int, threads: int) -> float:
    """Return the real tokens/s of a run of its own."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    options = [f"--{name}={getattr(arguments, name)}" for name in ("sequences", "steps", "precision")]
    ran = subprocess.run(
        [
            *(torchrun if processes > 1 else [sys.executable]),
            *[__file__, str(arguments.corpus), str(arguments.pmi), "--worker", f"--models={model}", *options],
        ],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(ran.stdout.split()[-1])


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("pmi", type=Path)
    parser.add_argument("--models", default="logo")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sequences", type=int, default=64, help="sequences a step")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments)
        return
    from cmgems_cli.console import Console

    n, rows = arguments.processes, []
    for model in arguments.models.split(","):
        alone, together = [], []
        for _ in range(arguments.rounds):
            alone.append(rate(arguments, model, 1, n))
            together.append(rate(arguments, model, n, 1))
        for name, rates in ((f"1 process, {n} threads", alone), (f"{n} processes, 1 thread each", together)):
            span = f"{min(rates):,.0f} to {max(rates):,.0f}"
            rows.append([model, name, round(median(rates)), span, f"{median(rates) / median(alone):.2f}"])
    title = f"{arguments.sequences} sequences a step, {arguments.steps} steps, {arguments.rounds} rounds"
    Console().table(title, ["model", "run", "real tokens/s", "min to max", "ratio"], rows)


if __name__ == "__main__":
    main()
