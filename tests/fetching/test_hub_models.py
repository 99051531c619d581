"""`cmgems fetch model` from a hub of our own: what comes, what is refused before it comes, what is left."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load as safetensors_load
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_save

from cmgems_cli.fetching.sources import RECORD
from tests.command_line import CommandLine
from tests.fetching.server import COMMIT, Server
from tests.modeling.foreign_models import make_bpe, make_nucleotide_transformer


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def esm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A Nucleotide Transformer as it is published: its weights twice, for other libraries, and as code."""
    folder = make_nucleotide_transformer(tmp_path_factory.mktemp("hub") / "esm")
    weights = load_file(folder / "model.safetensors")
    # Tied weights share memory in such files.
    weights["lm_head.decoder.weight"] = weights["esm.embeddings.word_embeddings.weight"]
    torch.save(weights, folder / "pytorch_model.bin")
    extra = {
        "LICENSE": b"CC BY-NC-SA",
        "tf_model.h5": b"tf",
        "code.py": b"raise SystemExit",
        "README.md": b"#",
    }
    return {**files_of(folder), **extra}


def embedded(cmgems: CommandLine, model: Path, folder: Path) -> bytes:
    (folder / "in.csv").write_text("sequence\nACGTTGCAAGGATCCTTCGAATCTAG\n")
    out = folder / f"{model.parent.name}-{model.name}.npy"
    cmgems("embed", model, folder / "in.csv", "--out", out, "--device", "cpu", "--quiet")
    return out.read_bytes()


