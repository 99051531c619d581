"""The effect of each change: how far it moves the log-odds of a class or label, or the predicted value.

The mutants of several rows are computed together, in micro-batches by length, so that batches are full however short
the rows are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cmgems_cli.errors import InputError
from cmgems_cli.explaining.edits import COLUMN_OF_BYTE, LETTERS, Edits, RowEdits, encode_edits, row_edits
from cmgems_cli.explaining.explain_options import ExplainOptions
from cmgems_cli.explaining.rows import Row
from cmgems_cli.genome.strands import reverse_complements
from cmgems_cli.inference.loading import BATCHES_AHEAD, Model
from cmgems_cli.inference.prediction import logits_of_strand
from cmgems_cli.inference.quantity import Quantity
from cmgems_cli.inference.row_blocks import Block


@dataclass(frozen=True, eq=False)
class Effects:
    """What the changes of one row do to a `Quantity`: nats of log-odds, or a value in its own unit.

    Attributes
    ----------
    row : Row
    label : int
        Number of the class or label; -1 for a row without a known k-mer.
    output : float
        For the row itself: log p / (1 - p) of the class or label, or the value; NaN for a row without a known k-mer.
    substitutions : float32, shape (n, 4)
        The same with A, C, G or T in place of the letter, minus `output`: 0 for the letter itself. NaN where the
        letter is not one of them, or the mutant has no known k-mer.
    deletions : float32, shape (n,), or None
        The same for the row without the letter.
    blocks : float32, shape (n,), or None
        The mean over the draws of the blocks that contain the letter.
    """

    row: Row
    label: int
    output: float
    substitutions: NDArray[np.float32]
    deletions: NDArray[np.float32] | None
    blocks: NDArray[np.float32] | None

    @property
    def importance(self) -> NDArray[np.float32]:
        """How much each letter supports the class or raises the value: float32, shape (n,); see `importance_of`."""
        return importance_of(self.substitutions)


def importance_of(substitutions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return minus the mean effect of the three other letters: positive where the letter raises the output.

    Parameters
    ----------
    substitutions : float32, shape (n, 4)

    Returns
    -------
    float32, shape (n,)
    """
    # The effect of the letter itself is 0.
    importance: NDArray[np.float32] = -substitutions.sum(1) / np.float32(len(LETTERS) - 1)
    return importance


def followed(model: Model, label: str | None) -> tuple[Quantity, int | None]:
    """Return what to follow: the quantity, and the number of its class or label; None for the most probable one.

    Raises
    ------
    UsageError
        If the model has no such class or label.
    """
    quantity = Quantity.of_model(model)
    return quantity, quantity.obvious if label is None else quantity.target.number_of(label)


def explain_rows(
    model: Model, rows: Iterable[Row], options: ExplainOptions, *, seed: int = 42, truncate: bool = False
) -> Iterator[list[Effects]]:
    """Compute the effects of all changes of each row.

    Parameters
    ----------
    model : Model
        A classifier.
    rows : iterable of Row
    options : ExplainOptions
    seed : int, default 42
        Of the draws of blocks.
    truncate : bool, default False
        Cut mutants that are too long for the model.

    Yields
    ------
    list of Effects
        Of the next rows, in order, whose mutants were computed together: begun again after them, all that follow are
        the same to the last bit.

    Raises
    ------
    UsageError
        If the class is unknown, or an option is out of range.
    InputError
        As `Model.check_finite`; if a mutant is too long for the model.
    """
    options.check()
    quantity, label = followed(model, options.label)
    before: _Unit | None = None
    for unit in _units(model, rows, options, seed, truncate=truncate):
        # On CUDA this returns at once: the previous unit is read and written while this one is computed.
        unit.compute(model)
        if before is not None:
            yield list(before.effects(model, quantity, label))
        before = unit
    if before is not None:
        yield list(before.effects(model, quantity, label))


@dataclass(frozen=True, eq=False)
class _Job:
    """A row, its edits, and the tokens of its mutants on each strand."""

    row: Row
    edits: RowEdits
    options: ExplainOptions
    tokens: list[NDArray[np.int32]]
    offsets: list[NDArray[np.int64]]


@dataclass(eq=False)
class _Unit:
    """Rows whose mutants are computed together."""

    jobs: list[_Job]
    block: Block
    outputs: Tensor | None = None

    def compute(self, model: Model) -> None:
        """Start the computation of the outputs for all mutants."""
        self.outputs = logits_of_strand(model, self.block)

    def effects(self, model: Model, quantity: Quantity, label: int | None) -> Iterator[Effects]:
        """Yield the effects of each row."""
        assert self.outputs is not None
        outputs = self.outputs.cpu().numpy()
        model.check_finite(self.block, np.isfinite(outputs).all(1))
        first = 0
        for job in self.jobs:
            shape = (len(job.tokens), len(job.edits.edits), -1)
            n = shape[0] * shape[1]
            strands = outputs[first : first + n].reshape(shape)
            if model.module.averages_strands:
                # As the classifier itself reads both strands.
                strands = strands.mean(0, keepdims=True)
            yield _effects(job, strands, quantity, label)
            first += n


