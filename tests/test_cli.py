"""The command line: help, exit codes, one-line errors, precedence of flag, environment, file and default."""

import json
import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from typer.main import get_command

from cmgems_cli import cli
from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.cli import app
from tests.command_line import CommandLine, environment

COMMANDS = list(get_command(app).commands)  # type: ignore[attr-defined]

REPOSITORY = Path(__file__).resolve().parents[1]
FASTA = str(files("cmgems_cli") / "data" / "hg38_chr16_186964_397118.fa.gz")


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "pmi"
    folder.mkdir()
    (folder / "kmers.csv").write_text("rank,kmer,count,pmi_nats,npmi_nats\n")
    finish_artifact(
        folder, "pmi", params={"k": 6}, inputs={}, stats={"ranked": 0}, files=["kmers.csv"], environment={}
    )
    return folder


def test_the_commands_of_the_contract_exist() -> None:
    assert {
        *("prepare-genome", "build-pmi", "pretrain", "finetune", "evaluate", "ttest", "predict", "embed"),
        *("show-masks", "build-fewshot", "info", "doctor", "demo", "fetch", "report"),
    } <= set(COMMANDS)


def test_help_names_every_command(cmgems: CommandLine) -> None:
    done = cmgems("--help")
    for command in COMMANDS:
        assert command in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(cmgems: CommandLine, command: str) -> None:
    done = cmgems(command, "--help")
    assert f"cmgems {command}" in done.stdout.replace("\n", " ")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["prepare"], 2, "No such command 'prepare'"),
        (["info"], 2, "Missing argument"),
        (["info", "nowhere"], 3, "nowhere does not exist"),
        (["info", "nowhere", "--colour"], 2, "No such option: --colour"),
        (["pretrain", "--stratgy", "x"], 2, "No such option: --stratgy; did you mean --strategy? (see"),
        (["pretrain", "--strategy", "guess"], 2, "'guess' is not one of"),
        (["pretrain", "--steps", "many"], 2, "Invalid value for '--steps'"),
        (["pretrain", "--config", "nowhere.toml"], 2, "nowhere.toml"),
        (["pretrain", "nowhere"], 3, "nowhere does not exist; needed a corpus artifact"),
    ],
)
def test_user_errors_are_one_line_with_their_exit_code(
    cmgems: CommandLine, arguments: list[str], code: int, words: str
) -> None:
    done = cmgems(*arguments, code=code)
    assert words in done.error


def test_info_json_is_one_object_on_stdout(cmgems: CommandLine, artifact: Path) -> None:
    done = cmgems("info", str(artifact), "--json", "--verify")
    value = done.json
    assert value["kind"] == "pmi"
    assert value["verified"] is True
    assert value["files"]["kmers.csv"]["bytes"] == 35


def test_info_for_people_shows_digest_params_and_stats(cmgems: CommandLine, artifact: Path) -> None:
    done = cmgems("info", str(artifact))
    for words in ("pmi, schema 1", "digest", "params", "ranked", "kmers.csv"):
        assert words in done.stdout


def test_info_verify_says_so_where_results_go(cmgems: CommandLine, artifact: Path) -> None:
    done = cmgems("info", str(artifact), "--verify", "-q")
    assert done.stdout.startswith("verified: 1 file with the sha256 that the manifest says\n")
    assert done.stderr == ""
    assert "verified" not in cmgems("info", str(artifact)).stdout


def test_info_verify_finds_changed_bytes(cmgems: CommandLine, artifact: Path) -> None:
    path = artifact / "kmers.csv"
    path.write_text(path.read_text().replace("rank", "tank"))
    cmgems("info", str(artifact))
    done = cmgems("info", str(artifact), "--verify", code=3)
    assert "sha256" in done.stderr


def test_a_config_file_gives_defaults_that_environment_and_flags_override(
    cmgems: CommandLine, artifact: Path, tmp_path: Path
) -> None:
    config = tmp_path / "options.toml"
    config.write_text("json = true\n[info]\nverify = true\n[pretrain]\nsteps = 5\n")
    verified = json.loads(cmgems("info", str(artifact), "--config", str(config)).stdout)["verified"]
    assert verified is True
    by_environment = cmgems(
        "info", str(artifact), "--config", str(config), env={"CMGEMS_INFO_VERIFY": "0"}
    ).stdout
    assert json.loads(by_environment)["verified"] is False
    by_flag = cmgems(
        "info", str(artifact), "--config", str(config), "--verify", env={"CMGEMS_INFO_VERIFY": "0"}
    ).stdout
    assert json.loads(by_flag)["verified"] is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepz = 5", "'stepz' is not an option of any command"),
        ("[pretrain]\nstepz = 5", "'stepz' in [pretrain] is not an option of cmgems pretrain"),
        ("[pretrian]\nsteps = 5", "[pretrian] is not a command"),
        ("steps = ", "not valid TOML"),
        ("json = true\n[info]\nverify = 'perhaps'", "Invalid value for '--verify'"),
    ],
)
def test_unknown_keys_and_bad_values_in_a_config_file_are_errors(
    cmgems: CommandLine, artifact: Path, tmp_path: Path, text: str, words: str
) -> None:
    config = tmp_path / "options.toml"
    config.write_text(text)
    done = cmgems("info", str(artifact), "--config", str(config), code=2)
    assert done.stdout == ""
    assert words in done.error


