"""The Python API of `score-variants`: the same scores as the command's, as arrays or as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import InputError
from cmgems_cli.frames import Tabular
from cmgems_cli.genome.random_access import GenomeFile
from cmgems_cli.inference.loading import Model
from cmgems_cli.variants.scoring import finder_of, score_records, scorer_of
from cmgems_cli.variants.survey import check_scored
from cmgems_cli.variants.variant_files import VariantFile, VariantRecord, variant_record
from cmgems_cli.variants.variant_options import VariantOptions

# A file, or (chrom, pos, ref, alt) of each variant, with the position counted from 1.
Variants = str | Path | Iterable[tuple[str, int, str, str]]


@dataclass(frozen=True, eq=False, repr=False)
class VariantScores(Tabular):
    """The scores of variants, one row per alternative allele, in input order.

    Attributes
    ----------
    chroms, ids, refs, alts : list of str or None, length n
        As in the input; None for what it lacks.
    positions : int64, shape (n,), bases
        1-based, as in VCF.
    score_names : tuple of str
        Names of the columns of `scores`.
    scores : float64, shape (n, n_columns)
        Nats, probabilities, or changes of a predicted value.
        NaN for alleles without a score.
    composition : float64, shape (n,), nats
        The control: what base composition alone would give; NaN likewise.
    reasons : list of str or None, length n
        Why an allele has no score.
    """

    chroms: list[str]
    positions: NDArray[np.int64]
    ids: list[str | None]
    refs: list[str]
    alts: list[str | None]
    score_names: tuple[str, ...]
    scores: NDArray[np.float64]
    composition: NDArray[np.float64]
    reasons: list[str | None]

    def __len__(self) -> int:
        return len(self.chroms)

    def columns(self) -> dict[str, Any]:
        """Return a table by columns: chrom, pos, id, ref, alt, the scores, composition and reason."""
        return {
            "chrom": self.chroms,
            "pos": self.positions,
            "id": self.ids,
            "ref": self.refs,
            "alt": self.alts,
            **dict(zip(self.score_names, self.scores.T, strict=True)),
            "composition": self.composition,
            "reason": self.reasons,
        }

    def _summary(self) -> str:
        scored = sum(reason is None for reason in self.reasons)
        return f"{len(self):,} alleles, {scored:,} with {', '.join(self.score_names)}"


def score_variants(
    model: Model,
    variants: Variants,
    genome: str | Path | GenomeFile,
    *,
    window: int | None = None,
    label: str | None = None,
    max_allele: int = 50,
) -> VariantScores:
    """Score variants by the change they make to a model's output.

    Parameters
    ----------
    model : Model
        A classifier, or a masked language model of overlapping k-mers, from `load_model`.
    variants : str or Path, or iterable of (str, int, str, str)
        A VCF or table as for `cmgems score-variants`; or chromosome, 1-based position, reference and alternative
        allele of each variant.
    genome : str, Path or GenomeFile
        The genome that the variants were called on, in FASTA.
    window : int, bases, optional
        Longest window around a variant; by default what the classifier was fine-tuned on, or the model reads.
    label : str, optional
        The class or label whose log-odds are followed; by default the second of two classes, else every one.
    max_allele : int, bases, default 50
        Longer alleles get no score.

    Returns
    -------
    VariantScores
        All in memory; for a large VCF use `cmgems score-variants`.

    Raises
    ------
    UsageError, InputError
        If an option does not fit the model, a file is wrong, or no allele can be scored.
    """
    if not isinstance(genome, GenomeFile):
        with GenomeFile(Path(genome)) as opened:
            return score_variants(model, variants, opened, window=window, label=label, max_allele=max_allele)
    options = VariantOptions(window, label, max_allele)
    scorer = scorer_of(model, options)
    finder = finder_of(scorer, genome, options)
    name, records = _records(variants)
    blocks = list(score_records(scorer, finder, records()))
    rows = [record for block in blocks for record in block.records for _ in range(record.n_rows)]
    reasons = [reason for block in blocks for reason in block.reasons]
    counts = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons) if reason is not None}
    check_scored(name, len(rows), counts, {})
    return VariantScores(
        [record.chrom for record in rows],
        np.array([record.position for record in rows], np.int64),
        [record.identifier for record in rows],
        [record.ref for record in rows],
        [alt for block in blocks for alt in block.alts],
        tuple(column.name for column in scorer.columns),
        np.concatenate([block.scores for block in blocks]),
        np.concatenate([block.composition for block in blocks]),
        list(reasons),
    )


def _records(variants: Variants) -> tuple[str, Callable[[], Iterator[VariantRecord]]]:
    """Return the name of the input, and a function that yields its records."""
    if isinstance(variants, str | Path):
        file = VariantFile(Path(variants))
        return file.name, file.records

    def listed() -> Iterator[VariantRecord]:
        for number, one in enumerate(variants, start=1):
            if len(one) != 4:
                raise InputError(
                    f"variant {number} has {len(one)} values; needed chromosome, position, reference, alternative"
                )
            chrom, position, ref, alt = map(str, one)
            yield variant_record(f"variant {number}", number, chrom, position, None, ref, alt, [])

    return "variants", listed
