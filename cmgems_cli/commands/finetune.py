"""`cmgems finetune`: a model and labelled sequences become a classifier."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmgems_cli import workspace
from cmgems_cli.commands.training_progress import TrainingProgress
from cmgems_cli.console import Console
from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.option_fields import option
from cmgems_cli.options import INIT, MODEL_HELP, TENSORBOARD, Shared, takes
from cmgems_cli.readable import named_rows

if TYPE_CHECKING:
    from cmgems_cli.artifacts import Manifest
    from cmgems_cli.bench.frozen import FrozenRun
    from cmgems_cli.datasets.task_files import TaskFiles
    from cmgems_cli.training.finetune_run import FinetuningRun


@takes(
    "out seed device resume overwrite dry_run json quiet config", out="the workspace's finetuned/MODEL-TASK"
)
def finetune(
    model: Annotated[str, typer.Argument(help=MODEL_HELP, metavar="MODEL", show_default=False)],
    data: Annotated[
        Path,
        typer.Argument(
            help="Folder containing train.csv, dev.csv and test.csv, or a few-shot train.tsv with test.tsv in the"
            " same folder or its parent.",
            metavar="DATA",
            show_default=False,
        ),
    ],
    init: Literal["random"] | None = INIT,
    shots: int | None = option(
        None,
        "--shots",
        "Train on N randomly drawn sequences per class; the final checkpoint is tested.",
        panel="Data",
        min=1,
        shown="as the TSV's folder is named",
    ),
    tensorboard: bool = TENSORBOARD,
    *,
    options: FinetuneOptions,
    io: Shared,
) -> None:
    """Fine-tune a model on labelled sequences and test it once.

    Example: cmgems finetune cmgems-work/models/dnabert-cm-gems GUE/tf/0
    """
    started = time.perf_counter()
    from cmgems_cli.datasets.task_files import find_task
    from cmgems_cli.modeling.model_source import ModelSource, check_order

    check_order(model, data, "DATA")
    task = find_task(data, shots)
    source = ModelSource(model, init)
    target = io.out or workspace.finetuned_folder(source.name + options.suffix, task.label)

    from cmgems_cli.bench.build import Finetuner
    from cmgems_cli.bench.frozen import FrozenRun
    from cmgems_cli.errors import UsageError
    from cmgems_cli.metrics import score
    from cmgems_cli.training.checkpoints import check_run_place
    from cmgems_cli.training.classifier_run import finetune as finetune_stage
    from cmgems_cli.training.event_files import FOLDER as EVENTS
    from cmgems_cli.training.event_files import EventFiles
    from cmgems_cli.training.processes import start_processes, stop_processes

    check_run_place(target, "classifier")
    try:
        processes = start_processes(io.device)
        console = io.console(is_main=processes.is_main)
        run = Finetuner(source, options, processes).build_finetuning_run(task, target, io.seed)
        if tensorboard and isinstance(run, FrozenRun):
            raise UsageError("`tensorboard` with `freeze=True`, which has no steps to watch: leave one out")
        events = EventFiles(target / EVENTS) if tensorboard else None
        manifest = None if io.dry_run else run.finished(overwrite=io.overwrite)
        if processes.is_main and manifest is None:
            if isinstance(run, FrozenRun):
                _announce_frozen(console, run, task)
            else:
                _announce(console, run, task)
        if io.dry_run:
            _plan(console, run)
            return
        if manifest is None:
            with console.progress(f"{source.name} on {task.name}", run.steps, run.unit) as bar:
                manifest = finetune_stage(
                    run,
                    score,
                    resume=io.resume,
                    overwrite=io.overwrite,
                    observer=TrainingProgress(console, bar, events),
                )
    finally:
        stop_processes()
    if processes.is_main:
        _show(console, manifest, f"{target}: {source.name} on {task.name}")
        console.finished(manifest, target, started)
        if manifest.fresh and not isinstance(run, FrozenRun) and run.module.opens_in_transformers:
            console.say(
                f'open it with transformers: AutoModelForSequenceClassification.from_pretrained("{target}")'
            )


def _announce(console: Console, run: "FinetuningRun", task: "TaskFiles") -> None:
    recipe, params = run.recipe, run.params
    origin = "random weights" if params["init"] == "random" else "pretrained weights"
    chosen = "the best by dev loss" if recipe.selects == "best" else "the last model"
    trials = "" if run.n_trials == 1 else f"{run.n_trials} trials, the best on dev is tested, each of "
    console.say(
        f"{run.parameters:,} parameters ({origin}) on {run.processes.device} in {run.precision},"
        f" {run.processes.number}; {task.name}: {trials}{run.params['steps']:,} steps of"
        f" {recipe.global_batch} rows from {len(run.task.train):,}, {chosen} is tested on"
        f" {len(run.task.test):,}"
    )
    for note in run.task.warnings:
        console.warn(note)
    if params["task"] is None:
        console.say(
            f"{task.name} is not a known benchmark task; using the default recipe (lr {recipe.learning_rate:g},"
            f" {recipe.epochs} epochs)"
        )
    if run.warmup_steps >= run.params["steps"] > 1:
        console.warn(
            f"{run.params['steps']} steps end within the recipe's warm-up of {run.warmup_steps}: the learning rate"
            " never reaches its peak; give --warmup-steps"
        )
    if run.maker.idle_processes:
        console.warn(
            f"a step is fewer micro-batches than processes: {run.maker.idle_processes} of"
            f" {run.processes.world_size} have nothing to train on; lower --max-batch-tokens or use fewer"
        )


def _announce_frozen(console: Console, run: "FrozenRun", task: "TaskFiles") -> None:
    origin = "random weights" if run.params["init"] == "random" else "pretrained weights"
    pools = " or ".join(cache.pool for cache in run.caches)
    console.say(
        f"frozen model ({origin}) on {run.processes.device} in {run.precision}; {task.name}: embeddings"
        f" ({pools} over the last layer) in {run.caches[0].folder}, then logistic regression on"
        f" {len(run.task.train):,} rows, tested on {len(run.task.test):,}"
    )
    for note in run.task.warnings:
        console.warn(note)


def _plan(console: Console, run: "FinetuningRun | FrozenRun") -> None:
    """Print what the run would be, its time from a timed step."""
    from cmgems_cli.bench.frozen import FrozenRun

    task = run.task
    expected_s = run.seconds_per_step() * run.steps
    plan: dict[str, Any] = {
        "device": str(run.processes.device),
        "precision": run.precision,
        "processes": run.processes.world_size,
        "labels": len(task.label_names),
        "n_train": len(task.train),
        "n_dev": len(task.dev) if task.dev is not None else 0,
        "n_test": len(task.test),
    }
    if isinstance(run, FrozenRun):
        pools = [cache.pool for cache in run.caches]
        plan |= {
            "pool": pools if len(pools) > 1 else pools[0],
            "rows_to_embed": run.rows_left,
            "embedding_s": round(expected_s),
        }
    else:
        recipe = run.recipe
        plan = {"parameters": run.parameters, **plan} | {
            "epochs": run.params["epochs"],
            "trials": run.n_trials,
            "steps": run.params["steps"],
            "warmup_steps": run.warmup_steps,
            "learning_rate": recipe.choices.get("learning_rate", recipe.learning_rate),
            "global_batch": recipe.global_batch,
            "eval_every": recipe.eval_every,
            "keeps": recipe.selects,
            "training_s": round(expected_s),
        }
    plan["notes"] = list(task.notes)
    console.result({"plan": plan, "out": str(run.out)})
    if run.processes.is_main:
        console.table(
            f"plan for {run.out} (nothing written)",
            ["what", "value"],
            named_rows({**plan, "notes": "; ".join(task.notes)}),
        )


def _show(console: Console, manifest: "Manifest", title: str) -> None:
    from cmgems_cli.comparing.scores import as_printed
    from cmgems_cli.metrics import METRICS

    stats = manifest.stats
    rows = [
        *(
            [f"test {metric.printed_title}", as_printed(stats[name], name)]
            for name, metric in METRICS.items()
            if name in stats
        ),
        ["rows: train, dev, test", f"{stats['n_train']:,}, {stats['n_dev']:,}, {stats['n_test']:,}"],
    ]
    if "steps" in stats:
        best = stats["best_step"]
        rows.append(["steps", f"{stats['steps']:,}"])
        rows.append(["model of step", "the last" if best is None else f"{best:,} (least dev loss)"])
    if "trained_parameters" in stats:
        rows.append(["trained parameters", f"{stats['trained_parameters']:,}"])
    rows.append(["parameters", f"{stats['parameters']:,}"])
    if stats["collapsed"]:
        # Of a test split of one class this may be right.
        why = "" if stats.get("accuracy") == 1 else ": too few steps, or --lr is too low or too high"
        rows.append(["collapsed", f"the same was predicted for every row{why}"])
    rows += [["note", note] for note in stats["notes"]]
    console.table(title, ["what", "value"], rows)
