"""What checking the content of files costs: the share of each stage's time that goes into hashing what it reads.

    python tests/benchmarks/verification.py genome.fa.gz GUE/mouse/2

Runs the stages in this process, with `tiny`, and times the hashing of input files. Compiled code and imports are loaded
by a first round on a shorter genome. `written` is the hashing of the stage's own files, which its manifest needs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cmgems
from cmgems_cli import artifacts
from cmgems_cli.genome.bundled import bundled_fasta

STEPS = 100


class Clock:
    """Seconds in `sha256_of_file`: of files that are read (through `_sha256_once`) and of files just written."""

    def __init__(self) -> None:
        self.read = self.written = 0.0
        hash_file, once = artifacts.sha256_of_file, artifacts._sha256_once

        def written(path: Path) -> str:
            started = time.perf_counter()
            found = hash_file(path)
            self.written += time.perf_counter() - started
            return found

        def read(path: Path) -> str:
            started, before = time.perf_counter(), self.written
            found = once(path)
            self.read += time.perf_counter() - started
            self.written = before
            return found

        artifacts.sha256_of_file, artifacts._sha256_once = written, read

    def stage(self, name: str, call: Callable[[], object], *, shown: bool) -> None:
        """Run a stage and print its line."""
        # Each stage is a process of its own, which has hashed nothing.
        artifacts._hashed.clear()
        self.read = self.written = 0.0
        started = time.perf_counter()
        call()
        seconds = time.perf_counter() - started
        if shown:
            share = f"{self.read / seconds:.2%}"
            print(f"{name:<20} {seconds:9.2f} {self.read:9.3f} {share:>8} {self.written:9.3f}", flush=True)


def stages(clock: Clock, fasta: Path, task: Path, folder: Path, *, shown: bool) -> None:
    """Run all stages in a folder."""
    corpus, pmi, model, classifier = (folder / name for name in ("corpus", "pmi", "model", "classifier"))
    steps = STEPS if shown else 2
    calls: dict[str, Callable[[], object]] = {
        "prepare-genome": lambda: cmgems.prepare_genome(fasta, corpus),
        "build-pmi": lambda: cmgems.build_pmi(corpus, pmi),
        f"pretrain, {steps} steps": lambda: cmgems.pretrain(
            corpus,
            pmi,
            model,
            model="tiny",
            strategy="cm-gems",
            steps=steps,
            global_batch=64,
            precision="fp32",
        ),
        "finetune": lambda: cmgems.finetune(model, task, classifier, epochs=1),
        "predict": lambda: cmgems.predict(cmgems.load_model(classifier), task / "test.csv"),
        "embed": lambda: cmgems.embed(cmgems.load_model(model), task / "test.csv"),
    }
    for name, call in calls.items():
        clock.stage(name, call, shown=shown)


def main() -> None:
    fasta, task = map(Path, sys.argv[1:])
    clock = Clock()
    print(f"{'stage':<20} {'seconds':>9} {'read':>9} {'share':>8} {'written':>9}")
    for shown in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            stages(clock, fasta if shown else bundled_fasta(), task, Path(folder), shown=shown)


if __name__ == "__main__":
    main()
