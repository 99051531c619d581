"""The `cmgems` command: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import atexit
import difflib
import gc
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from cmgems_cli import __version__, signals
from cmgems_cli.commands import (
    build_fewshot,
    build_pmi,
    build_task,
    cite,
    clean,
    demo,
    doctor,
    embed,
    evaluate,
    explain,
    fetch,
    finetune,
    info,
    overview,
    predict,
    prepare_genome,
    pretrain,
    report,
    score_variants,
    show_masks,
    split,
    ttest,
)
from cmgems_cli.console import Console, is_verbose, print_line
from cmgems_cli.errors import CmgemsError, Interrupted, as_user_error
from cmgems_cli.readable import meant


def _leave_objects_to_the_system() -> None:
    """Spare Python's search of all objects for garbage at its end, a fifth of the time of a `cmgems ttest`."""
    if "triton" not in sys.modules:  # its bindings write pages of warnings about objects that nothing frees
        gc.freeze()


atexit.register(_leave_objects_to_the_system)

# ours: torchrun ends the other processes a tenth of a second after the first has failed.
SECONDS_FOR_RANK_0 = 3.0


# Variables of no option: `workspace`, and those of the tests.
VARIABLES = ("CMGEMS_WORKSPACE", "CMGEMS_TEST_DATA")


class _Command(TyperCommand):
    """A command whose help shows no type for what takes no value."""

    def get_params(self, ctx: Any) -> Any:
        """Return the options and arguments, with `--help`."""
        return _without_types_of_flags(super().get_params(ctx))


