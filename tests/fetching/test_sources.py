"""`cmgems fetch` from a hub and a genome server of our own: what comes, where it goes, what is said."""

import hashlib
import json
import random
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cmgems_cli.bench.grids import build_grid
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.fetching import sources
from cmgems_cli.fetching.sources import DNABERT6_REPOSITORY, RECORD, local_path_of_gue, read_record
from cmgems_cli.modeling.classifier import SequenceClassifier, new_classifier
from cmgems_cli.modeling.classifier_files import save_classifier
from cmgems_cli.modeling.model_source import ModelSource
from tests.command_line import CommandLine, wait_until
from tests.fetching.server import COMMIT, Server

GUE = [task.name for task in shipped("gue").tasks]

# The folders of the hub's copy, as others who use it list them.
HUB_FOLDERS = [
    *(f"emp_{mark}" for mark in (
        "H3", "H3K14ac", "H3K36me3", "H3K4me1", "H3K4me2", "H3K4me3", "H3K79me3", "H3K9ac", "H4", "H4ac"
    )),
    *(f"human_tf_{number}" for number in range(5)),
    *(f"mouse_{number}" for number in range(5)),
    *(f"prom_{length}_{kind}" for length in ("300", "core") for kind in ("all", "notata", "tata")),
    "splice_reconstructed",
    "virus_covid",
]  # fmt: skip


@pytest.fixture
def gue(server: Server) -> dict[str, bytes]:
    files = {
        f"GUE/{folder}/{split}.csv": f"sequence,label\nACGTACGTAC,{number % 2}\n{folder},{split}\n".encode()
        for number, folder in enumerate(HUB_FOLDERS)
        for split in ("train", "dev", "test")
    }
    others = {"README.md": b"# GUE", "GUE/EPI_K562/train.csv": b"sequence,label\n", ".gitattributes": b""}
    server.add_repository("leannmlindsey/GUE", "dataset", "main", {**files, **others}, licence=None)
    return files


def test_every_folder_of_the_hub_has_its_task() -> None:
    placed = [local_path_of_gue(f"GUE/{folder}/train.csv") for folder in HUB_FOLDERS]
    assert sorted(placed) == sorted(f"{task}/train.csv" for task in GUE)
    assert placed[0] == "EMP/H3/train.csv"
    assert placed[10] == "tf/0/train.csv"
    assert placed[-1] == "virus/covid/train.csv"


def test_folders_named_as_its_authors_name_them_have_their_tasks_too() -> None:
    for task in GUE:
        assert local_path_of_gue(f"GUE/{task}/dev.csv") == f"{task}/dev.csv"
        assert local_path_of_gue(f"{task}/dev.csv") == f"{task}/dev.csv"


@pytest.mark.parametrize(
    "path", ["README.md", "GUE/EPI_K562/train.csv", "GUE/human_tf_0/notes.csv", "train.csv"]
)
def test_what_is_of_no_task_is_not_fetched(path: str) -> None:
    assert local_path_of_gue(path) is None


def test_gue_arrives_where_evaluate_finds_it(
    cmgems: CommandLine,
    server: Server,
    gue: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path))
    done = cmgems("fetch", "gue", "--mirror", server.url)
    assert done.stdout == "", done.stderr
    folder = tmp_path / "benchmarks" / "gue"
    grid = build_grid(shipped("gue"), folder, tasks=",".join(GUE))
    assert [task.name for task in grid.tasks()] == GUE
    assert grid.missing == {}
    assert (folder / "tf/3/dev.csv").read_bytes() == gue["GUE/human_tf_3/dev.csv"]
    for words in ("84 file(s)", COMMIT[:12], "licence", "every checksum is right", "next: cmgems evaluate"):
        assert words in done.stderr
    # What it is and how large is said before anything is fetched.
    assert done.stderr.index("size") < done.stderr.index("every checksum")
    held = json.loads((folder / RECORD).read_text())
    assert held["revision"] == COMMIT
    assert len(held["files"]) == 84


