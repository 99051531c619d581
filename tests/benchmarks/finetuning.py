"""Fine-tuning speed and quality: `cmgems finetune` beside a plain Hugging Face Trainer script.

    pip install accelerate            # the Trainer needs it, this package does not
    python tests/benchmarks/finetuning.py --data GUE [--task mouse/0] [--model logo] [--seeds 3]
    python tests/benchmarks/finetuning.py --data GUE --task h3-like      # sequences of 500 bases
    python tests/benchmarks/finetuning.py --data fewshot --grid --task prom-core,splice-40

Both train on the same rows from the same initial weights, the head's included (checked), by the task's
published recipe: AdamW, linear schedule, best model by dev loss, tested once. The peer (hf_trainer.py) runs
in fp32, its default, and pads each batch to its longest row; `--peers fp32,bf16` adds one under bf16
autocast. Orders of rows and draws of dropout differ, as they would between any two programs. What is timed
is whole processes, in turn, so that a machine whose speed drifts slows both.

`h3-like` is for when EMP's train split is not at hand: EMP/H3's dev and test rows, re-split.

`--grid` times one `cmgems evaluate` of a few-shot grid, its runs one at a time and several, against a
`cmgems finetune` process for every cell of it, and checks that both find the same accuracies; runs of several at
a time have fewer threads, which add in another order.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch

from cmgems_cli.comparing.scores import read_scores
from cmgems_cli.console import Console
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.datasets.loaded_task import load_task
from cmgems_cli.datasets.task_files import find_task, find_task_files
from cmgems_cli.genome.tokenization import OverlappingKmers
from cmgems_cli.genome.vocabulary import SPECIAL_POSITIONS
from cmgems_cli.modeling.classifier import SequenceClassifier, new_classifier
from cmgems_cli.modeling.classifier_files import save_classifier
from cmgems_cli.modeling.model_source import ModelSource

FIRST_SEED = 42
# Shares of the rows of `h3-like` that become train and dev, GUE's own proportions; the rest is test.
TRAIN_SHARE, DEV_SHARE = 0.8, 0.1


@dataclass
class Program:
    """One program and what its runs took and found."""

    name: str
    seconds: list[float] = field(default_factory=list)
    mcc: list[float] = field(default_factory=list)

    def run(self, command: list[str]) -> None:
        """Run once as a whole process, failing loudly; its last line of output is a JSON object."""
        elapsed_s, out = timed(command)
        found = json.loads(out.strip().splitlines()[-1])
        self.seconds.append(elapsed_s)
        self.mcc.append(100 * found.get("stats", found)["mcc"])


def timed(command: list[str]) -> tuple[float, str]:
    """Return the wall time of a whole process, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return time.perf_counter() - started, done.stdout


def cmgems(*arguments: object) -> list[str]:
    """Return a command line of this package."""
    return [sys.executable, "-m", "cmgems_cli", *map(str, arguments)]


def h3_like(data: Path, folder: Path) -> Path:
    """Write a task of 500-base sequences made of EMP/H3's dev and test rows; return its folder."""
    rows: list[dict[str, str]] = []
    for split in ("dev", "test"):
        with (data / "EMP" / "H3" / f"{split}.csv").open(newline="", encoding="utf-8") as stream:
            rows += csv.DictReader(stream)
    folder.mkdir()
    first, second = round(TRAIN_SHARE * len(rows)), round((TRAIN_SHARE + DEV_SHARE) * len(rows))
    for split, part in (("train", rows[:first]), ("dev", rows[first:second]), ("test", rows[second:])):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, ["sequence", "label"])
            writer.writeheader()
            writer.writerows(part)
    return folder


