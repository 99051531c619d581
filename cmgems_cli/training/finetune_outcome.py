"""What a fine-tuning run found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.modeling.classifier import SequenceClassifier


@dataclass(frozen=True, eq=False)
class FinetuneOutcome:
    """The result of a fine-tuning run: the selected model, tested once.

    Attributes
    ----------
    labels, probabilities : arrays of n_test rows
        As in `metrics.score`.
    label_names : tuple of str
        The classes by number.
    module : SequenceClassifier
        With the weights that were tested.
    stats : dict
        For the manifest, scores not included.
    loss : float
        Mean loss of these rows, not weighted by class.
    """

    labels: NDArray[Any]
    probabilities: NDArray[np.float64]
    label_names: tuple[str, ...]
    module: SequenceClassifier
    stats: dict[str, Any]
    loss: float
