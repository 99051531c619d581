"""How models read DNA: our k-mers, and the tokenizers of other folders against `AutoTokenizer`."""

import json
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from cmgems_cli.errors import InputError
from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.genome.tokenization import KMER_SPECIALS, OverlappingKmers
from cmgems_cli.genome.vocabulary import tokens
from cmgems_cli.modeling.own_tokenizer import OwnTokenizer
from tests.modeling.foreign_models import make_bpe, make_nucleotide_transformer

SEQUENCES = ["ACGTACGTACGTACG", "TTTTTTTTTTTTT", "ACGNNACGTTGCA", "G"]


def concatenated(sequences: list[str]) -> tuple[np.ndarray, np.ndarray]:
    letters = np.frombuffer("".join(sequences).encode(), np.uint8)
    return letters, offsets_of(np.array([len(sequence) for sequence in sequences]))


def rows(ids: np.ndarray, offsets: np.ndarray) -> list[list[int]]:
    return [ids[start:stop].tolist() for start, stop in pairwise(offsets)]


@pytest.mark.parametrize("make", [make_nucleotide_transformer, make_bpe])
def test_ids_and_special_ids_are_those_of_auto_tokenizer(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    folder = make(tmp_path / "model")
    stock, ours = AutoTokenizer.from_pretrained(folder), OwnTokenizer(folder)
    encoded = rows(*ours.encode(*concatenated(SEQUENCES)))
    prefix, suffix = list(ours.specials.prefix), list(ours.specials.suffix)
    assert [prefix + row + suffix for row in encoded] == stock(SEQUENCES)["input_ids"]
    assert ours.specials.padding == stock.pad_token_id
    assert ours.specials.positions == len(stock("ACGT")["input_ids"]) - len(stock.tokenize("ACGT"))


def test_nucleotide_transformer_reads_six_bases_per_token(tmp_path: Path) -> None:
    own = OwnTokenizer(make_nucleotide_transformer(tmp_path / "nt"))
    ids, offsets = own.encode(*concatenated(["ACGTACGTACGTA", "ACGTAC"]))
    assert np.diff(offsets).tolist() == [3, 1]
    assert ids[0] == ids[3]
    assert own.most_bases(10) == 60
    assert (own.k, own.min_bases) == (None, 1)


def test_words_of_kmers_are_spelled_out(tmp_path: Path) -> None:
    """A BERT whose vocabulary has all 3-mers in another order than ours, and a tokenizer that splits at spaces."""
    words = [*tokens(3)[:5], *sorted(tokens(3)[5:])]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(words)}))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": False})
    )
    own = OwnTokenizer(tmp_path)
    ids, _ = own.encode(*concatenated(["ACGTA"]))
    assert [words[i] for i in ids] == ["ACG", "CGT", "GTA"]
    assert own.min_bases == 3


def test_our_kmers() -> None:
    kmers = OverlappingKmers(3)
    ids, offsets = kmers.encode(*concatenated(["ACGTA", "AC"]))
    assert [tokens(3)[i] for i in ids] == ["ACG", "CGT", "GTA"]
    assert offsets.tolist() == [0, 3, 3]
    assert (kmers.most_bases(510), kmers.min_bases, kmers.specials) == (512, 3, KMER_SPECIALS)


def _words(folder: Path, words: list[str]) -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(vocabulary)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: None, "has no tokenizer that opens without remote code"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "has no tokenizer"),
        (partial(_words, words=["the", "cat"]), "knows neither DNA nor DNA as k-mers"),
        (partial(_words, words=list("ACDEFGHIKLMNPQRSTVWY")), "is a model of proteins"),
    ],
    ids=["none", "damaged", "english", "protein"],
)
def test_a_tokenizer_that_does_not_read_dna_is_refused(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path)
    with pytest.raises(InputError, match=said):
        OwnTokenizer(tmp_path)
