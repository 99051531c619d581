"""Encoders of other families: any folder that stock `transformers` opens without remote code, and DNABERT-2's.

The k-mer BERTs of this package have a faster path of their own (`encoder`). Here `transformers` reads the weights,
and this module checks that it found all of them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from cmgems_cli import draws
from cmgems_cli.errors import InputError
from cmgems_cli.modeling.dnabert2 import (
    DnaBert2Config,
    DnaBert2ForSequenceClassification,
    DnaBert2Model,
)
from cmgems_cli.modeling.weights import PICKLED, SAFETENSORS, read_weights

# Model types that need the code in their folders, which is never run.
NEEDS_REMOTE_CODE = {
    "hyenadna": "HyenaDNA",
    "caduceus": "Caduceus",
    "evo": "Evo",
    "evo2": "Evo 2",
    "stripedhyena": "StripedHyena (Evo)",
    "stripedhyena2": "StripedHyena 2 (Evo 2)",
    "ntv3": "Nucleotide Transformer v3",
    "neobert": "NeoBERT",
}

# Settings of dropout between layers, by family; the first that a configuration has are set together.
_HIDDEN_DROPOUT = ("hidden_dropout_prob", "embedding_dropout", "mlp_dropout", "hidden_dropout", "dropout")

# ours: DNABERT-2 has no longest input (ALiBi). Attention over 10,000 tokens is what its authors tried.
ALIBI_POSITIONS = 10_000


def is_dnabert2(settings: dict[str, Any]) -> bool:
    """Return whether a config.json describes a DNABERT-2 or DNABERT-S."""
    return settings.get("model_type") == "bert" and "alibi_starting_size" in settings


def family_config(settings: dict[str, Any], source: Path) -> Any:
    """Return the configuration object of a config.json of another family.

    Parameters
    ----------
    settings : dict
        Content of the file, which is `source`.

    Raises
    ------
    InputError
        If its models need remote code or read to the left only, or a value is not possible.
    """
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    if is_dnabert2(settings):
        known = DnaBert2Config.__dataclass_fields__
        return DnaBert2Config(**{name: value for name, value in settings.items() if name in known})
    kind = str(settings.get("model_type"))
    if kind in NEEDS_REMOTE_CODE:
        raise InputError(
            f"{source} describes {NEEDS_REMOTE_CODE[kind]}, which needs the code in its folder; it is never run:"
            " use a model that transformers itself contains"
        )
    own_code = settings.get("auto_map")
    if isinstance(own_code, dict) and any(
        str(name).startswith(("AutoConfig", "AutoModel")) for name in own_code
    ):
        first = " the first version of Nucleotide Transformer (500M), or" if kind == "esm" else ""
        raise InputError(
            f"{source} describes a model of type {kind} with code of its own"
            f"{' (Nucleotide Transformer v2)' if first else ''}, which is never run: use{first} a model that"
            " transformers itself contains"
        )
    if kind not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES:
        raise InputError(
            f"{source} describes a model of type {kind}, which transformers does not classify with"
        )
    if not _is_encoder(kind):
        raise InputError(
            f"{source} describes a decoder ({kind}), which reads to the left only; needed an encoder"
        )
    try:
        config = CONFIG_MAPPING[kind].from_dict(settings)
    except Exception as error:  # each class checks its values in its own way
        raise InputError(
            f"{source} has settings that a {kind} refuses ({_line(error)}); get it again"
        ) from None
    if getattr(config, "is_decoder", False):
        raise InputError(
            f"{source} describes a decoder ({kind}), which reads to the left only; needed an encoder"
        )
    if kind == "big_bird":
        # Sparse attention depends on the batch: stock models change it for good at the first short one.
        config.attention_type = "original_full"
    return config


def _is_encoder(kind: str) -> bool:
    """Return whether models of this type have a masked-LM head in `transformers`: bidirectional attention."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def positions_of(config: Any) -> int:
    """Return the longest input of a model in positions, special tokens included."""
    if isinstance(config, DnaBert2Config):
        return ALIBI_POSITIONS
    positions = int(config.max_position_embeddings)
    # These count positions from the padding id on.
    if config.model_type in ("roberta", "xlm-roberta", "camembert") or (
        config.model_type == "esm" and config.position_embedding_type == "absolute"
    ):
        positions -= config.pad_token_id + 1
    return positions


