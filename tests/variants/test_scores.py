"""Scores: a classifier's and the masked chains', against stock transformers and brute force; the two strands."""

import json
import os
import shutil
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.random_access import GenomeFile
from cmgems_cli.inference.loading import Model, load_model
from cmgems_cli.modeling.classifier import SequenceClassifier, new_classifier
from cmgems_cli.modeling.classifier_files import save_classifier
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.variants.alleles import Allele
from cmgems_cli.variants.chain_scores import ChainScorer
from cmgems_cli.variants.classifier_scores import ClassifierScorer
from cmgems_cli.variants.python_api import score_variants
from cmgems_cli.variants.scoring import load_scorer
from cmgems_cli.variants.variant_options import VariantOptions
from tests.inference.conftest import LABELS, REGRESSION, random_sequence, stock_logits
from tests.modeling.foreign_models import make_bpe

COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")


def other_strand(letters: bytes) -> bytes:
    return letters.translate(COMPLEMENT)[::-1]


def on_other_strand(allele: Allele) -> Allele:
    return Allele(
        allele.contig,
        0,
        other_strand(allele.right),
        other_strand(allele.ref),
        other_strand(allele.alt),
        other_strand(allele.left),
    )


def an_allele(seed: int, flank: int, ref: bytes, alt: bytes) -> Allele:
    letters = random_sequence(2 * flank, seed).encode()
    return Allele("1", flank, letters[:flank], ref, alt, letters[flank:])


@pytest.fixture(scope="module")
def of_classes(classifier: Path) -> Model:
    return load_model(classifier, device="cpu", max_batch_tokens=80)


@pytest.fixture(scope="module")
def chains(pretrained: Path) -> ChainScorer:
    return ChainScorer(load_model(pretrained, device="cpu", max_batch_tokens=80))


Stock = Callable[[bytes], NDArray[np.float64]]


def log_odds(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.exp(logits) / np.exp(logits).sum()
    return np.asarray(np.log(p / (1 - p)))


def logits_of(folder: Path) -> Stock:
    logits = stock_logits(folder)
    return lambda letters: logits(letters.decode())


@pytest.fixture(scope="module")
def logits(classifier: Path) -> Stock:
    return logits_of(classifier)


ALLELES = [
    an_allele(1, 15, b"A", b"G"),
    an_allele(1, 15, b"A", b"T"),
    an_allele(2, 10, b"AC", b"GT"),
    an_allele(3, 12, b"", b"TTA"),
    an_allele(4, 12, b"CCG", b""),
    an_allele(5, 4, b"C", b"T"),
]


def test_a_classifier_gives_the_change_in_log_odds_of_both_strands(of_classes: Model, logits: Stock) -> None:
    scorer = ClassifierScorer(of_classes)
    assert [column.name for column in scorer.columns] == [f"log_odds_change_{name}" for name in LABELS]
    for allele, found in zip(ALLELES, scorer.score(ALLELES), strict=True):
        changes = [
            log_odds(logits(turn(allele.alt_window))) - log_odds(logits(turn(allele.ref_window)))
            for turn in (bytes, other_strand)
        ]
        np.testing.assert_allclose(found, np.mean(changes, 0), atol=1e-4)


def test_a_classifier_that_averages_strands_is_read_as_it_was_trained(
    classifier: Path, logits: Stock, tmp_path: Path
) -> None:
    folder = tmp_path / "averages"
    shutil.copytree(classifier, folder, ignore=shutil.ignore_patterns("manifest.json"))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "cmgems_rc": "average"}))

    def of_both(letters: bytes) -> NDArray[np.float64]:
        return log_odds((logits(letters) + logits(other_strand(letters))) / 2)

    scorer = load_scorer(folder, VariantOptions(), device="cpu")
    for allele, found in zip(ALLELES, scorer.score(ALLELES), strict=True):
        change = of_both(allele.alt_window) - of_both(allele.ref_window)
        np.testing.assert_allclose(found, change, atol=1e-4)


