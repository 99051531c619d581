"""Small finished artifacts of every kind, made by hand: what is in them is known to the last digit."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cmgems_cli.artifacts import Manifest, finish_artifact
from cmgems_cli.comparing.scores import Score, write_scores
from cmgems_cli.pmi.ranking import write_kmers
from cmgems_cli.reporting import plot_style
from tests.command_line import CommandLine

ENVIRONMENT = {
    "versions": {"python": "3.11.7", "cmgems": "0.1.0", "torch": "2.13.0"},
    "platform": "Linux-test",
    "command": ["cmgems", "pretrain", "--seed", "7"],
    "elapsed_s": 12.5,
    "finished_at": "2026-11-27T23:59:59Z",
    "device": "Card <9000>",
    "precision": "bf16",
    "processes": 1,
}


@pytest.fixture(scope="session", autouse=True)
def _small_pngs() -> Iterator[None]:
    """Pictures of few dots: drawing those of print is a third of the time of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot_style, "DPI", 50)
        yield


@pytest.fixture(scope="session")
def report(cmgems: CommandLine) -> CommandLine:
    return cmgems.of("report")


def make_model(
    folder: Path,
    *,
    strategy: str = "random",
    switched: int | None = None,
    corpus: str = "c" * 64,
    mask_rate: float = 0.15,
    steps: int = 40,
    level: float = 1000.0,
) -> Manifest:
    """Write a model whose perplexity falls from `level` by 10 an evaluation, one every ten steps."""
    folder.mkdir(parents=True)
    records = []
    for step in range(1, steps + 1):
        record: dict[str, Any] = {"step": step, "loss": 7.0, "strategy": strategy}
        if step % 10 == 0:
            record |= {"valid_perplexity": level - step, "valid_perplexity_active": level / 2 - step}
        records.append(record)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return finish_artifact(
        folder,
        "model",
        params={
            "eval_every": 10,
            "eval_sequences": 500,
            "global_batch": 250,
            "init": None,
            "k": 6,
            "learning_rate": 0.0004,
            "mask_rate": mask_rate,
            "model": "logo",
            "rank_by": "content",
            "seed": 7,
            "steps": steps,
            "strategy": strategy,
            "switch_threshold": "1%" if strategy == "cm-gems" else None,
            "validation_masks": "genemask",
            "warmup_steps": 2,
        },
        inputs={"corpus": corpus, "pmi": "d" * 64},
        stats={
            "parameters": 4_933_125,
            "steps": steps,
            "switched_at_step": switched,
            "eval_sequences": 366,
            "unigram_perplexity": 3032.6,
        },
        files=["metrics.jsonl"],
        environment=ENVIRONMENT,
    )


def make_pmi(folder: Path) -> Manifest:
    """Write a ranking of 3-mers, by token id; the last two are too rare."""
    folder.mkdir(parents=True)
    counts = np.arange(1000, 936, -1)
    npmi = np.linspace(0.5, -2.0, 64)
    npmi[-2:] = np.nan
    write_kmers(folder / "kmers.csv", 3, counts, npmi, npmi)
    return finish_artifact(
        folder,
        "pmi",
        params={"k": 3, "definition": "paper", "min_count": 101},
        inputs={},
        stats={"ranked": 62, "unranked": 2, "positions_counted": 61_984},
        files=["kmers.csv"],
        environment=ENVIRONMENT,
    )


def make_scores(
    folder: Path,
    values: dict[str, list[float]],
    *,
    model: str,
    pretrained: str | None = "e" * 64,
    bench: str = "gue",
    species: dict[str, str] | None = None,
    notes: str = "",
    **recorded: str,
) -> Manifest:
    """Write scores: task -> one value a seed, from seed 42 on."""
    folder.mkdir(parents=True)
    shots = 10 if bench == "fewshot" else None
    metrics = ("mcc", "accuracy", "f1")
    of = species or {}
    rows = [
        Score(bench, task, of.get(task, "human"), shots, 42 + i, metric, value, 100, 10, model, notes)
        for task, column in values.items()
        for i, value in enumerate(column)
        for metric in metrics
    ]
    write_scores(folder / "scores.csv", rows)
    (folder / "report.md").write_text("# report\n")
    return finish_artifact(
        folder,
        "scores",
        params={
            "bench": bench,
            **recorded,
            "model": model,
            "tasks": list(values),
            "shots": [10] if shots else [],
            "seeds": sorted({row.seed for row in rows if row.seed is not None}),
            "init": None,
        },
        inputs={"model": pretrained} if pretrained else {},
        stats={"runs": 1, "tasks": len(values), "missing_tasks": [], "collapsed_runs": 0},
        files=["scores.csv", "report.md"],
        environment=ENVIRONMENT,
    )


