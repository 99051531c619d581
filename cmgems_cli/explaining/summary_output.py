"""The figure and the motifs of all effects, as files."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.explaining.edits import LETTERS
from cmgems_cli.explaining.effects import importance_of
from cmgems_cli.explaining.effects_output import Stored, StoredRow
from cmgems_cli.explaining.explain_options import SummaryOptions
from cmgems_cli.explaining.figure import Shown, explanation_figure
from cmgems_cli.explaining.motifs import Motifs, find_motifs, meme_text, motif_columns
from cmgems_cli.explaining.summary import Profile, profile_of
from cmgems_cli.extras import need
from cmgems_cli.files import write_output
from cmgems_cli.html_page import html_page, html_table
from cmgems_cli.inference.quantity import Quantity
from cmgems_cli.output_state import check_file
from cmgems_cli.reporting.plot_style import as_png, as_svg
from cmgems_cli.safe_text import in_html

# ours: inches and bases per line of a page's pictures. On a screen 400 pixels wide, where a picture has 353, the
# smallest labels, of 8 points, are 11 pixels high.
PAGE_WIDTH, PAGE_BASES = 3.5, 30

# ours: changes listed per sequence of a page.
_LISTED = 5

_STYLE = """
img { display: block; width: 100%; max-width: 44rem; height: auto }
"""


class _Row(NamedTuple):
    """A row to show, with its records."""

    row: StoredRow
    records: NDArray[Any]


def check_summaries(options: SummaryOptions, *, overwrite: bool, reads: Sequence[Path | None] = ()) -> None:
    """Check before any work that the files may be written (parameters as `check_file`).

    Raises
    ------
    OverwriteError
        As `check_file`.
    CmgemsError
        If matplotlib is missing and a figure is asked for.
    """
    for path in (options.figure, options.motifs):
        if path is not None:
            check_file(path, overwrite=overwrite, reads=reads)
    if options.figure is not None:
        need("matplotlib", "plots", "a figure")


def write_summaries(options: SummaryOptions, stored: Stored, quantity: Quantity, seed: int) -> Motifs | None:
    """Write the figure and the motifs that are asked for; return the motifs."""
    found = None
    if options.motifs is not None:
        found = motifs_of(stored, options.motif_bases, seed)
        _write(options.motifs, meme_text(found))
    if options.figure is not None:
        shown = list(islice(_with_values(stored), options.show))
        profile = profile_of(importance_of(one.records["substitutions"]) for one in _with_values(stored))
        write_figure(options.figure, shown, profile, quantity, found)
    return found


def _with_values(stored: Stored) -> Iterable[_Row]:
    for row, records in stored:
        if row.label >= 0:
            yield _Row(row, records)


def motifs_of(stored: Stored, k: int, seed: int) -> Motifs:
    """Return the motifs of all rows that have values."""

    def rows() -> Iterable[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
        for _, records in _with_values(stored):
            yield (
                np.ascontiguousarray(records["base"]).view(np.uint8),
                importance_of(records["substitutions"]),
            )

    return find_motifs(rows, k, seed=seed)


def write_figure(
    path: Path, shown: Sequence[_Row], profile: Profile, quantity: Quantity, found: Motifs | None
) -> None:
    """Write the figure as its name says: .png, .svg or .html; several rows get the mean of all above them."""
    pictures = [_shown(one, quantity) for one in shown]
    mean = profile if profile.count.max(initial=0) > 1 else None
    if path.suffix.lower() == ".html":
        _write(path, _page(shown, pictures, mean, quantity, found))
        return
    draw = as_svg if path.suffix.lower() == ".svg" else as_png
    _write(path, draw(explanation_figure(pictures, mean, changed=_changed(quantity))))


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_output(path, content)


def _title(row: StoredRow, quantity: Quantity) -> str:
    return f"{row.name}: {quantity.words_of(row.label)} {row.output:+.4g}"


def _changed(quantity: Quantity) -> str:
    return f"change of the {quantity.words} ({quantity.unit})"


def _shown(one: _Row, quantity: Quantity) -> Shown:
    row, records = one
    letters = records["base"].tobytes().decode("ascii", "replace")
    first = 0 if row.contig is not None else row.start
    return Shown(_title(row, quantity), first, letters, records["substitutions"])


def _page(
    rows: Sequence[_Row],
    pictures: Sequence[Shown],
    profile: Profile | None,
    quantity: Quantity,
    found: Motifs | None,
) -> str:
    body = [
        "<p>Every base of a sequence was substituted by each of the three others. Colours: how far this moves the"
        f" {quantity.words} ({quantity.unit}); a dot is the base itself. Height of a letter: its importance, minus the"
        " mean of the three; it is upside down where the others would give a higher one.</p>"
    ]
    if profile is not None:
        body += [
            "<h2>All sequences</h2>",
            _picture([], profile, "mean importance along the sequences", quantity),
        ]
    if found is not None:
        table = motif_columns(found)
        cells = [[str(cell) for cell in row] for row in zip(*table.values(), strict=True)]
        body += ["<h2>Most important k-mers</h2>", html_table(list(table), cells)]
    for one, picture in zip(rows, pictures, strict=True):
        body += [
            f"<h2>{in_html(picture.title)}</h2>",
            _picture(
                [Shown("", *list(vars(picture).values())[1:])],
                None,
                f"logo and heat map of {picture.title}",
                quantity,
            ),
            html_table(
                ["position", "base", "strongest change", f"change of the {quantity.words}"],
                _strongest(one, picture),
            ),
        ]
    return html_page("What the model looks at", body, style=_STYLE, generator="cmgems explain")


def _picture(shown: Sequence[Shown], profile: Profile | None, alt: str, quantity: Quantity) -> str:
    figure = explanation_figure(
        shown, profile, changed=_changed(quantity), width=PAGE_WIDTH, line_bases=PAGE_BASES
    )
    svg = as_svg(figure)
    data = base64.b64encode(svg).decode("ascii")
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{in_html(alt)}">'


def _strongest(one: _Row, picture: Shown) -> list[list[str]]:
    """Return the positions whose substitutions change most, each with its strongest one."""
    effects = np.nan_to_num(one.records["substitutions"])
    size = np.abs(effects).max(1)
    return [
        [
            f"{picture.first + at:,}",
            picture.letters[at],
            f"to {LETTERS[int(np.abs(effects[at]).argmax())]}",
            f"{effects[at][np.abs(effects[at]).argmax()]:+.3g}",
        ]
        for at in np.argsort(-size, kind="stable")[:_LISTED].tolist()
        if size[at] > 0
    ]
