"""The `cmgems` command: its subcommands, and the one place where errors become exit codes."""

from __future__ import annotations

import atexit
import gc
import os
import re
import sys
import time
from io import TextIOWrapper
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from cmgems_cli import __version__, signals
from cmgems_cli.commands import (
    build_fewshot,
    build_pmi,
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
from cmgems_cli.console import Console, print_line
from cmgems_cli.errors import CmgemsError, Interrupted, as_user_error

# At exit Python searches all objects of the libraries for garbage: a fifth of the time of a `cmgems ttest`. The
# system frees all memory at once.
atexit.register(gc.freeze)


# ours: torchrun ends the other processes a tenth of a second after the first has failed.
SECONDS_FOR_RANK_0 = 3.0


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
        parameters = super().get_params(ctx)
        for parameter in parameters:
            parameter.show_envvar = False  # type: ignore[attr-defined]
        return parameters

    def main(self, args: Any = None, standalone_mode: bool = True, **extra: Any) -> Any:  # type: ignore[override]
        if not standalone_mode:
            return super().main(args, standalone_mode=False, **extra)
        _make_streams_safe()
        self._stopper = signals.Stopper()
        before = signals.install(signals.end_at_once)
        hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        try:
            # In this mode typer returns the exit code of an Exit instead of exiting.
            code = super().main(args, standalone_mode=False, **extra)
        except CmgemsError as error:
            code = self._report(error, self._with_flags(str(error)))
        except TyperException as error:
            where = getattr(getattr(error, "ctx", None), "command_path", "cmgems")
            message = error.format_message().replace("Value error, ", "").rstrip(".")
            code = self._report(error, f"{message} (see {where} --help)")
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

    def _report(self, error: Any, message: str) -> int:
        """Print an error, or that a signal stopped the command; return the exit code."""
        signals.install(signals.IGNORE)
        if not _speaks(int(error.exit_code)):
            return int(error.exit_code)
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
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    if ctx.invoked_subcommand is None:
        overview.show_overview(Console())


app.command("prepare-genome")(prepare_genome.prepare_genome)
app.command("build-pmi")(build_pmi.build_pmi)
app.command("pretrain")(pretrain.pretrain)
app.command("finetune")(finetune.finetune)
app.command("evaluate")(evaluate.evaluate)
app.command("split")(split.split)
app.command("build-fewshot")(build_fewshot.build_fewshot)
app.command("predict")(predict.predict)
app.command("embed")(embed.embed)
app.command("score-variants")(score_variants.score_variants)
app.command("explain")(explain.explain)
app.command("show-masks")(show_masks.show_masks)
app.command("ttest")(ttest.ttest)
app.command("report")(report.report)
app.command("fetch")(fetch.fetch)
app.command("info")(info.info)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
