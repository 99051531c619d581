"""From a FASTA file of positives to a few-shot data set in the published layout (method, section 7).

Each positive gets a negative; both are on one side of the split between training and test rows. The
folder holds `test.tsv`, `full-dataset/train.tsv` and `full-dataset/test.tsv`, and for each number of shots n
`n/train.tsv`: ten draws of n rows per class, one after the other, from which a run draws its own.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cmgems_cli import draws
from cmgems_cli.artifacts import Manifest, environment
from cmgems_cli.datasets.benchmark import FULL_DATASET
from cmgems_cli.datasets.shots import random_numbers
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.fewshot_builder.negatives import PARTS, negatives_of
from cmgems_cli.genome.fasta import FastaFile, check_readable
from cmgems_cli.genome.records import fasta_records
from cmgems_cli.outputs import Output

# method, section 7: positives of at most 300 bases; a tenth of the rows is the test.
MAX_BASES = 300
TEST_SHARE = 0.1

# The shots of the published data; the paper reports 10 and 50.
SHOTS = (10, 50, 100, 500, 1000)
# Paper, section 5: every few-shot figure is the mean of ten draws.
DRAWS = 10

# The published files are written as 6-mers, whatever the k of the model that reads them.
K_WRITTEN = 6

NEGATIVE, POSITIVE = 0, 1


@dataclass(frozen=True)
class Positives:
    """The records of a FASTA file that are positives, and the number of the others.

    Attributes
    ----------
    path : Path
    sha256 : str
        Of the file.
    sequences : list of bytes
        Upper-case A, C, G, T, all different.
    numbers : list of int
        Of each, which record of the file it is, from 0.
    records : int
        Records of the file.
    other_letters, too_short, too_long, repeats : int
        Records skipped: with a letter other than A, C, G, T; else shorter than 20 bases; else longer than
        `max_bases`; else equal to an earlier one.
    """

    path: Path
    sha256: str
    sequences: list[bytes]
    numbers: list[int]
    records: int
    other_letters: int
    too_short: int
    too_long: int
    repeats: int


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled sequences: `sequences`, `labels` and `pairs` of a positive and its negative (int64, shape (n,))."""

    sequences: list[bytes]
    labels: NDArray[np.int64]
    pairs: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sequences)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Rows:
        """Return rows by their indices (int64, shape (n,)), in this order."""
        chosen = np.asarray(rows, np.int64)
        return Rows([self.sequences[row] for row in chosen.tolist()], self.labels[chosen], self.pairs[chosen])

    def of_label(self, label: int) -> int:
        """Return the number of rows of a label."""
        return int((self.labels == label).sum())


@dataclass(frozen=True, eq=False)
class FewshotSet:
    """A data set in memory.

    Attributes
    ----------
    positives : Positives
    train, test : Rows
    pools : dict, shots -> Rows
        The pool of each number of shots.
    too_few : tuple of int
        Numbers of shots skipped: a class has fewer training rows.
    params : dict
        What was chosen.
    """

    positives: Positives
    train: Rows
    test: Rows
    pools: dict[int, Rows]
    too_few: tuple[int, ...]
    params: dict[str, object]

    @property
    def pairs_across_split(self) -> int:
        """Pairs with one row in train and the other in test."""
        return len(set(self.train.pairs.tolist()) & set(self.test.pairs.tolist()))

    def stats(self) -> dict[str, object]:
        """Return what was counted, as the manifest has it."""
        positives = self.positives
        return {
            "records": positives.records,
            "pairs": len(positives.sequences),
            "dropped_other_letters": positives.other_letters,
            "dropped_too_short": positives.too_short,
            "dropped_too_long": positives.too_long,
            "dropped_repeats": positives.repeats,
            "train_rows": len(self.train),
            "test_rows": len(self.test),
            "pairs_on_both_sides": self.pairs_across_split,
            "pool_rows": {str(shots): len(pool) for shots, pool in self.pools.items()},
        }

    def files(self) -> dict[str, tuple[Rows, bool]]:
        """Return the rows of each file, by its name, and whether it is quoted, as train files are."""
        pools = {f"{shots}/train.tsv": (pool, True) for shots, pool in self.pools.items()}
        return {
            **pools,
            "test.tsv": (self.test, False),
            f"{FULL_DATASET}/train.tsv": (self.train, True),
            f"{FULL_DATASET}/test.tsv": (self.test, False),
        }


