"""On a whole human chromosome: the counts, and the ranking beside that of three other chromosomes."""

from pathlib import Path

import pytest
from scipy.stats import spearmanr

from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.vocabulary import FIRST_KMER
from cmgems_cli.pmi import Definition
from cmgems_cli.pmi.ranking import Ranking, read_ranking
from cmgems_cli.pmi.stage import build_pmi
from cmgems_cli.pmi.tables import read_kmer_table
from tests.command_line import CommandLine


@pytest.fixture(scope="module")
def chr20(cmgems: CommandLine, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    fasta = shared_data / "hs37_chr20.fa.gz"
    if not fasta.is_file():
        pytest.skip(f"no GRCh37 chr20 at {fasta}")
    folder = tmp_path_factory.mktemp("chr20") / "corpus"
    cmgems("prepare-genome", str(fasta), "--out", str(folder), "--quiet")
    return Corpus.open(folder)


@pytest.fixture(scope="module")
def published(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Ranking:
    """The ranking by the published definition, from the 6-mer counts of GRCh38 chr1-3."""
    table = shared_data.parent / "facts" / "human_chr1_to_3_6mer_counts.csv"
    if not table.is_file():
        pytest.skip(f"no human 6-mer counts at {table}")
    folder = tmp_path_factory.mktemp("published") / "pmi"
    build_pmi(read_kmer_table(table), folder, definition="released")
    return read_ranking(folder)


@pytest.mark.parametrize(("definition", "low", "high"), [("released", 0.995, 1.0), ("paper", 0.88, 0.89)])
def test_ranks_of_chr20_beside_those_of_chr1_to_3(
    tmp_path: Path, chr20: Corpus, published: Ranking, definition: Definition, low: float, high: float
) -> None:
    """method, section 3: 0.995 and 0.885."""
    manifest = build_pmi(chr20, tmp_path / "pmi", definition=definition)
    # Each run holds 5 6-mers fewer than bases.
    assert manifest.stats["positions_counted"] == 59_505_520 - 5 * len(chr20.runs)
    ranking = read_ranking(tmp_path / "pmi")
    correlation = spearmanr(
        ranking.rank_of_token[FIRST_KMER:], published.rank_of_token[FIRST_KMER:]
    ).statistic
    assert low <= correlation < high
