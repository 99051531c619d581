"""The corpus artifact: packed bases, their runs, and the training sequences cut from them.

`bases.npy`    uint8, shape (ceil(n_bases / 4),): the concatenated A, C, G, T runs, 2 bits per base
`windows.npy`  `WINDOW`: one row per sequence: all training sequences, then validation, each in genome order
`runs.npy`     `RUN`: one row per run, in genome order
`contigs.csv`  one row per contig
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np

from cmgems_cli.artifacts import Manifest, read_manifest
from cmgems_cli.errors import InputError
from cmgems_cli.genome.codec import offsets_of, unpack_token_ids

BASES, WINDOWS, RUNS, CONTIGS = "bases.npy", "windows.npy", "runs.npy", "contigs.csv"

# start: first base in the packed array. contig: row of contigs.csv.
WINDOW = np.dtype([("start", "<i8"), ("n_tokens", "<u2"), ("contig", "<u2"), ("valid", "|b1")])

# contig_start: where the run begins in its FASTA record, in letters, 0-based.
RUN = np.dtype([("start", "<i8"), ("length_bases", "<i8"), ("contig", "<u2"), ("contig_start", "<i8")])


@dataclass(frozen=True)
class Corpus:
    """A finished corpus. Arrays are memory-mapped, so a longer genome costs disk space, not memory.

    Attributes
    ----------
    folder : Path
    manifest : Manifest
    k : int
        Bases per token.
    bases : uint8 memory map, shape (ceil(n_bases / 4),)
        Packed bases.
    windows : memory map of `WINDOW`, shape (n_sequences,)
        Rows 0 … n_train - 1 are for training, the others for validation.
    runs : array of `RUN`
    n_train, n_valid : int
        Number of training and of validation sequences.
    """

    folder: Path
    manifest: Manifest
    k: int
    bases: np.memmap
    windows: np.memmap
    runs: np.ndarray
    n_train: int
    n_valid: int

    @classmethod
    def open(cls, folder: Path) -> Corpus:
        """Open a corpus artifact.

        Raises
        ------
        InputError
            If `folder` is not a finished, undamaged corpus of the schema this version knows.
        """
        manifest = read_manifest(folder, "corpus", verify=True)
        try:
            bases = np.load(folder / BASES, mmap_mode="r", allow_pickle=False)
            windows = np.load(folder / WINDOWS, mmap_mode="r", allow_pickle=False)
            runs = np.load(folder / RUNS, allow_pickle=False)
        except (OSError, ValueError, EOFError, SyntaxError, TokenError) as error:
            raise InputError(
                f"{folder} is damaged ({error}); make it again with `cmgems prepare-genome`"
            ) from None
        n_valid = manifest.stats["valid_sequences"]
        return cls(
            folder=folder,
            manifest=manifest,
            k=manifest.params["k"],
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
        """
        rows = self.windows[sequence_indices]
        offsets = offsets_of(rows["n_tokens"])
        token_ids = np.empty(offsets[-1], np.int32)
        unpack_token_ids(self.bases, rows["start"], rows["n_tokens"], self.k, offsets, token_ids)
        return token_ids, offsets
