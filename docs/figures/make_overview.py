"""Writes docs/figures/overview.svg: `python docs/figures/make_overview.py`. A test compares the two.

Its masks are those that docs/tutorial.md shows, its numbers those of docs/evidence.md: nothing is measured here.
"""

from __future__ import annotations

import importlib
import re
import statistics
import sys
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import yaml

from cmgems_cli.palette import BLUE, GREY, VERMILION

DOCS = Path(__file__).resolve().parents[1]
EVIDENCE = DOCS.parent / "examples" / "evidence"
FIGURE = Path(__file__).with_name("overview.svg")

K = 6
WIDTH, CELL, LEFT = 760, 11, 100
PALE = {GREY: "#e3e3e3", BLUE: "#cfe5f3", VERMILION: "#f9dcc8"}
TITLES = {"random": "random", "genemask": "GENEMASK", "global": "GLOBAL"}
ROWS = {"random": BLUE, "genemask": VERMILION, "global": VERMILION}
# The arms of the study, and how each is drawn.
LINEAR = "kmer-linear"
STARTS = {"random-weights": GREY, "random": BLUE, "cm-gems": VERMILION, LINEAR: "#222222"}
LEGEND = {
    "random-weights": "random weights",
    "random": "pretrained, random masks",
    "cm-gems": "pretrained, CM-GEMS",
    LINEAR: "logistic regression on k-mer counts",
}