def new_family_classifier(
    config: Any, n_labels: int, weights: Path | None, *, dropout: float | None = None, seed: int = 42
) -> nn.Module:
    """Make a classifier for training: an encoder's weights, or random ones, under a new head.

    Parameters
    ----------
    config
        From `family_config`.
    n_labels : int
    weights : Path or None
        Folder of the encoder's weights; None for random ones.
    dropout : float, in [0, 1), optional
        Between layers; the model's own by default.
    seed : int, default 42
        Random weights, the head's among them, are a function of it.

    Returns
    -------
    the family's model for sequence classification
        float32, on the CPU, in training mode.

    Raises
    ------
    InputError
        If the weights are missing, damaged or not those of this architecture.
    """
    config = copy.deepcopy(config)
    config.num_labels = n_labels
    if dropout is not None:
        for name in _HIDDEN_DROPOUT:
            if hasattr(config, name):
                setattr(config, name, dropout)
    return _build(config, weights, seed, encoder_only=True).train()


def load_family_classifier(folder: Path, config: Any) -> nn.Module:
    """Open a fine-tuned classifier of another family, head included (InputError as `new_family_classifier`)."""
    return _build(config, folder, 0, encoder_only=False).eval()


def _build(config: Any, weights: Path | None, seed: int, *, encoder_only: bool) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draws.key(seed, draws.WEIGHTS)))
        if isinstance(config, DnaBert2Config):
            return _dnabert2(config, weights, encoder_only=encoder_only)
        return _stock(config, weights, encoder_only=encoder_only)