def _without_types_of_flags(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class _OneLineErrors(TyperGroup):
    """Turns every error a user can cause into one line on stderr and its exit code."""

    # None in a program that calls `app` itself: that one handles signals.
    _stopper: signals.Stopper | None = None

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # Every option has a variable, by one rule that the help states once instead of for each option.
        for command in self.commands.values():
            for parameter in command.params:
                parameter.show_envvar = False  # type: ignore[attr-defined]

    def get_params(self, ctx: Any) -> Any:
        """Return the options of `cmgems` itself, including those of shell completion, added after `__init__`."""
        parameters = _without_types_of_flags(super().get_params(ctx))
        for parameter in parameters:
            parameter.show_envvar = False
        return parameters

    def main(self, args: Any = None, standalone_mode: bool = True, **extra: Any) -> Any:  # type: ignore[override]
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        _make_streams_safe()
        self._stopper = signals.Stopper()
        before = signals.install(signals.end_at_once)
        hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        try:
            self._warn_of_unknown_variables()
            # In this mode typer returns the exit code of an Exit instead of exiting.
            code = super().main(args, standalone_mode=False, **extra)
        except CmgemsError as error:
            code = self._report(error, self._with_flags(str(error)))
        except TyperException as error:
            where = getattr(getattr(error, "ctx", None), "command_path", "cmgems")
            code = self._report(error, f"{plain_message(error)} (see {where} --help)")
        except Exception as error:
            refused = as_user_error(error) or _lost_process(error)
            if refused is None:
                raise
            code = self._report(refused, self._with_flags(str(refused)))
        finally:
            if not self._stopper.signum:
                sys.unraisablehook = hook
            self._stopper = None
            signals.restore(before)
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        before: dict[int, Any] = {}
        try:
            before = signals.install(self._stopper) if self._stopper else {}
            result = super().invoke(ctx)
            sys.stdout.flush()
            if self._stopper and self._stopper.signum:
                # It was put off until the work was over.
                raise _stopped(128 + self._stopper.signum)
        except KeyboardInterrupt as stop:
            raise _stopped(getattr(stop, "exit_code", 130)) from None
        except BrokenPipeError:
            # The reader of a pipe exited (`| head`): not an error. Point stdout elsewhere, or the
            # interpreter complains when it flushes the closed stream at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return None
        except Exception as error:
            # Libraries turn the exception of a signal into one of their own.
            if (stopper := self._stopper) and stopper.signum and not isinstance(error, Interrupted):
                raise _stopped(128 + stopper.signum) from None
            raise
        finally:
            signals.restore(before)
        return result

    def _warn_of_unknown_variables(self) -> None:
        """Say which CMGEMS_* variables set nothing: a misspelt name must not go unnoticed."""
        known = {*VARIABLES, *(f"CMGEMS_{name}" for name in _names_of_variables(self.commands))}
        given = (name for name in os.environ if name.startswith("CMGEMS_"))
        for name in sorted(set(given) - known):
            guess = difflib.get_close_matches(name, known, n=1)
            near = f"; did you mean {guess[0]}?" if guess else ""
            print_line(f"warning: the variable {name} sets nothing{near}")

    def _report(self, error: Any, message: str) -> int:
        """Print an error, or that a signal stopped the command; return the exit code."""
        signals.install(signals.IGNORE)
        if not _speaks(int(error.exit_code)):
            return int(error.exit_code)
        if is_verbose():
            for line in "".join(traceback.format_exception(error)).splitlines():
                print_line(line)
        prefix = "" if isinstance(error, Interrupted) else "error: "
        print_line(f"{prefix}{' '.join(message.split())}")
        return int(error.exit_code)

    def _unraisable(self, lost: sys.UnraisableHookArgs) -> None:
        """Repeat a signal whose exception a finalizer has swallowed; report other exceptions."""
        if self._stopper and isinstance(lost.exc_value, KeyboardInterrupt):
            self._stopper.lost()
        elif not (self._stopper and self._stopper.signum):
            # A stop may leave a library's object half made, whose finalizer then fails.
            sys.__unraisablehook__(lost)

    def _with_flags(self, message: str) -> str:
        """Replace the parameters that library errors name in backticks by the options that set them.

        `steps` becomes --steps, `steps=5` --steps 5, `overwrite=True` --overwrite, `resume=False` --no-resume;
        a field of options, such as `learning_rate`, the option that it declares, --lr.
        """
        options: dict[str, Any] = {}
        for command in self.commands.values():
            by_key = {one.name: one for one in command.params if one.param_type_name == "option"}
            keys: dict[str, str] = getattr(command.callback, "keys_of_fields", {})
            options |= by_key | {field: by_key[key] for field, key in keys.items()}

        def flag(name: re.Match[str]) -> str:
            option, value = options.get(name[1]), name[2]
            if option is None:
                return name[0]
            if value == "False" and option.secondary_opts:
                return option.secondary_opts[0]
            return option.opts[0] if value in (None, "True") else f"{option.opts[0]} {value}"

        return re.sub(r"`(\w+)(?:=([^`]*))?`", flag, message)


def _names_of_variables(commands: Mapping[str, Any]) -> Iterator[str]:
    for name, command in commands.items():
        for parameter in command.params:
            yield f"{name}_{parameter.name}".replace("-", "_").upper()


# What pydantic says of values, and what people say.
_PLAIN = (
    (r"Input should be a valid integer.*", "needed a whole number"),
    (r"Input should be a valid number.*", "needed a number"),
    (r"Input should be greater than or equal to (\S+)", r"needed at least \1"),
    (r"Input should be less than or equal to (\S+)", r"needed at most \1"),
)


def plain_message(error: TyperException) -> str:
    """Return what is wrong with the command line, with the nearest choice or option where one was misspelt."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    for pattern, words in _PLAIN:
        message = re.sub(pattern, words, message)
    if found := re.search(r"'([^']*)' is not one of ('.*')", message):
        choices = re.findall(r"'([^']*)'", found[2])
        message += meant(found[1], choices)
    # The nearest first; Typer's own words list them by the alphabet.
    if near := getattr(error, "possibilities", None):
        message = f"{message.split(' (')[0]}; did you mean {near[0]}?"
    return message


def _make_streams_safe() -> None:
    """Let any text be written: escaped if the stream's encoding lacks a character, dropped if the stream is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _speaks(exit_code: int) -> bool:
    """Return whether this process reports: always, except that one of torchrun's processes reports for all."""
    if not signals.under_torchrun():
        return True
    processes: Any = sys.modules.get("cmgems_cli.training.processes")
    joined = processes.speaks(exit_code) if processes else None
    if joined is None and os.environ["RANK"] != "0":
        # Before the processes have joined, most errors are those of rank 0 too; torchrun then ends this process.
        signals.install(lambda *_: os._exit(exit_code))
        time.sleep(SECONDS_FOR_RANK_0)
    return joined is not False


def _lost_process(error: Exception) -> CmgemsError | None:
    signals.install(signals.IGNORE)
    processes: Any = sys.modules.get("cmgems_cli.training.processes")
    found: CmgemsError | None = processes.lost_process(error) if processes else None
    return found


def _stopped(exit_code: int) -> Interrupted:
    return Interrupted(f"{signals.stopped_by(exit_code)}; nothing half-written was kept", exit_code)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"cmgems {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_OneLineErrors,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": "CMGEMS", "help_option_names": ["-h", "--help"]},
    epilog="Any option can also come from the environment (CMGEMS_PRETRAIN_STEPS=1000) or from a --config file.",
    help="Pretrain and benchmark DNA language models, from FASTA to statistics: curriculum masking (CM-GEMS).",
)


@app.callback()
def _main(
    ctx: typer.Context,
    version: bool = typer.Option(
        False, "--version", "-V", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    if ctx.invoked_subcommand is None:
        overview.show_overview(Console())


# In the order of --help, by what they are for.
COMMANDS: dict[str, dict[str, Any]] = {
    "Pipeline": {
        "prepare-genome": prepare_genome.prepare_genome,
        "build-pmi": build_pmi.build_pmi,
        "pretrain": pretrain.pretrain,
        "finetune": finetune.finetune,
        "evaluate": evaluate.evaluate,
    },
    "Use a model": {
        "predict": predict.predict,
        "embed": embed.embed,
        "score-variants": score_variants.score_variants,
        "explain": explain.explain,
    },
    "Compare": {
        "ttest": ttest.ttest,
        "report": report.report,
        "show-masks": show_masks.show_masks,
    },
    "Data": {
        "fetch": fetch.fetch,
        "split": split.split,
        "build-task": build_task.build_task,
        "build-fewshot": build_fewshot.build_fewshot,
    },
    "Inspect": {
        "demo": demo.demo,
        "info": info.info,
        "doctor": doctor.doctor,
        "clean": clean.clean,
        "cite": cite.cite,
    },
}
for _panel, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        app.command(_name, cls=_Command, rich_help_panel=_panel)(_command)
