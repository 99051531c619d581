"""What the outputs of a head mean: the loss they are trained by, and the predictions made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cmgems_cli.metrics import Problem

# Names of transformers in config.json, from which its stock classes choose a loss.
TYPES: dict[Problem, str] = {
    "binary": "single_label_classification",
    "multiclass": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}
# Where config.json has the mean and the standard deviation of a regression's targets in train.
MEAN_KEY, SCALE_KEY = "cmgems_target_mean", "cmgems_target_scale"

# A label that no loss is taken of: of classes torch's default, written out since batches are filled with it.
NO_LABEL = -100


@dataclass(frozen=True)
class Outputs:
    """How logits are read.

    Attributes
    ----------
    problem : str
    mean, scale : float
        A regression predicts (value - mean) / scale.
    """

    problem: Problem = "multiclass"
    mean: float = 0.0
    scale: float = 1.0

    def loss(self, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """Return the sum of the losses of rows.

        With class weights of mean 1 over the training rows, this sum divided by the number of rows is a mean, and
        unlike the quotient by the sum of the weights it does not depend on how rows are put into micro-batches.

        Cross-entropy of classes, the mean over labels of their binary cross-entropies (nats), or the squared error
        of standardised values.

        Parameters
        ----------
        logits : floating, shape (b, n_labels)
        labels : shape (b,), or (b, n_labels) of several labels per row
            As of `standardised`. `NO_LABEL`, or NaN of values, counts nothing: where all are, the loss is a zero that
            still reaches every parameter.
        class_weights : floating, shape (n_labels,), optional
            Of classes: factors of the losses of each class's rows.

        Returns
        -------
        scalar, in the type of the logits
        """
        if self.problem == "multilabel":
            known = labels != NO_LABEL
            each = functional.binary_cross_entropy_with_logits(
                logits, labels.clamp(min=0).to(logits), reduction="none"
            )
            return (each * known).mean(1).sum()
        if self.problem == "regression":
            error = logits[:, 0] - labels.nan_to_num(0).to(logits)
            return (error.square() * ~labels.isnan()).sum()
        weights = None if class_weights is None else class_weights.to(logits)
        return functional.cross_entropy(logits, labels, weights, reduction="sum", ignore_index=NO_LABEL)

    def predictions(self, logits: Tensor) -> Tensor:
        """Return float64 probabilities of classes or labels, or values in their own unit.

        Parameters
        ----------
        logits : floating, shape (b, n_labels)

        Returns
        -------
        float64, shape (b, n_labels)
        """
        if self.problem == "multilabel":
            return logits.double().sigmoid()
        if self.problem == "regression":
            return logits.double() * self.scale + self.mean
        return logits.double().softmax(1)

    def standardised(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Return labels as `loss` takes them: int64 as they are, of shape (n_rows,) or (n_rows, n_labels).

        Those of a regression are float32, shape (n_rows,), with the mean 0 and the variance 1 in train.
        """
        if self.problem != "regression":
            return labels
        return ((labels - self.mean) / self.scale).astype(np.float32)

    def settings(self) -> dict[str, Any]:
        """Return what config.json says of the outputs."""
        scaling = {MEAN_KEY: self.mean, SCALE_KEY: self.scale} if self.problem == "regression" else {}
        return {"problem_type": TYPES[self.problem], **scaling}


def outputs_of(settings: Mapping[str, Any], n_labels: int) -> Outputs:
    """Return how the outputs of a model folder are read, from the settings of its config.json.

    Without a problem type, as in many published folders, one output is a value and several are classes.

    Raises
    ------
    ValueError
        If the settings contradict each other or the number of outputs.
    """
    named = settings.get("problem_type") or TYPES["regression" if n_labels == 1 else "multiclass"]
    if named == TYPES["regression"]:
        mean, scale = settings.get(MEAN_KEY, 0.0), settings.get(SCALE_KEY, 1.0)
        if n_labels != 1 or not all(isinstance(one, int | float) for one in (mean, scale)):
            raise ValueError(f"a regression of {n_labels} outputs with mean {mean!r} and scale {scale!r}")
        return Outputs("regression", float(mean), float(scale))
    if named == TYPES["multilabel"]:
        return Outputs("multilabel")
    if named != TYPES["multiclass"] or n_labels < 2:
        raise ValueError(f"problem_type {named!r} with {n_labels} outputs")
    return Outputs("binary" if n_labels == 2 else "multiclass")


def outputs_for(problem: Problem, labels: NDArray[Any]) -> Outputs:
    """Return how the outputs of a new head are read.

    Parameters
    ----------
    problem : str
    labels : int64 or float64, shape (n_rows,), or int64, shape (n_rows, n_labels)
        Of train.
    """
    if problem != "regression":
        return Outputs(problem)
    return Outputs(problem, float(labels.mean()), float(labels.std()))


def no_labels(like: Tensor) -> Tensor:
    """Return labels that no loss is taken of, of the same shape and dtype: int64 or floating."""
    return torch.full_like(like, torch.nan if like.is_floating_point() else NO_LABEL)
