"""What a report is made of, before anybody sets it as HTML or Markdown. All text is plain: no markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cmgems_cli.comparing.tables import ReportTable


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else "".join(names)


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Notes:
    """A list of remarks."""

    notes: list[str]


@dataclass(frozen=True)
class Table:
    """A table, and the runs that its numbers come from.

    Attributes
    ----------
    table : ReportTable
    sources : list of str
        Tags of the runs (R1, R2, …), or "paper, Table 2".
    """

    table: ReportTable
    sources: list[str]


@dataclass(frozen=True)
class Picture:
    """A picture, and the runs that its numbers come from.

    Attributes
    ----------
    name : str
        File name without ending.
    title : str
    caption : str
        What is drawn, over how many values, and what bars and ± mean.
    alt : str
        For those who cannot see it.
    svg, png : bytes
    sources : list of str
        As in `Table`.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: bytes
    png: bytes
    sources: list[str]


@dataclass(frozen=True)
class Code:
    """Text to be copied as it stands.

    Attributes
    ----------
    text : str
    language : str
    """

    text: str
    language: str


@dataclass(frozen=True)
class Folded:
    """Parts that most readers can do without, folded under a title."""

    title: str
    parts: list[Part]


Part = Text | Notes | Table | Picture | Code | Folded


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it; `anchor` is what a tag in `sources` links to."""

    title: str
    parts: list[Part] = field(default_factory=list)
    level: int = 2
    anchor: str = ""


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    sections: list[Section]

    @property
    def pictures(self) -> list[Picture]:
        """All pictures, in their order."""
        return [part for section in self.sections for part in section.parts if isinstance(part, Picture)]
