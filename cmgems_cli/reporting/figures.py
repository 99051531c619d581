"""The report's pictures, one function each."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cmgems_cli.palette import GREY, text_colour_on
from cmgems_cli.reporting.plot_style import (
    LETTERS,
    LETTERS_OF_LABEL,
    MARKERS,
    PALE,
    colour_of,
    grouped_digits,
    legend_above,
    line_of,
    log_scale,
    panels,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curve:
    """Validation perplexity of one pretraining run.

    Attributes
    ----------
    label : str
    colour : int
        Index into `COLOURS` and the dashes.
    x : list of int
        Steps, or sequences seen, of the evaluations.
    fixed, active : list of float
        Perplexity under the fixed masks and under the strategy's own.
    switched_at : int or None
        On the scale of `x`.
    """

    label: str
    colour: int
    x: list[int]
    fixed: list[float]
    active: list[float]
    switched_at: int | None


@dataclass(frozen=True)
class Bar:
    """One model's value: `sd` over seeds if there are several; `own` is false for a published model."""

    label: str
    colour: int
    value: float
    sd: float | None
    own: bool = True


@dataclass(frozen=True)
class Difference:
    """One row of a picture of differences: the mean, its interval, and the single differences."""

    label: str
    mean: float
    interval: tuple[float, float] | None
    single: list[float]


