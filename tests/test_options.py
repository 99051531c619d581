"""Options declared once: what a field of a dataclass gives to Typer, config files, recipes, manifests and docs."""

import os
import re
import runpy
import sys
from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.main import get_command

from cmgems_cli import __version__
from cmgems_cli.cli import _OneLineErrors
from cmgems_cli.cli import app as cmgems_app
from cmgems_cli.errors import UsageError
from cmgems_cli.option_fields import (
    choices_of,
    machine_fields,
    option,
    options_of,
    recipe_fields,
    same_option,
    value_check,
)
from cmgems_cli.options import Shared, takes
from cmgems_cli.threads import VARIABLES, available_threads, use_threads
from cmgems_cli.training.pretrain_options import MASKING, PretrainingOptions
from tests.command_line import REPOSITORY, CommandLine, Result


@dataclass(frozen=True)
class Options:
    learning_rate: float | None = option(
        None, "--lr", "Peak rate.", panel="Recipe", min=0, max=1, shown="the task's"
    )
    steps: int = option(100, "--steps", "Number of steps.", panel="Recipe", min=1)
    kind: Literal["easy", "hard"] = option("easy", "--kind", "One of two.")
    size: str = option("small", "--size", "One size.", choices=("small", "large"))
    check: bool = option(True, "--check/--no-check", "Check the result.")
    workers: int = option(1, "--workers", "Processes.", machine=True)
    model: str = option("tiny", "--model", "A name or a folder.")
    seed: int = 0


@dataclass(frozen=True)
class Call:
    """What the command below was called with."""

    source: Path
    k: int
    table: str | None
    options: Options
    io: Shared


calls: list[Call] = []


@takes("out seed quiet config", out="the workspace's things")
def make(
    source: Annotated[Path, typer.Argument(help="File to read.")],
    k: int = option(6, "--k", "Bases per token.", min=3, max=8),
    table: Literal["tsv", "csv"] | None = option(None, "--format", "Of the result."),
    *,
    options: Options,
    io: Shared,
) -> None:
    """Make a thing."""
    if options.steps == 13:
        raise UsageError("`learning_rate=0.5` and `steps` do not fit; set `check=False` or lower `other`")
    calls.append(Call(source, k, table, options, io))


@takes("json config")
def look(*, io: Shared) -> None:
    """Look at things."""


app = typer.Typer(
    cls=_OneLineErrors,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "CMGEMS", "terminal_width": 160},
)
app.command("make")(make)
app.command("look")(look)


def run(*words: str, **env: str) -> Result:
    return CommandLine(app=app)(*words, code=None, env=env)


def called(*words: str, **env: str) -> Call:
    result = run("make", "x", *words, **env)
    assert result.code == 0, result.stderr
    return calls.pop()


def test_defaults_fill_the_dataclasses() -> None:
    # A field without an option, seed, comes from the shared option; shared options that are not taken have defaults.
    assert called() == Call(Path("x"), 6, None, Options(seed=42), Shared())


def test_flags_set_fields_whatever_their_names() -> None:
    one = called(
        *("--lr", "0.5", "--steps", "7", "--kind", "hard", "--size", "large", "--no-check", "--workers", "3"),
        *("--k", "8", "--format", "csv", "--out", "there", "--seed", "5", "--quiet"),
    )
    assert one.options == Options(0.5, 7, "hard", "large", False, 3, seed=5)
    assert (one.k, one.table) == (8, "csv")
    assert one.io == Shared(out=Path("there"), seed=5, quiet=True)


FLOATS = [
    (name, parameter.opts[0])
    for name, command in get_command(cmgems_app).commands.items()  # type: ignore[attr-defined]
    for parameter in command.params
    if "float" in repr(parameter.type_descriptor)
]


@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
@pytest.mark.parametrize(("command", "flag"), FLOATS)
def test_c3_numbers_that_are_not_finite_are_refused(
    cmgems: CommandLine, command: str, flag: str, value: str
) -> None:
    assert f"Invalid value for '{flag}'" in cmgems(command, flag, value, code=2).error
    assert {"--lr", "--mask-rate", "--full-share"} <= {flag for _, flag in FLOATS}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lr", "1.5"], "Invalid value for '--lr': needed at most 1"),
        (["--steps", "0"], "Invalid value for '--steps': needed at least 1"),
        (["--k", "9"], "Invalid value for '--k': needed at most 8"),
        (["--steps", "1e4"], "Invalid value for '--steps': needed a whole number (see"),
        (["--lr", "high"], "Invalid value for '--lr': needed a number (see"),
        (["--kind", "hart"], "'hart' is not one of 'easy', 'hard'; did you mean hard? (see"),
        (["--kind", "odd"], "Invalid value for '--kind': 'odd' is not one of 'easy', 'hard'"),
        (["--size", "odd"], "Invalid value for '--size': 'odd' is not one of 'small', 'large'"),
        (["--format", "xml"], "Invalid value for '--format': 'xml' is not one of 'tsv', 'csv'"),
        (["--learning-rate", "0.1"], "No such option: --learning-rate"),
        (["--step", "3"], "No such option: --step; did you mean --steps? (see"),
        (["--worker", "3"], "No such option: --worker; did you mean --workers? (see"),
        (["--json"], "No such option: --json"),
    ],
)
def test_ranges_choices_and_names_are_checked(words: list[str], said: str) -> None:
    result = run("make", "x", *words)
    assert result.code == 2
    assert said in result.stderr


