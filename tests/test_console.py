"""Every line that people see passes one place, which lets no control character through."""

import io
import json
import sys

import pytest

from cmgems_cli import console as console_module
from cmgems_cli.console import Console, print_line
from tests.command_line import CommandLine

NASTY = "\x1b]0;pwned\x07\x9b31m\u202egp.exe"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [False, True])
def test_security_terminal_escapes_are_shown_and_not_sent(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    streams = [Terminal() if terminal else io.StringIO() for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    console = Console()
    console.say(NASTY)
    console.warn(NASTY)
    print_line(NASTY)
    console.table(NASTY, [NASTY, "n"], [[NASTY, 1]])
    console.lines([[(NASTY, "")]])
    Console(json=True).result({"name": NASTY})
    with console.progress(NASTY, 10, NASTY) as bar:
        bar.advance(10, note=NASTY)
    for stream in streams:
        assert "]0;pwned\x07" not in stream.getvalue()
        assert "\x1b]" not in stream.getvalue()
        assert not {"\x07", "\x9b", "\u202e"} & set(stream.getvalue())
        assert "x1b]0;pwned" in stream.getvalue()


def test_security_rows_on_a_terminal_are_printable_and_in_a_file_they_are_what_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    Console().stdout().write(f"{NASTY}\tyes\n".encode())
    assert terminal.getvalue() == "\\x1b]0;pwned\\x07\\x9b31m\\u202egp.exe\tyes\n"
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8"))
    Console().stdout().write(f"{NASTY}\n".encode())
    assert raw.getvalue().decode() == f"{NASTY}\n"


def test_security_errors_show_paths_without_control_characters(cmgems: CommandLine) -> None:
    error = cmgems("info", f"no{NASTY}where", code=3).error
    assert "no\\x1b]0;pwned\\x07\\x9b31m\\u202egp.exewhere does not exist" in error
    usage = cmgems("info", f"--{NASTY}", code=2).stderr
    assert not set(NASTY[:1] + "\x07\x9b\u202e") & set(usage)


def test_security_json_is_the_same_value_without_control_characters(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Console(json=True).result({"name": NASTY, "µ": "é"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"name": NASTY, "µ": "é"}
    assert "é" in shown
    assert shown.rstrip("\n").isprintable()


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> tuple[Terminal, Terminal]:
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("COLUMNS", str(width))
    return out, err


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_numbers_are_never_broken_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    out, err = on_a_terminal(monkeypatch, width)
    text = "403,845 parameters on cpu in bf16, 1 process; 10,300 steps of 128 sequences; unigram perplexity 2,935"
    Console().say(text)
    assert err.getvalue().split() == text.split()
    assert max(map(len, err.getvalue().splitlines())) <= width
    rows = [[f"a model with a long name {n}", "0.587 ± 0.023", 4_933_125, "1,303.97"] for n in range(2)]
    Console().table("t", ["model", "accuracy", "parameters", "perplexity"], rows)
    shown = out.getvalue()
    for number in ("0.587 ± 0.023", "4,933,125", "1,303.97"):
        assert shown.count(number) == 2
    # Folded texts lose nothing.
    assert "".join(shown.split()).count("long") == 2


def test_progress_off_a_terminal_is_in_units_people_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.4])
    monkeypatch.setattr(console_module.time, "perf_counter", lambda: next(clock))
    with Console().progress("prepare-genome", 12_300_000, "B") as bar:
        bar.advance(2_100_000)
    line = "prepare-genome: 17 %, 2.1/12.3 MB, elapsed 1.4 s, remaining 6.8 s\n"
    assert capsys.readouterr().err == line
