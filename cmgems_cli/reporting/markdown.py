"""A report as Markdown, with its pictures in separate files."""

from __future__ import annotations

import re

from cmgems_cli.markdown import escaped, table
from cmgems_cli.reporting.elements import Code, Document, Folded, Notes, Part, Picture, Section, Table, Text

# Below the report's folder.
PICTURES = "pictures"


def markdown(document: Document) -> str:
    """Return the report; pictures are linked as `pictures/NAME.png`."""
    parts = [f"# {escaped(document.title)}", *(_section(section) for section in document.sections)]
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> str:
    anchor = f'<a id="{section.anchor}"></a>' if section.anchor else ""
    head = f"{'#' * section.level} {anchor}{escaped(section.title)}"
    return "\n\n".join([head, *(_part(part) for part in section.parts)])


def _part(part: Part) -> str:
    if isinstance(part, Text):
        return escaped(part.text)
    if isinstance(part, Notes):
        return "\n".join(f"- {escaped(note)}" for note in part.notes)
    if isinstance(part, Code):
        return _code(part)
    if isinstance(part, Folded):
        inside = "\n\n".join(_part(one) for one in part.parts)
        return f"<details><summary>{escaped(part.title)}</summary>\n\n{inside}\n\n</details>"
    if isinstance(part, Picture):
        return (
            f"### {escaped(part.title)}\n\n![{escaped(part.alt)}]({PICTURES}/{part.name}.png)\n\n"
            f"{escaped(part.caption)} {_from(part.sources)}"
        )
    return _table(part)


def _code(code: Code) -> str:
    fence = "```"
    while fence in code.text:
        fence += "`"
    return f"{fence}{code.language}\n{code.text.rstrip()}\n{fence}"


def _table(part: Table) -> str:
    shown = part.table
    text = table(shown.columns, shown.rows) + (f"\n\n{_from(part.sources)}" if part.sources else "")
    return f"### {escaped(shown.title)}\n\n{text}" if shown.title else text


def _from(sources: list[str]) -> str:
    linked = (f"[{tag}](#{tag})" if re.fullmatch(r"R\d+", tag) else escaped(tag) for tag in sources)
    return f"From {', '.join(linked)}."