def test_what_is_there_needs_no_network(
    cmgems: CommandLine,
    server: Server,
    gue: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = str(tmp_path / "gue")
    cmgems("fetch", "gue", "--mirror", server.url, "--out", out)
    asked = server.ask_count()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = cmgems("fetch", "gue", "--out", out)
    assert "nothing had to be fetched" in done.stderr
    assert server.ask_count() == asked


def test_a_stopped_fetch_of_many_files_fetches_the_others_only(
    cmgems: CommandLine, server: Server, gue: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "gue"
    broken = f"/datasets/leannmlindsey/GUE/resolve/{COMMIT}/GUE/mouse_1/test.csv"
    server.faults[broken] = [("status", 404)]
    cmgems("fetch", "gue", "--mirror", server.url, "--out", str(out), code=1)
    assert not (out / RECORD).exists()
    first = {path for path, _ in server.asked}
    server.asked.clear()
    cmgems("fetch", "gue", "--mirror", server.url, "--out", str(out))
    again = {path for path, _ in server.asked if "/resolve/" in path}
    assert broken in again
    assert again & first == {broken}
    assert read_record(out) is not None


def test_a_changed_file_is_not_replaced_unasked(
    cmgems: CommandLine, server: Server, gue: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "gue"
    cmgems("fetch", "gue", "--mirror", server.url, "--out", str(out))
    changed = out / "EMP" / "H4" / "dev.csv"
    changed.write_text("sequence,label\n")
    done = cmgems("fetch", "gue", "--mirror", server.url, "--out", str(out), code=4)
    assert str(changed) in done.stderr
    cmgems("fetch", "gue", "--mirror", server.url, "--out", str(out), "--overwrite")
    assert changed.read_bytes() == gue["GUE/emp_H4/dev.csv"]


def test_a_hub_that_lost_a_task_says_so(
    cmgems: CommandLine, server: Server, gue: dict[str, bytes], tmp_path: Path
) -> None:
    files = {name: content for name, content in gue.items() if "splice" not in name}
    server.add_repository("leannmlindsey/GUE", "dataset", "main", files, licence="mit")
    done = cmgems("fetch", "gue", "--mirror", server.url, "--out", str(tmp_path / "gue"))
    assert "warning: the hub no longer has splice/reconstructed/dev.csv" in done.stderr
    assert "mit (as its page says)" in done.stderr


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.parametrize("what", ["grch38", "gue", "dnabert6"])
def test_offline_settings_are_honoured(
    cmgems: CommandLine,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, "1")
    done = cmgems("fetch", what, "--mirror", server.url, "--out", str(tmp_path / "out"), code=1)
    assert done.stderr.startswith(f"error: {variable}=1 forbids the network")
    assert done.stderr.count("\n") == 1
    assert server.asked == []


def test_a_hub_that_does_not_answer(cmgems: CommandLine, server: Server, tmp_path: Path) -> None:
    done = cmgems("fetch", "gue", "--mirror", server.url, "--out", str(tmp_path / "out"), code=1)
    assert done.stderr.startswith("error: cannot reach the hub for leannmlindsey/GUE (")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------ the genome


@pytest.fixture
def genome(server: Server, monkeypatch: pytest.MonkeyPatch) -> bytes:
    content = random.Random(2).randbytes(100_000)
    server.contents["/hg38.fa.gz"] = content
    monkeypatch.setattr(sources, "GRCH38_BYTES", len(content))
    monkeypatch.setattr(sources, "GRCH38_MD5", hashlib.md5(content).hexdigest())
    return content


def test_the_genome_arrives_where_it_is_looked_for(
    cmgems: CommandLine, server: Server, genome: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path))
    address = f"{server.url}/hg38.fa.gz"
    done = cmgems("fetch", "grch38", "--mirror", address, "--json")
    value = done.json
    path = tmp_path / "downloads" / "hg38.fa.gz"
    assert value["out"] == str(path)
    assert value["bytes"] == 100_000
    assert path.read_bytes() == genome
    assert f"next: cmgems prepare-genome {path}" in done.stderr
    # Again, and offline: nothing is asked for.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cmgems("fetch", "grch38")
    assert server.ask_count() == 1


def test_a_folder_as_out_takes_the_genome_by_its_name(
    cmgems: CommandLine, server: Server, genome: bytes, tmp_path: Path
) -> None:
    cmgems("fetch", "grch38", "--mirror", f"{server.url}/hg38.fa.gz", "--out", str(tmp_path))
    assert (tmp_path / "hg38.fa.gz").read_bytes() == genome


def test_a_dry_run_fetches_nothing_and_says_size_and_licence(
    cmgems: CommandLine, server: Server, genome: bytes, tmp_path: Path
) -> None:
    out = str(tmp_path / "hg38.fa.gz")
    done = cmgems("fetch", "grch38", "--mirror", f"{server.url}/hg38.fa.gz", "--out", out, "--dry-run")
    assert "100.0 kB" in done.stdout
    assert "freely usable" in done.stderr
    assert server.asked == []
    assert list(tmp_path.iterdir()) == []


def test_the_genome_is_the_one_that_was_published() -> None:
    download = sources.look_up("grch38", Path("hg38.fa.gz"))
    (file,) = download.files
    assert file.size_bytes == 983_659_424
    assert file.checksum.hexdigest == "1c9dcaddfa41027f17cd8f7a82c7293b"


# ------------------------------------------------------------------ mirrors


@pytest.mark.parametrize("what", ["grch38", "gue", "dnabert6"])
@pytest.mark.parametrize(
    "mirror",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "ftp://127.0.0.1/hg38.fa.gz",
        "data:,x",
        "/etc/passwd",
        "hub",
        "https://",
        "http://[",
        "javascript:1",
    ],
)
def test_security_a_mirror_is_an_address_of_the_web(
    cmgems: CommandLine, tmp_path: Path, what: str, mirror: str
) -> None:
    out = tmp_path / "out"
    error = cmgems("fetch", what, "--mirror", mirror, "--out", out, code=2).error
    assert "is not an address of the web; needed https:// or http://" in error
    assert not out.exists()


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/"])
def test_security_a_redirect_leaves_the_web_no_more_than_a_mirror(
    cmgems: CommandLine, server: Server, genome: bytes, tmp_path: Path, to: str
) -> None:
    server.faults["/hg38.fa.gz"] = [("redirect", to)]
    out = tmp_path / "hg38.fa.gz"
    done = cmgems("fetch", "grch38", "--mirror", f"{server.url}/hg38.fa.gz", "--out", out, code=1)
    assert re.search(f"(redirects to|Redirection to url) '?{re.escape(to)}", done.stderr)
    assert not out.exists()


def test_security_what_a_mirror_vouches_for_itself_is_called_unverified(
    cmgems: CommandLine, server: Server, gue: dict[str, bytes], genome: bytes, tmp_path: Path
) -> None:
    done = cmgems("fetch", "gue", "--mirror", server.url, "--out", tmp_path / "gue", "--json")
    assert "unverified: the checksums come from the mirror itself" in done.stderr
    assert done.json["verified"] is False
    # Nor does it become verified by being there.
    assert "unverified" in cmgems("fetch", "gue", "--out", tmp_path / "gue").stderr
    out = tmp_path / "hg38.fa.gz"
    done = cmgems("fetch", "grch38", "--mirror", f"{server.url}/hg38.fa.gz", "--out", out, "--json")
    assert "MD5 that UCSC publishes" in done.stderr
    assert done.json["verified"] is True


def test_security_without_a_mirror_the_source_vouches(tmp_path: Path) -> None:
    download = sources.look_up("grch38", tmp_path / "hg38.fa.gz")
    assert download.notes == ()
    assert download.verified


# ------------------------------------------------------------------ weights


def test_dnaberts_weights_arrive_without_its_code_and_open(
    cmgems: CommandLine, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    source = ModelSource("tiny")
    model = new_classifier(source, 2, seed=3)
    save_classifier(theirs, SequenceClassifier(model, source.tokenization), ["0", "1"])
    weights = load_file(theirs / "model.safetensors")
    torch.save(weights, theirs / "pytorch_model.bin")
    files = {
        name: (theirs / name).read_bytes()
        for name in ("config.json", "vocab.txt", "tokenizer_config.json", "pytorch_model.bin")
    }
    files["special_tokens_map.json"] = b"{}"
    files["LICENSE"] = b"Apache License 2.0"
    files["dnabert_layer.py"] = b"raise SystemExit"
    repository = DNABERT6_REPOSITORY
    server.add_repository(repository.repo_id, "model", repository.revision, files)
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path / "work"))
    cmgems("fetch", "dnabert6", "--mirror", server.url)
    folder = tmp_path / "work" / "models" / "dnabert6"
    assert not (folder / "dnabert_layer.py").exists()
    opened = new_classifier(ModelSource(str(folder)), 2, seed=4)
    embedding = opened.bert.embeddings.word_embeddings.weight
    assert torch.equal(embedding, weights["bert.embeddings.word_embeddings.weight"])


