"""The real human sequence that ships with the package: 210 kb of GRCh38 chromosome 16 (data/README.md)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

BUNDLED = "hg38_chr16_186964_397118.fa.gz"
# data/README.md: what precedes its first base on the chromosome.
BASES_BEFORE = 186_963


def bundled_fasta() -> Path:
    """Return where it lies."""
    return Path(str(files("cmgems_cli") / "data" / BUNDLED))
