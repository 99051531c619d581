"""Load a model onto its device and run it over blocks, in micro-batches by length."""

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

from cmgems_cli.artifacts import is_finished, read_manifest
from cmgems_cli.datasets.targets import Target
from cmgems_cli.errors import InputError
from cmgems_cli.genome.tokenization import Tokenization
from cmgems_cli.inference.row_blocks import Block
from cmgems_cli.modeling.classifier import SequenceClassifier, new_classifier
from cmgems_cli.modeling.classifier_files import load_classifier
from cmgems_cli.modeling.folder import digest_of_model_folder
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.batching import length_bucketed_batches
from cmgems_cli.training.collation import on_device, pad_spans
from cmgems_cli.training.heap import HeapTrimmer
from cmgems_cli.training.processes import resolve_device, resolve_precision

# ours: on a CPU the fastest measured for `logo`, whose states then stay in the cache (docs/log.md); on CUDA
# enough to fill a GPU, not measured.
BATCH_TOKENS = {"cpu": 4_096, "cuda": 65_536}

# ours: on a CPU torch caches a kernel, with its memory, for each of the last thousand shapes. Few widths limit
# that to a third of the growth, and save more time than the padding costs.
WIDTH_STEP = 16

# ours: micro-batches to sort by length at a time. More would hardly reduce padding.
BATCHES_AHEAD = 32


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A model and how to run it.

    Attributes
    ----------
    folder : Path
    module : SequenceClassifier
        Encoder and head, in evaluation mode, on `device`.
    label_names : tuple of str
        Names of the classes, in order of their numbers; empty without classes: the head is of no use then.
    positions : int
        Longest input, special tokens included.
    trained_tokens : int or None, tokens
        Longest sequence of a classifier's fine-tuning; None if unknown.
    device : torch.device
    precision : str
        fp32 or bf16.
    max_batch_tokens : int, tokens
        Maximum of tokens per micro-batch, including padding.
    """

    folder: Path
    module: SequenceClassifier
    label_names: tuple[str, ...]
    positions: int
    trained_tokens: int | None
    device: torch.device
    precision: str
    max_batch_tokens: int
    _memory: HeapTrimmer = field(default_factory=HeapTrimmer)

    def __repr__(self) -> str:
        kind = f"classifier of {', '.join(self.label_names)}" if self.label_names else "no classes"
        return (
            f"<Model {self.folder}: {kind}; {self.parameters:,} parameters, up to"
            f" {self.tokenization.most_bases(self.max_tokens):,} bases, {self.device} in {self.precision}>"
        )

    @property
    def max_tokens(self) -> int:
        """Longest input in tokens, without special tokens."""
        return self.positions - self.tokenization.specials.positions

    @property
    def tokenization(self) -> Tokenization:
        """How the model reads DNA."""
        return self.module.tokenization

    @property
    def k(self) -> int | None:
        """Bases per token of a model of overlapping k-mers."""
        return self.tokenization.k

    @property
    def classifier(self) -> SequenceClassifier | None:
        """Encoder and head; None for a model without classes."""
        return self.module if self.label_names else None

    @property
    def target(self) -> Target:
        """What a classifier predicts."""
        return Target(self.module.outputs.problem, self.label_names)

    @property
    def parameters(self) -> int:
        """Number of weights, including the head."""
        if self.classifier is not None:
            return self.classifier.weights
        return sum(weights.numel() for weights in self.module.encoder.parameters())

    @cached_property
    def digest(self) -> str:
        """Digest that identifies the model in records."""
        return digest_of_model_folder(self.folder)

    def check_finite(self, block: Block, finite: NDArray[np.bool_]) -> None:
        """Check the outputs for the rows that have a known k-mer.

        Parameters
        ----------
        block : Block
        finite : bool, shape (n,)
            Whether all outputs for a row are finite.

        Raises
        ------
        InputError
            If some are not: weights can be finite and overflow all the same.
        """
        bad = np.flatnonzero(~finite & (block.known > 0))
        if len(bad):
            again = "; try `precision=fp32`" if self.precision == "bf16" else ""
            raise InputError(
                f"{self.folder}: its outputs for {len(bad):,} of {len(block):,} rows are not finite, the first"
                f" {block.names[bad[0]]!r}, so its weights overflow; needed a model whose training did not diverge"
                f"{again}"
            )

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Run the block without gradients, in the precision of the model."""
        bf16 = self.precision == "bf16"
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16),
        ):
            yield

    def _width(self, n_tokens: NDArray[np.int64]) -> int:
        """Return the width of a micro-batch, rounded up to `WIDTH_STEP` if it needs padding anyway."""
        longest = int(n_tokens.max()) + self.tokenization.specials.positions
        if n_tokens.min() == n_tokens.max():
            return longest
        return min(-(-longest // WIDTH_STEP) * WIDTH_STEP, self.positions)

    def over(self, block: Block, compute: Callable[[TokenBatch], None]) -> None:
        """Call `compute` with the rows of a block that have a known k-mer, in micro-batches by length."""
        rows = np.flatnonzero(block.known)
        if not len(rows):
            return
        specials = self.tokenization.specials
        with self.computing():
            for batch in length_bucketed_batches(
                block.n_tokens[rows] + specials.positions, self.max_batch_tokens
            ):
                selected = rows[batch]
                spans = (block.first[selected], block.n_tokens[selected])
                padded = pad_spans(block.token_ids, *spans, specials, width=self._width(spans[1]))
                compute(on_device(TokenBatch(*padded, torch.from_numpy(selected)), self.device))
                self._memory.trim()


@dataclass(frozen=True)
class TokenBatch:
    """The input of one forward pass.

    Attributes
    ----------
    input_ids : int64 tensor, shape (b, t)
        [CLS] tokens [SEP], padded with [PAD].
    attention_mask : int64 tensor of the same shape, or None
        1 on real tokens; None without padding.
    rows : int64 tensor, shape (b,)
        Their rows in the block.
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
    """Load a model for inference.

    Parameters
    ----------
    folder : Path
        Any encoder in Hugging Face format that needs no remote code: a pretrained model, a classifier, DNABERT.
    classes : bool, default False
        Whether the model must be a classifier.
    device : str, default "auto"
        auto (CUDA if available), cpu, cuda or cuda:N.
    precision : str, default "fp32"
        fp32; bf16; or auto, bf16 where the hardware multiplies it.
    max_batch_tokens : int, tokens, optional
        Default: `BATCH_TOKENS` of the device.

    Raises
    ------
    InputError
        If the folder is missing, damaged, or of the wrong kind.
    UsageError
        If the device is not available, or does not support the precision.
    """
    torch_device = resolve_device(device)
    resolved = resolve_precision(precision, torch_device)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        needed = "the folder of a classifier (from `cmgems finetune`)" if classes else "the folder of a model"
        raise InputError(f"{folder} {problem}; needed {needed}")
    manifest = read_manifest(folder, verify=True) if is_finished(folder) else None
    trained_tokens = None
    label_names: tuple[str, ...] = ()
    if classes or (manifest is not None and manifest.kind == "classifier"):
        loaded = load_classifier(folder)
        label_names, architecture, module = loaded.label_names, loaded.architecture, loaded.module
        trained_tokens = manifest.params.get("max_tokens") if manifest else None
    else:
        # Reads the encoder of any folder and ignores heads of other tasks; the new head is dropped here.
        return load_encoder(
            ModelSource.of_folder(folder), torch_device, resolved, max_batch_tokens=max_batch_tokens
        )
    return Model(
        folder,
        module.to(torch_device).eval(),
        label_names,
        architecture.positions,
        trained_tokens,
        torch_device,
        resolved,
        max_batch_tokens or BATCH_TOKENS[torch_device.type],
    )


def load_encoder(
    source: ModelSource,
    device: torch.device,
    precision: str,
    *,
    seed: int = 42,
    max_batch_tokens: int | None = None,
) -> Model:
    """Load the encoder of a model, or make it from random weights, for embeddings.

    Parameters
    ----------
    source : ModelSource
    device : torch.device
    precision : str
        fp32 or bf16, resolved.
    seed : int, default 42
        Random weights are a function of it.
    max_batch_tokens : int, tokens, optional
        Default: `BATCH_TOKENS` of the device.

    Raises
    ------
    InputError
        As `new_classifier`.
    """
    # Heads of other tasks are ignored, and the new one is not used: its size must not change random weights.
    module = SequenceClassifier(new_classifier(source, 2, seed=seed), source.tokenization)
    return Model(
        source.weights or Path(source.text),
        module.to(device).eval(),
        (),
        source.architecture.positions,
        None,
        device,
        precision,
        max_batch_tokens or BATCH_TOKENS[device.type],
    )
