"""What others named: neither a terminal nor a spreadsheet obeys it, and nothing of it is lost."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.safe_text import from_spreadsheet_cell, printable, printable_json, spreadsheet_cell

CONTROL = [
    *range(0x09),
    *range(0x0B, 0x20),
    *range(0x7F, 0xA0),
    0x200B,
    0x202E,
    0x2066,
    0x2069,
    0x061C,
    0xFEFF,
]


@pytest.mark.parametrize("code", CONTROL)
def test_security_no_control_character_reaches_a_terminal(code: int) -> None:
    shown = printable(f"a{chr(code)}[2Jb")
    assert chr(code) not in shown
    assert shown.startswith("a\\")
    assert shown.endswith("[2Jb")
    text = json.dumps({"name": f"a{chr(code)}b"}, ensure_ascii=False)
    assert chr(code) not in printable_json(text)
    assert json.loads(printable_json(text)) == json.loads(text)


@given(st.text())
def test_security_plain_text_is_shown_as_it_is(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    if text.isascii() and text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    "name",
    [
        "=cmd|' /C calc'!A0",
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        " =1+1",
        "＝1",
        "=1+1",
        "-a",
        "+.",
        "+-1",
    ],
)
def test_security_a_cell_that_a_spreadsheet_would_run_is_escaped(name: str) -> None:
    assert spreadsheet_cell(name) == f"'{name}"
    assert from_spreadsheet_cell(spreadsheet_cell(name)) == name


@pytest.mark.parametrize(
    "name", ["chr1", "1", "-1", "+1.5", "-3e-5", "+", "-", "", "p_=1", "'quoted'", "5'-UTR"]
)
def test_security_other_cells_stay(name: str) -> None:
    assert spreadsheet_cell(name) == from_spreadsheet_cell(name) == name


@given(st.text(alphabet="=+-@'\t\r 1.ea"))
def test_security_names_read_back_as_they_were(name: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerow([spreadsheet_cell(name)])
    text.seek(0)
    assert [from_spreadsheet_cell(cell) for cell in next(csv.reader(text), [""])] == [name]
