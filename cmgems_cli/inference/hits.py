"""Hits: rows that a class is likely in, merged where they overlap, or only the best of them; as BED or in a table."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, NamedTuple

import numpy as np

from cmgems_cli.inference.output_formats import TableWriter
from cmgems_cli.inference.places import PlaceColumns, places_of
from cmgems_cli.inference.prediction import DECIMALS, Predicted

# UCSC: the highest score of BED.
_HIGHEST_SCORE = 1000
_BLANK = str.maketrans("\t\r\n", "   ")


class Hit(NamedTuple):
    """A row, or several that were merged.

    Attributes
    ----------
    contig, start, end, reverse
        Its place, as in `GenomicPlaces`.
    name : str
        Of the sequence or region.
    label : str
        The most probable class.
    probabilities : list of float
        Of all classes, rounded to `DECIMALS`; of merged rows those of the best.
    value : float
        That of the chosen class.
    """

    contig: str
    start: int
    end: int
    reverse: bool
    name: str
    label: str
    probabilities: list[float]
    value: float

    @property
    def strand(self) -> str:
        """`+` or `-`."""
        return "-" if self.reverse else "+"


class HitSink:
    """Chooses hits among predictions and writes them.

    Parameters
    ----------
    write : callable
        Writes hits, given as a list.
    chosen : int
        Number of the class whose probability counts.
    min_prob : float or None
        Rows of a lower probability are left out; None: only those without one.
    merge : bool
        Join hits of one strand that overlap or touch and follow each other. The result reaches from the first
        start to the last end and has the values of the best hit, the first one of equals.
    top : int or None
        Write the best hits only, the best first, of equals the earlier one; nothing is written before `finish`.
    state : Any
        Of an earlier run, from `state`.
    """

    def __init__(
        self,
        write: Callable[[list[Hit]], None],
        chosen: int,
        *,
        min_prob: float | None = None,
        merge: bool = False,
        top: int | None = None,
        state: Any = None,
    ) -> None:
        self._write, self._chosen = write, chosen
        self._min_prob, self._merge, self._top = min_prob, merge, top
        before = state or {"open": [], "best": [], "hits": 0}
        self._open = {hit.reverse: hit for hit in (Hit(*one) for one in before["open"])}
        # The least is first: (value, -number of the hit, hit).
        self._best = [(value, order, Hit(*hit)) for value, order, hit in before["best"]]
        self._hits: int = before["hits"]

    @property
    def hits(self) -> int:
        """Number of hits so far; after `finish` of those written."""
        return self._hits

    def add(self, predicted: Predicted) -> None:
        """Take the rows of a block."""
        found: Iterable[Hit] = self._of_rows(predicted)
        self._pass_on(self._merged(found) if self._merge else found)

    def state(self) -> Any:
        """Return what a later run needs to continue from here, as JSON values."""
        return {"open": list(self._open.values()), "best": list(self._best), "hits": self._hits}

    def finish(self) -> None:
        """Write what was held back."""
        self._pass_on(self._closed(lambda hit: True))
        if self._top is not None:
            self._write([hit for _, _, hit in sorted(self._best, reverse=True)])
            self._hits = len(self._best)

    def _of_rows(self, predicted: Predicted) -> Iterator[Hit]:
        values = predicted.probabilities[:, self._chosen]
        least = 0.0 if self._min_prob is None else self._min_prob
        # Rounded like what is printed, which is then judged.
        rows = np.flatnonzero(values >= least - 10.0**-DECIMALS).tolist()
        if not rows:
            return
        places = places_of(predicted.block)
        for row in rows:
            probabilities = [round(value, DECIMALS) for value in predicted.probabilities[row].tolist()]
            if probabilities[self._chosen] >= least:
                yield Hit(
                    places.contigs[row],
                    int(places.starts[row]),
                    int(places.ends[row]),
                    bool(places.reverse[row]),
                    predicted.block.names[row],
                    str(predicted.labels[row]),
                    probabilities,
                    probabilities[self._chosen],
                )

    def _merged(self, hits: Iterable[Hit]) -> Iterator[Hit]:
        for hit in hits:
            # The hits of other contigs are complete, on both strands.
            yield from self._closed(lambda one, contig=hit.contig: one.contig != contig)  # type: ignore[misc]
            before = self._open.get(hit.reverse)
            if before is None:
                self._open[hit.reverse] = hit
            elif hit.start <= before.end and hit.end >= before.start:
                best = max(before, hit, key=lambda one: one.value)
                start, end = min(before.start, hit.start), max(before.end, hit.end)
                self._open[hit.reverse] = best._replace(start=start, end=end)
            else:
                yield before
                self._open[hit.reverse] = hit

    def _closed(self, which: Callable[[Hit], bool]) -> list[Hit]:
        """Take out and return the open hits that are complete, by their starts."""
        closed = [hit for hit in self._open.values() if which(hit)]
        for hit in closed:
            del self._open[hit.reverse]
        return sorted(closed, key=lambda hit: (hit.start, hit.reverse))

    def _pass_on(self, hits: Iterable[Hit]) -> None:
        if self._top is None:
            through = list(hits)
            self._hits += len(through)
            self._write(through)
            return
        for hit in hits:
            entry = (hit.value, -self._hits, hit)
            self._hits += 1
            if len(self._best) < self._top:
                heapq.heappush(self._best, entry)
            else:
                heapq.heappushpop(self._best, entry)


def table_of_hits(writer: TableWriter, where: PlaceColumns) -> Callable[[list[Hit]], None]:
    """Return a function that writes hits as rows with the columns of `prediction.columns`."""

    def cells(hit: Hit) -> list[Any]:
        if where.regions:
            places: list[Any] = [hit.contig, hit.start, hit.end, hit.name, hit.strand]
        else:
            interval = [hit.start, hit.end] if where.windows else []
            places = [hit.name, *interval, *([hit.strand] if where.strands else [])]
        return [*places, hit.label, *hit.probabilities]

    return lambda hits: writer.write(map(cells, hits))


def bed_of_hits(stream: IO[bytes], where: PlaceColumns, chosen: str) -> Callable[[list[Hit]], None]:
    """Return a function that writes hits as BED of six columns (UCSC), without a header.

    The score is 1000 times the probability, rounded; the name is that of the region, or the chosen class where the
    sequences are not regions.
    """

    def line(hit: Hit) -> str:
        name = hit.name if where.regions else chosen
        fields: Sequence[object] = (
            "_".join(hit.contig.split()),
            hit.start,
            hit.end,
            name.translate(_BLANK),
            round(_HIGHEST_SCORE * hit.value),
            hit.strand,
        )
        return "\t".join(map(str, fields)) + "\n"

    def write(hits: list[Hit]) -> None:
        stream.write("".join(map(line, hits)).encode())

    return write
