"""The package's source as tests read it: its modules, what they import, and what counts as heavy."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "cmgems_cli"

# What `--help` may not wait for: allowed only inside functions in the layers that it loads.
HEAVY = {
    "torch",
    "transformers",
    "numba",
    "numpy",
    "scipy",
    "sklearn",
    "pyfaidx",
    "matplotlib",
    "pandas",
    "pyarrow",
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py"))


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> set[str]:
    """Names of modules imported anywhere in the tree, type-checking blocks excepted."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "cmgems_cli"}
    return names


def without_type_checking(tree: ast.Module) -> ast.Module:
    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)

    return ast.fix_missing_locations(Drop().visit(tree))
