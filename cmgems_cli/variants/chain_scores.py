"""Zero-shot scores of a masked language model of overlapping k-mers: log-likelihood ratios of consistent chains.

A base is part of k overlapping k-mers, so that any k-mer which contains it gives it away. All of them are replaced by
[MASK], the model is run once, and each of the four letters is scored by its *chain*: the k k-mers that the masked
positions hold if the letter is there and all other bases are as they are. With P_j for the distribution over k-mers
that the model predicts at masked position j, and kmer_j(x) for the k-mer there in the chain of x,

    S(x) = sum over j of log P_j(kmer_j(x))          llr = S(alt) - S(ref)

Taken together, the k predictions are a distribution over sequences of k k-mers, most of which contradict each other or
the bases around them. Given that they do not, the probability of x is exp S(x) / sum over the four letters of exp S(y):
the model's own distribution over consistent chains. Substitutions of m adjacent bases have k + m - 1 masked positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmgems_cli.errors import InputError
from cmgems_cli.genome.codec import encode_sequences, offsets_of
from cmgems_cli.genome.vocabulary import MASK
from cmgems_cli.inference.loading import Model, TokenBatch
from cmgems_cli.inference.row_blocks import Block
from cmgems_cli.modeling.encoder import states_at
from cmgems_cli.modeling.masked_lm import load_masked_lm
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.variants.alleles import Allele
from cmgems_cli.variants.scorers import Column, Pending, Scorer
from cmgems_cli.variants.window_rows import both_strands, rows_of_windows

LETTERS = b"ACGT"

# ours: maximum size of the logits of a batch's masked positions, which a batch of short windows has many of.
_LOGITS_AT_A_TIME = 1 << 25


class ChainScorer(Scorer):
    """The log-likelihood ratio of the alternative's chain to the reference's, averaged over both strands.

    Parameters
    ----------
    model : Model
        Of overlapping k-mers, from a folder with a masked-LM head.

    Raises
    ------
    InputError
        If the model has tokens of its own, or its folder lacks the head.
    """

    # A masked model gives no probability to a number of bases: it is given the number of masked positions.
    indels = False
    rows_per_allele = 2

    def __init__(self, model: Model) -> None:
        if model.k is None:
            raise InputError(
                f"{model.folder} has tokens of its own, whose number and borders an allele may change; zero-shot scores"
                " need a masked language model of overlapping k-mers: fine-tune it with `cmgems finetune` and score"
                " variants with the classifier"
            )
        self.model, self.k = model, model.k
        masked_lm, _ = load_masked_lm(ModelSource.of_folder(model.folder))
        # The encoder is already there.
        self._head = masked_lm.cls.to(model.device).eval()
        # A window keeps a k-mer on either side of the masked ones.
        self.min_flank = model.k
        self.columns = [
            Column(
                "llr",
                "Log-likelihood ratio of the alternative to the reference allele: consistent chains of masked"
                f" {model.k}-mers, mean of both strands, nats",
            ),
            Column(
                "p_ref",
                "Probability of the reference base among the four consistent chains; single bases only",
            ),
            Column(
                "p_alt",
                "Probability of the alternative base among the four consistent chains; single bases only",
            ),
        ]

    def begin(self, alleles: Sequence[Allele]) -> Pending:
        units, pairs = _units(alleles)
        names = [f"{allele.contig}:{allele.start + 1}" for allele, _ in units]
        block = rows_of_windows(self.model, [allele.ref_window for allele, _ in units], names)
        # Flanks are equally long: the masked positions are the same on both strands.
        flanks = np.array([len(allele.left) for allele, _ in units] * 2, np.int64)
        n_masked = np.array([len(allele.ref) + self.k - 1 for allele, _ in units] * 2, np.int64)
        first_masked = flanks - (self.k - 1)
        at = _ranges(block.first + first_masked, n_masked)
        block.token_ids[at] = MASK
        wanted = self._chains(units)
        sums = self._sums(block, first_masked, n_masked, wanted)

        def finish() -> NDArray[np.float64]:
            chains = sums.cpu().numpy()
            self.model.check_finite(block, np.isfinite(chains).all(1))
            # Mean of both strands: float64, shape (units, 4).
            chains = chains.reshape(2, len(units), len(LETTERS)).mean(0)
            unit, ref, alt = pairs.T
            scores = np.full((len(alleles), 3), np.nan)
            scores[:, 0] = chains[unit, alt] - chains[unit, ref]
            single = np.array([len(allele.ref) == 1 for allele in alleles], bool)
            log_p = chains - np.logaddexp.reduce(chains, axis=1, keepdims=True)
            scores[single, 1] = np.exp(log_p[unit, ref])[single]
            scores[single, 2] = np.exp(log_p[unit, alt])[single]
            return scores

        return finish

    def _chains(self, units: list[tuple[Allele, list[bytes]]]) -> Tensor:
        """Return the tokens of the chains at all masked positions, row by row: int64, shape (positions, 4)."""
        k = self.k
        segments = [
            allele.left[len(allele.left) - k + 1 :] + letters + allele.right[: k - 1]
            for allele, chains in units
            for letters in chains
        ]
        token_ids, offsets = encode_sequences(*both_strands(segments), k)
        lengths = np.diff(offsets)[:: len(LETTERS)]
        tokens = [
            token_ids[start : start + len(LETTERS) * n].reshape(len(LETTERS), n).T
            for start, n in zip(offsets[: -1 : len(LETTERS)].tolist(), lengths.tolist(), strict=True)
        ]
        joined = np.concatenate(tokens).astype(np.int64) if tokens else np.zeros((0, 4), np.int64)
        return torch.from_numpy(joined).to(self.model.device)

    def _sums(
        self, block: Block, first_masked: NDArray[np.int64], n_masked: NDArray[np.int64], wanted: Tensor
    ) -> Tensor:
        """Return S of the four chains of each row: float64, shape (rows, 4), on the model's device."""
        model = self.model
        bert = model.module.encoder
        prefix = len(model.tokenization.specials.prefix)
        starts = offsets_of(n_masked)[:-1]
        sums = torch.zeros((len(block), len(LETTERS)), dtype=torch.float64, device=model.device)

        def compute(batch: TokenBatch) -> None:
            rows = batch.rows.cpu().numpy()
            width, counts = batch.input_ids.shape[1], n_masked[rows]
            index = _ranges(np.arange(len(rows)) * width + prefix + first_masked[rows], counts)
            position = torch.from_numpy(_ranges(starts[rows], counts)).to(model.device)
            row = torch.from_numpy(np.repeat(rows, counts)).to(model.device)
            states = states_at(
                bert, batch.input_ids, batch.attention_mask, torch.from_numpy(index).to(model.device)
            )
            step = max(1, _LOGITS_AT_A_TIME // bert.config.vocab_size)
            for first in range(0, len(index), step):
                part = slice(first, first + step)
                log_p = self._head(states[part]).float().log_softmax(1)
                sums.index_add_(0, row[part], log_p.gather(1, wanted[position[part]]).double())

        model.over(block, compute)
        return sums


def _units(
    alleles: Sequence[Allele],
) -> tuple[list[tuple[Allele, list[bytes]]], NDArray[np.int64]]:
    """Return what is computed once, with its four chains; and for each allele the unit and two of its chains.

    All substitutions of one base share their masked window. Of several bases the chains are those of the two alleles,
    twice.
    """
    units: list[tuple[Allele, list[bytes]]] = []
    numbers: dict[tuple[bytes, ...], int] = {}
    pairs = np.zeros((len(alleles), 3), np.int64)
    for row, allele in enumerate(alleles):
        single = len(allele.ref) == 1
        key = (allele.left, allele.right, *(() if single else (allele.ref, allele.alt)))
        if key not in numbers:
            numbers[key] = len(units)
            chains = [LETTERS[i : i + 1] for i in range(4)] if single else 2 * [allele.ref, allele.alt]
            units.append((allele, chains))
        chains = units[numbers[key]][1]
        pairs[row] = numbers[key], chains.index(allele.ref), chains.index(allele.alt)
    return units, pairs


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return starts[0], starts[0] + 1, … (counts[0] numbers), starts[1], …: int64, shape (total,)."""
    ends = np.cumsum(counts)
    within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)
    numbers: NDArray[np.int64] = np.repeat(starts, counts) + within
    return numbers
