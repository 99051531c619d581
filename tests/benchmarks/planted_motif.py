"""How much of the importance `cmgems explain` puts on a motif that a classifier was fine-tuned to find.

    python tests/benchmarks/planted_motif.py [--out FOLDER] [--model tiny] [--rows 4000] [--epochs 3]

Background: sequences of 70 bases from the bundled part of human chromosome 16, without N, drawn at random; every second
one gets TGACTCAGCA, or its reverse complement, at a random place. No sequence of the test overlaps one of train. From
random weights; the test's positives are explained. Two shares are printed, of all positives together:

- of the absolute importance: sum over the motif's ten bases of |importance|, by the sum over all bases;
- of the support: the same with max(importance, 0), what supports the class.

Importance of a base: minus the mean effect of its three substitutions on the log-odds of class 1, as in
docs/howto/explain.md.
"""

from __future__ import annotations

import argparse
import tempfile
from importlib.resources import files
from pathlib import Path

import numpy as np

from cmgems_cli import explain, load_model
from cmgems_cli.inference.record_readers import Source
from tests.command_line import CommandLine
from tests.planted import MOTIF, other_strand, plant

LENGTH = 70
FASTA = "hg38_chr16_186964_397118.fa.gz"


def chromosome() -> str:
    """Return the bundled sequence in upper case."""
    chunks = Source(Path(str(files("cmgems_cli") / "data" / FASTA))).chunks()
    return b"".join(chunk.letters for chunk in chunks).decode().upper()


def write_task(folder: Path, rows: int, seed: int) -> dict[str, int]:
    """Write train, dev and test, and the test's positives as FASTA; return where the motif is in each of these."""
    draw, genome = np.random.default_rng(seed), chromosome()
    thirds = {"train": (0.0, 0.7), "dev": (0.7, 0.8), "test": (0.8, 1.0)}
    folder.mkdir(parents=True)
    sites: dict[str, int] = {}
    positives = []
    for split, (low, high) in thirds.items():
        lines = ["sequence,label"]
        n = rows if split == "train" else 400
        while len(lines) <= n:
            start = int(draw.integers(int(low * len(genome)), int(high * len(genome)) - LENGTH))
            letters = genome[start : start + LENGTH]
            if "N" in letters or MOTIF in letters or other_strand(MOTIF) in letters:
                continue
            label = len(lines) % 2
            if label:
                at = int(draw.integers(0, LENGTH - len(MOTIF) + 1))
                letters = plant(letters, at, (MOTIF, other_strand(MOTIF))[int(draw.integers(2))])
                if split == "test" and len(positives) < 100:
                    name = f"chr16_{start}_motif_at_{at}"
                    sites[name] = at
                    positives.append(f">{name}\n{letters}\n")
            lines.append(f"{letters},{label}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    (folder / "positives.fa").write_text("".join(positives))
    return sites


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", default="1e-3")
    parser.add_argument("--seed", type=int, default=42)
    asked = parser.parse_args()
    folder = (asked.out or Path(tempfile.mkdtemp())) / f"{asked.model}-planted"
    sites = write_task(folder / "task", asked.rows, asked.seed)
    words = [
        "--epochs",
        asked.epochs,
        "--lr",
        asked.lr,
        "--init",
        "random",
        "--seed",
        asked.seed,
        "--device",
        "cpu",
    ]
    words += ["--out", folder / "classifier", "--json"]
    stats = CommandLine()("finetune", asked.model, folder / "task", *words).json["stats"]
    print(f"{folder}\naccuracy on the test: {stats['accuracy']:.4f}")
    model = load_model(folder / "classifier", device="cpu")
    found = explain(model, folder / "task" / "positives.fa")
    for name, of in (("absolute importance", np.abs), ("support", lambda one: np.maximum(one, 0))):
        on = [
            (
                float(of(one.importance[sites[one.row.name] :][: len(MOTIF)]).sum()),
                float(of(one.importance).sum()),
            )
            for one in found
        ]
        each = [a / b for a, b in on]
        print(
            f"share of the motif in the {name}: {sum(a for a, _ in on) / sum(b for _, b in on):.4f};"
            f" per sequence median {np.median(each):.4f}, lowest {min(each):.4f}"
        )


if __name__ == "__main__":
    main()
