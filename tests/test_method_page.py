"""docs/method.md is what the code cites: its headings are numbered as cited, and its figures are those of the code."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertForMaskedLM

from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.masking.curriculum import RANDOM_MASK_GROWTH, RANDOM_MASK_STAGE_ENDS
from cmgems_cli.masking.strategies import _mask_span
from cmgems_cli.modeling.presets import PRESETS, bert_config
from tests.pmi.test_scoring import GOLDEN

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = (REPOSITORY / "docs" / "method.md").read_text(encoding="utf-8")
HEADINGS = {int(number): title for number, title in re.findall(r"^## (\d+)\. (.+)$", PAGE, re.M)}
CITING = [
    path
    for folder in ("cmgems_cli", "tests")
    for path in sorted((REPOSITORY / folder).rglob("*"))
    if path.suffix in (".py", ".toml") and path != Path(__file__)
]


def text_of(section: int) -> str:
    return re.split(r"^## ", PAGE, flags=re.M)[list(HEADINGS).index(section) + 1]


def rows(section: int, *, header: str = "") -> list[list[str]]:
    """Return the cells of the tables of a section whose header starts as given, their headers left out."""
    tables = re.findall(r"(?:^\|.*\|\n)+", text_of(section), re.M)
    return [
        [cell.strip().strip("`") for cell in line.strip("|\n").split("|")]
        for table in tables
        if table.startswith(f"| {header}")
        for line in table.splitlines()[2:]
    ]


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_headings_are_numbered_from_1_to_8_in_order() -> None:
    assert list(HEADINGS) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_every_citation_names_a_section_of_the_page() -> None:
    cited = [
        (path, int(number))
        for path in CITING
        for number in re.findall(r"method,\s+(?:#\s+)?section (\d+)", path.read_text(encoding="utf-8"))
    ]
    assert len(cited) >= 50
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
            number(size) for size in sizes
        ]
        assert preset.dropout == float(dropout)
    millions = []
    for name in PRESETS:
        with torch.device("meta"):
            model = BertForMaskedLM(bert_config(name, 6))
        millions.append(f"{sum(weights.numel() for weights in model.parameters()) / 1e6:.1f}")
    assert f"{millions[0]}, {millions[1]} and {millions[2]} million parameters" in text_of(5)


def test_the_golden_values_are_those_that_the_code_is_tested_with() -> None:
    written = {
        row[0].split("`")[0]: {
            kmer: float(value.replace("−", "-"))
            for cells in row[1:]
            for kmer, value in re.findall(r"([ACGT]{6}) (\S+\d)", cells)
        }
        for row in rows(3, header="definition | highest")
    }
    assert written == GOLDEN


def test_the_spans_of_random_are_those_of_the_kernel() -> None:
    (cell,) = [row[1] for row in rows(4) if row[0].startswith("random`")]
    spans = re.findall(r"(?:k = )?(\d): −(\d) to \+(\d)", cell)
    assert [(int(k), int(left), int(right)) for k, left, right in spans] == [
        (k, (k - 1) // 2, k // 2) for k in (3, 4, 5, 6)
    ]
    for k, left, right in spans:
        masked = np.zeros(20, np.bool_)
        _mask_span(10, int(k), masked)
        assert np.flatnonzero(masked).tolist() == [*range(10 - int(left), 10 + int(right) + 1)]


def test_the_stages_of_random_mask_are_those_of_the_curriculum() -> None:
    (cell,) = [row[1] for row in rows(4) if row[0].startswith("random-mask")]
    *ends, last = RANDOM_MASK_STAGE_ENDS
    assert f"{', '.join(map(str, ends))} and {last} parts of {last}" in cell
    assert f"k, k + {RANDOM_MASK_GROWTH}, … k + {RANDOM_MASK_GROWTH * len(ends)}" in cell


@pytest.mark.parametrize("row", rows(7, header="tasks |"), ids=lambda row: row[0])
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


def test_the_rows_are_those_of_the_shipped_benchmarks() -> None:
    written = {name: tuple(map(number, sizes)) for name, *sizes in rows(7, header="task | train")}
    assert written == {
        task.name: tuple(task.rows.values()) for task in shipped("gue").tasks if task.rows and task.default
    }
    drawn = {
        name: (number(classes), number(train), number(test))
        for name, _, classes, train, test in rows(7, header="data set |")
    }
    assert drawn == {task.name: (task.classes, *task.rows.values()) for task in shipped("fewshot").tasks}
