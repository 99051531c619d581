"""A report as Markdown, its pictures in files beside it."""

from __future__ import annotations

import re

from cmgems_cli.comparing.tables import ReportTable
from cmgems_cli.reporting.elements import Code, Document, Folded, Notes, Part, Picture, Section, Table, Text

# Below the report's folder.
PICTURES = "pictures"

# What Markdown or HTML would take for markup; an underscore inside a word is none.
_MARKUP = re.compile(r"[\\`*\[\]<>|~]|(?<!\w)_|_(?!\w)")


def markdown(document: Document) -> str:
    """Return the report; pictures are linked as `pictures/NAME.png`."""
    parts = [f"# {plain(document.title)}", *(_section(section) for section in document.sections)]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Return text that stands in Markdown as it is, on one line.

    >>> plain("a|b <i> prom_core_all")
    'a\\\\|b \\\\<i\\\\> prom_core_all'
    """
    return _MARKUP.sub(lambda found: f"\\{found[0]}", " ".join(text.split())).replace("&", "&amp;")


def _section(section: Section) -> str:
    anchor = f'<a id="{section.anchor}"></a>' if section.anchor else ""
    head = f"{'#' * section.level} {anchor}{plain(section.title)}"
    return "\n\n".join([head, *(_part(part) for part in section.parts)])


def _part(part: Part) -> str:
    if isinstance(part, Text):
        return plain(part.text)
    if isinstance(part, Notes):
        return "\n".join(f"- {plain(note)}" for note in part.notes)
    if isinstance(part, Code):
        return _code(part)
    if isinstance(part, Folded):
        inside = "\n\n".join(_part(one) for one in part.parts)
        return f"<details><summary>{plain(part.title)}</summary>\n\n{inside}\n\n</details>"
    if isinstance(part, Picture):
        return (
            f"### {plain(part.title)}\n\n![{plain(part.alt)}]({PICTURES}/{part.name}.png)\n\n"
            f"{plain(part.caption)} {_from(part.sources)}"
        )
    return _table(part)


def _code(code: Code) -> str:
    fence = "```"
    while fence in code.text:
        fence += "`"
    return f"{fence}{code.language}\n{code.text.rstrip()}\n{fence}"


def _table(part: Table) -> str:
    table = part.table
    text = _grid(table) + (f"\n\n{_from(part.sources)}" if part.sources else "")
    return f"### {plain(table.title)}\n\n{text}" if table.title else text


def _grid(table: ReportTable) -> str:
    lines = [[plain(name) for name in table.columns], ["---"] * len(table.columns)]
    lines += [["–" if cell is None else plain(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _from(sources: list[str]) -> str:
    linked = (f"[{tag}](#{tag})" if re.fullmatch(r"R\d+", tag) else plain(tag) for tag in sources)
    return f"From {', '.join(linked)}."
