"""What is imported is declared in pyproject.toml, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Names of modules that differ from those of their distributions.
MODULE = {"scikit-learn": "sklearn"}


def modules_of(requirements: list[str]) -> set[str]:
    names = [re.match(r"[\w.-]+", requirement)[0] for requirement in requirements]  # type: ignore[index]
    return {MODULE.get(name, name.replace("-", "_")) for name in names}


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the top-level name of each import, and whether it runs only when called (or type-checked)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            yield (node.module or "").split(".")[0], inside
        else:
            deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
                isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            )
            yield from imports(node, inside or deferred)


FOUND = [
    (name, inside, path)
    for path in sorted((ROOT / "cmgems_cli").rglob("*.py"))
    for name, inside in imports(ast.parse(path.read_text(encoding="utf-8")))
    if name not in sys.stdlib_module_names and name not in ("cmgems_cli", "_typeshed")
]
REQUIRED = modules_of(PROJECT["dependencies"])
OPTIONAL = (
    modules_of([one for extra in PROJECT["optional-dependencies"].values() for one in extra]) - REQUIRED
)


def test_declared_dependencies_are_those_imported() -> None:
    assert {name for name, _, _ in FOUND} - OPTIONAL == REQUIRED


def test_optional_dependencies_are_imported_inside_functions_only() -> None:
    at_import = {f"{path.name}: {name}" for name, inside, path in FOUND if name in OPTIONAL and not inside}
    assert not at_import


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_every_dependency_has_a_lower_bound(requirement: str) -> None:
    assert ">=" in requirement


def test_imports_are_found_wherever_they_are() -> None:
    code = "import a.b\nif TYPE_CHECKING:\n    import c\nclass D:\n  import e\n  def f(self):\n    from g.h import i"
    assert list(imports(ast.parse(code))) == [("a", False), ("c", True), ("e", False), ("g", True)]
