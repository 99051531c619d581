"""A small real corpus and its ranking."""

from importlib.resources import files
from pathlib import Path

import pytest

from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.preparation import prepare_genome
from cmgems_cli.pmi.stage import build_pmi

FASTA = Path(str(files("cmgems_cli") / "data" / "hg38_chr16_186964_397118.fa.gz"))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Corpus and PMI folders of 210 kb of human chromosome 16, in sequences of at most 120 tokens."""
    folder = tmp_path_factory.mktemp("inputs")
    prepare_genome([FASTA], folder / "corpus", max_tokens=120)
    build_pmi(Corpus.open(folder / "corpus"), folder / "pmi", min_count=20)
    return folder / "corpus", folder / "pmi"
