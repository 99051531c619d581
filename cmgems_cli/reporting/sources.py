"""What a report is made from: finished artifacts and published columns, each with a tag to cite it by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cmgems_cli.artifacts import MADE_BY, Manifest, is_finished, read_manifest
from cmgems_cli.comparing.pairing import PAPER, Source, read_source
from cmgems_cli.errors import InputError

# The kind of a published column, beside the kinds of artifacts.
PUBLISHED = "paper"

# Where a workspace keeps what a report can show (`workspace`), in the order of the pipeline.
PLACES = ("corpus", "pmi", "models/*", "finetuned/*", "scores/*")


@dataclass(frozen=True)
class Run:
    """One source of numbers.

    Attributes
    ----------
    tag : str
        R1, R2, … in the order given.
    named : str
        What the user wrote: a folder or paper:NAME.
    label : str
        What pictures and tables call it: the folder's or the model's name; unique among runs of a kind.
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
        """Tell whether these are scores of a model that was not pretrained."""
        made = self.manifest
        return made is not None and (made.params.get("init") == "random" or "model" not in made.inputs)


def read_runs(named: Sequence[str]) -> list[Run]:
    """Open what a user named, each once.

    Parameters
    ----------
    named : sequence of str
        Folders of finished artifacts of any kind, and paper:NAME for published columns.

    Raises
    ------
    InputError
        If one is not there, unfinished or damaged, or a name is not published.
    """
    runs: list[Run] = []
    seen: set[str] = set()
    for name in named:
        identity = name if name.startswith(PAPER) else str(Path(name).resolve())
        if identity not in seen:
            seen.add(identity)
            runs.append(_read(name, f"R{len(runs) + 1}"))
    counts = Counter((run.kind, run.label, _bench(run)) for run in runs)
    return [
        run
        if counts[run.kind, run.label, _bench(run)] == 1
        else replace(run, label=f"{run.label} ({run.named})")
        for run in runs
    ]


def runs_of_workspace(workspace: Path) -> list[str]:
    """Return the folders of all finished artifacts that a report can show, in the order of the pipeline.

    Raises
    ------
    InputError
        If there is none.
    """
    found = [str(path) for place in PLACES for path in sorted(workspace.glob(place)) if is_finished(path)]
    if not found:
        raise InputError(
            f"{workspace} holds no finished artifact; name the folders to report on, or make one with"
            f" `{MADE_BY['model']}` or `{MADE_BY['scores']}`"
        )
    return found


def _read(named: str, tag: str) -> Run:
    if named.startswith(PAPER):
        source = read_source(named)
        return Run(tag, named, f"{PAPER} {source.model}", PUBLISHED, None, source)
    manifest = read_manifest(Path(named))
    label = Path(named).resolve().name
    if manifest.kind != "scores":
        return Run(tag, named, label, manifest.kind, manifest)
    run = Run(tag, named, label, manifest.kind, manifest, read_source(named))
    assert run.source is not None
    return replace(
        run, label=f"{run.source.model} (random weights)" if run.from_random_weights else run.source.model
    )


def _bench(run: Run) -> str:
    """Scores of one model on two benchmarks may share its name."""
    return str(run.manifest.params.get("bench", "")) if run.manifest else ""
