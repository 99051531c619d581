"""Where the runs of an evaluation are."""

from __future__ import annotations

from pathlib import Path

from cmgems_cli.artifacts import Manifest, is_finished
from cmgems_cli.bench.grids import Cell
from cmgems_cli.bench.reuse import take_over
from cmgems_cli.comparing.evaluated_runs import RUNS
from cmgems_cli.errors import InputError
from cmgems_cli.outputs import Output


class RunPlaces:
    """The folders of runs, below an evaluation or, if that is finished, below the successor that is being built.

    Attributes
    ----------
    out : Path
        The evaluation.
    building : Path
        Where runs are written: `out`, or its successor.
    """

    def __init__(self, out: Path) -> None:
        self.out = self.building = out

    def written(self, cell: Cell) -> Path:
        """Return where a cell's run is written."""
        return self.building / RUNS / cell.folder

    def found(self, cell: Cell) -> Path:
        """Return where a cell's run is read: in the successor, or until it is there in the evaluation."""
        written, replaced = self.written(cell), self.out / RUNS / cell.folder
        return replaced if is_finished(replaced) and not is_finished(written) else written

    def keep(self, cell: Cell, made: Manifest) -> None:
        """Copy a run that stays the same into the successor.

        Parameters
        ----------
        cell : Cell
        made : Manifest
            The run's.

        Raises
        ------
        InputError
            If its files are no longer those of its manifest.
        """
        replaced, written = self.found(cell), self.written(cell)
        if replaced != written:
            written.parent.mkdir(parents=True, exist_ok=True)
            output = Output(written, made.kind, params=made.params, inputs=made.inputs)
            if take_over(output, [replaced], any_version=True) is None:
                raise InputError(f"{replaced} changed while it was copied; run the command again")
