"""The shell files of examples/: every `cmgems` command in them parses, is reached, and reads what is there.

Each file runs under bash with `cmgems`, `torchrun` and `srun` replaced by functions that write their
arguments down. So loops and variables need no imitation, and the arguments are those of a real run; the
real command line then parses them.
"""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.exceptions import TyperException

from cmgems_cli import workspace
from cmgems_cli.errors import CmgemsError
from cmgems_cli.fetching.sources import default_out
from tests.shown_commands import Call, check_values, parsed

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.sh"))
PRESETS = {"dnabert", "logo", "tiny"}

# What a user has to bring, as the files' headings say.
BROUGHT = {"FEWSHOT": "their/fewshot"}
MODEL_OF_AN_ARRAY = "cmgems-work/models/logo-cm-gems-10k"

# Read by bash before each file: one record a call, the line of the file it was made from first.
STUBS = r"""
written_down() { printf '%s\0' "$(($# + 1))" "${BASH_LINENO[-2]}" "$@" >> "$RECORD"; }
cmgems() { written_down "$@"; }
torchrun() {
  while [ "$1" != cmgems_cli ]; do shift; done
  written_down "${@:2}"
}
srun() { "$@"; }
"""


def calls_of(script: Path, folder: Path, **variables: str) -> list[Call]:
    """Run a file with everything in it replaced that does anything; return the commands it gives."""
    (folder / "stubs").write_text(STUBS)
    record = folder / "record"
    record.touch()
    environment = {"PATH": os.environ["PATH"], "BASH_ENV": str(folder / "stubs"), "RECORD": str(record)}
    array = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "27"}
    done = subprocess.run(
        ["bash", str(script), *([MODEL_OF_AN_ARRAY] if script.name.startswith("slurm") else [])],
        cwd=folder,
        env={**environment, **array, **BROUGHT, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    fields = record.read_text().split("\0")[:-1]
    calls = []
    while fields:
        count = int(fields[0])
        calls.append(Call(int(fields[1]), tuple(fields[2 : count + 1])))
        del fields[: count + 1]
    return calls


def commands_in_comments(script: Path) -> Iterator[Call]:
    """Yield the commands that the file's comments show: whole lines, and those in backticks."""
    for number, line in enumerate(script.read_text().splitlines(), start=1):
        if line.startswith("#"):
            shown = re.findall(r"`(cmgems [^`]+)`", line) + re.findall(r"^#\s+(cmgems .+)", line)
            for command in shown:
                yield Call(number, tuple(shlex.split(command, comments=True)[1:]))


def lines_of_commands(script: Path) -> list[range]:
    """Return the lines each command of the file's code spans, its continuation lines included."""
    spans = []
    start = 1
    joined = ""
    for number, line in enumerate(script.read_text().splitlines(), start=1):
        joined += line
        if line.endswith("\\"):
            continue
        if re.search(r"(^|\s)(cmgems|\$LAUNCH)\s", joined.split("#")[0]):
            spans.append(range(start, number + 1))
        start, joined = number + 1, ""
    return spans


def reads_and_writes(name: str, params: dict[str, Any]) -> tuple[list[Path], Path | None]:
    """Return the paths a command reads, and the one it writes."""
    out = params.get("out")
    if name == "fetch":
        return [], out or default_out(params["what"])
    if name == "prepare-genome":
        return list(params["fasta"]), out or workspace.corpus_folder()
    if name == "build-pmi":
        return [params["corpus"] or workspace.corpus_folder()], out or workspace.pmi_folder()
    if name == "pretrain":
        read = [params["corpus"] or workspace.corpus_folder(), params["pmi"] or workspace.pmi_folder()]
        return read, out or workspace.model_folder(params["model"], params["strategy"])
    if name == "evaluate":
        model, bench = params["model"], params["bench"]
        read = [params["data"] or workspace.benchmark_folder(bench)]
        read += [Path(model)] if model not in PRESETS else []
        read += [params["baseline"]] if params["baseline"] else []
        return read, out or workspace.scores_folder(model, bench)
    assert name == "ttest", f"say what {name} reads and writes"
    return [Path(model) for model in params["models"] if not model.startswith("paper:")], None


def problems(script: Path, folder: Path, **variables: str) -> list[str]:
    """Return what is wrong with the commands of a file, in words; nothing if all is well."""
    shown, calls = list(commands_in_comments(script)), calls_of(script, folder, **variables)
    there = {*map(Path, BROUGHT.values()), Path(MODEL_OF_AN_ARRAY)}
    found = [
        f"line {span[0]}: never reached"
        for span in lines_of_commands(script)
        if not any(call.line in span for call in calls)
    ]
    for call in [*shown, *calls]:
        where = f"line {call.line}, {' '.join(call.words)}"
        try:
            params = parsed(call)
            check_values(call.words[0], params)
        except (TyperException, CmgemsError, AssertionError) as error:
            found.append(f"{where}: {error.format_message() if isinstance(error, TyperException) else error}")
            continue
        read, written = reads_and_writes(call.words[0], params)
        found += [f"{where}: nothing before it writes {path}" for path in read if path not in there]
        there |= {written} if written else set()
    return found


@pytest.fixture(autouse=True)
def _default_workspace(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CMGEMS_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "variables", [{}, {"LAUNCH": "torchrun --nproc-per-node 8 -m cmgems_cli"}], ids=["", "torchrun"]
)
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_every_command_parses_is_reached_and_finds_its_input(
    script: Path, variables: dict[str, str], tmp_path: Path
) -> None:
    assert problems(script, tmp_path, **variables) == []
    assert list(tmp_path.glob("cmgems-work")) == []


def test_what_the_examples_run(tmp_path: Path) -> None:
    counts = {}
    for script in EXAMPLES:
        folder = tmp_path / script.name
        folder.mkdir()
        names = [call.words[0] for call in calls_of(script, folder)]
        counts[script.name] = (names.count("pretrain"), names.count("evaluate"), names.count("ttest"))
    assert counts == {
        "table2.sh": (8, 10, 2),  # two models by four strategies; each model without pretraining too
        "table6.sh": (3, 4, 1),
        "table4.sh": (5, 7, 1),  # DNABERT-6 as published and no pretraining beside the five
        "figure4.sh": (6, 6, 3),  # three lengths at two rates
        "slurm_gue.sh": (0, 1, 0),
    }


def test_what_is_finished_is_left_to_the_commands(tmp_path: Path) -> None:
    """A finished stage does nothing: an example calls every stage each time, and skips none by a rule of its own."""
    script = REPOSITORY / "examples" / "table6.sh"
    (tmp_path / "first").mkdir()
    first = [call.words for call in calls_of(script, tmp_path / "first")]
    for name in ("corpus", "pmi", "models/logo-genemask-1k", "scores/logo-random-gue"):
        folder = tmp_path / "again" / "cmgems-work" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").touch()
    assert [call.words for call in calls_of(script, tmp_path / "again")] == first
    assert [words[0] for words in first[:5]] == ["fetch", "fetch", "prepare-genome", "build-pmi", "evaluate"]


@pytest.mark.parametrize(
    ("name", "right", "wrong", "words"),
    [
        ("table6.sh", "--strategy", "--stratgy", "No such option: --stratgy"),
        ("table6.sh", "--steps 1000", "--steps many", "Invalid value for '--steps'"),
        ("table6.sh", "cm-step cm-gems", "cm-step cm-gem", "'cm-gem' is not one of"),
        ("table6.sh", "--bench gue", "--bench glue", "no benchmark is called 'glue'; did you mean gue?"),
        ("table6.sh", "cmgems build-pmi", "cmgems build-pim", "there is no command build-pim"),
        ("table6.sh", "fetch gue --dry-run", "fetch gue --dryrun", "No such option: --dryrun"),
        ("table6.sh", "SEEDS:-42", "SEEDS:-forty-two", "`seeds`"),
        ("table6.sh", "paper:$model-cm-gems-1k", "paper:$model-cm-gems-2k", "no published column is called"),
        ("table6.sh", '"$WORK/models/$name" --bench', '"$WORK/model/$name" --bench', "nothing before it writes"),
        ("table6.sh", "cmgems fetch grch38\n", "", "nothing before it writes cmgems-work/downloads/hg38.fa.gz"),
        ("table6.sh", "for model in", "if false; then cmgems demo; fi\nfor model in", "never reached"),
        ("table4.sh", "--shots 10,50", "--shots 10,x", "`shots`"),
        ("figure4.sh", "0.15 0.30", "0.15 30", "Invalid value for '--mask-rate'"),
        ("slurm_gue.sh", "$SLURM_ARRAY_TASK_ID/", "0/", "`shard`"),
    ],
)  # fmt: skip
def test_a_fault_in_an_example_is_found(
    name: str, right: str, wrong: str, words: str, tmp_path: Path
) -> None:
    text = (REPOSITORY / "examples" / name).read_text()
    assert right in text
    faulty = tmp_path / name
    faulty.write_text(text.replace(right, wrong))
    found = problems(faulty, tmp_path)
    assert any(words in problem for problem in found), found


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.name)
def test_the_heading_says_hardware_and_hours(script: Path) -> None:
    heading = script.read_text().split("\nset -euo pipefail\n")[0]
    assert "\n# Hardware  " in heading
    assert "\n# Hours  " in heading


def hours() -> list[tuple[str, str, str, str]]:
    """Return (file, hours, rate, tokens before it in the file) of every figure of hours in the headings."""
    found = []
    for script in EXAMPLES:
        tokens = ""
        for line in script.read_text().split("# Hours")[1].split("\nset -euo")[0].splitlines():
            if match := re.search(r"= ([\d.]+ [MG]) tokens", line):
                tokens = match[1]
            if match := re.search(r"([\d.,]+) h on", line):
                rate = re.search(r"derived from ([\d,]+) tokens/s.*\(docs/log\.md\)", line)
                found.append((script.name, match[1], rate[1] if rate else "", tokens))
    return found


@pytest.mark.parametrize(("name", "shown", "rate", "tokens"), hours())
def test_hours_follow_from_a_measured_rate(name: str, shown: str, rate: str, tokens: str) -> None:
    assert rate, f"{name}: {shown} h is not derived from a rate of docs/log.md"
    assert rate in (REPOSITORY / "docs" / "log.md").read_text(encoding="utf-8")
    number, unit = tokens.split()
    derived = float(number) * {"M": 1e6, "G": 1e9}[unit] / float(rate.replace(",", "")) / 3600
    assert float(shown.replace(",", "")) == pytest.approx(derived, rel=0.01)


def test_there_are_hours_to_check() -> None:
    assert len(hours()) >= 6
