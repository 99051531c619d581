"""Seconds per base of `cmgems explain`, and of `cmgems predict` on a FASTA file of all mutants of the same sequences.

    python tests/benchmarks/explaining.py [--model tiny] [--bases 70 300] [--sequences 8] [--repeats 3]

Both commands run in one process, in turn, once for nothing and then `--repeats` times; the fastest of each counts,
in CPU seconds of the process, which other programs on the machine disturb least. Weights are random: they do not
change the time. Both write their tables to files.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.modeling.classifier import SequenceClassifier, new_classifier
from cmgems_cli.modeling.classifier_files import save_classifier
from cmgems_cli.modeling.model_source import ModelSource
from tests.command_line import CommandLine

WITHOUT_TABLE = "without the table"


def make_classifier(folder: Path, name: str) -> None:
    """Write a classifier of two classes with random weights."""
    source = ModelSource.of(name) if hasattr(ModelSource, "of") else ModelSource(name, "random")
    folder.mkdir()
    files = save_classifier(
        folder, SequenceClassifier(new_classifier(source, 2), source.tokenization), ("0", "1")
    )
    finish_artifact(folder, "classifier", params={}, inputs={}, stats={}, files=files, environment={})


def write_fasta(path: Path, mutants: Path, bases: int, count: int) -> None:
    """Write random sequences, and all of them with all their single substitutions."""
    draw = np.random.default_rng(bases)
    with path.open("w") as sequences, mutants.open("w") as every:
        for number in range(count):
            text = "".join(draw.choice(list("ACGT"), bases).tolist())
            sequences.write(f">s{number}\n{text}\n")
            every.write(f">s{number}\n{text}\n")
            for at, letter in enumerate(text):
                for other in "ACGT":
                    if other != letter:
                        every.write(f">s{number}_{at}_{other}\n{text[:at]}{other}{text[at + 1 :]}\n")


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Return the CPU and the wall-clock seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--bases", type=int, nargs="+", default=[70, 300])
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), model {asked.model}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_classifier(folder / "model", asked.model)
        cmgems = CommandLine()
        for bases in asked.bases:
            write_fasta(folder / "in.fa", folder / "mutants.fa", bases, asked.sequences)
            words = ["--device", "cpu", "--quiet", "--overwrite"]
            runs = {
                "predict": lambda words=words: cmgems(
                    "predict", folder / "model", folder / "mutants.fa", "--out", folder / "p.tsv", *words
                ),
                "explain": lambda words=words: cmgems(
                    "explain", folder / "model", folder / "in.fa", "--out", folder / "e.tsv", *words
                ),
            }
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
            for repeat in range(asked.repeats + 1):
                for name, run in runs.items():
                    spent = seconds(run)
                    if repeat:
                        taken[name].append(spent)
            total = bases * asked.sequences
            cpu = {name: min(one[0] for one in values) for name, values in taken.items()}
            wall = {name: min(one[1] for one in values) for name, values in taken.items()}
            for name in runs:
                print(
                    f"{bases} bases, {name}: {1e3 * cpu[name] / total:.3f} ms of CPU per base,"
                    f" {1e3 * wall[name] / total:.3f} ms by the clock"
                )
            print(
                f"{bases} bases: explain is {cpu['predict'] / cpu['explain']:.2f} times as fast in CPU time,"
                f" {wall['predict'] / wall['explain']:.2f} times by the clock"
            )


if __name__ == "__main__":
    main()
