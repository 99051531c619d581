"""Genomic intervals: where in the FASTA records training sequences come from."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cmgems_cli.errors import InputError
from cmgems_cli.genome.corpus import CONTIGS, Corpus
from cmgems_cli.safe_text import from_spreadsheet_cell


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

    Raises
    ------
    InputError
        If contigs.csv does not name the contigs.
    """
    names = _names(corpus.folder / CONTIGS)
    if any(number >= len(names) for number in np.unique(corpus.windows["contig"][sequence_indices])):
        raise InputError(f"{corpus.folder} is damaged: {CONTIGS} lacks a contig; make it again")
    intervals = []
    for window in corpus.windows[sequence_indices]:
        start, n_bases = int(window["start"]), int(window["n_tokens"]) + corpus.k - 1
        run = corpus.runs[np.searchsorted(corpus.runs["start"], start, side="right") - 1]
        begin = int(run["contig_start"]) + start - int(run["start"])
        intervals.append(GenomicInterval(names[int(window["contig"])], begin, begin + n_bases))
    return intervals


def _names(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = csv.reader(stream, strict=True)
        place = header.index("name")
        if any(len(row) != len(header) for row in rows):
            raise ValueError("rows of different lengths")
        return [from_spreadsheet_cell(row[place]) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}); make the corpus again") from None
