"""In one small world: how far equality goes (docs/reliability.md), and a short soak of every kind."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.comparing.scores import read_scores
from tests.command_line import run_python
from tests.soak.forked import run_cmgems, run_forked
from tests.soak.trials import Ledger
from tests.soak.world import STAGES, World, differs, remove_outs, world_folder

pytestmark = [pytest.mark.soak, pytest.mark.subprocess]

MAIN = "import runpy, sys; sys.argv[0] = 'soak'; runpy.run_module('tests.soak', run_name='__main__')"

Again = Callable[..., Path]
WRITING = [name for name, stage in STAGES.items() if stage.outs]
COMPUTED = [
    "model",
    "classifier",
    "shot",
    "scores",
    "predicted",
    "embedded",
    "scored",
    "explained",
    "hits",
    "track",
]
NUMBER = r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("soak")


@pytest.fixture(scope="module")
def world(scratch: Path) -> World:
    return World(world_folder(scratch))


@pytest.fixture
def again(world: World, tmp_path: Path) -> Again:
    """Return a function that runs a stage again in a new process and returns the folder."""
    runs: list[Path] = []

    def run(name: str, *more: str, threads: int = 1) -> Path:
        folder = Path(shutil.copytree(world.folder, tmp_path / f"again{len(runs)}"))
        runs.append(folder)
        remove_outs(folder, STAGES[name])

        def work() -> int:
            import torch

            torch.set_num_threads(threads)
            os.chdir(folder)
            return run_cmgems([*STAGES[name].words, *more])

        ended = run_forked(work)
        assert ended.code == 0, ended
        return folder

    return run


def compared(name: str, one: Path, other: Path) -> str:
    return "".join(differs(one / out, other / out) for out in STAGES[name].outs)


def numbers(name: str, folder: Path) -> list[np.ndarray]:
    """Return the numbers that a stage computed."""
    from safetensors.numpy import load_file

    out = folder / STAGES[name].outs[0]
    if name == "scores":
        return [np.array([score.value for score in read_scores(out / "scores.csv")])]
    if out.suffix == ".npy":
        return [np.load(out)]
    if out.suffix == ".bw":
        with pytest.importorskip("pyBigWig").open(str(out)) as track:
            return [np.array([row for name in track.chroms() for row in track.intervals(name)])]
    if out.is_file():
        return [np.array([float(number) for number in re.findall(NUMBER, out.read_text())])]
    return list(load_file(out / "model.safetensors").values())


@pytest.mark.parametrize("name", WRITING)
def test_a_stage_run_again_gives_the_same_bytes(world: World, again: Again, name: str) -> None:
    assert compared(name, world.folder, again(name)) == ""


@pytest.mark.parametrize("name", [name for name in WRITING if name not in COMPUTED])
def test_threads_change_no_byte_of_what_is_not_computed_by_a_model(
    world: World, again: Again, name: str
) -> None:
    assert compared(name, world.folder, again(name, threads=2)) == ""


@pytest.mark.parametrize("name", COMPUTED)
def test_threads_change_rounding_only(world: World, again: Again, name: str) -> None:
    # BED has whole thousandths.
    atol = 1 if name == "hits" else 1e-5
    for one, other in zip(numbers(name, world.folder), numbers(name, again(name, threads=2)), strict=True):
        np.testing.assert_allclose(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize("name", COMPUTED)
def test_bf16_again_gives_the_same_bytes(again: Again, name: str) -> None:
    one, other = (again(name, "--precision", "bf16") for _ in range(2))
    assert compared(name, one, other) == ""


def test_a_short_soak_finds_nothing(world: World, scratch: Path, tmp_path: Path) -> None:
    """By the one command that also runs for hours."""
    results = tmp_path / "results.jsonl"
    kinds = ["fuzz", "kills", "signals", "flips", "cuts", "disk"]
    words = ["--seed", "3", "--minutes", "0.5", "--trials", "10", "--results", results, "--work", scratch]
    run_python(MAIN, *words, *(word for kind in kinds for word in ("--only", kind)))
    ledger = Ledger(results)
    assert ledger.failures(3) == []
    trials_done = dict.fromkeys(kinds, 0)
    for (kind, _), verdicts in ledger.counts(3).items():
        trials_done[kind] += sum(verdicts.values())
    # As many as half a minute allows.
    assert trials_done["fuzz"] >= 200
    assert trials_done["kills"] >= 1
