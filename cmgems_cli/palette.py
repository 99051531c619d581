"""Colours that the colour-blind can tell apart, for pages and figures."""

from __future__ import annotations

# Okabe and Ito's colours, without yellow (faint on white), and their grey.
BLUE, VERMILION, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
GREY, SKY_BLUE, ORANGE, BLACK = "#666666", "#56b4e9", "#e69f00", "#000000"

# The order in which models get their colours.
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, GREY, SKY_BLUE, ORANGE, BLACK)

# ColorBrewer's RdYlBu with ten classes (Brewer, Harrower and Penn State): the best tenth of a ranking is
# red, the worst blue.
RANK_TENTHS = (
    "#a50026",
    "#d73027",
    "#f46d43",
    "#fdae61",
    "#fee090",
    "#e0f3f8",
    "#abd9e9",
    "#74add1",
    "#4575b4",
    "#313695",
)
UNRANKED = "#bdbdbd"

_DARK = frozenset({BLUE, VERMILION, GREEN, GREY, BLACK, "#a50026", "#d73027", "#4575b4", "#313695"})


def background_of(tenth: int) -> str:
    """Return the background (#rrggbb) of a tenth of the ranking, 0 … 9; grey for any other number."""
    return RANK_TENTHS[tenth] if 0 <= tenth < len(RANK_TENTHS) else UNRANKED


def text_colour_on(background: str) -> str:
    """Return the colour (#rrggbb) of text that is readable on one of these colours."""
    return "#ffffff" if background in _DARK else "#000000"
