"""Options for Typer: those that commands share, and the fields of dataclasses (`option_fields`) as options."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

from cmgems_cli import __version__
from cmgems_cli.console import Console, prepare, print_line
from cmgems_cli.errors import UsageError
from cmgems_cli.modeling.presets import PRESETS
from cmgems_cli.option_fields import Option, option, option_of, options_of, read_several
from cmgems_cli.structured_text import read_toml
from cmgems_cli.threads import use_threads

SHARED = "Shared options"

# Placeholders of values in --help, by type.
PLACEHOLDERS = {Path: "PATH", int: "N", float: "X", str: "TEXT"}

# ours: limits above this tell a reader nothing.
LARGEST_SHOWN = 1e9

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])


def _fill_from_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make the values of a TOML file the command's defaults (flag > environment > file > default).

    Keys at the top apply to every command that has such an option; a table named like a command applies
    to that command. A name that no command knows is an error: a misspelt key must not go unnoticed.
    """
    if path is None:
        return None
    try:
        raw = read_toml(path)
    except OSError as error:
        raise UsageError(
            f"cannot read --config {path}: {error.strerror}; give an existing TOML file"
        ) from None
    except ValueError as error:
        raise UsageError(f"--config {path} is not valid TOML: {error}; correct it") from None
    commands: dict[str, Any] = ctx.parent.command.commands if ctx.parent else {}  # type: ignore[attr-defined]
    known = {name: _option_names(command) for name, command in commands.items()}
    own = _option_names(ctx.command)
    anywhere = set().union(own, *known.values())
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if isinstance(value, dict):
            if key not in known:
                raise UsageError(f"--config {path}: [{key}] is not a command; commands: {', '.join(known)}")
            for inner in value:
                if inner.replace("-", "_") not in known[key]:
                    raise UsageError(
                        f"--config {path}: {inner!r} in [{key}] is not an option of cmgems {key}"
                    )
        elif key.replace("-", "_") not in anywhere:
            raise UsageError(f"--config {path}: {key!r} is not an option of any command")
        elif key.replace("-", "_") in own:
            values[key.replace("-", "_")] = value
    table = raw.get(ctx.info_name or "", {})
    values.update({key.replace("-", "_"): value for key, value in table.items()})
    # As text, so that Typer judges it like the value of a flag; ["chr1", "chr2"] as --contigs chr1,chr2.
    texts = {name: _as_flag_value(value, f"--config {path}: {name}") for name, value in values.items()}
    ctx.default_map = {**(ctx.default_map or {}), **texts}
    return path


def _as_flag_value(value: Any, where: str) -> str:
    if isinstance(value, list):
        if any(isinstance(one, list) for one in value):
            raise UsageError(f"{where} is a list of lists; needed a list of texts or numbers")
        return ",".join(_as_flag_value(one, where) for one in value)
    if not isinstance(value, str | int | float):
        raise UsageError(
            f"{where} is a {type(value).__name__}; needed a text, a number, true, false or a list"
        )
    return str(value)


def _option_names(command: Any) -> set[str]:
    """Return the names a config file may use for `command`: --max-tokens is max_tokens, --json is json."""
    return {
        parameter.name
        for parameter in command.params
        if parameter.param_type_name == "option" and parameter.name not in {"config", "help"}
    }


# Arguments and options of several commands, which each declares by name.
CorpusFolder = Annotated[
    Path | None, typer.Argument(metavar="CORPUS", help="Corpus folder.", show_default="the workspace's")
]
PMI_FOLDER = option(None, "--pmi", "PMI folder.", shown="the workspace's")
MODEL_HELP = f"Model folder, or {', '.join(PRESETS)}: random weights."
INIT = option(None, "--init", "random: the folder's architecture without its weights, a baseline.")
TENSORBOARD = option(
    False,
    "--tensorboard",
    "Also write the metrics for TensorBoard, to OUT/tensorboard (pip install 'cmgems\\[tensorboard]').",
)
InputPath = Annotated[
    Path | None,
    typer.Argument(
        metavar="INPUT",
        help="FASTA, or CSV or TSV with a column 'sequence'; plain or gzip; - for standard input.",
        show_default=False,
        allow_dash=True,
    ),
]


