"""`cmgems` alone: the pipeline at a glance, what the workspace holds of it, and the next command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmgems_cli import workspace
from cmgems_cli.artifacts import MANIFEST, Manifest, is_finished, read_manifest
from cmgems_cli.console import Console
from cmgems_cli.errors import InputError
from cmgems_cli.readable import counted

# Folders of one stage that are listed, the newest ones; a screen is 24 lines.
SHOWN = 3

DONE, BEGUN, DAMAGED, NOTHING = "✓", "…", "✗", "–"
STYLE = {DONE: "green", BEGUN: "yellow", DAMAGED: "red", NOTHING: "dim"}


@dataclass(frozen=True)
class Folder:
    """A folder of the workspace.

    Attributes
    ----------
    path : Path
    mark : str
        DONE, BEGUN or DAMAGED.
    words : str
        What is in it.
    stats : dict
        The manifest's, if it is done; else empty.
    params : dict
        Likewise.
    """

    path: Path
    mark: str
    words: str
    stats: dict[str, Any]
    params: dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A command of the pipeline, what it is for, and what it left in the workspace, newest first."""

    command: str
    purpose: str
    folders: tuple[Folder, ...]

    @property
    def done(self) -> tuple[Folder, ...]:
        """Those that are finished and intact."""
        return tuple(folder for folder in self.folders if folder.mark == DONE)


def show_overview(console: Console) -> None:
    """Print the pipeline, the state of the workspace and the next command. Reads manifests only."""
    stages = stages_of_workspace()
    command, why = next_command(stages)
    lines: list[list[tuple[str, str]]] = [
        [("cmgems", "bold"), (": pretrain and benchmark DNA language models, from FASTA to statistics", "")],
        [(f"workspace: {workspace.workspace()}", "")],
        [],
    ]
    for number, stage in enumerate(stages, start=1):
        heading = (f"{number} {stage.command:<15}", "bold")
        if not stage.folders:
            lines.append([heading, (f"{NOTHING} ", STYLE[NOTHING]), (stage.purpose, "dim")])
        for at, folder in enumerate(stage.folders[:SHOWN]):
            start = (" " * len(heading[0]), "") if at else heading
            lines.append(
                [start, (f"{folder.mark} ", STYLE[folder.mark]), (f"{folder.path}: {folder.words}", "")]
            )
        if len(stage.folders) > SHOWN:
            more = f"and {len(stage.folders) - SHOWN} more in {stage.folders[0].path.parent}"
            lines.append([(" " * (len(heading[0]) + 2), ""), (more, "dim")])
    lines += [[], [("next: ", ""), (command, "bold")], [(f"      {why}", "dim")]]
    lines += [[("all commands: cmgems --help", "dim")]]
    console.lines(lines)


def stages_of_workspace() -> list[Stage]:
    """Return the stages with their artifacts in the workspace."""
    work = workspace.workspace()
    corpus, pmi = workspace.corpus_folder(), workspace.pmi_folder()
    return [
        Stage("prepare-genome", "FASTA → training sequences", _states([corpus], "corpus")),
        Stage("build-pmi", "k-mers ranked by NPMI", _states([pmi], "pmi")),
        Stage("pretrain", "a masked language model", _states(_folders(work / "models"), "model")),
        Stage(
            "finetune", "a classifier of your own task", _states(_folders(work / "finetuned"), "classifier")
        ),
        Stage("evaluate", "every task of a benchmark", _states(_folders(work / "scores"), "scores")),
    ]


