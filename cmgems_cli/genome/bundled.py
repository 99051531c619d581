"""The real human sequence that ships with the package: 210 kb of GRCh38 chromosome 16 (data/README.md)."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

BUNDLED = "hg38_chr16_186964_397118.fa.gz"
# data/README.md: bases of the chromosome before its first base.
BASES_BEFORE = 186_963


def bundled_fasta() -> Path:
    """Return the path of the bundled FASTA file."""
    return Path(str(files("cmgems_cli") / "data" / BUNDLED))
