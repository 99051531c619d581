"""The letters of sequences judged as DNA, wherever they come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cmgems_cli.genome.fasta import check_is_dna

# ours: letters are counted in parts of this size, and after so many of them the judgement is final.
_PART_BYTES, _ENOUGH_LETTERS = 1 << 16, 1 << 26
# Too few letters to guess what they are.
_LETTERS_TO_JUDGE = 30


class DnaCheck:
    """Refuses RNA and protein, as the FASTA readers do: one answer for every reader.

    Parameters
    ----------
    path : Path
        For messages.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._waiting = path, bytearray()
        self._counts = np.zeros(256, np.int64)
        self._done = False

    def add(self, letters: bytes) -> None:
        """Count letters in either case (errors as `finish`, after very many of them)."""
        if self._done:
            return
        self._waiting += letters
        if len(self._waiting) >= _PART_BYTES:
            self._count()
            if self._counts.sum() >= _ENOUGH_LETTERS:
                self.finish()

    def finish(self) -> None:
        """Judge all letters; of very few only whether they have U, and not T, as RNA has.

        Raises
        ------
        InputError
            If they are RNA, or mostly not A, C, G, T or N.
        """
        self._count()
        is_rna = self._counts[ord("U")] > self._counts[ord("T")]
        if not self._done and (is_rna or self._counts.sum() >= _LETTERS_TO_JUDGE):
            check_is_dna(self._counts, self._path)
        self._done = True

    def _count(self) -> None:
        self._counts += np.bincount(np.frombuffer(bytes(self._waiting).upper(), np.uint8), minlength=256)
        self._waiting.clear()
