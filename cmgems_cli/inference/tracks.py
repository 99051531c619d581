"""Tracks: one value for each base that windows cover, as bedGraph or bigWig.

The value of a base is the mean of the probabilities of all windows that cover it; of a window that is read on both
strands, the higher one counts. Probabilities are rounded to `DECIMALS` first, so that sums are exact and a resumed run
writes the same bytes. Neighbouring intervals of one value are one.
"""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta_stream import SequenceChunk
from cmgems_cli.inference.places import places_of
from cmgems_cli.inference.prediction import DECIMALS, Predicted
from cmgems_cli.inference.record_readers import Source
from cmgems_cli.inference.region_source import RegionName, RegionSource

_UNITS = 10**DECIMALS

# ours: entries given to pyBigWig at a time; it needs a name of the contig for each.
_ENTRIES = 1 << 16

# What a bigWig file holds until it is finished; its contigs are in the state.
_RECORD = np.dtype([("start", "<u4"), ("end", "<u4"), ("value", "<f4")])

# Behind every base.
_BEYOND = 1 << 62

Emit = Callable[[str, int, int, float], None]


class OrderedSource(Source):
    """A source whose sequences follow each other as tracks need it, and how long its contigs are.

    Parameters
    ----------
    source : Source

    Attributes
    ----------
    sizes : dict, str -> int
        Length of each contig in bases; complete once `chunks` is exhausted.
    others
        Those of `source`.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self.path, self.name, self.rereadable = source.path, source.name, source.rereadable
        self.regions, self.sha256 = source.regions, ""
        self.sizes: dict[str, int] = {}

    def notes(self) -> list[str]:
        """As of the source."""
        return self._source.notes()

    def chunks(self) -> Iterator[SequenceChunk]:
        """Yield the sequences of the source.

        Raises
        ------
        InputError
            As the source; or if regions are not sorted by contig and start, or two sequences have one name.
        """
        genome = self._source.genome.contigs if isinstance(self._source, RegionSource) else None
        done: set[str] = set()
        contig, start, length = None, 0, 0
        for chunk in self._source.chunks():
            name = chunk.name
            length += len(chunk.letters)
            if isinstance(name, RegionName):
                region = name.region
                if region.contig != contig:
                    contig, start = region.contig, 0
                    if contig in done:
                        raise self._unsorted(region.line, contig)
                    done.add(contig)
                if region.start < start:
                    raise self._unsorted(region.line, contig)
                start = region.start
            elif chunk.last:
                if name in done:
                    raise InputError(
                        f"{self.name} has two sequences named {name!r}; in a track, and where hits are merged, a name"
                        " is one place: rename one"
                    )
                done.add(name)
                self.sizes[name] = length
            length = 0 if chunk.last else length
            yield chunk
        if genome is not None:
            self.sizes = dict(genome)
        self.sha256 = self._source.sha256

    def _unsorted(self, line: int, contig: str) -> InputError:
        return InputError(
            f"{self.name} line {line} goes back on {contig}; a track needs regions in order: sort -k1,1 -k2,2n"
        )


class Track:
    """Turns windows into intervals that do not overlap, each with the mean value of the windows over it.

    Parameters
    ----------
    emit : callable
        Called with contig, start, end and value of each interval, in order.
    state : Any
        Of an earlier run, from `state`.
    """

    def __init__(self, emit: Emit, state: Any = None) -> None:
        self._emit = emit
        before = state or {"contig": "", "at": 0, "waiting": [], "over": [], "last": None}
        self._contig, self._at = before["contig"], before["at"]
        # Heaps: windows that begin at or behind `_at` (start, end, value), and those over it (end, value).
        self._waiting = [(start, end, value) for start, end, value in before["waiting"]]
        self._over = [(end, value) for end, value in before["over"]]
        self._sum = sum(value for _, value in self._over)
        self._last: list[Any] | None = before["last"]

    def state(self) -> Any:
        """Return what a later run needs to continue from here, as JSON values."""
        return {
            "contig": self._contig,
            "at": self._at,
            "waiting": list(self._waiting),
            "over": list(self._over),
            "last": self._last and list(self._last),
        }

    def add(self, contig: str, start: int, end: int, value: int, reached: int) -> None:
        """Add a window.

        Parameters
        ----------
        contig, start, end
            Its place.
        value : int
            In units of 10^-DECIMALS.
        reached : int, bases
            Neither this nor any later window of the contig starts before.
        """
        if contig != self._contig:
            self.finish()
            self._contig, self._at = contig, 0
        self._advance(reached)
        heapq.heappush(self._waiting, (start, end, value))

    def finish(self) -> None:
        """Emit the rest of the contig."""
        self._advance(_BEYOND)
        if self._last is not None:
            self._emit(*self._last)
            self._last = None

    def _advance(self, until: int) -> None:
        """Emit everything before `until`."""
        waiting, over = self._waiting, self._over
        while waiting or over:
            following = waiting[0][0] if waiting else until + 1
            if over:
                following = min(following, over[0][0])
            if following > until:
                return
            if over and following > self._at:
                mean = round(self._sum / (len(over) * _UNITS), DECIMALS)
                self._interval(self._at, following, mean)
            self._at = following
            while over and over[0][0] == following:
                self._sum -= heapq.heappop(over)[1]
            while waiting and waiting[0][0] == following:
                _, end, value = heapq.heappop(waiting)
                heapq.heappush(over, (end, value))
                self._sum += value

    def _interval(self, start: int, end: int, value: float) -> None:
        last = self._last
        if last is not None and last[0] == self._contig and last[2] == start and last[3] == value:
            last[2] = end
            return
        if last is not None:
            self._emit(*last)
        self._last = [self._contig, start, end, value]


class TrackSink:
    """Writes the probabilities of a class as a track.

    Parameters
    ----------
    file : BedGraph or BigWig
    chosen : int
        Number of the class.
    both : bool
        Whether each window has two rows, one per strand.
    state : Any
        Of an earlier run, from `state`.
    """

    def __init__(self, file: BedGraph | BigWig, chosen: int, *, both: bool, state: Any = None) -> None:
        self._file, self._chosen, self._both = file, chosen, both
        before = state or {"track": None, "file": None}
        file.resume(before["file"])
        self._track = Track(file.add, before["track"])

    @property
    def hits(self) -> None:
        """A track has no hits."""

    def add(self, predicted: Predicted) -> None:
        """Take the rows of a block."""
        block, places = predicted.block, places_of(predicted.block)
        values = predicted.probabilities[:, self._chosen]
        rows = np.flatnonzero(~np.isnan(values))
        if self._both:
            rows, values = _better_of_strands(rows, values, block.starts, block.reverse)
        starts, ends = places.starts[rows].tolist(), places.ends[rows].tolist()
        for row, start, end, value in zip(rows.tolist(), starts, ends, values[rows].tolist(), strict=True):
            name = block.names[row]
            reached = name.region.start if isinstance(name, RegionName) else start
            self._track.add(places.contigs[row], start, end, round(value * _UNITS), reached)
        self._file.flush()

    def state(self) -> Any:
        """Return what a later run needs to continue from here, as JSON values."""
        return {"track": self._track.state(), "file": self._file.state()}

    def finish(self) -> None:
        """Write what was held back, and complete the file."""
        self._track.finish()
        self._file.finish()


def _better_of_strands(
    rows: NDArray[np.int64],
    values: NDArray[np.float64],
    starts: NDArray[np.int64],
    reverse: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the first row of each window, with the higher value of its strands."""
    first, second = rows[:-1], rows[1:]
    pair = ~reverse[first] & reverse[second] & (second == first + 1) & (starts[first] == starts[second])
    better = values.copy()
    better[first[pair]] = np.maximum(values[first[pair]], values[second[pair]])
    return np.delete(rows, np.flatnonzero(pair) + 1), better


