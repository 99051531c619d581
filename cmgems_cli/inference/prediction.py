"""Class probabilities of rows, in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmgems_cli.inference.loading import BATCHES_AHEAD, Model, TokenBatch
from cmgems_cli.inference.output_formats import TableWriter
from cmgems_cli.inference.row_blocks import Block
from cmgems_cli.inference.survey import Input

# As in a classifier's predictions.csv.
DECIMALS = 6


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a classifier says of the rows of a block.

    Attributes
    ----------
    block : Block
    labels : int64, shape (n,)
        The most probable class; -1 for a row without a known k-mer.
    probabilities : float64, shape (n, n_labels)
        NaN for such a row: there is nothing to judge by.
    """

    block: Block
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


def write_predictions(
    model: Model,
    data: Input,
    writer: TableWriter,
    *,
    before: tuple[int, list[int]] | None = None,
    block_done: Callable[[list[int]], None] = lambda counts: None,
    advance: Callable[[float], None] = lambda rows: None,
) -> dict[str, int]:
    """Classify all rows of an input and write them down in their order.

    Parameters
    ----------
    model : Model
        With classes.
    data : Input
    writer : TableWriter
        With the columns of `columns`.
    before : (int, list of int), optional
        How many blocks an earlier run has written, and its rows of each label.
    block_done : callable, optional
        Told the rows of each label so far, after each block.
    advance : callable, optional
        Told the number of rows newly written or left out.

    Returns
    -------
    dict, label -> int
        Rows of each label.

    Raises
    ------
    InputError
        As `Input.blocks`.
    """
    windows = data.cutting.window is not None
    skip, counted = before or (0, [0] * len(model.label_names))
    counts = np.array(counted, np.int64)
    for predicted in predict_blocks(model, data.blocks(look_ahead_tokens(model), skip=skip)):
        writer.write(rows_of(predicted, model.label_names, windows=windows))
        answered = predicted.labels[predicted.labels >= 0]
        counts += np.bincount(answered, minlength=len(counts))
        block_done(counts.tolist())
        advance(data.newly_done(len(predicted.block)))
    advance(data.newly_done(0))
    return dict(zip(model.label_names, counts.tolist(), strict=True))


def look_ahead_tokens(model: Model) -> int:
    """Return how many tokens of rows to hold at a time."""
    return BATCHES_AHEAD * model.max_batch_tokens


def predict_blocks(model: Model, blocks: Iterable[Block]) -> Iterator[Predicted]:
    """Classify the rows of blocks.

    Parameters
    ----------
    model : Model
        With classes.
    blocks : iterable of Block

    Yields
    ------
    Predicted
        One a block, in order. The next block is already being computed when one is handed out.
    """
    before: tuple[Block, Tensor] | None = None
    for block in blocks:
        # On CUDA this returns at once: the last block is read back and written while this one is computed.
        logits = _logits(model, block)
        if before is not None:
            yield _predicted(*before)
        before = (block, logits)
    if before is not None:
        yield _predicted(*before)


def _logits(model: Model, block: Block) -> Tensor:
    """Return the logits of all rows: float32, shape (n, n_labels), on the model's device."""
    assert model.classifier is not None
    classifier = model.classifier
    logits = torch.full((len(block), len(model.label_names)), torch.nan, device=model.device)

    def compute(batch: TokenBatch) -> None:
        logits[batch.rows] = classifier.logits(batch.input_ids, batch.attention_mask)

    model.over(block, compute)
    return logits


def _predicted(block: Block, logits: Tensor) -> Predicted:
    read = logits.cpu()
    labels = np.where(block.known > 0, read.argmax(1).numpy(), -1)
    return Predicted(block, labels, read.double().softmax(1).numpy())


def columns(label_names: Iterable[str], *, windows: bool) -> list[str]:
    """Return the names of the columns: name, (start, end,) label, and p_LABEL for each class."""
    where = ["start", "end"] if windows else []
    return ["name", *where, "label", *(f"p_{name}" for name in label_names)]


def rows_of(
    predicted: Predicted, label_names: tuple[str, ...], *, windows: bool
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a table with these `columns`; None where there is no answer.

    Probabilities are rounded to `DECIMALS`.
    """
    block = predicted.block
    names = [*label_names, None]  # -1 is the last: no answer
    labels = [names[label] for label in predicted.labels.tolist()]
    shares = [
        [None if share != share else round(share, DECIMALS) for share in column]
        for column in predicted.probabilities.T.tolist()
    ]
    where = [block.starts.tolist(), block.ends.tolist()] if windows else []
    yield from zip(block.names, *where, labels, *shares, strict=True)
