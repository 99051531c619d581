"""`cmgems ttest`: paired tests of the scores of several models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cmgems_cli.console import Console
from cmgems_cli.errors import UsageError
from cmgems_cli.metrics import MetricName
from cmgems_cli.option_fields import option
from cmgems_cli.options import Shared, takes

if TYPE_CHECKING:
    from cmgems_cli.comparing.pairing import Paired, Source


@takes("seed json quiet config")
def ttest(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Two or more: a scores folder, a folder of finetune, a scores CSV (FILE:MODEL if it holds several),"
            " or paper:NAME for a published column. The last is compared with each of the others.",
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
    """Compare models by paired tests: over tasks, or over the rows and seeds of one task.

    Several tasks in common (paper, Table 3): scores are averaged over seeds, then
    paired by benchmark, task and shots. In addition to the t-test: Holm's adjustment,
    Wilcoxon's signed ranks, sign flips, a BCa bootstrap interval of the mean
    difference, Cohen's d_z; with three or more models mean ranks (1 = best) and
    Friedman's test.
    One task in common: over the rows of its test split (exact McNemar, paired
    bootstrap of the metric's difference, DeLong for AUROC), and over seeds (paired
    t-test if these are shared, otherwise Welch's).

    Example: cmgems ttest paper:dnabert-120k cmgems-work/scores/dnabert-cm-gems-gue
    """
    if len(models) < 2:
        raise UsageError(
            f"ttest got one model ({models[0]}); needed two or more: the others first, then the reference"
        )
    from cmgems_cli.comparing.pairing import default_metrics, pair, read_source, with_tasks_named_alike

    console = io.console()
    sources = with_tasks_named_alike([read_source(named) for named in models])
    # A run of finetune has one task: the others' further tasks are left out.
    paired = pair(sources, metric, common=common or any(source.single for source in sources))
    if metric is None and paired.metric != default_metrics(sources)[0]:
        console.say(f"no task of {default_metrics(sources)[0]} in common: compared by {paired.metric}")
    for sentence in paired.left_out:
        console.warn(sentence)
    if len(set(paired.seeds)) > 1:
        counts = (f"{label} {seeds}" for label, seeds in zip(paired.labels, paired.seeds, strict=True))
        console.warn(f"models differ in the number of seeds averaged per row: {', '.join(counts)}")
    if len(paired.rows) == 1 and _on_one_task(console, sources, paired, io.seed):
        return
    from cmgems_cli.comparing.comparison import as_json, compare_models, comparison_tables

    compared = compare_models(paired, seed=io.seed)
    console.result(as_json(compared, [source.named for source in sources]))
    for table in comparison_tables(compared):
        console.table(table.title, table.columns, table.rows)
    for note in compared.notes():
        console.say(note)


def _on_one_task(console: Console, sources: Sequence[Source], paired: Paired, seed: int) -> bool:
    """Print the tests over the rows and seeds of the one task in common; return whether there are any."""
    from cmgems_cli.comparing.one_task import (
        announcement,
        compare_on_one_task,
        one_task_json,
        one_task_tables,
    )

    compared = compare_on_one_task(sources, paired, seed=seed)
    if not compared.has_tests:
        return False
    console.say(announcement(compared))
    console.result(one_task_json(compared, [source.named for source in sources]))
    for table in one_task_tables(compared):
        console.table(table.title, table.columns, table.rows)
    for note in compared.notes:
        console.say(note)
    return True
