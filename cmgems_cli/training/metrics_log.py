"""`metrics.jsonl`: one record a step, nothing in it that depends on the clock, so that runs compare by bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cmgems_cli.errors import InputError

METRICS = "metrics.jsonl"


class MetricsFile:
    """The metrics of one run, appended to as it goes.

    Parameters
    ----------
    path : Path
        The file. What it holds beyond `last_step` is cut off: a run that goes on from a checkpoint writes
        those steps again.
    last_step : int
        The last step whose record is kept; 0 starts an empty file.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        kept = []
        if last_step and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] > last_step:
                        break
                except ValueError:  # a line cut off by a crash
                    break
                kept.append(line + "\n")
        path.write_text("".join(kept), encoding="utf-8")
        self._stream = path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and hand it to the operating system at once."""
        self._stream.write(json.dumps(record, allow_nan=False) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all records of a metrics file.

    Raises
    ------
    InputError
        If a line is no record.
    """
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); needed a JSON record in every line") from None
