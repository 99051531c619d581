"""Self-contained HTML pages: the skeleton, the style and the tables that they share; no script."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from cmgems_cli import __version__
from cmgems_cli.safe_text import in_html

# The browser fetches nothing, whatever the page contains.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff }
h1 { margin: 0 0 .6rem; font-size: 1.6rem }
h2 { margin: 2.4rem 0 .4rem; font-size: 1.25rem; border-bottom: 1px solid #ccc }
h3 { margin: 1.4rem 0 .2rem; font-size: 1rem; font-weight: 600 }
p, ul { margin: .3rem 0 .8rem; max-width: 50rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; margin: .4rem 0 .6rem; font-size: .92rem }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd;
  font-variant-numeric: tabular-nums }
th { vertical-align: bottom }
td.long { overflow-wrap: anywhere; min-width: 16rem }
th.number, td.number { text-align: right }
td.number, td:first-child { white-space: nowrap }
@media print {
  body { font-size: 10pt; max-width: none; margin: 0; padding: 0 }
  .scroll { overflow: visible } nav { display: none }
  table { font-size: 8pt } th, td { padding-right: .7em } td:first-child:not(.number) { white-space: normal }
  h1, h2, h3 { break-after: avoid } tr, figure { break-inside: avoid }
}
pre { font: 12px/1.4 "DejaVu Sans Mono", Menlo, Consolas, monospace; overflow-x: auto }
"""

# ours: letters without a blank that no narrow column holds, such as a digest; only those may be broken.
_LONG = re.compile(r"\S{25}")

_NUMBER = re.compile(r"[-−+<]?[\d,]*\.?\d+( ± [\d.,]+)?( ?%)?( × [\d,]+)?( to [-−+]?[\d.,]+)?")


def html_page(title: str, body: Iterable[str], *, style: str = "", generator: str = "cmgems") -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
        Plain text; also the first heading.
    body : iterable of str
        HTML.
    style : str, default ""
        CSS in addition to the common one.
    generator : str
        Name of the program, without its version.
    """
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width">',
            f'<meta name="generator" content="{generator} {__version__}">',
            f"<title>{in_html(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>",
            f"<h1>{in_html(title)}</h1>",
            *body,
            "</body>\n</html>\n",
        ]
    )


def html_table(
    columns: Sequence[str], rows: Sequence[Sequence[str | None]], as_html: Callable[[str], str] = in_html
) -> str:
    """Return a table of plain text; columns of numbers are right-aligned, None is a dash.

    `as_html` turns a cell's text into HTML.
    """
    kinds = [
        ' class="number"'
        if any(row[index] for row in rows)
        and all(row[index] in (None, "–") or _NUMBER.fullmatch(row[index] or "") for row in rows)
        else ""
        for index in range(len(columns))
    ]
    lines = ["".join(f"<th{kind}>{in_html(name)}</th>" for name, kind in zip(columns, kinds, strict=True))]
    for row in rows:
        lines.append("".join(_cell(text, kind, as_html) for text, kind in zip(row, kinds, strict=True)))
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table>\n{body}\n</table></div>'


def _cell(text: str | None, kind: str, as_html: Callable[[str], str]) -> str:
    if text is None:
        return f"<td{kind}>–</td>"
    kind = ' class="long"' if _LONG.search(text) else kind
    return f"<td{kind}>{as_html(text)}</td>"
