"""The Python API of `ttest`, and of scores as a table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cmgems_cli.comparing.comparison import as_json, compare_models
from cmgems_cli.comparing.one_task import compare_on_one_task, one_task_json
from cmgems_cli.comparing.pairing import pair, read_source, with_tasks_named_alike
from cmgems_cli.comparing.scores import COLUMNS, Score
from cmgems_cli.errors import UsageError
from cmgems_cli.frames import Tabular
from cmgems_cli.metrics import MetricName
from cmgems_cli.readable import counted
from cmgems_cli.workspace import Place


@dataclass(frozen=True, repr=False)
class Scores(Tabular):
    """Measured values, one per task, number of shots, seed and metric.

    Attributes
    ----------
    scores : list of Score
        Values are in their natural unit: MCC from -1 to 1, accuracy from 0 to 1.
    """

    scores: list[Score]

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def columns(self) -> dict[str, Any]:
        """Return the table by columns, which are those of `scores.csv`: bench, task, …, metric, value, model, note."""
        return {name: [getattr(score, name) for score in self.scores] for name in COLUMNS}

    def _summary(self) -> str:
        tasks = {(score.bench, score.task, score.shots) for score in self.scores}
        return f"{counted(len(self.scores), 'value')} of {counted(len(tasks), 'task')}"


def read_scores(scores: Place) -> Scores:
    """Read the scores of one model.

    Parameters
    ----------
    scores : path or str
        A folder of `evaluate` or `finetune`, a scores CSV (FILE:MODEL if it holds several), or paper:NAME for a
        published column.

    Raises
    ------
    InputError, UsageError
        If there is nothing to read, or there are several models.
    """

    return Scores(read_source(os.fspath(scores)).scores)


def ttest(
    *models: Place, metric: MetricName | None = None, common: bool = False, seed: int = 42
) -> dict[str, Any]:
    """Compare models by paired tests, as `cmgems ttest`.

    Parameters
    ----------
    *models : path or str
        Two or more, as in `read_scores`. The last is compared with each of the others.
    metric : str, optional
        By default the benchmark's main metric.
    common : bool, default False
        Compare on the tasks that all models have, instead of refusing.
    seed : int, default 42
        Of the resampling.

    Returns
    -------
    dict
        What the command prints with --json.

    Raises
    ------
    UsageError, InputError
        If there are fewer than two models, or they have no task in common.
    """

    named = [os.fspath(model) for model in models]
    if len(named) < 2:
        raise UsageError(
            f"`ttest` got {len(named)} models; needed two or more: the others first, then the reference"
        )
    sources = with_tasks_named_alike([read_source(one) for one in named])
    paired = pair(sources, metric, common=common or any(source.single for source in sources))
    if len(paired.rows) == 1:
        on_one_task = compare_on_one_task(sources, paired, seed=seed)
        if on_one_task.has_tests:
            return one_task_json(on_one_task, named)
    return as_json(compare_models(paired, seed=seed), named)