def test_the_home_folder_is_meant_by_a_tilde_in_files_and_after_an_equals_sign(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path)}
    config = tmp_path / "options.toml"
    config.write_text('[make]\nout = "~/there"\nmodel = "~/models/a"\n')
    call = called("--config=~/options.toml", **env)
    assert (call.io.out, call.options.model) == (tmp_path / "there", str(tmp_path / "models" / "a"))
    assert called("--out", "~/x", "--model", "~", **env).options.model == str(tmp_path)
    call = called("--out", "./~/x", "--model", "tiny~/x", **env)
    assert (call.io.out, call.options.model) == (Path("./~/x"), "tiny~/x")


def test_choices_are_read_in_any_case_and_short_options_work(tmp_path: Path) -> None:
    out = tmp_path / "x"
    assert run("make", "x", "--kind", "HARD", "--format", "CSV", "-o", str(out), "-q").code == 0
    call = calls[-1]
    assert (call.options.kind, call.table, call.io.out, call.io.quiet) == ("hard", "csv", out, True)


def test_one_letter_means_one_thing_everywhere() -> None:
    letters: dict[str, set[str]] = {}
    for command in get_command(cmgems_app).commands.values():  # type: ignore[attr-defined]
        for parameter in command.params:
            for spelling in parameter.opts:
                if len(spelling) == 2 and parameter.param_type_name == "option":
                    letters.setdefault(spelling, set()).add(parameter.name)
    assert {letter: len(names) for letter, names in letters.items() if len(names) > 1} == {}
    assert {"-o", "-q", "-v", "-t", "-n", "-f", "-j"} <= set(letters)


def test_a_misspelt_variable_is_named(tmp_path: Path) -> None:
    env = {"CMGEMS_MAKE_STEP": "5", "CMGEMS_MAKE_STEPS": "5"}
    said = run("make", "x", **env).stderr
    assert said.splitlines()[0] == (
        "warning: the variable CMGEMS_MAKE_STEP sets nothing; did you mean CMGEMS_MAKE_STEPS?"
    )
    assert said.count("sets nothing") == 1


def test_a_log_file_keeps_what_was_said(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.log"
    command = CommandLine()
    for _ in range(2):
        command("info", tmp_path / "none", "--log-file", log, code=3)
    lines = log.read_text().splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d error: .*none does not exist; .*", lines[0])


def test_verbose_names_the_options_and_the_place_of_an_error(tmp_path: Path) -> None:
    said = CommandLine()("info", tmp_path / "none", "-v", code=3).stderr.splitlines()
    assert said[0].startswith(f"cmgems {__version__}, info: ")
    assert any("artifacts.py" in line for line in said)
    assert said[-1].startswith("error: ")
    assert CommandLine()("info", tmp_path / "none", code=3).error  # one line again


def test_threads_reach_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "7")
    monkeypatch.setitem(sys.modules, "torch", None)  # as if not imported
    monkeypatch.delitem(sys.modules, "torch")
    use_threads(3)
    assert {os.environ[name] for name in VARIABLES} == {"3"}
    assert available_threads() == 3


def test_environment_variables_and_config_keys_are_named_by_the_flag(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('lr = 0.25\njson = true\n[make]\nsteps = 9\nno-such = 1\nformat = "csv"\n')
    refused = run("make", "x", "--config", str(config))
    assert (refused.code, "'no-such' in [make] is not an option" in refused.stderr) == (2, True)
    config.write_text('lr = 0.25\njson = true\n[make]\nsteps = 9\nformat = "csv"\n')
    one = called("--config", str(config), CMGEMS_MAKE_STEPS="8")
    assert (one.options.learning_rate, one.options.steps, one.table) == (0.25, 8, "csv")
    assert called("--config", str(config), "--steps", "7", CMGEMS_MAKE_STEPS="8").options.steps == 7
    config.write_text("learning_rate = 0.25\n")
    assert (
        "'learning_rate' is not an option of any command" in run("make", "x", "--config", str(config)).stderr
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("steps = 5.7", "Invalid value for '--steps'"),
        ("steps = true", "Invalid value for '--steps'"),
        ("steps = 2001-02-03", "steps is a date; needed a text"),
        ("[make.steps]\na = 1", "steps is a dict; needed a text"),
        ("steps = [[1, 2], [3]]", "steps is a list of lists; needed"),
        ("steps = [2001-02-03]", "steps is a date; needed"),
        ("lr = nan", "nan is not a finite number"),
        ("k = " + 5_000 * "9", "digits"),
        ("k = 0x" + 5_000 * "f", "more than 64 bits"),
        ("kind = " + "[" * 10_000, "levels deep"),
    ],
)
def test_c3_values_of_a_config_file_are_judged_like_those_of_flags(
    tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "c.toml").write_text(text)
    result = run("make", "x", "--config", str(tmp_path / "c.toml"))
    assert result.code == 2, result.output
    assert said in result.stderr


