"""kmers.csv: what is written is read back, and nothing else is taken for it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.artifacts import MANIFEST, digest_of, finish_artifact
from cmgems_cli.errors import InputError
from cmgems_cli.genome.vocabulary import FIRST_KMER, kmers
from cmgems_cli.pmi.ranking import KMERS_CSV, UNRANKED, read_ranking, write_kmers

K = 3


def finish(folder: Path) -> None:
    finish_artifact(
        folder, "pmi", params={"k": K}, inputs={}, stats={}, files=[KMERS_CSV], environment={}
    )  # fmt: skip


@pytest.fixture
def scores() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, PMI and NPMI of all 3-mers: every fifth is unranked, codes 1 and 2 tie for the first place."""
    random = np.random.default_rng(3)
    counts = random.integers(101, 10_000, 64)
    npmi = random.normal(size=64)
    npmi[[1, 2]] = 5.0
    npmi[::5] = np.nan
    return counts, 2 * npmi, npmi


@pytest.fixture
def artifact(tmp_path: Path, scores: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Path:
    write_kmers(tmp_path / KMERS_CSV, K, *scores)
    finish(tmp_path)
    return tmp_path


def test_round_trip(artifact: Path, scores: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    counts, pmi, npmi = scores
    ranking = read_ranking(artifact)
    assert ranking.k == K
    assert ranking.manifest.kind == "pmi"
    np.testing.assert_array_equal(ranking.counts, counts)
    np.testing.assert_array_equal(ranking.pmi_nats, pmi)
    np.testing.assert_array_equal(ranking.npmi_nats, npmi)
    ranks = ranking.rank_of_token
    assert ranks.dtype == np.int32
    assert (ranks[:FIRST_KMER] == UNRANKED).all()
    unranked = ranks[FIRST_KMER:] == UNRANKED
    np.testing.assert_array_equal(unranked, np.isnan(npmi))
    assert ranking.n_ranked == 51
    np.testing.assert_array_equal(np.sort(ranks[FIRST_KMER:][~unranked]), np.arange(1, 52))
    by_rank = ranking.codes_by_rank()
    np.testing.assert_array_equal(ranks[FIRST_KMER + by_rank], np.arange(1, 52))
    assert (np.diff(npmi[by_rank]) <= 0).all()


def test_rows_are_in_the_specified_order(artifact: Path) -> None:
    lines = (artifact / KMERS_CSV).read_text().splitlines()
    assert lines[0] == "rank,kmer,count,pmi_nats,npmi_nats"
    assert len(lines) == 1 + 64
    ranks, names = zip(*[line.split(",")[:2] for line in lines[1:]], strict=True)
    assert list(ranks) == [*map(str, range(1, 52)), *[""] * 13]
    assert names[:2] == (kmers(3)[1], kmers(3)[2])  # equal NPMI: by token id
    assert list(names[51:]) == kmers(3)[::5]  # unranked: by token id
    assert all(line.endswith(",,") for line in lines[52:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [], "damaged"),
        (lambda lines: ["rank,kmer,count,pmi,npmi", *lines[1:]], "its columns are"),
        (lambda lines: lines[:-1], "64 rows"),
        (lambda lines: [*lines, lines[-1]], "64 rows"),
        (lambda lines: [*lines[:5], lines[5] + ",", *lines[6:]], "5 fields"),
        (lambda lines: [*lines[:-1], lines[-2]], "every 3-mer exactly once"),
        (
            lambda lines: [lines[0], lines[1].replace(lines[1].split(",")[1], "NNN"), *lines[2:]],
            "every 3-mer exactly once",
        ),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], "ranks are not 1, 2, 3"),
        (lambda lines: [*lines[:-1], "52" + lines[-1]], "ranks are not 1, 2, 3"),
        (lambda lines: [lines[0], "1,AAT,many,10.0,5.0", *lines[2:]], "damaged"),
        (lambda lines: [lines[0], "1,AAT,-5,10.0,5.0", *lines[2:]], "negative count"),
        (lambda lines: [lines[0], "1,AAT,5,10.0,nan", *lines[2:]], "not finite"),
        (lambda lines: [lines[0], "1,AAT,5,10.0,", *lines[2:]], "damaged"),
        (lambda lines: [lines[0], "1,AAT,5,10.0,4.9", *lines[2:]], "do not fall"),
        (lambda lines: [lines[0], f"1,AAT,{10**30},10.0,5.0", *lines[2:]], "damaged"),
        (lambda lines: [*lines[:-1], lines[-1] + "0.5"], "score of an unranked"),
        (lambda lines: [*lines[:-1], lines[-1] + 5_000 * "9"], "damaged"),
        (lambda lines: [*lines, 10_000 * "A"], "bytes, too many for 4\\^3 rows"),
        (lambda lines: [lines[0], lines[1].replace("AAT", "ÄAT"), *lines[2:]], "damaged"),
    ],
)
def test_a_file_that_is_not_as_specified_is_refused(
    artifact: Path, change: Callable[[list[str]], list[str]], message: str
) -> None:
    path = artifact / KMERS_CSV
    before = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in change(before)), encoding="utf-8")
    assert path.read_text().splitlines() != before
    finish(artifact)  # so that the sizes agree: only the content is wrong
    with pytest.raises(InputError, match=message) as caught:
        read_ranking(artifact)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("k", [None, "3", 2, 9, True])
def test_a_manifest_without_a_usable_k_is_refused(artifact: Path, k: object) -> None:
    manifest = json.loads((artifact / MANIFEST).read_text())
    manifest["params"]["k"] = k
    manifest["digest"] = digest_of(manifest)
    (artifact / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"its manifest gives k|is not a readable manifest \(k is"):
        read_ranking(artifact)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    finish_artifact(tmp_path, "corpus", params={}, inputs={}, stats={}, files=[], environment={})
    with pytest.raises(InputError, match="is a corpus artifact; needed a pmi"):
        read_ranking(tmp_path)
