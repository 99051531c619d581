"""`cmgems ttest`: paired tests of the scores of several models."""

from __future__ import annotations

from typing import Annotated

import typer

from cmgems_cli.errors import UsageError
from cmgems_cli.metrics import MetricName
from cmgems_cli.option_fields import option
from cmgems_cli.options import Shared, takes


@takes("seed json quiet config")
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
    metric: MetricName | None = option(
        None, "--metric", "The metric that is compared.", shown="the benchmark's main metric"
    ),
    common: bool = option(
        False, "--common", "Compare on the tasks that all models have, instead of refusing."
    ),
    *,
    io: Shared,
) -> None:
    """Compare models by paired tests over tasks (paper, Table 3).

    Scores are averaged over seeds, then paired by benchmark, task and shots.
    In addition to the t-test: Holm's adjustment, Wilcoxon's signed ranks, sign flips,
    a BCa bootstrap interval of the mean difference, Cohen's d_z; with three or
    more models mean ranks (1 = best) and Friedman's test.

    Example: cmgems ttest paper:dnabert-120k cmgems-work/scores/dnabert-cm-gems-gue
    """
    if len(models) < 2:
        raise UsageError(
            f"ttest got one model ({models[0]}); needed two or more: the others first, then the reference"
        )
    from cmgems_cli.comparing.pairing import default_metrics, pair, read_source

    console = io.console()
    sources = [read_source(named) for named in models]
    paired = pair(sources, metric, common=common)
    if metric is None and paired.metric != default_metrics(sources)[0]:
        console.say(f"no task of {default_metrics(sources)[0]} in common: compared by {paired.metric}")
    for sentence in paired.left_out:
        console.warn(sentence)
    if len(set(paired.seeds)) > 1:
        counts = (f"{label} {seeds}" for label, seeds in zip(paired.labels, paired.seeds, strict=True))
        console.warn(f"models differ in the number of seeds averaged per row: {', '.join(counts)}")
    from cmgems_cli.comparing.comparison import as_json, compare_models, comparison_tables

    compared = compare_models(paired, seed=io.seed)
    console.result(as_json(compared, [source.named for source in sources]))
    for table in comparison_tables(compared):
        console.table(table.title, table.columns, table.rows)
    for note in compared.notes():
        console.say(note)
