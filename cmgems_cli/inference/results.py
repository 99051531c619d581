"""What `predict` and `embed` of the Python API return: rows with names and places, as arrays or as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cmgems_cli.frames import Tabular
from cmgems_cli.metrics import Problem


@dataclass(frozen=True, eq=False, repr=False)
class Predictions(Tabular):
    """The predictions of a classifier for sequences, or for windows along them.

    Attributes
    ----------
    names : list of str, length n
        Names of the sequences, or their numbers from 0.
    starts, ends : int64, shape (n,), bases
        Interval of the row in its sequence, or in the genome if the sequences are regions of one; 0-based,
        half-open, on the forward strand.
    labels : list of str or None, length n
        The most probable class, or the labels from a probability of 0.5 up (`a;c`, or `[]`), or the value as text;
        None for a sequence without a known k-mer.
    label_names : tuple of str
        The classes or labels.
    probabilities : float64, shape (n, n_labels)
        Of each class or label; of a regression the values, shape (n, 1). NaN for a sequence without a known k-mer.
    strands : list of str, length n, or None
        `+` or `-`; None if the sequences are not regions and all rows are read forward.
    contigs : list of str, length n, or None
        Records of the genome; None if the sequences are not regions of one.
    problem : str
        What is predicted: binary, multiclass, multilabel or regression.
    """

    names: list[str]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    labels: list[str | None]
    label_names: tuple[str, ...]
    probabilities: NDArray[np.float64]
    strands: list[str] | None = None
    contigs: list[str] | None = None
    problem: Problem = "multiclass"

    @property
    def values(self) -> NDArray[np.float64]:
        """The predicted values of a regression: float64, shape (n,)."""
        return self.probabilities[:, 0]

    def __len__(self) -> int:
        return len(self.names)

    def columns(self) -> dict[str, Any]:
        """Return a table by columns: (chrom,) name, start, end, (strand,) label and p_LABEL of each class, or value."""
        names = (f"p_{name}" for name in self.label_names)
        predicted = {"label": self.labels, **dict(zip(names, self.probabilities.T, strict=True))}
        return {
            **({} if self.contigs is None else {"chrom": self.contigs}),
            "name": self.names,
            "start": self.starts,
            "end": self.ends,
            **({} if self.strands is None else {"strand": self.strands}),
            **({"value": self.values} if self.problem == "regression" else predicted),
        }

    def _summary(self) -> str:
        if self.problem == "regression":
            return f"{len(self):,} rows, one value each"
        more = " …" if len(self.label_names) > 4 else ""
        return f"{len(self):,} rows, classes {', '.join(self.label_names[:4])}{more}"


@dataclass(frozen=True, eq=False, repr=False)
class Embeddings(Tabular):
    """The embeddings of sequences. It can be used like `vectors`: indexed, iterated, given to numpy.

    Attributes
    ----------
    names : list of str, length n
        Names of the sequences, or their numbers from 0.
    vectors : float32 array, shape (n, hidden), or list of n such arrays, shape (n_tokens, hidden)
        A list with pooling "tokens". With several layers their axis precedes the last one. NaN for sequences
        without a known k-mer.
    layers : tuple of int
        The layers, as they were asked for.
    """

    names: list[str]
    vectors: NDArray[np.float32] | list[NDArray[np.float32]]
    layers: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.vectors)

    def __getitem__(self, index: Any) -> Any:
        return self.vectors[index]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.vectors, dtype, copy=copy)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `vectors`; of a list of them, its length."""
        return self.vectors.shape if isinstance(self.vectors, np.ndarray) else (len(self.vectors),)

    def columns(self) -> dict[str, Any]:
        """Return a table by columns: name, (token,) and e_0, e_1 … of the vector; of several layers l-1_e_0 …

        With pooling "tokens" a row is a token, numbered from 0 in its sequence.
        """
        names: list[str] = self.names
        where: dict[str, Any] = {}
        if isinstance(self.vectors, list):
            lengths = [len(one) for one in self.vectors]
            names = np.repeat(np.array(self.names, object), lengths).tolist()
            where["token"] = np.concatenate([np.arange(n) for n in lengths])
            values = np.concatenate(self.vectors)
        else:
            values = self.vectors
        several = values.ndim == 3
        prefixes = [f"l{layer}_e_" for layer in self.layers] if several else ["e_"]
        flat = values.reshape(len(values), len(prefixes), -1)
        dimensions = {
            f"{prefix}{at}": flat[:, number, at]
            for number, prefix in enumerate(prefixes)
            for at in range(flat.shape[2])
        }
        return {"name": names, **where, **dimensions}

    def _summary(self) -> str:
        shape = f"float32, shape {self.shape}" if isinstance(self.vectors, np.ndarray) else "one array each"
        layers = ", ".join(map(str, self.layers))
        return f"{len(self):,} sequences, {shape}, layer {layers}"