def test_help_shows_panels_ranges_defaults_and_where_out_goes() -> None:
    text = " ".join(run("make", "--help").stdout.replace("│", " ").split())
    assert "Recipe ─" in text
    assert "Peak rate. [default: (the task's)]" in text
    assert "[x>=1] Number of steps. [default: 100]" in text
    assert "<small|large> One size. [default: small]" in text
    assert "Where to write. [default: (the workspace's things)]" in text
    assert text.index("--lr") < text.index("Shared options") < text.index("--seed")


@pytest.mark.parametrize("command", ["pretrain", "predict", "ttest"])
def test_help_shows_no_type_of_a_flag_and_no_limit_that_nobody_reaches(command: str) -> None:
    text = CommandLine()(command, "--help").stdout
    assert "<bool>" not in text
    assert "<int" not in text
    assert "9223372036854775807" not in text


def test_errors_of_the_library_name_fields_and_are_shown_as_flags() -> None:
    said = run("make", "x", "--steps", "13").stderr
    assert said == "error: --lr 0.5 and --steps do not fit; set --no-check or lower `other`\n"


def test_machine_fields_are_no_part_of_the_recipe() -> None:
    assert machine_fields(Options) == {"workers"}
    assert list(recipe_fields(Options())) == [
        "learning_rate",
        "steps",
        "kind",
        "size",
        "check",
        "model",
        "seed",
    ]


@pytest.mark.parametrize(
    ("field", "needed", "good", "bad"),
    [
        ("learning_rate", "a number from 0 to 1", [0, 0.5, 1], [-1, 2, "0.5", True, float("nan"), None]),
        ("steps", "a whole number from 1", [1, 10**9], [0, 1.0, "5", True]),
        ("kind", "one of easy, hard", ["easy"], ["odd", 1]),
        ("size", "one of small, large", ["large"], ["odd"]),
        ("check", "true or false", [True, False], [1, "true"]),
    ],
)
def test_values_of_files_are_checked_by_the_same_declaration(
    field: str, needed: str, good: list[Any], bad: list[Any]
) -> None:
    words, fits = value_check(Options, field)
    assert words == needed
    assert all(map(fits, good))
    assert not any(map(fits, bad))


def test_a_choice_is_listed_once() -> None:
    from cmgems_cli.masking import STRATEGIES

    assert choices_of(PretrainingOptions, "strategy") == STRATEGIES
    assert choices_of(Options, "size") == ("small", "large")
    assert choices_of(Options, "steps") == ()


def test_one_new_field_is_an_option_a_config_key_documentation_and_a_param(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A pretraining option touches one file, and its use: nothing else lists the options."""
    extended = make_dataclass(
        "PretrainingOptions",
        [("jitter", float, option(0.5, "--jitter", "New in this test.", panel=MASKING, min=0))],
        bases=(PretrainingOptions,),
        frozen=True,
    )
    seen: list[Any] = []
    grown = typer.Typer(cls=_OneLineErrors, context_settings={"auto_envvar_prefix": "CMGEMS"})

    def signature(*, options: Any, io: Any) -> None:
        """Pretrain."""
        seen.append(options)

    signature.__annotations__ = {"options": extended, "io": Shared, "return": None}
    grown.command("pretrain")(takes("seed config")(signature))
    grown.command("look")(look)

    config = tmp_path / "c.toml"
    config.write_text("[pretrain]\njitter = 0.75\n")
    for words, env, value in (
        (["--jitter", "2"], {}, 2.0),
        (["--config", str(config)], {}, 0.75),
        ([], {"CMGEMS_PRETRAIN_JITTER": "0.25"}, 0.25),
        ([], {}, 0.5),
    ):
        CommandLine(app=grown)("pretrain", *words, env=env)
        assert seen.pop().jitter == value
    assert recipe_fields(extended())["jitter"] == 0.5

    page = runpy.run_path(str(REPOSITORY / "docs" / "make_cli.py"))
    monkeypatch.setitem(page["page"].__globals__, "app", grown)
    assert "| `--jitter X` | New in this test. | 0.5 |" in page["page"]()


def test_an_option_of_another_class_differs_only_in_what_is_changed() -> None:
    @dataclass(frozen=True)
    class Other:
        steps: int = same_option(Options, "steps", default=5, help="Fewer steps.")
        workers: int = same_option(Options, "workers")

    assert Other() == Other(5, 1)
    assert options_of(Other)["steps"] == replace(options_of(Options)["steps"], help="Fewer steps.")
    assert machine_fields(Other) == {"workers"}


def test_fields_of_the_machine() -> None:
    assert machine_fields(PretrainingOptions) == {
        "max_batch_tokens",
        "precision",
        "compile",
        "cuda_graph",
        "save_every",
    }
    assert options_of(Shared)["device"].machine
