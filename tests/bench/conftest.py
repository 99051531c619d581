"""Few labelled rows in GUE's layout, and the command that evaluates the smallest model on them."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig

from cmgems_cli.bench.build import Finetuner
from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.datasets.task_files import find_task
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.processes import Processes
from tests.command_line import CommandLine

MakeRun = Callable[..., FinetuningRun]


def write_table(path: Path, count: int, seed: int, *, separator: str = ",") -> None:
    """Write `count` random sequences of 30 bases, every second of class 1."""
    draw = random.Random(seed)
    lines = [f"sequence{separator}label"]
    lines += [f"{''.join(draw.choices('ACGT', k=30))}{separator}{row % 2}" for row in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def gue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GUE folder with tf/0 and mouse/0, a few rows each; EMP/H3 lacks its train split."""
    root = tmp_path_factory.mktemp("data") / "GUE"
    for place, task in enumerate(("tf/0", "mouse/0")):
        for split, count in (("train", 40), ("dev", 12), ("test", 16)):
            write_table(root / task / f"{split}.csv", count, 100 * place + count)
    write_table(root / "EMP" / "H3" / "dev.csv", 4, 1)
    write_table(root / "EMP" / "H3" / "test.csv", 4, 1)
    return root


@pytest.fixture(scope="session")
def evaluate_tiny(cmgems: CommandLine) -> CommandLine:
    """Run `cmgems evaluate tiny` on the processor."""
    return cmgems.of("evaluate", "tiny", "--precision", "fp32", "--device", "cpu", "--no-kmer-linear")


ROWS = {"train": 22, "dev": 12, "test": 10}
SHORT: dict[str, Any] = {
    "max_steps": 6,
    "eval_every": 2,
    "warmup_steps": "1",
    "global_batch": 6,
    "learning_rate": 1e-2,
}


@pytest.fixture(scope="session")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 12 to 28 bases, one with an N; a quarter of them are of class 1."""
    folder, draw = tmp_path_factory.mktemp("ways") / "task", np.random.default_rng(1)
    folder.mkdir()
    for split, count in ROWS.items():
        rows = ["".join(draw.choice(list("ACGT"), draw.integers(12, 29))) for _ in range(count)]
        rows[1] = rows[1][:6] + "N" + rows[1][7:]
        lines = [f"{row},{int(number % 4 == 0)}" for number, row in enumerate(rows)]
        (folder / f"{split}.csv").write_text("\n".join(["sequence,label", *lines]) + "\n")
    return folder


@pytest.fixture(scope="session")
def small_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of an 8-wide BERT for 3-mers."""
    folder = tmp_path_factory.mktemp("small")
    shape = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    plain = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    BertConfig(vocab_size=69, max_position_embeddings=40, **shape, **plain).save_pretrained(folder)
    return folder


def small_runs(labelled: Path, small_bert: Path, folder: Path) -> MakeRun:
    """Return a function that opens a short run below a folder; keywords change its options."""

    def make(out: str = "out", *, model: Path | None = None, **changed: Any) -> FinetuningRun:
        processes = Processes(0, 1, torch.device("cpu"))
        source = ModelSource(str(model or small_bert), "random")
        finetuner = Finetuner(source, FinetuneOptions(precision="fp32", **{**SHORT, **changed}), processes)
        return finetuner.build_finetuning_run(find_task(labelled), folder / out, 7)

    return make


@pytest.fixture
def make_small_run(labelled: Path, small_bert: Path, tmp_path: Path) -> MakeRun:
    """Return a function that opens a short run; keywords change its options."""
    return small_runs(labelled, small_bert, tmp_path)
