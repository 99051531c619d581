"""Score variants in blocks, in input order and in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import UsageError
from cmgems_cli.genome.random_access import GenomeFile
from cmgems_cli.inference.loading import BATCHES_AHEAD, Model, load_model
from cmgems_cli.modeling.folder import CONFIG, read_settings
from cmgems_cli.variants.alleles import Allele, AlleleFinder, Reason
from cmgems_cli.variants.chain_scores import ChainScorer
from cmgems_cli.variants.classifier_scores import ClassifierScorer
from cmgems_cli.variants.composition import composition_score
from cmgems_cli.variants.scorers import Pending, Scorer
from cmgems_cli.variants.survey import alleles_of, check_scored
from cmgems_cli.variants.variant_files import VariantFile, VariantRecord
from cmgems_cli.variants.variant_options import VariantOptions

# ours: of models with tokens of their own, whose longest input in bases is not known; enough for the field's tasks.
WINDOW_OF_OWN_TOKENS = 512


@dataclass(frozen=True, eq=False)
class ScoredBlock:
    """Consecutive records with the scores of their alleles.

    Attributes
    ----------
    records : list of VariantRecord
    alts : list of str or None, length n
        The alternative alleles of all records; None for a record without any.
    reasons : list of str or None, length n
        Why an allele has no score.
    scores : float64, shape (n, n_columns)
        NaN for alleles without a score.
    composition : float64, shape (n,), nats
        The control; NaN likewise.
    """

    records: list[VariantRecord]
    alts: list[str | None]
    reasons: list[Reason | None]
    scores: NDArray[np.float64]
    composition: NDArray[np.float64]


@dataclass
class VariantTally:
    """Counts of the variants scored so far; JSON values, so that a resumed run continues them.

    Attributes
    ----------
    records, alleles, scored : int
    reasons : dict, reason -> int
        Alleles without a score.
    sums : list of five floats
        Of the first score and the control over scored alleles: s, c, s², c², s × c.
    """

    records: int = 0
    alleles: int = 0
    scored: int = 0
    reasons: dict[Reason, int] = field(default_factory=dict)
    sums: list[float] = field(default_factory=lambda: [0.0] * 5)

    def add(self, block: ScoredBlock) -> None:
        """Count the alleles of a block."""
        self.records += len(block.records)
        self.alleles += len(block.alts)
        for reason in block.reasons:
            if reason is not None:
                self.reasons[reason] = self.reasons.get(reason, 0) + 1
        has = ~np.isnan(block.composition)
        self.scored += int(has.sum())
        s, c = block.scores[has, 0], block.composition[has]
        new = (s.sum(), c.sum(), s @ s, c @ c, s @ c)
        self.sums = [float(old + more) for old, more in zip(self.sums, new, strict=True)]

    @property
    def correlation(self) -> float | None:
        """Pearson's r of the first score with the control; None if either does not vary."""
        n, (s, c, ss, cc, sc) = self.scored, self.sums
        if n < 2:
            return None
        spread_s, spread_c = ss - s * s / n, cc - c * c / n
        # Rounding leaves a remainder where nothing varies.
        if spread_s <= 1e-12 * ss or spread_c <= 1e-12 * cc:
            return None
        return float((sc - s * c / n) / np.sqrt(spread_s * spread_c))


def load_scorer(
    folder: Path,
    options: VariantOptions,
    *,
    device: str = "auto",
    precision: str = "fp32",
    max_batch_tokens: int | None = None,
) -> Scorer:
    """Load a classifier, or a masked language model of overlapping k-mers, with how it scores variants.

    Parameters
    ----------
    folder : Path
    options : VariantOptions
    device, precision, max_batch_tokens
        As in `loading.load_model`.

    Raises
    ------
    InputError, UsageError
        As for `load_model` and `scorer_of`.
    """
    model = load_model(
        folder,
        classes=_says_classes(folder),
        device=device,
        precision=precision,
        max_batch_tokens=max_batch_tokens,
    )
    return scorer_of(model, options)