def read_positives(
    path: Path, *, max_bases: int = MAX_BASES, advance: Callable[[float], None] = lambda n: None
) -> Positives:
    """Read the records that can be positives: 20 to `max_bases` letters, A, C, G and T only, each once.

    Parameters
    ----------
    path : Path
        FASTA, plain, gzip or bgzip.
    max_bases : int, default 300
        Longer records are skipped, not truncated: where the signal of a positive is, is unknown.
    advance : callable, optional
        Called with the number of raw file bytes newly read.

    Raises
    ------
    InputError
        If the file cannot be read, is not FASTA of DNA, or has fewer than two records left.
    """
    check_readable(path)
    source = FastaFile(path)
    kept: dict[bytes, int] = {}
    records = other_letters = too_short = too_long = repeats = 0
    for number, record in enumerate(fasta_records(source, advance, max_bases=max_bases)):
        records += 1
        letters = record.letters
        if letters.translate(None, b"ACGT"):
            other_letters += 1
        elif len(letters) < PARTS:
            too_short += 1
        elif len(letters) > max_bases:
            too_long += 1
        elif letters in kept:
            repeats += 1
        else:
            kept[letters] = number
    if len(kept) < 2:
        raise InputError(
            f"{path} has {len(kept)} usable positives of {records:,} records ({other_letters:,} with letters other"
            f" than A, C, G, T, {too_short:,} under {PARTS} bases, {too_long:,} over {max_bases},"
            f" {repeats:,} repeats); needed at least 2: give more, or another `max_bases`"
        )
    return Positives(
        path,
        source.sha256,
        list(kept),
        list(kept.values()),
        records,
        other_letters,
        too_short,
        too_long,
        repeats,
    )


def make_fewshot(
    positives: Positives,
    *,
    shots: Iterable[int] | None = None,
    test_share: float = TEST_SHARE,
    max_bases: int = MAX_BASES,
    compat: bool = False,
    seed: int = 42,
) -> FewshotSet:
    """Make negatives, split, and draw the pools.

    Parameters
    ----------
    positives : Positives
    shots : iterable of int, optional
        Rows per class of the pools' draws. Default: the published ones, as far as there are rows.
    test_share : float, fraction, default 0.1
        Of the pairs (with `compat`, of the rows), rounded to a whole number.
    max_bases : int, default 300
        As given to `read_positives`; noted.
    compat : bool, default False
        Split rows instead of pairs, as the original did: a test row then often has its own positive or
        negative among the training rows, which differs from it in half of its letters or fewer.
    seed : int, default 42

    Raises
    ------
    UsageError
        If a side of the split would be empty, or `shots` is not of positive numbers.
    InputError
        If a number of shots in `shots` exceeds the training rows of a class.
    """
    rows, numbers = _pairs(positives, seed)
    in_test = _test_rows(rows, numbers, test_share, compat=compat, seed=seed)
    order = np.argsort(random_numbers(np.uint64(seed), draws.FEWSHOT_ORDER, numbers, rows.labels))
    train, test = rows.take(order[~in_test[order]]), rows.take(order[in_test[order]])
    lists = _class_lists(rows, numbers, ~in_test, seed)
    most = min(len(of_class) for of_class in lists)
    wanted = list(dict.fromkeys(SHOTS if shots is None else shots))
    if not all(number > 0 for number in wanted):
        raise UsageError("`shots`: each is a number of rows per class, from 1")
    too_few = tuple(number for number in wanted if number > most)
    if shots is not None and too_few:
        raise InputError(
            f"{positives.path} leaves {most:,} training rows per class; `shots={too_few[0]}` needs as many:"
            " ask for fewer, lower `test_share` or give more positives"
        )
    rank = np.empty(len(rows), np.int64)
    rank[order] = np.arange(len(rows))
    pools = {number: rows.take(_pool(lists, number, rank)) for number in wanted if number <= most}
    params = {
        "shots": list(pools),
        "test_share": test_share,
        "max_bases": max_bases,
        "compat": compat,
        "seed": seed,
    }
    return FewshotSet(positives, train, test, pools, too_few, params)