def masks() -> tuple[str, str, dict[str, list[bool]]]:
    """Return the place of the tutorial's first example, its bases, and which tokens each strategy masks."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    block = re.search(r"^1  (\S+), tokens.*\nbases +(\S+)\n.*\n((?:\w+ +\S+\n){3})", text, flags=re.M)
    assert block
    rows = dict(line.split() for line in block[3].splitlines())
    return block[1], block[2], {name: [letter != "·" for letter in rows[name]] for name in ROWS}


def hidden_bases(masked: list[bool]) -> list[bool]:
    """Return which bases no visible token contains."""
    n = len(masked)
    return [all(masked[max(0, base - K + 1) : base + 1]) for base in range(n)]


@cache
def of_study(name: str) -> Any:
    """Return a module of those that make the tables of docs/evidence.md."""
    sys.path.insert(0, str(EVIDENCE))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EVIDENCE))


def measured(block: str) -> list[tuple[str, dict[str, tuple[float, float]]]]:
    """Return the cells of a block of the study: label, mean and standard deviation by arm.

    With few labels the deviation is that over draws, of means over models; with all, that over models.
    """
    page, scores = of_study("page"), of_study("study_scores")
    planned = yaml.safe_load(page.STUDY.read_text(encoding="utf-8"))
    arms = scores.values_of_all(page.RESULTS, planned)[block]
    rows = []
    for cell in sorted(arms["random"], key=lambda cell: (cell.task, int(cell.shots or 0))):
        values = {}
        for arm in (one for one in STARTS if cell in arms.get(one, {})):
            runs = scores.by_draw(arms[arm][cell]) if cell.shots else scores.seed_means(arms[arm], cell)
            spread = statistics.stdev(runs.values()) if len(runs) > 1 else 0.0
            values[arm] = (statistics.mean(runs.values()), spread)
        rows.append((f"{cell.task.rpartition('prom/')[2]} {cell.shots}".strip(), values))
    return rows


def text(x: float, y: float, words: str, **more: object) -> str:
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return f'<text x="{x:g}" y="{y:g}"{attributes}>{escape(words)}</text>'


def mask_rows(top: float) -> list[str]:
    """Return one line of cells per strategy: dark if a base is hidden, pale if only some of its 6-mers are masked."""
    place, bases, tokens = masks()
    parts = [
        text(0, top, "What is masked", font_weight="bold", font_size=15),
        text(
            132,
            top,
            f"first bases of {len(bases)} overlapping 6-mers, {place}; CM-GEMS is GENEMASK, then GLOBAL",
        ),
    ]
    for number, (name, masked) in enumerate(tokens.items()):
        y = top + 14 + 26 * number
        colour, hidden = ROWS[name], hidden_bases(masked)
        parts.append(text(0, y + 13, TITLES[name]))
        touched = [any(masked[max(0, base - K + 1) : base + 1]) for base in range(len(masked))]
        for base, letter in enumerate(bases):
            x = LEFT + CELL * base
            fill = colour if hidden[base] else PALE[colour] if touched[base] else "#f5f5f5"
            parts.append(f'<rect x="{x:g}" y="{y:g}" width="{CELL}" height="18" fill="{fill}"/>')
            parts.append(
                text(
                    x + CELL / 2, y + 13, letter, font_family="monospace", font_size=11, text_anchor="middle",
                    fill="#ffffff" if hidden[base] else "#333333",
                )
            )  # fmt: skip
    parts.append(
        text(
            LEFT,
            top + 14 + 26 * 3 + 10,
            "dark: hidden, since every 6-mer with the base is masked · pale: a visible 6-mer still shows the base",
        )
    )
    return parts


def panel(
    left: float, top: float, title: str, block: str, low: float, high: float, ticks: list[float]
) -> list[str]:
    """Return the means and standard deviations of a block of the study, one line per cell."""
    label_width, width = 112, 250
    x0 = left + label_width

    def across(value: float) -> float:
        return round(x0 + (value - low) / (high - low) * width, 1)

    rows = measured(block)
    bottom = top + 14 + 32 * len(rows)
    parts = [text(left, top, title)]
    for tick in ticks:
        parts.append(
            f'<line x1="{across(tick):g}" x2="{across(tick):g}" y1="{top + 12:g}" y2="{bottom:g}" stroke="#dddddd"/>'
        )
        parts.append(text(across(tick), bottom + 15, f"{tick:g}", text_anchor="middle"))
    for number, (label, values) in enumerate(rows):
        y = top + 30 + 32 * number
        parts.append(text(left, y + 4, label))
        for step, start in enumerate(STARTS):
            if start not in values:
                continue
            (mean, sd), colour = values[start], STARTS[start]
            line = y + 7 * (step - 1) if start != LINEAR else y
            parts.append(
                f'<line x1="{across(mean - sd):g}" x2="{across(mean + sd):g}" y1="{line:g}" y2="{line:g}"'
                f' stroke="{colour}" stroke-width="1.5"/>'
            )
            parts.append(marker(start, across(mean), line))
    return parts


def marker(start: str, x: float, y: float) -> str:
    """Return a start's mark: square, circle, diamond or bar, so that colour is not needed."""
    colour = STARTS[start]
    if start == LINEAR:
        return f'<rect x="{x - 1:g}" y="{y - 12:g}" width="2" height="24" fill="{colour}"/>'
    if start == "random-weights":
        return f'<rect x="{x - 4:g}" y="{y - 4:g}" width="8" height="8" fill="{colour}"/>'
    if start == "random":
        return f'<circle cx="{x:g}" cy="{y:g}" r="4.5" fill="{colour}"/>'
    return f'<path d="M{x:g} {y - 6:g} l6 6 l-6 6 l-6 -6 z" fill="{colour}"/>'


def figure() -> str:
    """Return the SVG text."""
    height = 400
    parts = mask_rows(24)
    top = 168
    parts.append(text(0, top, "What comes of it", font_weight="bold", font_size=15))
    parts.append(
        text(132, top, "0.4 M parameters (tiny), one chromosome; mean ± sd; further right is better")
    )
    x = 0.0
    for start, words in LEGEND.items():
        parts += [marker(start, x + 6, top + 20), text(x + 18, top + 24, words)]
        x += 30 + 6.1 * len(words)
    few = "few labels (rows per class): accuracy × 100, ten draws"
    parts += panel(0, top + 52, few, "fewshot", 30, 75, [30, 40, 50, 60, 70])
    every = "all labels: MCC × 100, rate and strands chosen on dev"
    parts += panel(390, top + 52, every, "fair", 40, 90, [40, 50, 60, 70, 80, 90])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {WIDTH + 20} {height}" width="{WIDTH + 20}"'
        f' height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#222222" role="img">\n'
        "<title>What each strategy masks, and test scores of models that were pretrained with these masks</title>\n"
        f'<rect x="-10" width="{WIDTH + 20}" height="{height}" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


if __name__ == "__main__":
    FIGURE.write_text(figure(), encoding="utf-8")
