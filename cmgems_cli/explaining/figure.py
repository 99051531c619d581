"""The figure: each sequence as a logo of importance above a heat map of all substitutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.explaining.edits import LETTERS
from cmgems_cli.explaining.effects import importance_of
from cmgems_cli.explaining.summary import Profile
from cmgems_cli.palette import BLUE, GREEN, GREY, ORANGE, VERMILION
from cmgems_cli.reporting.plot_style import WIDTH, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, nearest to those that genome browsers use.
LETTER_COLOURS = dict(zip(LETTERS, (GREEN, BLUE, ORANGE, VERMILION), strict=True))

# Purple and orange can be distinguished with any kind of colour vision.
_COLOUR_MAP = "PuOr"

# ours: bases per line, at which letters are readable on a page.
LINE_BASES = 70

# Inches: heights of a line's logo and heat map, and of what surrounds them.
_LOGO, _MAP, _BETWEEN = 0.85, 0.5, 0.62

# A letter's width in bases.
_LETTER_WIDTH = 0.92


@dataclass(frozen=True, eq=False)
class Shown:
    """A sequence in the figure.

    Attributes
    ----------
    title : str
    first : int
        Position of the first base.
    letters : str
    substitutions : float32, shape (n, 4)
    """

    title: str
    first: int
    letters: str
    substitutions: NDArray[np.float32]


@cache
def _outline(letter: str) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return vertices and codes of a letter's outline in the unit square."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    outline = TextPath((0, 0), letter, size=1, prop=FontProperties(family="DejaVu Sans", weight="bold"))
    box = outline.get_extents()
    vertices = (np.asarray(outline.vertices) - (box.x0, box.y0)) / (box.width, box.height)
    return vertices, np.asarray(outline.codes, np.uint8)


def draw_logo(axes: Axes, letters: str, heights: NDArray[np.float32], first: int = 0) -> None:
    """Draw letters, each as high as its value; those below zero hang from the axis, turned upside down and pale.

    Parameters
    ----------
    axes : Axes
    letters : str, of length n
    heights : float32, shape (n,)
        NaN draws nothing.
    first : int
        Position of the first letter.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    for letter, colour in LETTER_COLOURS.items():
        for sign in (1, -1):
            at = [i for i, one in enumerate(letters) if one == letter and heights[i] * sign > 0]
            if not at:
                continue
            outline, codes = _outline(letter)
            vertices = outline * (_LETTER_WIDTH, 1.0) - (_LETTER_WIDTH / 2, 0.0)
            placed = [vertices * (1.0, float(heights[i])) + (first + i, 0.0) for i in at]
            path = Path(np.concatenate(placed), np.tile(codes, len(at)))
            axes.add_patch(PathPatch(path, facecolor=colour, linewidth=0, alpha=1.0 if sign > 0 else 0.55))
    axes.axhline(0, color="black", linewidth=0.6)