class BedGraph:
    """Writes intervals as bedGraph (UCSC): chrom, start, end, value; no header.

    Parameters
    ----------
    stream : binary file
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lines: list[str] = []

    def resume(self, state: Any) -> None:
        """Continue an earlier run: the text is all there is."""

    def add(self, contig: str, start: int, end: int, value: float) -> None:
        """Add an interval behind those before."""
        self._lines.append(f"{'_'.join(contig.split())}\t{start}\t{end}\t{value:.{DECIMALS}g}\n")

    def flush(self) -> None:
        """Write the intervals added."""
        self._stream.write("".join(self._lines).encode())
        self._lines.clear()

    def state(self) -> None:
        """Return nothing, as there is no more than the text."""

    def finish(self) -> None:
        """Write the rest."""
        self.flush()


class BigWig:
    """Writes intervals as bigWig, whose contigs are sorted by name.

    The stream holds plain records of the intervals until `finish` replaces them by the file.

    Parameters
    ----------
    stream : binary file with a name
        Readable.
    sizes : dict, str -> int
        Length of each contig in bases, complete at the end.
    """

    def __init__(self, stream: IO[bytes], sizes: dict[str, int]) -> None:
        self._stream, self._sizes = stream, sizes
        self._records: list[tuple[int, int, float]] = []
        self._contigs: list[list[Any]] = []  # name, number of intervals

    def resume(self, state: Any) -> None:
        """Continue an earlier run."""
        self._contigs = state or []

    def add(self, contig: str, start: int, end: int, value: float) -> None:
        """Add an interval behind those before."""
        if not self._contigs or self._contigs[-1][0] != contig:
            self._contigs.append([contig, 0])
        self._contigs[-1][1] += 1
        self._records.append((start, end, value))

    def flush(self) -> None:
        """Write the intervals added."""
        self._stream.write(np.array(self._records, _RECORD).tobytes())
        self._records.clear()

    def state(self) -> Any:
        """Return the contigs so far with their numbers of intervals."""
        return [list(one) for one in self._contigs]

    def finish(self) -> None:
        """Replace the records by a bigWig file."""
        import pyBigWig

        self.flush()
        self._stream.flush()
        counts = [count for _, count in self._contigs]
        first = dict(zip((name for name, _ in self._contigs), np.cumsum([0, *counts]).tolist(), strict=False))
        made = Path(f"{self._stream.name}.made")
        try:
            with pyBigWig.open(str(made), "w") as file:
                file.addHeader(sorted((name, size) for name, size in self._sizes.items() if size))
                for name, count in sorted((name, count) for name, count in self._contigs):
                    for at in range(0, count, _ENTRIES):
                        self._add_entries(file, name, first[name] + at, min(_ENTRIES, count - at))
            with made.open("rb") as source:
                self._stream.seek(0)
                self._stream.truncate()
                shutil.copyfileobj(source, self._stream)
        finally:
            made.unlink(missing_ok=True)

    def _add_entries(self, file: Any, name: str, first: int, count: int) -> None:
        data = os.pread(self._stream.fileno(), count * _RECORD.itemsize, first * _RECORD.itemsize)
        records = np.frombuffer(data, _RECORD)
        starts, ends = records["start"].astype(np.int64), records["end"].astype(np.int64)
        file.addEntries([name] * count, starts, ends=ends, values=records["value"].astype(np.float64))
