"""The small tables of a study, from the manifests and scores of its artifacts. The Snakefile calls it.

python collect.py scores FOLDER OUT.csv             the scores of one evaluation, one row per run and metric
python collect.py pretraining FOLDER… OUT.csv       what the manifests say of pretrained models, one row per model
"""

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.comparing.evaluated_runs import RUNS
from cmgems_cli.comparing.grouping import key_of
from cmgems_cli.comparing.scores import SCORES, read_scores
from cmgems_cli.comparing.trials_table import CHOSEN, TRIALS, is_chosen
from cmgems_cli.errors import CmgemsError

METRICS = ("mcc", "accuracy", "auroc")


def write(out: Path, columns: list[str], rows: list[list[object]]) -> None:
    """Write a CSV; whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    with part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    part.replace(out)


def scores(folder: Path, out: Path) -> None:
    """Write the scores of the metrics above, and of a run of several trials what was chosen and its dev scores."""
    manifest = read_manifest(folder, "scores", verify=True)
    chosen = {}
    for name in manifest.inputs:
        if name.startswith(f"{RUNS}/"):
            stats = read_manifest(folder / name, verify=True).stats
            if CHOSEN in stats:
                one = read_scores(folder / name / SCORES)[0]
                chosen[key_of(one), one.seed] = choice(stats)
    rows: list[list[object]] = [
        [
            *(
                s.bench,
                s.task,
                "" if s.shots is None else s.shots,
                s.seed,
                s.metric,
                f"{s.value:.6f}",
                s.note,
            ),
            *chosen.get((key_of(s), s.seed), ("", "", "")),
        ]
        for s in read_scores(folder / SCORES)
        if s.metric in METRICS
    ]
    columns = ["bench", "task", "shots", "seed", "metric", "value", "note", "chosen", "dev_mcc", "dev_loss"]
    write(out, columns, rows)


def choice(stats: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the chosen values, and the dev MCC and dev loss that they were chosen by."""
    values = stats[CHOSEN]
    trial = next(trial for trial in stats[TRIALS] if is_chosen(trial, stats))
    said = ", ".join(f"{name} {value}" for name, value in values.items())
    return said, f"{trial['dev_mcc']:.6f}", f"{trial['dev_loss']:.6f}"


def pretraining(folders: list[Path], out: Path) -> None:
    """Write the settings and the outcome of each pretrained model."""
    rows: list[list[object]] = []
    for folder in folders:
        manifest = read_manifest(folder, "model", verify=True)
        params, stats = manifest.params, manifest.stats
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        perplexity = [line["valid_perplexity"] for line in lines if "valid_perplexity" in line][-1]
        masked = sum(line["masked_fraction"] for line in lines) / len(lines)
        rows.append(
            [
                folder.name,
                *(params.get(name) for name in PARAMS),
                *(stats.get(name) for name in STATS),
                f"{perplexity:.2f}",
                f"{masked:.4f}",
                manifest.digest[:12],
            ]
        )
    write(out, ["model", *PARAMS, *STATS, "perplexity", "masked", "digest"], rows)


PARAMS = ("strategy", "rank_by", "mask_rate", "steps", "global_batch", "seed")
STATS = ("sequences", "switched_at_step")


if __name__ == "__main__":
    what, *paths = sys.argv[1:]
    try:
        if what == "scores":
            scores(Path(paths[0]), Path(paths[1]))
        else:
            pretraining([Path(path) for path in paths[:-1]], Path(paths[-1]))
    except CmgemsError as error:
        sys.exit(f"error: {error}")
