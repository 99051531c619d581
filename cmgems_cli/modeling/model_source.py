"""The MODEL argument as a value: a preset or a folder, with its own weights or random ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.modeling.presets import PRESETS, known_name

if TYPE_CHECKING:
    from transformers import BertConfig

    from cmgems_cli.genome.tokenization import Tokenization
    from cmgems_cli.modeling.folder import Architecture

RANDOM = "random"

# method, section 1: k = 6 unless said otherwise.
DEFAULT_K = 6


def check_order(model: str | Path, data: Path | None, data_name: str) -> None:
    """Check that MODEL and the argument after it are not swapped.

    Raises
    ------
    UsageError
        If the second is a model and the first is not.
    """
    if data is not None and _is_model(str(data)) and Path(model).exists() and not _is_model(str(model)):
        raise UsageError(
            f"MODEL {model} is not a model, but {data_name} {data} is: they seem to be swapped; give MODEL first"
        )


def _is_model(text: str) -> bool:
    return known_name(text) in PRESETS or (Path(text) / "config.json").is_file()


@dataclass(frozen=True)
class ModelSource:
    """Where a model's architecture and weights come from. Files are read once, when they are first needed.

    Attributes
    ----------
    text : str
        What a user gave: the name of a preset, in any case of letters, or a folder in Hugging Face format.
    init : str or None
        Where the weights come from: `random`, or another folder. By default a preset's are random, and a
        folder's are its own.
    """

    text: str
    init: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", known_name(self.text))
        if self.init is not None:
            object.__setattr__(self, "init", known_name(self.init, (RANDOM,)))

    @classmethod
    def of_folder(cls, folder: Path) -> ModelSource:
        """Return a folder with its own weights, even if it is called like a preset."""
        return cls(f"./{folder}" if str(folder).casefold() in PRESETS else str(folder))

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
    def architecture(self) -> Architecture:
        """What the model computes and how it reads DNA (InputError if a folder is missing or not what is needed)."""
        from cmgems_cli.genome.tokenization import OverlappingKmers
        from cmgems_cli.modeling.folder import Architecture, read_architecture, read_config, vocabulary_k
        from cmgems_cli.modeling.presets import bert_config

        if self.folder:
            return read_architecture(self.folder)
        k = vocabulary_k(self.weights, read_config(self.weights).vocab_size) if self.weights else DEFAULT_K
        return Architecture(bert_config(self.text, k), OverlappingKmers(k))

    @property
    def config(self) -> Any:
        """The configuration of the architecture. Copy it before a change."""
        return self.architecture.config

    @property
    def tokenization(self) -> Tokenization:
        """How the model reads DNA."""
        return self.architecture.tokenization

    @property
    def k(self) -> int:
        """Bases per token; raises InputError if the model does not read overlapping k-mers of our vocabulary."""
        k = self.tokenization.k
        if k is None:
            raise InputError(
                f"{self.text} has tokens of its own; needed a model of overlapping k-mers in our vocabulary"
            )
        return k

    @cached_property
    def inputs(self) -> dict[str, str]:
        """Digests of the folders, as a manifest's `inputs` names them: `model` and `init`."""
        from cmgems_cli.modeling.folder import digest_of_model_folder

        folders = {"model": self.folder, "init": None if self.weights == self.folder else self.weights}
        return {name: digest_of_model_folder(folder) for name, folder in folders.items() if folder}

    def config_for(self, k: int | None) -> tuple[BertConfig, int]:
        """Return the architecture for pretraining on k-mers, and k; None: its own k.

        Raises
        ------
        InputError
            If a folder was made for another k, or does not hold a BERT of our vocabulary.
        """
        from cmgems_cli.modeling.folder import read_config, vocabulary_k
        from cmgems_cli.modeling.presets import bert_config

        if self.folder is None and self.weights is None:
            return bert_config(self.text, k or self.k), k or self.k
        if self.folder:
            config = read_config(self.folder)
            own_k = vocabulary_k(self.folder, config.vocab_size)
        else:
            config, own_k = self.config, self.k
        if k in (None, own_k):
            return config, own_k
        raise InputError(
            f"{self.folder or self.weights} reads {own_k}-mers; needed a model of {k}-mers, or input prepared with"
            f" `k={own_k}`"
        )
