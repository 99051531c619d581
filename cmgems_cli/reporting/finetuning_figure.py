"""The picture of fine-tuning: loss by step, on the training rows and on dev."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmgems_cli.reporting.plot_style import (
    LETTERS_OF_LABEL,
    grouped_digits,
    legend_above,
    line_of,
    panels,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class FinetuningCurve:
    """One classifier's losses.

    Attributes
    ----------
    label : str
    colour : int
        Index into `COLOURS` and the dashes.
    window : int
        Steps that a point of `losses` is the mean of.
    steps : list of int
        The last step of each window.
    losses : list of float
        Training loss of each window.
    dev : list of (int, float)
        Step and loss of each evaluation on dev; empty without a dev split.
    best_step : int or None
        Of the model that was tested; None: the last one.
    """

    label: str
    colour: int
    window: int
    steps: list[int]
    losses: list[float]
    dev: list[tuple[int, float]]
    best_step: int | None


def finetuning_curves(curves: Sequence[FinetuningCurve]) -> Figure:
    """Draw the training losses and, if there are any, the dev losses on the same scale."""
    titles = ["training rows", *(["dev split"] if any(curve.dev for curve in curves) else [])]
    figure, axes = panels(len(titles), height=3.0, sharey=True, width=6.7 if len(titles) > 1 else 4.6)
    for one, title in zip(axes, titles, strict=True):
        one.set_title(title, loc="left")
        one.set_xlabel("step")
        grouped_digits(one.xaxis)
        one.grid(axis="y")
    axes[0].set_ylabel("loss")
    labels = [shortened(curve.label, LETTERS_OF_LABEL) for curve in curves]
    for curve, label in zip(curves, labels, strict=True):
        how = line_of(curve.colour)
        axes[0].plot(curve.steps, curve.losses, label=label, **how)
        if curve.dev:
            axes[1].plot(*zip(*curve.dev, strict=True), marker=".", markersize=3, **how)
            for step, loss in curve.dev:
                if step == curve.best_step:
                    axes[1].plot([step], [loss], "o", color=how["color"], markersize=5)
    for one in axes[1:]:
        one.set_xlim(axes[0].get_xlim())
    legend_above(figure, labels)
    return figure
