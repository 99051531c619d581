"""Model folders in Hugging Face format: read with full checks, written reproducibly to the byte.

This module avoids `from_pretrained` and `save_pretrained`: the first fills missing weights at random and may
run code in a pickle, the second writes the version of the library into the files.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import BertConfig, PreTrainedModel
from transformers.activations import ACT2FN

from cmgems_cli.artifacts import (
    MANIFEST,
    canonical_json,
    is_finished,
    read_manifest,
    sha256_of_bytes,
    sha256_of_file,
)
from cmgems_cli.errors import InputError
from cmgems_cli.files import check_no_lfs_pointer, write_json
from cmgems_cli.genome.tokenization import OverlappingKmers, Tokenization
from cmgems_cli.genome.vocabulary import MAX_K, MIN_K, PAD, tokens, vocabulary_size
from cmgems_cli.modeling.families import family_config, is_dnabert2, positions_of
from cmgems_cli.modeling.own_tokenizer import TOKENIZER_FILES, OwnTokenizer
from cmgems_cli.modeling.presets import PRESETS
from cmgems_cli.modeling.tokenizer import write_tokenizer
from cmgems_cli.modeling.weights import PICKLED, SAFETENSORS, own_tensors, write_tensors
from cmgems_cli.readable import meant
from cmgems_cli.staging import MARKER
from cmgems_cli.structured_text import read_json

CONFIG = "config.json"

# The settings in a BERT's config.json that affect its results. All others are ignored.
_COUNTS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_FRACTIONS = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_SIZES = ("initializer_range", "layer_norm_eps")
_REAL = {*_FRACTIONS, *_SIZES}
_FIELDS = (*_COUNTS, *_FRACTIONS, *_SIZES, "hidden_act", "tie_word_embeddings", "pad_token_id")

# Files of our runs; where they are, a manifest has to be too.
_OURS = ("metrics.jsonl", "predictions.csv", "checkpoints/step_*")

# transformers adds what this file names to the weights of any model that it opens.
_ADAPTER = "adapter_config.json"

# ours: the deepest BERTs have some dozens.
_MOST_LAYERS = 1_000

# Settings with which a "bert" differs from the stock BERT used here, and their required values.
_STOCK = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}


@dataclass(frozen=True, eq=False)
class Architecture:
    """What a model computes and how it reads DNA.

    Attributes
    ----------
    config : BertConfig, or the configuration of another family
    tokenization : Tokenization
    """

    config: Any
    tokenization: Tokenization

    @property
    def positions(self) -> int:
        """The longest input, special tokens included."""
        return positions_of(self.config)


def read_architecture(folder: Path, kind: str = "model") -> Architecture:
    """Read a folder of any family; parameters and errors as `read_config`, `family_config` and `OwnTokenizer`."""
    path = _checked(folder, kind)
    raw = read_settings(path)
    if _reads_kmers(raw, _has_tokenizer(folder)):
        config = _kmer_config(raw, path)
        return Architecture(config, OverlappingKmers(vocabulary_k(folder, config.vocab_size)))
    return Architecture(family_config(raw, path), OwnTokenizer(folder))


def check_settings(raw: dict[str, Any], source: Path, *, has_tokenizer: bool) -> None:
    """Check the content of a config.json whose folder is not here yet.

    Parameters
    ----------
    raw : dict
    source : Path
        For messages.
    has_tokenizer : bool
        Whether there are tokenizer files next to it.

    Raises
    ------
    InputError
        As `read_architecture`.
    """
    if _reads_kmers(raw, has_tokenizer):
        _kmer_config(raw, source)
    else:
        family_config(raw, source)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def _reads_kmers(raw: dict[str, Any], has_tokenizer: bool) -> bool:
    """Tell a BERT of our vocabulary, or something meant to be one, from the models with tokens of their own."""
    if raw.get("model_type", "bert") != "bert" or is_dnabert2(raw):
        return False
    ours = {vocabulary_size(k) for k in range(MIN_K, MAX_K + 1)}
    return raw.get("vocab_size") in ours or not has_tokenizer


def read_config(folder: Path, kind: str = "model") -> BertConfig:
    """Read the architecture of a BERT of our vocabulary in Hugging Face format.

    Other settings in config.json (generation, other heads, remote code) have no effect and are ignored.

    Parameters
    ----------
    folder : Path
    kind : str, default "model"
        Required kind if the folder is an artifact of this package: model or classifier.

    Raises
    ------
    InputError
        If the folder is missing or has no readable config.json, is an artifact of another kind, or does not
        describe a stock BERT encoder.
    """
    path = _checked(folder, kind)
    return _kmer_config(read_settings(path), path)


def _checked(folder: Path, kind: str) -> Path:
    """Return the path of the config.json of a folder that is whole."""
    needed = f"a folder in Hugging Face format ({CONFIG} and {SAFETENSORS})"
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        near = "" if folder.exists() else meant(str(folder), PRESETS)
        raise InputError(
            f"{folder} {problem}; needed a model's name ({', '.join(PRESETS)}) or {needed}{near}"
        )
    if is_finished(folder):
        read_manifest(folder, kind, verify=True)
    elif (folder / MARKER).exists():
        raise InputError(
            f"{folder} is an unfinished run; needed {needed}: run the same command again to finish it"
        )
    elif trace := next((name for name in _OURS if any(folder.glob(name))), None):
        raise InputError(
            f"{folder} has {trace}, which cmgems writes, and no {MANIFEST}: it is unfinished or was copied in part;"
            " copy the whole folder, or run the command again that wrote it"
        )
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} has no {CONFIG}; needed {needed}")
    if (folder / _ADAPTER).exists():
        raise InputError(
            f"{folder} has {_ADAPTER}: adapters of peft next to the weights; needed one model: merge them with"
            " peft's `merge_and_unload()` and save the result in another folder"
        )
    return path


def _kmer_config(raw: dict[str, Any], path: Path) -> BertConfig:
    _check_is_stock_bert(raw, path)
    values = {name: raw[name] for name in _FIELDS if name in raw and name != "pad_token_id"}
    # JSON writes 1 for 1.0, and BertConfig insists on the type.
    config = BertConfig(**{name: float(value) if name in _REAL else value for name, value in values.items()})
    # [PAD] is token 0 of the only accepted vocabulary.
    config.pad_token_id = PAD
    _check_can_be_built(config, path)
    return config


def read_settings(path: Path) -> dict[str, Any]:
    """Read a JSON file of a model folder.

    Raises
    ------
    InputError
        If it is not readable, or holds something other than an object.
    """
    try:
        check_no_lfs_pointer(path)
        raw = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not readable JSON ({error}); get it again") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path} holds no table of settings; needed a JSON object")
    return raw


def _check_can_be_built(config: BertConfig, path: Path) -> None:
    """Refuse sizes that no machine, or not this one, can hold: weights are compared only where there are some."""
    hidden, layers = config.hidden_size, config.num_hidden_layers
    rows = config.vocab_size + config.max_position_embeddings + config.type_vocab_size
    size = 4 * hidden * (rows + layers * (4 * hidden + 2 * config.intermediate_size))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else size
    if layers > _MOST_LAYERS or size > memory:
        raise InputError(
            f"{path} declares a model of {layers:,} layers and {size // 10**9:,} GB; needed at most"
            f" {_MOST_LAYERS:,} layers and the {memory / 1e9:,.0f} GB of this machine: correct it"
        )


def _check_is_stock_bert(raw: dict[str, Any], path: Path) -> None:
    # DNABERT's first files give only the architecture.
    listed = raw.get("architectures")
    architecture = str(listed[0]) if isinstance(listed, list) and listed else "?"
    kind = raw.get("model_type") or ("bert" if architecture.startswith("Bert") else architecture)
    if kind != "bert":
        raise InputError(f"{path} describes a model of type {str(kind)[:60]}; needed a BERT")
    for name, stock in _STOCK.items():
        if raw.get(name, stock) != stock:
            raise InputError(
                f"{path} has {name} {_short(raw[name])}; needed a stock BERT encoder, which has {stock!r}"
            )
    tests = [
        (_COUNTS, "a whole number from 1 up", lambda value: type(value) is int and value >= 1),
        (_FRACTIONS, "a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1),
        (_SIZES, "a number above 0", lambda value: _is_number(value) and 0 < value <= sys.float_info.max),
        (
            ("hidden_act",),
            "the name of an activation",
            lambda value: isinstance(value, str) and value in ACT2FN,
        ),
        (("tie_word_embeddings",), "true or false", lambda value: isinstance(value, bool)),
    ]
    for names, needed, passes in tests:
        for name in names:
            if name in raw and not passes(raw[name]):
                raise InputError(f"{path} has {name} {_short(raw[name])}; needed {needed}")
    hidden, heads = raw.get("hidden_size", 768), raw.get("num_attention_heads", 12)
    if hidden % heads:
        raise InputError(f"{path} has hidden_size {hidden}; needed a multiple of its {heads} attention heads")


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


def _short(value: object) -> str:
    text = type(value).__name__ if isinstance(value, list | dict) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def vocabulary_k(folder: Path, vocab_size: int) -> int:
    """Return the token length of a folder's vocabulary, which must be ours (method, section 1).

    Parameters
    ----------
    folder : Path
        Its `vocab.txt` and `tokenizer.json`, if present, are compared token by token. Its setting for lower
        case is ignored, since this package encodes the sequences.
    vocab_size : int, tokens
        From the folder's config.json.

    Raises
    ------
    InputError
        If the size is not 5 + 4^k, or a file lists other tokens or another order.
    """
    matching = [k for k in range(MIN_K, MAX_K + 1) if vocabulary_size(k) == vocab_size]
    if not matching:
        raise InputError(
            f"{folder / CONFIG} has vocab_size {vocab_size:,}; needed 5 special tokens and 4^k k-mers, k from"
            f" {MIN_K} to {MAX_K} (4,101 for 6-mers)"
        )
    k = matching[0]
    for name, listed in (("vocab.txt", _vocab_txt(folder)), ("tokenizer.json", _tokenizer_json(folder))):
        if listed is None or listed == tokens(k):
            continue
        if len(listed) != vocab_size:
            raise InputError(
                f"{folder / name} lists {len(listed):,} tokens; its {CONFIG} has vocab_size {vocab_size:,}"
            )
        token_id, listed_token, our_token = next(
            (i, a, b) for i, (a, b) in enumerate(zip(listed, tokens(k), strict=True)) if a != b
        )
        raise InputError(
            f"{folder / name} has {listed_token!r} as token {token_id}; needed {our_token!r}: DNABERT's order,"
            " special tokens and then k-mers by A, T, C, G"
        )
    return k


def _vocab_txt(folder: Path) -> list[str] | None:
    path = folder / "vocab.txt"
    if not path.is_file():
        return None
    try:
        check_no_lfs_pointer(path)
        return path.read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable list of tokens ({error}); get it again") from None


def _tokenizer_json(folder: Path) -> list[str] | None:
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    raw = read_settings(path)
    try:
        vocabulary = raw["model"]["vocab"]
        return sorted(vocabulary, key=vocabulary.__getitem__)
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not hold a vocabulary of whole tokens ({error!r}); needed our 5 + 4^k"
        ) from None


def save_model(
    folder: Path, model: PreTrainedModel, k: int, *, extra_config: dict[str, Any] | None = None
) -> list[str]:
    """Write a model folder that `AutoModelForMaskedLM`, `AutoModel` and `AutoTokenizer` load without remote code.

    Parameters
    ----------
    folder : Path
        An existing folder; files with the same names are replaced.
    model : BertForMaskedLM, or another stock BERT
        On any device. Weights are written as float32, tied ones once.
    k : int
        Bases per token.
    extra_config : dict, optional
        Further entries of config.json.

    Returns
    -------
    list of str
        The file names, for the manifest. Equal weights and configuration give equal bytes: the files hold no
        version, path or time.
    """
    config = {name: getattr(model.config, name) for name in _FIELDS}
    config = {"architectures": [type(model).__name__], "model_type": "bert", "dtype": "float32", **config}
    write_json(folder / CONFIG, {**config, **(extra_config or {})})
    # transformers requires this entry, which names the framework of the tensors.
    write_tensors(folder / SAFETENSORS, own_tensors(model), {"format": "pt"})
    return [CONFIG, SAFETENSORS, *write_tokenizer(folder, k, model.config.max_position_embeddings)]


def digest_of_model_folder(folder: Path) -> str:
    """Return the digest of an artifact, or of the files of another folder that affect its results."""
    if is_finished(folder):
        return read_manifest(folder, verify=True).digest
    paths = [folder / name for name in (CONFIG, SAFETENSORS, PICKLED)]
    if not _reads_kmers(read_settings(folder / CONFIG), _has_tokenizer(folder)):
        # Weights may be in several files.
        paths += [
            *folder.glob("*.safetensors"),
            *folder.glob("*.bin"),
            *(folder / name for name in TOKENIZER_FILES),
        ]
    hashes = {path.name: sha256_of_file(path) for path in paths if path.is_file()}
    return sha256_of_bytes(canonical_json(hashes).encode())
