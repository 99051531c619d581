"""`cmgems` alone: what the workspace holds, and the next command; shell completion."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.commands.overview import progress_of
from tests.command_line import CommandLine, environment, run_python
from tests.source_tree import HEAVY
from tests.timing import within

# What each stage's manifest must hold for one line about it.
STATS: dict[str, dict[str, Any]] = {
    "corpus": {"sequences": 1234, "bases": 210155},
    "pmi": {"ranked": 3064},
    "model": {"steps": 300, "switched_at_step": 270},
    "classifier": {"mcc": 0.7175, "accuracy": 0.854},
    "scores": {"runs": 9, "mean_mcc": 0.5164},
}
PARAMS: dict[str, dict[str, Any]] = {
    "pmi": {"k": 6},
    "scores": {"bench": "fewshot", "tasks": ["own"], "shots": [10]},
}

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that finishes an artifact in the workspace `work`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CMGEMS_WORKSPACE", "work")

    def _make(place: str, kind: str, age: int = 0, model: str | None = None, **stats: Any) -> Path:
        folder = Path("work") / place
        folder.mkdir(parents=True)
        finish_artifact(
            folder,
            kind,
            params={**PARAMS.get(kind, {}), **({"model": model} if model else {})},
            inputs={},
            stats={**STATS[kind], **stats},
            files=[],
            environment={},
        )
        os.utime(folder, (1_700_000_000 - age, 1_700_000_000 - age))
        return folder

    return _make


def shown(cmgems: CommandLine) -> str:
    result = cmgems()
    assert result.stderr == ""
    return result.stdout


@pytest.mark.parametrize(
    ("stats", "words"),
    [
        ({"sequences": None}, "manifest.json lacks the usual stats; make it again"),
        ({"bases": "many"}, "manifest.json is not a readable manifest (bases is 'many')"),
        ({"bases": [1]}, "manifest.json is not a readable manifest (bases is '[1]')"),
    ],
    ids=str,
)
def test_c3_a_manifest_without_the_usual_stats_is_shown_as_damaged(
    cmgems: CommandLine, make: Make, stats: dict[str, Any], words: str
) -> None:
    make("corpus", "corpus", **stats)
    assert words in shown(cmgems)


def next_of(text: str) -> str:
    return next(line.removeprefix("next: ") for line in text.splitlines() if line.startswith("next: "))


def test_an_empty_workspace_shows_the_stages_and_where_to_begin(cmgems: CommandLine, make: Make) -> None:
    text = shown(cmgems)
    for command in ("prepare-genome", "build-pmi", "pretrain", "finetune", "evaluate"):
        assert f"{command} " in text
    assert next_of(text) == "cmgems prepare-genome GENOME.fa.gz"
    assert "cmgems demo" in text
    assert not Path("work").exists()


def test_a_genome_that_was_fetched_is_the_one_to_prepare(cmgems: CommandLine, make: Make) -> None:
    fasta = Path("work/downloads/hg38.fa.gz")
    fasta.parent.mkdir(parents=True)
    fasta.touch()
    assert next_of(shown(cmgems)) == f"cmgems prepare-genome {fasta}"


def test_the_next_command_follows_the_pipeline(cmgems: CommandLine, make: Make) -> None:
    make("corpus", "corpus")
    text = shown(cmgems)
    assert "work/corpus: 1,234 sequences from 210,155 bases" in text
    assert next_of(text) == "cmgems build-pmi"
    make("pmi", "pmi")
    assert next_of(shown(cmgems)) == "cmgems pretrain --strategy cm-gems"
    make("models/tiny-random", "model", age=100, switched_at_step=None)
    make("models/tiny-cm-gems", "model")
    text = shown(cmgems)
    assert "work/models/tiny-cm-gems: 300 steps, switched after 270" in text
    assert "work/models/tiny-random: 300 steps\n" in text
    assert next_of(text) == "cmgems finetune work/models/tiny-cm-gems DATA"
    make("finetuned/tiny-cm-gems-own", "classifier")
    text = shown(cmgems)
    assert "test MCC × 100 71.75, accuracy 0.854" in text
    assert next_of(text) == "cmgems predict work/finetuned/tiny-cm-gems-own DNA"
    make("scores/tiny-cm-gems-fewshot", "scores")
    assert next_of(shown(cmgems)) == "cmgems evaluate work/models/tiny-cm-gems --init random --bench fewshot"
    make("scores/tiny-cm-gems-random-fewshot", "scores", age=100)
    assert (
        next_of(shown(cmgems))
        == "cmgems ttest work/scores/tiny-cm-gems-random-fewshot work/scores/tiny-cm-gems-fewshot"
    )
    # A baseline is never the reference, which comes last, though it was evaluated last.
    make("scores/kmer-linear-fewshot", "scores", age=-100, model="kmer-linear")
    assert next_of(shown(cmgems)).startswith(
        "cmgems ttest work/scores/kmer-linear-fewshot work/scores/tiny-cm-"
    )


def test_an_unfinished_run_is_to_be_gone_on_with(cmgems: CommandLine, make: Make) -> None:
    make("corpus", "corpus")
    make("pmi", "pmi")
    Path("work/models/logo-cm-gems/checkpoints/step_000500").mkdir(parents=True)
    text = shown(cmgems)
    assert "… work/models/logo-cm-gems: unfinished, saved after step 500" in text
    assert next_of(text) == "the same cmgems command that began work/models/logo-cm-gems"


def test_an_unfinished_evaluation_counts_its_runs(cmgems: CommandLine, make: Make) -> None:
    make("scores/logo-gue/runs/tf-0-seed-42", "scores")
    Path("work/scores/logo-gue/runs/tf-0-seed-43").mkdir()
    assert "work/scores/logo-gue: unfinished, 1 run(s) done" in shown(cmgems)


def test_a_damaged_artifact_is_shown_as_such_and_does_not_count(cmgems: CommandLine, make: Make) -> None:
    folder = make("corpus", "corpus")
    (folder / "manifest.json").write_text("{}")
    text = shown(cmgems)
    assert "✗ work/corpus: " in text
    assert "is not a readable manifest" in text
    assert next_of(text).startswith("cmgems prepare-genome")


def test_many_models_do_not_fill_the_screen(cmgems: CommandLine, make: Make) -> None:
    for number in range(6):
        make(f"models/logo-{number}", "model", age=number)
    text = shown(cmgems)
    assert "work/models/logo-2" in text
    assert "work/models/logo-3" not in text
    assert "and 3 more in work/models" in text


@pytest.mark.subprocess
def test_it_loads_no_heavy_library_and_takes_no_time(make: Make) -> None:
    make("corpus", "corpus")
    code = (
        "import sys; from cmgems_cli.cli import app\n"
        "try: app([])\n"
        "except SystemExit as end: print(end.code, *(set(sys.argv[1:]) & set(sys.modules)))"
    )

    def show() -> None:
        exit_code, *loaded = run_python(code, *HEAVY).stdout.splitlines()[-1].split()
        assert (exit_code, loaded) == ("0", [])

    # 0.3 s on a quiet machine.
    assert within(2, show)


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("words", "among"),
    [
        ("cmgems pre", {"prepare-genome", "pretrain", "predict"}),
        ("cmgems pretrain --strategy cm-", {"cm-gems", "cm-step"}),
        ("cmgems pretrain --switch", {"--switch-threshold"}),
    ],
)
def test_the_shell_completes_commands_options_and_choices(words: str, among: set[str]) -> None:
    variables = {
        "_CMGEMS_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    command = [sys.executable, "-c", "from cmgems_cli.cli import app; app(prog_name='cmgems')"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**environment(), **variables}
    )
    assert set(done.stdout.split()) == among


@pytest.mark.subprocess
def test_completion_installs_for_bash(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from cmgems_cli.cli import app; app(prog_name='cmgems')"]
    done = subprocess.run(
        [*command, "--install-completion", "bash"],
        capture_output=True,
        text=True,
        check=False,
        env={**environment(), "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "_cmgems_completion" in (tmp_path / ".bash_completions" / "cmgems.sh").read_text()
    assert "cmgems.sh" in (tmp_path / ".bashrc").read_text()


def test_info_says_how_far_an_unfinished_run_is(cmgems: CommandLine, make: Make) -> None:
    Path("work/models/logo-cm-gems/checkpoints/step_000500").mkdir(parents=True)
    said = cmgems("info", "work/models/logo-cm-gems", code=3).error
    assert said.endswith("unfinished, saved after step 500; the command that began it resumes it")


def test_c3_steps_are_compared_as_numbers_and_other_folders_are_passed_over(tmp_path: Path) -> None:
    for name in ("step_999000", "step_1000000", "step_000004.bak", "step_"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert progress_of(tmp_path) == "unfinished, saved after step 1,000,000"
