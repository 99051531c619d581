import gzip
import math
from dataclasses import replace
from enum import IntEnum

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.errors import UsageError
from cmgems_cli.genome.vocabulary import BASE_CODE_OF_BYTE, vocabulary_size
from cmgems_cli.masking import Strategy
from cmgems_cli.masking import strategies as strategies_module
from cmgems_cli.masking.strategies import _mask_best, _mask_genes, _mask_kmer, _mask_span
from cmgems_cli.pmi.ranking import UNRANKED, best_first
from cmgems_cli.pmi.scoring import score, shorter_orders
from cmgems_cli.pmi.tables import read_kmer_table
from tests.masking import reference
from tests.masking.batches import batch_of, batches, random_ranks


def masked_positions(batch):
    """Masked positions of each sequence, as sets."""
    return [set(np.flatnonzero(part).tolist()) for part in batch.split(batch.masked())]


def spans_of(centre, span, n):
    masked = np.zeros(n, dtype=bool)
    _mask_span(centre, span, masked)
    return np.flatnonzero(masked).tolist()


def hidden_by(kernel, ranks, *arguments):
    """The positions of the k-mers a kernel hides, best first, and the positions it masks."""
    masked = np.zeros(len(ranks), dtype=bool)
    positions = np.full(len(ranks), -1)
    kernel(np.array(ranks, np.int32), *arguments, np.empty(len(ranks), np.int32), positions, masked)
    return positions[positions >= 0].tolist(), set(np.flatnonzero(masked).tolist())


# Few different ranks: every choice is a tie.
tied_ranks = st.lists(st.sampled_from([1, 2, 3, UNRANKED]), min_size=1, max_size=60)


@given(batches())
@settings(max_examples=400, deadline=None)
def test_kernel_equals_reference(batch):
    expected = [
        reference.mask(
            token_ids.tolist(),
            batch.codes[s],
            batch.rank_of_token,
            k=batch.k,
            mask_rate=batch.mask_rate,
            rank_by=batch.rank_by,
            seed=batch.seed,
            epoch=int(batch.epochs[s]),
            index=int(batch.indices[s]),
            span_limit=batch.span_limit,
        )
        for s, token_ids in enumerate(batch.split(batch.token_ids))
    ]
    assert masked_positions(batch) == expected


@given(tied_ranks, st.integers(0, 12), st.integers(3, 6))
@settings(deadline=None)
def test_global_hides_the_best_leftmost_of_equals(ranks, m, k):
    m = min(m, len(ranks))
    hidden, masked = hidden_by(_mask_best, ranks, m, k)
    assert hidden == reference.global_hidden(ranks, m)
    assert masked == reference.global_(ranks, m, k)


