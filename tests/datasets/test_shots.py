from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from cmgems_cli import draws
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.datasets.shots import check_pool, draw_shots, pool_note
from cmgems_cli.datasets.splits import Counts, Table, read_splits
from cmgems_cli.datasets.task_files import find_task_files
from cmgems_cli.errors import InputError

NOTHING_ODD = Counts(0, (), 0, 0, 0, 0, 0, 0)


def pool_of(rows: list[tuple[str, int]], classes: int = 2) -> Table:
    joined = "".join(sequence for sequence, _ in rows).encode()
    offsets = np.cumsum([0, *(len(sequence) for sequence, _ in rows)]).astype(np.int64)
    labels = np.array([label for _, label in rows], dtype=np.int64)
    names = tuple(str(label) for label in range(classes))
    return Table(Path("pool.tsv"), np.frombuffer(joined, dtype=np.uint8), offsets, labels, names, NOTHING_ODD)


def numbered(index: int) -> str:
    return "".join("ACGT"[index >> (2 * place) & 3] for place in range(6))


def slow_draw(rows: list[tuple[str, int]], shots: int, seed: int, classes: int) -> list[tuple[str, int]]:
    """Number every row by hash and repetition, sort, take the first of each class."""
    seen: Counter[tuple[str, int]] = Counter()
    keyed = []
    for sequence, label in rows:
        content = 0xCBF29CE484222325
        for value in (label, *sequence.encode()):
            content = (content ^ value) * 0x100000001B3 % 2**64
        stream = draws.key(
            np.uint64(seed), draws.FEWSHOT_ROWS, np.uint64(content), np.uint64(seen[sequence, label])
        )
        seen[sequence, label] += 1
        keyed.append((int(draws.bits(np.uint64(stream), 0)), sequence, label))
    keyed.sort()
    return [row[1:] for label in range(classes) for row in [row for row in keyed if row[2] == label][:shots]]


def content(pool: Table, rows: np.ndarray) -> list[tuple[str, int]]:
    sequences = pool.sequences()
    return [(sequences[row].decode(), int(pool.labels[row])) for row in rows]


pools = st.lists(st.tuples(st.text("AC", max_size=4), st.integers(0, 2)), max_size=30).map(
    lambda rows: [*rows, *[("A", 0), ("C", 1), ("G", 2)] * 4]
)


@settings(max_examples=100, deadline=None)
@given(pools, st.integers(1, 4), st.integers(0, 2**63 - 1), st.randoms(use_true_random=False))
def test_draws_are_those_of_the_slow_rule_in_any_order_of_rows(rows, shots, seed, shuffler):
    drawn = draw_shots(pool_of(rows, 3), shots, seed)
    assert len(set(drawn.tolist())) == 3 * shots
    expected = slow_draw(rows, shots, seed, 3)
    assert content(pool_of(rows, 3), drawn) == expected
    shuffled = rows.copy()
    shuffler.shuffle(shuffled)
    pool = pool_of(shuffled, 3)
    assert content(pool, draw_shots(pool, shots, seed)) == expected


def test_every_class_gives_its_shots_class_by_class():
    pool = pool_of([(numbered(i), i % 3) for i in range(90)], 3)
    drawn = draw_shots(pool, 7, 42)
    assert drawn.dtype == np.int64
    assert pool.labels[drawn].tolist() == [0] * 7 + [1] * 7 + [2] * 7


def test_seeds_draw_differently_and_evenly():
    pool = pool_of([(numbered(i), i % 2) for i in range(40)])
    runs = [draw_shots(pool, 5, seed) for seed in range(2000)]
    assert len({tuple(run.tolist()) for run in runs}) == 2000
    # Each of the 40 rows is in a quarter of the runs. One seeded experiment, so the outcome is fixed.
    counts = np.bincount(np.concatenate(runs), minlength=40)
    assert counts.sum() == 20_000
    assert chisquare(counts).pvalue > 0.01


def test_equal_rows_are_not_drawn_together():
    # Two copies of one sequence among ten rows: both among 5 drawn in 2/9 of the runs, not in half of them.
    rows = [(numbered(max(i, 1)), 0) for i in range(10)] + [(numbered(i), 1) for i in range(20, 30)]
    pool = pool_of(rows)
    both = sum({0, 1} <= set(draw_shots(pool, 5, seed).tolist()) for seed in range(2000))
    assert abs(both / 2000 - 2 / 9) < 4 * (2 / 9 * 7 / 9 / 2000) ** 0.5


def test_fewer_shots_are_among_more_of_the_same_seed():
    pool = pool_of([(numbered(i), i % 2) for i in range(100)])
    assert set(draw_shots(pool, 10, 7).tolist()) < set(draw_shots(pool, 50, 7).tolist())


def test_a_pool_with_too_few_rows_of_a_class_is_refused():
    pool = pool_of([("ACGTAC", 0)] * 5 + [("ACGTAA", 1)] * 3)
    check_pool(pool, 3)
    with pytest.raises(InputError, match="has 3 rows with the label '1'; needed 4 of each label"):
        draw_shots(pool, 4, 42)
    with pytest.raises(InputError, match="has 0 rows with the label '2'"):
        draw_shots(pool_of([("ACGTAC", 0), ("ACGTAC", 1)], classes=3), 1, 42)


def test_the_note_says_what_runs_have_in_common():
    assert "every run trains on the same rows" in pool_note(pool_of([("A", 0), ("C", 1)]), 1)
    assert pool_note(pool_of([("A", 0), ("C", 1), ("G", 1)]), 1) == "drawn from a pool of 1, 2 rows per class"


def test_draws_from_the_real_pools(fewshot_data):
    for name, size in (("prom-core", 10), ("splice-40", 100)):
        task = shipped("fewshot").task(name)
        pool = read_splits(find_task_files(shipped("fewshot"), task, fewshot_data, 10).files).tables["pool"]
        assert Counter(pool.labels.tolist()) == dict.fromkeys(range(task.classes), size)
        runs = [draw_shots(pool, 10, seed) for seed in range(42, 52)]
        assert all(
            Counter(pool.labels[run].tolist()) == dict.fromkeys(range(task.classes), 10) for run in runs
        )
        assert len({frozenset(run.tolist()) for run in runs}) == (1 if size == 10 else 10)