def test_a_model_of_a_hub_arrives_whole_and_alone(
    cmgems: CommandLine,
    server: Server,
    esm: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.add_repository("InstaDeep/nt-500m", "model", "main", esm, licence="cc-by-nc-sa-4.0")
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path / "work"))
    command = ("fetch", "model", "InstaDeep/nt-500m", "--mirror", server.url)
    planned = cmgems(*command, "--dry-run", "--json")
    needed = {"config.json", "vocab.txt", "tokenizer_config.json", "LICENSE", "model.safetensors"}
    assert planned.json["plan"]["bytes"] == sum(len(esm[name]) for name in needed)
    assert "cc-by-nc-sa-4.0" in planned.stderr
    assert not (tmp_path / "work").exists()
    done = cmgems(*command)
    assert done.stderr.index("licence") < done.stderr.index("every checksum")
    folder = tmp_path / "work" / "models" / "nt-500m"
    assert {path.name for path in folder.iterdir()} == {*needed, RECORD}
    assert [path.name for path in folder.parent.iterdir()] == ["nt-500m"]
    assert {name: (folder / name).read_bytes() for name in needed} == {name: esm[name] for name in needed}
    held = json.loads((folder / RECORD).read_text())
    assert (held["revision"], held["verified"], len(held["files"])) == (COMMIT, False, 5)
    # It is used like any folder, and its being there needs no network.
    embedded(cmgems, folder, tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "nothing had to be fetched" in cmgems(*command).stderr
    changed = cmgems("fetch", "model", "Other/nt-500m", code=4).error
    assert "holds" in changed
    assert "InstaDeep/nt-500m" in changed
    assert f"holds commit {COMMIT}" in cmgems(*command, "--revision", "v2", code=4).error


def test_pickled_weights_become_safetensors(
    cmgems: CommandLine, server: Server, esm: dict[str, bytes], tmp_path: Path
) -> None:
    whole = {name: content for name, content in esm.items() if name != "pytorch_model.bin"}
    pickled = {name: content for name, content in esm.items() if name != "model.safetensors"}
    server.add_repository("a/whole", "model", "main", whole)
    server.add_repository("a/pickled", "model", "v1", pickled)
    cmgems("fetch", "model", "a/whole", "--mirror", server.url, "--out", tmp_path / "whole")
    words = ("fetch", "model", "a/pickled", "--revision", "v1", "--mirror", server.url)
    done = cmgems(*words, "--out", tmp_path / "made")
    assert "converting 1 file(s) of weights to safetensors" in done.stderr
    assert "not given by its page" in done.stderr
    assert not (tmp_path / "made" / "pytorch_model.bin").exists()
    held = json.loads((tmp_path / "made" / RECORD).read_text())
    assert (
        held["made_from"]["pytorch_model.bin"]["sha256"]
        == hashlib.sha256(esm["pytorch_model.bin"]).hexdigest()
    )
    made = held["files"]["model.safetensors"]
    assert (
        made["sha256"] == hashlib.sha256((tmp_path / "made" / "model.safetensors").read_bytes()).hexdigest()
    )
    assert embedded(cmgems, tmp_path / "made", tmp_path) == embedded(cmgems, tmp_path / "whole", tmp_path)
    server.asked.clear()
    assert "nothing had to be fetched" in cmgems(*words, "--out", tmp_path / "made").stderr
    assert server.asked == []


def test_weights_in_several_files_are_all_fetched(
    cmgems: CommandLine, server: Server, esm: dict[str, bytes], tmp_path: Path
) -> None:
    weights = safetensors_load(esm["model.safetensors"])
    names = sorted(weights)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    files = {name: esm[name] for name in ("config.json", "vocab.txt", "tokenizer_config.json")}
    for part, listed in parts.items():
        files[part] = safetensors_save({name: weights[name] for name in listed}, {"format": "pt"})
    where = {name: part for part, listed in parts.items() for name in listed}
    files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": where}).encode()
    server.add_repository("a/parts", "model", "main", files)
    server.add_repository("a/whole", "model", "main", esm)
    for name in ("parts", "whole"):
        cmgems("fetch", "model", f"a/{name}", "--mirror", server.url, "--out", tmp_path / name)
    assert embedded(cmgems, tmp_path / "parts", tmp_path) == embedded(cmgems, tmp_path / "whole", tmp_path)
    del files["model-00002-of-00002.safetensors"]
    server.add_repository("a/lost", "model", "main", files)
    error = cmgems("fetch", "model", "a/lost", "--mirror", server.url, "--out", tmp_path / "x", code=3).error
    assert "has only a part of the files of its weights" in error


DNABERT2 = {
    "model_type": "bert",
    "alibi_starting_size": 512,
    "auto_map": {"AutoModel": "bert_layers.BertModel"},
}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_type": "hyenadna"}, "describes HyenaDNA, which needs the code in its folder"),
        ({"model_type": "caduceus"}, "describes Caduceus, which needs the code in its folder"),
        ({"model_type": "stripedhyena"}, "describes StripedHyena (Evo), which needs the code"),
        (
            {"model_type": "esm", "auto_map": {"AutoModelForMaskedLM": "m.Esm"}, "vocab_size": 4107},
            "a model of type esm with code of its own (Nucleotide Transformer v2)",
        ),
        (
            {"model_type": "bert", "auto_map": {"AutoModel": "m.Bert"}, "vocab_size": 32000},
            "a model of type bert with code of its own, which is never run",
        ),
        ({"model_type": "gpt2", "vocab_size": 100}, "describes a decoder (gpt2)"),
        ({"model_type": "nonsense"}, "a model of type nonsense"),
        ([], "holds no table of settings"),
    ],
)
def test_a_model_that_would_not_open_is_refused_before_its_weights(
    cmgems: CommandLine, server: Server, tmp_path: Path, settings: object, said: str
) -> None:
    files = {
        "config.json": json.dumps(settings).encode(),
        "vocab.txt": b"A",
        "pytorch_model.bin": b"x" * 1000,
    }
    server.add_repository("a/b", "model", "main", files)
    error = cmgems("fetch", "model", "a/b", "--mirror", server.url, "--out", tmp_path / "out", code=3).error
    assert said in error
    assert [path.rsplit("/", 1)[1] for path, _ in server.asked] == ["main", "config.json"]
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_of_something_else_is_refused_before_the_weights(
    cmgems: CommandLine, server: Server, esm: dict[str, bytes], tmp_path: Path
) -> None:
    files = {
        **esm,
        "vocab.txt": b"<unk>\n<pad>\n<mask>\n<cls>\n" + "\n".join("LAGVSERTIDPKQNFYMHWC").encode(),
    }
    server.add_repository("a/protein", "model", "main", files)
    said = cmgems(
        "fetch", "model", "a/protein", "--mirror", server.url, "--out", tmp_path / "x", code=3
    ).stderr
    assert "a/protein" in said
    assert "needed a model of DNA" in said
    assert not any("safetensors" in path for path, _ in server.asked)
    assert list(tmp_path.iterdir()) == []