@dataclass(frozen=True)
class Shared:
    """The options of more than one command, with one meaning everywhere; those that a command lacks have defaults."""

    out: Path | None = option(None, "--out", "Where to write.", panel=SHARED, short="-o")
    seed: int = option(42, "--seed", "Seed of all random draws.", panel=SHARED, min=0, max=2**63 - 1)
    device: str = option(
        "auto", "--device", "auto, cpu, cuda or cuda:N.", panel=SHARED, metavar="DEVICE", machine=True
    )
    threads: int | None = option(
        None,
        "--threads",
        "Threads of the CPU.",
        panel=SHARED,
        min=1,
        max=4096,
        shown="as OMP_NUM_THREADS says, or one per core",
        machine=True,
        short="-t",
    )
    resume: bool = option(
        True, "--resume/--no-resume", "Resume an unfinished run of the same command.", panel=SHARED
    )
    overwrite: bool = option(False, "--overwrite", "Replace what is at --out.", panel=SHARED, short="-f")
    dry_run: bool = option(
        False, "--dry-run", "Check the input, print the plan, write nothing.", panel=SHARED, short="-n"
    )
    json: bool = option(False, "--json", "Print one JSON object on stdout, no tables.", panel=SHARED)
    quiet: bool = option(False, "--quiet", "Only warnings and errors on stderr.", panel=SHARED, short="-q")
    verbose: bool = option(
        False,
        "--verbose",
        "Say the version and every option first; with an error, where in the code.",
        panel=SHARED,
        short="-v",
    )
    log_file: Path | None = option(
        None, "--log-file", "Also write what goes to stderr to this file, with times.", panel=SHARED
    )
    config: Path | None = option(
        None, "--config", "TOML file of options; flags and CMGEMS_* variables take precedence.", panel=SHARED
    )

    def console(self, *, is_main: bool = True) -> Console:
        """Return the console of the command; only the main process prints."""
        return Console(quiet=self.quiet or not is_main, json=self.json and is_main)


def takes(shared: str, *, out: str | None = None) -> Callable[[AnyCommand], AnyCommand]:
    """Give a command's options to Typer.

    The decorated function declares its arguments for Typer as usual. Any other parameter is one of

    - an option of its own: `k: int = option(6, "--k", "Bases per token.")`
    - a dataclass of options: `options: PretrainingOptions`. The command gets it filled; a field without an option
      of its own, such as `seed`, is filled from the option of its name
    - the shared options: `io: Shared`

    Parameters
    ----------
    shared : str
        The fields of `Shared` that the command has, separated by spaces.
    out : str, optional
        The default of --out, in words.
    """

    def decorate(command: AnyCommand) -> AnyCommand:
        hints = get_type_hints(command, include_extras=True)
        exposed: list[inspect.Parameter] = []
        own: dict[str, str] = {}  # parameter of the command -> key of its option
        groups: dict[str, Any] = {}  # parameter of the command -> dataclass of options
        keys_of_fields: dict[str, str] = {}
        for name, parameter in inspect.signature(command).parameters.items():
            hint, default = hints[name], parameter.default
            if isinstance(default, Field) and (declared := option_of(default)):
                own[name] = declared.key
                exposed.append(_parameter(declared, hint, default.default))
            elif isinstance(hint, type) and is_dataclass(hint):
                groups[name] = hint
                if hint is not Shared:
                    exposed += _parameters(hint, options_of(groups[name]))
                    keys_of_fields |= {field: found.key for field, found in options_of(groups[name]).items()}
            else:
                own[name] = name
                exposed.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))
        wanted = shared.split()
        # What commands that compute share, and what all share that say anything.
        wanted += ["threads"] * ("device" in wanted) + ["verbose", "log_file"] * ("quiet" in wanted)
        of_shared = {name: found for name, found in options_of(Shared).items() if name in wanted}
        if out is not None:
            of_shared["out"] = replace(of_shared["out"], shown=out)
        exposed += _parameters(Shared, of_shared)

        @wraps(command)
        def filled(**values: Any) -> Any:
            # Texts too, since a model is a name or a folder.
            values = {key: _at_home(one) if isinstance(one, str) else one for key, one in values.items()}
            given = {name: values[key] for name, key in own.items()}
            _prepare(command.__name__, values)
            return command(**given, **{name: _filled(cls, values) for name, cls in groups.items()})

        filled.__signature__ = inspect.Signature(exposed)  # type: ignore[attr-defined]
        filled.__annotations__ = {one.name: one.annotation for one in exposed}
        # For messages that name a field (`cli`).
        filled.keys_of_fields = keys_of_fields  # type: ignore[attr-defined]
        return filled  # type: ignore[return-value]

    return decorate


