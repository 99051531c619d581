"""The corpus artifact: packed bases, their runs, and the training sequences cut from them.

`bases.npy`    uint8, shape (ceil(n_bases / 4),): the concatenated A, C, G, T runs, 2 bits per base
`windows.npy`  `WINDOW`: one row per sequence: all training sequences, then validation, each in genome order
`runs.npy`     `RUN`: one row per run, in genome order
`contigs.csv`  one row per contig
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cmgems_cli.artifacts import Manifest, read_manifest
from cmgems_cli.errors import InputError
from cmgems_cli.genome.arrays import check_not_cut, read_array
from cmgems_cli.genome.codec import BASES_PER_BYTE, offsets_of, unpack_token_ids
from cmgems_cli.genome.vocabulary import MAX_K, MIN_K

BASES, WINDOWS, RUNS, CONTIGS = "bases.npy", "windows.npy", "runs.npy", "contigs.csv"

# start: first base in the packed array. contig: row of contigs.csv.
WINDOW = np.dtype([("start", "<i8"), ("n_tokens", "<u2"), ("contig", "<u4"), ("valid", "|b1")])

# contig_start: where the run begins in its FASTA record, in letters, 0-based.
RUN = np.dtype([("start", "<i8"), ("length_bases", "<i8"), ("contig", "<u4"), ("contig_start", "<i8")])

# Rows of windows.npy checked at a time.
_ROWS_PER_CHECK = 1 << 20


@dataclass(frozen=True)
class Corpus:
    """A finished corpus. Arrays above 1 GiB are memory-mapped; shorter ones, such as the human genome's, are read.

    Attributes
    ----------
    folder : Path
    manifest : Manifest
    k : int
        Bases per token.
    bases : uint8, shape (ceil(n_bases / 4),)
        Packed bases.
    windows : array of `WINDOW`, shape (n_sequences,)
        Rows 0 … n_train - 1 are for training, the others for validation.
    runs : array of `RUN`
    n_train, n_valid : int
        Number of training and of validation sequences.
    """

    folder: Path
    manifest: Manifest
    k: int
    bases: np.ndarray
    windows: np.ndarray
    runs: np.ndarray
    n_train: int
    n_valid: int

    @classmethod
    def open(cls, folder: Path) -> Corpus:
        """Open a corpus artifact.

        Raises
        ------
        InputError
            If `folder` is not a finished, undamaged corpus of the schema this version knows, or its arrays do not fit
            each other: compiled code reads them without checks.
        """
        manifest = read_manifest(folder, "corpus", verify=True)
        bases = read_array(folder / BASES, np.dtype(np.uint8))
        windows = read_array(folder / WINDOWS, WINDOW)
        runs = read_array(folder / RUNS, RUN)
        k: Any = manifest.params.get("k")
        n_valid: Any = manifest.stats.get("valid_sequences")
        problem = _problem(bases, windows, runs, k, n_valid)
        if problem:
            raise InputError(f"{folder} is damaged: {problem}; make it again with `cmgems prepare-genome`")
        return cls(
            folder=folder,
            manifest=manifest,
            k=k,
            bases=bases,
            windows=windows,
            runs=runs,
            n_train=len(windows) - n_valid,
            n_valid=n_valid,
        )

    def token_ids(self, sequence_indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode sequences into token ids, without special tokens.

        Parameters
        ----------
        sequence_indices : int64, shape (n,)
            Rows of `windows`, in any order; repeats are allowed.

        Returns
        -------
        token_ids : int32, shape (offsets[-1],)
            Concatenated ids of all sequences.
        offsets : int64, shape (n + 1,)
            Sequence i is `token_ids[offsets[i]:offsets[i + 1]]`.

        Raises
        ------
        IndexError
            If an index is not a row of `windows`.
        InputError
            If a file of the corpus became shorter.
        """
        check_not_cut(self.bases, self.windows)
        rows = self.windows[sequence_indices]
        offsets = offsets_of(rows["n_tokens"])
        token_ids = np.empty(offsets[-1], np.int32)
        unpack_token_ids(self.bases, rows["start"], rows["n_tokens"], self.k, offsets, token_ids)
        return token_ids, offsets


def _problem(bases: np.ndarray, windows: np.ndarray, runs: np.ndarray, k: Any, n_valid: Any) -> str | None:
    """Describe why the arrays of a corpus do not fit each other; None if they do."""
    if type(k) is not int or not MIN_K <= k <= MAX_K:
        return f"its manifest gives k = {k!r}; needed {MIN_K} to {MAX_K}"
    if type(n_valid) is not int or not 0 <= n_valid <= len(windows):
        return f"its manifest gives valid_sequences = {n_valid!r}; needed 0 to {len(windows):,}"
    lengths, starts = runs["length_bases"], runs["start"]
    if ((lengths < 0) | (lengths > BASES_PER_BYTE * len(bases))).any():
        return "a run is longer than its bases"
    n_bases = int(lengths.sum())
    if len(bases) != -(-n_bases // BASES_PER_BYTE) or (starts != np.cumsum(lengths) - lengths).any():
        return f"its runs are not those of its {len(bases):,} bytes of bases"
    for begin in range(0, len(windows), _ROWS_PER_CHECK):
        rows = windows[begin : begin + _ROWS_PER_CHECK]
        if (
            (rows["start"] < 0) | (rows["start"] > n_bases - k + 1 - rows["n_tokens"].astype(np.int64))
        ).any():
            return f"a sequence extends beyond its {n_bases:,} bases"
    return None
