"""Hidden states of rows: one vector per row or per token, in input order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cmgems_cli.errors import UsageError
from cmgems_cli.genome.tokenization import SpecialIds
from cmgems_cli.growing_array import GrowingArray
from cmgems_cli.inference.inference_options import POOLINGS, Pooling
from cmgems_cli.inference.loading import BATCHES_AHEAD, Model, TokenBatch
from cmgems_cli.inference.output_formats import TableWriter
from cmgems_cli.inference.places import PlaceColumns
from cmgems_cli.inference.row_blocks import Block
from cmgems_cli.inference.survey import Input
from cmgems_cli.modeling.pooling import has_content

# ours: maximum size of the embeddings of a block. Two blocks are in memory at a time.
BLOCK_BYTES = 64 << 20


@dataclass(frozen=True, eq=False)
class Embedded:
    """The embeddings of the rows of a block.

    Attributes
    ----------
    block : Block
    states : float32, shape (n, n_layers, hidden)
        One vector per row and layer; NaN for rows without a known k-mer. With pooling "tokens", one vector per
        token instead: rows are concatenated, and `block.n_tokens` gives their lengths.
    """

    block: Block
    states: NDArray[np.float32]


def check_layers(layers: Sequence[int], n_layers: int) -> tuple[int, ...]:
    """Return layer numbers without negative ones: 0 for the embeddings, 1 for the first layer, and so on.

    Parameters
    ----------
    layers : sequence of int
        0 is the output of the embeddings, `n_layers` or -1 the last layer's.
    n_layers : int
        Number of layers of the model.

    Raises
    ------
    UsageError
        If `layers` is empty or repeats a layer, or the model lacks one of them.
    """
    numbers = tuple(layer + n_layers + 1 if layer < 0 else layer for layer in layers)
    for layer, number in zip(layers, numbers, strict=True):
        if not 0 <= number <= n_layers:
            raise UsageError(
                f"layer {layer} is not in the model: it has 0 (the embeddings) to {n_layers}, or -1 (the last)"
                f" to {-n_layers - 1}"
            )
    if not numbers or len(set(numbers)) < len(numbers):
        raise UsageError(f"`layers={','.join(map(str, layers))}`: give at least one layer, and each once")
    return numbers


def look_ahead_tokens(model: Model, pooling: Pooling, n_layers: int) -> int:
    """Return how many tokens of rows to hold in memory: fewer if the vectors of every token are kept."""
    most = BATCHES_AHEAD * model.max_batch_tokens
    if pooling != "tokens":
        return most
    return max(model.max_batch_tokens, min(most, BLOCK_BYTES // (4 * n_layers * model.module.hidden_size)))


def write_embeddings(
    model: Model,
    data: Input,
    array: GrowingArray,
    names: TableWriter,
    *,
    pooling: Pooling,
    layers: Sequence[int],
    skip: int = 0,
    block_done: Callable[[int], None] = lambda vectors: None,
    advance: Callable[[float], None] = lambda rows: None,
) -> int:
    """Embed all rows of an input and write the vectors in input order.

    Parameters
    ----------
    model : Model
    data : Input
    array : GrowingArray
        Output of the vectors, of shape `shape_of_row`.
    names : TableWriter
        Output of one line per row, with the columns of `columns`.
    pooling, layers
        As in `embed_blocks`.
    skip : int, default 0
        Number of blocks that an earlier run wrote.
    block_done : callable, optional
        Called after each block with the number of vectors in `array`.
    advance : callable, optional
        Called with the number of rows newly written or omitted.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    InputError, UsageError
        As for `Input.blocks` and `check_layers`.
    """
    places = PlaceColumns.of(data)
    several = len(layers) > 1
    ahead = look_ahead_tokens(model, pooling, len(layers))
    done = 0
    for embedded in embed_blocks(model, data.blocks(ahead, skip=skip), pooling=pooling, layers=layers):
        block, states = embedded.block, embedded.states
        cells = places.cells(block)
        if pooling == "tokens":
            n_tokens = block.n_tokens
            cells += [(array.rows + np.cumsum(n_tokens) - n_tokens).tolist(), n_tokens.tolist()]
        names.write(zip(*cells, strict=True))
        array.append(states if several else states[:, 0])
        done += len(block)
        block_done(array.rows)
        advance(data.newly_done(len(block)))
    advance(data.newly_done(0))
    return done


def shape_of_row(model: Model, layers: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of one vector: (hidden,), or (n_layers, hidden) with several layers."""
    hidden = model.module.hidden_size
    return (hidden,) if len(layers) == 1 else (len(layers), hidden)


