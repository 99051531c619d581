"""A report as one HTML page: pictures inside it, no script, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import re

from cmgems_cli.html_page import html_page, html_table
from cmgems_cli.reporting.elements import Code, Document, Folded, Notes, Part, Picture, Section, Table, Text
from cmgems_cli.safe_text import in_html

_STYLE = """
nav a { margin-right: 1.1rem }
a { color: #0058a3 }
figure { margin: 1.2rem 0 1.6rem }
/* Narrower, the labels could not be read: a small screen scrolls the picture. */
figure img { display: block; width: 100%; min-width: 44rem; max-width: 48rem; height: auto }
figcaption { max-width: 48rem; font-size: .9rem; color: #333 }
.from { margin: 0 0 1rem; font-size: .82rem; color: #555 }
details { margin: .4rem 0 }
details figure { display: inline-block; vertical-align: top; width: 26rem; max-width: 100%; margin-right: 1.5rem }
summary { cursor: pointer; font-weight: 600 }
pre { background: #f6f6f6; padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere }
@media print {
  figure img { min-width: 0; max-width: 100% } a { color: inherit; text-decoration: none }
  details figure { width: 48%; margin-right: 1% }
  /* On paper, folded parts are shown, except whole manifests. */
  details:not(:has(> pre))::details-content { content-visibility: visible; block-size: auto }
}
"""


def page(document: Document) -> str:
    """Return the page."""
    tags = {section.anchor for section in document.sections if section.anchor}
    top = [section for section in document.sections if section.level == 2]
    links = "".join(f'<a href="#{_anchor(section)}">{in_html(section.title)}</a> ' for section in top)
    body = [f"<nav>{links}</nav>", *(_section(section, tags) for section in document.sections)]
    return html_page(document.title, body, style=_STYLE, generator="cmgems report")


def _anchor(section: Section) -> str:
    return section.anchor or re.sub(r"\W+", "-", section.title.lower()).strip("-")


def _section(section: Section, tags: set[str]) -> str:
    level = section.level
    head = f'<h{level} id="{in_html(_anchor(section))}">{in_html(section.title)}</h{level}>'
    return "\n".join([head, *(_part(part, tags) for part in section.parts)])


def _part(part: Part, tags: set[str]) -> str:
    if isinstance(part, Text):
        return f"<p>{in_html(part.text)}</p>"
    if isinstance(part, Notes):
        return "<ul>" + "\n".join(f"<li>{in_html(note)}</li>" for note in part.notes) + "</ul>"
    if isinstance(part, Code):
        return f"<pre>{in_html(part.text)}</pre>"
    if isinstance(part, Folded):
        inside = "\n".join(_part(one, tags) for one in part.parts)
        return f"<details><summary>{in_html(part.title)}</summary>\n{inside}\n</details>"
    if isinstance(part, Picture):
        return _picture(part, tags)
    return _table(part, tags)


def _picture(picture: Picture, tags: set[str]) -> str:
    data = base64.b64encode(picture.svg).decode("ascii")
    return (
        f'<figure id="{in_html(picture.name)}">\n<h3>{in_html(picture.title)}</h3>\n'
        f'<div class="scroll"><img src="data:image/svg+xml;base64,{data}" alt="{in_html(picture.alt)}"></div>\n'
        f"<figcaption>{in_html(picture.caption)} {_from(picture.sources, tags)}</figcaption>\n</figure>"
    )


def _table(part: Table, tags: set[str]) -> str:
    table = part.table
    title = f"<h3>{in_html(table.title)}</h3>\n" if table.title else ""
    source = f'<p class="from">{_from(part.sources, tags)}</p>' if part.sources else ""
    return f"{title}{html_table(table.columns, table.rows, lambda cell: _linked(cell, tags))}\n{source}"


def _from(sources: list[str], tags: set[str]) -> str:
    return "From " + ", ".join(_linked(source, tags) for source in sources) + "."


def _linked(text: str, tags: set[str]) -> str:
    return f'<a href="#{text}">{text}</a>' if text in tags else in_html(text)
