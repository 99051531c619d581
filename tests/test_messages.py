"""Library errors name parameters in backticks; the command line shows them as options."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from cmgems_cli.cli import app
from tests.source_tree import PACKAGE, layer_of, modules

GROUP: Any = typer.main.get_command(app)

# Only these speak of options: they are the command line.
COMMAND_LINE = {"cli", "commands", "option_fields", "options", "console", "__main__"}

# Modules whose texts may name options, and why.
ALLOWED = {
    "reporting/document.py": "an exact command",
    "training/pretrain_options.py": "defaults as --help shows them",
    "training/pretrain_run.py": "a warning, which the command line shows unchanged",
}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`mask_rate` is 2; needed a number in (0, 1]", "--mask-rate is 2; needed a number in (0, 1]"),
        ("`steps=5` is below `warmup_steps`", "--steps 5 is below --warmup-steps"),
        ("use `contigs=NAME,…`", "use --contigs NAME,…"),
        ("give `overwrite=True`, or `resume=False`", "give --overwrite, or --no-resume"),
        (
            "run `cmgems fetch gue`; `strategy_codes` is short",
            "run `cmgems fetch gue`; `strategy_codes` is short",
        ),
    ],
)
def test_the_command_line_shows_options_for_parameters(message: str, shown: str) -> None:
    assert GROUP._with_flags(message) == shown


def texts(tree: ast.AST) -> list[tuple[int, str]]:
    """Return line and text of each string of a module except its docstrings; … marks inserted values."""
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = []
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts.update(node.values)
            text = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
            found.append((node.lineno, "".join(map(str, text))))
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings | parts
        ):
            found.append((node.lineno, node.value))
    return found


def options_named(path: Path) -> list[str]:
    """Return the strings of a module that name an option outside a quoted command."""
    named = []
    for line, text in texts(ast.parse(path.read_text(encoding="utf-8"))):
        if re.fullmatch(r"--[a-z-]+(/--[a-z-]+)?", text):  # the declaration of an option
            continue
        bare = re.sub(r"`(cmgems|torchrun) [^`]*`", "", text)
        if re.search(r"(^|[\s(])--[a-z]", bare) and not bare.lstrip().startswith("cmgems "):
            named.append(f"{path.relative_to(PACKAGE)}:{line}: {text[:80]}")
    return named


def test_messages_of_the_library_name_no_options() -> None:
    named = [
        text
        for path in modules()
        if layer_of(path) not in COMMAND_LINE
        for text in options_named(path)
        if text.split(":")[0] not in ALLOWED
    ]
    assert not named, "name parameters in backticks instead:\n" + "\n".join(named)


def test_modules_that_may_name_options_still_do() -> None:
    assert [name for name in ALLOWED if not options_named(PACKAGE / name)] == []


def test_an_option_in_a_message_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_messages.PACKAGE", tmp_path)
    module = tmp_path / "module.py"
    module.write_text('raise ValueError(f"{x} is too large; lower --steps")\n', encoding="utf-8")
    assert options_named(module)
    module.write_text(
        '"""Docs of --steps."""\nraise ValueError("run `cmgems demo --quiet`")\n', encoding="utf-8"
    )
    assert options_named(module) == []
