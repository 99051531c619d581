"""`metrics.jsonl`: one record per step, nothing in it that depends on the clock, so that runs compare by bytes."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmgems_cli.errors import CmgemsError, InputError
from cmgems_cli.files import open_new
from cmgems_cli.structured_text import parse_json

if TYPE_CHECKING:
    from cmgems_cli.training.event_files import EventFiles

METRICS = "metrics.jsonl"

# ours: the longest record has some hundred bytes.
_RECORD_BYTES = 1 << 16


class MetricsFile:
    """The metrics of one run, appended to as it goes.

    Parameters
    ----------
    path : Path
        The file; what it holds is replaced.
    content : bytes
        The records of earlier steps, from the checkpoint that the run resumes: the file itself may have lost some.
    events : EventFiles, optional
        Get the same records.
    """

    def __init__(self, path: Path, content: bytes = b"", events: EventFiles | None = None) -> None:
        self._path, self.content, self._events = path, bytearray(content), events
        path.unlink(missing_ok=True)
        self._stream = open_new(path)
        self._append(content)
        self._begin_events()

    def write(self, record: dict[str, Any]) -> None:
        """Append one record and hand it to the operating system at once."""
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        self.content += line
        self._append(line)
        if self._events is not None:
            self._events.add(record)

    def _append(self, content: bytes) -> None:
        self._stream.write(content)
        self._stream.flush()

    def rewind(self, content: bytes) -> None:
        """Drop all but the first records, which `content` has."""
        self.content = bytearray(content)
        self._stream.seek(len(content))
        self._stream.truncate()
        self._begin_events()

    def _begin_events(self) -> None:
        if self._events is not None:
            self._events.begin(json.loads(line) for line in self.content.splitlines())

    def check_in_place(self) -> None:
        """Check that the path still leads to the file that is being written.

        Raises
        ------
        CmgemsError
            If it does not.
        """
        with suppress(FileNotFoundError, NotADirectoryError):
            if os.path.samestat(os.fstat(self._stream.fileno()), self._path.stat()):
                return
        raise CmgemsError(
            f"{self._path.parent} was moved or replaced while the run was writing to it; give its new path as `out` to"
            " resume from its checkpoints"
        )

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        if self._events is not None:
            self._events.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return all records of a metrics file.

    Raises
    ------
    InputError
        If a line is not a record.
    """
    try:
        with path.open("rb") as stream:
            records = [parse_json(line) for line in iter(lambda: stream.readline(_RECORD_BYTES), b"")]
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); needed a JSON record in every line") from None
    if not all(isinstance(record, dict) and isinstance(record.get("step"), int) for record in records):
        raise InputError(f"{path} is damaged; needed a JSON record with its `step` in every line")
    return records
