"""CPU seconds of one thread: frozen runs, and full fine-tuning from ten timed steps and a timed pass over dev.

python tests/benchmarks/frozen.py GUE mouse/0,tf/0
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from cmgems_cli.bench.build import Finetuner
from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.datasets.task_files import find_task
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.processes import start_processes

STEPS = 10


def main(data: Path, tasks: str) -> None:
    torch.set_num_threads(1)
    source, processes = ModelSource("tiny"), start_processes("cpu")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CMGEMS_WORKSPACE"] = folder
        for name in tasks.split(","):
            task, out = find_task(data / name), Path(folder) / name
            frozen = Finetuner(source, FinetuneOptions(precision="fp32", freeze=True), processes)
            run = frozen.build_finetuning_run(task, out / "frozen", 42)
            run.seconds_per_step()  # what is compiled or imported once
            started = time.process_time()
            run.outcome(Observer())
            frozen_s = time.process_time() - started
            full = Finetuner(source, FinetuneOptions(precision="fp32"), processes)
            other = full.build_finetuning_run(task, out / "full", 42)
            for step in range(1, STEPS + 3):
                if step == 3:
                    started = time.process_time()
                made = other.make_step(step)
                other.engine.step(step, made.batches, made.n_targets)[0].item()
            step_s = (time.process_time() - started) / STEPS
            started = time.process_time()
            other.evaluate(1, Observer())
            dev_s = time.process_time() - started
            passes = -(-other.steps // other.recipe.eval_every) + len(other.task.test) / len(other.task.dev)
            full_s = step_s * other.steps + dev_s * passes
            print(
                f"{name}: frozen {frozen_s:.1f} s, full {full_s:.1f} s, {full_s / frozen_s:.1f} x", flush=True
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
