"""One pass over labelled sequences (method, section 7)."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from cmgems_cli.datasets.labelled_formats import NEEDED, open_labelled
from cmgems_cli.datasets.labels import problem_of_label
from cmgems_cli.datasets.sequence_table import SequenceTable
from cmgems_cli.datasets.text_lines import lines_of, texts_of
from cmgems_cli.errors import InputError
from cmgems_cli.genome.fasta import FastaFile


@dataclass
class Rows:
    """The rows of a file in its order, and what was counted.

    Attributes
    ----------
    sequences : list of bytes
        Upper-case letters.
    labels : list of str
        As written, without the spaces around.
    duplicates, contradictory : int
        Rows whose sequence an earlier row has; sequences with more than one label. Truncated sequences are
        compared as truncated: it is what a model sees.
    too_long : int
        Truncated sequences.
    longest : int, bases
        Length of the longest sequence before it was truncated; 0 if none was.
    sha256 : str
        Of what these rows were read from.
    """

    sequences: list[bytes] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    duplicates: int = 0
    contradictory: int = 0
    too_long: int = 0
    longest: int = 0
    sha256: str = ""


def read_rows(path: Path, *, max_bases: int) -> Rows:
    """Read labelled sequences in one pass.

    Parameters
    ----------
    path : Path
        A file or folder of any format of `labelled_formats`.
    max_bases : int
        Truncate longer sequences to this; their number is in the result.

    Raises
    ------
    InputError
        If it cannot be read, a row has no usable label, or as `RowSource.rows`.
    """
    rows, source = Rows(), open_labelled(path)
    label_of: dict[bytes, str] = {}
    contradictory: set[bytes] = set()
    checked: set[str] = set()
    for sequence, label in source.rows():
        if label not in checked:
            if problem := problem_of_label(label):
                raise source.wrong(problem)
            checked.add(label)
        if len(sequence) > max_bases:
            rows.too_long += 1
            rows.longest = max(rows.longest, len(sequence))
            sequence = sequence[:max_bases]
        if label_of.setdefault(sequence, label) != label:
            contradictory.add(sequence)
        rows.sequences.append(sequence)
        rows.labels.append(label)
    rows.sha256 = source.sha256
    rows.duplicates = len(rows.sequences) - len(label_of)
    rows.contradictory = len(contradictory)
    return rows


@dataclass
class LabelledRows:
    """The rows of a table with all their cells.

    Attributes
    ----------
    path : Path
    columns : list of str
        As written.
    cells : list of list of str
        Of each row; the sequence as upper-case letters.
    sequences : list of bytes
    labels : list of str
    sha256 : str
        Of the file.
    """

    path: Path
    columns: list[str]
    cells: list[list[str]] = field(default_factory=list)
    sequences: list[bytes] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    sha256: str = ""


def read_labelled_rows(path: Path) -> LabelledRows:
    """Read a table of labelled sequences with all its columns.

    Raises
    ------
    InputError
        If the file cannot be read, a row has no usable label, or as `SequenceTable`.
    """
    _check_is_file(path)
    file = FastaFile(path)
    with closing(texts_of(file)) as texts:
        table = SequenceTable(lines_of(texts, path, NEEDED), path, NEEDED, ("sequence", "label"))
        rows = LabelledRows(path, table.names)
        sequence_at, label_at = table.column("sequence"), table.column("label")
        assert sequence_at is not None
        assert label_at is not None
        for sequence, cells in table.rows():
            texts_of_row = [table.cell(cells, place) for place in range(len(cells))]
            if problem := problem_of_label(texts_of_row[label_at]):
                raise table.wrong(problem)
            texts_of_row[sequence_at] = sequence.decode("ascii")
            rows.cells.append(texts_of_row)
            rows.sequences.append(sequence)
            rows.labels.append(texts_of_row[label_at])
    rows.sha256 = file.sha256
    return rows


def _check_is_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist; {NEEDED}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; {NEEDED}")
