"""The Python API of the stages: what the commands do, as functions that return the folder they have written.

A stage whose output is there already, made with the same parameters and inputs, has nothing to do. Folders that are not
given are those of the workspace, as for the commands.
"""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cmgems_cli import workspace
from cmgems_cli.artifacts import Manifest, is_finished, read_manifest
from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.errors import UsageError
from cmgems_cli.extras import need
from cmgems_cli.genome.preparation_options import PreparationOptions
from cmgems_cli.option_fields import options_of, value_check
from cmgems_cli.pmi import Definition
from cmgems_cli.training.observer import Observer
from cmgems_cli.training.pretrain_options import PretrainingOptions
from cmgems_cli.workspace import Place


@dataclass(frozen=True)
class Artifact(os.PathLike[str]):
    """A folder that a stage has written. Functions that take a folder take this too.

    Attributes
    ----------
    folder : Path
    manifest : Manifest
        How it was made: `kind`, `params`, `inputs`, `stats`, `digest`.
    """

    folder: Path
    manifest: Manifest

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def stats(self) -> dict[str, Any]:
        """Counts and results of the stage; of a classifier its test scores too."""
        return self.manifest.stats

    def __repr__(self) -> str:
        return f"<{self.manifest.kind}: {self.folder}>"


def prepare_genome(
    fasta: Place | Sequence[Place], out: Place | None = None, *, overwrite: bool = False, **options: Any
) -> Artifact:
    """Cut a genome into training sequences, as `cmgems prepare-genome`.

    Parameters
    ----------
    fasta : path, or sequence of paths
        Plain, gzip or bgzip.
    out : path, optional
        The folder to write.
    overwrite : bool, default False
        Replace a different corpus at `out`.
    **options
        contigs, prefix, max_tokens, min_tokens, full_share, valid_share, k and seed, as the command's.

    Raises
    ------
    UsageError, InputError, OverwriteError
        If an option is unknown or out of range, the input is not FASTA of DNA, or something different is at `out`.
    """
    from cmgems_cli.genome import preparation

    chosen = _checked(PreparationOptions, options)
    folder = Path(out or workspace.corpus_folder())
    files = [fasta] if isinstance(fasta, str | os.PathLike) else fasta
    return Artifact(
        folder,
        preparation.prepare_genome([Path(one) for one in files], folder, overwrite=overwrite, **vars(chosen)),
    )


