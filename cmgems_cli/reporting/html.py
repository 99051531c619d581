"""A report as one HTML page: pictures inside it, no script, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import re
from html import escape

from cmgems_cli import __version__
from cmgems_cli.comparing.tables import ReportTable
from cmgems_cli.reporting.elements import Code, Document, Folded, Notes, Part, Picture, Section, Table, Text

# By this a folder is known to hold a report (`writing`).
GENERATOR = '<meta name="generator" content="cmgems report'

# The browser itself is told to fetch nothing, whatever the page says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff }
h1 { margin: 0 0 .6rem; font-size: 1.6rem }
h2 { margin: 2.6rem 0 .4rem; font-size: 1.25rem; border-bottom: 1px solid #ccc }
h3 { margin: 1.6rem 0 .2rem; font-size: 1rem; font-weight: 600 }
p, ul { margin: .3rem 0 .8rem; max-width: 50rem }
nav a { margin-right: 1.1rem }
a { color: #0058a3 }
figure { margin: 1.2rem 0 1.6rem }
figure img { display: block; width: 100%; max-width: 48rem; height: auto }
figcaption { max-width: 48rem; font-size: .9rem; color: #333 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; margin: .4rem 0 .2rem; font-size: .92rem }
th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
th { vertical-align: bottom; overflow-wrap: normal }
th.number, td.number { text-align: right }
td.number { white-space: nowrap }
td:first-child { white-space: nowrap }
.from { margin: 0 0 1rem; font-size: .82rem; color: #555 }
details { margin: .4rem 0 }
summary { cursor: pointer; font-weight: 600 }
pre { font: 12px/1.4 "DejaVu Sans Mono", Menlo, Consolas, monospace; background: #f6f6f6; padding: .6rem;
  overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere }
@media print { body { max-width: none; margin: 0 } figure, table { break-inside: avoid } }
"""

_NUMBER = re.compile(r"[-−+<]?[\d,]*\.?\d+( ± [\d.,]+)?( ?%)?( × [\d,]+)?( to [-−+]?[\d.,]+)?")


def page(document: Document) -> str:
    """Return the page."""
    tags = {section.anchor for section in document.sections if section.anchor}
    top = [section for section in document.sections if section.level == 2]
    links = "".join(f'<a href="#{_anchor(section)}">{escape(section.title)}</a> ' for section in top)
    body = "\n".join(_section(section, tags) for section in document.sections)
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width">',
            f'{GENERATOR} {__version__}">',
            f"<title>{escape(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f"<h1>{escape(document.title)}</h1>\n<nav>{links}</nav>",
            body,
            "</body>\n</html>\n",
        ]
    )


def _anchor(section: Section) -> str:
    return section.anchor or re.sub(r"\W+", "-", section.title.lower()).strip("-")


def _section(section: Section, tags: set[str]) -> str:
    level = section.level
    head = f'<h{level} id="{escape(_anchor(section))}">{escape(section.title)}</h{level}>'
    return "\n".join([head, *(_part(part, tags) for part in section.parts)])


def _part(part: Part, tags: set[str]) -> str:
    if isinstance(part, Text):
        return f"<p>{escape(part.text)}</p>"
    if isinstance(part, Notes):
        return "<ul>" + "\n".join(f"<li>{escape(note)}</li>" for note in part.notes) + "</ul>"
    if isinstance(part, Code):
        return f"<pre>{escape(part.text)}</pre>"
    if isinstance(part, Folded):
        inside = "\n".join(_part(one, tags) for one in part.parts)
        return f"<details><summary>{escape(part.title)}</summary>\n{inside}\n</details>"
    if isinstance(part, Picture):
        return _picture(part, tags)
    return _table(part, tags)


def _picture(picture: Picture, tags: set[str]) -> str:
    data = base64.b64encode(picture.svg).decode("ascii")
    return (
        f'<figure id="{escape(picture.name)}">\n<h3>{escape(picture.title)}</h3>\n'
        f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(picture.alt)}">\n'
        f"<figcaption>{escape(picture.caption)} {_from(picture.sources, tags)}</figcaption>\n</figure>"
    )


def _table(part: Table, tags: set[str]) -> str:
    table = part.table
    source = f'<p class="from">{_from(part.sources, tags)}</p>' if part.sources else ""
    text = f'<div class="scroll">{_grid(table, tags)}</div>\n{source}'
    return (f"<h3>{escape(table.title)}</h3>\n" if table.title else "") + text


def _grid(table: ReportTable, tags: set[str]) -> str:
    numeric = [
        any(row[index] for row in table.rows)
        and all(row[index] is None or _NUMBER.fullmatch(row[index] or "") for row in table.rows)
        for index in range(len(table.columns))
    ]
    kinds = [' class="number"' if flag else "" for flag in numeric]
    head = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(table.columns, kinds, strict=True))
    body = "\n".join(
        "<tr>" + "".join(f"<td{kind}>{_cell(cell, tags)}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in table.rows
    )  # fmt: skip
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"


def _cell(cell: str | None, tags: set[str]) -> str:
    if cell is None:
        return "–"
    return _linked(cell, tags)


def _from(sources: list[str], tags: set[str]) -> str:
    return "From " + ", ".join(_linked(source, tags) for source in sources) + "."


def _linked(text: str, tags: set[str]) -> str:
    return f'<a href="#{text}">{text}</a>' if text in tags else escape(text)
