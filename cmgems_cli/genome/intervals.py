"""Genomic intervals: where in the FASTA records training sequences come from."""

from __future__ import annotations

import csv
from typing import NamedTuple

import numpy as np

from cmgems_cli.genome.corpus import CONTIGS, Corpus


class GenomicInterval(NamedTuple):
    """Part of a FASTA record: 0-based, half-open, in letters of the record."""

    contig: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.contig}:{self.start}-{self.end}"


def intervals_of(corpus: Corpus, sequence_indices: np.ndarray) -> list[GenomicInterval]:
    """Return the genomic interval of each training sequence.

    Parameters
    ----------
    corpus : Corpus
    sequence_indices : int64, shape (n,)
        Rows of `corpus.windows`.

    Returns
    -------
    list of GenomicInterval
        One per sequence, in the order of `sequence_indices`.
    """
    with (corpus.folder / CONTIGS).open(newline="", encoding="utf-8") as stream:
        names = [row["name"] for row in csv.DictReader(stream)]
    intervals = []
    for window in corpus.windows[sequence_indices]:
        start, n_bases = int(window["start"]), int(window["n_tokens"]) + corpus.k - 1
        run = corpus.runs[np.searchsorted(corpus.runs["start"], start, side="right") - 1]
        begin = int(run["contig_start"]) + start - int(run["start"])
        intervals.append(GenomicInterval(names[int(window["contig"])], begin, begin + n_bases))
    return intervals
