"""The Python API of `explain`: the same effects as the command's, for sequences in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cmgems_cli.errors import UsageError
from cmgems_cli.explaining.edits import LETTERS
from cmgems_cli.explaining.effects import Effects, explain_rows
from cmgems_cli.explaining.explain_options import BlockBy, ExplainOptions
from cmgems_cli.explaining.rows import place_of, rows_of
from cmgems_cli.frames import Tabular
from cmgems_cli.inference.inference_options import Strand
from cmgems_cli.inference.loading import Model
from cmgems_cli.inference.python_api import Sequences, input_of
from cmgems_cli.inference.quantity import Quantity


@dataclass(frozen=True, eq=False, repr=False)
class Explanations(Tabular):
    """The effects of all changes of some sequences; indexed, those of one sequence or window.

    Attributes
    ----------
    effects : list of Effects, length n
        Each has `row`, `label`, `output`, `substitutions` (float32, shape (bases, 4), for A, C, G, T), `importance`,
        `deletions` and `blocks` (float32, shape (bases,)).
    quantity : Quantity
        What these are: `quantity.described`; `quantity.names` has the classes or labels.
    """

    effects: list[Effects]
    quantity: Quantity

    def __len__(self) -> int:
        return len(self.effects)

    def __iter__(self) -> Iterator[Effects]:
        return iter(self.effects)

    def __getitem__(self, index: int) -> Effects:
        return self.effects[index]

    def columns(self) -> dict[str, Any]:
        """Return a table by columns, one row per base, as `cmgems explain` writes it.

        name, position, base, label, log_odds, A, C, G, T, importance, (deletion, block); for regions of a genome chrom,
        start, end, name and strand in place of name and position; of a regression value in place of label and
        log_odds.
        """
        sizes = [len(one.row.letters) for one in self.effects]
        names = [*self.quantity.names, None]  # label -1 selects None

        def repeated(values: list[Any]) -> list[Any]:
            return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]

        def joined(arrays: list[Any]) -> NDArray[Any]:
            return np.concatenate([np.zeros((0, *arrays[0].shape[1:]), arrays[0].dtype), *arrays])

        places = [place_of(one.row) for one in self.effects]
        positions = joined([place.positions for place in places])
        where: dict[str, Any] = {
            "name": repeated([one.row.name for one in self.effects]),
            "position": positions,
        }
        if places[0].contig is not None:
            where = {
                "chrom": repeated([place.contig for place in places]),
                "start": positions,
                "end": positions + 1,
                "name": where["name"],
                "strand": repeated([place.strand for place in places]),
            }
        table = {
            **where,
            "base": [chr(letter) for one in self.effects for letter in one.row.letters.tolist()],
            "label": repeated([names[one.label] for one in self.effects]),
            self.quantity.column: repeated([one.output for one in self.effects]),
            **dict(zip(LETTERS, joined([one.substitutions for one in self.effects]).T, strict=True)),
            "importance": joined([one.importance for one in self.effects]),
        }
        if self.quantity.is_value:
            del table["label"]
        if self.effects[0].deletions is not None:
            table["deletion"] = joined([one.deletions for one in self.effects])
        if self.effects[0].blocks is not None:
            table["block"] = joined([one.blocks for one in self.effects])
        return table

    def _summary(self) -> str:
        bases = sum(len(one.row.letters) for one in self.effects)
        return f"{len(self):,} sequences, {bases:,} bases"


def explain(
    model: Model,
    sequences: Sequences,
    *,
    label: str | None = None,
    strand: Strand = "forward",
    deletions: bool = False,
    block: int | None = None,
    block_step: int | None = None,
    block_by: BlockBy = "shuffle",
    block_draws: int = 10,
    seed: int = 42,
    window: int | None = None,
    stride: int | None = None,
    truncate: bool = False,
) -> Explanations:
    """Substitute every base of sequences, and return how far each change moves the model's output.

    That is the log-odds of a class or label, or the value that a regression predicts.

    Parameters
    ----------
    model : Model
        A classifier, from `load_model`.
    sequences : str, iterable of str, mapping of name to str, Path, or regions of a genome
        As in `predict`.
    label : str, optional
        The class or label; by default the second of two classes, else the most probable one of each sequence.
    strand : forward, reverse or both
        As given, the reverse complement, or the mean of the two.
    deletions : bool, default False
        Also delete each base.
    block, block_step : int, bases, optional
        Also change blocks of `block` bases, one every `block_step`; by default they follow each other.
    block_by : shuffle or random
        Shuffle a block's bases, or draw others with the composition of the sequence.
    block_draws, seed : int, default 10 and 42
        Draws per block, and their seed.
    window, stride, truncate
        As in `predict`.

    Returns
    -------
    Explanations
        All in memory; for many sequences use `cmgems explain`.

    Raises
    ------
    UsageError, InputError
        If the model has no classes, parameters contradict, or a sequence is too long or not DNA.
    """
    if model.classifier is None:
        raise UsageError(
            f"{model.folder} has no classes to explain; load a folder written by `cmgems finetune`"
        )
    options = ExplainOptions(label, strand, deletions, block, block_step, block_by, block_draws)
    data = input_of(sequences, model, window=window, stride=stride, truncate=truncate)
    parts = explain_rows(model, rows_of(data), options, seed=seed, truncate=truncate)
    return Explanations(list(chain.from_iterable(parts)), Quantity.of_model(model))
