"""Where training sequences lie in the genome."""

from __future__ import annotations

import csv
from typing import NamedTuple

import numpy as np

from cmgems_cli.genome.corpus import CONTIGS, Corpus


class Place(NamedTuple):
    """A stretch of a FASTA record: 0-based, half-open, in letters of the record."""

    contig: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.contig}:{self.start}-{self.end}"


def places_of(corpus: Corpus, sequence_indices: np.ndarray) -> list[Place]:
    """Return where the bases of sequences (rows of `corpus.windows`) come from."""
    with (corpus.folder / CONTIGS).open(newline="", encoding="utf-8") as stream:
        names = [row["name"] for row in csv.DictReader(stream)]
    places = []
    for window in corpus.windows[sequence_indices]:
        start, n_bases = int(window["start"]), int(window["n_tokens"]) + corpus.k - 1
        run = corpus.runs[np.searchsorted(corpus.runs["start"], start, side="right") - 1]
        begin = int(run["contig_start"]) + start - int(run["start"])
        places.append(Place(names[int(window["contig"])], begin, begin + n_bases))
    return places
