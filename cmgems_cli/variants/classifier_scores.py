"""Scores of a classifier: how far the alternative allele moves the log-odds of a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import UsageError
from cmgems_cli.inference.loading import Model
from cmgems_cli.inference.log_odds import log_odds_of
from cmgems_cli.inference.prediction import logits_of_strand
from cmgems_cli.variants.alleles import Allele
from cmgems_cli.variants.scorers import Column, Pending, Scorer
from cmgems_cli.variants.window_rows import rows_of_windows


class ClassifierScorer(Scorer):
    """The change in the log-odds of a class, alternative minus reference, averaged over both strands.

    Parameters
    ----------
    model : Model
        A classifier.
    label : str or None
        The class; None: of two classes the second, of more every one.

    Raises
    ------
    UsageError
        If the model has no such class.
    """

    indels = True
    rows_per_allele = 4

    def __init__(self, model: Model, label: str | None = None) -> None:
        model.check_one_class()
        names = model.label_names
        if label is not None and label not in names:
            raise UsageError(f"`label={label}` is not a class of {model.folder}; choose {', '.join(names)}")
        self.model = model
        self.labels = [names.index(label)] if label is not None else list(range(len(names)))
        if label is None and len(names) == 2:
            self.labels = [1]
        self.columns = [
            Column(
                f"log_odds_change_{names[number]}",
                f"Log-odds of class {names[number]} with the alternative allele minus those with the reference, mean"
                " of both strands, nats",
            )
            for number in self.labels
        ]
        # With either allele a window has a token.
        self.min_flank = (model.tokenization.min_bases + 1) // 2

    def begin(self, alleles: Sequence[Allele]) -> Pending:
        # Alleles of one place have one reference window, which is computed once.
        numbers: dict[bytes, int] = {}
        names: list[str] = []
        pairs = np.zeros((len(alleles), 2), np.int64)
        for row, allele in enumerate(alleles):
            for side, window in enumerate((allele.ref_window, allele.alt_window)):
                if window not in numbers:
                    numbers[window] = len(numbers)
                    names.append(f"{allele.contig}:{allele.start + 1}")
                pairs[row, side] = numbers[window]
        block = rows_of_windows(self.model, list(numbers), names)
        averages = self.model.module.averages_strands
        logits = logits_of_strand(self.model, block)

        def finish() -> NDArray[np.float64]:
            on_cpu = logits.cpu().double().numpy()
            self.model.check_finite(block, np.isfinite(on_cpu).all(1))
            by_strand = on_cpu.reshape(2, len(numbers), -1)
            if averages:
                # As the classifier itself reads both strands.
                by_strand = by_strand.mean(0, keepdims=True)
            log_odds = np.stack([log_odds_of(by_strand, label) for label in self.labels], -1).mean(0)
            change: NDArray[np.float64] = log_odds[pairs[:, 1]] - log_odds[pairs[:, 0]]
            return change

        return finish
