"""The masking strategies as one compiled kernel over a ragged batch (method, section 4).

A batch is a concatenation of sequences: sequence s holds the tokens offsets[s] … offsets[s + 1] - 1.
Positions are 0-based within a sequence and do not count special tokens. The masks of a sequence depend
only on its tokens, the ranks, the seed, the epoch and its index, so neither batching nor the number of
processes changes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import uint64
from numpy.typing import NDArray

from cmgems_cli import draws
from cmgems_cli.errors import UsageError
from cmgems_cli.genome.vocabulary import FIRST_KMER, MAX_K, MIN_K, vocabulary_size
from cmgems_cli.kernels import kernel
from cmgems_cli.masking import Strategy
from cmgems_cli.pmi.ranking import UNRANKED

# GeneMask's released code: with fewer centres than this, all of them get the wide mask. Used with
# rank_by="position" only; the paper halves any number of centres.
_RELEASED_FEW_CENTRES = 9

# Plain integers, which compiled code can compare.
_RANDOM, _GENEMASK = int(Strategy.RANDOM), int(Strategy.GENEMASK)
_GLOBAL, _RANDOM_MASK = int(Strategy.GLOBAL), int(Strategy.RANDOM_MASK)


def mask_batch(
    token_ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    strategy_codes: NDArray[np.uint8],
    rank_of_token: NDArray[np.int32],
    *,
    k: int,
    mask_rate: float = 0.15,
    rank_by: str = "content",
    seed: int,
    epochs: NDArray[np.int64],
    sequence_indices: NDArray[np.int64],
    span_limit: int = 0,
) -> NDArray[np.bool_]:
    """Choose the masked positions of every sequence of a batch (method, section 4).

    Spans are clipped to the sequence. Equal ranks are resolved in favour of the leftmost position, GENEMASK
    centres in favour of the leftmost centre. RANDOM, GENEMASK and RANDOM_MASK may leave a sequence
    without any masked position; GLOBAL by content masks at least one.

    Parameters
    ----------
    token_ids : int32, shape (total,)
        The concatenated sequences, without special tokens; `[UNK]` may occur.
    offsets : int64, shape (n + 1,)
        Where each sequence begins; the last entry is `total`. Empty sequences are allowed.
    strategy_codes : uint8, shape (n,)
        The `Strategy` of each sequence.
    rank_of_token : int32, shape (5 + 4^k,)
        Rank of each token, 1 = highest NPMI; UNRANKED for special tokens and for k-mers too rare to rank.
    k : int
        Bases per token.
    mask_rate : float, default 0.15
        r, the expected fraction of masked positions before spans overlap or are clipped. In (0, 1].
        Each position is a centre with probability r/k (RANDOM, RANDOM_MASK) or r over the mean of k and 2k - 1
        (GENEMASK); GLOBAL takes m = max(1, r/(2k - 1) · n rounded, halves up) positions.
    rank_by : {"content", "position"}, default "content"
        "position" is the released GeneMask and CM-GEMS code, an ablation: the token at position p is
        ranked as if its token id were p + 1 (unranked where no such k-mer exists), GLOBAL draws m from
        Binomial(n, r/(2k - 1)), which may be 0, and GENEMASK masks widely around every centre where
        there are fewer than 9.
    seed : int
        Seed of the run, 0 … 2^63 - 1.
    epochs, sequence_indices : int64, shape (n,)
        Pass over the corpus, and index of the sequence in it. Together with `seed` they key the draws.
    span_limit : int, default 0
        Most positions that a RANDOM_MASK centre masks (`curriculum.span_limit`); values below k count as k.
        Each sequence draws its span uniformly from k, k + 2, k + 4 … up to the limit (ours: the sources
        give limits, not how a span is drawn). Other strategies ignore it.

    Returns
    -------
    bool, shape (total,)
        True where a position is masked.

    Raises
    ------
    UsageError
        If `mask_rate` is outside (0, 1].
    ValueError
        If the shapes of the arrays do not match, or a token, strategy or rank is out of range.
    """
    if not 0.0 < mask_rate <= 1.0:
        raise UsageError(
            f"`mask_rate` is {mask_rate}; needed a number in (0, 1], such as 0.15 (the paper's) or 0.30"
        )
    if rank_by not in ("content", "position"):
        raise ValueError(f"`rank_by` is {rank_by!r}; needed 'content' or 'position'")
    if not MIN_K <= k <= MAX_K:
        raise ValueError(f"`k` is {k}; needed {MIN_K} to {MAX_K}")
    check_batch(
        token_ids,
        offsets,
        k=k,
        strategy_codes=strategy_codes,
        epochs=epochs,
        sequence_indices=sequence_indices,
    )
    if strategy_codes.size and strategy_codes.max() >= len(Strategy):
        raise ValueError(f"strategy code {strategy_codes.max()} is not one of the {len(Strategy)} there are")
    n_tokens = vocabulary_size(k)
    if rank_of_token.shape != (n_tokens,) or np.any(rank_of_token[:FIRST_KMER] != UNRANKED):
        raise ValueError(f"`rank_of_token` must hold {n_tokens} ranks, UNRANKED for the special tokens")
    masked = np.zeros(len(token_ids), dtype=np.bool_)
    _mask_sequences(
        token_ids,
        offsets,
        strategy_codes,
        rank_of_token,
        k,
        mask_rate,
        rank_by == "position",
        np.uint64(seed),
        epochs,
        sequence_indices,
        span_limit,
        masked,
    )
    return masked


def check_batch(
    token_ids: NDArray[Any], offsets: NDArray[Any], *, k: int, **per_sequence: NDArray[Any]
) -> None:
    """Check a ragged batch before it is passed to compiled code, which checks nothing itself.

    Parameters
    ----------
    token_ids : integer, shape (total,)
    offsets : int64, shape (n + 1,)
    k : int
        As in `mask_batch`.
    per_sequence : arrays of any dtype, shape (n,)
        Arrays with one entry per sequence, by name.

    Raises
    ------
    ValueError
        If the offsets do not partition the tokens, a token id is outside the vocabulary, or an array does
        not have one entry per sequence.
    """
    if offsets.ndim != 1 or len(offsets) < 1 or offsets[0] != 0 or offsets[-1] != len(token_ids):
        raise ValueError(f"`offsets` must start at 0 and end at {len(token_ids)}, the length of `token_ids`")
    if np.any(offsets[1:] < offsets[:-1]):
        raise ValueError("`offsets` must not decrease")
    if token_ids.size and (token_ids.min() < 0 or token_ids.max() >= vocabulary_size(k)):
        ids = f"{token_ids.min()} to {token_ids.max()}"
        raise ValueError(f"`token_ids` holds {ids}; needed 0 to {vocabulary_size(k) - 1} for k = {k}")
    for name, values in per_sequence.items():
        if values.shape != (len(offsets) - 1,):
            raise ValueError(
                f"`{name}` has shape {values.shape}; needed ({len(offsets) - 1},), one entry per sequence"
            )


@kernel()
def _mask_sequences(
    token_ids: NDArray[np.int32],
    offsets: NDArray[np.int64],
    strategy_codes: NDArray[np.uint8],
    rank_of_token: NDArray[np.int32],
    k: int,
    mask_rate: float,
    by_position: bool,
    seed: int,
    epochs: NDArray[np.int64],
    sequence_indices: NDArray[np.int64],
    span_limit: int,
    masked: NDArray[np.bool_],
) -> None:
    longest = 0
    for s in range(len(offsets) - 1):
        longest = max(longest, offsets[s + 1] - offsets[s])
    ranks = np.empty(longest, np.int32)
    centres = np.empty(longest, np.int64)
    best_ranks = np.empty(longest, np.int32)
    best_positions = np.empty(longest, np.int64)
    for s in range(len(offsets) - 1):
        begin, n = offsets[s], offsets[s + 1] - offsets[s]
        here = masked[begin : begin + n]
        stream = draws.key(seed, draws.MASKED_POSITIONS, epochs[s], sequence_indices[s])
        code = strategy_codes[s]
        if code in (_GENEMASK, _GLOBAL):
            for position in range(n):
                token_id = position + 1 if by_position else token_ids[begin + position]
                ranks[position] = rank_of_token[token_id] if token_id < len(rank_of_token) else UNRANKED
        if code == _GLOBAL:
            if by_position:
                m = _draw_centres(stream, n, mask_rate / (2 * k - 1), centres)
            else:
                m = min(n, max(1, int(mask_rate / (2 * k - 1) * n + 0.5)))
            _mask_best(ranks[:n], m, k, best_ranks, best_positions, here)
        elif code == _GENEMASK:
            # GeneMask: the mean of a k-span and a (2k - 1)-span; 8.5 at k = 6.
            count = _draw_centres(stream, n, mask_rate / ((k + 2 * k - 1) / 2), centres)
            keep_all = by_position and count < _RELEASED_FEW_CENTRES
            kept = count if keep_all else (count + 1) // 2
            _mask_genes(ranks[:n], centres[:count], kept, k, best_ranks, best_positions, here)
        elif code in (_RANDOM, _RANDOM_MASK):
            span = k
            if code == _RANDOM_MASK:
                # Positions use draws 0 … n - 1, so draw n is free.
                span += 2 * draws.below(stream, n, max(0, span_limit - k) // 2 + 1)
            count = _draw_centres(stream, n, mask_rate / k, centres)
            for centre in centres[:count]:
                _mask_span(centre, span, here)
        else:
            raise ValueError("no branch of the masking kernel implements this strategy code")


@kernel()
def _draw_centres(stream: int, n: int, probability: float, centres: NDArray[np.int64]) -> int:
    """Draw centres, write their positions into `centres` and return their number."""
    # Position p uses draw p under every strategy, so runs that differ only in strategy or rate share their
    # randomness. probability <= 1/k, so the product is below 2^64.
    threshold = uint64(probability * 18446744073709551616.0)
    count = 0
    for position in range(n):
        if draws.bits(stream, position) < threshold:
            centres[count] = position
            count += 1
    return count


@kernel()
def _mask_span(centre: int, span: int, masked: NDArray[np.bool_]) -> None:
    """Mask `span` positions around a centre, the longer half to its right (paper, section 3.2: T[i-2…i+3])."""
    first = max(0, centre - (span - 1) // 2)
    for position in range(first, min(len(masked), centre + span // 2 + 1)):
        masked[position] = True


@kernel()
def _mask_kmer(position: int, k: int, masked: NDArray[np.bool_]) -> None:
    """Mask the 2k - 1 tokens that share a base with the k-mer at `position`."""
    for other in range(max(0, position - k + 1), min(len(masked), position + k)):
        masked[other] = True


@kernel()
def _keep(
    rank: int,
    position: int,
    limit: int,
    kept: int,
    best_ranks: NDArray[np.int32],
    best_positions: NDArray[np.int64],
) -> int:
    """Insert into the list of the `limit` best so far, after equal ranks; return the new length of the list."""
    if kept == limit:
        if limit == 0 or rank >= best_ranks[kept - 1]:
            return kept
        kept -= 1
    slot = kept
    while slot > 0 and best_ranks[slot - 1] > rank:
        best_ranks[slot] = best_ranks[slot - 1]
        best_positions[slot] = best_positions[slot - 1]
        slot -= 1
    best_ranks[slot] = rank
    best_positions[slot] = position
    return kept + 1


@kernel()
def _mask_best(
    ranks: NDArray[np.int32],
    m: int,
    k: int,
    best_ranks: NDArray[np.int32],
    best_positions: NDArray[np.int64],
    masked: NDArray[np.bool_],
) -> None:
    """GLOBAL (paper, Algorithm 1): hide the m best-ranked k-mers of the sequence."""
    kept = 0
    for position in range(len(ranks)):
        kept = _keep(ranks[position], position, m, kept, best_ranks, best_positions)
    for position in best_positions[:kept]:
        _mask_kmer(position, k, masked)


@kernel()
def _mask_genes(
    ranks: NDArray[np.int32],
    centres: NDArray[np.int64],
    limit: int,
    k: int,
    best_ranks: NDArray[np.int32],
    best_positions: NDArray[np.int64],
    masked: NDArray[np.bool_],
) -> None:
    """GENEMASK: mask the k-span of every centre; hide the best k-mer of the `limit` best-ranked spans."""
    kept = 0
    for centre in centres:
        _mask_span(centre, k, masked)
        best = max(0, centre - (k - 1) // 2)
        for position in range(best + 1, min(len(ranks), centre + k // 2 + 1)):
            if ranks[position] < ranks[best]:
                best = position
        kept = _keep(ranks[best], best, limit, kept, best_ranks, best_positions)
    for position in best_positions[:kept]:
        _mask_kmer(position, k, masked)


@kernel()
def draw_strategies(
    fraction: float,
    chosen: int,
    other: int,
    seed: int,
    epochs: NDArray[np.int64],
    sequence_indices: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """Draw a strategy for each sequence: `chosen` with probability `fraction`, else `other`.

    Parameters
    ----------
    fraction : float, in [0, 1]
    chosen, other : int
        Codes of `Strategy`.
    seed : int
    epochs, sequence_indices : int64, shape (n,)
        As in `mask_batch`; these draws have their own stream.

    Returns
    -------
    uint8, shape (n,)
    """
    codes = np.full(len(sequence_indices), other, np.uint8)
    for s in range(len(sequence_indices)):
        stream = draws.key(seed, draws.STRATEGY_CHOICE, epochs[s], sequence_indices[s])
        if draws.uniform(stream, 0) < fraction:
            codes[s] = chosen
    return codes