def next_command(stages: list[Stage]) -> tuple[str, str]:
    """Return the next command of the pipeline, and what it does."""
    corpus, pmi, models, classifiers, scores = stages
    begun = next((folder for stage in stages for folder in stage.folders if folder.mark == BEGUN), None)
    if not corpus.done:
        fasta = workspace.downloads_folder() / "hg38.fa.gz"
        genome = fasta if fasta.is_file() else "GENOME.fa.gz"
        why = "your own FASTA, or the human genome by `cmgems fetch grch38`; to try all: `cmgems demo`"
        return f"cmgems prepare-genome {genome}", why
    if not pmi.done:
        return "cmgems build-pmi", "ranks the k-mers of the corpus: seconds"
    if begun:
        return f"the same cmgems command that began {begun.path}", "it resumes from its last checkpoint"
    if not models.done:
        return "cmgems pretrain --strategy cm-gems", "with --dry-run first: how long it would take here"
    model = models.done[0].path
    if not classifiers.done and not scores.done:
        return f"cmgems finetune {model} DATA", "DATA: a folder with train, dev and test.csv"
    if not scores.done:
        why = "DNA: FASTA, CSV or TSV; whole chromosomes with --window and --stride"
        return f"cmgems predict {classifiers.done[0].path} DNA", why
    newest = scores.done[0]
    rivals = [folder for folder in scores.done[1:] if _tasks(folder) == _tasks(newest)]
    if rivals:
        # The last is the reference, whatever was evaluated last.
        first, second = sorted((rivals[0], newest), key=lambda folder: not _is_baseline(folder))
        return (
            f"cmgems ttest {first.path} {second.path}",
            "test whether the difference between the two is significant",
        )
    why = "the same options from random weights: the gain from pretraining"
    return f"cmgems evaluate {model} --init random --bench {newest.params['bench']}", why


def _is_baseline(scores: Folder) -> bool:
    return scores.params.get("init") == "random" or scores.params.get("model") == "kmer-linear"


def _tasks(scores: Folder) -> tuple[Any, ...]:
    return tuple(scores.params.get(name) for name in ("bench", "tasks", "shots"))


def _folders(parent: Path) -> list[Path]:
    """Return the folders in `parent`, newest first; names that start with a dot are work in progress."""
    if not parent.is_dir():
        return []
    there = [path for path in parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(there, key=lambda path: (-path.stat().st_mtime, path.name))


def _states(folders: list[Path], kind: str) -> tuple[Folder, ...]:
    return tuple(state for folder in folders for state in _state(folder, kind))


def _state(folder: Path, kind: str) -> Iterator[Folder]:
    if is_finished(folder):
        try:
            manifest = read_manifest(folder, kind)
            words = _words(manifest)
        except InputError as error:
            yield Folder(folder, DAMAGED, str(error), {}, {})
        except (KeyError, TypeError, ValueError, OverflowError):
            yield Folder(folder, DAMAGED, f"{folder / MANIFEST} lacks the usual stats; make it again", {}, {})
        else:
            yield Folder(folder, DONE, words, manifest.stats, manifest.params)
    elif words := progress_of(folder):
        yield Folder(folder, BEGUN, words, {}, {})
    elif (folder / "config.json").is_file():
        yield Folder(folder, DONE, "weights from elsewhere", {}, {})


def progress_of(folder: Path) -> str:
    """Describe the progress of an unfinished run; empty if the folder holds none."""
    names = (path.name.removeprefix("step_") for path in folder.glob("checkpoints/step_*"))
    steps = [int(name) for name in names if name.isdecimal() and name.isascii()]
    if steps:
        return f"unfinished, saved after step {max(steps):,}"
    runs = [path for path in folder.glob("runs/*-seed-*") if path.is_dir()]
    if runs:
        return f"unfinished, {sum(map(is_finished, runs))} run(s) done"
    return "unfinished" if (folder / "metrics.jsonl").is_file() else ""


def _words(manifest: Manifest) -> str:
    """Describe a finished artifact in a few words."""
    stats, params = manifest.stats, manifest.params
    if manifest.kind == "corpus":
        return f"{stats['sequences']:,} sequences from {stats['bases']:,} bases"
    if manifest.kind == "pmi":
        return f"{stats['ranked']:,} {params['k']}-mers ranked"
    if manifest.kind == "model":
        at = stats.get("switched_at_step")
        return f"{stats['steps']:,} steps" + (f", switched after {at:,}" if at else "")
    if manifest.kind == "classifier":
        return f"test {', '.join(_scores(stats)[:2])}"
    return ", mean ".join(
        [f"{counted(stats['runs'], 'run')} of {params['bench']}", *_scores(stats, "mean_")[:1]]
    )


def _scores(stats: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the metrics that are shown, as they are printed."""
    from cmgems_cli.comparing.scores import as_printed
    from cmgems_cli.metrics import METRICS

    found = [(metric, stats[prefix + name]) for name, metric in METRICS.items() if prefix + name in stats]
    return [f"{one.printed_title} {as_printed(value, one.name)}" for one, value in found if one.shown]
