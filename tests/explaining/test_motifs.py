"""Dinucleotide shuffles against all sequences that they may give; important k-mers and their file, read strictly."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmgems_cli.explaining.motifs import Motifs, find_motifs, meme_text
from cmgems_cli.explaining.shuffling import shuffle_dinucleotides
from cmgems_cli.explaining.summary import profile_of


def shuffled(text: str, draw: int = 0) -> str:
    return shuffle_dinucleotides(np.frombuffer(text.encode(), np.uint8), (42, 0, draw)).tobytes().decode()


def pairs(text: str) -> Counter[str]:
    return Counter(a + b for a, b in pairwise(text))


@given(st.text("ACGTN", max_size=60), st.integers(0, 5))
@settings(max_examples=150)
def test_a_shuffle_keeps_every_pair_of_letters_and_both_ends(text: str, draw: int) -> None:
    other = shuffled(text, draw)
    assert pairs(other) == pairs(text)
    assert other[:1] + other[-1:] == text[:1] + text[-1:]


def test_every_sequence_with_the_same_pairs_is_equally_likely() -> None:
    text = "ACAGACTAA"
    inner = {"".join((text[0], *middle, text[-1])) for middle in permutations(text[1:-1])}
    possible = sorted(one for one in inner if pairs(one) == pairs(text))
    assert len(possible) == 24
    n = 6000
    counts = Counter(shuffled(text, draw) for draw in range(n))
    assert sorted(counts) == possible
    expected = n / len(possible)
    # The 99.9th percentile of chi-squared with 23 degrees of freedom is 49.7.
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 49.7


Rows = list[tuple[np.ndarray, np.ndarray]]


def rows_with(motif: str, other: str, n: int = 60) -> Rows:
    """Random sequences, each with a motif that matters; `other` is as frequent but does not."""
    draw = np.random.default_rng(3)
    rows = []
    for _ in range(n):
        letters = draw.choice(np.frombuffer(b"ACGT", np.uint8), 50)
        importance = draw.normal(0, 0.02, 50).astype(np.float32)
        at = int(draw.integers(0, 20))
        letters[at : at + len(motif)] = np.frombuffer(motif.encode(), np.uint8)
        importance[at : at + len(motif)] += 1
        letters[40 : 40 + len(other)] = np.frombuffer(other.encode(), np.uint8)
        importance[0] = np.nan
        rows.append((letters, importance))
    return rows


def read_meme(text: str) -> dict[str, list[list[float]]]:
    """Read the minimal format as it is published, refusing all else."""
    lines = iter(text.splitlines())
    assert next(lines) == "MEME version 4"
    assert [next(lines), next(lines), next(lines)] == ["", "ALPHABET= ACGT", ""]
    assert [next(lines), next(lines), next(lines)] == ["strands: +", "", "Background letter frequencies"]
    frequencies = next(lines).split()
    assert frequencies[::2] == list("ACGT")
    assert sum(map(float, frequencies[1::2])) == pytest.approx(1, abs=1e-5)
    motifs: dict[str, list[list[float]]] = {}
    for line in lines:
        if not line:
            continue
        name = re.fullmatch(r"MOTIF (\S+) \S+", line)
        assert name, line
        head = re.fullmatch(r"letter-probability matrix: alength= 4 w= (\d+) nsites= (\d+) E= 0", next(lines))
        assert head
        assert int(head[2]) > 0
        motifs[name[1]] = [[float(cell) for cell in next(lines).split()] for _ in range(int(head[1]))]
        for row in motifs[name[1]]:
            assert len(row) == 4
            assert sum(row) == pytest.approx(1, abs=1e-9)
    return motifs


def test_the_important_kmer_is_first_and_enriched_and_its_motif_can_be_read() -> None:
    rows = rows_with("GATTACA", "CCGCGG")

    def again() -> Iterable[tuple[np.ndarray, np.ndarray]]:
        return rows

    found = find_motifs(again, 6)
    assert isinstance(found, Motifs)
    assert found.n_rows == 60
    first = found.motifs[0]
    assert first.kmer in ("GATTAC", "ATTACA")
    assert first.importance == pytest.approx(6, abs=0.2)
    assert first.rows >= 59  # a motif at position 0 has no value there
    assert first.enrichment > 10
    # Neither the other half of the motif nor the k-mer that does not matter is listed with it.
    assert all(one.importance < 5 for one in found.motifs[1:])
    matrix = read_meme(meme_text(found))[first.kmer]
    assert "".join("ACGT"[int(np.argmax(row))] for row in matrix) == first.kmer
    assert min(max(row) for row in matrix) > 0.9


def test_the_mean_along_sequences_counts_what_is_there() -> None:
    profile = profile_of([np.array([1, 2, np.nan], np.float32), np.array([-3.0], np.float32)])
    assert profile.mean.tolist()[:2] == [-1, 2]
    assert profile.mean_size.tolist()[:2] == [2, 2]
    assert np.isnan(profile.mean[2])
    assert profile.count.tolist() == [2, 1, 0]
