"""Changes of a sequence's letters, and the tokens of the mutants that they make.

A mutant is its row with `removed` letters at `at` replaced by inserted ones. With overlapping k-mers at most
`k - 1` tokens more than it has inserted letters differ from the row's; only those are encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cmgems_cli import draws
from cmgems_cli.explaining.explain_options import BlockBy, ExplainOptions
from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.genome.strands import reverse_complements
from cmgems_cli.genome.tokenization import Tokenization
from cmgems_cli.genome.vocabulary import BASE_CODE_OF_BYTE, FIRST_KMER, NOT_A_BASE, UNK
from cmgems_cli.kernels import kernel

# The columns of substitutions.
LETTERS = "ACGT"
_LETTERS = np.frombuffer(LETTERS.encode(), np.uint8)

# Column of a letter's byte; 4 for anything that is not A, C, G or T.
COLUMN_OF_BYTE = np.full(256, len(LETTERS), np.int64)
COLUMN_OF_BYTE[_LETTERS] = np.arange(len(LETTERS))


@dataclass(frozen=True, eq=False)
class Edits:
    """Changes of one row, each on its own.

    Attributes
    ----------
    at : int64, shape (m,)
        First changed letter.
    removed : int64, shape (m,)
        Number of letters replaced.
    inserted : uint8, shape (n_letters,)
        The new letters of all edits, concatenated.
    bounds : int64, shape (m + 1,)
        Where those of each edit begin.
    """

    at: NDArray[np.int64]
    removed: NDArray[np.int64]
    inserted: NDArray[np.uint8]
    bounds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.at)

    def on_other_strand(self, length: int) -> Edits:
        """Return the same changes of the reverse complement of a row of `length` letters."""
        inserted = reverse_complements(self.inserted, self.bounds)
        return Edits(length - self.at - self.removed, self.removed, inserted, self.bounds)

    def apply(self, letters: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the letters of all mutants, uint8, shape (n_letters,), and their offsets, int64, shape (m + 1,)."""
        offsets = offsets_of(len(letters) - self.removed + np.diff(self.bounds))
        mutants = np.empty(offsets[-1], np.uint8)
        for number, (start, stop) in enumerate(pairwise(offsets.tolist())):
            at, new = int(self.at[number]), self.inserted[self.bounds[number] : self.bounds[number + 1]]
            mutants[start : start + at] = letters[:at]
            mutants[start + at : start + at + len(new)] = new
            mutants[start + at + len(new) : stop] = letters[at + self.removed[number] :]
        return mutants, offsets


@dataclass(frozen=True, eq=False)
class RowEdits:
    """The edits of a row, in this order: none; substitutions; deletions; each draw of each block.

    Attributes
    ----------
    edits : Edits
    substituted : int64, shape (s,)
        Position of each substitution.
    columns : int64, shape (s,)
        Its new letter as an index into `LETTERS`.
    deleted : int64, shape (d,)
        The deleted positions.
    blocks : int64, shape (b, 2)
        Start and end of each block.
    draws : int
        Draws per block.
    """

    edits: Edits
    substituted: NDArray[np.int64]
    columns: NDArray[np.int64]
    deleted: NDArray[np.int64]
    blocks: NDArray[np.int64]
    draws: int


def row_edits(letters: NDArray[np.uint8], options: ExplainOptions, stream: tuple[int, int]) -> RowEdits:
    """List the edits of a row.

    Parameters
    ----------
    letters : uint8, shape (n,)
        Upper case. Positions with another letter than A, C, G, T are neither substituted nor deleted.
    options : ExplainOptions
    stream : (int, int)
        Seed and number of the row, which determine the draws of the blocks.
    """
    own = COLUMN_OF_BYTE[letters]
    known = np.flatnonzero(own < len(LETTERS))
    substituted = np.repeat(known, 3)
    columns = (np.repeat(own[known], 3) + np.tile([1, 2, 3], len(known))) % 4
    deleted = known if options.deletions else known[:0]
    blocks = _blocks(len(letters), options)
    drawn = _drawn_blocks(letters, blocks, options, stream) if len(blocks) else np.zeros(0, np.uint8)
    sizes = np.repeat(blocks[:, 1] - blocks[:, 0], options.block_draws)
    edits = Edits(
        np.concatenate([[0], substituted, deleted, np.repeat(blocks[:, 0], options.block_draws)]),
        np.concatenate([[0], np.ones(len(substituted) + len(deleted), np.int64), sizes]),
        np.concatenate([_LETTERS[columns], drawn]),
        offsets_of(
            np.concatenate(
                [[0], np.ones(len(substituted), np.int64), np.zeros(len(deleted), np.int64), sizes]
            )
        ),
    )
    return RowEdits(edits, substituted, columns, deleted, blocks, options.block_draws)


