"""The k-mer vocabulary: DNABERT's order, so that its public checkpoints load (method, section 1)."""

from __future__ import annotations

from itertools import product

import numpy as np

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
FIRST_KMER = len(SPECIAL_TOKENS)
# [CLS] and [SEP], around every input.
SPECIAL_POSITIONS = 2

# DNABERT's vocab.txt: A, T, C, G, most significant base first.
BASES = "ATCG"

# Base code of a letter's byte; 4 for anything that is not A, C, G or T in either case.
NOT_A_BASE = 4
BASE_CODE_OF_BYTE = np.full(256, NOT_A_BASE, dtype=np.uint8)
for _code, _base in enumerate(BASES):
    BASE_CODE_OF_BYTE[ord(_base)] = BASE_CODE_OF_BYTE[ord(_base.lower())] = _code

# method, section 1: 3 <= k <= 8 must work.
MIN_K, MAX_K = 3, 8


def vocabulary_size(k: int) -> int:
    """Return the number of tokens: 5 special ones and 4^k k-mers (4,101 at k = 6)."""
    return FIRST_KMER + 4**k


def kmers(k: int) -> list[str]:
    """Return all 4^k k-mers in order of their codes (token id = 5 + k-mer code).

    >>> kmers(3)[:5]
    ['AAA', 'AAT', 'AAC', 'AAG', 'ATA']
    """
    return ["".join(letters) for letters in product(BASES, repeat=k)]


def tokens(k: int) -> list[str]:
    """Return the vocabulary in order of token ids."""
    return [*SPECIAL_TOKENS, *kmers(k)]
