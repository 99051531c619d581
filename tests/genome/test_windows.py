"""Tiling runs into sequences, and dropping duplicates."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.genome import windows as windows_module
from cmgems_cli.genome.corpus import RUN, WINDOW
from cmgems_cli.genome.windows import WindowSpec, first_occurrences, tile
from tests.genome import reference

DEFAULT = WindowSpec(k=6, min_tokens=5, max_tokens=510, full_share=0.5, valid_share=0.1, seed=42)


def runs_of(lengths: list[int], contigs: list[int]) -> np.ndarray:
    """Runs of these lengths, each at letter 1,000,000 · i of its contig."""
    runs = np.zeros(len(lengths), RUN)
    runs["length_bases"] = lengths
    runs["start"] = np.cumsum([0, *lengths])[:-1]
    runs["contig"] = contigs
    runs["contig_start"] = 1_000_000 * np.arange(len(lengths))
    return runs


cuts = st.builds(
    lambda k, low, high, full, valid, seed: WindowSpec(k, low, low + high, full, valid, seed),
    st.integers(3, 8),
    st.integers(1, 20),
    st.integers(0, 100),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.sampled_from([0.0, 0.1, 1.0]),
    st.integers(0, 2**63 - 1),
)


@given(
    st.lists(st.integers(1, 3000), max_size=4),
    cuts,
    st.lists(st.integers(0, 2**64 - 1), min_size=4, max_size=4),
)
def test_runs_are_tiled_as_the_reference_tiles_them(
    lengths: list[int], spec: WindowSpec, identities: list[int]
) -> None:
    runs = runs_of(lengths, list(range(len(lengths))))
    expected = [
        (tiled.start, tiled.n_tokens, row, tiled.valid)
        for row, run in enumerate(runs)
        for tiled in reference.tile_run(
            int(run["start"]), int(run["length_bases"]), identities[row], int(run["contig_start"]), spec
        )
    ]
    assert tile(runs, np.array(identities, np.uint64), spec).tolist() == expected


@given(st.integers(1, 20000), cuts)
def test_windows_follow_each_other_without_overlap_up_to_the_end_of_their_run(
    length: int, spec: WindowSpec
) -> None:
    rows = tile(runs_of([length], [0]), np.zeros(1, np.uint64), spec)
    begins = rows["start"]
    ends = begins + rows["n_tokens"] + spec.k - 1
    assert (begins[1:] == ends[:-1]).all()
    limit = min(1000, length // 10)
    if rows.size:
        assert 0 <= begins[0] <= max(0, limit - 1)
        assert length - spec.shortest_bases < ends[-1] <= length
        assert rows["n_tokens"].min() >= spec.min_tokens
        assert rows["n_tokens"].max() <= spec.max_tokens
    else:
        assert length - max(0, limit - 1) < spec.shortest_bases


def test_a_run_of_exactly_one_shortest_sequence() -> None:
    runs = runs_of([10, 9], [0, 0])
    rows = tile(runs, np.zeros(1, np.uint64), DEFAULT)
    assert rows["n_tokens"].tolist() == [5]


def test_a_contig_gives_the_same_windows_alone_and_among_others() -> None:
    both = tile(runs_of([50_000, 70_000], [0, 1]), np.array([11, 22], np.uint64), DEFAULT)
    alone = runs_of([50_000, 70_000], [0, 0])[1:]
    alone["start"] = 0
    rows = tile(alone, np.array([22], np.uint64), DEFAULT)
    rows["start"] += 50_000
    rows["contig"] = 1
    assert both[both["contig"] == 1].tolist() == rows.tolist()


def test_lengths_and_split_have_the_shares_asked_for() -> None:
    rows = tile(runs_of([60_000_000], [0]), np.array([7], np.uint64), DEFAULT)[:-1]
    n = rows.size

    def four_standard_errors(share: float, n: int) -> float:
        return 4 * (share * (1 - share) / n) ** 0.5

    # Half at full length, and one in 506 of the others.
    full = 0.5 + 0.5 / 506
    assert abs((rows["n_tokens"] == 510).mean() - full) < four_standard_errors(full, n)
    assert abs(rows["valid"].mean() - 0.1) < four_standard_errors(0.1, n)
    others = rows["n_tokens"][rows["n_tokens"] < 510]
    counts = np.bincount(others, minlength=511)
    assert counts[:5].sum() == 0
    expected = others.size / 505
    chi_square = ((counts[5:510] - expected) ** 2 / expected).sum()
    assert abs(chi_square - 504) < 4 * (2 * 504) ** 0.5
    # The split does not look at the length.
    assert abs(rows["valid"][rows["n_tokens"] == 510].mean() - 0.1) < four_standard_errors(0.1, n // 2)


def test_starts_are_uniform_below_the_limit() -> None:
    runs = runs_of([20_000] * 4000, [0] * 4000)
    rows = tile(runs, np.array([7], np.uint64), DEFAULT)
    firsts = rows["start"][np.searchsorted(rows["start"], runs["start"])] - runs["start"]
    assert firsts.min() < 10
    assert 990 <= firsts.max() < 1000
    assert abs(firsts.mean() - 499.5) < 4 * 1000 / (12 * 4000) ** 0.5


def save(folder: Path, letters: str) -> Path:
    np.save(folder / "bases.npy", reference.pack(letters))
    return folder / "bases.npy"


def rows_of(windows: list[tuple[int, int]]) -> np.ndarray:
    rows = np.zeros(len(windows), WINDOW)
    rows["start"], rows["n_tokens"] = [start for start, _ in windows], [n for _, n in windows]
    return rows


@given(
    st.text("ACGT", min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 90)), max_size=40),
    st.integers(3, 8),
    st.sampled_from([1, 8, 64]),
    st.integers(1, 7),
)
@settings(max_examples=150)
def test_the_first_of_equal_windows_stays(
    tmp_path_factory: pytest.TempPathFactory,
    motif: str,
    steps: list[tuple[int, int]],
    k: int,
    hash_bits: int,
    step: int,
) -> None:
    windows, at = [], 0
    for gap, n_tokens in steps:
        windows.append((at + gap, n_tokens))
        at += gap + n_tokens + k - 1
    letters = (motif * (at // len(motif) + 2))[: max(1, at)]
    # One change amid the repeats, so that some windows differ in a single base.
    letters = letters[: at // 2] + "A" + letters[at // 2 + 1 :] if letters else letters
    seen: set[str] = set()
    expected = []
    for start, n_tokens in windows:
        window = letters[start : start + n_tokens + k - 1]
        expected.append(window not in seen)
        seen.add(window)
    path = save(tmp_path_factory.mktemp("bases"), letters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows_module, "WINDOWS_PER_STEP", step)
        found = first_occurrences(path, rows_of(windows), k, hash_bits=hash_bits)
    assert found.tolist() == expected


def test_thousands_of_equal_windows_are_one(tmp_path: Path) -> None:
    n = 3 * windows_module.COMPARISONS_PER_STEP
    path = save(tmp_path, "ACGT" * (4 * n))
    found = first_occurrences(path, rows_of([(16 * i, 11) for i in range(n)]), 6)
    assert found.nonzero()[0].tolist() == [0]


def test_windows_of_equal_bases_and_unlike_length_differ(tmp_path: Path) -> None:
    path = save(tmp_path, "A" * 100)
    assert first_occurrences(path, rows_of([(0, 5), (10, 6), (21, 5), (31, 6)]), 6).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_windows_whose_hashes_are_equal_by_chance_are_compared_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows_module, "_hash", lambda bases, first, windows, k, hashes: hashes.fill(7))
    monkeypatch.setattr(windows_module, "COMPARISONS_PER_STEP", 3)
    letters = np.random.default_rng(1).choice(list("ACGT"), (5, 12))
    which = [0, 1, 0, 2, 1, 3, 3, 0, 4, 2, 4, 1]
    path = save(tmp_path, "".join("".join(letters[i]) for i in which))
    distinct = first_occurrences(path, rows_of([(12 * i, 7) for i in range(len(which))]), 6)
    assert distinct.nonzero()[0].tolist() == [0, 1, 3, 5, 8]
