"""The named models against the paper's Table 5."""

from pathlib import Path

import pytest
import torch
from transformers import BertForMaskedLM

from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.modeling.presets import PRESETS, bert_config
from cmgems_cli.training.pretrain_options import PretrainingOptions


@pytest.mark.parametrize(
    ("name", "k", "parameters", "published"),
    [
        ("dnabert", 6, 89_196_549, 89e6),
        ("logo", 6, 4_933_125, 5e6),
        ("tiny", 6, 403_845, None),
        ("tiny", 3, 141_765, None),
    ],
)
def test_parameter_counts_with_the_tied_decoder(
    name: str, k: int, parameters: int, published: float | None
) -> None:
    with torch.device("meta"):
        model = BertForMaskedLM(bert_config(name, k))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    if published:
        assert parameters == pytest.approx(published, rel=0.02)


def test_dropout_is_that_of_the_paper() -> None:
    for name, dropout in (("dnabert", 0.1), ("logo", 0.0), ("tiny", 0.0)):
        config = bert_config(name, 6)
        assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == dropout


def test_every_preset_takes_512_positions() -> None:
    assert {bert_config(name, 6).max_position_embeddings for name in PRESETS} == {512}


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="dnabert, logo, tiny"):
        bert_config("logos", 6)


def test_presets_are_named_in_any_case_of_letters_unless_a_folder_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = ModelSource("Tiny", "Random")
    assert (source.preset, source.init, source.name) == ("tiny", "random", "tiny-random")
    assert PretrainingOptions(model="LOGO", init="RANDOM") == PretrainingOptions(model="logo", init="random")
    Path("Tiny").mkdir()
    assert ModelSource("Tiny").folder == Path("Tiny")
    assert ModelSource.of_folder(Path("Logo")).folder == Path("Logo")
    with pytest.raises(InputError, match=r"tinny does not exist; .*; did you mean tiny\?"):
        _ = ModelSource("tinny").architecture
