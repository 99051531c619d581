"""`cmgems demo`: the whole pipeline in miniature, on the human sequence that ships with the package."""

import textwrap
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmgems_cli.commands.training_progress import TrainingProgress
from cmgems_cli.console import Console
from cmgems_cli.options import Shared, takes
from cmgems_cli.readable import duration

if TYPE_CHECKING:
    from cmgems_cli.artifacts import Manifest
    from cmgems_cli.demo.pipeline import Miniature

WIDTH = 110

_READING = (
    "Perplexities are of validation sequences: under the same masks for both models, and under the masks each was"
    " last trained with. Below the unigram baseline a model has learnt from context; the switch of cm-gems to the"
    " hard masks raises the first and lowers the second (docs/log.md). Scores are mean ± sd over tasks; a difference"
    " is what {reference} has more than the model."
)
_TOY = (
    "This is a toy. It shows that every stage works, and what pretraining on 140 kb gives a model of 0.4 M parameters"
    " on neighbouring sequence that was held out of it: the difference to random weights. It does not show which"
    " masking is better: {tasks} tasks of {n_test} test rows from one region of 210 kb leave several points to chance,"
    " and over four seeds random masks were ahead three times, cm-gems once (docs/log.md). Repeats such as Alu occur"
    " on both sides of the split."
)


@takes("out seed overwrite json quiet config", out="demo")
def demo(
    *,
    io: Shared,
) -> None:
    """Run the whole pipeline on bundled human sequence: about two minutes on two cores.

    Two tiny models are pretrained, fine-tuned on ten small tasks made of held-out sequence,
    and compared with a model of random weights. An interrupted demo resumes.

    Example: cmgems demo --out demo
    """
    started = time.perf_counter()
    console = io.console()
    out = io.out or Path("demo")
    from cmgems_cli.demo import pipeline as miniature

    stages = miniature.Miniature(out, seed=io.seed, overwrite=io.overwrite)
    models = _pretrain(console, stages)
    scores = _judge(console, stages)
    elapsed_s = round(time.perf_counter() - started, 3)
    comparison = _compare(stages)
    console.result(
        {
            "out": str(out),
            "elapsed_s": elapsed_s,
            "models": {name: _entry(stages.model_folder(name), made) for name, made in models.items()},
            "scores": {name: _entry(stages.scores_folder(name), made) for name, made in scores.items()},
            "ttest": comparison,
        }
    )
    _show(console, stages, models, comparison)
    console.say(f"done in {duration(elapsed_s)}\n")
    _explain(console, stages, scores)


def _entry(folder: Path, made: "Manifest") -> dict[str, Any]:
    return {"out": str(folder), "digest": made.digest, "stats": made.stats}


def _pretrain(console: Console, stages: "Miniature") -> "dict[str, Manifest]":
    from cmgems_cli.demo import pipeline as miniature

    sizes = stages.sizes
    console.say(
        "1/5 prepare-genome: 210 kb of human chromosome 16, a third held out; sequences of at most"
        f" {miniature.MAX_TOKENS} tokens"
    )
    stages.write_sequences()
    stages.prepare()
    console.say(f"2/5 build-pmi: ranking the 6-mers seen at least {miniature.MIN_COUNT} times")
    stages.rank()
    console.say(
        f"3/5 pretrain: the {miniature.ARCHITECTURE} model by {' and by '.join(miniature.STRATEGIES)},"
        f" {sizes.steps} steps of {sizes.global_batch} sequences"
    )
    models = {}
    for strategy, name in zip(miniature.STRATEGIES, miniature.MODELS[1:], strict=True):
        with console.progress(name, sizes.steps, "steps") as bar:
            models[name] = stages.pretrain(strategy, TrainingProgress(console, bar)).manifest
    return models


def _judge(console: Console, stages: "Miniature") -> "dict[str, Manifest]":
    from cmgems_cli.demo import pipeline as miniature

    sizes = stages.sizes
    console.say(
        f"4/5 build-fewshot: {sizes.regions} tasks: windows of {miniature.WINDOW_BASES} bases of a held-out region,"
        " or DeePromoter negatives?"
    )
    for task in stages.tasks:
        stages.build_task(task)
    n_runs = sizes.regions * sizes.runs
    console.say(
        f"5/5 evaluate: {n_runs} runs each, fine-tuned on {sizes.shots} rows per class, from random weights and"
        " from both models"
    )
    scores = {}
    for name in miniature.MODELS:
        with console.progress(f"fine-tuning {name}", n_runs, "runs") as bar:
            scores[name] = stages.evaluate(name, partial(bar.advance, 1)).manifest
    return scores


