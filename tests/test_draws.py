"""The counter-based draws: known generator, uniform, independent of order, a true permutation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli import draws

MASK = 2**64 - 1


def splitmix64_reference(state: int) -> int:
    """One output of SplitMix64 in plain integers, as its authors state it."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def test_bits_are_splitmix64s_published_outputs() -> None:
    # The first outputs of SplitMix64 seeded with 0, as many public test suites list them.
    assert int(draws.bits(np.uint64(0), 0)) == 0xE220A8397B1DCDAF
    assert int(draws.bits(np.uint64(0), 1)) == 0x6E789E6AA1B965F4


@given(st.integers(0, MASK), st.integers(0, 2**40))
def test_bits_match_the_reference_for_any_stream_and_place(stream: int, n: int) -> None:
    start = (stream + n * 0x9E3779B97F4A7C15) & MASK
    assert int(draws.bits(np.uint64(stream), n)) == splitmix64_reference(start)


def test_keys_differ_in_every_argument() -> None:
    keys = {
        int(draws.key(s, p, a, b)) for s in range(4) for p in range(4) for a in range(4) for b in range(4)
    }
    assert len(keys) == 256


def test_uniform_has_the_moments_of_a_uniform() -> None:
    stream = np.uint64(draws.key(7, 0, 0, 0))
    sample = np.array([draws.uniform(stream, i) for i in range(20_000)])
    assert sample.min() >= 0
    assert sample.max() < 1
    # Four standard errors of the mean of 20,000 uniforms.
    assert abs(sample.mean() - 0.5) < 4 * (1 / 12 / 20_000) ** 0.5
    assert abs(np.corrcoef(sample[:-1], sample[1:])[0, 1]) < 4 / 20_000**0.5


def test_below_reaches_every_value_about_equally_often() -> None:
    stream = np.uint64(draws.key(7, 1, 0, 0))
    counts = np.bincount([draws.below(stream, i, 7) for i in range(7_000)], minlength=8)
    assert counts[7] == 0
    assert np.all(np.abs(counts[:7] - 1000) < 4 * (7000 * 6 / 49) ** 0.5)


@given(st.integers(1, 300), st.integers(0, MASK))
def test_permuted_sends_every_index_to_a_place_of_its_own(n: int, stream: int) -> None:
    assert sorted(draws.permuted(i, n, np.uint64(stream)) for i in range(n)) == list(range(n))


def test_permuted_differs_between_streams_and_from_the_identity() -> None:
    orders = [
        [draws.permuted(i, 1000, np.uint64(draws.key(seed, 3, 0, 0))) for i in range(1000)]
        for seed in range(3)
    ]
    for order in orders:
        # The number of fixed points of a random permutation is about Poisson(1).
        assert sum(i == place for i, place in enumerate(order)) < 8
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("n", [5, 100])
def test_permuted_places_are_uniform_over_streams(n: int) -> None:
    places = np.array([draws.permuted(0, n, np.uint64(draws.key(seed, 3, 1, 0))) for seed in range(4_000)])
    counts = np.bincount(places, minlength=n)
    assert np.all(np.abs(counts - 4000 / n) < 5 * (4000 / n) ** 0.5)


def test_no_two_purposes_share_a_number() -> None:
    purposes = [value for name, value in vars(draws).items() if name.isupper() and isinstance(value, int)]
    assert len(purposes) > 15
    assert len(set(purposes)) == len(purposes)
