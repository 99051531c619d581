"""Masks as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.files import write_output
from cmgems_cli.html_page import html_page, html_table
from cmgems_cli.mask_viewer.samples import MaskSample
from cmgems_cli.mask_viewer.summaries import (
    NO_TENTH,
    TENTHS,
    Excerpt,
    extreme_rows,
    overlap_rows,
    summary_rows,
)
from cmgems_cli.mask_viewer.tally import LEAST_SEEN, MaskTally
from cmgems_cli.palette import background_of, text_colour_on
from cmgems_cli.safe_text import in_html

# Tokens per line.
_LINE = 102

# Groups of k-mers along the ranking.
_RANK_GROUPS = 100

_STYLE = """
pre i { font-style: normal; color: #b5b5b5 }
pre u { text-decoration: none; color: #666 }
b { font-weight: inherit }
td { white-space: nowrap }
svg { display: block; width: 100%; height: auto; min-width: 54rem; max-width: 60rem }
svg text { font: 12px system-ui, sans-serif; fill: #444 }
"""


def write_page(path: Path, sample: MaskSample, tally: MaskTally, shown: Sequence[Excerpt]) -> None:
    """Write the page atomically.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    sample, tally
        The masks, and their counts.
    shown : sequence of Excerpt
        Whole sequences to show.
    """
    names = [variant.name for variant in sample.variants]
    by_position = (
        " (position): ranks are looked up by the position in the sequence, as in the released code, instead of by the"
        " k-mer."
        if any("(position)" in name for name in names)
        else ""
    )
    ranks = tally.rank_fraction(sample.rank_of_token, min(_RANK_GROUPS, 4**tally.k))
    parts = [
        f"<p>{tally.sequences:,} sequences ({tally.tokens:,} {tally.k}-mers), masked as in the first epoch of a"
        f" pretraining run with seed {sample.seed} and mask rate {sample.mask_rate:g}.{by_position}</p>",
        "<h2>Masked fraction and spans</h2>",
        html_table(["", *names], summary_rows(tally)),
        "<p>A base is hidden if no visible token contains it. Mostly masked: in more than half of the sequences or"
        f" occurrences. Positions and k-mers seen fewer than {LEAST_SEEN} times are not counted.</p>",
        "<h2>Along the sequence</h2>",
        "<p>Fraction of sequences masked at each position. Masks that depend on the k-mers give level curves; spikes at"
        " fixed positions mean that ranks are looked up by position.</p>",
        _curves(sample, tally.position_fraction(), "position", f"{len(tally.seen_at_position) - 1:,}", "0"),
        "<h2>Along the ranking</h2>",
        "<p>Fraction of occurrences masked, in groups of equally many k-mers from the best NPMI rank to the"
        " worst.</p>",
        _curves(sample, ranks, "rank", "worst", "best"),
        "<h2>K-mers masked most and least</h2>",
        html_table(["", *names], extreme_rows(tally)),
        "<h2>Overlap</h2>",
        "<p>Fraction of the tokens masked by the row's strategy that the column's strategy also masks.</p>",
        html_table(["", *names], overlap_rows(sample, tally)),
    ]
    if shown:
        parts += ["<h2>Sequences</h2>", _legend(tally.k), *(_sequence(one, sample) for one in shown)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_output(path, html_page("Masks by strategy", parts, style=_STYLE + _tenth_style()))


def _tenth_style() -> str:
    return "".join(
        f"b.t{'n' if tenth == NO_TENTH else tenth} {{ background: {background_of(tenth)};"
        f" color: {text_colour_on(background_of(tenth))} }}\n"
        for tenth in (NO_TENTH, *range(TENTHS))
    )


def _legend(k: int) -> str:
    tenths = list(range(TENTHS))
    colours = _coloured("".join(map(str, tenths)), tenths, [True] * TENTHS)
    return (
        f"<p>A letter is the first base of a masked {k}-mer, coloured by its tenth of the NPMI ranking (best"
        f" <code>{colours}</code> worst, grey: not ranked); a dot is a visible one. Intervals are 0-based"
        " and half-open.</p>"
    )


def _sequence(one: Excerpt, sample: MaskSample) -> str:
    """Return one sequence in lines, the masks of each variant below each line."""
    label = max(len(variant.name) for variant in sample.variants) + 2
    blocks = []
    for start in range(0, len(one.bases), _LINE):
        part = slice(start, start + _LINE)
        bases, tenths = one.bases[part], one.tenths[part].tolist()
        lines = [
            f"<u>{str(one.first + start).ljust(label)}</u>{_coloured(bases, tenths, [True] * len(bases))}"
        ]
        for variant, masked in zip(sample.variants, one.masks, strict=True):
            lines.append(variant.name.ljust(label) + _coloured(bases, tenths, masked[part].tolist()))
        blocks.append("\n".join(lines))
    title = f"{one.number}. {in_html(str(one.interval))}, {one.n_tokens} tokens"
    return f"<h3>{title}</h3>\n<pre>" + "\n\n".join(blocks) + "</pre>"


def _coloured(bases: str, tenths: list[int], flags: list[bool]) -> str:
    classes = [
        (f"t{'n' if tenth == NO_TENTH else tenth}" if flag else "")
        for tenth, flag in zip(tenths, flags, strict=True)
    ]
    pieces = []
    for name, run in groupby(zip(bases, classes, strict=True), key=lambda pair: pair[1]):
        letters = [letter for letter, _ in run]
        pieces.append(f'<b class="{name}">{"".join(letters)}</b>' if name else f"<i>{'·' * len(letters)}</i>")
    return "".join(pieces)


def _curves(sample: MaskSample, fractions: NDArray[np.float64], name: str, last: str, first: str) -> str:
    """Return one SVG curve per variant; those by position are dashed."""
    width, height, left, bottom, top = 900, 260, 46, 24, 28
    highest = float(np.nanmax(fractions, initial=0.0)) or 1.0
    plot_width, plot_height = width - left - 8, height - bottom - top
    n = fractions.shape[1]
    drawn = []
    for fraction in (0.0, highest / 2, highest):
        y = top + plot_height * (1 - fraction / highest)
        drawn.append(f'<line x1="{left}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * fraction:.0f} %</text>')
    drawn.append(f'<text x="{left}" y="{height - 6}">{name} {first}</text>')
    drawn.append(f'<text x="{width - 8}" y="{height - 6}" text-anchor="end">{last}</text>')
    x_of_key = left
    for variant, row in zip(sample.variants, fractions, strict=True):
        dashed = ' stroke-dasharray="4 3"' if variant.rank_by == "position" else ""
        stroke = f'fill="none" stroke="{variant.colour}" stroke-width="1.5"{dashed}'
        points = " ".join(
            f"{left + plot_width * i / max(1, n - 1):.1f},{top + plot_height * (1 - fraction / highest):.1f}"
            for i, fraction in enumerate(row.tolist())
            if fraction == fraction
        )
        drawn.append(f'<polyline {stroke} points="{points}"/>')
        drawn.append(f'<line {stroke} x1="{x_of_key}" x2="{x_of_key + 22}" y1="10" y2="10"/>')
        drawn.append(f'<text x="{x_of_key + 27}" y="14">{in_html(variant.name)}</text>')
        x_of_key += 50 + 7 * len(variant.name)
    return f'<div class="scroll"><svg viewBox="0 0 {width} {height}" role="img">{"".join(drawn)}</svg></div>'