def test_a_model_that_lacks_a_file_is_refused(cmgems: CommandLine, server: Server, tmp_path: Path) -> None:
    repository = DNABERT6_REPOSITORY
    server.add_repository(repository.repo_id, "model", repository.revision, {"config.json": b"{}"})
    done = cmgems("fetch", "dnabert6", "--mirror", server.url, "--out", str(tmp_path / "out"), code=1)
    assert "does not have LICENSE, pytorch_model.bin" in done.stderr


# ------------------------------------------------------------------ interruptions


@pytest.mark.subprocess
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_came(
    cmgems: CommandLine,
    server: Server,
    gue: dict[str, bytes],
    tmp_path: Path,
    sent: signal.Signals,
    code: int,
) -> None:
    out = tmp_path / "gue"
    slow = f"/datasets/leannmlindsey/GUE/resolve/{COMMIT}/GUE/emp_H3/test.csv"
    server.faults[slow] = [("stall", 20)]
    # A shell starts what it puts in the background deaf to SIGINT; these tests may run there.
    process = cmgems.start(
        "fetch",
        "gue",
        "--mirror",
        server.url,
        "--out",
        out,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_until(lambda: slow in {path for path, _ in server.asked}, process, 30)
    time.sleep(0.2)
    process.send_signal(sent)
    err = cmgems.finish(process, code=code, timeout=30).stderr
    assert "are kept: run the command again to resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    server.asked.clear()
    cmgems("fetch", "gue", "--mirror", server.url, "--out", str(out))
    assert read_record(out) is not None
    assert (slow, "bytes=20-") in server.asked
