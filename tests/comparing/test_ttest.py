"""`cmgems ttest` from outside: the paper's Table 3, the contract's JSON, one-line refusals, a quick start."""

import json
import re
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.comparing.published import published_scores
from cmgems_cli.comparing.scores import COLUMNS, Score, write_scores
from tests.command_line import CommandLine, Result, run_python

TABLE_3 = [
    "paper:dnabert-120k",
    "paper:dnabert2-kmer-120k",
    "paper:dnabert-genemask-10k",
    "paper:dnabert-cm-gems-10k",
]


@pytest.fixture(scope="session")
def ttest(cmgems: CommandLine) -> CommandLine:
    return cmgems.of("ttest")


def json_of(result: Result) -> dict[str, Any]:
    """Return the object on stdout, of the JSON that every reader takes: without NaN and infinities."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    value = json.loads(result.stdout, parse_constant=refuse)
    assert isinstance(value, dict)
    return value


def table_of(path: Path, values: dict[str, list[float]], *, metric: str = "mcc", seeds: int = 1) -> Path:
    """Write a table of several models on tasks a, b, c, …, every seed `seed/100` off its value."""
    write_scores(
        path,
        [
            Score("gue", "abcdefgh"[index], "human", None, seed, metric, value + seed / 100, 100, 10, model)
            for model, column in values.items()
            for index, value in enumerate(column)
            for seed in range(seeds)
        ],
    )
    return path


def test_table_3_of_the_paper_is_printed_exactly(ttest: CommandLine) -> None:
    done = ttest(*TABLE_3)
    # paper, Table 3 prints p with three decimals: 0.021, 0.043, 0.112
    expected = [
        ("dnabert-120k", "60.69 ± 17.72", "+2.40", "0.0207", "27"),
        ("dnabert2-kmer-120k", "61.12 ± 17.77", "+1.97", "0.0434", "27"),
        ("dnabert-genemask-10k", "62.34 ± 17.69", "+0.75", "0.1125", "27"),
        ("dnabert-cm-gems-10k", "63.09 ± 17.49", "–", "–", "27"),
    ]
    cells = [tuple(re.split(r"\s{2,}", line.strip())) for line in done.stdout.splitlines()]
    assert [row for row in cells if row in expected] == expected
    assert "MCC × 100; p of the paired t-test against dnabert-cm-gems-10k" in done.stdout


def test_json_is_the_contracts(ttest: CommandLine) -> None:
    found = json_of(ttest("--json", *TABLE_3))
    assert (found["metric"], found["n"], found["reference"]) == ("mcc", 27, "dnabert-cm-gems-10k")
    assert [row["model"] for row in found["rows"]] == [name.removeprefix("paper:") for name in TABLE_3]
    for row in found["rows"]:
        assert {"model", "mean", "sd", "difference", "p"} <= set(row)
    assert [row["p"] for row in found["rows"]] == [
        pytest.approx(0.0207, abs=5e-5),
        pytest.approx(0.0434, abs=5e-5),
        pytest.approx(0.1125, abs=5e-5),
        None,
    ]
    assert found["rows"][-1]["difference"] is None
    assert found["rows"][0]["difference"] == pytest.approx(2.40)
    assert found["rows"][0]["mean"] == pytest.approx(60.69, abs=5e-3)
    assert found["scale"] == 100


def test_the_statistics_beside_table_3_are_golden(ttest: CommandLine) -> None:
    # Worked out once with scipy 1.17 alone, from Table 2's columns.
    found = json_of(ttest("--json", *TABLE_3))
    first = found["rows"][0]
    assert first["holm_p"] == pytest.approx(3 * first["p"])
    assert first["wilcoxon_p"] == pytest.approx(0.035524, abs=1e-6)
    assert first["sign_flip_p"] == pytest.approx(0.0122, abs=4e-3)
    assert (first["interval_low"], first["interval_high"]) == (
        pytest.approx(0.88, abs=0.1),
        pytest.approx(4.8, abs=0.2),
    )
    assert first["cohens_dz"] == pytest.approx(0.474055, abs=1e-6)
    assert [row["mean_rank"] for row in found["rows"]] == pytest.approx(
        [68.5 / 27, 70 / 27, 70.5 / 27, 61 / 27]
    )
    assert found["friedman"] == {
        "chi2": pytest.approx(1.304833, abs=1e-6),
        "p": pytest.approx(0.727986, abs=1e-6),
    }


def test_same_seed_same_output_and_two_models_have_no_ranks(ttest: CommandLine) -> None:
    assert ttest(*TABLE_3) == ttest(*TABLE_3, "--seed", "42")
    found = json_of(ttest("--json", *TABLE_3[2:]))
    assert found["friedman"] is None
    assert [row["mean_rank"] for row in found["rows"]] == [None, None]
    assert "rank" not in ttest(*TABLE_3[2:]).stdout


def test_fewshot_columns_are_compared_by_accuracy(ttest: CommandLine) -> None:
    done = ttest("paper:dnabert-random-10k", "paper:dnabert-global-10k")
    assert "0.627 ± " in done.stdout
    assert "0.656 ± " in done.stdout
    # The benchmark's own metric needs no explanation.
    assert "compared by" not in done.stderr
    assert "Accuracy; p of the paired t-test" in done.stdout
    two = json_of(ttest("--json", "paper:dnabert-120k", "paper:dnabert-global-10k", "--metric", "accuracy"))
    assert two["n"] == 10


def test_another_metric_than_the_benchmarks_is_announced(ttest: CommandLine, tmp_path: Path) -> None:
    path = table_of(tmp_path / "f1.csv", {"a": [0.1, 0.2], "b": [0.3, 0.5]}, metric="f1")
    done = ttest(f"{path}:a", f"{path}:b")
    assert "no task of mcc in common: compared by f1" in done.stderr


def test_an_artifact_stands_beside_the_paper(ttest: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    folder.mkdir()
    ours = [
        Score("gue", one.task, one.species, None, seed, "mcc", one.value + shift, None, None, "ours")
        for one in published_scores("dnabert-cm-gems-10k")
        if one.bench == "gue"
        for seed, shift in ((1, 0.01), (2, 0.03))
    ]
    write_scores(folder / "scores.csv", ours)
    finish_artifact(folder, "scores", params={}, inputs={}, stats={}, files=["scores.csv"], environment={})
    found = json_of(ttest("--json", "paper:dnabert-120k", "paper:dnabert-cm-gems-10k", str(folder)))
    assert found["reference"] == "ours"
    assert found["rows"][2]["mean"] == pytest.approx(63.09 + 2, abs=5e-3)
    # Two seeds, +1 and +3: on average 2 above the published column in every row.
    assert found["rows"][1]["difference"] == pytest.approx(2)
    assert found["rows"][1]["p"] is None
    assert found["rows"][1]["note"].startswith("the same difference in every row")
    done = ttest("paper:dnabert-cm-gems-10k", str(folder))
    assert "dnabert-cm-gems-10k 1, ours 2" in done.stderr
    assert "the same difference in every row" in done.stderr
    assert "+2.00" in done.stdout


def test_csvs_of_several_models_are_chosen_from(ttest: CommandLine, tmp_path: Path) -> None:
    path = table_of(tmp_path / "all.csv", {"base": [0.1, 0.2, 0.4], "new": [0.2, 0.5, 0.6]}, seeds=3)
    found = json_of(ttest("--json", f"{path}:base", f"{path}:new"))
    assert [row["mean"] for row in found["rows"]] == pytest.approx([70 / 3 + 1, 130 / 3 + 1])
    assert "holds 2 models (base, new)" in ttest(str(path), f"{path}:new", code=2).error
    assert "has no model 'old'" in ttest(f"{path}:old", f"{path}:new", code=3).error


def test_a_model_against_itself_and_a_single_row_have_answers(ttest: CommandLine, tmp_path: Path) -> None:
    row = json_of(ttest("--json", "paper:dnabert-120k", "paper:dnabert-120k"))["rows"][0]
    assert (row["difference"], row["p"], row["wilcoxon_p"], row["sign_flip_p"]) == (0.0, 1.0, 1.0, 1.0)
    path = table_of(tmp_path / "one.csv", {"a": [0.1], "b": [0.3], "c": [0.2]})
    found = json_of(ttest("--json", f"{path}:a", f"{path}:b", f"{path}:c"))
    assert found["n"] == 1
    assert [row["p"] for row in found["rows"]] == [None, None, None]
    assert [row["sd"] for row in found["rows"]] == [0.0, 0.0, 0.0]
    assert found["friedman"]["p"] is None
    done = ttest(f"{path}:a", f"{path}:b")
    assert "a: only one task in common; at least two are needed for a test" in done.stderr
    # One task has no deviation.
    assert "10.00 ± –" in done.stdout
    assert "± 0.00" not in done.stdout
    assert "nan" not in done.stdout.lower()


def test_every_refusal_is_one_line_with_its_exit_code(ttest: CommandLine, tmp_path: Path) -> None:
    assert "needed two or more" in ttest("paper:dnabert-120k", code=2).error
    assert "did you mean paper:dnabert-120k" in ttest("paper:dnabert-120", "paper:dnabert-120k", code=3).error
    assert "does not exist" in ttest(str(tmp_path / "none"), "paper:dnabert-120k", code=3).error
    assert "is not one of" in ttest(*TABLE_3, "--metric", "loss", code=2).error
    assert (
        "has no f1 (it has: accuracy, mcc)"
        in ttest("paper:dnabert-120k", TABLE_3[3], "--metric", "f1", code=3).error
    )
    partial = table_of(tmp_path / "partial.csv", {"ours": [0.5, 0.6]})
    words = ttest("paper:dnabert-120k", str(partial), code=3).error
    assert "dnabert-120k lacks 2 rows (gue a, gue b)" in words
    assert "ours lacks 27 rows (gue EMP/H3, gue EMP/H3K14ac, gue EMP/H3K36me3 and 24 more)" in words


def test_nan_is_refused_with_its_row(ttest: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"{','.join(COLUMNS)}\ngue,tf/0,human,,1,mcc,nan,1,1,ours,\n")
    assert "line 2 (ours gue tf/0 mcc): mcc is nan" in ttest("paper:dnabert-120k", str(path), code=3).error


def test_common_rows_on_demand(ttest: CommandLine, tmp_path: Path) -> None:
    write_scores(
        tmp_path / "ours.csv",
        [
            Score("gue", task, "", None, None, "mcc", 0.6, None, None, "ours")
            for task in ("tf/0", "mouse/0", "tf/9")
        ],
    )
    done = ttest("paper:dnabert-120k", str(tmp_path / "ours.csv"), "--common")
    assert "warning: dnabert-120k lacks 1 row (gue tf/9): left out for all" in done.stderr
    assert "55.63 ± 11.21" in done.stdout  # tf/0 66.84 and mouse/0 44.42


@pytest.mark.subprocess
def test_it_starts_fast_and_without_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "from cmgems_cli.cli import app\n"
        f"sys.argv = ['cmgems', 'ttest', *{TABLE_3!r}]\n"
        "try:\n    app()\nfinally:\n"
        "    heavy = {'torch', 'transformers', 'numba', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "    print('heavy:', sorted(heavy), file=sys.stderr)\n"
    )

    def run(code: str) -> tuple[subprocess.CompletedProcess[str], float]:
        """Return what came of it, and its processor time in s, which other work on the machine hardly changes."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run_python(code)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    _, of_scipy = run("import scipy.stats")
    done, in_all = run(code)
    assert "heavy: []" in done.stderr
    assert "60.69 ± 17.72" in done.stdout
    # What a t test cannot do without takes most of it, on any machine: 0.9 of 1.2 s where it was measured.
    assert in_all < 2 * of_scipy


@pytest.mark.subprocess
def test_a_refusal_does_not_wait_for_scipy() -> None:
    code = (
        "import sys\n"
        "from cmgems_cli.cli import app\n"
        "sys.argv = ['cmgems', 'ttest', 'paper:none', 'paper:none']\n"
        "try:\n    app()\nexcept SystemExit:\n    sys.exit(bool({'scipy', 'numpy'} & set(sys.modules)))\n"
    )
    run_python(code)
