"""The tokenizer of a model folder of another family, opened by `transformers` without remote code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import InputError
from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.genome.tokenization import SpecialIds, Tokenization

# A sequence with every base next to every other: any DNA tokenizer knows most of it.
_PROBE = "ACGTTGCAAGGATCCTTCGAATCTAGACTGGTACCAGTCA"

# Amino acids whose letters no IUPAC code of nucleotides uses.
_PROTEIN_LETTERS = frozenset("EFILPQ")

# What `transformers` reads a tokenizer from; copied into classifiers made from the folder.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


class OwnTokenizer(Tokenization):
    """The tokenizer of a model folder, read by `transformers` without remote code.

    Parameters
    ----------
    folder : Path
        Holds `tokenizer.json`, or `vocab.txt` and `tokenizer_config.json`.

    Raises
    ------
    InputError
        If the folder has no readable tokenizer, or one that does not know the letters of DNA.
    """

    k = None
    unit = "tokens"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tokenizer = _open_tokenizer(folder)
        raw, kmers = self._ids([_PROBE])[0], None
        if self._mostly_unknown(raw):
            # DNABERT's older vocabularies: words of one length, which its scripts separate by spaces.
            lengths = {len(token) for token in self._words if re.fullmatch("[ACGT]+", token)}
            kmers = lengths.pop() if len(lengths) == 1 else None
            if kmers is None or self._mostly_unknown(self._ids([_spaced(_PROBE, kmers)])[0]):
                raise InputError(
                    f"{folder}: its tokenizer knows neither DNA nor DNA as k-mers between spaces; needed a model of DNA"
                )
        self._word_length = kmers
        self.min_bases = kmers or 1
        self.specials = self._find_specials()

    @cached_property
    def _words(self) -> list[str]:
        """Every token that may stand for bases."""
        special = set(self._tokenizer.all_special_tokens)
        return [token for token in self._tokenizer.get_vocab() if token not in special]

    @cached_property
    def _longest_word(self) -> int:
        return max((len(word) for word in self._words if re.fullmatch("[ACGTN]+", word)), default=1)

    def copy_files(self, folder: Path) -> list[str]:
        """Copy the files of the tokenizer into a model folder; return their names."""
        names = [name for name in TOKENIZER_FILES if (self.folder / name).is_file()]
        for name in names:
            (folder / name).write_bytes((self.folder / name).read_bytes())
        return names

    def most_bases(self, max_tokens: int) -> int:
        if self._word_length:
            return max_tokens + self._word_length - 1
        return max_tokens * self._longest_word

    def fewest_tokens(self, bases: int) -> int:
        if self._word_length:
            return max(0, bases - self._word_length + 1)
        return -(-bases // self._longest_word)

    def encode(
        self, letters: NDArray[np.uint8], offsets: NDArray[np.int64]
    ) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Encode uint8 letters, shape (n_letters,), as int32 token ids, shape (n_tokens,): `Tokenization.encode`."""
        text, bounds = letters.tobytes().decode("ascii", "replace").upper(), offsets.tolist()
        texts = [text[start:stop] for start, stop in pairwise(bounds)]
        if self._word_length:
            texts = [_spaced(sequence, self._word_length) for sequence in texts]
        ids = self._ids(texts)
        lengths = offsets_of(np.array([len(row) for row in ids], np.int64))
        return np.fromiter((token for row in ids for token in row), np.int32, int(lengths[-1])), lengths

    def _ids(self, texts: Sequence[str], *, special: bool = False) -> list[list[int]]:
        if not texts:
            return []
        encoded = self._tokenizer(
            list(texts),
            add_special_tokens=special,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _mostly_unknown(self, ids: list[int]) -> bool:
        return not ids or 2 * sum(token == self._tokenizer.unk_token_id for token in ids) > len(ids)

    def _find_specials(self) -> SpecialIds:
        """Compare an encoded sequence with and without special tokens."""
        text = _spaced(_PROBE, self._word_length) if self._word_length else _PROBE
        bare, full = self._ids([text])[0], self._ids([text], special=True)[0]
        padding = self._tokenizer.pad_token_id
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                prefix, suffix = tuple(full[:start]), tuple(full[start + len(bare) :])
                return SpecialIds(
                    prefix, suffix, 0 if padding is None else padding, self._tokenizer.unk_token_id
                )
        raise InputError(f"{self.folder}: its tokenizer changes a sequence when it adds special tokens")


def _spaced(sequence: str, k: int) -> str:
    return " ".join(sequence[i : i + k] for i in range(len(sequence) - k + 1))


def _open_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # any error of any tokenizer class, for a damaged or foreign file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{folder} has no tokenizer that opens without remote code ({reason}); needed its tokenizer.json, or"
            " vocab.txt and tokenizer_config.json"
        ) from None
    vocabulary = tokenizer.get_vocab()
    if vocabulary.keys() >= _PROTEIN_LETTERS and not any(
        len(token) > 1 and set(token) <= set("ACGT") for token in vocabulary
    ):
        raise InputError(
            f"{folder} is a model of proteins: its vocabulary has amino acids; needed a model of DNA"
        )
    return tokenizer
