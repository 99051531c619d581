"""Docstrings of public functions give the dtype and shape of arrays, and the errors they raise."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.source_tree import PACKAGE, modules

ARRAYS = {"ndarray", "NDArray", "memmap", "Tensor"}
DTYPE = re.compile(r"\b(u?int(8|16|32|64)|b?float(16|32|64)|bool|integers?|floating|dtype)\b|`[A-Z]+`")
SHAPE = re.compile(r"\bshapes?\b")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def public_functions(tree: ast.Module, prefix: str = "") -> Iterator[tuple[str, Function, str]]:
    """Yield the name, the node and the docstring of public functions and methods.

    Of `__init__` and `__post_init__` the docstring is that of the class.
    """
    nodes: list[tuple[str, str, ast.AST]] = [("", "", node) for node in tree.body]
    while nodes:
        prefix, class_docs, node = nodes.pop(0)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            docs = ast.get_docstring(node) or ""
            nodes = [(f"{prefix}{node.name}.", docs, part) for part in node.body] + nodes
        elif isinstance(node, Function):
            if not node.name.startswith("_"):
                yield prefix + node.name, node, ast.get_docstring(node) or ""
            elif node.name in {"__init__", "__post_init__"}:
                yield prefix + node.name, node, class_docs


def takes_or_returns_arrays(function: Function) -> bool:
    arguments = function.args
    annotations = [
        argument.annotation for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    ]
    annotations += [function.returns]
    names = {
        node.id if isinstance(node, ast.Name) else node.attr
        for annotation in annotations
        if annotation is not None
        for node in ast.walk(annotation)
        if isinstance(node, (ast.Name, ast.Attribute))
    }
    return bool(names & ARRAYS)


def raises(function: Function) -> bool:
    """Return whether the function's own body raises, other than to repeat an exception."""
    nodes: list[ast.AST] = list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, (Function, ast.Lambda, ast.ClassDef)):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            return True
        nodes += ast.iter_child_nodes(node)
    return False


def documented(tree: ast.Module) -> tuple[list[str], list[str]]:
    """Return the functions with arrays, and those of them whose docstring lacks a dtype or a shape."""
    functions = [(name, docs) for name, node, docs in public_functions(tree) if takes_or_returns_arrays(node)]
    return [name for name, _ in functions], [
        name for name, docs in functions if not (DTYPE.search(docs) and SHAPE.search(docs))
    ]


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_arrays_have_their_dtype_and_shape_in_the_docstring() -> None:
    total, lacking = 0, []
    for path in modules():
        functions, without = documented(parse(path))
        total += len(functions)
        lacking += [f"{path.relative_to(PACKAGE)}: {name}" for name in without]
    assert total > 80
    assert len(lacking) <= 0.05 * total, f"{len(lacking)} of {total} lack dtype or shape:\n" + "\n".join(
        lacking
    )


def test_raised_errors_are_in_the_docstring() -> None:
    lacking = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in modules()
        if path.parent.name != "commands"
        for name, node, docs in public_functions(parse(path))
        if raises(node) and not re.search(r"^Raises$|\b[Rr]aises?\b", docs, re.MULTILINE)
    ]
    assert not lacking, "no Raises section:\n" + "\n".join(lacking)


def test_a_docstring_without_shape_or_raises_is_found() -> None:
    source = """
class Table:
    '''Raises UsageError for an empty table.'''
    def __init__(self): raise UsageError("")
    def take(self, rows: np.ndarray) -> NDArray[np.int64]: 'Rows, int64, of the table.'
    def all(self) -> torch.Tensor: 'float32, shape (n,).'
def check(k: int) -> None:
    'Check k.'
    raise UsageError("")
def lazily() -> None:
    def inner(): raise UsageError("")
"""
    tree = ast.parse(source)
    assert documented(tree) == (["Table.take", "Table.all"], ["Table.take"])
    assert [name for name, node, docs in public_functions(tree) if raises(node) and "Raises" not in docs] == [
        "check"
    ]
