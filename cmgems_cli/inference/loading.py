"""A model ready for use: opened, on its device, run over blocks in micro-batches by length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import BertModel

from cmgems_cli.artifacts import is_finished, read_manifest
from cmgems_cli.errors import InputError
from cmgems_cli.genome.vocabulary import SPECIAL_POSITIONS
from cmgems_cli.inference.row_blocks import Block
from cmgems_cli.modeling.classifier import SequenceClassifier, load_classifier, new_classifier
from cmgems_cli.modeling.folder import digest_of_model_folder
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.batching import length_bucketed_batches
from cmgems_cli.training.collation import on_device, pad_spans
from cmgems_cli.training.heap import HeapTrimmer
from cmgems_cli.training.processes import resolve_device, resolve_precision

# ours: on a CPU the fastest measured for `logo`, whose states then stay in the cache (docs/log.md); on CUDA
# enough to fill a card, not measured.
BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536}

# ours: on a CPU torch keeps a kernel, with its memory, for each of the last thousand shapes it has met. Few
# widths keep it small: a third of the growth, and faster by more than the padding costs.
WIDTH_STEP = 16

# ours: micro-batches to sort by length at a time. More would hardly pad less.
BATCHES_AHEAD = 32


@dataclass(frozen=True, eq=False)
class Model:
    """A model and how it is run.

    Attributes
    ----------
    folder : Path
    bert : BertModel
        The encoder, in evaluation mode, on `device`.
    classifier : SequenceClassifier or None
        With the head; None for a model without classes.
    label_names : tuple of str
        The classes by number; empty for a model without.
    k : int, bases
        Of a token.
    trained_tokens : int or None, tokens
        The longest sequence a classifier was fine-tuned on, where its folder says so.
    device : torch.device
    precision : str
        fp32 or bf16.
    max_batch_tokens : int, tokens
        Bound on one micro-batch, padding included.
    """

    folder: Path
    bert: BertModel
    classifier: SequenceClassifier | None
    label_names: tuple[str, ...]
    k: int
    trained_tokens: int | None
    device: torch.device
    precision: str
    max_batch_tokens: int
    _memory: HeapTrimmer = field(default_factory=HeapTrimmer)

    @property
    def max_tokens(self) -> int:
        """The longest input, special tokens not counted."""
        return int(self.bert.config.max_position_embeddings) - SPECIAL_POSITIONS

    @property
    def parameters(self) -> int:
        """Number of weights, the head's included."""
        return sum(weights.numel() for weights in (self.classifier or self.bert).parameters())

    @cached_property
    def digest(self) -> str:
        """What stands for the model in a record of what was done."""
        return digest_of_model_folder(self.folder)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Run without gradients, in the model's precision."""
        bf16 = self.precision == "bf16"
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16),
        ):
            yield

    def _width(self, n_tokens: NDArray[np.int64]) -> int:
        """Return how wide a micro-batch is: in steps, where it has to be padded anyway."""
        longest = int(n_tokens.max()) + SPECIAL_POSITIONS
        if n_tokens.min() == n_tokens.max():
            return longest
        return min(-(-longest // WIDTH_STEP) * WIDTH_STEP, self.max_tokens + SPECIAL_POSITIONS)

    def over(self, block: Block, compute: Callable[[TokenBatch], None]) -> None:
        """Hand the rows of a block that have a known k-mer to `compute`, in micro-batches by length."""
        rows = np.flatnonzero(block.known)
        if not len(rows):
            return
        with self.computing():
            for part in length_bucketed_batches(
                block.n_tokens[rows] + SPECIAL_POSITIONS, self.max_batch_tokens
            ):
                chosen = rows[part]
                spans = (block.first[chosen], block.n_tokens[chosen])
                padded = pad_spans(block.token_ids, *spans, width=self._width(spans[1]))
                compute(on_device(TokenBatch(*padded, torch.from_numpy(chosen)), self.device))
                self._memory.trim()


@dataclass(frozen=True)
class TokenBatch:
    """What one forward pass takes.

    Attributes
    ----------
    input_ids : int64 tensor, shape (b, t)
        [CLS] tokens [SEP], padded with [PAD].
    attention_mask : int64 tensor of the same shape, or None
        1 on real tokens; None where nothing is padded.
    rows : int64 tensor, shape (b,)
        Which rows of the block these are.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    rows: Tensor


def load_model(
    folder: Path,
    *,
    classes: bool = False,
    device: str = "auto",
    precision: str = "fp32",
    max_batch_tokens: int | None = None,
) -> Model:
    """Open a model for use.

    Parameters
    ----------
    folder : Path
        Any BERT of our vocabulary in Hugging Face format: a pretrained model, a classifier, one of DNABERT's.
    classes : bool, default False
        Whether it has to be a classifier.
    device : str, default "auto"
        auto (CUDA where there is any), cpu, cuda or cuda:N.
    precision : str, default "fp32"
        fp32; bf16; or auto, bf16 where the hardware multiplies it.
    max_batch_tokens : int, tokens, optional
        `BATCH_TOKENS` when left out.

    Raises
    ------
    InputError
        If the folder is missing, damaged, or not the model that is needed.
    UsageError
        If the device is absent, or has not the precision.
    """
    where = resolve_device(device)
    resolved = resolve_precision(precision, where)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        wanted = "a classifier's folder (cmgems finetune makes one)" if classes else "a model's folder"
        raise InputError(f"{folder} {found}; needed {wanted}")
    manifest = read_manifest(folder, verify=True) if is_finished(folder) else None
    classifier, trained_tokens = None, None
    label_names: tuple[str, ...] = ()
    if classes or (manifest is not None and manifest.kind == "classifier"):
        loaded = load_classifier(folder)
        label_names, k = loaded.label_names, loaded.k
        classifier = SequenceClassifier(loaded.model).to(where).eval()
        bert = classifier.bert_classifier.bert
        trained_tokens = manifest.params.get("max_tokens") if manifest else None
    else:
        # Takes any folder's encoder and leaves the heads of other tasks behind; its own is dropped here.
        source = ModelSource.of_folder(folder)
        whole, k = new_classifier(source, 2), source.k
        bert = whole.bert.to(where).eval()
    return Model(
        folder,
        bert,
        classifier,
        label_names,
        k,
        trained_tokens,
        where,
        resolved,
        max_batch_tokens or BATCH_TOKENS[where.type],
    )
