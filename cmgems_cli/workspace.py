"""The default folders of each stage."""

import os
from pathlib import Path

# A folder or file as the Python API takes it; what a stage returns is one too.
Place = str | os.PathLike[str]


def workspace() -> Path:
    """Return `$CMGEMS_WORKSPACE`, or `cmgems-work` in the current folder."""
    return Path(os.environ.get("CMGEMS_WORKSPACE") or "cmgems-work").expanduser()


def corpus_folder() -> Path:
    """Return the folder that `prepare-genome` writes and later stages read."""
    return workspace() / "corpus"


def pmi_folder() -> Path:
    """Return the folder that `build-pmi` writes and `pretrain` reads."""
    return workspace() / "pmi"


def model_folder(model: str, strategy: str) -> Path:
    """Return the folder that `pretrain` writes, one per model and strategy."""
    return workspace() / "models" / f"{Path(model).name}-{strategy}"


def finetuned_folder(model: str, task: str) -> Path:
    """Return the folder that `finetune` writes, one per model and task."""
    return workspace() / "finetuned" / f"{Path(model).name}-{task}"


def embeddings_folder() -> Path:
    """Return the folder in which `--freeze` keeps embeddings of tasks, one folder per model and table."""
    return workspace() / "embeddings"


def downloads_folder() -> Path:
    """Return the folder for downloads that one stage reads: the genome's FASTA."""
    return workspace() / "downloads"


def pretrained_folder(name: str) -> Path:
    """Return the folder for a published model, next to the user's own models."""
    return workspace() / "models" / name


def fewshot_folder(name: str) -> Path:
    """Return the folder that `build-fewshot` writes, one per data set."""
    return benchmark_folder("fewshot") / name


def task_folder(name: str) -> Path:
    """Return the folder that `split` writes, one per table."""
    return workspace() / "tasks" / name


def scores_folder(model: str, bench: str) -> Path:
    """Return the folder that `evaluate` writes, one per model and benchmark."""
    return workspace() / "scores" / f"{Path(model).name}-{bench}"


def report_folder() -> Path:
    """Return the folder that `report` writes."""
    return workspace() / "report"


def benchmark_folder(bench: str) -> Path:
    """Return the folder of a benchmark's data."""
    return workspace() / "benchmarks" / bench
