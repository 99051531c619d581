"""Names and labels of other people made safe where they are shown: on a terminal, in a spreadsheet."""

from __future__ import annotations

import html
import json
import re

# C0 but tab and line end, DEL and C1, which terminals obey; characters without a width, and those that turn the
# direction of text, which hide what is there.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)

# A cell that a spreadsheet takes for a formula (OWASP, CSV injection), or that `spreadsheet_cell` changed. A number
# with a sign is a number; a sign alone is a text.
_FORMULA = re.compile(r"(?!(?:[-+]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\Z)['\s]*[=+\-@\t\r\n＝＋－＠]")
_QUOTE = "'"


def printable(text: str) -> str:
    r"""Return text with control and invisible characters escaped; tabs and line ends stay.

    >>> print(printable("chr1\x1b]0;title\x07"))
    chr1\x1b]0;title\x07
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def in_html(text: str) -> str:
    """Return text for a page: `printable`, and with the signs of HTML escaped.

    >>> in_html("<b>\x07")
    '&lt;b&gt;\\\\x07'
    """
    return html.escape(printable(text))


def printable_json(text: str) -> str:
    """Return JSON with the same characters escaped: the same value for a reader."""
    return _CONTROL.sub(lambda match: json.dumps(match[0])[1:-1], text)


def spreadsheet_cell(text: str) -> str:
    """Return a name or label as a cell that no spreadsheet runs: a formula gets an apostrophe before it.

    Examples
    --------
    >>> [spreadsheet_cell(text) for text in ("=1+1", "-1.5", "+", "chr1", "'=1")]
    ["'=1+1", '-1.5', '+', 'chr1', "''=1"]
    """
    return _QUOTE + text if _FORMULA.match(text) else text


def from_spreadsheet_cell(cell: str) -> str:
    """Return the name or label that `spreadsheet_cell` wrote.

    >>> [from_spreadsheet_cell(cell) for cell in ("'=1+1", "''=1", "'a", "=1")]
    ['=1+1', "'=1", "'a", '=1']
    """
    return cell[1:] if cell.startswith(_QUOTE) and _FORMULA.match(cell[1:]) else cell
