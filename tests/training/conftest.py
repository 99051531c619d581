"""A small real corpus and its ranking, and a run of the tiny model on them."""

import os
import signal
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.preparation import prepare_genome
from cmgems_cli.pmi.stage import build_pmi
from cmgems_cli.training.build import build_pretraining_run
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.pretrain_options import PretrainingOptions
from cmgems_cli.training.pretrain_run import PretrainingRun
from cmgems_cli.training.processes import start_processes

FASTA = Path(str(files("cmgems_cli") / "data" / "hg38_chr16_186964_397118.fa.gz"))


class StopAfter(Observer):
    """Ends the run with a signal after some steps, never by default; records what it receives."""

    def __init__(self, steps: int = -1, number: int = signal.SIGINT) -> None:
        self.steps, self.number = steps, number
        self.warnings: list[str] = []
        self.resumed_after: list[int] = []

    def resumed(self, step: int) -> None:
        self.resumed_after.append(step)

    def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
        if record["step"] == self.steps:
            os.kill(os.getpid(), self.number)

    def warned(self, message: str) -> None:
        self.warnings.append(message)


# A run of the tiny model that takes a second.
SHORT: dict[str, Any] = {
    "strategy": "cm-gems",
    "model": "tiny",
    "steps": 8,
    "global_batch": 12,
    "max_batch_tokens": 128,
    "eval_every": 2,
    "eval_sequences": 16,
    "precision": "fp32",
}


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Corpus and PMI folders of 210 kb of human chromosome 16, in sequences of at most 30 tokens."""
    folder = tmp_path_factory.mktemp("inputs")
    prepare_genome([FASTA], folder / "corpus", max_tokens=30)
    build_pmi(Corpus.open(folder / "corpus"), folder / "pmi", min_count=20)
    return folder / "corpus", folder / "pmi"


@pytest.fixture
def make_run(inputs: tuple[Path, Path], tmp_path: Path) -> Callable[..., PretrainingRun]:
    """Return a function that opens a short run of the tiny model; keywords change its options."""

    def make(out: str = "model", **changed: Any) -> PretrainingRun:
        chosen = PretrainingOptions(**{**SHORT, **changed})
        return build_pretraining_run(inputs[0], inputs[1], tmp_path / out, chosen, start_processes("cpu"))

    return make
