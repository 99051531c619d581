"""Reports of evaluations: every number against slow, obvious arithmetic and the paper's tables."""

import re
from dataclasses import replace
from statistics import fmean, pstdev, stdev

import pytest

from cmgems_cli.comparing.published import published_column, published_models, published_scores
from cmgems_cli.comparing.scores import Score
from cmgems_cli.comparing.tables import Report, make_report, markdown
from cmgems_cli.datasets.benchmark_file import no_benchmark, shipped
from cmgems_cli.errors import InputError

GUE, FEWSHOT = shipped("gue"), shipped("fewshot")


def score(task: str, value: float, *, seed: int = 42, metric: str = "mcc", note: str = "") -> Score:
    return Score("gue", task, GUE.task(task).group, None, seed, metric, value, 10, 20, "mine", note)


def of_all_metrics(task: str, value: float, seed: int = 42, note: str = "") -> list[Score]:
    return [score(task, value, seed=seed, metric=m, note=note) for m in ("mcc", "accuracy", "f1")]


def row(report: Report, title: str, first: str) -> dict[str, str | None]:
    table = next(table for table in report.tables if title in table.title)
    cells = next(cells for cells in table.rows if cells[0] == first)
    return dict(zip(table.columns, cells, strict=True))


def test_means_and_sample_deviations_over_seeds_stand_by_task() -> None:
    values = [0.6011, 0.65, 0.7]
    report = make_report(GUE, "mine", [s for i, v in enumerate(values) for s in of_all_metrics("tf/0", v, i)])
    found = row(report, "by task", "tf/0")
    assert found["MCC × 100"] == f"{100 * fmean(values):.2f} ± {100 * stdev(values):.2f}"
    assert found["accuracy"] == f"{fmean(values):.3f} ± {stdev(values):.3f}"
    assert found["runs"] == "3"
    # paper, Table 2: the best of DNABERT, NT and DNABERT-2 (k-mer) on tf/0.
    assert found["best k-mer model of the paper"] == "67.99"
    assert found["fraction"] == f"{100 * fmean(values) / 0.6799:.1f} %"


def test_scores_without_the_main_metric_are_refused() -> None:
    with pytest.raises(InputError, match="the scores of mine have no mcc, which GUE"):
        make_report(GUE, "mine", [score("tf/0", 0.5, metric="accuracy")])


def test_one_run_has_no_deviation_and_says_so() -> None:
    report = make_report(GUE, "mine", of_all_metrics("tf/0", 0.5))
    assert row(report, "by task", "tf/0")["MCC × 100"] == "50.00"
    assert any(note.startswith("One seed:") for note in report.notes)


def test_published_models_as_input_give_the_papers_group_means() -> None:
    """A column of the paper put in as one's own must come out as the paper's mean row of it."""
    scores = [
        Score("gue", s.task, s.species, None, 42, "mcc", s.value, None, None, "mine", "")
        for s in published_scores("dnabert-cm-gems-10k")
        if s.bench == "gue"
    ]
    more = [Score(**{**s.__dict__, "metric": m}) for s in scores for m in ("accuracy", "f1")]
    report = make_report(GUE, "mine", [*scores, *more])
    ours = row(report, "over tasks", "mine")
    assert ours == {**row(report, "over tasks", "paper: dnabert-cm-gems-10k"), "model": "mine"}
    values = [s.value for s in scores]
    # paper, Table 3: 63.09 ± 17.49.
    assert ours["all (27)"] == "63.09 ± 17.49" == f"{100 * fmean(values):.2f} ± {100 * pstdev(values):.2f}"


def test_logo_cm_gems_has_the_papers_share_of_the_best() -> None:
    scores = [
        Score("gue", s.task, s.species, None, 42, metric, s.value, None, None, "mine", "")
        for s in published_scores("logo-cm-gems-10k")
        if s.bench == "gue"
        for metric in ("mcc", "accuracy", "f1")
    ]
    found = row(make_report(GUE, "mine", scores), "Fraction of the best", "human")
    # paper, RQ1.
    assert (found["fraction"], found["mine"], found["MCC × 100"]) == ("93.97 %", "67.77", "72.12")


