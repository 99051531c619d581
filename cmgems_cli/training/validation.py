"""Validation perplexity on a fixed sample with fixed masks, and its unigram baseline.

The sample, its masks and its corruption are drawn once from the seed and never change, so that values
before and after a switch of strategy are comparable (method, section 4).
"""

from __future__ import annotations

import math

import numpy as np

from cmgems_cli import draws
from cmgems_cli.errors import CmgemsError, UsageError
from cmgems_cli.genome.corpus import Corpus
from cmgems_cli.genome.vocabulary import vocabulary_size
from cmgems_cli.training.engine import Engine
from cmgems_cli.training.pretrain_batches import Step
from cmgems_cli.training.sequence_order import training_order

# ours: 20,000 sequences are about 7.7 M tokens, some 1,900 per 6-mer.
UNIGRAM_SEQUENCES = 20_000


def validation_sample(corpus: Corpus, n_sequences: int, seed: int) -> np.ndarray:
    """Draw up to `n_sequences` validation sequences.

    Returns
    -------
    int64, shape (n,), ascending
        Rows of `corpus.windows`.
    """
    stream = np.uint64(draws.key(seed, draws.VALIDATION_SAMPLE, 0, 0))
    count = min(n_sequences, corpus.n_valid)
    drawn = [corpus.n_train + int(draws.permuted(i, corpus.n_valid, stream)) for i in range(count)]
    return np.sort(np.asarray(drawn, dtype=np.int64))


def perplexity(engine: Engine, sample: Step) -> float:
    """Return exp(mean loss over the masked tokens of the sample); the same on every process.

    Raises
    ------
    CmgemsError
        If the loss is not a number.
    """
    loss = engine.processes.all_reduce_sum(engine.loss_sum(sample.batches), after_long_work=True).item()
    if math.isnan(loss):
        raise CmgemsError(
            "the validation loss became nan; lower `learning_rate` and start again with `resume=False`"
        )
    # Finite for any float64 loss: a diverged model is reported and raises no error.
    return math.exp(min(loss / max(1, sample.n_targets), 700.0))


def unigram_perplexity(corpus: Corpus, sample: Step, seed: int) -> float:
    """Return the sample's perplexity under token frequencies alone.

    Frequencies come from the first sequences of the training stream, with one added to every count so that
    no token has probability 0. A model near or above this value has learnt nothing from context.

    Raises
    ------
    UsageError
        If no token of the sample is masked.
    """
    if not len(sample.labels):
        raise UsageError("no token of the validation sequences is masked; raise `eval_sequences`")
    count = min(UNIGRAM_SEQUENCES, corpus.n_train)
    sequence_indices, _ = training_order(0, count, corpus.n_train, seed)
    token_ids, _ = corpus.token_ids(sequence_indices)
    counts = np.bincount(token_ids, minlength=vocabulary_size(corpus.k)) + 1.0
    log_frequencies = np.log(counts / counts.sum())
    return math.exp(-float(log_frequencies[sample.labels].mean()))
