"""The MODEL argument as a value: a preset or a folder, with its own weights or random ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cmgems_cli.errors import InputError
from cmgems_cli.modeling.presets import PRESETS

if TYPE_CHECKING:
    from transformers import BertConfig

RANDOM = "random"

# method, section 1: k = 6 unless said otherwise.
DEFAULT_K = 6


@dataclass(frozen=True)
class ModelSource:
    """Where a model's architecture and weights come from. Files are read once, when they are first needed.

    Attributes
    ----------
    text : str
        What a user gave: the name of a preset, or a folder in Hugging Face format with a BERT of our vocabulary.
    init : str or None
        Where the weights come from: `random`, or another folder. By default a preset's are random, and a
        folder's are its own.
    """

    text: str
    init: str | None = None

    @classmethod
    def of_folder(cls, folder: Path) -> ModelSource:
        """Return a folder with its own weights, even if it is called like a preset."""
        return cls(f"./{folder}" if str(folder) in PRESETS else str(folder))

    @property
    def preset(self) -> str | None:
        """Name of the preset; None for a folder."""
        return self.text if self.text in PRESETS else None

    @property
    def folder(self) -> Path | None:
        """The folder of the architecture; None for a preset."""
        return None if self.preset else Path(self.text)

    @property
    def weights(self) -> Path | None:
        """The folder of the weights; None if they are random."""
        if self.init is None:
            return self.folder
        return None if self.init == RANDOM else Path(self.init)

    @property
    def name(self) -> str:
        """In scores and folders: `tiny`, `logo-cm-gems`, `logo-cm-gems-random`."""
        name = Path(self.text).name
        return f"{name}-{RANDOM}" if self.init == RANDOM else name

    @property
    def baseline_name(self) -> str:
        """The name of the same architecture with random weights."""
        return f"{Path(self.text).name}-{RANDOM}"

    @cached_property
    def config(self) -> BertConfig:
        """The architecture (InputError if a folder is missing or not what is needed). Copy it before a change."""
        from cmgems_cli.modeling.folder import read_config
        from cmgems_cli.modeling.presets import bert_config

        return read_config(self.folder) if self.folder else bert_config(self.text, self.k)

    @cached_property
    def k(self) -> int:
        """Bases per token (InputError if a folder's vocabulary is not ours)."""
        from cmgems_cli.modeling.folder import read_config, vocabulary_k

        if self.folder:
            return vocabulary_k(self.folder, self.config.vocab_size)
        if self.weights:
            return vocabulary_k(self.weights, read_config(self.weights).vocab_size)
        return DEFAULT_K

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Digests of the folders, as a manifest's `inputs` names them: `model` and `init`."""
        from cmgems_cli.modeling.folder import digest_of_model_folder

        folders = {"model": self.folder, "init": None if self.weights == self.folder else self.weights}
        return {name: digest_of_model_folder(folder) for name, folder in folders.items() if folder}

    def config_for(self, k: int | None) -> tuple[BertConfig, int]:
        """Return the architecture for input of k-mers, and k; None: its own k.

        Raises
        ------
        InputError
            If a folder was made for another k.
        """
        from cmgems_cli.modeling.presets import bert_config

        if k is None or k == self.k:
            return self.config, self.k
        if self.folder is None and self.weights is None:
            return bert_config(self.text, k), k
        raise InputError(
            f"{self.folder or self.weights} reads {self.k}-mers; needed a model of {k}-mers, or input prepared with"
            f" `k={self.k}`"
        )
