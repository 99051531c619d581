"""`cmgems pretrain`: a corpus and a ranking become a model."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmgems_cli import options, workspace
from cmgems_cli.console import Bar, Console, amount, duration

if TYPE_CHECKING:
    from cmgems_cli.training.pretrain_run import PretrainingRun

StrategyName = Literal["random", "genemask", "global", "cm-step", "cm-gems", "random-mask"]
CURRICULUM = "Masking and curriculum"
RECIPE = "Recipe"


def pretrain(
    corpus: Annotated[
        Path | None,
        typer.Argument(help="Corpus folder.", show_default="the workspace's"),
    ] = None,
    pmi: Annotated[
        Path | None,
        typer.Option("--pmi", help="PMI folder.", show_default="the workspace's"),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="dnabert, logo, tiny, or a folder in Hugging Face format.")
    ] = "dnabert",
    init: Annotated[
        str | None,
        typer.Option(
            "--init", help="random, or a folder to take the weights from.", show_default="as --model implies"
        ),
    ] = None,
    strategy: Annotated[
        StrategyName, typer.Option("--strategy", help="Which tokens are masked.", rich_help_panel=CURRICULUM)
    ] = "cm-gems",
    mask_rate: Annotated[
        float,
        typer.Option(
            "--mask-rate", min=0.001, max=1.0, help="Share meant to be masked.", rich_help_panel=CURRICULUM
        ),
    ] = 0.15,
    rank_by: Annotated[
        Literal["content", "position"],
        typer.Option(
            "--rank-by", help="position: the released variant, for ablation.", rich_help_panel=CURRICULUM
        ),
    ] = "content",
    switch_threshold: Annotated[
        str,
        typer.Option(
            "--switch-threshold",
            help="cm-gems switches when perplexity drops by less: an absolute value (paper: 1.0) or a share (2%).",
            rich_help_panel=CURRICULUM,
        ),
    ] = "1.0",
    eval_every: Annotated[
        int | None,
        typer.Option(
            "--eval-every",
            min=1,
            help="Steps between evaluations.",
            show_default="steps/20",
            rich_help_panel=CURRICULUM,
        ),
    ] = None,
    eval_sequences: Annotated[
        int, typer.Option("--eval-sequences", min=1, help="Validation sequences.", rich_help_panel=CURRICULUM)
    ] = 500,
    steps: Annotated[
        int, typer.Option("--steps", min=1, help="Optimizer steps.", rich_help_panel=RECIPE)
    ] = 10_000,
    global_batch: Annotated[
        int,
        typer.Option(
            "--global-batch", min=1, help="Sequences a step, over all processes.", rich_help_panel=RECIPE
        ),
    ] = 250,
    lr: Annotated[
        float | None,
        typer.Option(
            "--lr",
            min=0.0,
            help="Peak learning rate.",
            show_default="4e-4, tiny 3e-3",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    warmup_steps: Annotated[
        int | None,
        typer.Option(
            "--warmup-steps",
            min=0,
            help="Linear warm-up.",
            show_default="5 % of the steps",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    max_batch_tokens: options.MaxBatchTokens = None,
    precision: options.Precision = "auto",
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="torch.compile the steps: minutes at the start, faster after (docs/scaling.md).",
            rich_help_panel=options.MACHINE,
        ),
    ] = False,
    save_every: Annotated[
        int | None,
        typer.Option(
            "--save-every",
            min=1,
            help="Steps between checkpoints.",
            show_default="as --eval-every",
            rich_help_panel=options.MACHINE,
        ),
    ] = None,
    out: options.Out = None,
    seed: options.Seed = 42,
    device: options.Device = "auto",
    resume: options.Resume = True,
    overwrite: options.Overwrite = False,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Pretrain a model on a corpus by masking k-mers.

    Example: cmgems pretrain --strategy cm-gems --model logo --steps 1000

    Several GPUs: torchrun --nproc-per-node 8 -m cmgems_cli pretrain --strategy cm-gems
    """
    started = time.perf_counter()
    folder = corpus or workspace.corpus_folder()
    target = out or workspace.model_folder(model, strategy)
    from cmgems_cli.artifacts import is_finished, read_manifest
    from cmgems_cli.masking import WITHOUT_RANKS

    read_manifest(folder, "corpus")
    ranks: Path | None = pmi or workspace.pmi_folder()
    if pmi is None and strategy in WITHOUT_RANKS and not is_finished(workspace.pmi_folder()):
        ranks = None

    from cmgems_cli.training.build import build_pretraining_run
    from cmgems_cli.training.pretrain_options import pretraining_options
    from cmgems_cli.training.pretrain_run import pretrain as train
    from cmgems_cli.training.processes import start_processes, stop_processes
    from cmgems_cli.training.run import check_run_folder

    check_run_folder(target, overwrite=overwrite)
    try:
        processes = start_processes(device)
        chosen = pretraining_options(
            device_type=processes.device.type,
            strategy=strategy,
            model=model,
            init=init,
            steps=steps,
            global_batch=global_batch,
            max_batch_tokens=max_batch_tokens,
            learning_rate=lr,
            warmup_steps=warmup_steps,
            mask_rate=mask_rate,
            rank_by=rank_by,
            eval_every=eval_every,
            eval_sequences=eval_sequences,
            switch_threshold=switch_threshold,
            save_every=save_every,
            precision=precision,
            compile=compile,
            seed=seed,
        )
        console = Console(quiet=quiet or not processes.is_main, json=json and processes.is_main)
        run = build_pretraining_run(folder, ranks, target, chosen, processes)
        if dry_run:
            _plan(console, run)
            return
        _announce(console, run)
        with console.progress(f"{model} by {strategy}", steps, "steps") as bar:
            manifest = train(run, resume=resume, overwrite=overwrite, observer=follow(console, bar))
    finally:
        stop_processes()
    if processes.is_main:
        console.table(
            f"{target}: {model} by {strategy}",
            ["what", "value"],
            [
                *[[name, value] for name, value in manifest.stats.items()],
                *[[name, value] for name, value in _last_values(target).items()],
            ],
        )
        console.finished(manifest, target, started)
        console.say(f'open it with transformers: AutoModelForMaskedLM.from_pretrained("{target}")')