def _blocks(length: int, options: ExplainOptions) -> NDArray[np.int64]:
    """Return start and end of each block; the last one is cut short at the end of the row."""
    if options.block is None or not length:
        return np.zeros((0, 2), np.int64)
    starts = np.arange(0, length, options.block_step or options.block)
    ends = np.minimum(starts + options.block, length)
    # No blocks after the first that reaches the end.
    starts, ends = (side[: int((ends < length).sum()) + 1] for side in (starts, ends))
    return np.stack([starts, ends], axis=1)


def _drawn_blocks(
    letters: NDArray[np.uint8], blocks: NDArray[np.int64], options: ExplainOptions, stream: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the new letters of all draws of all blocks, concatenated."""
    pool = letters[COLUMN_OF_BYTE[letters] < len(LETTERS)]
    by: BlockBy = options.block_by if len(pool) else "shuffle"
    sizes = np.repeat(blocks[:, 1] - blocks[:, 0], options.block_draws)
    drawn = np.empty(int(sizes.sum()), np.uint8)
    seed, number = stream
    key = np.uint64(draws.key(seed, draws.EXPLAINED_BLOCKS, number))
    _draw_blocks(letters, pool, blocks, options.block_draws, by == "shuffle", key, drawn)
    return drawn


@kernel()
def _draw_blocks(letters, pool, blocks, n_draws, shuffled, key, out):  # type: ignore[no-untyped-def]
    at = 0
    for block in range(len(blocks)):
        start, size = blocks[block, 0], blocks[block, 1] - blocks[block, 0]
        for _ in range(n_draws):
            for i in range(size):
                if not shuffled:
                    out[at + i] = pool[draws.below(key, at + i, len(pool))]
                    continue
                # Fisher and Yates's shuffle from the front: letter i goes where another was, which moves to i.
                j = draws.below(key, at + i, i + 1)
                out[at + i] = out[at + j]
                out[at + j] = letters[start + i]
            at += size


def encode_edits(
    letters: NDArray[np.uint8], token_ids: NDArray[np.int32], edits: Edits, tokenization: Tokenization
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the tokens of the mutants of a row.

    Parameters
    ----------
    letters : uint8, shape (n,)
    token_ids : int32, shape (n_tokens,)
        Those of the row.
    edits : Edits
    tokenization : Tokenization

    Returns
    -------
    token_ids : int32, shape (total,)
        Of all mutants, concatenated, without special tokens.
    offsets : int64, shape (m + 1,)
    """
    k = tokenization.k
    if k is None:
        return tokenization.encode(*edits.apply(letters))
    sizes = len(letters) - edits.removed + np.diff(edits.bounds)
    offsets = offsets_of(np.maximum(sizes - k + 1, 0))
    mutants = np.empty(offsets[-1], np.int32)
    _patch_tokens(
        letters, token_ids, edits.at, edits.removed, edits.inserted, edits.bounds, k, offsets, mutants
    )
    return mutants, offsets


@kernel()
def _patch_tokens(letters, token_ids, at, removed, inserted, bounds, k, offsets, out):  # type: ignore[no-untyped-def]
    mask = (1 << (2 * k)) - 1
    for edit in range(len(at)):
        first, n_tokens = offsets[edit], offsets[edit + 1] - offsets[edit]
        size = bounds[edit + 1] - bounds[edit]
        shift = removed[edit] - size
        # Tokens before `changed` end before the edit; those from `after` on begin behind it.
        changed, after = max(0, at[edit] - k + 1), at[edit] + size
        for i in range(min(changed, n_tokens)):
            out[first + i] = token_ids[i]
        for i in range(after, n_tokens):
            out[first + i] = token_ids[i + shift]
        code, unknown_for = 0, 0
        last = min(after, n_tokens) - 1
        for i in range(changed, last + k if last >= changed else changed):
            if i < at[edit]:
                letter = letters[i]
            elif i < after:
                letter = inserted[bounds[edit] + i - at[edit]]
            else:
                letter = letters[i + shift]
            base = BASE_CODE_OF_BYTE[letter]
            if base == NOT_A_BASE:
                unknown_for = k
                base = 0
            code = ((code << 2) | base) & mask
            if i - changed >= k - 1:
                out[first + i - k + 1] = UNK if unknown_for > 0 else code + FIRST_KMER
            unknown_for -= unknown_for > 0
