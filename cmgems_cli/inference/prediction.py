"""Class probabilities, or values, of rows, in input order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmgems_cli.datasets.targets import VALUE, Target
from cmgems_cli.inference.loading import BATCHES_AHEAD, Model, TokenBatch
from cmgems_cli.inference.output_formats import TableWriter
from cmgems_cli.inference.places import PlaceColumns
from cmgems_cli.inference.row_blocks import Block
from cmgems_cli.inference.strands import reverse_complement_of
from cmgems_cli.inference.survey import Input
from cmgems_cli.metrics import THRESHOLD

# Same as in a classifier's predictions.csv.
DECIMALS = 6


@dataclass(frozen=True, eq=False)
class Predicted:
    """The predictions of a classifier for the rows of a block.

    Attributes
    ----------
    block : Block
    labels : list of str or None, length n
        The most probable class, or the labels from a probability of 0.5 up, as `Target.written`, or the value; None
        for a row without a known k-mer.
    counts : int64, shape (n_labels,)
        Rows of each label; of a regression, rows with a value.
    probabilities : float64, shape (n, n_labels)
        Of each class or label; of a regression the values. NaN for rows without a known k-mer.
    """

    block: Block
    labels: list[str | None]
    counts: NDArray[np.int64]
    probabilities: NDArray[np.float64]


class Sink(Protocol):
    """Where predictions go."""

    @property
    def hits(self) -> int | None:
        """Number of rows chosen so far; None if all are written."""

    def add(self, predicted: Predicted) -> None:
        """Take the rows of a block, and write what can be written."""

    def state(self) -> Any:
        """Return what a later run needs to continue from here, as JSON values; not None."""

    def finish(self) -> None:
        """Write what was held back."""


class TableSink:
    """Writes all rows as they are.

    Parameters
    ----------
    writer : TableWriter
        With the columns of `columns`.
    target : Target
        Of the model.
    where : PlaceColumns
    """

    hits = None

    def __init__(self, writer: TableWriter, target: Target, where: PlaceColumns) -> None:
        self._writer, self._target, self._where = writer, target, where

    def add(self, predicted: Predicted) -> None:
        """Write the rows of a block."""
        self._writer.write(rows_of(predicted, self._target, self._where))

    def state(self) -> Any:
        """Return an empty state."""
        return {}

    def finish(self) -> None:
        """Do nothing: everything is written."""


def write_predictions(
    model: Model,
    data: Input,
    sink: Sink,
    *,
    before: tuple[int, list[int]] | None = None,
    block_done: Callable[[Any], None] = lambda saved: None,
    advance: Callable[[float], None] = lambda rows: None,
) -> dict[str, int]:
    """Classify all rows of an input and write the predictions.

    Parameters
    ----------
    model : Model
        A classifier.
    data : Input
    sink : Sink
        Takes the predictions in input order.
    before : (int, list of int), optional
        Number of blocks that an earlier run wrote, and its number of rows per label.
    block_done : callable, optional
        Called after each block with the number of rows per label so far and the state of the sink, as a JSON
        value: {"counts": list of int, "sink": Any}.
    advance : callable, optional
        Called with the number of rows newly written or omitted.

    Returns
    -------
    dict, label -> int
        Number of rows per label.

    Raises
    ------
    InputError
        As for `Input.blocks`.
    """
    skip, counted = before or (0, [0] * len(model.label_names))
    counts = np.array(counted, np.int64)
    for predicted in predict_blocks(model, data.blocks(look_ahead_tokens(model), skip=skip)):
        sink.add(predicted)
        counts += predicted.counts
        block_done({"counts": counts.tolist(), "sink": sink.state()})
        advance(data.newly_done(len(predicted.block)))
    sink.finish()
    advance(data.newly_done(0))
    return dict(zip(model.label_names, counts.tolist(), strict=True))


def look_ahead_tokens(model: Model) -> int:
    """Return how many tokens of rows to hold in memory."""
    return BATCHES_AHEAD * model.max_batch_tokens


def predict_blocks(model: Model, blocks: Iterable[Block]) -> Iterator[Predicted]:
    """Classify the rows of blocks.

    Parameters
    ----------
    model : Model
        A classifier.
    blocks : iterable of Block

    Yields
    ------
    Predicted
        One per block, in order. When it is yielded, the computation of the next block has already started.

    Raises
    ------
    InputError
        As `Model.check_finite`.
    """
    before: tuple[Block, Tensor] | None = None
    for block in blocks:
        # On CUDA this returns at once: the previous block is read and written while this one is computed.
        logits = _logits(model, block)
        if before is not None:
            yield _predicted(model, *before)
        before = (block, logits)
    if before is not None:
        yield _predicted(model, *before)


def _logits(model: Model, block: Block) -> Tensor:
    """Return the logits of all rows: float32, shape (n, n_labels), on the model's device.

    The means of both strands if the classifier was made so.
    """
    assert model.classifier is not None
    logits = logits_of_strand(model, block)
    if not model.classifier.averages_strands:
        return logits
    other = reverse_complement_of(block, model.tokenization, model.max_tokens)
    return torch.stack([logits, logits_of_strand(model, other)]).mean(0)


def logits_of_strand(model: Model, block: Block) -> Tensor:
    """Return a classifier's logits of all rows as they are read: float32, shape (n, n_labels), on the model's device.

    NaN for rows without a known k-mer. On CUDA this returns before they are computed.
    """
    assert model.classifier is not None
    classifier = model.classifier
    logits = torch.full((len(block), len(model.label_names)), torch.nan, device=model.device)

    def compute(batch: TokenBatch) -> None:
        logits[batch.rows] = classifier.logits(batch.input_ids, batch.attention_mask)

    model.over(block, compute)
    return logits


def _predicted(model: Model, block: Block, logits: Tensor) -> Predicted:
    on_cpu = logits.cpu()
    model.check_finite(block, on_cpu.isfinite().all(1).numpy())
    assert model.classifier is not None
    target, probabilities = model.target, model.classifier.outputs.predictions(on_cpu).numpy()
    known = block.known > 0
    if target.problem == "multilabel":
        # NaN is below every threshold.
        present = probabilities >= THRESHOLD
        numbers, counts = present.tolist(), present.sum(0)
    elif target.problem == "regression":
        numbers, counts = probabilities[:, 0].tolist(), known.sum(keepdims=True)
    else:
        best = on_cpu.argmax(1).numpy()
        numbers, counts = best.tolist(), np.bincount(best[known], minlength=len(target.names))
    labels = [target.written(one) if is_known else None for one, is_known in zip(numbers, known, strict=True)]
    return Predicted(block, labels, counts, probabilities)


def columns(target: Target, where: PlaceColumns) -> list[str]:
    """Return the column names: those of places, label, and p_LABEL for each class or label; or value."""
    if target.problem == "regression":
        return [*where.names, VALUE]
    return [*where.names, "label", *(f"p_{name}" for name in target.names)]


def rows_of(predicted: Predicted, target: Target, where: PlaceColumns) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table with these `columns`; None for rows without a known k-mer.

    Probabilities are rounded to `DECIMALS`.
    """
    block = predicted.block
    if target.problem == "regression":
        values = [None if label is None else float(label) for label in predicted.labels]
        yield from zip(*where.cells(block), values, strict=True)
        return
    probabilities = [
        [None if value != value else round(value, DECIMALS) for value in column]
        for column in predicted.probabilities.T.tolist()
    ]
    yield from zip(*where.cells(block), predicted.labels, *probabilities, strict=True)
