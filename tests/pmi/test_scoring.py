"""Scoring: equal to the definition worked through k-mer by k-mer, and to the golden values."""

import csv
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.genome.vocabulary import kmers
from cmgems_cli.pmi import Definition
from cmgems_cli.pmi.ranking import best_first
from cmgems_cli.pmi.scoring import natural_log, normalise, pmi_nats, score, shorter_orders
from tests.pmi.packing import slow_orders

# method, section 3: from the 6-mer counts of GRCh38 chr1-3, shorter orders being marginals.
GOLDEN: dict[Definition, dict[str, float]] = {
    "paper": {
        "CCTCCC": 0.524480, "GGGAGG": 0.521092, "TGTGTG": 0.425076, "CCAGCC": 0.414693, "GGCTGG": 0.411511,
        "CACACA": 0.410878, "TACGCG": -2.357535, "CGCGTA": -2.384718,
    },
    "released": {
        "CCTCCC": 2.102868, "GGGAGG": 2.092985, "GTGTGT": 2.042833, "CCCAGC": 2.026640, "GCTGGG": 2.023476,
        "ACACAC": 2.020453, "TCGCGT": -1.179910, "TCGCGA": -1.350952,
    },
}  # fmt: skip


def segmentations(word: str) -> list[list[str]]:
    """Return every way to cut `word` into two segments or more."""
    places = range(1, len(word))
    cuts = [chosen for n in range(1, len(word)) for chosen in combinations(places, n)]
    return [[word[a:b] for a, b in zip((0, *cut), (*cut, len(word)), strict=True)] for cut in cuts]


def slow_scores(
    word: str, counts: dict[str, int], totals: dict[int, int], definition: Definition, min_count: int
) -> tuple[float, float]:
    """Work out method section 3 for one k-mer, as it is written there."""

    def log_p(segment: str) -> float:
        total = totals[len(segment)] if definition == "paper" else 2 * totals[1]
        return math.log(counts[segment] / total)

    allowed = [
        cut
        for cut in segmentations(word)
        if definition == "paper" or all(len(segment) <= 2 for segment in cut)
    ]
    pmi = min(log_p(word) - sum(log_p(segment) for segment in cut) for cut in allowed)
    f = counts[word]
    return pmi, pmi * math.log(f) / (math.log(min_count) + math.log(f))


def assert_scores_equal_the_slow_ones(
    orders: dict[int, np.ndarray], definition: Definition, min_count: int, chosen: list[str]
) -> None:
    k = max(orders)
    counts = {name: int(orders[order][code]) for order in orders for code, name in enumerate(kmers(order))}
    totals = {order: int(orders[order].sum()) for order in orders}
    pmi, npmi = score(orders, definition, min_count=min_count)
    code_of = {name: code for code, name in enumerate(kmers(k))}
    for word in chosen:
        code = code_of[word]
        if counts[word] < min_count:
            assert math.isnan(pmi[code])
            assert math.isnan(npmi[code])
        else:
            expected = slow_scores(word, counts, totals, definition, min_count)
            assert (pmi[code], npmi[code]) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.text("ACGT", min_size=1, max_size=80), min_size=1, max_size=5),
    st.integers(3, 5),
    st.sampled_from(["paper", "released"]),
    st.integers(2, 4),
)
def test_scores_equal_the_definition(
    sequences: list[str], k: int, definition: Definition, min_count: int
) -> None:
    assert_scores_equal_the_slow_ones(slow_orders(sequences, k), definition, min_count, kmers(k))


@pytest.mark.parametrize("definition", ["paper", "released"])
@pytest.mark.parametrize("k", [6, 8])
def test_scores_of_longer_kmers_equal_the_definition(k: int, definition: Definition) -> None:
    letters = np.random.default_rng(5).choice(list("AAACGT"), size=4_000)
    sequence = "".join(letters) + "ACGTTGCA" * 30
    orders = slow_orders([sequence], k)
    chosen = [sequence[at : at + k] for at in [*range(0, 3_500, 70), *range(4_000, 4_010)]]
    assert_scores_equal_the_slow_ones(orders, definition, 2, chosen)


