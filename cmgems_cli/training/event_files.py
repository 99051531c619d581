"""The figures of metrics.jsonl as TensorBoard's event files, to watch a run in a browser."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cmgems_cli.extras import need

# Below the run's folder.
FOLDER = "tensorboard"


class EventFiles:
    """Event files of one run; `MetricsFile` passes every record on to them.

    They are not part of the artifact: they hold times, so that no two are equal.

    Parameters
    ----------
    folder : Path
        What `tensorboard --logdir` is given; created by `begin`. Event files of an earlier run in it are removed.

    Raises
    ------
    CmgemsError
        If tensorboard is missing.
    """

    def __init__(self, folder: Path) -> None:
        need("tensorboard", "tensorboard", "`tensorboard`", instead="leave it out")
        self.folder = folder
        self._writer: Any = None

    def below(self, name: str) -> EventFiles:
        """Return those of a part of the run, in a folder of its own."""
        return EventFiles(self.folder / name)

    def begin(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Begin, or begin again after a step back, with the records so far: so no step is there twice."""
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = SummaryWriter(str(self.folder))
        for record in records:
            self.add(record)

    def add(self, record: Mapping[str, Any]) -> None:
        """Write the numbers of a record under their names in metrics.jsonl, as float32."""
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
                self._writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Write what is buffered and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