def _says_classes(folder: Path) -> bool:
    """Return whether the config.json of a folder, which may have no manifest, is that of a classifier."""
    settings = read_settings(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    return "problem_type" in settings or "ForSequenceClassification" in str(settings.get("architectures"))


def scorer_of(model: Model, options: VariantOptions) -> Scorer:
    """Return how a model scores variants: by its classes if it has some, else by masked chains.

    Raises
    ------
    UsageError
        If an option is out of range, or the model lacks the class.
    InputError
        As `ChainScorer`.
    """
    options.check()
    if model.classifier is not None:
        return ClassifierScorer(model, options.label)
    if options.label is not None:
        raise UsageError(
            f"`label={options.label}` was given, but {model.folder} has no classes; leave it out, or give a classifier"
        )
    return ChainScorer(model)


def finder_of(scorer: Scorer, genome: GenomeFile, options: VariantOptions) -> AlleleFinder:
    """Return what cuts the windows of a scorer from a genome.

    Raises
    ------
    UsageError
        If the window is too short for a base and its surroundings, or longer than the model reads.
    """
    model = scorer.model
    longest = model.tokenization.most_bases(model.max_tokens)
    window = options.window
    if window is None:
        # A token has a base at least, so that these always fit.
        window = min(WINDOW_OF_OWN_TOKENS, model.max_tokens)
        if model.k is not None:
            trained = model.trained_tokens
            window = min(longest, model.tokenization.most_bases(trained)) if trained else longest
    shortest = 2 * scorer.min_flank + 1
    if not shortest <= window <= longest:
        raise UsageError(
            f"`window={window}` does not fit the model: needed {shortest} to {longest:,} bases, since it reads"
            f" {model.tokenization.unit}"
        )
    return AlleleFinder(genome, window, options.max_allele, scorer.min_flank, scorer.indels)


def block_alleles(scorer: Scorer, window: int) -> int:
    """Return how many alleles to score at a time: enough to fill some micro-batches."""
    model = scorer.model
    tokens = model.tokenization.fewest_tokens(window) + model.tokenization.specials.positions
    return max(1, BATCHES_AHEAD * model.max_batch_tokens // (scorer.rows_per_allele * tokens))


def score_records(
    scorer: Scorer, finder: AlleleFinder, records: Iterable[VariantRecord], *, skip: int = 0
) -> Iterator[ScoredBlock]:
    """Score variants.

    Parameters
    ----------
    scorer : Scorer
    finder : AlleleFinder
    records : iterable of VariantRecord
    skip : int, default 0
        Number of blocks that an earlier run wrote.

    Yields
    ------
    ScoredBlock
        In order. When it is yielded, the computation of the next block has already started.

    Raises
    ------
    InputError
        As for `AlleleFinder.find`, `Model.check_finite` and `GenomeFile.check_unchanged`.
    """
    before: tuple[ScoredBlock, Pending] | None = None
    for block in islice(_blocks(records, block_alleles(scorer, finder.window)), skip, None):
        # On CUDA this returns at once: the previous block is read and written while this one is computed.
        begun = _begin(scorer, finder, block)
        if before is not None:
            yield _finished(*before)
        before = begun
    if before is not None:
        yield _finished(*before)
    finder.genome.check_unchanged()


def _blocks(records: Iterable[VariantRecord], alleles: int) -> Iterator[list[VariantRecord]]:
    waiting: list[VariantRecord] = []
    n = 0
    for record in records:
        waiting.append(record)
        n += record.n_rows
        if n >= alleles:
            yield waiting
            waiting, n = [], 0
    if waiting:
        yield waiting


def _begin(scorer: Scorer, finder: AlleleFinder, records: list[VariantRecord]) -> tuple[ScoredBlock, Pending]:
    found = [pair for record in records for pair in alleles_of(record, finder)]
    alleles = [one for _, one in found if isinstance(one, Allele)]
    composition = np.array(
        [composition_score(one) if isinstance(one, Allele) else np.nan for _, one in found]
    )
    reasons: list[Reason | None] = [None if isinstance(one, Allele) else one for _, one in found]
    scores = np.full((len(found), len(scorer.columns)), np.nan)
    block = ScoredBlock(records, [alt for alt, _ in found], reasons, scores, composition)
    return block, scorer.begin(alleles) if alleles else lambda: np.zeros((0, len(scorer.columns)))


def _finished(block: ScoredBlock, pending: Pending) -> ScoredBlock:
    block.scores[~np.isnan(block.composition)] = pending()
    return block


def write_scores(
    scorer: Scorer,
    finder: AlleleFinder,
    file: VariantFile,
    write: Callable[[ScoredBlock], None],
    *,
    before: tuple[int, dict[str, Any]] | None = None,
    block_done: Callable[[dict[str, Any]], None] = lambda tally: None,
    advance: Callable[[float], None] = lambda alleles: None,
) -> VariantTally:
    """Score all variants of a file and write them in input order.

    Parameters
    ----------
    scorer : Scorer
    finder : AlleleFinder
    file : VariantFile
    write : callable
        Called with each block.
    before : (int, dict), optional
        Number of blocks that an earlier run wrote, and its tally.
    block_done : callable, optional
        Called after each block with the tally so far, as JSON values.
    advance : callable, optional
        Called with the number of alleles newly written.

    Returns
    -------
    VariantTally

    Raises
    ------
    InputError
        As for `VariantFile.records` and `score_records`; if no allele has a score.
    """
    skip, counted = before or (0, {})
    tally = VariantTally(**counted)
    for block in score_records(scorer, finder, file.records(), skip=skip):
        write(block)
        tally.add(block)
        block_done(vars(tally))
        advance(len(block.alts))
    check_scored(file.name, tally.alleles, tally.reasons, {})
    return tally