def test_number_of_segmentations() -> None:
    assert len(segmentations("ACGTAC")) == 2**5 - 1
    assert segmentations("ACG") == [["A", "CG"], ["AC", "G"], ["A", "C", "G"]]


def test_a_toy_that_can_be_checked_by_eye() -> None:
    """Ten sequences AAC and six sequences T.

    1-mers: A 20, C 10, T 6 of 36. 2-mers: AA 10, AC 10 of 20. 3-mers: AAC 10 of 10.
    paper: p(AAC) = 1; A|AC: 20/36 * 1/2 = 10/36; AA|C: 1/2 * 10/36 = 5/36; A|A|C is smaller: PMI = log 3.6.
    released: p = f / 72. p(AAC) = 10/72; A|AC: 200/72^2; AA|C: 100/72^2: PMI = log(720 / 200) = log 3.6.
    """
    orders = slow_orders(["AAC"] * 10 + ["T"] * 6, 3)
    aac = kmers(3).index("AAC")
    for definition in ("paper", "released"):
        pmi, npmi = score(orders, definition, min_count=10)
        assert pmi[aac] == pytest.approx(math.log(3.6), abs=1e-12)
        assert npmi[aac] == pytest.approx(math.log(3.6) / 2, abs=1e-12)  # f = c halves it
        assert np.isnan(np.delete(npmi, aac)).all()


def test_paper_takes_the_likeliest_of_all_segmentations_released_only_short_ones() -> None:
    """ACGT often holds ACG and CGT, which only the paper's definition may use as segments."""
    orders = slow_orders(["ACGT"] * 50 + ["ACG"] * 30 + ["TTTTAAAACCCCGGGG"] * 40, 4)
    acgt = kmers(4).index("ACGT")
    log_p = {order: np.log(np.maximum(counts, 1) / counts.sum()) for order, counts in orders.items()}
    with_long = log_p[4][acgt] - (log_p[3][kmers(3).index("ACG")] + log_p[1][kmers(1).index("T")])
    assert pmi_nats(orders, "paper")[acgt] == pytest.approx(with_long)
    assert pmi_nats(orders, "released")[acgt] > with_long


def test_shorter_orders_are_sums_over_the_last_base() -> None:
    orders = shorter_orders(np.arange(64), 3)
    assert orders[2].tolist() == [4 * (4 * code) + 6 for code in range(16)]
    assert [int(counts.sum()) for counts in orders.values()] == [2016] * 3


def test_normalise_at_the_minimum_count_halves() -> None:
    np.testing.assert_allclose(normalise(np.array([1.0]), np.array([50]), min_count=50), [0.5])


def test_natural_log_is_accurate_and_has_known_bits() -> None:
    values = np.unique(np.geomspace(1, 2**52, 20_000).astype(np.int64))
    expected = np.array([math.log(value) for value in values.tolist()])
    np.testing.assert_allclose(natural_log(values), expected, rtol=5e-16, atol=2e-16)
    assert natural_log(np.array([0, 1])).tolist() == [-math.inf, 0.0]
    # The same on every machine, or artifacts made on two would have different digests.
    known = {3: "0x1.193ea7aad030ap+0", 101: "0x1.275e2271bba30p+2", 669_128_271: "0x1.4524cedaf891cp+4"}
    assert {value: float(natural_log(np.array(value))).hex() for value in known} == known


@pytest.mark.parametrize("definition", ["paper", "released"])
def test_golden_values_of_human_counts(shared_data: Path, definition: Definition) -> None:
    table = shared_data.parent / "facts" / "human_chr1_to_3_6mer_counts.csv"
    if not table.is_file():
        pytest.skip(f"no human 6-mer counts at {table}")
    with table.open() as stream:
        rows = {row["kmer"]: int(row["count"]) for row in csv.DictReader(stream)}
    names = kmers(6)
    orders = shorter_orders(np.array([rows[name] for name in names]), 6)
    assert {int(counts.sum()) for counts in orders.values()} == {669_128_271}
    _, npmi = score(orders, definition)
    golden = GOLDEN[definition]
    for word, value in golden.items():
        assert npmi[names.index(word)] == pytest.approx(value, abs=1e-6), word
    best = best_first(npmi)
    assert [names[code] for code in best[:6]] + [names[code] for code in best[-2:]] == list(golden)
