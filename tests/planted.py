"""A planted truth: a classifier, fine-tuned by the command itself, of sequences with a motif on either strand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.command_line import CommandLine

MOTIF = "TGACTCAGCA"
LENGTH = 60

# Some hundred thousand weights: 6-mers of the motif are rare elsewhere, so that few steps are enough.
SHAPE = {
    "model_type": "bert",
    "vocab_size": 4101,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
RECIPE = {
    "max-steps": 60,
    "global-batch": 32,
    "lr": "1e-2",
    "warmup-steps": 5,
    "pool": "mean",
    "dropout": 0,
    "eval-every": 60,
}

_COMPLEMENT = str.maketrans("ACGT", "TGCA")


def other_strand(letters: str) -> str:
    return letters.translate(_COMPLEMENT)[::-1]


def background(draw: np.random.Generator, length: int) -> str:
    """Return random letters without the motif."""
    while True:
        letters = "".join(draw.choice(list("ACGT"), length).tolist())
        if MOTIF not in letters and other_strand(MOTIF) not in letters:
            return letters


def plant(letters: str, at: int, motif: str = MOTIF) -> str:
    return letters[:at] + motif + letters[at + len(motif) :]


def write_task(folder: Path, rows: dict[str, int], seed: int = 1) -> Path:
    """Write train, dev and test: every second sequence has the motif, at any place, on either strand."""
    draw = np.random.default_rng(seed)
    folder.mkdir()
    for split, n in rows.items():
        lines = ["sequence,label"]
        for row in range(n):
            letters = background(draw, LENGTH)
            if row % 2:
                at = int(draw.integers(0, LENGTH - len(MOTIF) + 1))
                letters = plant(letters, at, MOTIF if draw.integers(2) else other_strand(MOTIF))
            lines.append(f"{letters},{row % 2}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


def planted_classifier(folder: Path) -> Path:
    """Fine-tune a small model, from random weights, to find the motif; return its folder, in the new `folder`."""
    folder.mkdir()
    (folder / "shape").mkdir()
    (folder / "shape" / "config.json").write_text(json.dumps(SHAPE))
    task = write_task(folder / "task", {"train": 2000, "dev": 100, "test": 200})
    out = folder / "classifier"
    recipe = [word for name, value in RECIPE.items() for word in (f"--{name}", value)]
    words = ("--init", "random", "--out", out, "--device", "cpu", "--precision", "fp32", "--json")
    stats = CommandLine()("finetune", folder / "shape", task, *recipe, *words).json["stats"]
    assert stats["accuracy"] > 0.97, stats
    return out