def _stock(config: Any, folder: Path | None, *, encoder_only: bool) -> nn.Module:
    from transformers import AutoModelForSequenceClassification

    if folder is None:
        return AutoModelForSequenceClassification.from_config(config)
    _check_sizes(config, folder)
    with _quiet_transformers():
        try:
            model, found = AutoModelForSequenceClassification.from_pretrained(
                str(folder),
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                weights_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as error:  # of safetensors, torch or transformers, depending on the damage
            raise InputError(f"{folder}: its weights do not fit its config.json ({_line(error)})") from None
    prefix = f"{model.base_model_prefix}."
    needed = {name for name in found["missing_keys"] if name.startswith(prefix) or not encoder_only}
    # Pretraining trains no pooler, and not every family has one.
    missing = sorted(name for name in needed if encoder_only is False or ".pooler." not in name)
    if missing:
        raise InputError(f"{folder} has no weights for {missing[0]}; needed those of a {config.model_type}")
    _check_finite(model, folder)
    return model


def _dnabert2(config: DnaBert2Config, folder: Path | None, *, encoder_only: bool) -> nn.Module:
    if folder is not None:
        _check_sizes(config, folder)
    model = DnaBert2ForSequenceClassification(config)
    if folder is None:
        return model
    weights = read_weights(folder)
    if not any(name.startswith("bert.") for name in weights):
        # DNABERT-S keeps the encoder alone.
        weights = {f"bert.{name}": tensor for name, tensor in weights.items()}
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if name not in weights:
            if encoder_only and (name.startswith("classifier.") or ".pooler." in name):
                continue
            raise InputError(f"{folder} has no weights for {name}; needed those of a DNABERT-2")
        if weights[name].shape != parameter.shape:
            raise InputError(
                f"{folder} has {name} of shape {tuple(weights[name].shape)}; its config.json needs"
                f" {tuple(parameter.shape)}"
            )
        if not (encoder_only and name.startswith("classifier.")):
            with torch.no_grad():
                parameter.copy_(weights[name])
    return model


def _check_sizes(config: Any, folder: Path) -> None:
    """Compare the declared sizes with the file of weights before anything is allocated."""
    path = folder / SAFETENSORS
    if not path.is_file():
        if not (folder / PICKLED).is_file() and not list(folder.glob("*.index.json")):
            raise InputError(f"{folder} has no weights; needed {SAFETENSORS} or {PICKLED}")
        return
    try:
        with safe_open(path, "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    except Exception as error:  # safetensors raises its own, OSError or ValueError
        raise InputError(
            f"{path} is not a readable safetensors file ({_line(error)}); get it again"
        ) from None
    sizes = {size for shape in shapes for size in shape}
    layers = config.num_hidden_layers
    if config.hidden_size not in sizes or config.vocab_size not in sizes or layers > len(shapes):
        raise InputError(
            f"{folder}: its config.json declares {layers:,} layers of width {config.hidden_size:,} and"
            f" {config.vocab_size:,} tokens, which {SAFETENSORS} does not hold; get both from one place"
        )


def _check_finite(model: nn.Module, folder: Path) -> None:
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise InputError(f"{folder}: {name} holds numbers that are not finite; its training diverged")


def count_parameters(config: Any) -> int:
    """Return the number of an encoder's parameters, without allocating them."""
    from transformers import AutoModel

    with torch.device("meta"):
        model = DnaBert2Model(config) if isinstance(config, DnaBert2Config) else AutoModel.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def encoder_of(model: nn.Module) -> Any:
    """Return the encoder of a model with a head."""
    return getattr(model, str(model.base_model_prefix))


def family_states(model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None) -> list[Tensor]:
    """Return the states of the embeddings and of every layer.

    Parameters
    ----------
    model
        From `new_family_classifier` or `load_family_classifier`.
    input_ids : int64, shape (b, t)
    attention_mask : bool or integer, shape (b, t), optional

    Returns
    -------
    list of floating tensors, shape (b, t, hidden)
        Values at padding are meaningless.
    """
    if isinstance(model, DnaBert2ForSequenceClassification):
        return model.bert.hidden_states(input_ids, attention_mask)
    output = encoder_of(model)(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
    # The last entry of some families lacks the final normalisation.
    return [*output.hidden_states[:-1], output.last_hidden_state]


def head_logits(model: nn.Module, pooled: Tensor) -> Tensor:
    """Return the logits of sequence vectors by the family's own head.

    Parameters
    ----------
    pooled : floating, shape (b, hidden)

    Returns
    -------
    floating, shape (b, n_labels)

    Raises
    ------
    InputError
        If the head of the family reads something else than one vector.
    """
    if isinstance(model, DnaBert2ForSequenceClassification):
        return model.head(pooled)
    parts: Any = model
    if hasattr(model, "head") and hasattr(model, "drop"):
        return parts.classifier(parts.drop(parts.head(pooled)))
    if hasattr(parts.classifier, "out_proj"):
        # These heads take the first token of what they are given.
        return parts.classifier(pooled[:, None])
    pooler = getattr(encoder_of(model), "pooler", None)
    if pooler is not None:
        # It takes the first token too.
        return parts.classifier(parts.dropout(pooler(pooled[:, None])))
    raise InputError(
        f"`pool`: the head of a {parts.config.model_type} reads its first token only; use `pool=cls`"
    )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the report of new head weights, which is expected here, and a bar of its own."""
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def family_settings(config: Any) -> dict[str, Any]:
    """Return the content of config.json of a model of another family, without labels."""
    if isinstance(config, DnaBert2Config):
        fields = {
            name: getattr(config, name)
            for name in DnaBert2Config.__dataclass_fields__
            if name != "num_labels"
        }
        return {"model_type": "bert", "alibi_starting_size": 512, **fields}
    settings: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
    # A version would make equal runs differ.
    settings.pop("transformers_version", None)
    return settings


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