def learning_curves(curves: Sequence[Curve], unigram: Sequence[float], x_name: str) -> Figure:
    """Draw perplexity under the fixed masks (comparable) and under the active masks (not comparable).

    Parameters
    ----------
    curves : sequence of Curve
    unigram : sequence of float
        Baselines: perplexity of k-mer frequencies alone, under the fixed masks.
    x_name : str
        What `Curve.x` counts.
    """
    figure, (left, right) = panels(2, height=3.3, sharey=True)
    for axes, title in ((left, "fixed masks: comparable"), (right, "active masks: not comparable")):
        axes.set_title(title, loc="left")
        axes.set_xlabel(x_name)
        grouped_digits(axes.xaxis)
        axes.grid(axis="y")
    labels = [shortened(curve.label, LETTERS_OF_LABEL) for curve in curves]
    for curve, label in zip(curves, labels, strict=True):
        how = line_of(curve.colour)
        left.plot(curve.x, curve.fixed, label=label, **how)
        right.plot(curve.x, curve.active, **how)
        for axes in (left, right):
            if curve.switched_at is not None:
                axes.axvline(curve.switched_at, color=how["color"], linewidth=0.8, linestyle=":")
    for value in unigram:
        left.axhline(value, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    if unigram:
        left.annotate(
            "k-mer frequencies alone", (1, max(unigram)), (0, 2), ha="right", va="bottom", fontsize=7.5, color=GREY,
            xycoords=("axes fraction", "data"), textcoords="offset points",
        )  # fmt: skip
    log_scale(left)
    left.set_ylabel("validation perplexity")
    _mark_switches(left, curves)
    legend_above(figure, labels)
    return figure


def _mark_switches(axes: Axes, curves: Sequence[Curve]) -> None:
    """Label the dotted lines at the bottom, stacked; lines that coincide share a label."""
    middle = max(curve.x[-1] for curve in curves) / 2
    colour_at = {
        curve.switched_at: curve.colour for curve in reversed(curves) if curve.switched_at is not None
    }
    for row, (step, colour) in enumerate(sorted(colour_at.items())):
        left = step > middle
        axes.annotate(
            f"switch after {step:,}", (step, 0), (-3 if left else 3, 3 + 9 * row), ha="right" if left else "left",
            xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=7.5, color=colour_of(colour),
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
        )  # fmt: skip


def ranking(npmi: Sequence[float], with_cg: Sequence[bool], ends: Sequence[tuple[int, str]]) -> Figure:
    """Draw NPMI by rank, and its distribution for k-mers with and without CG.

    Parameters
    ----------
    npmi : sequence of float, nats
        Of the ranked k-mers, best first.
    with_cg : sequence of bool
        Whether the k-mer contains the dinucleotide CG.
    ends : sequence of (int, str)
        Ranks to name, with their k-mers.
    """
    import numpy as np

    figure, (left, right) = panels(2, height=3.0, sharey=True, width_ratios=(3, 2))
    values, cg = np.asarray(npmi, dtype=float), np.asarray(with_cg, dtype=bool)
    ranks = np.arange(1, len(values) + 1)
    shown = np.unique(np.linspace(0, len(values) - 1, 2000).astype(int))
    left.plot(ranks[shown], values[shown], color=colour_of(0), linewidth=1.6)
    left.axhline(0, color=GREY, linewidth=0.7)
    half = len(values) / 2
    for place, (rank, kmer) in enumerate(ends):
        best = rank <= half
        row = place if best else len(ends) - 1 - place
        left.annotate(
            f"{rank:,}  {kmer}", (0.10, 0.97) if best else (0.60, 0.05), (0, -10 * row if best else 10 * row),
            xycoords="axes fraction", textcoords="offset points", fontsize=7.5,
            va="top" if best else "bottom", family="DejaVu Sans Mono",
        )  # fmt: skip
    left.set_xlabel("rank (1 = highest NPMI)")
    grouped_digits(left.xaxis)
    left.set_ylabel("NPMI (nats)")
    left.grid(axis="y")
    bins = np.linspace(values.min(), values.max() if values.max() > values.min() else values.min() + 1, 41)
    for flags, colour, label in ((~cg, 0, "without CG"), (cg, 1, "with CG")):
        right.hist(
            values[flags], bins=bins.tolist(), orientation="horizontal", histtype="stepfilled", alpha=0.55,
            color=colour_of(colour), label=f"{label}: {int(flags.sum()):,}",
        )  # fmt: skip
    right.set_xlabel("k-mers")
    right.grid(axis="x")
    right.legend(loc="lower right")
    return figure


def fractions_of_best(groups: Mapping[str, tuple[str, Sequence[Bar]]]) -> Figure:
    """Draw fractions of the best published model (paper, Figure 3), one panel per species group.

    Parameters
    ----------
    groups : mapping, title -> (words about the best model, bars)
        Values are fractions of 1.
    """
    rows = max(len(bars) for _, bars in groups.values())
    figure, every = panels(len(groups), height=1.5 + 0.27 * rows, sharey=True)
    letters = max(16, (LETTERS - LETTERS_OF_LABEL) // len(groups) - 4)
    for axes, (title, (best, bars)) in zip(every, groups.items(), strict=True):
        axes.set_title("\n".join([title, *textwrap.wrap(f"100 % = {best}", letters)]), loc="left")
        for row, bar in enumerate(bars):
            look: dict[str, Any] = (
                {"color": colour_of(bar.colour)}
                if bar.own
                else {"color": PALE, "edgecolor": GREY, "hatch": "////"}
            )
            axes.barh(row, 100 * bar.value, height=0.68, linewidth=0.5, **look)
            if bar.sd is not None:
                axes.errorbar(
                    100 * bar.value, row, xerr=100 * bar.sd, color="black", linewidth=0.9, capsize=2
                )
            # On the bar, above its whisker; to the right of a bar that is too short for the text.
            inside = bar.value > 0.25
            axes.annotate(
                f"{100 * bar.value:.1f} %",
                (2 if inside else max(0.0, 100 * (bar.value + (bar.sd or 0))) + 2, row),
                va="center",
                fontsize=8,
                color=text_colour_on(colour_of(bar.colour)) if bar.own and inside else "black",
                bbox={
                    "facecolor": colour_of(bar.colour) if bar.own and inside else "white",
                    "linewidth": 0,
                    "pad": 1,
                },
                zorder=5,
            )
        axes.axvline(100, color="black", linewidth=0.9)
        axes.axvline(90, color="black", linewidth=0.7, linestyle=(0, (2, 2)))
        axes.set_xlabel("% of the best mean")
        axes.grid(axis="x")
    first = next(iter(groups.values()))[1]
    every[0].set_yticks(range(len(first)), [shortened(bar.label, LETTERS_OF_LABEL) for bar in first])
    every[0].invert_yaxis()
    return figure


def mask_rates(lines: Mapping[str, Sequence[tuple[int, float, float | None]]], y_name: str) -> Figure:
    """Draw the mean score against the steps of pretraining, one line per mask rate (paper, Figure 4).

    Parameters
    ----------
    lines : mapping, label -> sequence of (steps, mean, sd over seeds or None)
    y_name : str
    """
    figure, (axes,) = panels(1, height=3.0, width=4.6)
    for index, (label, points) in enumerate(lines.items()):
        steps, means, sds = zip(*sorted(points), strict=True)
        how = {**line_of(index), "marker": MARKERS[index % len(MARKERS)], "markersize": 5, "label": label}
        if all(sd is not None for sd in sds):
            axes.errorbar(steps, means, yerr=sds, capsize=2, elinewidth=0.9, **how)
        else:
            axes.plot(steps, means, **how)
    every = sorted({point[0] for points in lines.values() for point in points})
    if every[-1] > 4 * every[0]:
        axes.set_xscale("log")
    axes.set_xticks(every, [f"{steps:,}" for steps in every])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("steps of pretraining")
    axes.set_ylabel(y_name)
    axes.grid(axis="y")
    axes.legend()
    return figure


def differences(rows: Sequence[Difference], overall: Difference, x_name: str) -> Figure:
    """Draw differences task by task, and their mean below.

    Parameters
    ----------
    rows : sequence of Difference
        One per task.
    overall : Difference
        Over the tasks.
    x_name : str
    """
    figure, (axes,) = panels(1, height=1.4 + 0.24 * len(rows))
    for place, row in enumerate([*rows, overall]):
        last = row is overall
        y = place + 0.35 * last
        colour = "black" if last else colour_of(0)
        axes.plot(row.single, [y] * len(row.single), "|", color=GREY, markersize=7, markeredgewidth=0.9)
        if row.interval:
            axes.plot(row.interval, [y, y], color=colour, linewidth=2.2 if last else 1.4)
        axes.plot([row.mean], [y], "D" if last else "o", color=colour, markersize=6 if last else 5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axhline(len(rows) - 0.33, color=PALE, linewidth=0.8)
    labels = [shortened(row.label, LETTERS_OF_LABEL) for row in (*rows, overall)]
    axes.set_yticks([*range(len(rows)), len(rows) + 0.35], labels)
    axes.set_ylim(len(rows) + 0.9, -0.6)
    axes.set_xlabel(textwrap.fill(x_name, LETTERS - LETTERS_OF_LABEL))
    axes.grid(axis="x")
    return figure


def mean_ranks(ranks: Mapping[str, float], colours: Mapping[str, int], critical: float | None) -> Figure:
    """Draw mean ranks on an axis, the best on the left, bars over models closer than the critical difference.

    Parameters
    ----------
    ranks : mapping, label -> mean rank
        1 is best.
    colours : mapping, label -> int
        Colour number of a dot; models without one are grey.
    critical : float or None
        Nemenyi's critical difference of mean ranks.
    """
    ordered = sorted(ranks.items(), key=lambda item: (item[1], item[0]))
    n = len(ordered)
    bars = _bars(ordered, critical)
    figure, (axes,) = panels(1, height=1.5 + 0.24 * ((n + 1) // 2) + 0.14 * len(bars))
    axes.set_xlim(1 - 0.02 * (n - 1), n + 0.02 * (n - 1))
    top = 2.1 if critical is not None else 0.3
    depth = 0.5 * len(bars) + 0.9
    axes.set_ylim(-depth - 0.8 * ((n + 1) // 2) + 0.3, top)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.spines["top"].set_visible(True)
    axes.set_xticks(range(1, n + 1))
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("mean rank (1 = best)")
    for place, (name, rank) in enumerate(ordered):
        label = shortened(name, LETTERS_OF_LABEL - 6)
        left = place < (n + 1) // 2
        y = -depth - 0.8 * (place if left else n - 1 - place)
        end = 1 if left else n
        axes.plot([rank, rank, end], [top, y, y], color=GREY, linewidth=0.8, clip_on=False)
        colour = colour_of(colours[name]) if name in colours else GREY
        axes.plot([rank], [top], "o", color=colour, markersize=5, clip_on=False, zorder=3)
        side = -1 if left else 1
        axes.annotate(
            f"{label}  {rank:.2f}", (end, y), (4 * side, 0), textcoords="offset points", fontsize=8.5,
            ha="right" if left else "left", va="center", annotation_clip=False,
        )  # fmt: skip
    for row, (first, last) in enumerate(bars):
        axes.plot([first - 0.03, last + 0.03], [-0.5 * (row + 1)] * 2, color="black", linewidth=3)
    if critical is not None:
        axes.annotate(
            f"critical difference {critical:.2f}", (1, 1.45), (4, 0), textcoords="offset points", va="center",
            fontsize=8, annotation_clip=False, bbox={"facecolor": "white", "linewidth": 0, "pad": 1},
        )  # fmt: skip
        axes.plot([1, min(n, 1 + critical)], [0.85, 0.85], "|-", color="black", linewidth=1, clip_on=False)
    return figure


def _bars(ordered: Sequence[tuple[str, float]], critical: float | None) -> list[tuple[float, float]]:
    """Return the widest ranges of mean ranks that are within the critical difference."""
    if critical is None:
        return []
    values = [rank for _, rank in ordered]
    found: list[tuple[float, float]] = []
    for start, first in enumerate(values):
        last = max(value for value in values[start:] if value - first <= critical)
        if last > first and not (found and last <= found[-1][1]):
            found.append((first, last))
    return found
