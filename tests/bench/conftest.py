"""Few labelled rows in GUE's layout, and the command that evaluates the smallest model on them."""

import random
from pathlib import Path

import pytest

from tests.command_line import CommandLine


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
