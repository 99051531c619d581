"""What a change of a sequence moves: the log-odds of a class or of a label, or a predicted value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cmgems_cli.datasets.targets import VALUE, Target
from cmgems_cli.inference.loading import Model
from cmgems_cli.modeling.head_outputs import Outputs


@dataclass(frozen=True)
class Quantity:
    """A number per class or label, or one value, made of a classifier's logits.

    Attributes
    ----------
    target : Target
    outputs : Outputs
        What the logits mean.
    """

    target: Target
    outputs: Outputs

    @classmethod
    def of_model(cls, model: Model) -> Quantity:
        """Return that of a classifier."""
        return cls(model.target, model.module.outputs)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes or labels; of a regression `VALUE` alone."""
        return self.target.names

    @property
    def is_value(self) -> bool:
        """Whether it is a predicted value, whose unit is that of the training data."""
        return self.target.problem == "regression"

    @property
    def column(self) -> str:
        """Name in tables: log_odds or value."""
        return VALUE if self.is_value else "log_odds"

    @property
    def words(self) -> str:
        """Name in headings: log-odds or predicted value."""
        return "predicted value" if self.is_value else "log-odds"

    @property
    def unit(self) -> str:
        """Its unit in words: nats, or that of the value."""
        return "in the unit of the value" if self.is_value else "nats"

    @property
    def described(self) -> str:
        """What a number is, in one line: log-odds of the class, nats."""
        of = "" if self.is_value else f" of the {self.target.member}"
        return f"{self.words}{of}, {self.unit}"

    def words_of(self, label: int) -> str:
        """Return `words` with the name: log-odds of class NAME."""
        return self.words if self.is_value else f"{self.words} of {self.target.member} {self.names[label]}"

    @property
    def obvious(self) -> int | None:
        """The number to follow if none is named: the second of two classes, or the value; None if there are several."""
        if self.is_value:
            return 0
        return 1 if len(self.names) == 2 and self.target.problem != "multilabel" else None

    def of(self, logits: NDArray[np.floating], label: int) -> NDArray[np.float64]:
        """Return log p / (1 - p) of a class or label, or the value.

        Parameters
        ----------
        logits : floating, shape (..., n_labels)
        label : int
            Number of the class or label.

        Returns
        -------
        float64, shape (...), nats or in the unit of the value
            NaN where a logit is.
        """
        wide = logits.astype(np.float64)
        own: NDArray[np.float64] = wide[..., label]
        if self.is_value:
            return own * self.outputs.scale + self.outputs.mean
        if self.target.problem == "multilabel":
            return own
        with np.errstate(invalid="ignore"):
            others: NDArray[np.float64] = np.logaddexp.reduce(np.delete(wide, label, -1), axis=-1)
        return own - others

    def most_probable(self, logits: NDArray[np.float32]) -> int:
        """Return the number of the class or label with the highest mean probability.

        Parameters
        ----------
        logits : float32, shape (n, n_labels)
            Finite.
        """
        return int(self.outputs.predictions(torch.from_numpy(logits)).mean(0).argmax())