def test_dnabert2_is_accepted_and_opens(cmgems: CommandLine, server: Server, tmp_path: Path) -> None:
    theirs = make_bpe(tmp_path / "theirs", "dnabert2")
    torch.save(load_file(theirs / "model.safetensors"), theirs / "pytorch_model.bin")
    (theirs / "model.safetensors").unlink()
    files = {**files_of(theirs), "bert_layers.py": b"raise SystemExit"}
    server.add_repository("zhihan1996/DNABERT-2-117M", "model", "main", files)
    out = tmp_path / "DNABERT-2-117M"
    cmgems("fetch", "model", "zhihan1996/DNABERT-2-117M", "--mirror", server.url, "--out", out)
    assert not (out / "bert_layers.py").exists()
    assert embedded(cmgems, out, tmp_path) == embedded(cmgems, theirs, tmp_path)


def test_security_a_pickle_of_more_than_tensors_is_not_loaded(
    cmgems: CommandLine, server: Server, esm: dict[str, bytes], tmp_path: Path
) -> None:
    torch.save({"weight": Path("x")}, tmp_path / "evil.bin")
    files = {name: esm[name] for name in ("config.json", "vocab.txt", "tokenizer_config.json")}
    files["pytorch_model.bin"] = (tmp_path / "evil.bin").read_bytes()
    server.add_repository("a/evil", "model", "main", files)
    out = tmp_path / "out"
    error = cmgems("fetch", "model", "a/evil", "--mirror", server.url, "--out", out, code=3).stderr
    assert "holds more than tensors, which could run code and was not loaded" in error
    assert not out.exists()


def test_a_stopped_model_resumes_and_is_not_there_before_it_is_whole(
    cmgems: CommandLine, server: Server, esm: dict[str, bytes], tmp_path: Path
) -> None:
    server.add_repository("a/b", "model", "main", esm)
    weights = f"/a/b/resolve/{COMMIT}/model.safetensors"
    server.faults[weights] = [100, ("status", 404)]
    command = ("fetch", "model", "a/b", "--mirror", server.url, "--out", tmp_path / "out")
    monkey = pytest.MonkeyPatch()
    monkey.setattr("cmgems_cli.fetching.transfer.FIRST_WAIT_S", 0.0)
    cmgems(*command, code=1)
    monkey.undo()
    assert not (tmp_path / "out").exists()
    server.asked.clear()
    cmgems(*command)
    assert (weights, "bytes=100-") in server.asked
    assert not any("vocab.txt" in path for path, _ in server.asked)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == esm["model.safetensors"]
    # A folder that fetch did not make is not replaced, whatever is asked.
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("x")
    assert "was not made by fetch" in cmgems(*command[:-1], tmp_path / "mine", "--overwrite", code=4).error
    assert "not a whole model" in cmgems(*command[:-1], tmp_path / "mine", code=4).error
    (tmp_path / "out" / "vocab.txt").unlink()
    cmgems(*command, code=4)
    cmgems(*command, "--overwrite")
    assert (tmp_path / "out" / "vocab.txt").read_bytes() == esm["vocab.txt"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model"], "no model is named"),
        (["model", "../x/y"], "is not the name of a model on a hub"),
        (["model", "tiny"], "'tiny' is not the name of a model on a hub; needed OWNER/NAME"),
        (["gue", "a/b"], "are for `cmgems fetch model`, not for gue"),
        (["gue", "--revision", "v1"], "are for `cmgems fetch model`, not for gue"),
    ],
)
def test_what_names_no_model(cmgems: CommandLine, server: Server, words: list[str], said: str) -> None:
    assert said in cmgems("fetch", *words, "--mirror", server.url, code=2).error
    assert server.asked == []


def test_a_model_that_no_hub_has(cmgems: CommandLine, server: Server, tmp_path: Path) -> None:
    error = cmgems("fetch", "model", "a/b", "--mirror", server.url, "--out", tmp_path / "x", code=1).error
    assert "a/b" in error
    files = {"config.json": json.dumps(DNABERT2).encode(), "tokenizer.json": b"{}", "tf_model.h5": b"x"}
    server.add_repository("a/tf", "model", "main", files)
    error = cmgems("fetch", "model", "a/tf", "--mirror", server.url, "--out", tmp_path / "x", code=3).error
    assert "has no weights that can be read without running code" in error
