"""A new masking strategy, model size or benchmark needs few files: with them, it is everywhere."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cmgems_cli import fetching
from cmgems_cli.artifacts import read_manifest
from cmgems_cli.datasets import benchmark_file
from tests.command_line import FASTA, CommandLine
from tests.fetching.server import serving
from tests.source_tree import PACKAGE

# Of each file the texts before which something is inserted.
Patch = dict[str, list[tuple[str, str]]]

STRATEGY: Patch = {
    "masking/__init__.py": [
        (']\nSTRATEGIES: tuple[', ', "comb"'),
        (
            '    "cm-step": StrategyInfo(',
            '    "comb": StrategyInfo("COMB", "every k-th k-mer (COMB)", uses_ranks=False, colour=BLUE),\n',
        ),
        ("\n    @property\n    def label", "    COMB = 4\n"),
    ],
    "masking/strategies.py": [
        (
            '        else:\n            raise ValueError("no branch',
            "        elif code == 4:\n            here[::k] = True\n",
        )
    ],
}  # fmt: skip
SIZE: Patch = {
    "modeling/presets.py": [
        (
            '    "tiny": Preset(',
            '    "mini": Preset(hidden=32, layers=1, heads=2, intermediate=64, dropout=0.0),\n',
        )
    ]
}


@pytest.fixture(scope="module")
def corpus(cmgems: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("touched") / "corpus"
    cmgems("prepare-genome", FASTA, "--max-tokens", "62", "--out", out)
    return out


Words = Sequence[object]
# Runs commands one after the other in one interpreter, and gives what each of them showed.
Run = Callable[..., list[str]]

PROGRAM = """
import contextlib, io, json, sys
from cmgems_cli.cli import app
shown = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["cmgems", *words]
    with contextlib.redirect_stdout(io.StringIO()) as stream:
        try:
            app(words)
        except SystemExit as end:
            assert not end.code, words
    shown.append(stream.getvalue())
print(json.dumps(shown))
"""


@pytest.fixture
def patched(tmp_path: Path) -> Callable[[Patch], Run]:
    """Copy the package, insert lines, and return what runs commands of the copy."""

    def copy(patch: Patch) -> Run:
        package = tmp_path / "package" / PACKAGE.name
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        for name, insertions in patch.items():
            text = (package / name).read_text(encoding="utf-8")
            for before, inserted in insertions:
                assert text.count(before) == 1, (name, before)
                text = text.replace(before, inserted + before)
            (package / name).write_text(text, encoding="utf-8")

        def run(*commands: Words) -> list[str]:
            environment = {**os.environ, "PYTHONPATH": str(package.parent)}
            given = json.dumps([[str(word) for word in words] for words in commands])
            ran = subprocess.run(
                [sys.executable, "-c", PROGRAM, given],
                env=environment, capture_output=True, text=True, check=False, cwd=tmp_path,
            )  # fmt: skip
            assert ran.returncode == 0, ran.stderr
            return json.loads(ran.stdout)

        return run

    return copy


def pretrain(corpus: Path, out: Path, *words: object) -> Words:
    """Return a command that pretrains two steps."""
    small = ["--steps", 2, "--global-batch", 2, "--eval-sequences", 2, "--eval-every", 2, "--warmup-steps", 1]
    return ["pretrain", corpus, *words, *small, "--device", "cpu", "--quiet", "--out", out]


@pytest.mark.subprocess
def test_a_masking_strategy_needs_two_files(
    patched: Callable[[Patch], Run], corpus: Path, tmp_path: Path
) -> None:
    model, page = tmp_path / "model", tmp_path / "masks.html"
    assert len(STRATEGY) <= 3
    shown, *_ = patched(STRATEGY)(
        ["show-masks", corpus, "--strategies", "random,comb", "--sequences", 20, "--html", page, "--json"],
        pretrain(corpus, model, "--strategy", "comb", "--model", "tiny"),
        ["report", model, "--out", tmp_path / "report", "--quiet"],
    )
    variants = {one["name"]: one for one in json.loads(shown)["variants"]}
    assert variants["comb"]["masked_fraction"] == pytest.approx(1 / 6, abs=0.02)
    assert variants["comb"]["span_longest"] == 1 < variants["random"]["span_longest"]
    assert ">comb<" in page.read_text()
    assert read_manifest(model, "model", verify=True).params["strategy"] == "comb"
    assert "every k-th k-mer (COMB)" in (model / "README.md").read_text()
    assert "COMB (mask rate 15 %)" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.subprocess
def test_a_model_size_needs_one_file(patched: Callable[[Patch], Run], corpus: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    assert len(SIZE) == 1
    _, *shown = patched(SIZE)(
        pretrain(corpus, model, "--strategy", "random", "--model", "mini"),
        *(["doctor", "--help"], ["pretrain", "--help"], ["info", model]),
    )
    assert read_manifest(model, "model", verify=True).params["model"] == "mini"
    assert '"hidden_size": 32' in (model / "config.json").read_text()
    assert ["mini" in text for text in shown] == [True] * 3


BENCHMARK = """
name = "plants"
dev_fraction = 0.25
data_from = "cmgems fetch plants"

[source]
repository = "someone/plants"
files = ["{task}_{split}.csv"]

[[task]]
name = "leaf"
"""


def test_a_benchmark_needs_one_file(
    cmgems: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "benchmarks"
    shutil.copytree(benchmark_file.SHIPPED_FOLDER, folder)
    (folder / "plants.toml").write_text(BENCHMARK)
    monkeypatch.setattr(benchmark_file, "SHIPPED_FOLDER", folder)
    monkeypatch.setattr(fetching, "BENCHMARKS", folder)
    fetching.source_names.cache_clear()
    rows = "".join(f"{row:030b},{row % 2}\n".translate({48: "A", 49: "C"}) for row in range(16))
    table = ("sequence,label\n" + rows.replace(",A", ",0").replace(",C", ",1")).encode()
    try:
        with serving() as server:
            files = {f"leaf_{split}.csv": table for split in ("train", "test")}
            server.add_repository("someone/plants", "dataset", "main", files)
            cmgems("fetch", "plants", "--mirror", server.url, "--out", tmp_path / "plants")
        done = cmgems(
            "evaluate",
            "kmer-linear",
            "--bench",
            "PLANTS",
            "--data",
            tmp_path / "plants",
            "--out",
            tmp_path / "out",
        )
        assert "1/1 leaf, seed 42: test MCC" in done.stderr
        assert "did you mean plants?" in cmgems("evaluate", "kmer-linear", "--bench", "plant", code=2).error
    finally:
        fetching.source_names.cache_clear()
        benchmark_file.shipped.cache_clear()