def initial_weights(model: str, n_labels: int, seed: int, folder: Path) -> Path:
    """Save the classifier both start from; refuse if `cmgems finetune` would start from another."""
    source = ModelSource(str(model))
    classifier = new_classifier(source, n_labels, seed=seed)
    folder.mkdir(parents=True)
    labels = [str(label) for label in range(n_labels)]
    save_classifier(folder, SequenceClassifier(classifier, source.tokenization), labels)
    again = new_classifier(ModelSource(str(folder)), n_labels, seed=seed)
    for (name, mine), theirs in zip(classifier.named_parameters(), again.parameters(), strict=True):
        if not torch.equal(mine, theirs):
            sys.exit(f"{folder}: {name} differs between the two programs' initial weights")
    return folder


def compare(arguments: argparse.Namespace, scratch: Path, console: Console) -> None:
    """Run all programs on one task and print the table."""
    if arguments.task == "h3-like":
        data = h3_like(arguments.data, scratch / "h3-like")
    else:
        data = arguments.data / shipped("gue").task(arguments.task).path
    loaded = load_task(
        find_task(data),
        {"max_steps": arguments.max_steps} if arguments.max_steps else {},
        tokenization=OverlappingKmers(6),
        positions=512,
    )
    recipe = loaded.recipe
    steps = recipe.total_steps(len(loaded.train))
    ours = Program("cmgems finetune")
    peers = [Program(f"HF Trainer, {precision}") for precision in arguments.peers.split(",")]
    for number in range(arguments.seeds):
        seed = FIRST_SEED + number
        init = initial_weights(arguments.model, len(loaded.label_names), seed, scratch / "init" / str(seed))
        out = scratch / "runs" / str(seed)
        limit = ["--max-steps", arguments.max_steps] if arguments.max_steps else []
        ours.run(
            cmgems(
                "finetune", init, data, "--seed", seed, "--out", out / "cmgems", "--json", "--quiet", *limit
            )
        )
        for peer in peers:
            peer.run(
                [
                    *(sys.executable, str(Path(__file__).with_name("hf_trainer.py")), str(init), str(data)),
                    *("--out", str(out / peer.name), "--seed", str(seed), "--steps", str(steps)),
                    *("--warmup-steps", str(recipe.warmup(steps)), "--eval-every", str(recipe.eval_every)),
                    *("--lr", str(recipe.learning_rate), "--weight-decay", str(recipe.weight_decay)),
                    *("--batch", str(recipe.global_batch)),
                    *("--max-length", str(recipe.max_tokens + SPECIAL_POSITIONS)),
                    *(["--bf16"] if peer.name.endswith("bf16") else []),
                ]
            )
        console.say(f"seed {seed}: " + ", ".join(f"{p.name} {p.seconds[-1]:.1f} s" for p in [*peers, ours]))
    base = median(peers[0].seconds)
    console.table(
        f"{arguments.task}, {arguments.model}: {steps:,} steps of {recipe.global_batch} from {len(loaded.train):,}"
        f" rows;"
        f" torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.seeds} seed(s)",
        ["program", "median s", "min", "max", "times as fast", "test MCC × 100", "each seed's"],
        [
            [
                program.name,
                f"{median(program.seconds):.1f}",
                f"{min(program.seconds):.1f}",
                f"{max(program.seconds):.1f}",
                f"{base / median(program.seconds):.2f}",
                spread(program.mcc),
                " ".join(f"{value:.2f}" for value in program.mcc),
            ]
            for program in [*peers, ours]
        ],
    )


def spread(values: list[float]) -> str:
    """Return mean ± sample standard deviation, which one value has not."""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


@dataclass
class Grid:
    """What an evaluation of the grid took, and the accuracy of every cell."""

    seconds: float
    accuracies: dict[tuple[str, int | None, int | None], float]