def make_classifier(
    folder: Path,
    *,
    bench: str | None = "gue",
    task: str | None = "tf/0",
    data: str | None = None,
    steps: int = 0,
) -> Manifest:
    """Write a classifier, with the metrics of this many steps: evaluated every ten, the second was the best."""
    folder.mkdir(parents=True)
    (folder / "predictions.csv").write_text("row,label,predicted\n")
    files = ["predictions.csv"]
    if steps:
        files.append("metrics.jsonl")
        records = [{"step": step, "loss": 1 / step} for step in range(1, steps + 1)]
        for record in records[9::10]:
            record["dev_loss"] = 0.5 if record["step"] == 20 else 0.6
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return finish_artifact(
        folder,
        "classifier",
        params={
            "bench": bench,
            "task": task,
            "shots": None,
            "seed": 7,
            "init": "random",
            "model": "logo",
            "keeps": "best",
            "steps": 30,
            "global_batch": 32,
            "learning_rate": 3e-5,
        },
        inputs={"train": "a" * 64},
        stats={
            "mcc": 0.6416,
            "accuracy": 0.815,
            "f1": 0.8133,
            "n_train": 32378,
            "n_test": 1000,
            "collapsed": False,
            "notes": ["train rows that repeat an earlier sequence: 8"],
            "best_step": 20 if steps else None,
        },
        files=files,
        environment={**ENVIRONMENT, **({"data": data} if data else {})},
    )


def make_corpus(folder: Path) -> Manifest:
    folder.mkdir(parents=True)
    (folder / "contigs.csv").write_text("contig\n")
    return finish_artifact(
        folder,
        "corpus",
        params={"k": 6, "max_tokens": 510, "seed": 42},
        inputs={},
        stats={"bases": 123_456, "sequences": 321, "valid_sequences": 32, "contigs": 1},
        files=["contigs.csv"],
        environment=ENVIRONMENT,
    )


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything: two models, a ranking, a corpus, three scores of three tasks, a classifier."""
    root = tmp_path_factory.mktemp("runs")
    make_corpus(root / "corpus")
    make_pmi(root / "pmi")
    make_model(root / "models" / "plain")
    switching = make_model(root / "models" / "switching", strategy="cm-gems", switched=20, level=900)
    make_classifier(root / "finetuned" / "sorter")
    scores = root / "scores"
    tasks = {"tf/0": "human", "tf/1": "human", "mouse/0": "mouse"}
    make_scores(
        scores / "a-blank",
        {"tf/0": [0.5, 0.52], "tf/1": [0.4, 0.42], "mouse/0": [0.3, 0.34]},
        model="logo",
        pretrained=None,
        species=tasks,
    )
    make_scores(
        scores / "b-plain",
        {"tf/0": [0.55, 0.57], "tf/1": [0.5, 0.52], "mouse/0": [0.3, 0.3]},
        model="plain",
        species=tasks,
        notes="train rows that repeat an earlier sequence: 8",
    )
    make_scores(
        scores / "c-switching",
        {"tf/0": [0.6, 0.64], "tf/1": [0.45, 0.47], "mouse/0": [0.4, 0.44]},
        model="switching",
        pretrained=switching.digest,
        species=tasks,
    )
    return root


@pytest.fixture(scope="session")
def every(runs: Path) -> list[str]:
    """The folders of `runs`, in the order of the pipeline."""
    places = ("corpus", "pmi", "models/*", "finetuned/*", "scores/*")
    return [str(path) for place in places for path in sorted(runs.glob(place))]


@pytest.fixture(scope="session")
def written(report: CommandLine, every: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of everything."""
    out = tmp_path_factory.mktemp("out") / "report"
    report(*every, "--out", out, "--quiet")
    return out


Reported = Callable[..., Path]


@pytest.fixture
def reported(report: CommandLine, tmp_path: Path) -> Reported:
    """Report on these folders and return where it is."""

    def run(*named: Path | str) -> Path:
        out = tmp_path / "report"
        report(*named, "--out", out, "--quiet")
        return out

    return run