def test_labels_change_by_their_own_log_odds_and_regressions_by_their_value(
    labeller: Path, regressor: Path
) -> None:
    def changes(folder: Path) -> NDArray[np.float64]:
        logits = logits_of(folder)
        both = [
            [logits(turn(one.alt_window)) - logits(turn(one.ref_window)) for turn in (bytes, other_strand)]
            for one in ALLELES
        ]
        return np.mean(both, 1)

    labels = load_scorer(labeller, VariantOptions(), device="cpu")
    assert [column.name for column in labels.columns] == [f"log_odds_change_{name}" for name in LABELS]
    assert labels.columns[1].words.startswith("Log-odds of label yes with the alternative allele minus")
    np.testing.assert_allclose(labels.score(ALLELES), changes(labeller), atol=1e-5)
    one = load_scorer(labeller, VariantOptions(label="perhaps"), device="cpu")
    np.testing.assert_array_equal(one.score(ALLELES), labels.score(ALLELES)[:, 2:])
    values = load_scorer(regressor, VariantOptions(), device="cpu")
    assert [column.name for column in values.columns] == ["value_change"]
    assert values.columns[0].words.startswith("Predicted value with the alternative allele minus")
    np.testing.assert_allclose(values.score(ALLELES), changes(regressor) * REGRESSION.scale, atol=1e-5)
    with pytest.raises(UsageError, match="predicts values"):
        load_scorer(regressor, VariantOptions(label="yes"), device="cpu")


def test_one_class_can_be_chosen(of_classes: Model) -> None:
    every = ClassifierScorer(of_classes).score(ALLELES)
    one = ClassifierScorer(of_classes, LABELS[2]).score(ALLELES)
    np.testing.assert_array_equal(one, every[:, 2:])
    with pytest.raises(UsageError, match="no, yes, perhaps"):
        ClassifierScorer(of_classes, "maybe")


