"""Model folders: what transformers makes of ours, what we make of DNABERT's, and everything refused."""

import json
import os
import pickle
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForPreTraining,
    BertModel,
)

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.errors import InputError
from cmgems_cli.genome.vocabulary import tokens
from cmgems_cli.modeling.classifier import new_classifier
from cmgems_cli.modeling.folder import save_model
from cmgems_cli.modeling.masked_lm import load_masked_lm
from cmgems_cli.modeling.model_source import ModelSource
from tests.timing import within


def equal_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A folder this package wrote: `tiny` for 3-mers."""
    folder = tmp_path / "ours"
    folder.mkdir()
    save_model(folder, *load_masked_lm(ModelSource("tiny"), k=3, seed=5))
    return folder


@pytest.fixture
def dnabert(tmp_path: Path) -> Path:
    """A folder as DNABERT's: pickled weights with pooler and NSP head, old names and old settings."""
    folder = tmp_path / "DNABERT3"
    folder.mkdir()
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig(vocab_size=69, **shape))
    weights = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma"): x for name, x in model.state_dict().items()
    }
    weights = {name.replace("LayerNorm.bias", "LayerNorm.beta"): x for name, x in weights.items()}
    weights["bert.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(weights, folder / "pytorch_model.bin")
    config = {
        **shape,
        "architectures": ["BertForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "bos_token_id": 0,
        "do_sample": False,
        "eos_token_ids": 0,
        "finetuning_task": None,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512,
        "model_type": "bert",
        "num_beams": 1,
        "num_rnn_layer": 1,
        "output_past": True,
        "pruned_heads": {},
        "rnn": "lstm",
        "rnn_dropout": 0.0,
        "rnn_hidden": 768,
        "split": 10,
        "torch_dtype": "float16",
        "type_vocab_size": 2,
        "use_bfloat16": False,
        "vocab_size": 69,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(tokens(3)) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "max_len": 512}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"unk_token": "[UNK]"}))
    return folder


# --- ours, as transformers opens it


def test_transformers_opens_a_saved_model_whole(ours: Path) -> None:
    expected, _ = load_masked_lm(ModelSource("tiny"), k=3, seed=5)
    model, report = AutoModelForMaskedLM.from_pretrained(ours, output_loading_info=True)
    assert not any(report.values()), report
    assert model.dtype == torch.float32
    assert equal_weights(model, expected)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight

    encoder, report = AutoModel.from_pretrained(ours, output_loading_info=True)
    # Masked-LM pretraining trains no pooler; everything else is there.
    assert report["missing_keys"] == {"pooler.dense.weight", "pooler.dense.bias"}
    tokenizer = AutoTokenizer.from_pretrained(ours)
    inputs = tokenizer("ACGTTGCATN", return_tensors="pt")
    with torch.no_grad():
        states = encoder.eval()(**inputs).last_hidden_state
        torch.testing.assert_close(states, expected.eval().bert(inputs["input_ids"]).last_hidden_state)


def test_a_saved_model_loads_here_as_it_was(ours: Path) -> None:
    expected, _ = load_masked_lm(ModelSource("tiny"), k=3, seed=5)
    model, k = load_masked_lm(ModelSource(str(ours)))
    assert k == 3
    assert equal_weights(model, expected)


