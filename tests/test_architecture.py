"""What keeps the package readable: short modules, no import circles, names of choices written once."""

import ast
from pathlib import Path

import pytest

from tests.source_tree import PACKAGE, modules, without_type_checking

MOST_LINES = 400


def parse(path: Path) -> ast.Module:
    return without_type_checking(ast.parse(path.read_text(encoding="utf-8")))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.Module, names: set[str]) -> set[str]:
    """Return the modules among `names` that a module imports anywhere, in functions too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= parts & names if parts <= names else {node.module} | parts
    return found & names


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the circles that a walk along the imports of each module meets."""
    done: set[str] = set()
    met: list[list[str]] = []

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            met.append([*path[path.index(name) :], name])
        elif name not in done:
            for other in sorted(graph[name]):
                walk(other, [*path, name])
            done.add(name)

    for name in graph:
        walk(name, [])
    return met


def restated(tree: ast.AST) -> list[str]:
    """Return the `Literal`s of a tree that list two or more names."""
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and ast.unparse(node.value).split(".")[-1] == "Literal"
        and isinstance(node.slice, ast.Tuple)
        and sum(isinstance(name, ast.Constant) for name in node.slice.elts) > 1
    ]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{lines} lines; move a part of it to a module of its own"


def test_no_module_imports_itself_by_way_of_others() -> None:
    paths = {name_of(path): path for path in modules()}
    # The package's own module imports on demand whatever `__getattr__` is asked for.
    graph = {name: imports_of(parse(path), set(paths)) - {"cmgems_cli"} for name, path in paths.items()}
    assert sum(map(len, graph.values())) > 2 * len(graph)
    assert circles(graph) == []


def test_a_circle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"a"}}
    assert circles(graph) == [["a", "b", "d", "a"]]
    tree = ast.parse("from p import a\ndef f():\n    from p.b import g")
    assert imports_of(tree, {"p", "p.a", "p.b"}) == {"p.a", "p.b"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "commands").glob("*.py")), ids=lambda path: path.name)
def test_commands_take_choices_from_the_modules_that_own_them(path: Path) -> None:
    assert restated(ast.parse(path.read_text(encoding="utf-8"))) == []


def test_choices_that_are_restated_are_found() -> None:
    assert restated(ast.parse('def f(a: Literal["x", "y"], b: Literal[X, "y"]): ...')) == [
        "Literal['x', 'y']"
    ]