def brute_force(folder: Path, allele: Allele, k: int = 3) -> dict[bytes, float]:
    """Return the log-probability of each base given that the k masked k-mers agree with it and its neighbours.

    All k-tuples of k-mers are tried, 262,144 for 3-mers, by the stock library on both strands.
    """
    model, tokenizer = (
        AutoModelForMaskedLM.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    vocabulary = {text: number for text, number in tokenizer.get_vocab().items() if text[0] != "["}
    total = dict.fromkeys((b"A", b"C", b"G", b"T"), 0.0)
    for turn in (bytes, other_strand):
        letters, at = turn(allele.ref_window).decode(), len(allele.left)
        ids = tokenizer(letters, return_tensors="pt")["input_ids"]
        masked = [1 + at - k + 1 + j for j in range(k)]
        ids[0, masked] = tokenizer.mask_token_id
        with torch.no_grad():
            log_p = model(input_ids=ids).logits[0, masked].double().log_softmax(1).numpy()
        known = letters[at - k + 1 : at], letters[at + 1 : at + k]
        for kmers in product(vocabulary, repeat=k):
            if all(one[1:] == following[:-1] for one, following in pairwise(kmers)):
                spelled = kmers[0] + "".join(kmer[-1] for kmer in kmers[1:])
                if (spelled[: k - 1], spelled[k:]) == known:
                    score = sum(log_p[j, vocabulary[kmer]] for j, kmer in enumerate(kmers))
                    total[turn(spelled[k - 1 : k].encode())] += score / 2
    normaliser = np.logaddexp.reduce(list(total.values()))
    return {base: float(score - normaliser) for base, score in total.items()}


def test_chain_scores_are_those_of_brute_force(pretrained: Path, chains: ChainScorer) -> None:
    flank, seed = 12, 7
    log_p = brute_force(pretrained, an_allele(seed, flank, b"A", b"C"))
    alleles = [an_allele(seed, flank, ref, alt) for ref in log_p for alt in log_p if ref != alt]
    assert sum(map(np.exp, log_p.values())) == pytest.approx(1)
    for allele, (llr, p_ref, p_alt) in zip(alleles, chains.score(alleles), strict=True):
        assert llr == pytest.approx(log_p[allele.alt] - log_p[allele.ref], abs=1e-4)
        assert p_ref == pytest.approx(np.exp(log_p[allele.ref]), abs=1e-5)
        assert p_alt == pytest.approx(np.exp(log_p[allele.alt]), abs=1e-5)


def naive_chain(folder: Path, left: bytes, hidden: bytes, right: bytes, k: int = 3) -> float:
    """Return S of one chain on one strand, position by position."""
    model, tokenizer = (
        AutoModelForMaskedLM.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    ids = tokenizer((left + hidden + right).decode(), return_tensors="pt")["input_ids"]
    masked = range(1 + len(left) - k + 1, 1 + len(left) + len(hidden))
    hidden_ids = ids.clone()
    hidden_ids[0, list(masked)] = tokenizer.mask_token_id
    with torch.no_grad():
        log_p = model(input_ids=hidden_ids).logits[0].double().log_softmax(1)
    return sum(float(log_p[i, ids[0, i]]) for i in masked)


def test_several_bases_are_hidden_together(pretrained: Path, chains: ChainScorer) -> None:
    allele = an_allele(9, 12, b"ACG", b"TTT")
    expected = 0.0
    for one in (allele, on_other_strand(allele)):
        expected += naive_chain(pretrained, one.left, one.alt, one.right) / 2
        expected -= naive_chain(pretrained, one.left, one.ref, one.right) / 2
    ((llr, p_ref, p_alt),) = chains.score([allele])
    assert llr == pytest.approx(expected, abs=1e-4)
    assert np.isnan([p_ref, p_alt]).all()


def test_the_masked_input_does_not_show_the_base(chains: ChainScorer) -> None:
    """The score of A to C is minus that of C to A: neither saw which of the two was there."""
    there, back = chains.score([an_allele(3, 15, b"A", b"C"), an_allele(3, 15, b"C", b"A")])[:, 0]
    assert there == -back != 0


FLANKS = st.integers(3, 18)
BASES = st.sampled_from([b"A", b"C", b"G", b"T"])


@given(
    st.integers(0, 999), FLANKS, BASES, st.binary(max_size=2).map(lambda b: bytes(b"ACGT"[i % 4] for i in b))
)
@settings(max_examples=15)
def test_both_strands_have_the_same_score(
    of_classes: Model, chains: ChainScorer, seed: int, flank: int, ref: bytes, alt: bytes
) -> None:
    allele = an_allele(seed, flank, ref, alt)
    pairs = [allele, on_other_strand(allele)]
    here, there = ClassifierScorer(of_classes).score(pairs)
    np.testing.assert_allclose(here, there, atol=1e-4)
    if len(alt) == 1 != (ref == alt):
        here, there = chains.score(pairs)
        np.testing.assert_allclose(here, there, atol=1e-4)


def test_tokens_of_its_own_are_refused_by_name(tmp_path: Path) -> None:
    model = load_model(make_bpe(tmp_path / "bpe", "modernbert"), device="cpu")
    with pytest.raises(InputError, match=r"tokens of its own.*cmgems finetune"):
        ChainScorer(model)


def test_a_classifier_with_tokens_of_its_own_from_a_folder_without_a_manifest(tmp_path: Path) -> None:
    source = ModelSource(str(make_bpe(tmp_path / "bpe", "modernbert")))
    out = tmp_path / "classifier"
    out.mkdir()
    save_classifier(out, SequenceClassifier(new_classifier(source, 2), source.tokenization), ("0", "1"))
    scorer = load_scorer(out, VariantOptions(), device="cpu")
    stock, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(out).eval(),
        AutoTokenizer.from_pretrained(out),
    )

    @torch.no_grad()
    def margin(letters: bytes) -> float:
        logits = stock(**tokenizer(letters.decode(), return_tensors="pt")).logits[0].double()
        return float(logits[1] - logits[0])

    for allele, (found,) in zip(ALLELES, scorer.score(ALLELES), strict=True):
        changes = [
            margin(turn(allele.alt_window)) - margin(turn(allele.ref_window))
            for turn in (bytes, other_strand)
        ]
        assert found == pytest.approx(np.mean(changes), abs=1e-4)


def test_s9_a_genome_that_changes_while_variants_are_scored_is_noticed(
    of_classes: Model, tmp_path: Path
) -> None:
    genome, variants = tmp_path / "g.fa", tmp_path / "v.csv"
    letters = random_sequence(300, 5)
    genome.write_text(f">1\n{letters}\n")
    variants.write_text(f"chrom,pos,ref,alt\n1,150,{letters[149]},{'A' if letters[149] != 'A' else 'C'}\n")
    with GenomeFile(genome) as opened:
        score_variants(of_classes, variants, opened, window=40)
        genome.write_text(f">1\n{random_sequence(300, 6)}\n")
        os.utime(genome, (1, 1))
        with pytest.raises(InputError, match="changed while it was read"):
            score_variants(of_classes, variants, opened, window=40)