@pytest.mark.subprocess
def test_a_reader_that_leaves_a_pipe_is_no_error(artifact: Path) -> None:
    command = f"{sys.executable} -m cmgems_cli info {artifact} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_workspace_variable_moves_the_default_paths(cmgems: CommandLine, tmp_path: Path) -> None:
    done = cmgems("pretrain", env={"CMGEMS_WORKSPACE": str(tmp_path / "elsewhere")}, code=3)
    assert str(tmp_path / "elsewhere" / "corpus") in done.stderr


def test_version(cmgems: CommandLine) -> None:
    assert cmgems("--version").stdout.startswith("cmgems ")


@pytest.mark.subprocess
def test_python_dash_m_is_the_same_program(cmgems: CommandLine) -> None:
    assert cmgems.process("info", "nowhere", code=3).error.startswith("error: nowhere does not exist")


@pytest.mark.subprocess
def test_a_terminal_without_unicode_gets_escapes(cmgems: CommandLine, tmp_path: Path) -> None:
    for words in (["prepare-genome", "--help"], []):
        done = cmgems.process(*words, cwd=tmp_path, env={"PYTHONIOENCODING": "latin-1"}, encoding="latin-1")
        assert "Traceback" not in done.stderr
    assert "\\u2192" in done.stdout  # the arrow of "FASTA → training sequences"


@pytest.mark.subprocess
@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes are Linux's")
def test_names_that_are_no_utf_8_go_through_every_stage(cmgems: CommandLine, tmp_path: Path) -> None:
    named = os.fsdecode(b"caf\xe9")
    fasta = tmp_path / f"{named}.fa.gz"
    fasta.write_bytes(Path(FASTA).read_bytes())
    for words in (
        ["prepare-genome", fasta.name, "--out", named],
        ["build-pmi", named, "--min-count", "20", "--out", f"{named}-pmi"],
        ["info", f"{named}-pmi", "--verify", "--json"],
        ["show-masks", named, "--pmi", f"{named}-pmi", "--html", f"{named}.html", "--sequences", "5"],
    ):
        cmgems.process(*words, cwd=tmp_path, encoding="utf-8", errors="surrogateescape")
    assert (tmp_path / f"{named}.html").is_file()


@pytest.mark.subprocess
def test_a_closed_stdout_is_no_fault(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cmgems_cli", "prepare-genome", FASTA, "--out", "corpus", "--json"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *command],
        stderr=subprocess.PIPE,
        check=False,
        cwd=tmp_path,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_list_of_a_config_file_is_what_commas_say(cmgems: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('contigs = ["chr16", "chr99"]\n')
    done = cmgems(
        "prepare-genome", FASTA, "--out", str(tmp_path / "c"), "--config", str(tmp_path / "c.toml"), code=3
    )
    assert "no record named 'chr99'" in done.stderr


@pytest.mark.subprocess
@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_that_meets_a_finalizer_is_not_lost(number: str, code: int) -> None:
    program = (
        "import signal, sys, time\n"
        "from cmgems_cli import cli\n"
        "class Last:\n"
        f"    def __del__(self): signal.raise_signal(signal.{number})\n"
        "def show(console):\n"
        "    Last()\n"
        "    time.sleep(20)\n"
        "    print('it went on')\n"
        "cli.overview.show_overview = show\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "cli.app([])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment()
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("stopped by ")
    assert len(done.stderr.splitlines()) == 1


def test_objects_are_left_to_the_system_unless_triton_would_warn_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[bool] = []
    monkeypatch.setattr(cli.gc, "freeze", lambda: left.append(True))
    monkeypatch.setitem(sys.modules, "triton", cli)
    cli._leave_objects_to_the_system()
    assert left == []
    monkeypatch.delitem(sys.modules, "triton")
    cli._leave_objects_to_the_system()
    assert left == [True]
