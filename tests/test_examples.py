"""The studies of examples/evidence and the SLURM file: every `cmgems` command in them parses.

A study's commands come from `study.py`; Snakemake's dry run shows that the workflow runs these. The SLURM file runs
under bash, with `srun` and `cmgems` replaced by functions that print their arguments.
"""

import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.exceptions import TyperException

from cmgems_cli.errors import CmgemsError
from tests.shown_commands import Call, check_values, parsed

REPOSITORY = Path(__file__).resolve().parents[1]
EVIDENCE = REPOSITORY / "examples" / "evidence"
STUDIES = sorted((EVIDENCE / "studies").glob("*.yaml"))
SLURM = REPOSITORY / "examples" / "slurm_gue.sh"

# pretrain, evaluate, ttest.
COUNTS = {
    "cpu-logo.yaml": (3, 10, 0),
    "cpu.yaml": (30, 154, 0),
    "gpu.yaml": (30, 133, 0),
    "table2.yaml": (8, 10, 2),  # two models by four strategies; each model without pretraining too
    "table4.yaml": (5, 8, 0),  # DNABERT-6 as published, no pretraining and kmer-linear beside the five
    "table6.yaml": (6, 8, 2),
    "figure4.yaml": (6, 7, 3),  # three lengths at two rates, and no pretraining
}

needs_snakemake = pytest.mark.skipif(
    importlib.util.find_spec("snakemake") is None, reason="snakemake is not installed (the extra `studies`)"
)


def problems(calls: list[Call]) -> list[str]:
    """Return what is wrong with commands, in words; nothing if all is well."""
    found = []
    for call in calls:
        where = f"line {call.line}, {' '.join(call.words)}"
        try:
            check_values(call.words[0], parsed(call))
        except (TyperException, CmgemsError, AssertionError) as error:
            found.append(f"{where}: {error.format_message() if isinstance(error, TyperException) else error}")
    return found


def read(study: Path) -> Any:
    """Return a study."""
    module = runpy.run_path(str(EVIDENCE / "study.py"))
    return module["Study"](yaml.safe_load(study.read_text(encoding="utf-8")))


def call_of(number: int, command: str) -> Call:
    """Return the cmgems command of a line of the shell."""
    words = shlex.split(command)
    first = next(i for i, word in enumerate(words) if word in ("cmgems", "cmgems_cli"))
    return Call(number, tuple(words[first + 1 :]))


def calls_of(study: Path) -> list[Call]:
    """Return the cmgems commands of a study."""
    return [call_of(number, command) for number, command in enumerate(read(study).commands())]


def snakemake(study: Path, folder: Path, *more: str) -> str:
    """Return what snakemake says."""
    words = ["-s", str(EVIDENCE / "Snakefile"), "--configfile", str(study), "--cores", "1", *more]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *words],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(autouse=True)
def _default_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CMGEMS_")]:
        monkeypatch.delenv(name)


def test_every_study_is_counted() -> None:
    assert {study.name for study in STUDIES} == set(COUNTS)


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.name)
def test_every_command_of_a_study_parses(study: Path) -> None:
    calls = calls_of(study)
    # One of those that differ in the names of folders and the seed only.
    alike = {re.sub(r"\S*-s\d+|--seeds? \d+", "", " ".join(call.words)): call for call in calls}
    assert problems(list(alike.values())) == []
    names = Counter(call.words[0] for call in calls)
    assert (names["pretrain"], names["evaluate"], names["ttest"]) == COUNTS[study.name]
    assert names["prepare-genome"] == names["build-pmi"] == 1


def test_faults_of_a_study_are_found(tmp_path: Path) -> None:
    text = (EVIDENCE / "studies" / "table6.yaml").read_text(encoding="utf-8")
    faulty = tmp_path / "faulty.yaml"
    for right, wrong in (
        ("genemask-1k: --strategy", "genemask-1k: --stratgy"),
        ("--strategy cm-step", "--strategy cm-stepp"),
        ("bench: gue", "bench: glue"),
        ("paper:logo-cm-gems-1k", "paper:logo-cm-gems-2k"),
    ):
        assert right in text
        text = text.replace(right, wrong)
    faulty.write_text(text)
    shots = yaml.safe_load(text) | {
        "blocks": {"x": {"bench": "gue", "recipe": "--shots 8 --lr 1e-4,1e-3"}},
        "ttests": {},
    }
    drawn = tmp_path / "drawn.yaml"
    drawn.write_text(yaml.safe_dump(shots))
    found = "\n".join(problems([*calls_of(faulty), *calls_of(drawn)]))
    for words in (
        "drawn rows have no dev split",
        "No such option: --stratgy",
        "'cm-stepp' is not one of",
        "did you mean gue?",
        "no published column",
    ):
        assert words in found


@needs_snakemake
@pytest.mark.subprocess
def test_the_workflow_runs_the_commands_of_the_study(tmp_path: Path) -> None:
    study = EVIDENCE / "studies" / "table6.yaml"
    shown = [
        line.removeprefix("Shell command: ").partition(" > ")[0]
        for line in snakemake(study, tmp_path, "-n", "-p").splitlines()
        if line.startswith("Shell command: ") and "cmgems" in line and "collect.py" not in line
    ]
    words = sorted(call_of(0, command).words for command in shown)
    assert words == sorted(call.words for call in calls_of(study))
    assert not list(tmp_path.rglob("manifest.json"))


@needs_snakemake
@pytest.mark.subprocess
def test_the_plan_counts_what_is_left(tmp_path: Path) -> None:
    model = tmp_path / "cmgems-work" / "models" / "dnabert-random-s42"
    model.mkdir(parents=True)
    (model / "manifest.json").touch()
    said = snakemake(EVIDENCE / "studies" / "table4.yaml", tmp_path, "plan", "--quiet", "all")
    assert "pretrain dnabert: 4 of 5 commands left, 2.5 h" in said
    assert "fewshot: 8 of 8 commands left, time not measured" in said


def test_hours_on_a_card_follow_from_the_measured_rate() -> None:
    scaling = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")
    row = re.search(r"\| one H100, bf16 \| ([\d,]+) \| ([\d,]+) \|", scaling)
    assert row
    rates = {
        name: float(rate.replace(",", ""))
        for name, rate in zip(("logo", "dnabert"), row.groups(), strict=True)
    }
    # 250 sequences of 386 tokens a step (docs/scaling.md).
    steps = {"table2": 10_000, "table4": 10_000, "gpu": 10_000, "table6": 1_000, "figure4": 13_000 / 3}
    for name, count in steps.items():
        study = yaml.safe_load((EVIDENCE / "studies" / f"{name}.yaml").read_text(encoding="utf-8"))
        for model in study["models"]:
            expected = count * 250 * 386 / rates[model]
            assert study["seconds"][f"pretrain {model}"] == pytest.approx(expected, rel=0.01, abs=1)


def test_the_slurm_file_runs_its_share(tmp_path: Path) -> None:
    (tmp_path / "stubs").write_text('cmgems() { printf "%s\\n" "$@"; }\nsrun() { "$@"; }\n')
    array = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "27"}
    done = subprocess.run(
        ["bash", str(SLURM), "cmgems-work/models/logo-cm-gems-10k"],
        env={"PATH": os.environ["PATH"], "BASH_ENV": str(tmp_path / "stubs"), **array},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    call = Call(0, tuple(done.stdout.split()))
    assert problems([call]) == []
    assert parsed(call)["shard"] == "3/27"
    assert problems([Call(0, tuple(word.replace("3/27", "0/27") for word in call.words))]) != []
