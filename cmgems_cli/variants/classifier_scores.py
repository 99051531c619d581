"""Scores of a classifier: how far the alternative allele moves the log-odds of a class or label, or the value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.inference.loading import Model
from cmgems_cli.inference.prediction import logits_of_strand
from cmgems_cli.inference.quantity import Quantity
from cmgems_cli.variants.alleles import Allele
from cmgems_cli.variants.scorers import Column, Pending, Scorer
from cmgems_cli.variants.window_rows import rows_of_windows


def _capital(words: str) -> str:
    # Not `str.capitalize`, which would change the name of a class.
    return words[:1].upper() + words[1:]


class ClassifierScorer(Scorer):
    """The change in log-odds or in the predicted value, alternative minus reference, averaged over both strands.

    Parameters
    ----------
    model : Model
        A classifier.
    label : str or None
        The class or label; None: of two classes the second, else every one.

    Raises
    ------
    UsageError
        If the model has no such class or label.
    """

    indels = True
    rows_per_allele = 4

    def __init__(self, model: Model, label: str | None = None) -> None:
        self.model = model
        self.quantity = quantity = Quantity.of_model(model)
        number = quantity.obvious if label is None else quantity.target.number_of(label)
        self.labels = list(range(len(quantity.names))) if number is None else [number]
        self.columns = [
            Column(
                f"{quantity.column}_change" + ("" if quantity.is_value else f"_{quantity.names[number]}"),
                f"{_capital(quantity.words_of(number))} with the alternative allele minus that with the reference,"
                f" mean of both strands, {quantity.unit}",
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
            values = np.stack([self.quantity.of(by_strand, label) for label in self.labels], -1).mean(0)
            change: NDArray[np.float64] = values[pairs[:, 1]] - values[pairs[:, 0]]
            return change

        return finish