def _units(
    model: Model, rows: Iterable[Row], options: ExplainOptions, seed: int, *, truncate: bool
) -> Iterator[_Unit]:
    """Gather rows until their mutants fill some micro-batches."""
    jobs: list[_Job] = []
    tokens = 0
    for row in rows:
        job = _job(model, row, options, seed, truncate=truncate)
        jobs.append(job)
        tokens += sum(len(one) for one in job.tokens)
        if tokens >= BATCHES_AHEAD * model.max_batch_tokens:
            yield _Unit(jobs, _block(model, jobs))
            jobs, tokens = [], 0
    if jobs:
        yield _Unit(jobs, _block(model, jobs))


def _job(model: Model, row: Row, options: ExplainOptions, seed: int, *, truncate: bool) -> _Job:
    forward = row_edits(row.letters, options, (seed, row.number))
    strands: list[tuple[NDArray[np.uint8], NDArray[np.int32], Edits]] = []
    averages = model.module.averages_strands
    if options.strand != "reverse" or averages:
        strands.append((row.letters, row.token_ids, forward.edits))
    if options.strand != "forward" or averages:
        bounds = np.array([0, len(row.letters)])
        letters = reverse_complements(row.letters, bounds)
        token_ids, _ = model.tokenization.encode(letters, bounds)
        strands.append((letters, token_ids, forward.edits.on_other_strand(len(letters))))
    encoded = [encode_edits(*strand, model.tokenization) for strand in strands]
    for _, offsets in encoded:
        longest = int(np.diff(offsets).max())
        if longest > model.max_tokens and not truncate:
            raise InputError(
                f"{row.name!r}: a change makes {longest:,} tokens of it, and the model reads {model.max_tokens:,}:"
                " give a shorter `window`, or `truncate=True` to cut the mutants"
            )
    return _Job(row, forward, options, [tokens for tokens, _ in encoded], [offsets for _, offsets in encoded])


def _block(model: Model, jobs: list[_Job]) -> Block:
    """Return all mutants as rows: by job, strand and edit."""
    parts = [
        (job, tokens, offsets)
        for job in jobs
        for tokens, offsets in zip(job.tokens, job.offsets, strict=True)
    ]
    token_ids = np.concatenate([tokens for _, tokens, _ in parts])
    starts = np.cumsum([0, *(len(tokens) for _, tokens, _ in parts)])
    first = np.concatenate(
        [offsets[:-1] + start for (_, _, offsets), start in zip(parts, starts[:-1], strict=True)]
    )
    n_tokens = np.concatenate([np.diff(offsets) for _, _, offsets in parts])
    n_tokens = np.minimum(n_tokens, model.max_tokens)
    known_before = np.append(0, np.cumsum(token_ids != model.tokenization.specials.unknown))
    known = known_before[first + n_tokens] - known_before[first]
    names = [name for job, _, offsets in parts for name in [job.row.name] * (len(offsets) - 1)]
    places = np.zeros(len(names), np.int64)
    return Block(names, places, places, token_ids, first, n_tokens, known, places.astype(np.bool_))


def _effects(job: _Job, outputs: NDArray[np.float32], quantity: Quantity, label: int | None) -> Effects:
    """Return the effects of one row from its outputs: float32, shape (strands, edits, n_labels)."""
    row, edits, n = job.row, job.edits, len(job.row.letters)
    known = row.known > 0
    if not known:
        label = -1
    elif label is None:
        label = quantity.most_probable(outputs[:, 0])
    values = quantity.of(outputs, label).mean(0)
    changes = (values[1:] - values[0]).astype(np.float32)
    n_substitutions, n_deletions = len(edits.substituted), len(edits.deleted)
    substituted, deleted, drawn = np.split(changes, [n_substitutions, n_substitutions + n_deletions])
    substitutions = np.full((n, len(LETTERS)), np.nan, np.float32)
    if known:
        own = COLUMN_OF_BYTE[row.letters]
        positions = np.flatnonzero(own < len(LETTERS))
        substitutions[positions, own[positions]] = 0
    substitutions[edits.substituted, edits.columns] = substituted
    deletions = blocks = None
    if job.options.deletions:
        deletions = np.full(n, np.nan, np.float32)
        deletions[edits.deleted] = deleted
    if job.options.block:
        blocks = _per_base(edits.blocks, drawn.reshape(len(edits.blocks), -1).mean(1), n)
    return Effects(row, label, float(values[0]), substitutions, deletions, blocks)


def _per_base(blocks: NDArray[np.int64], effects: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Return the mean effect of the blocks that contain each base: float32, shape (n,)."""
    total, count = np.zeros(n), np.zeros(n)
    for (start, end), effect in zip(blocks.tolist(), effects.tolist(), strict=True):
        total[start:end] += effect
        count[start:end] += 1
    with np.errstate(invalid="ignore"):
        return (total / count).astype(np.float32)