def _prepare(command: str, values: Mapping[str, Any]) -> None:
    """Do what some shared options ask for before the command begins."""
    prepare(log_file=values.get("log_file"), verbose=bool(values.get("verbose")))
    if values.get("threads"):
        use_threads(values["threads"])
    if values.get("verbose"):
        given = ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
        print_line(f"cmgems {__version__}, {command.replace('_', '-')}: {given}")


def _path(text: str) -> Path:
    """Refuse an empty path, as an unset variable of a shell gives: it would mean the current folder."""
    if not str(text):
        raise typer.BadParameter("the path is empty; give a path, or leave the option out")
    return Path(_at_home(str(text)))


def _at_home(text: str) -> str:
    """Return a text with the home folder in place of a leading `~`.

    A shell puts it there only at the beginning of an unquoted word, not after `--out=` or in a config file.
    """
    return str(Path(text).expanduser()) if text.split("/")[0] == "~" else text


def _parameters(cls: type, declared: Mapping[str, Option]) -> list[inspect.Parameter]:
    hints, defaults = get_type_hints(cls), {one.name: one.default for one in fields(cls)}
    return [_parameter(found, hints[name], defaults[name]) for name, found in declared.items()]


def _parameter(declared: Option, hint: Any, default: Any) -> inspect.Parameter:
    """Return an option as a parameter that Typer reads, named by its key."""
    if declared.choices:
        hint = Literal[tuple(declared.choices)]
    if default is None:
        hint = hint | None
    kinds = {hint, *get_args(hint)}
    metavar = declared.metavar or next((name for kind, name in PLACEHOLDERS.items() if kind in kinds), None)
    info: dict[str, Any] = {"min": declared.min, "max": declared.max, "metavar": metavar}
    if (declared.max or 0) > LARGEST_SHOWN:
        info |= {"max": None, "callback": _at_most(declared)}
    if declared.shown is not None:
        info["show_default"] = declared.shown
    if declared.several:
        info |= {
            "parser": partial(_several, declared, hint),
            "metavar": declared.metavar or _several_values(hint),
        }
        hint = str | None
    elif float in kinds:
        info["callback"] = _finite
    if Path in kinds:
        info["parser"] = _path
    if get_origin(hint) is Literal or any(get_origin(kind) is Literal for kind in kinds):
        info["case_sensitive"] = False
    if declared.key == "config":
        info |= {"callback": _fill_from_config, "is_eager": True}
    spellings = [declared.flag, *filter(None, [declared.short, declared.alias])]
    given = typer.Option(*spellings, help=declared.help, rich_help_panel=declared.panel, **info)
    return inspect.Parameter(
        declared.key,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[hint, given],
    )


def _at_most(declared: Option) -> Callable[[int | None], int | None]:
    """Return a check of a limit that is too large to be shown."""
    assert declared.max is not None
    most = int(declared.max)

    def check(value: int | None) -> int | None:
        if value is not None and value > most:
            raise typer.BadParameter(f"{value} is not in the range 0 to {most}")
        return value

    return check


def _several(declared: Option, kind: Any, given: Any) -> Any:
    # Typer passes a default through the parser too.
    if not isinstance(given, str):
        return given
    try:
        return read_several(declared, kind, given)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _several_values(kind: Any) -> str:
    """Return the placeholder of an option that takes several values: X,… or cls|mean,…"""
    one = get_args(kind)[0]
    return f"{'X' if one is float else '|'.join(map(str, get_args(one)))},…"


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a number that can be used; give a finite one")
    return value


def _filled(cls: type, values: Mapping[str, Any]) -> Any:
    """Return a dataclass filled from options by their keys; fields without an option by their names."""
    keys = {one.name: found.key if (found := option_of(one)) else one.name for one in fields(cls)}
    return cls(**{name: values[key] for name, key in keys.items() if key in values})