def columns(pooling: Pooling, where: PlaceColumns) -> list[str]:
    """Return the columns of the table of rows; with pooling "tokens" they locate the vectors of each row."""
    return [*where.names, *(["first", "tokens"] if pooling == "tokens" else [])]


def embed_blocks(
    model: Model, blocks: Iterable[Block], *, pooling: Pooling = "mean", layers: Sequence[int] = (-1,)
) -> Iterator[Embedded]:
    """Embed the rows of blocks.

    Parameters
    ----------
    model : Model
        Any model.
    blocks : iterable of Block
    pooling : mean, max, cls or tokens
        Mean or maximum over the known k-mers (without [CLS], [SEP], padding and [UNK]); the state of [CLS]; or the
        state of every token, including [UNK], without [CLS] and [SEP].
    layers : sequence of int
        As in `check_layers`.

    Yields
    ------
    Embedded
        One per block, in order. When it is yielded, the computation of the next block has already started.

    Raises
    ------
    UsageError
        As for `check_layers`, or if `pooling` is unknown.
    InputError
        As `Model.check_finite`.
    """
    if pooling not in POOLINGS:
        raise UsageError(f"`pooling` {pooling!r} is unknown; choose {', '.join(POOLINGS)}")
    numbers = check_layers(layers, model.module.n_layers)
    before: tuple[Block, Tensor] | None = None
    for block in blocks:
        states = _states(model, block, pooling, numbers)
        if before is not None:
            yield _embedded(model, *before)
        before = (block, states)
    if before is not None:
        yield _embedded(model, *before)


def _embedded(model: Model, block: Block, states: Tensor) -> Embedded:
    on_cpu = states.cpu().numpy()
    finite = np.isfinite(on_cpu).all((1, 2))
    if len(finite) != len(block):  # one vector per token
        row_of_token = np.repeat(np.arange(len(block)), block.n_tokens)
        finite = np.bincount(row_of_token, ~finite, minlength=len(block)) == 0
    model.check_finite(block, finite)
    return Embedded(block, on_cpu)


def _states(model: Model, block: Block, pooling: Pooling, layers: tuple[int, ...]) -> Tensor:
    """Return the states of all rows: float32, shape (n, n_layers, hidden), on the model's device."""
    n_rows = int(block.n_tokens.sum()) if pooling == "tokens" else len(block)
    shape = (n_rows, len(layers), model.module.hidden_size)
    states = torch.full(shape, torch.nan, device=model.device)
    specials = model.tokenization.specials
    row_starts = torch.from_numpy(np.cumsum(block.n_tokens) - block.n_tokens).to(model.device)

    def compute(batch: TokenBatch) -> None:
        if pooling == "tokens":
            row, index = _inner_tokens(batch, specials)
            target = row_starts[batch.rows][row] + index - len(specials.prefix)
            states[target] = _layers(model, batch, layers)[row, index].float()
        elif pooling == "mean":
            known = has_content(batch.input_ids, specials).float()
            total = torch.einsum("bt,btlh->blh", known, _layers(model, batch, layers).float())
            states[batch.rows] = total / known.sum(1)[:, None, None]
        elif pooling == "max":
            known = has_content(batch.input_ids, specials)[..., None, None]
            states[batch.rows] = _layers(model, batch, layers).float().masked_fill(~known, -torch.inf).amax(1)
        else:
            states[batch.rows] = _at_cls(model, batch, layers).float()

    model.over(block, compute)
    return states


def _layers(model: Model, batch: TokenBatch, layers: tuple[int, ...]) -> Tensor:
    """Return the states at every token: shape (b, t, n_layers, hidden)."""
    states = model.module.hidden_states(batch.input_ids, batch.attention_mask, layers)
    return torch.stack(states, dim=2)


def _at_cls(model: Model, batch: TokenBatch, layers: tuple[int, ...]) -> Tensor:
    """Return the states of [CLS]: shape (b, n_layers, hidden)."""
    if layers != (model.module.n_layers,):
        return _layers(model, batch, layers)[:, 0]
    # For the last layer alone, only this token may have to be computed.
    return model.module.first_states(batch.input_ids, batch.attention_mask)[:, None]


def _inner_tokens(batch: TokenBatch, specials: SpecialIds) -> tuple[Tensor, Tensor]:
    """Return row and column of the tokens without special ones, row by row: int64, shape (total,)."""
    known = SpecialIds(specials.prefix, specials.suffix, specials.padding, None)
    row, index = torch.nonzero(has_content(batch.input_ids, known), as_tuple=True)
    return row, index
