"""`cmgems pretrain`: a corpus and a ranking become a model."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmgems_cli import workspace
from cmgems_cli.commands.training_progress import TrainingProgress
from cmgems_cli.console import Console
from cmgems_cli.options import PMI_FOLDER, TENSORBOARD, CorpusFolder, Shared, takes
from cmgems_cli.readable import named_rows
from cmgems_cli.training.pretrain_options import PretrainingOptions

if TYPE_CHECKING:
    from cmgems_cli.training.pretrain_run import PretrainingRun


@takes(
    "out seed device resume overwrite dry_run json quiet config", out="the workspace's models/MODEL-STRATEGY"
)
def pretrain(
    corpus: CorpusFolder = None,
    pmi: Path | None = PMI_FOLDER,
    tensorboard: bool = TENSORBOARD,
    *,
    options: PretrainingOptions,
    io: Shared,
) -> None:
    """Pretrain a model on a corpus by masking k-mers.

    Example: cmgems pretrain --strategy cm-gems --model logo --steps 1000

    Several GPUs: torchrun --nproc-per-node 8 -m cmgems_cli pretrain --strategy cm-gems
    """
    started = time.perf_counter()
    folder = corpus or workspace.corpus_folder()
    target = io.out or workspace.model_folder(options.model, options.strategy)
    from cmgems_cli.artifacts import is_finished, read_manifest
    from cmgems_cli.masking import WITHOUT_RANKS
    from cmgems_cli.pmi.ranking import origin_note

    masked = read_manifest(folder, "corpus")
    ranks: Path | None = pmi or workspace.pmi_folder()
    if pmi is None and options.strategy in WITHOUT_RANKS and not is_finished(workspace.pmi_folder()):
        ranks = None

    from cmgems_cli.training.build import build_pretraining_run
    from cmgems_cli.training.checkpoints import check_run_place
    from cmgems_cli.training.event_files import FOLDER as EVENTS
    from cmgems_cli.training.event_files import EventFiles
    from cmgems_cli.training.pretrain_run import pretrain as train
    from cmgems_cli.training.processes import start_processes, stop_processes

    check_run_place(target, "model")
    try:
        processes = start_processes(io.device)
        console = io.console(is_main=processes.is_main)
        run = build_pretraining_run(folder, ranks, target, options, processes)
        events = EventFiles(target / EVENTS) if tensorboard else None
        if ranks and processes.is_main:
            note = origin_note(ranks, read_manifest(ranks, "pmi"), folder, masked)
            if note:
                console.warn(note)
        if io.dry_run:
            _plan(console, run)
            return
        manifest = run.finished(overwrite=io.overwrite)
        if manifest is None:
            _announce(console, run)
            with console.progress(f"{options.model} by {options.strategy}", options.steps, "steps") as bar:
                manifest = train(
                    run,
                    resume=io.resume,
                    overwrite=io.overwrite,
                    observer=TrainingProgress(console, bar, events),
                )
    finally:
        stop_processes()
    if processes.is_main:
        console.table(
            f"{target}: {options.model} by {options.strategy}",
            ["what", "value"],
            [
                *named_rows(manifest.stats),
                *named_rows(_last_values(target)),
            ],
        )
        console.finished(manifest, target, started)
        if manifest.fresh:
            console.say(f'open it with transformers: AutoModelForMaskedLM.from_pretrained("{target}")')


def _announce(console: Console, run: "PretrainingRun") -> None:
    options = run.options
    console.say(
        f"{run.parameters:,} parameters on {run.processes.device} in {run.precision},"
        f" {run.processes.number};"
        f" {options.steps:,} steps of {options.global_batch} sequences from {run.corpus.n_train:,};"
        f" evaluation every {options.eval_every:,} steps on {len(run.sample):,} sequences;"
        f" unigram perplexity {run.unigram:,.0f}"
    )


def _plan(console: Console, run: "PretrainingRun") -> None:
    """Print what the run would be, its speed from a few timed micro-batches."""
    from cmgems_cli.genome.vocabulary import SPECIAL_POSITIONS
    from cmgems_cli.training.matrix_rate import nominal_peak

    probe = run.probe()
    peak = nominal_peak(run.processes.device, run.precision)
    options = run.options
    mean_tokens = float(run.corpus.windows["n_tokens"][: run.corpus.n_train].mean()) + SPECIAL_POSITIONS
    tokens = round(options.steps * options.global_batch * mean_tokens)
    expected_s = tokens / (probe["tokens_per_s"] * run.processes.world_size)
    plan: dict[str, Any] = {
        "parameters": run.parameters,
        "device": str(run.processes.device),
        "precision": run.precision,
        "processes": run.processes.world_size,
        "steps": options.steps,
        "sequences": options.steps * options.global_batch,
        "epochs": round(options.steps * options.global_batch / run.corpus.n_train, 3),
        "tokens": tokens,
        "padding_share": round(probe["padding_share"], 4),
        "tokens_per_s": round(probe["tokens_per_s"] * run.processes.world_size),
        "of_matrix_rate": round(probe["flop_per_s"] / probe["matrix_flop_per_s"], 4),
        "of_nominal_peak": round(probe["flop_per_s"] / peak, 4) if peak else None,
        "expected_s": round(expected_s),
        "memory_bytes": round(probe["memory_bytes"]),
        "unigram_perplexity": run.unigram,
    }
    console.result({"plan": plan, "out": str(run.out)})
    if run.processes.is_main:
        console.table(f"plan for {run.out} (nothing written)", ["what", "value"], named_rows(plan))


def _last_values(target: Path) -> dict[str, float]:
    from cmgems_cli.training.metrics_log import METRICS, read_metrics

    last = read_metrics(target / METRICS)[-1]
    return {name: last[name] for name in ("loss", "valid_perplexity", "valid_perplexity_active")}
