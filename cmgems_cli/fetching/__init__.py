"""Downloads of public data and weights. This module is light, so that commands can offer its names."""

from functools import cache
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "data" / "benchmarks"


@cache
def source_names() -> tuple[str, ...]:
    """Return what can be fetched: the genome, the shipped benchmarks that say where their data are, models."""
    named = [
        path.stem for path in sorted(BENCHMARKS.glob("*.toml")) if "\n[source]\n" in path.read_text("utf-8")
    ]
    return ("grch38", "gue", *named, "dnabert6", "model")
