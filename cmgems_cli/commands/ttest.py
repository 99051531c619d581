"""`cmgems ttest`: which of several scored models is better, and whether that can be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cmgems_cli import options
from cmgems_cli.console import Console
from cmgems_cli.errors import UsageError

if TYPE_CHECKING:
    from cmgems_cli.comparing.pairing import Paired


def ttest(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: a scores folder, a scores CSV (FILE:MODEL if it holds several), or paper:NAME"
            " for a published column. The last is compared with each of the others.",
            metavar="A B…",
            show_default=False,
        ),
    ],
    metric: Annotated[
        Literal["mcc", "accuracy", "f1"] | None,
        typer.Option(
            "--metric", help="What to compare; mcc unless the models share no row of it.", show_default="mcc"
        ),
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Compare on the rows all models have, instead of refusing.")
    ] = False,
    seed: options.Seed = 42,
    json: options.Json = False,
    quiet: options.Quiet = False,
    config: options.Config = None,
) -> None:
    """Compare models by paired tests over tasks (paper, Table 3).

    Rows are paired by benchmark, task and shots, after averaging over seeds.
    Beside the t-test: Holm's adjustment, Wilcoxon's signed ranks, sign flips,
    a BCa bootstrap interval of the mean difference, Cohen's d_z; with three or
    more models mean ranks (1 = best) and Friedman's test.

    Example: cmgems ttest paper:dnabert-120k cmgems-work/scores/dnabert-cm-gems-gue
    """
    if len(models) < 2:
        raise UsageError(f"ttest got one model ({models[0]}); needed two or more, the one to judge last")
    from cmgems_cli.comparing.pairing import pair, read_source

    console = Console(quiet=quiet, json=json)
    sources = [read_source(named) for named in models]
    paired = pair(sources, metric, common=common)
    if metric is None and paired.metric != "mcc":
        console.say(f"the models share no row of mcc: compared by {paired.metric}")
    for sentence in paired.left_out:
        console.warn(sentence)
    if len(set(paired.seeds)) > 1:
        counts = (f"{label} {seeds}" for label, seeds in zip(paired.labels, paired.seeds, strict=True))
        console.warn(f"models differ in the number of seeds averaged a row: {', '.join(counts)}")
    report = compared(paired, [source.named for source in sources], seed)
    console.result(report)
    _show(console, report)


def compared(paired: Paired, named: list[str], seed: int) -> dict[str, Any]:
    """Return the JSON object of --json: one row a model, the reference last and without tests."""
    from cmgems_cli.comparing.scores import PRINTED_SCALE
    from cmgems_cli.comparing.statistics import compare, friedman, mean_and_sd

    comparisons = [*compare(paired.columns, seed=seed), None]
    ranking = friedman(paired.columns) if len(paired.columns) > 2 else None
    rows = []
    for index, (label, column, found) in enumerate(
        zip(paired.labels, paired.columns, comparisons, strict=True)
    ):
        mean, sd = mean_and_sd(column)
        low, high = (found and found.interval) or (None, None)
        rows.append(
            {
                "model": label,
                "mean": mean,
                "sd": sd,
                "difference": found and found.difference,
                "p": found and found.p,
                "holm_p": found and found.holm_p,
                "wilcoxon_p": found and found.wilcoxon_p,
                "sign_flip_p": found and found.sign_flip_p,
                "interval_low": low,
                "interval_high": high,
                "cohens_dz": found and found.cohens_dz,
                "mean_rank": ranking and ranking.mean_ranks[index],
                "note": found.note if found else "",
                "source": named[index],
            }
        )
    return {
        "metric": paired.metric,
        "n": len(paired.rows),
        "reference": paired.labels[-1],
        "rows": rows,
        "scale": PRINTED_SCALE[paired.metric],
        "friedman": ranking and {"chi2": ranking.chi2, "p": ranking.p},
        "seed": seed,
    }


def _show(console: Console, report: dict[str, Any]) -> None:
    from cmgems_cli.comparing.scores import PRINTED_DECIMALS, PRINTED_NAME, rounded

    metric, reference = report["metric"], report["reference"]

    def number(value: float | None, decimals: int = PRINTED_DECIMALS[metric], sign: str = "") -> str | None:
        return None if value is None else f"{sign if value > 0 else ''}{rounded(value, decimals)}"

    def p_value(value: float | None) -> str | None:
        return "<0.0001" if value is not None and value < 0.00005 else number(value, 4)

    console.table(
        f"{PRINTED_NAME[metric]}; p of the paired t-test against {reference}",
        ["model", "mean ± sd", "difference", "p", "n"],
        [
            [
                row["model"],
                f"{number(row['mean'])} ± {number(row['sd'])}",
                number(row["difference"], sign="+"),
                p_value(row["p"]),
                report["n"],
            ]
            for row in report["rows"]
        ],
    )
    ranking = report["friedman"]
    shown = report["rows"] if ranking else report["rows"][:-1]
    title = "p by other tests; interval and size of the difference"
    if ranking:
        title += f"; Friedman test: chi² {number(ranking['chi2'], 2)}, p {p_value(ranking['p']) or '–'}"
    console.table(
        title,
        [
            "model",
            "Holm p",
            "Wilcoxon",
            "sign flip",
            "95 % BCa",
            "d_z",
            *(["rank"] if ranking else []),
        ],
        [
            [
                row["model"],
                p_value(row["holm_p"]),
                p_value(row["wilcoxon_p"]),
                p_value(row["sign_flip_p"]),
                None
                if row["interval_low"] is None
                else f"{number(row['interval_low'], sign='+')} to {number(row['interval_high'], sign='+')}",
                number(row["cohens_dz"], 2, sign="+"),
                *([number(row["mean_rank"], 2)] if ranking else []),
            ]
            for row in shown
        ],
    )
    for row in report["rows"]:
        if row["note"]:
            console.say(f"{row['model']}: {row['note']}")