def test_equal_models_give_equal_bytes_without_versions_or_paths(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
        files = save_model(folder, *load_masked_lm(ModelSource("tiny"), k=3, seed=5))
        assert sorted(files) == sorted(path.name for path in folder.iterdir())
    for file in files:
        data = (folders[0] / file).read_bytes()
        assert data == (folders[1] / file).read_bytes()
        assert str(tmp_path).encode() not in data
    assert "transformers_version" not in (folders[0] / "config.json").read_text()
    # Through another folder and back: where weights came from leaves no trace.
    save_model(folders[1], *load_masked_lm(ModelSource(str(folders[0]))))
    for file in files:
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_weights_are_saved_as_float32_and_tied_ones_once(tmp_path: Path) -> None:
    model, k = load_masked_lm(ModelSource("tiny"), k=3)
    save_model(tmp_path, model.to(torch.bfloat16), k)
    weights = load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert "cls.predictions.decoder.weight" not in weights
    assert len(weights) == len(dict(model.named_parameters()))
    with safe_open(tmp_path / "model.safetensors", "pt") as stream:
        assert stream.metadata() == {"format": "pt"}


def test_others_may_read_the_weights_as_they_read_the_rest(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    mode = (tmp_path / "plain").stat().st_mode
    save_model(tmp_path, *load_masked_lm(ModelSource("tiny")))
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {mode}


def test_loading_and_saving_say_nothing(ours: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_model(ours, *load_masked_lm(ModelSource(str(ours))))
    assert capfd.readouterr() == ("", "")


# --- random weights


def test_random_weights_are_a_function_of_the_seed_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first, _ = load_masked_lm(ModelSource("tiny"), k=3, seed=7)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert equal_weights(first, load_masked_lm(ModelSource("tiny"), k=3, seed=7)[0])
    assert not equal_weights(first, load_masked_lm(ModelSource("tiny"), k=3, seed=8)[0])


def test_random_weights_follow_the_initializer_range() -> None:
    model, k = load_masked_lm(ModelSource("tiny"), seed=1)
    assert k == 6
    embeddings = model.bert.embeddings.word_embeddings.weight
    assert embeddings[1:].std().item() == pytest.approx(0.02, rel=0.01)
    assert not embeddings[0].any()
    assert not model.cls.predictions.bias.any()


def test_models_use_the_fused_attention_and_start_in_training_mode() -> None:
    model, _ = load_masked_lm(ModelSource("tiny"), k=3)
    assert model.config._attn_implementation == "sdpa"
    assert model.training


# --- DNABERT's folders


def stock_weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "pytorch_model.bin", weights_only=True)


def test_a_dnabert_folder_loads_weight_by_weight(dnabert: Path) -> None:
    model, k = load_masked_lm(ModelSource(str(dnabert)))
    assert k == 3
    raw = stock_weights(dnabert)
    for name, parameter in model.named_parameters():
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        assert torch.equal(parameter, raw[old]), name
    assert model.config.num_attention_heads == 4
    assert model.config.hidden_dropout_prob == 0.1


def test_transformers_computes_the_same_from_a_dnabert_folder(dnabert: Path) -> None:
    peer = AutoModelForMaskedLM.from_pretrained(dnabert, dtype=torch.float32).eval()
    model, _ = load_masked_lm(ModelSource(str(dnabert)))
    ids = torch.randint(5, 69, (2, 9))
    torch.testing.assert_close(model.eval()(ids).logits, peer(ids).logits)


def test_a_dnabert_folder_saved_again_encodes_without_lower_casing(dnabert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    save_model(out, *load_masked_lm(ModelSource(str(dnabert))))
    assert AutoTokenizer.from_pretrained(out)("AAA AAT")["input_ids"] == [2, 5, 6, 3]
    assert "rnn" not in json.loads((out / "config.json").read_text())


def test_dnaberts_first_config_without_a_model_type_loads(dnabert: Path) -> None:
    edit_config(dnabert, model_type=None)
    assert load_masked_lm(ModelSource(str(dnabert)))[1] == 3


def test_safetensors_are_preferred_and_half_precision_becomes_float32(dnabert: Path) -> None:
    renamed = {name: tensor.clone() for name, tensor in stock_weights(dnabert).items()}
    half = {name: x.half() if x.is_floating_point() else x for name, x in renamed.items()}
    save_file(half, dnabert / "model.safetensors")
    (dnabert / "pytorch_model.bin").write_bytes(b"not read")
    model, _ = load_masked_lm(ModelSource(str(dnabert)))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_missing_vocabulary_file_leaves_k_to_the_size(dnabert: Path) -> None:
    (dnabert / "vocab.txt").unlink()
    assert load_masked_lm(ModelSource(str(dnabert)))[1] == 3


def test_init_random_takes_a_folders_architecture_alone(dnabert: Path) -> None:
    (dnabert / "pytorch_model.bin").unlink()
    model, k = load_masked_lm(ModelSource(str(dnabert), "random"), seed=3)
    assert (k, model.config.hidden_size) == (3, 16)
    assert equal_weights(model, load_masked_lm(ModelSource(str(dnabert), "random"), seed=3)[0])


def test_init_path_fills_a_preset(ours: Path) -> None:
    model, k = load_masked_lm(ModelSource("tiny", str(ours)), seed=99)
    assert k == 3
    assert equal_weights(model, load_masked_lm(ModelSource(str(ours)))[0])


# --- refused, in one line that names the trouble


def edit_config(folder: Path, **changed: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.update(changed)
    config = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = stock_weights(folder)
    change(weights)
    torch.save(weights, folder / "pytorch_model.bin")


def refuse(pattern: str, model: Path | str, init: Path | None = None, k: int | None = None) -> None:
    with pytest.raises(InputError, match=pattern) as caught:
        load_masked_lm(ModelSource(str(model), init and str(init)), k=k)
    assert "\n" not in str(caught.value)


CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "another type": ({"model_type": "gpt2"}, "type gpt2; needed a BERT"),
    "no type at all": ({"model_type": None, "architectures": None}, r"type \?"),
    "a decoder": ({"is_decoder": True}, "is_decoder True"),
    "relative positions": ({"position_embedding_type": "relative_key"}, "relative_key"),
    "text for a number": ({"hidden_size": "16"}, "hidden_size '16'"),
    "no layers": ({"num_hidden_layers": 0}, "num_hidden_layers 0"),
    "heads that do not divide": ({"num_attention_heads": 3}, "multiple of its 3"),
    "an unknown activation": ({"hidden_act": "nope"}, "hidden_act 'nope'"),
    "dropout of 1": ({"hidden_dropout_prob": 1}, "hidden_dropout_prob 1"),
    "a vocabulary size of no k": ({"vocab_size": 4096}, "vocab_size 4,096"),
    "a vocabulary of another k": ({"vocab_size": 261}, r"vocab.txt lists 69 tokens"),
    "more layers than weights": ({"num_hidden_layers": 3}, "no weights for bert.encoder.layer.2"),
    "fewer layers than weights": ({"num_hidden_layers": 1}, "lacks: bert.encoder.layer.1"),
    "another width": (
        {"intermediate_size": 64},
        r"shape \(32, 16\); the requested architecture needs \(64, 16\)",
    ),
    "fewer positions": ({"max_position_embeddings": 128}, r"needs \(128, 16\)"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_is_not_such_a_bert_is_refused(dnabert: Path, case: str) -> None:
    changed, pattern = CONFIGS[case]
    edit_config(dnabert, **changed)
    refuse(pattern, dnabert)


def drop(name: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda weights: weights.pop(name)


def put(name: str, value: Any) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda weights: weights.__setitem__(name, value)


WEIGHTS = {
    "one missing": (
        drop("bert.encoder.layer.0.output.dense.bias"),
        "no weights for bert.encoder.layer.0.output.dense.bias;",
    ),
    "head missing": (
        drop("cls.predictions.transform.dense.weight"),
        "no weights for cls.predictions.transform",
    ),
    "one more": (put("classifier.weight", torch.zeros(2, 16)), "lacks: classifier.weight"),
    "not finite": (put("cls.predictions.transform.dense.bias", torch.full((16,), torch.nan)), "not finite"),
    "an untied decoder": (put("cls.predictions.decoder.weight", torch.zeros(69, 16)), "tie_word_embeddings"),
    "not a tensor": (put("step", 3), "not hold a table of tensors"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit_exactly_are_refused(dnabert: Path, case: str) -> None:
    change, pattern = WEIGHTS[case]
    edit_weights(dnabert, change)
    refuse(pattern, dnabert)


def test_a_tied_decoder_need_not_be_in_the_file(dnabert: Path) -> None:
    edit_weights(dnabert, drop("cls.predictions.decoder.weight"))
    edit_weights(dnabert, drop("cls.predictions.bias"))
    load_masked_lm(ModelSource(str(dnabert)))


def test_an_encoder_without_head_is_refused(ours: Path) -> None:
    config = BertConfig(**json.loads((ours / "config.json").read_text()))
    BertModel(config).save_pretrained(ours)
    refuse("no weights for", ours)


class Harmful:
    """Unpickling it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("form", ["torch.save", "plain pickle"])
def test_a_pickle_that_runs_code_is_refused_and_not_run(dnabert: Path, tmp_path: Path, form: str) -> None:
    made = tmp_path / "made by the pickle"
    bad = {"bert.embeddings.word_embeddings.weight": Harmful(str(made))}
    if form == "torch.save":
        torch.save(bad, dnabert / "pytorch_model.bin")
    else:
        (dnabert / "pytorch_model.bin").write_bytes(pickle.dumps(bad))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refuse("could run code and was not loaded", dnabert)
    assert not made.exists()
    # The trap is live: an ordinary unpickling springs it.
    pickle.loads(pickle.dumps(bad))
    assert made.exists()


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
@pytest.mark.parametrize("left", [0, 10, 1000])
def test_cut_off_weights_are_refused(ours: Path, file: str, left: int) -> None:
    weights = load_file(ours / "model.safetensors")
    (ours / "model.safetensors").unlink()
    (save_file if file.endswith("safetensors") else torch.save)(weights, ours / file)
    (ours / file).write_bytes((ours / file).read_bytes()[:left])
    refuse(re.escape(str(ours / file)), ours)


def test_another_order_of_the_vocabulary_is_refused(dnabert: Path) -> None:
    listed = tokens(3)
    listed[6], listed[7] = listed[7], listed[6]
    (dnabert / "vocab.txt").write_text("\n".join(listed))
    refuse("vocab.txt has 'AAC' as token 6; needed 'AAT'", dnabert)


def test_another_order_in_tokenizer_json_is_refused(ours: Path) -> None:
    content = json.loads((ours / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["AAA"], vocabulary["GGG"] = vocabulary["GGG"], vocabulary["AAA"]
    (ours / "tokenizer.json").write_text(json.dumps(content))
    refuse("tokenizer.json has 'GGG' as token 5; needed 'AAA'", ours)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": {}}', '{"model": {"vocab": [["A", 0.1]]}}'])
def test_an_unreadable_tokenizer_json_is_refused(ours: Path, text: str) -> None:
    (ours / "tokenizer.json").write_text(text)
    refuse("tokenizer.json", ours)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_an_unreadable_config_is_refused(ours: Path, text: str) -> None:
    (ours / "config.json").write_text(text)
    refuse("config.json", ours)


def test_paths_that_are_no_model_are_refused(tmp_path: Path, ours: Path) -> None:
    refuse(
        r"absent does not exist; needed a model's name \(dnabert, logo, tiny\) or a folder",
        tmp_path / "absent",
    )
    refuse("is a file", ours / "config.json")
    (tmp_path / "empty").mkdir()
    refuse("has no config.json", str(tmp_path / "empty"))
    (ours / "model.safetensors").unlink()
    refuse("has no weights; needed model.safetensors or pytorch_model.bin", ours)
    (ours / "model.safetensors.index.json").write_text("{}")
    refuse("several files", ours)


def test_another_artifact_is_refused_by_its_kind(ours: Path) -> None:
    finish_artifact(ours, "corpus", params={}, inputs={}, stats={}, files=["config.json"], environment={})
    refuse("is a corpus artifact; needed a model", ours)


def test_a_model_for_another_k_is_refused(ours: Path) -> None:
    refuse("reads 3-mers; needed a model of 6-mers", ours, k=6)
    refuse("reads 3-mers; needed a model of 6-mers", "tiny", k=6, init=ours)


def test_init_from_another_architecture_is_refused(dnabert: Path, ours: Path) -> None:
    refuse("num_attention_heads 4", "tiny", init=dnabert)
    edit_config(dnabert, num_attention_heads=2)
    refuse(r"of shape .* the requested architecture needs", "tiny", init=dnabert)
    edit_config(ours, hidden_act="relu")
    refuse("hidden_act relu", "tiny", init=ours)


def test_refused_weights_leave_a_model_as_it_was(dnabert: Path) -> None:
    from cmgems_cli.modeling.weights import fit_weights, read_weights

    model, _ = load_masked_lm(ModelSource(str(dnabert), "random"), seed=1)
    weights = read_weights(dnabert)
    weights["cls.predictions.transform.dense.bias"] = torch.zeros(17)
    with pytest.raises(InputError):
        fit_weights(model, weights, dnabert)
    assert equal_weights(model, load_masked_lm(ModelSource(str(dnabert), "random"), seed=1)[0])


def test_a_copied_folder_under_a_presets_name_is_reached_by_its_path(ours: Path, tmp_path: Path) -> None:
    shutil.copytree(ours, tmp_path / "logo")
    assert load_masked_lm(ModelSource(str(tmp_path / "logo")))[0].config.hidden_size == 64


# --- folders that other programs, or half of a copy, left


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def encoder_of(model: Path) -> dict[str, torch.Tensor]:
    module = new_classifier(ModelSource(str(model)), 2)
    return {name: weights for name, weights in module.named_parameters() if name.startswith("bert.")}


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("pickled", [False, True])
def test_f13_prefixes_of_torchs_wrappers_are_removed(ours: Path, prefix: str, pickled: bool) -> None:
    expected = load_masked_lm(ModelSource(str(ours)))[0]
    renamed = {prefix + name: weights for name, weights in stored(ours).items()}
    if pickled:
        (ours / "model.safetensors").unlink()
        torch.save(renamed, ours / "pytorch_model.bin")
    else:
        save_file(renamed, ours / "model.safetensors")
    assert equal_weights(load_masked_lm(ModelSource(str(ours)))[0], expected)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_f13_an_encoder_saved_alone_is_found(ours: Path, prefix: str) -> None:
    expected = encoder_of(ours)
    alone = {
        prefix + name.removeprefix("bert."): weights
        for name, weights in stored(ours).items()
        if name.startswith("bert.")
    }
    alone[f"{prefix}pooler.dense.weight"], alone[f"{prefix}pooler.dense.bias"] = (
        torch.eye(expected["bert.pooler.dense.weight"].shape[0]),
        torch.ones(expected["bert.pooler.dense.bias"].shape[0]),
    )
    save_file(alone, ours / "model.safetensors")
    read = encoder_of(ours)
    assert torch.equal(read["bert.pooler.dense.bias"], alone[f"{prefix}pooler.dense.bias"])
    assert all(torch.equal(read[name], expected[name]) for name in read if "pooler" not in name)


def test_f13_a_weight_under_two_names_is_refused(ours: Path) -> None:
    weights = stored(ours)
    first = next(iter(weights))
    save_file({**weights, f"module.{first}": weights[first] + 1}, ours / "model.safetensors")
    refuse(f"has {re.escape(first)} twice", ours)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1619488\n"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "config.json", "tokenizer.json", "vocab.txt"]
)
@pytest.mark.parametrize("finished", [False, True])
def test_f12_a_git_lfs_pointer_says_what_to_run(ours: Path, name: str, finished: bool) -> None:
    if name == "pytorch_model.bin":
        torch.save(stored(ours), ours / name)
        (ours / "model.safetensors").unlink()
    if finished:
        finish_artifact(ours, "model", params={}, inputs={}, stats={}, files=[name], environment={})
    (ours / name).write_text(POINTER)
    refuse(f"{name} is a git-lfs pointer.*git lfs pull", ours)


@pytest.mark.parametrize("trace", ["metrics.jsonl", "predictions.csv", "checkpoints/step_000004/state.json"])
@pytest.mark.parametrize("init", [None, "random"])
def test_s12_a_folder_of_ours_without_its_manifest_is_refused(
    ours: Path, trace: str, init: str | None
) -> None:
    (ours / trace).parent.mkdir(parents=True, exist_ok=True)
    (ours / trace).write_text("{}")
    with pytest.raises(InputError, match=r"no manifest\.json: it is unfinished or was copied in part"):
        load_masked_lm(ModelSource(str(ours), init))


def test_s12_a_damaged_mark_of_an_unfinished_run_is_one_too(ours: Path) -> None:
    (ours / "unfinished.json").write_text("{")
    refuse("is an unfinished run", ours)


SIZES: dict[str, tuple[dict[str, Any], str]] = {
    "wider": ({"hidden_size": 4_096}, "4096"),
    "wide": ({"hidden_size": 32_768}, "32768|GB"),
    "deep": ({"num_hidden_layers": 100_000}, "layer"),
    "a wide feed-forward": ({"intermediate_size": 10**9}, "1000000000|GB"),
    "many positions": ({"max_position_embeddings": 10**9}, "1000000000|GB"),
    "many types": ({"type_vocab_size": 10**9}, "1000000000|GB"),
    "absurdly wide": ({"hidden_size": 10**12}, "GB of this machine"),
}


@pytest.mark.parametrize("case", SIZES)
@pytest.mark.parametrize("pickled", [False, True])
def test_m_declared_sizes_are_compared_before_anything_is_allocated(
    dnabert: Path, ours: Path, case: str, pickled: bool
) -> None:
    changed, pattern = SIZES[case]
    folder = dnabert if pickled else ours
    edit_config(folder, **changed)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def refused() -> None:
        refuse(pattern, folder)
        with pytest.raises(InputError):
            new_classifier(ModelSource(str(folder)), 2)

    assert within(5, refused)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


@pytest.mark.parametrize(
    "changed", [{"num_hidden_layers": 100_000}, {"hidden_size": 10**12}, {"type_vocab_size": 10**12}]
)
def test_m_an_architecture_no_machine_holds_is_refused(ours: Path, changed: dict[str, Any]) -> None:
    edit_config(ours, **changed)
    refuse("declares a model of", ours, init=Path("random"))


@pytest.mark.parametrize("value", [1, 2, 10**9])
@pytest.mark.parametrize("name", ["layer_norm_eps", "initializer_range"])
def test_c3_whole_numbers_are_real_numbers(ours: Path, name: str, value: int) -> None:
    edit_config(ours, **{name: value})
    assert getattr(load_masked_lm(ModelSource(str(ours)))[0].config, name) == value


def test_c3_a_dropout_of_0_is_a_real_number(dnabert: Path) -> None:
    edit_config(dnabert, hidden_dropout_prob=0, attention_probs_dropout_prob=0)
    assert load_masked_lm(ModelSource(str(dnabert)))[0].config.hidden_dropout_prob == 0


@pytest.mark.parametrize(
    "text",
    [
        '{"model_type": "bert", "layer_norm_eps": 1' + 400 * "0" + "}",
        '{"model_type": "bert", "hidden_size": 1' + 5_000 * "0" + "}",
        '{"model_type": "bert", "layer_norm_eps": NaN}',
        '{"model_type": "bert", "layer_norm_eps": true}',
        '{"model_type": "bert", "hidden_act": ["gelu"]}',
        '{"architectures": {"0": "Bert"}}',
        '{"architectures": 5}',
        '{"model_type": ["bert"]}',
        '{"model_type": "' + 10_000 * "b" + '"}',
        '{"a":' * 100_000,
        "[" * 5_000 + "]" * 5_000,
        '{"hidden_size": ' + "[" * 900 + "]" * 900 + "}",
        "\ufeff[]",
        "\udcff",
    ],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_c3_no_content_of_a_json_file_is_a_traceback(ours: Path, name: str, text: str) -> None:
    (ours / name).write_text(text, errors="surrogateescape")
    with pytest.raises(InputError, match=name) as caught:
        load_masked_lm(ModelSource(str(ours)))
    assert len(str(caught.value)) < 600


def test_c3_weights_of_odd_types_are_read_or_refused(ours: Path) -> None:
    weights = stored(ours)
    first = next(iter(weights))
    save_file({**weights, first: weights[first].to(torch.float8_e4m3fn)}, ours / "model.safetensors")
    load_masked_lm(ModelSource(str(ours)))
    save_file(
        {**weights, first: torch.full_like(weights[first], 1e300, dtype=torch.float64)},
        ours / "model.safetensors",
    )
    refuse("not finite", ours)
