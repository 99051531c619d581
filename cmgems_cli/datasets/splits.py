"""Labelled sequences of one task: read once, checked, counted, never truncated silently (method, section 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.datasets.labelled_table import read_rows
from cmgems_cli.datasets.labels import are_lists, are_measured, listed, spelled_differently
from cmgems_cli.datasets.targets import NONE, Target, target_of
from cmgems_cli.errors import InputError
from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.genome.tokenization import OverlappingKmers, Tokenization
from cmgems_cli.genome.vocabulary import BASE_CODE_OF_BYTE, NOT_A_BASE
from cmgems_cli.kernels import kernel
from cmgems_cli.metrics import Problem, problem_of
from cmgems_cli.readable import none_of

# Paper, section 5: 512 positions, two of which are [CLS] and [SEP].
MAX_TOKENS = 510

# The paper's tokens.
SIX_MERS = OverlappingKmers(6)


@dataclass(frozen=True)
class Counts:
    """What was counted in one file.

    Attributes
    ----------
    rows : int
        All of them are kept, whatever else is counted.
    rows_of_label : tuple of int
        Rows of each label, in the order of `Table.label_names`; of measured values, all rows.
    duplicate_rows : int
        Rows whose sequence an earlier row has.
    contradictory_sequences : int
        Sequences that have more than one label in the file.
    short_rows : int
        Rows shorter than one token: the model sees `[CLS] [SEP]`.
    rows_with_other_letters : int
        Rows with letters other than A, C, G, T; the k-mers that touch one are `[UNK]`.
    unknown_rows : int
        Rows as long as a k-mer or longer in which every token is `[UNK]`.
    truncated_rows : int
        Rows truncated to their first tokens, which happens on demand only.
    tokens, known_tokens : int
        k-mers of all rows, and those of A, C, G and T alone; the others are `[UNK]`.
    """

    rows: int
    rows_of_label: tuple[int, ...]
    duplicate_rows: int
    contradictory_sequences: int
    short_rows: int
    rows_with_other_letters: int
    unknown_rows: int
    truncated_rows: int
    tokens: int = 0
    known_tokens: int = 0

    def warnings(self) -> list[str]:
        """Return what makes any score doubtful."""
        unknown = self.tokens - self.known_tokens
        mostly = 2 * unknown > self.tokens
        return [f"tokens that are [UNK]: {100 * unknown / self.tokens:.0f} %"] if mostly else []

    def notes(self) -> list[str]:
        """Return what a reader of a score should know; zero counts are left out."""
        return _said(
            (self.truncated_rows, "sequences cut to the longest input"),
            (self.duplicate_rows, "rows that repeat an earlier sequence"),
            (self.contradictory_sequences, "sequences with more than one label"),
            (self.short_rows, "rows shorter than one token"),
            (self.rows_with_other_letters, "rows with letters other than A, C, G, T"),
            (self.unknown_rows, "rows of nothing but [UNK]"),
        )


def _said(*counted: tuple[int, str]) -> list[str]:
    return [f"{words}: {number:,}" for number, words in counted if number]


@dataclass(frozen=True, eq=False)
class Table:
    """Labelled sequences, ready to be encoded in one call.

    Attributes
    ----------
    path : Path
        The file.
    bases : uint8, shape (n_bases,)
        All sequences, concatenated, as upper-case letters.
    offsets : int64, shape (n_rows + 1,), bases
        Where each sequence starts in `bases`, and where the last one ends.
    labels : array of n_rows rows
        Index into `label_names`: int64, shape (n_rows,). Several labels per row: int64, shape (n_rows, n_labels), 0
        or 1. Measured values: float64, shape (n_rows,).
    label_names : tuple of str
        The labels as they are written; one name of measured values.
    counts : Counts
        Of the whole file, also in a table that `take` made.
    sha256 : str
        Of the file that the rows were read from.
    vectors : bool
        As in `Target`.
    """

    path: Path
    bases: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    labels: NDArray[Any]
    label_names: tuple[str, ...]
    counts: Counts
    sha256: str = ""
    vectors: bool = False

    @property
    def problem(self) -> Problem:
        """What the labels are."""
        return problem_of(self.labels, len(self.label_names))

    @property
    def target(self) -> Target:
        """What a model of these labels predicts."""
        return Target(self.problem, self.label_names, self.vectors)

    def __len__(self) -> int:
        return len(self.labels)

    def sequences(self) -> list[bytes]:
        """Return every row's bases."""
        letters, bounds = self.bases.tobytes(), self.offsets.tolist()
        return [letters[start:stop] for start, stop in pairwise(bounds)]

    def encode(self, tokenization: Tokenization = SIX_MERS) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Encode all rows.

        Returns
        -------
        token_ids : int32, shape (n_tokens,)
            All rows, concatenated, without special tokens.
        offsets : int64, shape (n_rows + 1,), tokens
            Where each row starts. A row shorter than a token is empty.
        """
        return tokenization.encode(self.bases, self.offsets)

    def take(self, rows: NDArray[np.integer]) -> Table:
        """Return the table of these rows, in this order.

        Parameters
        ----------
        rows : integer, shape (n,)
            Indices of rows.
        """
        sequences = self.sequences()
        chosen = [sequences[row] for row in rows.tolist()]
        bases, offsets = _joined(chosen)
        return replace(self, bases=bases, offsets=offsets, labels=self.labels[rows])


@dataclass(frozen=True, eq=False)
class Splits:
    """The splits of one task.

    Attributes
    ----------
    tables : dict, split -> Table
        All under the labels of the train split.
    """

    tables: dict[str, Table]

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels, in the order of their numbers."""
        return next(iter(self.tables.values())).label_names

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each split."""
        return {split: len(table) for split, table in self.tables.items()}

    def warnings(self) -> list[str]:
        """Return what makes scores doubtful, or what is most likely a mistake in the data."""
        said = [f"{split} {note}" for split, table in self.tables.items() for note in table.counts.warnings()]
        for group in spelled_differently(self.label_names):
            said.append(f"labels that say the same and are classes of their own: {listed(group)}")
        if are_measured(self.label_names):
            said.append(
                f"labels that look like measured values, each a class of its own: {listed(self.label_names)}"
            )
        if are_lists(self.label_names):
            said.append(
                f"labels that look like lists (multilabel), each a class of its own: {listed(self.label_names)}"
            )
        return [
            *said,
            *(
                f"{split} {note}"
                for split, table in self.tables.items()
                for note in table.target.in_every_row(table.labels)
            ),
        ]

    def notes(self) -> list[str]:
        """Return what a reader of a score should know about the data; `warnings` come first."""
        said = self.warnings()
        return said + [
            f"{split} {note}" for split, table in self.tables.items() for note in table.counts.notes()
        ]


def read_splits(
    paths: Mapping[str, Path],
    *,
    problem: Problem | None = None,
    tokenization: Tokenization = SIX_MERS,
    max_tokens: int = MAX_TOKENS,
    truncate: bool = False,
) -> Splits:
    """Read files as the splits of one task.

    Parameters
    ----------
    paths : mapping, split -> Path
        The labels of the first one, train, are those of all.
    problem : str, optional
        What the labels are; by default inferred from those of train.
    tokenization, max_tokens, truncate
        As in `read_table`.

    Raises
    ------
    InputError
        If the first split has one label only, or as `read_table`.
    """
    tables: dict[str, Table] = {}
    target: Target | None = None
    for split, path in paths.items():
        table = read_table(
            path,
            tokenization=tokenization,
            max_tokens=max_tokens,
            truncate=truncate,
            target=target,
            problem=problem,
            split=split,
        )
        if target is None:
            _check_varied(table)
        target = table.target
        tables[split] = table
    return Splits(tables)


def _check_varied(train: Table) -> None:
    """Check that there is something to tell apart (or raise InputError)."""
    if train.problem == "regression":
        if train.labels.min() == train.labels.max():
            raise InputError(
                f"{train.path} has the value {train.labels[0]:g} in every row; needed at least two"
            )
    elif len(train.label_names) < 2:
        label = train.label_names[0] if train.label_names else NONE
        raise InputError(f"{train.path} has the label {label!r} in every row; needed at least two labels")


def read_table(
    path: Path,
    *,
    tokenization: Tokenization = SIX_MERS,
    max_tokens: int = MAX_TOKENS,
    truncate: bool = False,
    target: Target | None = None,
    problem: Problem | None = None,
    split: str = "",
) -> Table:
    """Read labelled sequences from a file or folder of any format of `labelled_formats`.

    The first line of a table names the columns, `sequence` and `label` among them. Sequences are bases or overlapping
    k-mers with spaces between (of any one length, whatever the model reads), in either case of letters. Labels are
    any text; whole numbers are ordered as numbers, other labels as text, and numbered from 0 in that order; or they
    are lists of labels, or measured values (`targets`).
    Unusual rows are kept and counted: see `Counts`.

    Parameters
    ----------
    path : Path
        UTF-8, comma or tab, quoted or not.
    tokenization : Tokenization
        Of the model.
    max_tokens : int, tokens
        Longest sequence the model takes, special tokens not counted.
    truncate : bool, default False
        Truncate longer sequences to their first `max_tokens` tokens, and count them, instead of refusing.
    target : Target, optional
        What is predicted: that of train, if this is another split.
    problem : str, optional
        What the labels are, without a target; by default inferred from them.
    split : str, optional
        Its name for messages; by default the file's.

    Raises
    ------
    InputError
        If the file cannot be read (as `read_rows`), has labels that do not fit the target (as `Target.numbers` and
        `target_of`), sequences beyond `max_tokens`, or no known token at all.
    """
    rows = read_rows(path, max_bases=tokenization.most_bases(max_tokens))
    if rows.too_long and not truncate:
        raise InputError(
            f"{path}: {rows.too_long:,} of {len(rows.sequences):,} sequences are longer than {max_tokens}"
            f" tokens, the longest {tokenization.fewest_tokens(rows.longest):,}: add `truncate=True` to truncate them"
        )
    target = target or target_of(rows.labels, problem, path)
    labels = target.numbers(rows.labels, path, split or path.stem)
    bases, offsets = _joined(rows.sequences)
    k = tokenization.min_bases
    lengths, (longest_runs, other_letters, known) = np.diff(offsets), _scan(bases, offsets, k)
    if longest_runs.max() < k:
        raise InputError(
            f"{path}: {none_of(len(labels), 'sequence', 'its')} has {k} letters A, C, G, T in a row, so that"
            " every token would be [UNK]; give DNA sequences"
        )
    counts = Counts(
        rows=len(labels),
        rows_of_label=_rows_of_label(labels, len(target.names)),
        duplicate_rows=rows.duplicates,
        contradictory_sequences=rows.contradictory,
        short_rows=int((lengths < k).sum()),
        rows_with_other_letters=int((other_letters > 0).sum()),
        unknown_rows=int(((longest_runs < k) & (lengths >= k)).sum()),
        truncated_rows=rows.too_long,
        tokens=int(np.maximum(lengths - k + 1, 0).sum()),
        known_tokens=int(known.sum()),
    )
    return Table(path, bases, offsets, labels, target.names, counts, rows.sha256, target.vectors)


def _rows_of_label(labels: NDArray[Any], n_labels: int) -> tuple[int, ...]:
    if labels.ndim == 2:
        return tuple(labels.sum(axis=0).tolist())
    return (len(labels),) if n_labels == 1 else tuple(np.bincount(labels, minlength=n_labels).tolist())


def _joined(sequences: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Concatenate sequences: letters, uint8, shape (n_bases,); starts, int64, shape (n_sequences + 1,)."""
    offsets = offsets_of(np.array([len(sequence) for sequence in sequences], dtype=np.int64))
    return np.frombuffer(b"".join(sequences), dtype=np.uint8), offsets


@kernel()
def _scan(bases, offsets, k):  # type: ignore[no-untyped-def]
    """Return for each row its longest run of A, C, G, T, and its number of other letters and of known k-mers.

    int64, shape (n_rows,)
    """
    longest_runs = np.zeros(len(offsets) - 1, np.int64)
    other_letters = np.zeros(len(offsets) - 1, np.int64)
    known = np.zeros(len(offsets) - 1, np.int64)
    for row in range(len(longest_runs)):
        run = 0
        for i in range(offsets[row], offsets[row + 1]):
            if BASE_CODE_OF_BYTE[bases[i]] == NOT_A_BASE:
                other_letters[row] += 1
                run = 0
            else:
                run += 1
                longest_runs[row] = max(longest_runs[row], run)
                known[row] += run >= k
    return longest_runs, other_letters, known
