"""Writes docs/cli.md from the command line itself: `python docs/make_cli.py`. A test compares the two."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo

from cmgems_cli.cli import app
from cmgems_cli.options import PLACEHOLDERS

PAGE = Path(__file__).parent / "cli.md"

INTRODUCTION = """\
# Commands and options

<!-- Written by docs/make_cli.py from the program; do not edit. -->

`cmgems` alone shows the pipeline at a glance, `cmgems COMMAND --help` the reference below. Every option can also
come from the environment (`CMGEMS_PRETRAIN_STEPS=1000`) or a `--config` file; flags take precedence over variables,
variables over the file.
Exit codes: 0 done, 1 failure, 2 usage, 3 bad input data, 4 something different is in the way, 130 or 143 interrupted.
"""


def page() -> str:
    """Return the page's text."""
    parts = [INTRODUCTION]
    for registered in app.registered_commands:
        assert registered.callback is not None
        parts += [f"## {registered.name}\n", _prose(registered.callback), _table(registered.callback)]
    return "\n".join(parts)


def _prose(command: Callable[..., Any]) -> str:
    """Return a command's help, its examples as code."""
    shown = []
    for paragraph in inspect.cleandoc(command.__doc__ or "").split("\n\n"):
        text = " ".join(paragraph.split())
        example = re.fullmatch(r"(Example|Several GPUs): (.+)", text)
        shown.append(f"{example[1]}:\n\n    {example[2]}\n" if example else f"{_escaped(text)}\n")
    return "\n".join(shown)


def _table(command: Callable[..., Any]) -> str:
    hints = get_type_hints(command, include_extras=True)
    rows = [
        _row(name, parameter.default, *get_args(hints[name]))
        for name, parameter in inspect.signature(command).parameters.items()
    ]
    return "\n".join(["| option | what | default |", "|---|---|---|", *rows, ""])


def _row(name: str, default: Any, kind: Any, info: Any) -> str:
    if isinstance(info, ArgumentInfo):
        shown = info.metavar or name.upper()
    else:
        # Within Annotated, typer keeps the first spelling as the default; without a dash it is the variable's name.
        given = [info.default, *(info.param_decls or ())]
        spelt = [words for words in given if isinstance(words, str) and words.startswith("-")]
        shown = ", ".join(spelt or [f"--{name.replace('_', '-')}"])
        shown += "" if kind is bool else f" {info.metavar or _values(kind)}"
    needed = "needed" if default is inspect.Parameter.empty else ""
    usual = info.show_default if isinstance(info.show_default, str) else _usual(default)
    cells = [f"`{shown.replace('|', '/')}`", _escaped(info.help or ""), _escaped(needed or usual)]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _values(kind: Any) -> str:
    alternatives = (
        [one for one in get_args(kind) if one is not NoneType] if get_origin(kind) is not Literal else []
    )
    if alternatives:
        return _values(alternatives[0])
    return "/".join(map(str, get_args(kind))) or PLACEHOLDERS[kind]


def _usual(default: Any) -> str:
    if default is inspect.Parameter.empty or default is None or default is False:
        return ""
    return "on" if default is True else str(default)


def _escaped(text: str) -> str:
    # Help is written for rich, which takes [words] for markup unless escaped.
    text = text.replace("\\[", "[")
    return (
        " ".join(text.split())
        .replace("|", "\\|")
        .replace("*", "\\*")
        .replace("[", "\\[")
        .replace("<", "&lt;")
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