def test_only_means_over_the_same_tasks_are_compared() -> None:
    report = make_report(GUE, "mine", [*of_all_metrics("tf/0", 0.5), *of_all_metrics("virus/covid", 0.5)])
    table = next(table for table in report.tables if "over tasks" in table.title)
    assert table.columns == ["model", "human (1)", "virus (1)", "all (2)"]
    # The paper has no covid: a mean with it would be over other tasks.
    assert row(report, "over tasks", "paper: dnabert-120k")["virus (1)"] is None
    assert row(report, "by task", "virus/covid")["best k-mer model of the paper"] is None


def test_a_baseline_stands_beside_and_a_partial_one_is_noted() -> None:
    mine = [*of_all_metrics("tf/0", 0.5), *of_all_metrics("mouse/0", 0.4)]
    report = make_report(GUE, "mine", mine, of_all_metrics("tf/0", 0.3))
    assert row(report, "by task", "tf/0")["random weights"] == "30.00"
    assert row(report, "by task", "mouse/0")["random weights"] is None
    assert "The baseline lacks some of the tasks." in report.notes
    without = make_report(GUE, "mine", mine)
    assert any(note.startswith("No baseline") for note in without.notes)


def test_collapsed_runs_missing_tasks_and_notes_are_told() -> None:
    scores = of_all_metrics("tf/0", 0.0, note="one class predicted for every row; train has odd rows: 3")
    report = make_report(GUE, "mine", scores, missing={"EMP/H3": "no train.csv"})
    assert "Collapsed, one class predicted for every row: 1 of 1 runs (tf/0)." in report.notes
    assert "tf/0: train has odd rows: 3." in report.notes
    assert "Not run, EMP/H3: no train.csv." in report.notes


def test_leakage_of_all_tasks_is_one_note() -> None:
    start = "leakage, equal + near-duplicate rows: "
    scores = [
        *of_all_metrics("tf/0", 0.5, note=f"{start}0 + 46 of 1,000 test rows in train"),
        *of_all_metrics("tf/1", 0.5),
        *of_all_metrics("mouse/2", 0.5, note=f"other; {start}1 + 22 of 328 test rows in train"),
    ]
    notes = [note for note in make_report(GUE, "mine", scores).notes if "eakage" in note]
    assert len(notes) == 1
    assert notes[0].endswith(
        ": tf/0 0 + 46 of 1,000 test rows in train; mouse/2 1 + 22 of 328 test rows in train."
    )


@pytest.mark.parametrize("bench", ["gue", "fewshot"])
def test_markdown_has_every_row_and_a_column_for_every_published_model(bench: str) -> None:
    if bench == "gue":
        scores = [s for task in GUE.selected(None) for s in of_all_metrics(task.name, 0.5)]
        tables = {2: "Table 2", 6: "Table 6"}
    else:
        scores = [
            Score("fewshot", "prom-core", "human", shots, seed, metric, 0.5 + seed / 100, 20, 9, "mine", "")
            for shots in (10, 50)
            for seed in range(3)
            for metric in ("mcc", "accuracy", "f1")
        ]
        tables = {4: "Table 4"}
    text = markdown(make_report(shipped(bench), "mine", scores))
    for number, title in tables.items():
        part = text.split(f"with {title}", 1)[1].split("##", 1)[0]
        header, _, *rows = [line for line in part.splitlines() if line.startswith("|")]
        assert [cell.strip() for cell in header.strip("|").split("|")][2:] == list(published_models(number))
        assert len(rows) == (27 if bench == "gue" else 2)
        assert all(line.count("|") == header.count("|") for line in rows)


