"""The elements of a report, independent of HTML and Markdown. All text is plain, without markup."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cmgems_cli.comparing.tables import ReportTable


def listed(names: Sequence[str]) -> str:
    """Join names as in a sentence.

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
        What is drawn, from how many values, and the meaning of bars and ±.
    alt : str
        Text for readers who cannot see the picture.
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
    """Text to copy verbatim.

    Attributes
    ----------
    text : str
    language : str
    """

    text: str
    language: str


@dataclass(frozen=True)
class Folded:
    """Parts that most readers can skip, collapsed under a title."""

    title: str
    parts: list[Part]


Part = Text | Notes | Table | Picture | Code | Folded


@dataclass(frozen=True)
class Section:
    """A heading and its parts; tags in `sources` link to `anchor`."""

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
        """All pictures, in their order, folded ones too."""
        return [picture for section in self.sections for picture in _pictures(section.parts)]


def _pictures(parts: Sequence[Part]) -> Iterator[Picture]:
    for part in parts:
        if isinstance(part, Folded):
            yield from _pictures(part.parts)
        elif isinstance(part, Picture):
            yield part
