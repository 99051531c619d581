"""The table of what runs with several values of options tried on dev (docs/howto/compare-models.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cmgems_cli.artifacts import Manifest
from cmgems_cli.comparing.scores import as_printed
from cmgems_cli.comparing.tables import ReportTable
from cmgems_cli.metrics import METRICS

# Where stats have the trials, what was chosen among them, and of a trial what is not the value of an option.
TRIALS, CHOSEN, DIVERGED = "trials", "chosen", "diverged"
_RESULTS = ("dev_loss", "best_step", DIVERGED, *(f"dev_{name}" for name in METRICS))


def trials_table(runs: Mapping[str, Manifest]) -> ReportTable | None:
    """Return one row per trial: its options, its scores on dev, and whether it was chosen; None without trials.

    Parameters
    ----------
    runs : mapping, name -> Manifest
        Of runs; those that tried nothing are left out.
    """
    trials = [(name, run, trial) for name, run in runs.items() for trial in run.stats.get(TRIALS, [])]
    if not trials:
        return None
    options = list(dict.fromkeys(name for _, _, trial in trials for name in trial if name not in _RESULTS))
    metrics = [name for name in METRICS if any(f"dev_{name}" in trial for _, _, trial in trials)]
    rows: list[list[str | None]] = []
    before = ""
    for name, run, trial in trials:
        scores = [as_printed(trial[key], one) if (key := f"dev_{one}") in trial else None for one in metrics]
        loss = f"{trial['dev_loss']:.4f}" if "dev_loss" in trial else None
        rows.append(
            [
                name if name != before else "",
                *(_text(trial[option]) if option in trial else None for option in options),
                *scores,
                loss,
                DIVERGED if trial.get(DIVERGED) else "yes" if is_chosen(trial, run.stats) else "no",
            ]
        )
        before = name
    titles = [f"dev {METRICS[name].printed_title}" for name in metrics]
    columns = ["run", *(option.replace("_", " ") for option in options), *titles, "dev loss", CHOSEN]
    return ReportTable("Trials, of which the best on dev was tested", columns, rows, wide=True)


def is_chosen(trial: Mapping[str, Any], stats: Mapping[str, Any]) -> bool:
    """Return whether a trial is the one that was chosen, by the values of its options."""
    return all(trial.get(name) == value for name, value in stats[CHOSEN].items())


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
