"""The colours of a k-mer's rank, and of the strategies' curves."""

from __future__ import annotations

from cmgems_cli.masking import Strategy

# ColorBrewer's RdYlBu with ten classes (Brewer, Harrower and Penn State), told apart by the colour-blind:
# the best tenth of the ranking is red, the worst blue.
_PAPERS = (
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
_UNRANKED_PAPER = "#bdbdbd"
_DARK_PAPERS = frozenset({"#a50026", "#d73027", "#4575b4", "#313695"})

# Okabe and Ito's colours for the colour-blind.
_CURVES = {
    Strategy.RANDOM: "#666666",
    Strategy.GENEMASK: "#0072b2",
    Strategy.GLOBAL: "#d55e00",
    Strategy.RANDOM_MASK: "#009e73",
}


def paper_of(tenth: int) -> str:
    """Return the background (#rrggbb) of a tenth of the ranking, 0 … 9; grey for any other number."""
    return _PAPERS[tenth] if 0 <= tenth < len(_PAPERS) else _UNRANKED_PAPER


def ink_of(tenth: int) -> str:
    """Return the colour of letters that can be read on `paper_of`."""
    return "#ffffff" if paper_of(tenth) in _DARK_PAPERS else "#000000"


def curve_of(strategy: Strategy) -> str:
    """Return the colour (#rrggbb) of a strategy's curve."""
    return _CURVES[strategy]
