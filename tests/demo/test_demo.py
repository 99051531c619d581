"""The demo at a fraction of its size: whole, kept, gone on with, refused, and taken up by other commands."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cmgems_cli import workspace
from cmgems_cli.artifacts import read_manifest
from cmgems_cli.bench.evaluation import Evaluation
from cmgems_cli.comparing.scores import read_scores
from cmgems_cli.demo import pipeline as miniature
from cmgems_cli.demo.pipeline import MODELS, Miniature, Sizes
from cmgems_cli.errors import Interrupted
from tests.command_line import CommandLine

SMALL = Sizes(steps=6, global_batch=8, eval_every=2, regions=2, shots=5, runs=2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniature, "DEMO", SMALL)


@pytest.fixture(scope="module")
def finished(
    cmgems: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A finished demo and the object it printed."""
    out = tmp_path_factory.mktemp("finished") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(miniature, "DEMO", SMALL)
        yield out, cmgems("demo", "--out", str(out), "--json", "--quiet").json


@pytest.fixture
def copy(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of the finished demo, to be spoiled."""
    return Path(shutil.copytree(finished[0], tmp_path / "demo"))


def artifacts(out: Path) -> list[Path]:
    return sorted(path.parent for path in out.rglob("manifest.json"))


def digests(out: Path) -> dict[str, str]:
    return {str(folder.relative_to(out)): read_manifest(folder).digest for folder in artifacts(out)}


def sequences(fasta: Path) -> list[str]:
    return fasta.read_text().split("\n")[1::2]


def test_everything_is_there_and_intact(finished: tuple[Path, dict[str, Any]]) -> None:
    out, value = finished
    runs = SMALL.regions * SMALL.runs
    assert len(artifacts(out)) == 2 + 2 + SMALL.regions + 3 * (1 + runs)
    for folder in artifacts(out):
        read_manifest(folder, verify=True)
    assert set(value) == {"out", "elapsed_s", "models", "scores", "ttest"}
    assert list(value["models"]) == list(MODELS[1:])
    assert list(value["scores"]) == list(MODELS)
    for made in (*value["models"].values(), *value["scores"].values()):
        assert read_manifest(Path(made["out"])).digest == made["digest"]
    for name in MODELS:
        assert value["scores"][name]["stats"]["runs"] == runs
        scores = read_scores(out / "scores" / f"{name}-fewshot" / "scores.csv")
        assert len({(score.task, score.seed) for score in scores if score.metric == "mcc"}) == runs


def test_no_task_holds_sequence_that_was_pretrained_on(finished: tuple[Path, dict[str, Any]]) -> None:
    folder = finished[0] / "sequences"
    pretraining = sequences(folder / "pretraining.fa")
    assert sum(map(len, pretraining)) == 140_102
    assert read_manifest(finished[0] / "corpus").stats["bases"] == 140_102
    for task in ("region-01", "region-02"):
        windows = sequences(folder / f"{task}.fa")
        assert {len(window) for window in windows} == {67}
        assert len(windows) == 522
        # Repeats may hold a window twice on the chromosome; here none is.
        assert not any(window in piece for window in windows for piece in pretraining)


def test_the_screen_has_all_three_models_and_says_what_a_toy_shows(
    cmgems: CommandLine,
    finished: tuple[Path, dict[str, Any]],
) -> None:
    result = cmgems("demo", "--out", str(finished[0]))
    rows = {line.split()[0]: line for line in result.stdout.splitlines()[3:] if line.strip()}
    assert "random weights" in rows["tiny"]
    for name, row in zip(MODELS, finished[1]["ttest"]["rows"], strict=True):
        assert f"{row['mean']:.2f} ± " in rows[name]
    assert "unigram" in result.stdout
    assert "This is a toy" in result.stderr
    assert f"cmgems ttest {finished[0]}/scores/tiny-fewshot " in result.stderr


def test_what_is_finished_is_kept(cmgems: CommandLine, finished: tuple[Path, dict[str, Any]]) -> None:
    out, value = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("manifest.json")}
    again = cmgems("demo", "--out", str(out), "--json").json
    assert {path: path.stat().st_mtime_ns for path in out.rglob("manifest.json")} == before
    assert {**again, "elapsed_s": None} == {**value, "elapsed_s": None}


def test_another_seed_is_refused_and_with_overwrite_makes_something_else(
    cmgems: CommandLine, copy: Path
) -> None:
    before = digests(copy)
    assert cmgems("demo", "--out", str(copy), "--seed", "7", code=4).stdout == ""
    assert digests(copy) == before
    cmgems("demo", "--out", str(copy), "--seed", "7", "--overwrite")
    after = digests(copy)
    assert {name for name in after if "-seed-4" in name} == set()
    assert all(after[name] != digest for name, digest in before.items() if name in after)
    assert read_manifest(copy / "scores" / "tiny-fewshot").params["seeds"] == [7, 8]


def spoil_pretraining(out: Path) -> None:
    """What an interrupt while the second model trains leaves, with nothing behind it."""
    shutil.rmtree(out / "models" / "tiny-cm-gems")
    shutil.rmtree(out / "benchmarks")
    shutil.rmtree(out / "scores")


def spoil_tasks(out: Path) -> None:
    shutil.rmtree(out / "benchmarks" / "fewshot" / "region-02")
    shutil.rmtree(out / "scores")


def spoil_last_scores(out: Path) -> None:
    folder = out / "scores" / "tiny-cm-gems-fewshot"
    for name in ("manifest.json", "scores.csv", "report.md"):
        (folder / name).unlink()
    shutil.rmtree(folder / "runs" / "region-02-5-seed-43")


@pytest.mark.parametrize("spoil", [spoil_pretraining, spoil_tasks, spoil_last_scores])
def test_an_interrupted_demo_ends_as_if_it_had_not_been(
    cmgems: CommandLine, finished: tuple[Path, dict[str, Any]], copy: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(copy)
    assert digests(copy) != digests(finished[0])
    value = cmgems("demo", "--out", str(copy), "--json").json
    assert digests(copy) == digests(finished[0])
    for name in MODELS:
        scores = Path("scores") / f"{name}-fewshot" / "scores.csv"
        assert (copy / scores).read_bytes() == (finished[0] / scores).read_bytes()
    assert [row["p"] for row in value["ttest"]["rows"]] == [row["p"] for row in finished[1]["ttest"]["rows"]]


def test_a_signal_between_two_runs_keeps_the_first(
    cmgems: CommandLine, finished: tuple[Path, dict[str, Any]], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy / "scores" / "tiny-random-fewshot")
    whole = Evaluation.run

    def stopped(self: Evaluation, cells: Any, **others: Any) -> None:
        whole(self, cells[:1], **others)
        raise Interrupted("stopped", 130)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "run", stopped)
        assert cmgems("demo", "--out", str(copy), code=130).stdout == ""
    folder = copy / "scores" / "tiny-random-fewshot" / "runs" / "region-01-5-seed-42"
    before = (folder / "manifest.json").stat().st_mtime_ns
    cmgems("demo", "--out", str(copy))
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    assert digests(copy) == digests(finished[0])


def test_a_changed_sequence_file_is_not_written_over(cmgems: CommandLine, copy: Path) -> None:
    (copy / "sequences" / "region-01.fa").write_text(">mine\nACGT\n")
    result = cmgems("demo", "--out", str(copy), code=4)
    assert "region-01.fa is not what this demo would write" in result.stderr
    assert (copy / "sequences" / "region-01.fa").read_text() == ">mine\nACGT\n"


def test_other_commands_go_on_from_it(
    cmgems: CommandLine,
    finished: tuple[Path, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, value = finished
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(out))
    stages = Miniature(out, seed=42, overwrite=False)
    assert workspace.corpus_folder() == out / "corpus"
    assert workspace.pmi_folder() == out / "pmi"
    assert workspace.benchmark_folder("fewshot") == stages.data
    assert workspace.model_folder("tiny", "cm-gems") == stages.model_folder("tiny-cm-gems")
    assert workspace.scores_folder("tiny-cm-gems", "fewshot") == stages.scores_folder("tiny-cm-gems")
    # The t-test of the demo is that of the command.
    folders = [str(stages.scores_folder(name)) for name in MODELS]
    assert cmgems("ttest", *folders, "--metric", "mcc", "--json").json == value["ttest"]
    # So are its data sets and its scores.
    task = ["build-fewshot", str(out / "sequences" / "region-01.fa"), "--shots", "5", "--test-share", "0.5"]
    built = cmgems(*task, "--out", str(tmp_path / "task"), "--json").json
    assert built["digest"] == read_manifest(stages.data / "region-01").digest
    model = str(stages.model_folder("tiny-random"))
    grid = ["--tasks", "region-01,region-02", "--shots", "5", "--seeds", "42-43"]
    chosen = ["--bench", "fewshot", *grid, "--precision", "fp32", "--device", "cpu"]
    cmgems("evaluate", model, *chosen, "--out", str(tmp_path / "scores"), "--quiet")
    ours = stages.scores_folder("tiny-random") / "scores.csv"
    assert (tmp_path / "scores" / "scores.csv").read_bytes() == ours.read_bytes()
