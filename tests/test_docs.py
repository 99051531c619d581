"""Words are tested: command lines parse, links resolve, quoted messages exist, pages written by programs are current.

Of the tutorial the stages that take no training run here and print what the page shows. All of it, word for word:
`TUTORIAL=full pytest tests/test_docs.py` (five to ten minutes; of trained models only the shape of tables is held).
"""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from cmgems_cli.cli import app
from cmgems_cli.comparing.scores import COLUMNS
from cmgems_cli.datasets import benchmark_file
from cmgems_cli.datasets.finetune_options import recipe_keys
from tests.command_line import CommandLine
from tests.shown_commands import Call, check_values, parsed

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]
GROUP: Any = get_command(app)

# Stages of the tutorial that take seconds, and whose output is the same on every machine.
EXACT = {
    "prepare-genome",
    "build-pmi",
    "show-masks",
    "build-fewshot",
    "ttest paper:dnabert-120k",
    "label_repeats.py",
    "plant_motif.py",
}


@dataclass(frozen=True)
class Block:
    """A block of code: its line in the page, its language (empty where indented), its text."""

    line: int
    language: str
    text: str


def blocks(text: str) -> list[Block]:
    """Return the fenced and the indented blocks of a page."""
    found: list[Block] = []
    fence: tuple[int, str] | None = None
    gathered: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if fence:
            if line.strip() == "```":
                found.append(Block(*fence, "\n".join(gathered)))
                fence, gathered = None, []
            else:
                gathered.append(line)
        elif line.startswith("    ") or (gathered and not line.strip() and number <= len(text.splitlines())):
            gathered.append(line)
        else:
            if gathered:
                found.append(Block(number - len(gathered), "", "\n".join(gathered).rstrip()))
            gathered = []
            if line.startswith("```"):
                fence = (number + 1, line.removeprefix("```").strip())
    return found


def commands_of(block: Block) -> Iterator[Call]:
    """Yield the `cmgems` commands of a block of shell lines; torchrun's too."""
    joined = block.text.replace("\\\n", " ")
    for line in joined.splitlines():
        for part in re.split(r"&&|\|\|| \| | > |;", line):
            words = part.strip()
            words = re.sub(r"^(srun )?torchrun .*? -m cmgems_cli ", "cmgems ", words)
            words = re.sub(r"^(\w+=\S* )+", "", words).removesuffix("&").strip()
            if words.startswith("cmgems "):
                yield Call(block.line, tuple(shlex.split(words, comments=True)[1:]))


def command_lines() -> list[tuple[str, Call]]:
    return [
        (page.name, call)
        for page in PAGES
        for block in blocks(page.read_text(encoding="utf-8"))
        if block.language in ("", "bash")
        for call in commands_of(block)
    ]


