"""Pictures of what models predict on a task's test split, small enough for a column of 400 pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.comparing import curves
from cmgems_cli.comparing.scores import as_printed
from cmgems_cli.metrics import METRICS, score
from cmgems_cli.palette import BLUE, GREY
from cmgems_cli.reporting.plot_style import DASHES, PALE, colour_of, grid_of_panels, line_of, shortened
from cmgems_cli.training.run_files import Tested

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: 400 pixels at the 96 per inch of browsers.
NARROW = 4.17
# ours: what is readable in a cell of a confusion matrix of half that width.
CLASSES_WITH_COUNTS, CLASSES_DRAWN = 5, 20
LONGEST_NAME, LONGEST_LABEL, LETTERS_IN_A_ROW = 8, 60, 24
# ours: dots of a scatter plot. More hide each other, and each is some 60 bytes of the page.
MOST_DOTS = 400


@dataclass(frozen=True, eq=False)
class TestedModel:
    """A model and its runs on one test split.

    Attributes
    ----------
    label : str
    colour : int or None
        Index into `COLOURS` and the dashes; None for a baseline.
    runs : list of Tested
        Of the same rows; at least one.
    """

    label: str
    colour: int | None
    runs: list[Tested]

    @property
    def line(self) -> dict[str, Any]:
        """The style of its curves."""
        if self.colour is None:
            return {"color": GREY, "linestyle": DASHES[2], "linewidth": 1.3}
        return {**line_of(self.colour), "linewidth": 1.3}

    def value(self, metric: str) -> float | None:
        """Return the mean of a metric over the runs; None if it is undefined for any."""
        values = [scores[metric] for scores in self._scores if metric in scores]
        return float(np.mean(values)) if len(values) == len(self.runs) else None

    @cached_property
    def _scores(self) -> list[dict[str, float | bool]]:
        return [score(run.labels, run.probabilities) for run in self.runs]


def classes(models: Sequence[TestedModel]) -> Figure:
    """Draw ROC, precision and recall, and calibration of all models, and the confusion matrix of each.

    Parameters
    ----------
    models : sequence of TestedModel
        Of classes, or of several labels per row: the latter have no confusion matrix.
    """
    target = models[0].runs[0].target
    matrices = target.problem != "multilabel" and len(target.names) <= CLASSES_DRAWN
    count = 3 + (len(models) if matrices else 0)
    figure, every = grid_of_panels(count, columns=2, width=NARROW, height=1.95, header=0.17 * len(models))
    roc, precision, calibration, *others = every
    for axes, x, y in (
        (roc, "false positive rate", "true positive rate"),
        (precision, "recall", "precision"),
        (calibration, "confidence", "accuracy"),
    ):
        _unit_square(axes, x, y)
    for axes in (roc, calibration):
        axes.plot([0, 1], [0, 1], color=PALE, linewidth=0.9)
    for model in models:
        for axes, points in ((roc, curves.roc(model.runs)), (precision, curves.precision_recall(model.runs))):
            if points is not None:
                axes.plot(*curves.thinned(points).T, **model.line)
        calibration.plot(*curves.calibration(model.runs).T, marker="o", markersize=2.5, **model.line)
    for axes, metric, corner in (
        (roc, "auroc", (0.97, 0.04)),
        (precision, "auprc", (0.04, 0.04)),
        (calibration, "ece", (0.04, 0.96)),
    ):
        _values(axes, models, metric, corner)
    for axes, model in zip(others, models, strict=False):
        _confusion(axes, curves.confusion(model.runs), target.names)
        axes.set_title(shortened(model.label, 26), loc="left", color=model.line["color"], fontsize=8)
    handles = [
        roc.plot([], [], label=shortened(model.label, LONGEST_LABEL), **model.line)[0] for model in models
    ]
    figure.legend(handles=handles, loc="upper left", ncols=1, fontsize=8, borderpad=0.1, labelspacing=0.2)
    return figure


def values(models: Sequence[TestedModel], rows: NDArray[np.int64]) -> Figure:
    """Draw predicted against true values, one panel per model.

    Parameters
    ----------
    models : sequence of TestedModel
        Of measured values.
    rows : int64, shape (n,)
        Those that are drawn.
    """
    figure, every = grid_of_panels(len(models), columns=2, width=NARROW, height=2.15, header=0)
    shown = [(model.runs[0].labels[rows], _mean_values(model)[rows]) for model in models]
    lowest = min(min(labels.min(), predicted.min()) for labels, predicted in shown)
    highest = max(max(labels.max(), predicted.max()) for labels, predicted in shown)
    for axes, model, (labels, predicted) in zip(every, models, shown, strict=True):
        axes.plot([lowest, highest], [lowest, highest], color=PALE, linewidth=0.9)
        colour = GREY if model.colour is None else colour_of(model.colour)
        axes.plot(labels, predicted, ".", color=colour, markersize=3, markeredgewidth=0)
        axes.set_title(shortened(model.label, 26), loc="left", color=colour, fontsize=8)
        axes.set_xlabel("true value", fontsize=8)
        axes.set_ylabel("predicted value", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.set_aspect("equal", adjustable="box")
    return figure


def spread_rows(labels: NDArray[Any], most: int = MOST_DOTS) -> NDArray[np.int64]:
    """Return at most this many rows, evenly spaced in the order of their values.

    Parameters
    ----------
    labels : float64, shape (n_rows,)
    most : int

    Returns
    -------
    int64, shape (n,)
    """
    order = np.argsort(labels, kind="stable")
    return order[np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).astype(np.int64))]


def _mean_values(model: TestedModel) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.mean([run.probabilities[:, 0] for run in model.runs], axis=0)
    return mean


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.tick_params(labelsize=7)
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)


def _values(axes: Axes, models: Sequence[TestedModel], metric: str, corner: tuple[float, float]) -> None:
    """Write a metric's values in a corner of a panel, in the models' colours and order."""
    right, top = corner[0] > 0.5, corner[1] > 0.5
    title = METRICS[metric].title
    lines = [(title[0].upper() + title[1:], "black")]
    for model in models:
        value = model.value(metric)
        lines.append(("–" if value is None else as_printed(value, metric), model.line["color"]))
    for row, (text, colour) in enumerate(lines if top else reversed(lines)):
        axes.annotate(
            text, corner, (0, -8.5 * row if top else 8.5 * row), xycoords="axes fraction",
            textcoords="offset points", fontsize=7.5, color=colour, ha="right" if right else "left",
            va="top" if top else "bottom", zorder=5,
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.3},
        )  # fmt: skip


def _confusion(axes: Axes, counts: NDArray[np.float64], names: Sequence[str]) -> None:
    """Draw counts by true and predicted class, coloured by their fraction of the true class."""
    from matplotlib.colors import LinearSegmentedColormap

    rows = counts.sum(axis=1, keepdims=True)
    fractions = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
    shades = LinearSegmentedColormap.from_list("white to blue", ["#ffffff", BLUE])
    # Not an image: those are not sharp at every size.
    axes.pcolormesh(fractions, cmap=shades, vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
    axes.invert_yaxis()
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=7)
    n = len(names)
    if n <= CLASSES_WITH_COUNTS:
        for row, column in np.ndindex(n, n):
            axes.annotate(
                f"{counts[row, column]:,.0f}", (column + 0.5, row + 0.5), ha="center", va="center", fontsize=7.5,
                color="white" if fractions[row, column] > 0.5 else "black",
            )  # fmt: skip
    every = max(1, -(-n // 10))
    labels = [shortened(name, LONGEST_NAME) if at % every == 0 else "" for at, name in enumerate(names)]
    # Next to each other as long as they fit the width of a panel.
    axes.set_xticks(
        np.arange(n) + 0.5, labels, rotation=0 if n * max(map(len, labels)) <= LETTERS_IN_A_ROW else 90
    )
    axes.set_yticks(np.arange(n) + 0.5, labels)
    axes.set_xlabel("predicted", fontsize=8)
    axes.set_ylabel("true", fontsize=8)