def _announce(console: Console, run: "PretrainingRun") -> None:
    options = run.options
    console.say(
        f"{run.parameters:,} parameters on {run.processes.device} in {run.precision},"
        f" {run.processes.world_size} process(es);"
        f" {options.steps:,} steps of {options.global_batch} sequences from {run.corpus.n_train:,};"
        f" evaluation every {options.eval_every:,} steps on {len(run.sample):,} sequences;"
        f" unigram perplexity {run.unigram:,.0f}"
    )


def _plan(console: Console, run: "PretrainingRun") -> None:
    """Print what the run would be, its speed from a few timed micro-batches."""
    probe = run.probe()
    options = run.options
    mean_tokens = float(run.corpus.windows["n_tokens"][: run.corpus.n_train].mean()) + 2
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
        "expected_s": round(expected_s),
        "memory_bytes": round(probe["memory_bytes"]),
        "unigram_perplexity": run.unigram,
    }
    console.result({"plan": plan, "out": str(run.out)})
    shown = {**plan, "expected_s": duration(expected_s), "memory_bytes": f"{amount(plan['memory_bytes'])}B"}
    if run.processes.is_main:
        console.table(
            f"plan for {run.out} (nothing written)", ["what", "value"], [[k, v] for k, v in shown.items()]
        )


def _last_values(target: Path) -> dict[str, float]:
    from cmgems_cli.training.metrics_log import METRICS, read_metrics

    last = read_metrics(target / METRICS)[-1]
    return {name: last[name] for name in ("loss", "valid_perplexity", "valid_perplexity_active")}


def follow(console: Console, bar: Bar) -> Any:
    """Return an observer that shows a run's steps on `bar` and its events as lines."""
    from cmgems_cli.training.run import Observer

    class Follow(Observer):
        """Shows each step on the bar, and events as lines above it."""

        def __init__(self) -> None:
            self.perplexity: float | None = None
            self.tokens, self.since = 0, time.perf_counter()

        def resumed(self, step: int) -> None:
            console.say(f"going on after step {step:,}")
            bar.start_at(step)
            self.since = time.perf_counter()

        def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
            self.tokens += n_tokens
            rate = self.tokens / (time.perf_counter() - self.since)
            self.perplexity = record.get("valid_perplexity", self.perplexity)
            words = [
                f"loss {record['loss']:.3f}" if record["loss"] is not None else "",
                f"perplexity {self.perplexity:,.0f}" if self.perplexity else "",
                f"masked {100 * record['masked_fraction']:.1f} %",
                record["strategy"],
                f"{rate:,.0f} tokens/s",
            ]
            bar.advance(1, note=" · ".join(word for word in words if word))

        def switched(self, step: int, before: float, after: float) -> None:
            console.say(
                f"step {step:,}: perplexity {before:,.1f} → {after:,.1f}, a drop below the threshold:"
                " the curriculum switches from genemask to global"
            )

        def warned(self, message: str) -> None:
            console.warn(message)

    return Follow()
