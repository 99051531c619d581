"""Embeddings of a task's tables: computed once, kept as artifacts, and found again by what they were made from."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cmgems_cli.artifacts import canonical_json, environment, is_finished, read_manifest, sha256_of_bytes
from cmgems_cli.datasets.loaded_task import EncodedSplit
from cmgems_cli.errors import InputError
from cmgems_cli.genome.codec import offsets_of
from cmgems_cli.inference.embedding import embed_blocks, look_ahead_tokens
from cmgems_cli.inference.inference_options import Pooling
from cmgems_cli.inference.loading import Model, load_encoder
from cmgems_cli.inference.row_blocks import Block
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.outputs import Output
from cmgems_cli.training.engine import device_name

EMBEDDINGS = "embeddings.npy"

# ours: characters of an artifact's folder name, the beginning of a sha256. The whole of it is compared.
NAME_CHARACTERS = 16


class EmbeddingCache:
    """The last layer's states of one model, pooled in one way, of any tables.

    Parameters
    ----------
    folder : Path
        Holds one artifact per model, pooling and table of rows.
    source : ModelSource
    pool : cls, mean or max
    device : torch.device
    precision : str
        fp32 or bf16, resolved.
    seed : int
        Of random weights.
    max_batch_tokens : int, tokens, optional
    """

    def __init__(
        self,
        folder: Path,
        source: ModelSource,
        *,
        pool: Pooling,
        device: torch.device,
        precision: str,
        seed: int,
        max_batch_tokens: int | None = None,
    ) -> None:
        self.folder, self.source, self.pool = folder, source, pool
        self.device, self.precision, self.max_batch_tokens = device, precision, max_batch_tokens
        # Weights of a folder are the same for every seed.
        self.seed = None if source.weights else seed
        # Copies have the same one.
        self._load = cache(
            lambda: load_encoder(
                source, device, precision, seed=self.seed or 0, max_batch_tokens=max_batch_tokens
            )
        )

    @property
    def model(self) -> Model:
        """The encoder (InputError as `load_encoder`)."""
        return self._load()

    def with_pool(self, pool: Pooling) -> EmbeddingCache:
        """Return a cache of the same encoder's embeddings with another pooling."""
        other = copy(self)
        other.pool = pool
        return other

    def get(
        self, rows: EncodedSplit, *, advance: Callable[[float], None] = lambda rows: None
    ) -> NDArray[np.float32]:
        """Return the embeddings of rows, computed if no artifact has them.

        Parameters
        ----------
        rows : EncodedSplit
            Only its tokens count, not its classes.
        advance : callable, optional
            Called with the number of rows newly embedded.

        Returns
        -------
        float32, shape (n_rows, hidden)
            NaN in rows without a known token.

        Raises
        ------
        InputError
            As `load_encoder` and `Model.check_finite`.
        OverwriteError
            If something else is at an artifact's place.
        """
        output = self._output(rows)
        n_rows = len(rows.offsets) - 1
        found = self._read(output, n_rows)
        if found is not None:
            return found
        started = time.perf_counter()
        # Another command may be making the same: then its result is taken. A damaged artifact is replaced.
        with output.claim(overwrite=is_finished(output.path), wait=True) as claim:
            if claim.done is None:
                states = self._embed(rows, advance)
                np.save(claim.folder / EMBEDDINGS, states, allow_pickle=False)
                claim.finish(
                    stats={
                        "rows": n_rows,
                        "tokens": len(rows.token_ids),
                        "hidden": states.shape[1],
                        "unknown_rows": int(np.isnan(states[:, 0]).sum()),
                    },
                    files=[EMBEDDINGS],
                    environment=environment(
                        started,
                        device=device_name(self.device),
                        precision=self.precision,
                        threads=torch.get_num_threads(),
                    ),
                )
        found = self._read(output, n_rows)
        assert found is not None
        return found

    def has(self, rows: EncodedSplit) -> bool:
        """Return whether an intact artifact has the embeddings of these rows."""
        return self._read(self._output(rows), len(rows.offsets) - 1) is not None

    def seconds(self, rows: EncodedSplit, at_most: int) -> float:
        """Return how long the embeddings of these rows would take, from `at_most` of them: seconds."""
        some = EncodedSplit(rows.token_ids, rows.offsets[: at_most + 1], rows.labels[:at_most], rows.specials)
        _ = self.model
        started = time.perf_counter()
        self._embed(some, lambda rows: None)
        return (time.perf_counter() - started) * (len(rows.offsets) - 1) / at_most

    def _output(self, rows: EncodedSplit) -> Output:
        params = {
            "model": self.source.preset,
            "init": None if self.source.weights else "random",
            "seed": self.seed,
            "pool": self.pool,
            "precision": self.precision,
        }
        inputs = {**self.source.inputs, "rows": digest_of_rows(rows)}
        key = sha256_of_bytes(canonical_json({"params": params, "inputs": inputs}).encode())
        return Output(self.folder / key[:NAME_CHARACTERS], "embeddings", params=params, inputs=inputs)

    def _read(self, output: Output, n_rows: int) -> NDArray[np.float32] | None:
        """Return what an artifact holds; None without an intact one of these rows."""
        if not is_finished(output.path):
            return None
        try:
            manifest = read_manifest(output.path, "embeddings", verify=True)
            states = np.load(output.path / EMBEDDINGS, allow_pickle=False)
        except (InputError, OSError, ValueError):
            return None
        fits = not output.difference(manifest.params, manifest.inputs) and states.dtype == np.float32
        return states if fits and states.ndim == 2 and len(states) == n_rows else None

    def _embed(self, rows: EncodedSplit, advance: Callable[[float], None]) -> NDArray[np.float32]:
        model = self.model
        ahead = look_ahead_tokens(model, self.pool, 1)
        states = np.empty((len(rows.offsets) - 1, model.module.hidden_size), np.float32)
        done = 0
        for embedded in embed_blocks(model, blocks_of(rows, ahead), pooling=self.pool):
            count = len(embedded.block)
            states[done : done + count] = embedded.states[:, 0]
            done += count
            advance(count)
        return states


def digest_of_rows(rows: EncodedSplit) -> str:
    """Return the sha256 (hex) of the tokens of rows, special ones included, whatever their classes."""
    hashed = hashlib.sha256(canonical_json(asdict(rows.specials)).encode())
    hashed.update(np.ascontiguousarray(rows.offsets, "<i8").data)
    hashed.update(np.ascontiguousarray(rows.token_ids, "<i4").data)
    return hashed.hexdigest()


def blocks_of(rows: EncodedSplit, look_ahead_tokens: int) -> Iterator[Block]:
    """Yield encoded rows as blocks, named by their numbers, of about `look_ahead_tokens` tokens."""
    n_tokens = np.diff(rows.offsets)
    known_before = offsets_of(rows.token_ids != rows.specials.unknown)
    known = known_before[rows.offsets[1:]] - known_before[rows.offsets[:-1]]
    # Positions before each row, special ones included, so that empty rows count too.
    before = offsets_of(rows.lengths())
    first, count = 0, len(n_tokens)
    while first < count:
        last = int(np.searchsorted(before, before[first] + look_ahead_tokens))
        part = slice(first, max(first + 1, min(last, count)))
        zeros = np.zeros(part.stop - part.start, np.int64)
        yield Block(
            [f"row {number}" for number in range(part.start, part.stop)],
            zeros,
            n_tokens[part],
            rows.token_ids,
            rows.offsets[:-1][part],
            n_tokens[part],
            known[part],
            zeros.astype(bool),
        )
        first = part.stop
