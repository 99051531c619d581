"""docs/method.md is what the code cites: its headings are numbered as cited, and its figures are those of the code."""

import re
from pathlib import Path

import pytest

from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.modeling.presets import PRESETS

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8")
HEADINGS = {int(number): title for number, title in re.findall(r"^## (\d+)\. (.+)$", PAGE, re.M)}
CITING = [
    path
    for folder in ("cmgems_cli", "tests")
    for path in sorted((REPOSITORY / folder).rglob("*"))
    if path.suffix in (".py", ".toml") and path != Path(__file__)
]


def rows(section: int) -> list[list[str]]:
    """Return the cells of the tables of a section, their headers left out."""
    text = re.split(r"^## ", PAGE, flags=re.M)[list(HEADINGS).index(section) + 1]
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.M)
    return [
        [cell.strip().strip("`") for cell in line.strip("|\n").split("|")]
        for table in tables
        for line in table.splitlines()[2:]
    ]


def test_headings_are_numbered_from_1_to_8_in_order() -> None:
    assert list(HEADINGS) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_every_citation_names_a_section_of_the_page() -> None:
    cited = [
        (path, int(number))
        for path in CITING
        for number in re.findall(r"method,\s+(?:#\s+)?section (\d+)", path.read_text(encoding="utf-8"))
    ]
    assert len(cited) > 20
    assert not [(path, number) for path, number in cited if number not in HEADINGS]
    loose = [
        path
        for path in CITING
        if re.search(r"method(?:\.md)?, (?!section)\w+ \d", path.read_text(encoding="utf-8"))
    ]
    assert not loose


def test_the_models_are_those_of_the_presets() -> None:
    written = {row[0].split("`")[0]: row[1:] for row in rows(5)}
    assert list(written) == list(PRESETS)
    for name, preset in PRESETS.items():
        *sizes, dropout = written[name]
        assert [preset.hidden, preset.layers, preset.heads, preset.intermediate] == [
            int(size.replace(",", "")) for size in sizes
        ]
        assert preset.dropout == float(dropout)


@pytest.mark.parametrize("row", rows(7), ids=lambda row: row[0])
def test_the_recipes_are_those_of_the_shipped_benchmark(row: list[str]) -> None:
    names, max_tokens, epochs, warmup_steps, eval_every = row
    wanted = {
        "max_tokens": int(max_tokens) - 2,
        "epochs": int(epochs.split(",")[0]),
        "max_steps": int("".join(re.findall(r"\d", epochs.split(",", 1)[1]))) if "," in epochs else None,
        "warmup_steps": warmup_steps,
        "eval_every": int(eval_every),
    }
    gue = shipped("gue")
    tasks = [
        task
        for task in gue.tasks
        for name in names.split(", ")
        if task.name == name or task.name.split("/")[-1] == name or task.name.startswith(f"{name}/")
    ]
    assert len(tasks) == {"EMP": 10, "mouse": 5, "tf": 5}.get(names, len(names.split(", ")))
    for task in tasks:
        recipe = gue.recipe_of(task, None)
        assert {name: getattr(recipe, name) for name in wanted} == wanted