@given(tied_ranks, st.data(), st.integers(3, 6))
@settings(deadline=None)
def test_genemask_hides_the_better_half_leftmost_of_equals(ranks, data, k):
    centres = sorted(data.draw(st.sets(st.integers(0, len(ranks) - 1))))
    hidden, masked = hidden_by(_mask_genes, ranks, np.array(centres, np.int64), (len(centres) + 1) // 2, k)
    assert hidden == reference.genemask_hidden(ranks, centres, k)
    assert masked == reference.genemask(ranks, centres, k)


@pytest.mark.parametrize(("k", "left", "right"), [(3, 1, 1), (4, 1, 2), (5, 2, 2), (6, 2, 3)])
def test_span_of_each_k(k, left, right):
    assert spans_of(20, k, 40) == list(range(20 - left, 20 + right + 1))


def test_spans_are_clipped_to_the_sequence():
    assert spans_of(0, 6, 40) == [0, 1, 2, 3]
    assert spans_of(39, 6, 40) == [37, 38, 39]
    assert spans_of(1, 6, 3) == [0, 1, 2]
    masked = np.zeros(8, dtype=bool)
    _mask_kmer(1, 6, masked)
    assert np.flatnonzero(masked).tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_spans_do_not_reach_into_neighbouring_sequences():
    # Every token of the middle sequence ranks best, every other one is unranked.
    ranks = np.full(vocabulary_size(6), UNRANKED, dtype=np.int32)
    ranks[77] = 1
    batch = batch_of([30, 10, 30], 6, code=Strategy.GLOBAL, rank_of_token=ranks, mask_rate=1.0)
    batch.token_ids[:] = 78
    batch.token_ids[30:40] = 77
    alone = [batch.reordered([s]).masked() for s in range(3)]
    assert np.array_equal(batch.masked(), np.concatenate(alone))


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_batching_and_order_change_nothing(batch, shuffler):
    order = list(range(len(batch.codes)))
    shuffler.shuffle(order)
    parts = batch.split(batch.masked())
    together = batch.reordered(order)
    assert np.array_equal(together.masked(), np.concatenate([parts[s] for s in order]))
    for s in order:
        assert np.array_equal(batch.reordered([s]).masked(), parts[s])


@given(batches())
@settings(max_examples=100, deadline=None)
def test_permuted_vocabulary_changes_nothing(batch):
    # By content: tokens mean nothing but their rank.
    batch = replace(batch, rank_by="content")
    relabelled = np.arange(vocabulary_size(batch.k))
    relabelled[5:] = np.random.default_rng(batch.seed).permutation(relabelled[5:])
    ranks = np.empty_like(batch.rank_of_token)
    ranks[relabelled] = batch.rank_of_token
    permuted = replace(batch, token_ids=relabelled[batch.token_ids].astype(np.int32), rank_of_token=ranks)
    assert np.array_equal(permuted.masked(), batch.masked())


def test_epochs_seeds_and_sequences_draw_anew():
    batch = batch_of([510] * 4, 6)
    masked = batch.masked()
    assert not np.array_equal(masked[:510], masked[510:1020])
    assert not np.array_equal(replace(batch, epochs=batch.epochs + 1).masked(), masked)
    assert not np.array_equal(replace(batch, seed=43).masked(), masked)
    assert np.array_equal(replace(batch, seed=42).masked(), masked)


def test_global_ignores_the_draws():
    batch = batch_of([510] * 4, 6, code=Strategy.GLOBAL)
    assert np.array_equal(replace(batch, seed=43, epochs=batch.epochs + 1).masked(), batch.masked())


@pytest.mark.parametrize(
    ("k", "n", "mask_rate", "m"),
    # 0.15 / 11 · 512 = 6.98; · 510 = 6.95; · 5 = 0.07; halves go up: 0.15 / 5 · 50 = 1.5.
    [
        (6, 512, 0.15, 7),
        (6, 510, 0.15, 7),
        (6, 512, 0.30, 14),
        (6, 5, 0.15, 1),
        (3, 50, 0.15, 2),
        (3, 49, 0.15, 1),
    ],
)
def test_global_masks_m_kmers(k, n, mask_rate, m):
    # n tokens of one k-mer, but every (2k - 1)-th another, from the worst-ranked to the best.
    ranks = random_ranks(k, np.random.default_rng(0))
    by_rank = 5 + np.argsort(ranks[5:])
    batch = batch_of([n], k, code=Strategy.GLOBAL, rank_of_token=ranks, mask_rate=mask_rate)
    batch.token_ids[:] = by_rank[-1]
    apart = np.arange(0, n, 2 * k - 1)
    batch.token_ids[apart] = by_rank[: len(apart)][::-1]
    assert masked_positions(batch) == [
        {q for p in apart[-m:] for q in range(max(0, p - k + 1), min(n, p + k))}
    ]


def test_global_takes_the_leftmost_of_equals():
    ranks = random_ranks(6, np.random.default_rng(0))
    batch = batch_of([512], 6, code=Strategy.GLOBAL, rank_of_token=ranks, n_kinds=1)
    assert masked_positions(batch) == [set(range(6 + 6))]  # k-mers 0 … 6


def test_global_takes_unranked_kmers_last():
    ranks = np.full(vocabulary_size(6), UNRANKED, dtype=np.int32)
    ranks[9] = 1
    batch = batch_of([512], 6, code=Strategy.GLOBAL, rank_of_token=ranks)
    batch.token_ids[:] = 1  # [UNK]
    batch.token_ids[[300, 400]] = 9
    hidden = [0, 1, 2, 3, 4, 300, 400]
    assert masked_positions(batch) == [{q for p in hidden for q in range(max(0, p - 5), p + 6)}]


def test_genemask_hides_the_better_half():
    # Three centres; the best k-mers of their spans are at 11 (rank 5), 32 (rank 2) and 49 (rank 9).
    ranks = [100] * 70
    ranks[11], ranks[32], ranks[49] = 5, 2, 9
    narrow = {*range(8, 14), *range(28, 34), *range(48, 54)}
    centres = np.array([10, 30, 50])
    assert hidden_by(_mask_genes, ranks, centres, 2, 6) == (
        [32, 11],
        narrow | {*range(6, 17), *range(27, 38)},
    )


def test_genemask_takes_leftmost_kmers_and_centres_of_equals():
    # All alike: the leftmost of two centres, and the leftmost position of its span.
    narrow = {*range(8, 14), *range(28, 34)}
    assert hidden_by(_mask_genes, [7] * 50, np.array([10, 30]), 1, 6) == ([8], narrow | set(range(3, 14)))


def test_released_genemask_keeps_few_centres_all():
    ranks = random_ranks(6, np.random.default_rng(0))
    batch = batch_of(
        [510] * 300, 6, code=Strategy.GENEMASK, rank_of_token=ranks, rank_by="position", mask_rate=0.13
    )
    seen = set()
    for s, masked in enumerate(masked_positions(batch)):
        stream = reference.stream_of(42, reference.MASKED_POSITIONS, 0, s)
        centres = reference.drawn_centres(stream, 510, 0.13 / 8.5)
        by_position = ranks[1:511].tolist()
        if len(centres) < 9:
            hidden = reference.genemask_hidden(by_position, centres, 6, keep_all=True)
            assert len(hidden) == len(centres)
        else:
            hidden = reference.genemask_hidden(by_position, centres, 6)
        assert masked == reference.random(510, centres, 6) | {
            q for p in hidden for q in reference.tokens_touching(p, 6, 510)
        }
        seen.add(len(centres) < 9)
    assert seen == {True, False}


def test_released_variant_ignores_content():
    batch = batch_of([510] * 8, 6, code=Strategy.GLOBAL, rank_by="position")
    other = replace(batch, token_ids=batch.token_ids[::-1].copy())
    assert np.array_equal(batch.masked(), other.masked())
    # Position p, counted from 1, is ranked as token id p: so are all sequences, but for their m.
    best = 1 + np.argsort(batch.rank_of_token[1:511], kind="stable")
    for masked in masked_positions(batch):
        assert masked == set() or int(best[0]) - 1 in masked


def test_released_variant_beyond_the_table():
    # k = 3 has 69 tokens: positions from 69 on (counted from 1) are unranked.
    batch = batch_of([510], 3, code=Strategy.GLOBAL, rank_by="position", mask_rate=0.5)
    m = len(reference.drawn_centres(reference.stream_of(42, 4, 0, 0), 510, 0.1))
    assert m < 64
    assert max(masked_positions(batch)[0]) <= 67 + 2


@given(batches())
@settings(max_examples=100, deadline=None)
def test_no_hidden_base_is_visible(batch):
    # A hidden k-mer's bases may stand in no unmasked token. Base b is in the tokens b - k + 1 … b.
    batch = replace(batch, rank_by="content")
    k = batch.k
    for s, masked in enumerate(masked_positions(batch)):
        n = int(np.diff(batch.offsets)[s])
        stream = reference.stream_of(
            batch.seed, reference.MASKED_POSITIONS, int(batch.epochs[s]), int(batch.indices[s])
        )
        ranks = reference.ranks_of(batch.split(batch.token_ids)[s], batch.rank_of_token, "content")
        if batch.codes[s] == Strategy.GLOBAL:
            m = max(1, math.floor(batch.mask_rate / (2 * k - 1) * n + 0.5))
            bases = {b for p in reference.global_hidden(ranks, m) for b in range(p, p + k)}
        elif batch.codes[s] == Strategy.GENEMASK:
            centres = reference.drawn_centres(stream, n, batch.mask_rate / ((3 * k - 1) / 2))
            bases = {b for p in reference.genemask_hidden(ranks, centres, k) for b in range(p, p + k)}
        else:
            # A centre's k-span hides one base: the centre's (k // 2)-th.
            centres = reference.drawn_centres(stream, n, batch.mask_rate / k)
            bases = {centre + k // 2 for centre in centres}
        for base in bases:
            assert {p for p in range(base - k + 1, base + 1) if 0 <= p < n} <= masked


@pytest.mark.parametrize("mask_rate", [0.15, 0.30])
@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_realised_random_rate(k, mask_rate):
    # A position that no border clips is masked unless all the k centres that reach it stay away.
    batch = batch_of([110] * 4000, k, mask_rate=mask_rate)
    inner = batch.masked().reshape(4000, 110)[:, 5:-5].mean(axis=1)
    expected = 1 - (1 - mask_rate / k) ** k
    assert abs(inner.mean() - expected) < 4 * inner.std() / math.sqrt(4000)


@pytest.mark.parametrize(("mask_rate", "expected"), [(0.15, 0.15 / 8.5), (0.30, 0.30 / 8.5)])
def test_realised_genemask_centre_rate(mask_rate, expected):
    # Sequences of one token: masked if and only if it is a centre.
    batch = batch_of([1] * 400_000, 6, code=Strategy.GENEMASK, mask_rate=mask_rate)
    error = math.sqrt(expected * (1 - expected) / 400_000)
    assert abs(batch.masked().mean() - expected) < 4 * error


def test_realised_random_centre_rate():
    batch = batch_of([1] * 400_000, 6)
    assert abs(batch.masked().mean() - 0.025) < 4 * math.sqrt(0.025 * 0.975 / 400_000)


def test_realised_m_of_the_released_global():
    # m is Binomial(510, 0.15 / 11); in a sequence of one token it is 0 or 1.
    batch = batch_of([1] * 400_000, 6, code=Strategy.GLOBAL, rank_by="position")
    expected = 0.15 / 11
    assert abs(batch.masked().mean() - expected) < 4 * math.sqrt(expected / 400_000)


def test_random_mask_draws_every_span_alike():
    # One token a sequence is never enough to see a span: count what a lone centre masks in 60 tokens.
    batch = batch_of([61] * 60_000, 6, code=Strategy.RANDOM_MASK, span_limit=14, mask_rate=0.02)
    parts = batch.masked().reshape(-1, 61)
    narrow = replace(batch, codes=np.full(60_000, Strategy.RANDOM, np.uint8)).masked().reshape(-1, 61)
    alone = (narrow.sum(axis=1) == 6) & ~narrow[:, :9].any(axis=1) & ~narrow[:, -9:].any(axis=1)
    lengths, counts = np.unique(parts[alone].sum(axis=1), return_counts=True)
    assert lengths.tolist() == [6, 8, 10, 12, 14]
    assert np.all(np.abs(counts - alone.sum() / 5) < 4 * math.sqrt(alone.sum() * 0.2 * 0.8))


def test_global_masks_10_to_15_percent_of_random_sequences():
    batch = batch_of([510] * 1000, 6, code=Strategy.GLOBAL)
    assert 0.10 < batch.masked().mean() < 0.15


def real_batch(shared_data, name, definition, **more):
    """Full-length sequences of real DNA, under the ranks of the human chromosomes 1 to 3."""
    counts_csv = shared_data.parent / "facts" / "human_chr1_to_3_6mer_counts.csv"
    if not counts_csv.is_file():
        pytest.skip(f"no k-mer counts at {counts_csv}")
    _, npmi = score(shorter_orders(read_kmer_table(counts_csv).counts, 6), definition)
    ranks = np.full(vocabulary_size(6), UNRANKED, dtype=np.int32)
    ranked = best_first(npmi)[: int(np.isfinite(npmi).sum())]
    ranks[5 + ranked] = np.arange(1, len(ranked) + 1)
    with gzip.open(shared_data / name, "rb") as stream:
        letters = b"".join(line.strip() for line in stream if not line.startswith(b">"))
    bases = BASE_CODE_OF_BYTE[np.frombuffer(letters, np.uint8)].astype(np.int64)
    bases = bases[bases < 4]
    windows = np.lib.stride_tricks.sliding_window_view(bases, 515)[::515]
    codes = np.lib.stride_tricks.sliding_window_view(windows, 6, axis=1) @ 4 ** np.arange(5, -1, -1)
    batch = batch_of([510] * len(codes), 6, code=Strategy.GLOBAL, rank_of_token=ranks, **more)
    return replace(batch, token_ids=(5 + codes).astype(np.int32).ravel())


@pytest.mark.parametrize(
    ("name", "definition"),
    # The short, gene-rich piece of chr16 has 13.4 % under the `paper` ranks.
    [
        ("hg38_chr16_186964_397118.fa.gz", "released"),
        ("hg38_chr2_1-2333275.fa.gz", "released"),
        ("hg38_chr2_1-2333275.fa.gz", "paper"),
    ],
)
def test_global_masks_11_to_13_percent_of_real_dna(shared_data, name, definition):
    assert 0.11 <= real_batch(shared_data, name, definition).masked().mean() <= 0.13


def test_released_variant_masks_10_percent_at_the_same_places(shared_data):
    batch = real_batch(shared_data, "hg38_chr2_1-2333275.fa.gz", "released", rank_by="position")
    masked = batch.masked().reshape(-1, 510)
    assert 0.10 <= masked.mean() <= 0.105
    shares = masked.mean(axis=0)
    assert (shares > 0.9).sum() >= 11
    assert (shares == 0).sum() > 255


@pytest.mark.parametrize("mask_rate", [0.0, -0.1, 1.01, math.nan])
def test_mask_rate_is_refused(mask_rate):
    with pytest.raises(UsageError, match="`mask_rate` is"):
        replace(batch_of([10], 6), mask_rate=mask_rate).masked()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"token_ids": np.full(20, 4101, np.int32)}, "needed 0 to 4100 for k = 6"),
        ({"token_ids": np.full(20, -1, np.int32)}, "needed 0 to 4100 for k = 6"),
        ({"offsets": np.array([0, 10, 21])}, "`offsets`"),
        ({"offsets": np.array([0, 30, 20])}, "decrease"),
        ({"epochs": np.zeros(3, np.int64)}, "epochs"),
        ({"codes": np.full(2, len(Strategy), np.uint8)}, f"strategy code {len(Strategy)}"),
        ({"rank_of_token": np.ones(4101, np.int32)}, "UNRANKED for the special"),
        ({"rank_of_token": np.full(69, UNRANKED, np.int32)}, "4101 ranks"),
        ({"rank_by": "token"}, "`rank_by` is"),
        ({"k": 2}, "`k` is 2"),
    ],
)
def test_what_does_not_fit_is_refused(broken, message):
    with pytest.raises(ValueError, match=message):
        replace(batch_of([10, 10], 6), **broken).masked()


def test_a_strategy_without_a_branch_in_the_kernel_is_an_error(monkeypatch):
    more = IntEnum("More", {**Strategy.__members__, "NEW": len(Strategy)})
    monkeypatch.setattr(strategies_module, "Strategy", more)
    with pytest.raises(ValueError, match="no branch"):
        batch_of([10, 10], 6, code=more.NEW).masked()


def test_empty_batch():
    batch = batch_of([], 6)
    assert batch.masked().shape == (0,)
    assert batch_of([0, 0], 6, code=Strategy.GLOBAL).masked().shape == (0,)
