"""The runs of a report: finished artifacts and published columns, each with a tag to cite it by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cmgems_cli.artifacts import MADE_BY, Manifest, is_finished, read_manifest
from cmgems_cli.comparing.evaluated_runs import linear_scores
from cmgems_cli.comparing.pairing import PAPER, Source, from_random_weights, read_source, source_of_artifact
from cmgems_cli.comparing.scores import KMER_LINEAR, Score
from cmgems_cli.datasets.benchmark import Benchmark
from cmgems_cli.errors import InputError
from cmgems_cli.masking import INFO

# The kind of a published column, in addition to the kinds of artifacts.
PUBLISHED = "paper"

# Folders of a workspace that a report can show (`workspace`), in the order of the pipeline.
PLACES = ("corpus", "pmi", "models/*", "finetuned/*", "scores/*")


@dataclass(frozen=True)
class Run:
    """One artifact or published column of a report.

    Attributes
    ----------
    tag : str
        R1, R2, … in the order given.
    named : str
        What the user wrote: a folder or paper:NAME.
    label : str
        Its name in pictures and tables: the folder's or the model's; unique among runs of a kind.
    kind : str
        The artifact's, or `PUBLISHED`.
    manifest : Manifest or None
        None for a published column.
    source : Source or None
        Scores, of scores artifacts and published columns.
    """

    tag: str
    named: str
    label: str
    kind: str
    manifest: Manifest | None
    source: Source | None = None

    @property
    def folder(self) -> Path:
        """The artifact's folder."""
        return Path(self.named)

    @property
    def made(self) -> Manifest:
        """The manifest of a run that has one."""
        assert self.manifest is not None, self.named
        return self.manifest

    @property
    def from_random_weights(self) -> bool:
        """Whether these are scores of a model that was not pretrained."""
        return self.manifest is not None and from_random_weights(self.manifest)

    @property
    def benchmarks(self) -> dict[str, Benchmark]:
        """The benchmarks of its scores, by name."""
        return self.source.benchmarks() if self.source else {}

    def scores(self, bench: str) -> list[Score]:
        """Return its scores on a benchmark; empty if it has none."""
        return self.source.of(bench) if self.source else []

    def linear(self, bench: str) -> list[Score]:
        """Return the scores of `kmer-linear` that its evaluation made too; empty if it made none."""
        made = linear_scores(self.folder) if self.kind == "scores" else []
        return [score for score in made if score.bench == bench]


def benchmarks_of(runs: Sequence[Run]) -> dict[str, Benchmark]:
    """Return the benchmarks of all scores by name, in the order of the runs, published columns last."""
    # Published columns do not know what was recorded of a custom benchmark.
    ordered = sorted(runs, key=lambda run: run.kind == PUBLISHED)
    found: dict[str, Benchmark] = {}
    for run in ordered:
        for name, benchmark in run.benchmarks.items():
            found.setdefault(name, benchmark)
    return found


def read_runs(named: Sequence[str]) -> list[Run]:
    """Read the runs that a user named, each once.

    Parameters
    ----------
    named : sequence of str
        Folders of finished artifacts of any kind, and paper:NAME for published columns.

    Raises
    ------
    InputError
        If one does not exist, is unfinished or damaged, or a name is not published.
    """
    runs: list[Run] = []
    seen: set[str] = set()
    for name in named:
        identity = name if name.startswith(PAPER) else str(Path(name).resolve())
        if identity not in seen:
            seen.add(identity)
            runs.append(_read(name, f"R{len(runs) + 1}"))
    alike: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        alike.setdefault((run.kind, run.label, _bench(run)), []).append(run)
    endings = {
        run.tag: ending
        for same in alike.values()
        if len(same) > 1
        for run, ending in zip(same, endings_of([run.folder for run in same]), strict=True)
    }
    return [
        replace(run, label=f"{run.label} ({endings[run.tag]})") if run.tag in endings else run for run in runs
    ]


def endings_of(folders: Sequence[Path]) -> list[str]:
    """Return as many last parts of different paths as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(map(len, parts))):
        endings = ["/".join(one[-depth:]) for one in parts]
        if len(set(endings)) == len(endings):
            return endings
    return [str(folder) for folder in folders]


def runs_of_workspace(workspace: Path) -> list[str]:
    """Return the folders of all finished artifacts that a report can show, in the order of the pipeline.

    The last scores are the reference that the others are compared with. So scores are ordered by the role of their
    model, not by their folder: baselines, then pretrained models by strategy, curricula last.

    Raises
    ------
    InputError
        If there is no such artifact.
    """
    folders = [path for place in PLACES for path in sorted(workspace.glob(place)) if is_finished(path)]
    if not folders:
        raise InputError(
            f"{workspace} holds no finished artifact; name the folders to report on, or make one with"
            f" `{MADE_BY['model']}` or `{MADE_BY['scores']}`"
        )
    made = {path: read_manifest(path) for path in folders}
    strategies = {one.digest: one.params.get("strategy", "") for one in made.values() if one.kind == "model"}
    return [str(path) for path in sorted(folders, key=lambda path: _role(made[path], strategies))]


def _role(manifest: Manifest, strategies: Mapping[str, str]) -> tuple[bool, bool, bool, bool]:
    """Return what orders runs: whether they are scores, of a pretrained model, by ranks, in a curriculum."""
    is_baseline = manifest.params.get("model") == KMER_LINEAR or from_random_weights(manifest)
    strategy = INFO.get(strategies.get(manifest.inputs.get("model", ""), ""))
    return (
        manifest.kind == "scores",
        not is_baseline,
        strategy is not None and strategy.uses_ranks,
        strategy is not None and bool(strategy.made_of),
    )


def _read(named: str, tag: str) -> Run:
    if named.startswith(PAPER):
        source = read_source(named)
        return Run(tag, named, f"{PAPER} {source.model}", PUBLISHED, None, source)
    manifest = read_manifest(Path(named), verify=True)
    label = Path(named).resolve().name
    if manifest.kind != "scores":
        return Run(tag, named, label, manifest.kind, manifest)
    source = source_of_artifact(named, Path(named), manifest)
    label = f"{source.model} (random weights)" if from_random_weights(manifest) else source.model
    return Run(tag, named, label, manifest.kind, manifest, source)


def _bench(run: Run) -> str:
    """Return the benchmark: scores of one model on two of them may have one name."""
    return str(run.manifest.params.get("bench", "")) if run.manifest else ""