def _compare(stages: "Miniature") -> dict[str, Any]:
    """Return the JSON of `cmgems ttest --metric mcc` of the three."""
    from cmgems_cli.comparing.comparison import as_json, compare_models
    from cmgems_cli.comparing.pairing import pair, read_source
    from cmgems_cli.demo.pipeline import MODELS

    sources = [read_source(str(stages.scores_folder(name))) for name in MODELS]
    compared = compare_models(pair(sources, "mcc"), seed=stages.seed)
    return as_json(compared, [source.named for source in sources])


def _show(
    console: Console, stages: "Miniature", models: "dict[str, Manifest]", comparison: dict[str, Any]
) -> None:
    from cmgems_cli.comparing.grouping import mean_sd_text
    from cmgems_cli.comparing.pairing import pair, read_source
    from cmgems_cli.comparing.scores import rounded
    from cmgems_cli.metrics import METRICS as KNOWN
    from cmgems_cli.training.metrics_log import METRICS, read_metrics

    def mcc(value: float | None, *, sign: bool = False) -> str | None:
        if value is None:
            return None
        return f"{'+' if sign and value > 0 else ''}{rounded(value, KNOWN['mcc'].decimals)}"

    names = [row["model"] for row in comparison["rows"]]
    accuracies = pair([read_source(str(stages.scores_folder(name))) for name in names], "accuracy").columns
    rows: list[list[Any]] = []
    for name, row, accuracy in zip(names, comparison["rows"], accuracies, strict=True):
        made = models.get(name)
        last = read_metrics(stages.model_folder(name) / METRICS)[-1] if made else {}
        switched = made.stats["switched_at_step"] if made else None
        by = made.params["strategy"] if made else "nothing: random weights"
        rows.append(
            [
                name,
                f"{by}, switched at {switched}" if switched else by,
                round(last["valid_perplexity"]) if made else None,
                round(last["valid_perplexity_active"]) if made else None,
                mean_sd_text(accuracy, "accuracy", sample=False),
                f"{mcc(row['mean'])} ± {mcc(row['sd'])}",
                mcc(row["difference"], sign=True),
                None if row["p"] is None else rounded(row["p"], 4),
            ]
        )
    (unigram,) = {round(made.stats["unigram_perplexity"]) for made in models.values()}
    console.table(
        f"Three models on {comparison['n']} tasks, {stages.sizes.runs} runs each; p of the paired t-test of MCC"
        f" against {names[-1]}; unigram perplexity {unigram:,}",
        ["model", "pretrained by", "perplexity", "active masks", "accuracy", "MCC × 100", "difference", "p"],
        rows,
    )


def _explain(console: Console, stages: "Miniature", scores: "dict[str, Manifest]") -> None:
    from cmgems_cli.comparing.scores import SCORES, read_scores
    from cmgems_cli.demo.pipeline import MODELS

    last = stages.scores_folder(MODELS[-1])
    n_test = read_scores(last / SCORES)[0].n_test
    folders = [stages.scores_folder(name) for name in MODELS]
    example = stages.data / stages.tasks[-1] / str(stages.sizes.shots) / "train.tsv"
    for paragraph in (_READING, _TOY):
        words = paragraph.format(reference=MODELS[-1], tasks=len(stages.tasks), n_test=n_test)
        console.say(textwrap.fill(words, WIDTH) + "\n")
    console.say(
        "To look at what is here, as if it were a workspace:\n"
        f"  CMGEMS_WORKSPACE={stages.out} cmgems\n"
        f"  cmgems info {last}\n"
        f"  cmgems ttest {' '.join(map(str, folders))} --metric mcc\n"
        f"  cmgems finetune {stages.model_folder(MODELS[-1])} {example} --out {stages.out / 'finetuned' / 'region'}\n"
        "On a whole genome:\n"
        "  cmgems fetch grch38\n"
        "  cmgems prepare-genome cmgems-work/downloads/hg38.fa.gz\n"
        "  cmgems build-pmi\n"
        "  cmgems pretrain --strategy cm-gems --model logo --dry-run"
    )
