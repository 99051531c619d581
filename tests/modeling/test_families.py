"""Encoders of other families against a plain `transformers` forward pass."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from cmgems_cli.errors import InputError
from cmgems_cli.modeling.dnabert2 import DnaBert2Config
from cmgems_cli.modeling.families import (
    ALIBI_POSITIONS,
    family_config,
    family_states,
    head_logits,
    new_family_classifier,
    positions_of,
)
from tests.modeling.foreign_models import make_bpe, make_nucleotide_transformer

STOCK = ("esm", "modernbert", "roformer", "big_bird")


def make(folder: Path, kind: str) -> Path:
    return make_nucleotide_transformer(folder) if kind == "esm" else make_bpe(folder, kind)


def config_of(folder: Path) -> object:
    path = folder / "config.json"
    return family_config(json.loads(path.read_text()), path)


def padded_batch(padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(6, 60, (3, 30), generator=generator)
    mask = (torch.arange(30) < torch.tensor([30, 18, 5])[:, None]).long()
    return torch.where(mask == 1, ids, padding), mask


@pytest.mark.parametrize("kind", STOCK)
def test_states_and_logits_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    folder = make(tmp_path, kind)
    config = config_of(folder)
    model = new_family_classifier(config, 3, folder, seed=1).eval()
    ids, mask = padded_batch(config.pad_token_id)  # type: ignore[attr-defined]
    stock = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = stock(ids, attention_mask=mask, output_hidden_states=True)
        states = family_states(model, ids, mask)
        logits = model(ids, attention_mask=mask).logits
        found = head_logits(model, family_states(model, ids, mask)[-1][:, 0])
    real = mask[..., None]
    assert ((states[-1] - expected.last_hidden_state) * real).abs().max() < 1e-5
    assert len(states) == len(expected.hidden_states)
    torch.testing.assert_close(found, logits)


@pytest.mark.parametrize("kind", [*STOCK, "dnabert2"])
def test_random_weights_and_heads_are_a_function_of_the_seed(tmp_path: Path, kind: str) -> None:
    folder = make(tmp_path, kind)
    config = config_of(folder)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    for weights in (folder, None):
        first, again, other = (new_family_classifier(config, 2, weights, seed=seed) for seed in (1, 1, 2))
        pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
        assert all(torch.equal(one, two) for one, two, _ in pairs)
        assert not all(torch.equal(one, three) for one, _, three in pairs)
    assert torch.equal(before, torch.random.get_rng_state())


def test_dnabert2_is_recognised_and_has_no_longest_input_of_its_file(tmp_path: Path) -> None:
    config = config_of(make_bpe(tmp_path, "dnabert2"))
    assert isinstance(config, DnaBert2Config)
    assert positions_of(config) == ALIBI_POSITIONS


def test_weights_of_dnabert_s_have_no_prefix(tmp_path: Path) -> None:
    folder = make_bpe(tmp_path, "dnabert2")
    config = config_of(folder)
    ids, mask = padded_batch(0)
    expected = family_states(new_family_classifier(config, 2, folder).eval(), ids, mask)[-1]
    weights = load_file(folder / "model.safetensors")
    bare = {
        name.removeprefix("bert."): tensor for name, tensor in weights.items() if name.startswith("bert.")
    }
    save_file(bare, folder / "model.safetensors")
    found = family_states(new_family_classifier(config, 2, folder).eval(), ids, mask)[-1]
    assert torch.equal(expected, found)


def test_positions_leave_out_those_below_the_padding_id(tmp_path: Path) -> None:
    # Published for Nucleotide Transformer: 1,000 tokens.
    assert positions_of(config_of(make_nucleotide_transformer(tmp_path))) == 1000


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_type": "hyenadna"}, "HyenaDNA, which needs the code in its folder"),
        ({"model_type": "caduceus"}, "Caduceus"),
        (
            {"model_type": "esm", "auto_map": {"AutoConfig": "esm_config.EsmConfig"}},
            "Nucleotide Transformer v2",
        ),
        ({"model_type": "llama"}, "decoder"),
        ({"model_type": "vit"}, "does not classify with"),
        ({"model_type": "esm", "hidden_size": "wide"}, "refuses"),
        ({}, "type None"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    tmp_path: Path, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        family_config(settings, tmp_path / "config.json")


@pytest.mark.parametrize("kind", ["esm", "modernbert", "dnabert2"])
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, kind: str) -> None:
    folder = make(tmp_path, kind)
    config = config_of(folder)
    path = folder / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in sorted(weights) if ".layer" in name and name.endswith("weight"))

    def refused(changed: dict[str, torch.Tensor], said: str) -> None:
        save_file(changed, path, {"format": "pt"})
        with pytest.raises(InputError, match=said):
            new_family_classifier(config, 2, folder)

    refused({key: value for key, value in weights.items() if key != name}, "has no weights for")
    refused({**weights, name: torch.zeros(3, 3)}, "shape|do not fit")
    refused({**weights, name: torch.full_like(weights[name], torch.nan)}, "not finite")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        new_family_classifier(config, 2, folder)


def test_declared_sizes_are_compared_before_anything_is_allocated(tmp_path: Path) -> None:
    folder = make_nucleotide_transformer(tmp_path)
    path = folder / "config.json"
    for change in ({"hidden_size": 10**6 * 2}, {"num_hidden_layers": 10**5}, {"vocab_size": 10**9}):
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(InputError, match="does not hold"):
            new_family_classifier(config_of(folder), 2, folder)
        make_nucleotide_transformer(tmp_path)
