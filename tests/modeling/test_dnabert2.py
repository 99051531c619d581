"""DNABERT-2's encoder against a plain reference, and against an independent package where it is installed."""

import math

import numpy as np
import pytest
import torch

from cmgems_cli.modeling.dnabert2 import DnaBert2Config, DnaBert2Model, alibi_slopes

SIZES = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "intermediate_size": 40,
}


def model_of(sizes: dict[str, int], seed: int = 0) -> DnaBert2Model:
    torch.manual_seed(seed)
    model = DnaBert2Model(DnaBert2Config(**sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def ragged_batch(vocabulary: int, lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, vocabulary, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return ids * mask, mask


def test_slopes_are_those_of_the_alibi_paper() -> None:
    assert alibi_slopes(8) == [2.0**-power for power in range(1, 9)]
    # 12 heads: the series of 8, then every second slope of the series of 16.
    expected = alibi_slopes(8) + [2.0 ** (-power / 2) for power in (1, 3, 5, 7)]
    assert alibi_slopes(12) == pytest.approx(expected)


def layer_norm(states: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    mean = states.mean(-1, keepdims=True)
    variance = ((states - mean) ** 2).mean(-1, keepdims=True)
    return (states - mean) / np.sqrt(variance + 1e-12) * weight + bias


def plain_forward(model: DnaBert2Model, ids: list[int]) -> np.ndarray:
    """One sequence, one token and one head at a time, in float64."""
    p = {name: tensor.detach().double().numpy() for name, tensor in model.named_parameters()}
    heads = model.config.num_attention_heads
    width = model.config.hidden_size // heads
    hidden = np.stack(
        [
            p["embeddings.word_embeddings.weight"][i] + p["embeddings.token_type_embeddings.weight"][0]
            for i in ids
        ]
    )
    hidden = layer_norm(hidden, p["embeddings.LayerNorm.weight"], p["embeddings.LayerNorm.bias"])
    for number in range(model.config.num_hidden_layers):
        q = {
            name.split(f"layer.{number}.")[1]: value
            for name, value in p.items()
            if f"layer.{number}." in name
        }
        qkv = hidden @ q["attention.self.Wqkv.weight"].T + q["attention.self.Wqkv.bias"]
        query, key, value = np.split(qkv, 3, axis=1)
        context = np.zeros_like(hidden)
        for head, slope in enumerate(alibi_slopes(heads)):
            part = slice(head * width, (head + 1) * width)
            for i in range(len(ids)):
                scores = [
                    query[i, part] @ key[j, part] / math.sqrt(width) - slope * abs(i - j)
                    for j in range(len(ids))
                ]
                weights = np.exp(scores) / np.exp(scores).sum()
                context[i, part] = sum(w * value[j, part] for j, w in enumerate(weights))
        context = context @ q["attention.output.dense.weight"].T + q["attention.output.dense.bias"]
        norm = "attention.output.LayerNorm"
        hidden = layer_norm(context + hidden, q[f"{norm}.weight"], q[f"{norm}.bias"])
        gate, linear = np.split(hidden @ q["mlp.gated_layers.weight"].T, 2, axis=1)
        gelu = gate * 0.5 * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
        fed = (gelu * linear) @ q["mlp.wo.weight"].T + q["mlp.wo.bias"]
        hidden = layer_norm(fed + hidden, q["mlp.layernorm.weight"], q["mlp.layernorm.bias"])
    return hidden


def test_states_equal_a_plain_forward_with_and_without_padding() -> None:
    model = model_of(SIZES)
    lengths = [9, 4, 1]
    ids, mask = ragged_batch(50, lengths)
    with torch.no_grad():
        padded = model.hidden_states(ids, mask)[-1]
        alone = model.hidden_states(ids[:1], None)[-1]
    for row, length in enumerate(lengths):
        expected = plain_forward(model, ids[row, :length].tolist())
        np.testing.assert_allclose(padded[row, :length].numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(alone[0].numpy(), plain_forward(model, ids[0].tolist()), atol=1e-5)


def test_states_equal_those_of_an_independent_implementation() -> None:
    """With the package multimolecule, which is installed for this comparison alone."""
    pytest.importorskip(
        "multimolecule", reason="install multimolecule to compare with another implementation"
    )
    from multimolecule.models.dnabert2 import DnaBert2Config as TheirConfig
    from multimolecule.models.dnabert2 import DnaBert2Model as TheirModel

    sizes = {
        **SIZES,
        "vocab_size": 4096,
        "hidden_size": 96,
        "num_attention_heads": 12,
        "intermediate_size": 200,
    }
    theirs, ours = TheirModel(TheirConfig(**sizes)).eval(), model_of(sizes)
    renamed = {}
    for name, tensor in ours.state_dict().items():
        their_name = name.replace("LayerNorm", "layer_norm").replace("layernorm", "layer_norm")
        their_name = their_name.replace("gated_layers", "up_proj").replace("mlp.wo", "mlp.down_proj")
        if "Wqkv" in their_name:
            for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                renamed[their_name.replace("Wqkv", part)] = piece
        else:
            renamed[their_name] = tensor
    theirs.load_state_dict(renamed, strict=False)
    ids, mask = ragged_batch(4096, [40, 25, 7])
    with torch.no_grad():
        for attention_mask in (mask, torch.ones_like(mask)):
            expected = theirs(ids, attention_mask=attention_mask).last_hidden_state
            found = ours.hidden_states(ids, attention_mask)[-1]
            difference = (expected - found).abs() * attention_mask[..., None]
            assert difference.max() < 1e-4
