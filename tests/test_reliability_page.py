"""docs/reliability.md names tests that exist, and has one for each line."""

import ast
import re
from pathlib import Path

import pytest

from tests.command_line import REPOSITORY

PAGE = (REPOSITORY / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_every_test_that_the_page_names_exists(path: str, name: str) -> None:
    tree = ast.parse((REPOSITORY / Path(path)).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_line_about_equality_names_a_test_or_says_that_none_was_made() -> None:
    part = PAGE[: PAGE.index("## The soak test")]
    lines = [line for line in part.splitlines() if line.startswith("|") and "---" not in line]
    without = [line for line in lines if "`tests/" not in line and "not checked here" not in line]
    assert len(lines) > 20
    assert [line.split("|")[1].strip() for line in without] == ["stage", "what changes", "what is damaged"]