def write_fewshot(dataset: FewshotSet, out: Path, *, overwrite: bool = False) -> Manifest:
    """Write a data set as an artifact of the kind `fewshot`, all of it or nothing.

    Raises
    ------
    OverwriteError
        If `out` may not be written.
    """
    started = time.perf_counter()
    output = Output(out, "fewshot", params=dataset.params, inputs={"positives": dataset.positives.sha256})
    with output.claim(overwrite=overwrite) as claim:
        if claim.done is not None:
            return claim.done
        files = dataset.files()
        for name, (rows, quoted) in files.items():
            (claim.folder / name).parent.mkdir(exist_ok=True)
            _write_tsv(claim.folder / name, rows, quoted=quoted)
        return claim.finish(stats=dataset.stats(), files=files, environment=environment(started))


def _pairs(positives: Positives, seed: int) -> tuple[Rows, NDArray[np.int64]]:
    """Return all rows, positives first, and the number of each row's record in the file."""
    negatives = negatives_of(positives.sequences, seed, positives.numbers)
    n = len(positives.sequences)
    labels = np.repeat(np.array([POSITIVE, NEGATIVE], np.int64), n)
    numbers = np.tile(np.array(positives.numbers, np.int64), 2)
    return Rows([*positives.sequences, *negatives], labels, np.tile(np.arange(n), 2)), numbers


def _test_rows(
    rows: Rows, numbers: NDArray[np.int64], test_share: float, *, compat: bool, seed: int
) -> NDArray[np.bool_]:
    """Choose the test rows: those of the lowest random numbers, one per row with `compat`, else one per pair."""
    a_pair = np.zeros_like(rows.labels)
    bits = random_numbers(np.uint64(seed), draws.FEWSHOT_SPLIT, numbers, rows.labels if compat else a_pair)
    # Without `compat` both rows of a pair have the same number, so that they are neighbours in the order.
    order = np.argsort(bits, kind="stable")
    rows_at_once = 1 if compat else 2
    n_units = len(rows) // rows_at_once
    n_test = round(test_share * n_units)
    if not 0 < n_test < n_units:
        raise UsageError(
            f"`test_share={test_share:g}` of {n_units:,} {'rows' if compat else 'pairs'} is {n_test:,}:"
            " training and test need at least one each; choose another"
        )
    in_test = np.zeros(len(rows), np.bool_)
    in_test[order[: n_test * rows_at_once]] = True
    return in_test


def _class_lists(
    rows: Rows, numbers: NDArray[np.int64], in_train: NDArray[np.bool_], seed: int
) -> list[NDArray[np.int64]]:
    """Return the training rows of each class in a random order, from which all pools are taken."""
    bits = random_numbers(np.uint64(seed), draws.FEWSHOT_POOLS, numbers, rows.labels)
    lists = []
    for label in (NEGATIVE, POSITIVE):
        of_class = np.flatnonzero(in_train & (rows.labels == label))
        lists.append(of_class[np.argsort(bits[of_class], kind="stable")])
    return lists


def _pool(lists: list[NDArray[np.int64]], shots: int, rank: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of ten draws of `shots` rows per class, one after the other, or of fewer draws."""
    n_draws = min(DRAWS, min(len(of_class) for of_class in lists) // shots)
    drawn = []
    for draw in range(n_draws):
        both = np.concatenate([of_class[draw * shots : (draw + 1) * shots] for of_class in lists])
        drawn.append(both[np.argsort(rank[both])])
    return np.concatenate(drawn)


def _write_tsv(path: Path, rows: Rows, *, quoted: bool) -> None:
    """Write rows as in the published files: k-mers with spaces between, train files with quotes."""
    style: Literal[0, 2] = csv.QUOTE_NONNUMERIC if quoted else csv.QUOTE_MINIMAL
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, delimiter="\t", quoting=style, lineterminator="\n")
        table.writerow(["sequence", "label"])
        for sequence, label in zip(rows.sequences, rows.labels.tolist(), strict=True):
            table.writerow([_as_kmers(sequence.decode("ascii")), label])


def _as_kmers(sequence: str) -> str:
    return " ".join(sequence[start : start + K_WRITTEN] for start in range(len(sequence) - K_WRITTEN + 1))
