"""Defaults that depend on the model and on the machine."""

from pathlib import Path

import pytest

from cmgems_cli.errors import InputError
from cmgems_cli.modeling.folder import save_model
from cmgems_cli.modeling.masked_lm import load_masked_lm
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.pretrain_options import PretrainingOptions


@pytest.mark.parametrize(
    ("preset", "device_type", "tokens"),
    [
        ("tiny", "cpu", 8_192),
        ("logo", "cpu", 8_192),
        ("dnabert", "cpu", 2_048),
        ("logo", "cuda", 131_072),
        ("dnabert", "cuda", 32_768),
    ],
)
def test_a_micro_batch_is_as_large_as_was_fastest(preset: str, device_type: str, tokens: int) -> None:
    chosen = PretrainingOptions(strategy="random", model=preset).resolve(device_type)
    assert chosen.max_batch_tokens == tokens


def test_a_folder_has_the_micro_batches_of_its_width(tmp_path: Path) -> None:
    model, k = load_masked_lm(ModelSource("tiny"))
    save_model(tmp_path, model, k)
    chosen = PretrainingOptions(strategy="random", model=str(tmp_path)).resolve("cpu")
    assert chosen.max_batch_tokens == 8_192
    with pytest.raises(InputError, match=r"does not exist; needed a model's name"):
        PretrainingOptions(strategy="random", model=str(tmp_path / "other")).resolve("cpu")
