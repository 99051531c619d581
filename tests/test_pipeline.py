"""The pipeline as a user runs it: workspace defaults, one command a stage, artifacts that verify."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cmgems_cli.cli import app

FASTA = str(files("cmgems_cli") / "data" / "hg38_chr16_186964_397118.fa.gz")
SHORT = ["--model", "tiny", "--steps", "4", "--global-batch", "4", "--max-batch-tokens", "1024"]
SHORT += ["--eval-every", "2", "--eval-sequences", "4"]


def run(*arguments: str, code: int = 0) -> str:
    """Run a command that must end with `code`; return its stdout."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.stderr
    return result.stdout


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path / "work"))
    return tmp_path / "work"


def test_the_lines_of_the_contract_run_as_they_stand(workspace: Path) -> None:
    made = [
        json.loads(run("prepare-genome", FASTA, "--json")),
        json.loads(run("build-pmi", "--json")),
        json.loads(run("pretrain", "--strategy", "cm-gems", "--json", *SHORT)),
    ]
    assert [value["kind"] for value in made] == ["corpus", "pmi", "model"]
    for value in made:
        assert set(value) == {"kind", "digest", "stats", "out", "elapsed_s"}
        shown = json.loads(run("info", value["out"], "--verify", "--json"))
        assert shown["digest"] == value["digest"]
        assert shown["verified"] is True
    corpus, pmi, model = made
    assert corpus["stats"]["bases"] == 210_155
    lineage = json.loads(run("info", model["out"], "--json"))["inputs"]
    assert lineage == {"corpus": corpus["digest"], "pmi": pmi["digest"]}
    assert Path(model["out"]) == workspace / "models" / "tiny-cm-gems"


def test_a_dry_run_prints_the_plan_and_writes_nothing(workspace: Path) -> None:
    assert json.loads(run("prepare-genome", FASTA, "--dry-run", "--json"))
    assert not workspace.exists()
    run("prepare-genome", FASTA, "--quiet")
    run("build-pmi", "--quiet")
    before = sorted(workspace.rglob("*"))
    plan = json.loads(run("pretrain", "--dry-run", "--json", *SHORT))["plan"]
    assert plan["parameters"] == 403_845
    assert plan["steps"] == 4
    assert plan["tokens_per_s"] > 0
    assert plan["memory_bytes"] > 1e7
    assert 0 <= plan["padding_share"] < 1
    assert plan["expected_s"] == pytest.approx(plan["tokens"] / plan["tokens_per_s"], abs=1)
    assert sorted(workspace.rglob("*")) == before


def test_finished_stages_are_not_overwritten_by_accident(workspace: Path) -> None:
    run("prepare-genome", FASTA, "--quiet")
    run("build-pmi", "--quiet")
    run("pretrain", "--quiet", "--strategy", "random", *SHORT)
    for again in (["prepare-genome", FASTA], ["build-pmi"], ["pretrain", "--strategy", "random", *SHORT]):
        assert run(*again, code=4) == ""
        run(*again, "--overwrite", "--quiet")


def test_stages_that_do_not_fit_are_refused(workspace: Path) -> None:
    run("prepare-genome", FASTA, "--quiet", "--k", "4")
    assert "k-mer ranks" not in run("pretrain", *SHORT, code=3)
    run("build-pmi", "--quiet", "--k", "5")
    result = CliRunner().invoke(app, ["pretrain", *SHORT])
    assert result.exit_code == 3
    assert "5-mers" in result.stderr
    assert "4-mers" in result.stderr


def test_random_runs_without_a_ranking(workspace: Path) -> None:
    run("prepare-genome", FASTA, "--quiet")
    value = json.loads(run("pretrain", "--strategy", "random", "--json", *SHORT))
    shown = json.loads(run("info", value["out"], "--json"))
    assert shown["params"]["validation_masks"] == "random"
    assert set(shown["inputs"]) == {"corpus"}


def test_json_and_quiet_leave_nothing_else_on_the_streams(workspace: Path) -> None:
    result = CliRunner().invoke(app, ["prepare-genome", FASTA, "--json", "--quiet"])
    assert result.stderr == ""
    value: dict[str, Any] = json.loads(result.stdout)
    assert result.stdout == json.dumps(value, ensure_ascii=False) + "\n"
