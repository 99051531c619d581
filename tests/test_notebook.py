"""The notebook from top to bottom, and the stages of the Python API against the commands."""

import ast
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cmgems
from cmgems_cli.errors import UsageError
from tests.command_line import FASTA, REPOSITORY, CommandLine

NOTEBOOK = REPOSITORY / "examples" / "notebook.ipynb"
CELLS = [
    cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"
]


def run(source: str, names: dict[str, Any]) -> Any:
    """Run a cell; return the value of its last line if that is an expression."""
    body = ast.parse(source)
    last = body.body.pop() if isinstance(body.body[-1], ast.Expr) else None
    exec(compile(body, str(NOTEBOOK), "exec"), names)
    return last and eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


def shown(cell: dict[str, Any]) -> str:
    """Return the text of a cell's outputs."""
    texts = (output.get("text") or output["data"].get("text/plain", "") for output in cell["outputs"])
    return "".join("".join(text) for text in texts)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The names that the notebook leaves, and what each cell printed, with less training."""
    folder = tmp_path_factory.mktemp("notebook")
    names: dict[str, Any] = {}
    printed = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTEBOOK_FOLDER", str(folder))
        patch.setenv("NOTEBOOK_STEPS", "4")
        # Jupyter's, which the tests do without.
        patch.setitem(
            sys.modules, "IPython.display", SimpleNamespace(Image=lambda path: path.read_bytes()[:4])
        )
        for cell in CELLS:
            lines: list[str] = []
            names["print"] = lambda *words, to=lines: to.append(" ".join(map(str, words)))
            value = run("".join(cell["source"]), names)
            printed[cell["id"]] = "\n".join([*lines, "" if value is None else repr(value)])
    return SimpleNamespace(folder=folder, names=names, printed=printed, image=value)


def test_the_notebook_prints_what_it_shows(session: Any) -> None:
    exact = [cell for cell in CELLS if "exact" in cell["metadata"].get("tags", ())]
    assert len(exact) == 4
    for cell in exact:
        # Jupyter breaks long values into lines.
        assert session.printed[cell["id"]].split() == shown(cell).split()


def test_the_other_outputs_have_the_shape_that_is_shown(session: Any) -> None:
    for cell in CELLS:
        if "MCC x 100" in (text := shown(cell)):
            names = re.findall(r"^(\S+) +MCC", text, flags=re.M)
            assert re.findall(r"^(\S+) +MCC", session.printed[cell["id"]], flags=re.M) == names
    report = session.names["report"]
    assert report.manifest.kind == "report"
    assert (report.folder / "report.html").is_file()
    assert session.image == b"\x89PNG"
    compared = session.names["compared"]
    assert [row["model"] for row in compared["rows"]] == ["tiny", "genemask"]
    assert len(cmgems.read_scores(session.names["classifier"])) > 3


def test_every_cell_was_run_in_order() -> None:
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))


def test_the_commands_find_what_the_functions_have_made(session: Any, cmgems: CommandLine) -> None:
    place, small = session.folder, ("--precision", "fp32", "--device", "cpu")
    recipe = ("--lr", "1e-3", "--max-steps", "2", "--warmup-steps", "10%", *small)
    model, corpus, pmi = place / "models" / "genemask", place / "corpus", place / "pmi"
    for words in (
        ("prepare-genome", FASTA, "--max-tokens", "62", "--out", corpus),
        ("build-pmi", corpus, "--min-count", "20", "--out", pmi),
        (
            *("pretrain", corpus, "--pmi", pmi, "--model", "tiny", "--strategy", "genemask"),
            *("--steps", "4", "--global-batch", "64", "--out", model, *small),
        ),
        ("finetune", model, place / "tasks" / "repeats", "--out", place / "classifier", *recipe),
        (
            *("evaluate", model, "--bench", place / "tasks", "--shots", "100", "--seeds", "1"),
            *("--out", place / "scores" / "genemask", *recipe),
        ),
    ):
        folder = Path(words[words.index("--out") + 1])
        before = (folder / "manifest.json").read_bytes()
        done = cmgems(*words, "--json")
        assert done.json["digest"] == json.loads(before)["digest"]
        assert (folder / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 1e-3}, "lr is not an option; did you mean learning_rate"),
        ({"stesp": 3}, "did you mean steps"),
        ({"steps": 0}, "`steps=0`; needed a whole number from 1"),
        ({"strategy": "best"}, "`strategy=best`; needed one of random"),
    ],
)
def test_options_that_do_not_exist_or_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cmgems.pretrain("corpus", "pmi", "model", **options)


def test_a_stage_without_its_input_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`ttest` got 1 models; needed two"):
        cmgems.ttest(tmp_path)
    with pytest.raises(Exception, match="does not exist"):
        cmgems.finetune("tiny", tmp_path / "nothing")