@pytest.mark.parametrize(
    ("page", "call"), command_lines(), ids=lambda value: value if isinstance(value, str) else value.words[0]
)
def test_every_command_line_parses(
    page: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "--config" in call.words:
        text = next(path for path in PAGES if path.name == page).read_text(encoding="utf-8")
        shown = next(block.text for block in blocks(text) if block.language == "toml")
        Path(call.words[call.words.index("--config") + 1]).write_text(shown)
    if call.words[0].startswith("-"):
        known = {name for parameter in GROUP.params for name in parameter.opts}
        assert set(call.words) <= known | {"--help"}, f"{page} line {call.line}"
        return
    params = parsed(call)
    # Data sets of a user's own are known only where their folders are.
    if call.words[0] != "evaluate":
        check_values(call.words[0], params)


def test_there_are_command_lines_to_test() -> None:
    pages = [page for page, _ in command_lines()]
    assert len(pages) >= 60
    for name in ("README.md", "tutorial.md", "gpus.md", "own-task.md", "shell.md", "cli.md", "log.md"):
        assert name in pages


def inline_commands() -> list[tuple[str, str]]:
    return [
        (page.name, code)
        for page in PAGES
        for code in re.findall(r"`(cmgems [^`]+)`", page.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("page", "code"), inline_commands())
def test_commands_within_sentences_name_what_exists(page: str, code: str) -> None:
    words = code.split()[1:]
    if words[0] in ("COMMAND", "--install-completion", "--show-completion", "--help"):
        return
    command = GROUP.get_command(None, words[0])
    assert command is not None, f"{page}: {code}"
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known | {"--help"}, code


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as mkdocs makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    names = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", name).strip().lower()) for name in names}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_every_local_link_resolves(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in headings(there), f"{page.name} links to {target}"
        # The site holds the pages of docs/ alone.
        assert page.parent == REPOSITORY or there.resolve().is_relative_to(DOCS), (
            f"{page.name} links to {target}"
        )


def test_the_sites_navigation_has_every_page_once() -> None:
    named = re.findall(r": (\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted(str(page.relative_to(DOCS)) for page in PAGES[1:])


def module_at(path: Path) -> Any:
    """Return the module of a script that is in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_figure_shows_the_tutorials_masks_and_the_studys_scores() -> None:
    make_overview = module_at(DOCS / "figures" / "make_overview.py")
    current = make_overview.figure()
    assert (DOCS / "figures" / "overview.svg").read_text(encoding="utf-8") == current, (
        "run `python docs/figures/make_overview.py`"
    )
    _, bases, masks = make_overview.masks()
    assert {name: sum(make_overview.hidden_bases(row)) for name, row in masks.items()} == {
        "random": 2,
        "genemask": 6,
        "global": 6,
    }
    assert len(bases) == 53


def test_the_reference_of_commands_is_current() -> None:
    make_cli = module_at(DOCS / "make_cli.py")
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == make_cli.page(), "run `python docs/make_cli.py`"
    # Every option that the program has, and no other source of truth.
    for name, command in GROUP.commands.items():
        section = make_cli.page().split(f"\n## {name}\n")[1].split("\n## ")[0]
        for option in command.params:
            if option.param_type_name == "option":
                for spelling in (*option.opts, *option.secondary_opts):
                    assert spelling in section, f"{name} {spelling}"


def test_the_reference_of_files_has_every_column_of_scores() -> None:
    section = (DOCS / "artifacts.md").read_text(encoding="utf-8").split("\n## scores\n")[1].split("\n## ")[0]
    for column in COLUMNS:
        assert f"`{column}`" in section


def test_the_page_of_benchmark_files_has_every_key() -> None:
    page = (
        (DOCS / "howto" / "own-task.md")
        .read_text(encoding="utf-8")
        .split("\n## Several tasks")[1]
        .split("\n## ")[0]
    )
    keys = {name for table in benchmark_file.KEYS for name in table}
    assert keys | set(recipe_keys()) == {
        key for key in re.findall(r"`(\w+)`", page) if key in keys | set(recipe_keys())
    }
    listed = {
        key for row in re.findall(r"^\| (`[^|]+`) \|", page, re.M) for key in re.findall(r"`(\w+)`", row)
    }
    assert listed == {name for table in benchmark_file.KEYS[:2] for name in table}


def test_the_benchmark_file_of_the_page_is_read(tmp_path: Path) -> None:
    page = DOCS / "howto" / "own-task.md"
    (text,) = [block.text for block in blocks(page.read_text(encoding="utf-8")) if block.language == "toml"]
    (tmp_path / "my-bench.toml").write_text(text, encoding="utf-8")
    benchmark = benchmark_file.find_benchmark(str(tmp_path / "my-bench.toml"))
    assert [task.name for task in benchmark.tasks] == ["promoters", "enhancers"]
    assert benchmark.recipe_of(benchmark.task("promoters")).learning_rate == 1e-4


def templates() -> list[str]:
    """Return every text of the package as the command line shows it, with … where something is put in."""
    found = []
    for path in (REPOSITORY / "cmgems_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                found.append("".join(map(str, parts)))
    return [GROUP._with_flags(text) for text in found]


TEMPLATES = templates()


def quoted_messages() -> list[str]:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(.+?)` \|", text, flags=re.MULTILINE)


@pytest.mark.parametrize("message", quoted_messages())
def test_quoted_messages_are_the_programs(message: str) -> None:
    # What … stands for may hold further words of the message's own, as a remedy does.
    pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), flags=re.DOTALL)
    assert any(pattern.search(template) for template in TEMPLATES), message


def test_there_are_messages_to_test_and_a_wrong_one_is_found() -> None:
    assert len(quoted_messages()) >= 30
    with pytest.raises(AssertionError):
        test_quoted_messages_are_the_programs("… has … bites, its manifest says …: …")


def tutorial() -> list[tuple[list[str], str | None]]:
    """Return the shell lines of each step with the text shown after it, and the script to save as a step."""
    found: list[tuple[list[str], str | None]] = []
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    for block in (block for block in blocks(text) if block.language):
        if block.language == "bash":
            found.append((block.text.splitlines(), None))
        elif block.language == "text":
            found[-1] = (found[-1][0], block.text)
        elif block.language == "python":
            before = "\n".join(text.splitlines()[: block.line])
            name = re.findall(r"[Ss]ave this as `(\w+\.py)`", before)[-1]
            found.append(([f"save {name}", block.text], None))
    return found


def assert_shown(shown: str, printed: str) -> None:
    """Check that the lines shown were printed, in their order and, but at a …, without others between."""
    wanted = [line.rstrip() for line in shown.strip("\n").splitlines() if line.strip()]
    got = [line.rstrip() for line in printed.splitlines() if line.strip()]
    if wanted[-1] == "…":
        wanted, got = wanted[:-1], got[: len(wanted) - 1]
    assert got == wanted


def shape(table: str) -> list[str]:
    """Return the lines of an output without what a number or a width may change."""
    bare = (" ".join(re.sub(r"[-+−]?[\d.,]+|[─–]+|<", "", line).split()) for line in table.splitlines())
    return [line for line in bare if line]


def run(line: str) -> str:
    """Run a line of the tutorial in the current folder; return its stdout."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", line], capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_shows_the_tutorials_last_screen() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    _, shown = next(step for step in reversed(tutorial()) if step[0] == ["cmgems"])
    assert shown is not None
    assert f"`cmgems` alone, at the end of the tutorial:\n\n```text\n{shown}\n```\n" in readme


def test_the_tutorial_prints_what_it_shows(
    cmgems: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CMGEMS_WORKSPACE", raising=False)
    full = os.environ.get("TUTORIAL") == "full"
    compared = set()
    for lines, shown in tutorial():
        if lines[0].startswith("save "):
            Path(lines[0].removeprefix("save ")).write_text(lines[1], encoding="utf-8")
            continue
        exact = {name for name in EXACT if any(f" {name}" in line for line in lines)}
        first = lines == ["cmgems"] and not Path("cmgems-work").exists()
        if not (exact or first or full or lines[0].startswith("cp ")):
            continue
        if lines[0].startswith("cmgems ") and not full:
            printed = cmgems(*shlex.split(lines[0])[1:]).stdout
        else:
            printed = "".join(map(run, lines))
        if shown and (exact or first):
            assert_shown(shown, printed)
            compared |= exact
        elif shown and "awk" not in lines[0]:
            assert shape(shown) == shape(printed)
    assert compared == EXACT
