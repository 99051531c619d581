"""Where rows are: in their sequence, or in the genome if the sequences are regions of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.inference.region_source import RegionName
from cmgems_cli.inference.row_blocks import Block
from cmgems_cli.inference.survey import Input


class GenomicPlaces(NamedTuple):
    """Where the rows of a block are.

    Attributes
    ----------
    contigs : list of str, length n
        Records of the genome; names of the sequences, if they are not regions of one.
    starts, ends : int64, shape (n,), bases
        0-based, half-open, on the forward strand.
    reverse : bool, shape (n,)
        Whether the row is read on the strand `-`.
    """

    contigs: list[str]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    reverse: NDArray[np.bool_]

    def strands(self) -> list[str]:
        """Return `+` or `-` of each row."""
        return np.where(self.reverse, "-", "+").tolist()


def places_of(block: Block) -> GenomicPlaces:
    """Return where the rows of a block are."""
    regions = [name.region for name in block.names if isinstance(name, RegionName)]
    if not regions:
        return GenomicPlaces(block.names, block.starts, block.ends, block.reverse)
    first = np.array([region.start for region in regions], np.int64)
    end = np.array([region.end for region in regions], np.int64)
    on_reverse = np.array([region.reverse for region in regions], np.bool_)
    return GenomicPlaces(
        [region.contig for region in regions],
        np.where(on_reverse, end - block.ends, first + block.starts),
        np.where(on_reverse, end - block.starts, first + block.ends),
        on_reverse ^ block.reverse,
    )


@dataclass(frozen=True)
class PlaceColumns:
    """The first columns of a table of rows.

    Of regions of a genome: chrom, start, end, name, strand, as BED orders the first three. Else name; with windows
    start and end; and strand, if not all rows are read forward.

    Attributes
    ----------
    regions, windows, strands : bool
    """

    regions: bool
    windows: bool
    strands: bool

    @classmethod
    def of(cls, data: Input) -> PlaceColumns:
        """Return the columns for an input."""
        return cls(data.regions, data.tiling.window is not None, data.tiling.strand != "forward")

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        if self.regions:
            return ["chrom", "start", "end", "name", "strand"]
        return ["name", *(["start", "end"] if self.windows else []), *(["strand"] if self.strands else [])]

    def cells(self, block: Block) -> list[list[Any]]:
        """Return the columns for the rows of a block."""
        places = places_of(block)
        where = [places.starts.tolist(), places.ends.tolist()]
        if self.regions:
            return [places.contigs, *where, block.names, places.strands()]
        return [block.names, *(where if self.windows else []), *([places.strands()] if self.strands else [])]