def build_pmi(
    corpus: Place | None = None,
    out: Place | None = None,
    *,
    definition: Definition = "paper",
    min_count: int = 101,
    k: int | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Rank all k-mers of a corpus by normalised PMI, as `cmgems build-pmi`; `load_ranking` reads the result.

    Parameters
    ----------
    corpus, out : path, optional
        The folder of `prepare_genome`, and the one to write.
    definition : paper or released
    min_count : int, default 101, occurrences
        Rarer k-mers are unranked.
    k : int, optional
        Bases per k-mer; by default that of the corpus.
    overwrite : bool, default False

    Raises
    ------
    UsageError, InputError, OverwriteError
        If a parameter is out of range, the corpus is missing or too small, or something different is at `out`.
    """
    from cmgems_cli.genome.corpus import Corpus
    from cmgems_cli.pmi import stage

    folder = Path(out or workspace.pmi_folder())
    source = Corpus.open(Path(corpus or workspace.corpus_folder()))
    return Artifact(
        folder,
        stage.build_pmi(source, folder, k=k, definition=definition, min_count=min_count, overwrite=overwrite),
    )


def pretrain(
    corpus: Place | None = None,
    pmi: Place | None = None,
    out: Place | None = None,
    *,
    device: str = "auto",
    resume: bool = True,
    overwrite: bool = False,
    observer: Observer | None = None,
    **options: Any,
) -> Artifact:
    """Pretrain a model by masking k-mers, as `cmgems pretrain`; `load_model` and transformers open the result.

    Parameters
    ----------
    corpus, pmi, out : path, optional
        Folders of `prepare_genome` and `build_pmi`, and the one to write. Strategies without ranks do without `pmi`.
    device : str, default "auto"
        auto (CUDA if available), cpu, cuda or cuda:N.
    resume : bool, default True
        Resume a stopped run from its checkpoint.
    overwrite : bool, default False
    observer : Observer, optional
        Its methods are called with every step and evaluation.
    **options
        model, strategy, steps, global_batch, learning_rate, mask_rate, eval_every, switch_threshold, precision, seed
        and the others of the command, by the names of `PretrainingOptions`.

    Raises
    ------
    UsageError, InputError, OverwriteError
        If an option is unknown or out of range, an input does not fit, or something different is at `out`.
    Interrupted
        On Ctrl-C, after a checkpoint was saved.
    """
    from cmgems_cli.masking import WITHOUT_RANKS
    from cmgems_cli.pmi.ranking import origin_note
    from cmgems_cli.training import pretrain_run
    from cmgems_cli.training.build import build_pretraining_run
    from cmgems_cli.training.processes import start_processes

    chosen = _checked(PretrainingOptions, options)
    folder = Path(corpus or workspace.corpus_folder())
    ranks: Path | None = Path(pmi or workspace.pmi_folder())
    if pmi is None and chosen.strategy in WITHOUT_RANKS and not is_finished(workspace.pmi_folder()):
        ranks = None
    target = Path(out or workspace.model_folder(chosen.model, chosen.strategy))
    run = build_pretraining_run(folder, ranks, target, chosen, start_processes(device))
    if ranks and (note := origin_note(ranks, read_manifest(ranks, "pmi"), folder, read_manifest(folder))):
        warnings.warn(note, stacklevel=2)
    return Artifact(target, pretrain_run.pretrain(run, resume=resume, overwrite=overwrite, observer=observer))


def finetune(
    model: Place,
    data: Place,
    out: Place | None = None,
    *,
    shots: int | None = None,
    init: Literal["random"] | None = None,
    seed: int = 42,
    device: str = "auto",
    resume: bool = True,
    overwrite: bool = False,
    observer: Observer | None = None,
    **options: Any,
) -> Artifact:
    """Fine-tune a model on labelled sequences and test it once, as `cmgems finetune`.

    Parameters
    ----------
    model : path or str
        A model's folder, or dnabert, logo or tiny, which have random weights.
    data : path
        A folder with train, dev and test.csv, or a few-shot TSV.
    out : path, optional
        The folder to write; `load_model` opens it.
    shots : int, optional
        Rows per class to draw.
    init : random, optional
        Start from random weights instead of the model's.
    seed : int, default 42
    device, resume, overwrite, observer
        As in `pretrain`.
    **options
        epochs, max_steps, learning_rate, warmup_steps, global_batch, pool, rc, freeze, lora, class_weights and the
        others of the command, by the names of `FinetuneOptions`. By default as published for the task.

    Raises
    ------
    UsageError, InputError, OverwriteError, Interrupted
        As in `pretrain`.
    """
    from cmgems_cli.bench.build import Finetuner
    from cmgems_cli.datasets.task_files import find_task
    from cmgems_cli.metrics import score
    from cmgems_cli.modeling.model_source import ModelSource, check_order
    from cmgems_cli.training import classifier_run
    from cmgems_cli.training.processes import start_processes

    chosen = _checked(FinetuneOptions, options)
    check_order(os.fspath(model), Path(data), "data")
    task = find_task(Path(data), shots)
    source = ModelSource(os.fspath(model), init)
    target = Path(out or workspace.finetuned_folder(source.name + chosen.suffix, task.label))
    run = Finetuner(source, chosen, start_processes(device)).build_finetuning_run(task, target, seed)
    return Artifact(
        target,
        classifier_run.finetune(run, score, resume=resume, overwrite=overwrite, observer=observer),
    )


def evaluate(
    model: Place,
    bench: Place = "gue",
    out: Place | None = None,
    *,
    data: Place | None = None,
    tasks: str | Sequence[str] | None = None,
    shots: Sequence[int | None] | None = None,
    seeds: Sequence[int] | None = None,
    init: Literal["random"] | None = None,
    baseline: Place | None = None,
    kmer_linear: bool = True,
    device: str = "auto",
    resume: bool = True,
    overwrite: bool = False,
    run_done: Callable[[str], None] = lambda name: None,
    **options: Any,
) -> Artifact:
    """Fine-tune and test a model on every task of a benchmark, as `cmgems evaluate`; `read_scores` reads the result.

    Runs are done one after the other; the command does several at a time.

    Parameters
    ----------
    model : path or str
        As in `finetune`, or kmer-linear, the logistic regression on k-mer counts.
    bench : str or path, default "gue"
        A benchmark that ships with cmgems, a TOML file, or a folder of task folders.
    out, data : path, optional
        The folder to write, and that of the benchmark's data.
    tasks : str, or sequence of str, optional
    shots : sequence of int or None, optional
        Rows per class; None: all rows.
    seeds : sequence of int, optional
        One run for each.
    init : random, optional
    baseline : path, optional
        Scores of random weights to show next to the model's.
    kmer_linear : bool, default True
        Also score kmer-linear.
    device, resume, overwrite
        As in `pretrain`.
    run_done : callable, optional
        Called with the name of each run after it.
    **options
        As in `finetune`.

    Raises
    ------
    UsageError, InputError, OverwriteError, Interrupted
        As in `pretrain`.
    """
    from cmgems_cli.bench.baselines import Trainer, usual_baseline
    from cmgems_cli.bench.build import Finetuner
    from cmgems_cli.bench.evaluation import Evaluation
    from cmgems_cli.bench.grids import Cell, build_grid
    from cmgems_cli.bench.kmer_linear import KmerLinear
    from cmgems_cli.comparing.scores import KMER_LINEAR
    from cmgems_cli.datasets.benchmark_file import find_benchmark
    from cmgems_cli.modeling.model_source import ModelSource
    from cmgems_cli.training.processes import start_processes

    chosen = _checked(FinetuneOptions, options)
    source = ModelSource(os.fspath(model), init)
    name = source.name + chosen.suffix
    benchmark = find_benchmark(os.fspath(bench))
    root = Path(data) if data else benchmark.root or workspace.benchmark_folder(benchmark.name)
    wanted = tasks if tasks is None or isinstance(tasks, str) else ",".join(tasks)
    grid = build_grid(benchmark, root, tasks=wanted, shots=shots, seeds=seeds)
    target = Path(out or workspace.scores_folder(name, benchmark.name))
    processes = start_processes(device)
    is_linear = source.text == KMER_LINEAR
    if is_linear and (init or baseline or chosen.changes().keys() - {"problem"}):
        raise UsageError(
            f"{KMER_LINEAR} has no weights and no recipe; leave out `init`, `baseline` and the recipe"
        )
    linear = KmerLinear(processes, problem=chosen.problem)
    trainer: Trainer = linear if is_linear else Finetuner(source, chosen, processes)
    compared = None if is_linear else usual_baseline(source, chosen.suffix, benchmark.name, baseline)
    evaluation = Evaluation(
        grid, trainer, target, name, compared, linear if kmer_linear and not is_linear else None
    )

    @contextmanager
    def watch(cell: Cell, number: int, run: Any) -> Iterator[Observer]:
        yield Observer()
        run_done(str(cell))

    manifest = evaluation.complete(watch=watch, resume=resume, overwrite=overwrite)
    # None only while other processes still have shards to do.
    assert manifest is not None
    return Artifact(target, manifest)


def report(
    *runs: Place, out: Place | None = None, seed: int = 42, title: str | None = None, overwrite: bool = False
) -> Artifact:
    """Write one HTML page, and Markdown with pictures, of finished runs, as `cmgems report`.

    Parameters
    ----------
    *runs : path or str
        Folders of any stage, and paper:NAME; by default all of the workspace's. The last scores are compared with
        each of the others.
    out : path, optional
        The folder to write; the page is `report.html`.
    seed : int, default 42
        Of the resampling.
    title : str, optional
        First heading.
    overwrite : bool, default False

    Raises
    ------
    CmgemsError
        If matplotlib is missing, a run is unfinished or damaged, or something different is at `out`.
    """
    from cmgems_cli.reporting.document import TITLE
    from cmgems_cli.reporting.output import write_report
    from cmgems_cli.reporting.sources import read_runs, runs_of_workspace

    need("matplotlib", "plots", "a report with pictures")
    folder = Path(out or workspace.report_folder())
    opened = read_runs([os.fspath(run) for run in runs] or runs_of_workspace(workspace.workspace()))
    return Artifact(
        folder, write_report(opened, folder, seed=seed, title=title or TITLE, overwrite=overwrite)
    )


def _checked(kind: Any, given: dict[str, Any]) -> Any:
    """Return options of this class by field name, after checking that each exists and is in its range."""
    known = [one.name for one in fields(kind)]
    declared = options_of(kind)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name, value in values.items():
        if name not in known:
            by_flag = next((field for field, one in declared.items() if one.key == name), None)
            close = by_flag or next(iter(difflib.get_close_matches(name, known, n=1)), None)
            meant = f"did you mean {close}?" if close else f"there are {', '.join(known)}"
            raise UsageError(f"{name} is not an option; {meant}")
        if name in declared and value is not None:
            needed, fits = value_check(kind, name)
            if not fits(list(value) if isinstance(value, tuple) else value):
                raise UsageError(f"`{name}={value}`; needed {needed}")
    return kind(**values)