def compare_grid(arguments: argparse.Namespace, scratch: Path, console: Console) -> None:
    """Time one evaluation of a few-shot grid against a process for every cell, and print the table."""
    tasks = shipped("fewshot").selected(arguments.task)
    shots = [int(number) for number in arguments.shots.split(",")]
    seeds = [FIRST_SEED + number for number in range(arguments.seeds)]
    limit: list[Any] = ["--max-steps", arguments.max_steps] if arguments.max_steps else []
    grids: dict[str, Grid] = {}
    for jobs in dict.fromkeys([1, arguments.jobs]):
        out = scratch / f"grid-{jobs}"
        grid_s, _ = timed(
            cmgems(
                *("evaluate", arguments.model, "--bench", "fewshot", "--data", arguments.data),
                *("--tasks", ",".join(task.name for task in tasks), "--shots", arguments.shots),
                *("--seeds", ",".join(map(str, seeds)), "--jobs", jobs, "--out", out, "--quiet", *limit),
            )
        )
        name = f"cmgems evaluate --jobs {jobs}"
        console.say(f"{name}: {grid_s:.1f} s")
        accuracies = {
            (score.task, score.shots, score.seed): score.value
            for score in read_scores(out / "scores.csv")
            if score.metric == "accuracy"
        }
        grids[name] = Grid(grid_s, accuracies)
    one_at_a_time = next(iter(grids.values())).accuracies
    table, each_s = [], []
    for task in tasks:
        for number in shots:
            train = find_task_files(shipped("fewshot"), task, arguments.data, number).files["pool"]
            cells_s = []
            for seed in seeds:
                alone = scratch / "alone" / f"{task.name}-{number}-{seed}"
                one_s, printed = timed(
                    cmgems(
                        *("finetune", arguments.model, train, "--shots", number, "--seed", seed),
                        *("--out", alone, "--json", "--quiet", *limit),
                    )
                )
                cells_s.append(one_s)
                accuracy = json.loads(printed)["stats"]["accuracy"]
                if accuracy != one_at_a_time[task.name, number, seed]:
                    sys.exit(
                        f"{task.name}, {number} shots, seed {seed}: accuracy {accuracy} alone,"
                        f" {one_at_a_time[task.name, number, seed]} in the grid"
                    )
            each_s += cells_s
            console.say(f"{task.name}, {number} shots: {sum(cells_s):.1f} s in {len(seeds)} processes")
            table.append(
                [f"cmgems finetune, {task.name}, {number} shots", len(seeds), f"{sum(cells_s):.1f}", "", ""]
            )
    console.table(
        f"few-shot grid, {arguments.model}; torch {torch.__version__}, {torch.get_num_threads()} threads;"
        " with --jobs 1 equal accuracies in every cell",
        ["what", "processes", "seconds", "times as fast", "mean accuracy"],
        [
            *table,
            ["all of them", len(each_s), f"{sum(each_s):.1f}", "1.00", f"{mean(one_at_a_time.values()):.4f}"],
            *(
                [
                    *(name, 1, f"{grid.seconds:.1f}", f"{sum(each_s) / grid.seconds:.2f}"),
                    f"{mean(grid.accuracies.values()):.4f}",
                ]
                for name, grid in grids.items()
            ),
        ],
    )


def main() -> None:
    """Run the comparison asked for and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="GUE's folder, or the few-shot one")
    parser.add_argument("--task", default=None, help="mouse/0, tf/0, h3-like …; of a grid: a list")
    parser.add_argument("--model", default="logo", help="dnabert, logo, tiny (random weights) or a folder")
    parser.add_argument("--seeds", type=int, default=None, help="runs of each [3; of a grid: 10]")
    parser.add_argument("--max-steps", type=int, default=None)
    parser.add_argument("--peers", default="fp32", help="fp32, bf16 or both")
    parser.add_argument("--grid", action="store_true")
    parser.add_argument("--shots", default="10,50", help="of a grid")
    parser.add_argument("--jobs", type=int, default=torch.get_num_threads(), help="of a grid, beside 1")
    arguments = parser.parse_args()
    arguments.task = arguments.task or ("prom-core,splice-40" if arguments.grid else "mouse/0")
    arguments.seeds = arguments.seeds or (10 if arguments.grid else 3)
    with tempfile.TemporaryDirectory(prefix="finetuning-") as scratch:
        (compare_grid if arguments.grid else compare)(arguments, Path(scratch), Console())


if __name__ == "__main__":
    main()
