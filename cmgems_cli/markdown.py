"""Markdown: plain text made safe, and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cmgems_cli.safe_text import printable

# What Markdown or HTML would take for markup; an underscore inside a word is not.
_MARKUP = re.compile(r"[\\`*\[\]<>|~]|(?<!\w)_|_(?!\w)")

# What a cell without a value shows.
NO_VALUE = "–"


def escaped(text: str) -> str:
    """Return plain text as Markdown that shows exactly it, on one line.

    >>> escaped("a|b <i> prom_core_all")
    'a\\\\|b \\\\<i\\\\> prom_core_all'
    """
    plain = printable(" ".join(text.split()))
    return _MARKUP.sub(lambda match: f"\\{match[0]}", plain).replace("&", "&amp;")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | None]],
    *,
    numbers: bool = False,
    markup: bool = False,
) -> str:
    """Return a table.

    Parameters
    ----------
    columns : sequence of str
    rows : iterable of sequences of str or None
        As long as `columns`. None: no value.
    numbers : bool, default False
        Align all columns but the first on the right.
    markup : bool, default False
        The cells are Markdown, not plain text.

    Examples
    --------
    >>> print(table(["task", "MCC"], [["a|b", "1.0"], ["c", None]], numbers=True))
    | task | MCC |
    | --- | ---: |
    | a\\|b | 1.0 |
    | c | – |
    """
    rule = ["---", *(["---:" if numbers else "---"] * (len(columns) - 1))]
    shown = [
        [NO_VALUE if cell is None else cell if markup else escaped(cell) for cell in row]
        for row in (columns, *rows)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (shown[0], rule, *shown[1:]))
