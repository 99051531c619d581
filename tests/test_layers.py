"""The architecture as a test: imports point down only, and heavy libraries stay out of start-up."""

import ast
from pathlib import Path

import pytest

from tests.command_line import run_python
from tests.source_tree import HEAVY, PACKAGE, imported, layer_of, modules, without_type_checking

# From the bottom up. A module imports from its own layer or from those before it.
LAYERS = [
    [
        "errors",
        "safe_text",
        "kernels",
        "draws",
        "extras",
        "frames",
        "invocation",
        "workspace",
        "palette",
        "readable",
        "option_fields",
        "markdown",
        "metrics",
        "signals",
        "threads",
        "__init__",
    ],
    ["files", "growing_array", "html_page", "structured_text"],
    ["artifacts", "row_writer"],
    ["artifact_parts"],
    ["staging"],
    ["output_state"],
    ["outputs", "leftovers"],
    ["genome"],
    ["datasets"],
    ["pmi"],
    ["masking"],
    ["modeling"],
    ["training", "system_info"],
    ["inference"],
    ["mask_viewer"],
    ["comparing"],
    ["bench"],
    ["fewshot_builder"],
    ["task_builder"],
    ["reporting"],
    ["fetching"],
    ["doctor"],
    ["variants"],
    ["explaining"],
    ["pipeline"],
    ["demo"],
    ["console", "options"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

TERMINAL = {"typer", "rich"}
TERMINAL_LAYERS = {"cli", "commands", "console", "options"}
TORCH = {"torch", "transformers", "safetensors", "tokenizers"}
TORCH_LAYERS = {
    "modeling",
    "training",
    "system_info",
    "bench",
    "doctor",
    "demo",
    "inference",
    "variants",
    "explaining",
}


def test_every_module_belongs_to_a_layer() -> None:
    assert {layer_of(path) for path in modules()} <= set(LEVEL)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_and_libraries_stay_in_their_layers(path: Path) -> None:
    layer = layer_of(path)
    names = imported(without_type_checking(ast.parse(path.read_text(encoding="utf-8"))))
    own = {name.split(".")[1] for name in names if name.startswith("cmgems_cli.")}
    above = {name for name in own if name in LEVEL and LEVEL[name] > LEVEL[layer]}
    assert not above, f"{layer} imports from above: {above}"
    roots = {name.split(".")[0] for name in names}
    assert layer in TERMINAL_LAYERS or not roots & TERMINAL
    if layer not in TORCH_LAYERS and layer != "commands":
        assert not roots & TORCH


@pytest.mark.parametrize("path", sorted((PACKAGE / "commands").glob("*.py")), ids=lambda path: path.name)
def test_commands_import_heavy_libraries_inside_functions_only(path: Path) -> None:
    tree = without_type_checking(ast.parse(path.read_text(encoding="utf-8")))
    top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
    assert not {name.split(".")[0] for name in imported(top)} & HEAVY


@pytest.mark.subprocess
def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys, cmgems_cli.cli; loaded = sorted(set(sys.argv[1:]) & set(sys.modules));"
        "print(loaded, file=sys.stderr); sys.exit(bool(loaded))"
    )
    run_python(code, *HEAVY)
