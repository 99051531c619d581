"""Labelled sequences of one task: read once, checked, counted, never truncated silently (method, section 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.datasets.labelled_table import read_rows
from cmgems_cli.datasets.labels import are_lists, are_measured, listed, ordered, spelled_differently, value_of
from cmgems_cli.errors import InputError
from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.genome.tokenization import OverlappingKmers, Tokenization
from cmgems_cli.genome.vocabulary import BASE_CODE_OF_BYTE, NOT_A_BASE
from cmgems_cli.kernels import kernel

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
        Rows of each label, in the order of `Table.label_names`.
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
    labels : int64, shape (n_rows,)
        Index into `label_names`.
    label_names : tuple of str
        The labels as they are written.
    counts : Counts
        Of the whole file, also in a table that `take` made.
    sha256 : str
        Of the file that the rows were read from.
    """

    path: Path
    bases: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64]
    label_names: tuple[str, ...]
    counts: Counts
    sha256: str = ""

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
        return Table(
            self.path, *_joined(chosen), self.labels[rows], self.label_names, self.counts, self.sha256
        )


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
        for split, table in self.tables.items():
            present = np.unique(table.labels)
            if len(present) == 1:
                label = self.label_names[present[0]]
                said.append(
                    f"{split} has one class only, {label!r}, in its {len(table):,} row(s): MCC is 0 by definition,"
                    " and accuracy and F1 tell nothing"
                )
        return said

    def notes(self) -> list[str]:
        """Return what a reader of a score should know about the data; `warnings` come first."""
        said = self.warnings()
        return said + [
            f"{split} {note}" for split, table in self.tables.items() for note in table.counts.notes()
        ]


def read_splits(
    paths: Mapping[str, Path],
    *,
    tokenization: Tokenization = SIX_MERS,
    max_tokens: int = MAX_TOKENS,
    truncate: bool = False,
) -> Splits:
    """Read files as the splits of one task.

    Parameters
    ----------
    paths : mapping, split -> Path
        The labels of the first one, train, are those of all.
    tokenization, max_tokens, truncate
        As in `read_table`.

    Raises
    ------
    InputError
        If the first split has one label only, or as `read_table`.
    """
    tables: dict[str, Table] = {}
    label_names: tuple[str, ...] | None = None
    for split, path in paths.items():
        table = read_table(
            path,
            tokenization=tokenization,
            max_tokens=max_tokens,
            truncate=truncate,
            label_names=label_names,
            split=split,
        )
        if label_names is None and len(table.label_names) < 2:
            raise InputError(
                f"{path} has the label {table.label_names[0]!r} in every row; needed at least two labels"
            )
        label_names = table.label_names
        tables[split] = table
    return Splits(tables)


def read_table(
    path: Path,
    *,
    tokenization: Tokenization = SIX_MERS,
    max_tokens: int = MAX_TOKENS,
    truncate: bool = False,
    label_names: Sequence[str] | None = None,
    split: str = "",
) -> Table:
    """Read labelled sequences from a file or folder of any format of `labelled_formats`.

    The first line of a table names the columns, `sequence` and `label` among them. Sequences are bases or overlapping
    k-mers with spaces between (of any one length, whatever the model reads), in either case of letters. Labels are
    any text; whole numbers are ordered as numbers, other labels as text, and numbered from 0 in that order.
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
    label_names : sequence of str, optional
        The labels in the order of their numbers: those of train, if this is another split.
    split : str, optional
        Its name for messages; by default the file's.

    Raises
    ------
    InputError
        If the file cannot be read (as `read_rows`), has a label not among `label_names`, sequences beyond
        `max_tokens`, or no known token at all.
    """
    rows = read_rows(path, max_bases=tokenization.most_bases(max_tokens))
    if rows.too_long and not truncate:
        raise InputError(
            f"{path}: {rows.too_long:,} of {len(rows.sequences):,} sequences are longer than {max_tokens}"
            f" tokens, the longest {tokenization.fewest_tokens(rows.longest):,}: add `truncate=True` to truncate them"
        )
    names = tuple(label_names) if label_names is not None else ordered(set(rows.labels))
    _check_labels(rows.labels, names, path, split or path.stem)
    number_of = {name: number for number, name in enumerate(names)}
    labels = np.array([number_of[label] for label in rows.labels], dtype=np.int64)
    bases, offsets = _joined(rows.sequences)
    k = tokenization.min_bases
    lengths, (longest_runs, other_letters, known) = np.diff(offsets), _scan(bases, offsets, k)
    if longest_runs.max() < k:
        raise InputError(
            f"{path}: none of its {len(labels):,} sequences has {k} letters A, C, G, T in a row, so that"
            " every token would be [UNK]; give DNA sequences"
        )
    counts = Counts(
        rows=len(labels),
        rows_of_label=tuple(np.bincount(labels, minlength=len(names)).tolist()),
        duplicate_rows=rows.duplicates,
        contradictory_sequences=rows.contradictory,
        short_rows=int((lengths < k).sum()),
        rows_with_other_letters=int((other_letters > 0).sum()),
        unknown_rows=int(((longest_runs < k) & (lengths >= k)).sum()),
        truncated_rows=rows.too_long,
        tokens=int(np.maximum(lengths - k + 1, 0).sum()),
        known_tokens=int(known.sum()),
    )
    return Table(path, bases, offsets, labels, names, counts, rows.sha256)


def _check_labels(labels: list[str], names: Sequence[str], path: Path, split: str) -> None:
    unseen = sorted(set(labels) - set(names))
    if unseen:
        among = set(unseen)
        number = sum(label in among for label in labels)
        same = [name for name in names if value_of(name) == value_of(unseen[0])]
        if same:
            remedy = f"write it as in train, {same[0]!r}"
        elif are_measured(names):
            remedy = (
                "these look like measured values (regression); needed a few classes, as in ranges of values"
            )
        else:
            remedy = "correct these labels or add such rows to train"
        raise InputError(
            f"{path}: the {split} split has the label {listed([unseen[0]])!r}, unseen in train ({listed(names)}),"
            f" in {number:,} of {len(labels):,} rows: {remedy}"
        )


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
