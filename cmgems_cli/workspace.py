"""Where each stage reads and writes when no path is given."""

import os
from pathlib import Path


def workspace() -> Path:
    """Return `$CMGEMS_WORKSPACE`, or `cmgems-work` in the current folder."""
    return Path(os.environ.get("CMGEMS_WORKSPACE") or "cmgems-work").expanduser()


def corpus_folder() -> Path:
    """Return where `prepare-genome` writes and later stages read."""
    return workspace() / "corpus"


def pmi_folder() -> Path:
    """Return where `build-pmi` writes and `pretrain` reads."""
    return workspace() / "pmi"


def model_folder(model: str, strategy: str) -> Path:
    """Return where `pretrain` writes: one folder per model and strategy."""
    return workspace() / "models" / f"{Path(model).name}-{strategy}"


def finetuned_folder(model: str, task: str) -> Path:
    """Return where `finetune` writes: one folder per model and task."""
    return workspace() / "finetuned" / f"{Path(model).name}-{task}"


def downloads_folder() -> Path:
    """Return where `fetch` puts what is only read once: the genome's FASTA."""
    return workspace() / "downloads"


def pretrained_folder(name: str) -> Path:
    """Return where `fetch` puts a published model: beside our own."""
    return workspace() / "models" / name


def fewshot_folder(name: str) -> Path:
    """Return where `build-fewshot` writes: one folder per data set."""
    return benchmark_folder("fewshot") / name


def scores_folder(model: str, bench: str) -> Path:
    """Return where `evaluate` writes: one folder per model and benchmark."""
    return workspace() / "scores" / f"{Path(model).name}-{bench}"


def report_folder() -> Path:
    """Return where `report` writes."""
    return workspace() / "report"


def benchmark_folder(bench: str) -> Path:
    """Return where `evaluate` looks for a benchmark's data."""
    return workspace() / "benchmarks" / bench
