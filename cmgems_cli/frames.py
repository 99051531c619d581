"""Results of the Python API as tables: columns by name, a pandas frame on request, a short `repr`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from cmgems_cli.extras import need

if TYPE_CHECKING:
    from pandas import DataFrame


class Tabular(ABC):
    """A result with one row per sequence, window, base or variant.

    A subclass gives `columns`, which determine the frame, and `_summary`, what its `repr` says. A dataclass that
    is a subclass needs `repr=False`, so that it does not get one that prints whole arrays.
    """

    @abstractmethod
    def columns(self) -> dict[str, Any]:
        """Return the table: column name -> values of all rows, a list or an array of shape (n,)."""

    @abstractmethod
    def _summary(self) -> str:
        """Return what the result holds, in a few words."""

    def to_frame(self) -> DataFrame:
        """Return the table as a `pandas.DataFrame`, one row per row of `columns`.

        Raises
        ------
        CmgemsError
            If pandas is not installed.
        """
        need("pandas", "pandas", "`to_frame`", instead="use `columns()`")
        from pandas import DataFrame

        return DataFrame(self.columns())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._summary()}>"
