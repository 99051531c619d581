"""Style and rendering of the pictures: matplotlib without pyplot, windows or global state."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cmgems_cli.palette import COLOURS
from cmgems_cli.safe_text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Curves also differ in black and white.
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
PALE = "#d9d9d9"

# Inches: the text width of a page with one column; dots per inch asked for by most journals.
WIDTH = 6.7
DPI = 300
# ours: letters of the labels' size that fit into WIDTH, and of a label next to a panel or in a legend.
LETTERS, LETTERS_OF_LABEL = 96, 32

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.fonttype": "path",  # viewers need no fonts
    "svg.hashsalt": "cmgems",  # identifiers follow from the content
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the report's style, whatever the user's settings are."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def rendered(figure: Figure) -> tuple[bytes, bytes]:
    """Return a figure as SVG and as PNG: without date or version, so that equal pictures are equal bytes."""
    svg = as_svg(figure)
    # The layout is found: the second picture is the same, and does not look for it again.
    figure.set_layout_engine("none")
    return svg, as_png(figure)


def as_svg(figure: Figure) -> bytes:
    """Return a figure as SVG; see `rendered`."""
    _make_printable(figure)
    svg = io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return svg.getvalue()


def as_png(figure: Figure) -> bytes:
    """Return a figure as PNG; see `rendered`."""
    _make_printable(figure)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return png.getvalue()


def _make_printable(figure: Figure) -> None:
    """Escape what no font draws and no SVG may hold; labels of ticks come from `shortened`."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(printable(text.get_text()))


def panels(
    count: int, *, height: float, width: float = WIDTH, sharey: bool = False, width_ratios: Any = None
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side; sizes in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    drawn = figure.subplots(1, count, sharey=sharey, squeeze=False, width_ratios=width_ratios)
    return figure, list(drawn[0])


def grid_of_panels(
    count: int, *, columns: int, width: float, height: float, header: float
) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels in rows of `columns`, each row `height` high, below `header`; sizes in inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rows = -(-count // columns)
    whole = rows * height + header
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - header / whole))
    figure = Figure(figsize=(width, whole), layout=layout)
    drawn = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in drawn[count:]:
        axes.set_visible(False)
    return figure, list(drawn[:count])


def colour_of(index: int) -> str:
    """Return the colour of the index-th model, from 0."""
    return COLOURS[index % len(COLOURS)]


def line_of(index: int) -> dict[str, Any]:
    """Return the line style of the index-th model's curve."""
    dashes = DASHES[(index + index // len(COLOURS)) % len(DASHES)]
    return {"color": colour_of(index), "linestyle": dashes, "linewidth": 1.6}


def shortened(text: str, most: int) -> str:
    """Return a printable text of at most this many characters; names that begin alike differ at their ends.

    >>> shortened("promoters", 6)
    'pro…rs'
    """
    text = printable(text)
    end = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def legend_above(figure: Figure, labels: Sequence[str]) -> None:
    """Put the legend of lines with these labels above the panels, and make the figure higher by its rows but one."""
    longest = max(map(len, labels))
    # ours: characters that fit into the width, the line of each entry counted.
    columns = max(1, min(3, len(labels), LETTERS // (longest + 6)))
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.17 * (rows - 1))
    figure.legend(loc="outside upper left", ncols=columns)


def grouped_digits(axis: Any) -> None:
    """Separate the thousands in an axis's numbers."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.4g}" if abs(value) < 1 else f"{value:,.0f}")
    )


def log_scale(axes: Axes) -> None:
    """Use a logarithmic y axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axes.yaxis.set_minor_locator(NullLocator())
