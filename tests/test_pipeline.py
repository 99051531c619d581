"""The pipeline as a user runs it: workspace defaults, one command a stage, artifacts that verify."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CommandLine

FASTA = str(files("cmgems_cli") / "data" / "hg38_chr16_186964_397118.fa.gz")
SHORT = ["--model", "tiny", "--steps", "4", "--global-batch", "4", "--max-batch-tokens", "1024"]
SHORT += ["--eval-every", "2", "--eval-sequences", "4"]
# For each stage, an option that makes something else of it.
OTHERWISE = {
    "prepare-genome": ["--seed", "7"],
    "build-pmi": ["--min-count", "7"],
    "pretrain": ["--seed", "7"],
}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path / "work"))
    return tmp_path / "work"


def test_the_lines_of_the_contract_run_as_they_stand(cmgems: CommandLine, workspace: Path) -> None:
    made = [
        cmgems("prepare-genome", FASTA, "--json").json,
        cmgems("build-pmi", "--json").json,
        cmgems("pretrain", "--strategy", "cm-gems", "--json", *SHORT).json,
    ]
    assert [value["kind"] for value in made] == ["corpus", "pmi", "model"]
    for value in made:
        assert set(value) == {"kind", "digest", "stats", "out", "elapsed_s"}
        shown = cmgems("info", value["out"], "--verify", "--json").json
        assert shown["digest"] == value["digest"]
        assert shown["verified"] is True
    corpus, pmi, model = made
    assert corpus["stats"]["bases"] == 210_155
    lineage = cmgems("info", model["out"], "--json").json["inputs"]
    assert lineage == {"corpus": corpus["digest"], "pmi": pmi["digest"]}
    assert Path(model["out"]) == workspace / "models" / "tiny-cm-gems"


def test_a_dry_run_prints_the_plan_and_writes_nothing(cmgems: CommandLine, workspace: Path) -> None:
    expected = cmgems("prepare-genome", FASTA, "--dry-run", "--json").json["sequences_expected"]
    assert not workspace.exists()
    made = cmgems("prepare-genome", FASTA, "--json").json
    assert expected == made["stats"]["sequences"] == 543
    cmgems("build-pmi", "--quiet")
    before = sorted(workspace.rglob("*"))
    plan = cmgems("pretrain", "--dry-run", "--json", *SHORT).json["plan"]
    assert plan["parameters"] == 403_845
    assert plan["steps"] == 4
    assert plan["tokens_per_s"] > 0
    assert plan["memory_bytes"] > 1e7
    assert 0 <= plan["padding_share"] < 1
    assert plan["expected_s"] == pytest.approx(plan["tokens"] / plan["tokens_per_s"], abs=1)
    assert sorted(workspace.rglob("*")) == before


def test_finished_stages_are_done_already_and_not_overwritten_by_accident(
    cmgems: CommandLine, workspace: Path
) -> None:
    short = ["--strategy", "random", "--out", str(workspace / "model"), *SHORT]
    stages = (["prepare-genome", FASTA], ["build-pmi"], ["pretrain", *short])
    for stage in stages:
        cmgems(*stage, "--quiet")
    made = {path: path.stat().st_mtime_ns for path in workspace.rglob("*") if path.is_file()}
    for stage in stages:
        assert "nothing to do" in cmgems(*stage).stderr
    for stage in stages:
        refused = cmgems(*stage, *OTHERWISE[stage[0]], code=4)
        assert refused.stdout == ""
        assert "; add --overwrite" in refused.stderr.splitlines()[-1]
    assert {path: path.stat().st_mtime_ns for path in made} == made
    for stage in stages:
        cmgems(*stage, *OTHERWISE[stage[0]], "--overwrite", "--quiet")


def test_stages_that_do_not_fit_are_refused(cmgems: CommandLine, workspace: Path) -> None:
    cmgems("prepare-genome", FASTA, "--quiet", "--k", "4")
    assert "needed a pmi artifact" in cmgems("pretrain", *SHORT, code=3).error
    cmgems("build-pmi", "--quiet", "--k", "5")
    result = cmgems("pretrain", *SHORT, code=3)
    assert "5-mers" in result.stderr
    assert "4-mers" in result.stderr


def test_random_runs_without_a_ranking(cmgems: CommandLine, workspace: Path) -> None:
    cmgems("prepare-genome", FASTA, "--quiet")
    value = cmgems("pretrain", "--strategy", "random", "--json", *SHORT).json
    shown = cmgems("info", value["out"], "--json").json
    assert shown["params"]["validation_masks"] == "random"
    assert set(shown["inputs"]) == {"corpus"}


def test_json_and_quiet_leave_nothing_else_on_the_streams(cmgems: CommandLine, workspace: Path) -> None:
    result = cmgems("prepare-genome", FASTA, "--json", "--quiet")
    assert result.stderr == ""
    value: dict[str, Any] = result.json
    assert result.stdout == json.dumps(value, ensure_ascii=False) + "\n"
