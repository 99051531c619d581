"""Writes tables that every reader and spreadsheet reads back, and none runs."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any, TextIO

from cmgems_cli.safe_text import spreadsheet_cell


class RowWriter:
    r"""Writes rows to a CSV or TSV file.

    Parameters
    ----------
    stream : text stream
        Opened with `newline=""`.
    delimiter : str, default ","

    Examples
    --------
    >>> import io
    >>> written = io.StringIO(newline="")
    >>> RowWriter(written).row(["=1", "a\rb", 0.5, None])
    >>> written.getvalue()
    '"\'=1","a\rb","0.5",""\n'
    """

    def __init__(self, stream: TextIO, *, delimiter: str = ",") -> None:
        plain, quoted = (
            csv.writer(stream, delimiter=delimiter, lineterminator="\n", quoting=quoting)
            for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        self._plain, self._quoted = plain.writerow, quoted.writerow

    def row(self, cells: Iterable[Any]) -> None:
        """Write a row: texts that a spreadsheet would run are escaped, and None becomes an empty cell."""
        row = [spreadsheet_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        # Python's writer quotes the end of its own lines alone.
        returns = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (self._quoted if returns else self._plain)(row)

    def rows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write several rows."""
        for row in rows:
            self.row(row)