def test_few_shot_rows_stand_beside_table_4() -> None:
    values = [0.5, 0.55, 0.62]
    scores = [
        Score("fewshot", "prom-core", "human", 10, seed, metric, value, 20, 9, "mine", "")
        for seed, value in enumerate(values)
        for metric in ("mcc", "accuracy", "f1")
    ]
    found = row(make_report(FEWSHOT, "mine", scores), "by task and shots", "prom-core")
    assert found["accuracy"] == f"{fmean(values):.3f} ± {stdev(values):.3f}"
    assert found["paper: dnabert-120k"] == "0.606 ± 0.045"


# ------------------------------------------------------------------ benchmarks of one's own


OWN = replace(no_benchmark(), name="mine", title="My benchmark", metric="accuracy")


def own_scores(groups: dict[str, str], model: str = "m", shift: float = 0.0) -> list[Score]:
    return [
        Score("mine", task, group, None, seed, metric, 0.5 + seed / 10 + shift, 10, 20, model)
        for task, group in groups.items()
        for seed in (1, 2)
        for metric in ("mcc", "accuracy", "f1")
    ]


def test_a_benchmark_of_ones_own_has_its_title_its_main_metric_and_no_published_columns() -> None:
    report = make_report(OWN, "m", own_scores({"promoters": "plant", "splice sites": "animal"}))
    assert report.title == "My benchmark: m"
    assert [table.title for table in report.tables] == [
        "m: test scores by task",
        "Accuracy: mean ± sd over tasks",
    ]
    assert report.tables[0].columns == ["task", "group", "runs", "accuracy", "MCC × 100", "macro-F1"]
    assert report.tables[1].columns == ["model", "plant (1)", "animal (1)", "all (2)"]
    text = markdown(report)
    assert "paper" not in text
    assert "non-human" not in text


def test_a_benchmark_without_groups_has_no_column_of_them() -> None:
    report = make_report(OWN, "m", own_scores({"a": "", "b": ""}), own_scores({"a": "", "b": ""}, shift=-0.2))
    columns = ["task", "runs", "accuracy", "MCC × 100", "macro-F1", "random weights"]
    assert report.tables[0].columns == columns
    assert report.tables[1].columns == ["model", "all (2)"]
    assert [cells[0] for cells in report.tables[1].rows] == ["m", "random weights"]


def test_means_of_few_shot_tasks_are_taken_by_shots_as_the_papers() -> None:
    scores = [
        replace(cell.score, model="m", seed=1) for cell in published_column("dnabert-cm-gems-10k", 4).values()
    ]
    means = row(make_report(FEWSHOT, "m", scores), "over tasks", "m")
    # paper, Table 4, column "Mean".
    assert means["all (10)"] is not None
    assert means["all (10)"].startswith("0.644 ± ")
    assert means == {
        **row(make_report(FEWSHOT, "m", scores), "over tasks", "paper: dnabert-cm-gems-10k"),
        "model": "m",
    }
    assert list(means)[1:3] == ["10 shots (5)", "50 shots (5)"]


def test_scores_of_random_weights_do_not_ask_for_a_baseline() -> None:
    scores = of_all_metrics("tf/0", 0.5)
    assert not any("No baseline" in note for note in make_report(GUE, "m", scores, random_weights=True).notes)


def test_columns_without_a_value_and_means_of_one_task_are_left_out() -> None:
    scores = [
        Score("fewshot", "my-task", "", shots, seed, metric, 0.5, 20, 9, "m")
        for shots in (10, 50)
        for seed in (1, 2)
        for metric in ("mcc", "accuracy", "f1")
    ]
    (table,) = make_report(FEWSHOT, "m", scores).tables
    assert table.columns == ["task", "shots", "runs", "accuracy", "MCC × 100", "macro-F1"]


def test_names_are_never_markup() -> None:
    text = markdown(make_report(OWN, "a|b", own_scores({"<b>x|y": "", "z": ""})))
    assert "\\<b\\>x\\|y" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines[:4]}) == 1