def explanation_figure(
    shown: Sequence[Shown],
    profile: Profile | None = None,
    *,
    changed: str,
    width: float = WIDTH,
    line_bases: int = LINE_BASES,
) -> Figure:
    """Draw sequences below each other, and above them the mean importance of all sequences if there is a profile.

    Parameters
    ----------
    shown : sequence of Shown
        Each with a value at least.
    profile : Profile, optional
    changed : str
        What the colours are, for their scale.
    width : float, default `plot_style.WIDTH`
        Inches.
    line_bases : int, default `LINE_BASES`
        Longer sequences are continued on the next line.

    Returns
    -------
    Figure
    """
    from matplotlib.figure import Figure

    with style():
        lines = [
            (one, start, min(start + line_bases, len(one.letters)))
            for one in shown
            for start in range(0, len(one.letters), line_bases)
        ]
        ratios = [_LOGO + 0.2, *([_BETWEEN] if lines else [])] if profile is not None else []
        for _ in lines:
            ratios += [_LOGO, 0.04, _MAP, _BETWEEN]
        if lines:
            ratios += [0.12]  # scale of the colours
        figure = Figure(figsize=(width, sum(ratios) + 0.62))
        height = figure.get_size_inches()[1]
        grid = figure.add_gridspec(
            len(ratios), 1, height_ratios=ratios, left=0.62 / width, right=1 - 0.12 / width, top=1 - 0.3 / height,
            bottom=0.4 / height, hspace=0,
        )  # fmt: skip
        row = 0
        if profile is not None:
            _draw_profile(figure.add_subplot(grid[0]), profile)
            row = 2
        image = None
        longest = min(line_bases, max((len(one.letters) for one in shown), default=1))
        # One scale of colours for all.
        limit = max((float(np.nanmax(np.abs(one.substitutions))) for one in shown), default=0.0) or 1.0
        for one, start, end in lines:
            image = _draw_line(figure, grid, row, one, start, end, longest, limit)
            row += 4
        if image is not None:
            bar = figure.colorbar(image, cax=figure.add_subplot(grid[row]), orientation="horizontal")
            bar.set_label(changed)
            bar.outline.set_visible(False)
    return figure


def _draw_line(
    figure: Figure, grid: Any, row: int, one: Shown, start: int, end: int, longest: int, limit: float
) -> Any:
    """Draw a line of a sequence at rows `row` and `row + 2` of the grid; return the heat map."""
    letters, effects = one.letters[start:end], one.substitutions[start:end]
    importance = importance_of(one.substitutions)
    first = one.first + start
    logo, heat = figure.add_subplot(grid[row]), figure.add_subplot(grid[row + 2])
    draw_logo(logo, letters, importance[start:end], first)
    low, high = min(0.0, float(np.nanmin(importance))), max(0.0, float(np.nanmax(importance)))
    margin = 0.05 * (high - low) or 1.0
    logo.set_ylim(low - margin, high + margin)
    logo.set_xlim(first - 0.7, first + longest - 0.3)
    logo.tick_params(bottom=False, labelbottom=False)
    logo.spines["bottom"].set_visible(False)
    logo.set_ylabel("importance")
    logo.locator_params(axis="y", nbins=3)
    if start == 0:
        logo.set_title(one.title, loc="left")
    image = heat.imshow(
        effects.T, cmap=_COLOUR_MAP, vmin=-limit, vmax=limit, aspect="auto", interpolation="none",
        extent=(first - 0.5, first + len(letters) - 0.5, len(LETTERS) - 0.5, -0.5),
    )  # fmt: skip
    own = [(first + i, LETTERS.index(letter)) for i, letter in enumerate(letters) if letter in LETTERS]
    if own:
        heat.plot(*zip(*own, strict=True), linestyle="", marker=".", markersize=1.8, color=GREY)
    heat.set_xlim(first - 0.7, first + longest - 0.3)
    heat.set_yticks(range(len(LETTERS)), list(LETTERS))
    for label, letter in zip(heat.get_yticklabels(), LETTERS, strict=True):
        label.set_color(LETTER_COLOURS[letter])
    heat.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        heat.spines[side].set_visible(False)
    heat.set_xlabel("position", labelpad=1)
    return image


def _draw_profile(axes: Axes, profile: Profile) -> None:
    positions = np.arange(len(profile.mean))
    axes.fill_between(positions, 0, profile.mean, color=BLUE, alpha=0.35, linewidth=0, step="mid")
    axes.plot(positions, profile.mean, color=BLUE, linewidth=1, drawstyle="steps-mid")
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlim(-0.7, len(positions) - 0.3)
    axes.set_ylabel("importance")
    axes.set_xlabel("position", labelpad=1)
    axes.locator_params(axis="y", nbins=4)
    most = int(profile.count.max(initial=0))
    axes.set_title(f"mean of {most:,} sequences", loc="left")
