"""Pictures with long names: what is written stays inside the picture, and the panels keep their room."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("matplotlib")

from matplotlib.backends.backend_agg import FigureCanvasAgg

from cmgems_cli.reporting import figures
from cmgems_cli.reporting.finetuning_figure import FinetuningCurve, finetuning_curves
from cmgems_cli.reporting.plot_style import shortened, style
from cmgems_cli.reporting.sources import endings_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = [f"dnabert-cm-gems (random weights) (of/a/folder/deep/below/the/workspace-{n})" for n in range(9)]
CURVES = [
    figures.Curve(name, n, [1, 2, 3], [9.0, 8.0, 7.0], [9.0, 7.0, 6.0], 2) for n, name in enumerate(NAMES)
]
LOSSES = [FinetuningCurve(name, n, 1, [1, 2], [0.7, 0.6], [(2, 0.6)], 2) for n, name in enumerate(NAMES)]
BARS = [figures.Bar(name, n, 0.5 + n / 20, 0.02) for n, name in enumerate(NAMES)]
ROWS = [figures.Difference(name, n, (n - 1, n + 1), [n]) for n, name in enumerate(NAMES)]
DRAWINGS: dict[str, Callable[[], "Figure"]] = {
    "learning curves": lambda: figures.learning_curves(CURVES, [10.0, 9.9], "step"),
    "fine-tuning": lambda: finetuning_curves(LOSSES),
    "bars": lambda: figures.fractions_of_best(
        {
            "human, 12 tasks": ("dnabert2-kmer-120k, 65.34", BARS),
            "mouse, 2 tasks": ("logo-cm-gems-10k, 70.10", BARS),
        }
    ),
    "differences": lambda: figures.differences(ROWS, ROWS[0], f"MCC × 100: {NAMES[0]} minus {NAMES[1]}"),
    "ranks": lambda: figures.mean_ranks({name: 1.0 + n for n, name in enumerate(NAMES)}, {NAMES[0]: 0}, 2.5),
}


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_long_names_fit(drawing: str) -> None:
    with style(), warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns if it finds no layout
        figure = DRAWINGS[drawing]()
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        drawn, (width, height) = figure.get_tightbbox(canvas.get_renderer()), figure.get_size_inches()
        assert drawn.x0 > -0.02
        assert drawn.x1 < width + 0.02
        assert drawn.y0 > -0.02
        assert drawn.y1 < height + 0.02
        for axes in figure.axes:
            assert axes.bbox.width > 0.25 * figure.bbox.width
            assert axes.bbox.height > 0.3 * figure.bbox.height or drawing == "ranks"


def test_a_shortened_name_keeps_its_end() -> None:
    assert shortened(NAMES[3], 20) == "dnabert-cm…kspace-3)"
    assert len({shortened(name, 26) for name in NAMES}) == len(NAMES)
    assert shortened("short", 5) == "short"


@pytest.mark.parametrize(
    ("folders", "endings"),
    [
        (["a/b/one", "a/b/two"], ["one", "two"]),
        (["a/x/one", "a/y/one", "a/y/two"], ["x/one", "y/one", "y/two"]),
    ],
)
def test_runs_of_one_name_are_told_apart_by_as_much_of_their_paths_as_it_takes(
    folders: list[str], endings: list[str]
) -> None:
    assert endings_of([Path(folder) for folder in folders]) == endings
