"""What goes into pictures and sentences: who may be compared with whom, shares, mask rates, intervals, ranks."""

from pathlib import Path

import pytest

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.comparing.grouping import Runs, TaskKey
from cmgems_cli.comparing.one_task import OneTask
from cmgems_cli.comparing.published import published_scores
from cmgems_cli.comparing.row_tests import RowTest
from cmgems_cli.comparing.scores import Score, write_scores
from cmgems_cli.comparing.statistics import compare
from cmgems_cli.metrics import metric_of
from cmgems_cli.reporting import comparison_chapter as comparing
from cmgems_cli.reporting import figures
from cmgems_cli.reporting.document import make_document
from cmgems_cli.reporting.elements import Document, Folded, Notes, Picture, Table, Text
from cmgems_cli.reporting.figures import _bars
from cmgems_cli.reporting.methods import PRETRAINING_OPTIMIZER
from cmgems_cli.reporting.sources import read_runs
from cmgems_cli.reporting.summary import _over_rows
from tests.reporting.conftest import Reported, make_model, make_scores


def document_of(*named: Path | str) -> Document:
    return make_document(read_runs([str(name) for name in named]), seed=42, advance=lambda amount: None)


def picture(document: Document, name: str) -> Picture:
    return next(one for one in document.pictures if one.name == name)


def test_runs_on_one_corpus_share_a_picture_and_others_do_not(tmp_path: Path) -> None:
    make_model(tmp_path / "one")
    make_model(tmp_path / "two", mask_rate=0.3)
    make_model(tmp_path / "elsewhere", corpus="f" * 64)
    together = document_of(tmp_path / "one", tmp_path / "two")
    assert [one.sources for one in together.pictures] == [["R1", "R2"]]
    apart = document_of(tmp_path / "one", tmp_path / "two", tmp_path / "elsewhere")
    assert [one.sources for one in apart.pictures] == [["R1", "R2"], ["R3"]]
    assert "pictures of their own" in apart.pictures[0].caption


def test_the_papers_own_scores_give_the_papers_share(tmp_path: Path) -> None:
    """RQ1: LOGO CM-GEMS 10K reaches 93.97 % of the best model on the human tasks."""
    scores = [score for score in published_scores("logo-cm-gems-10k") if score.bench == "gue"]
    make_scores(
        tmp_path / "again",
        {score.task: [score.value] for score in scores},
        model="again",
        species={score.task: score.species for score in scores},
    )
    found = picture(document_of(tmp_path / "again"), "share-of-best")
    assert "human: again 94.0 %, " in found.alt
    assert "paper: logo-cm-gems-10k 94.0 %" in found.alt
    assert "not all of the paper's tasks" not in found.caption


def test_shares_of_some_tasks_say_so(runs: Path) -> None:
    found = picture(document_of(runs / "scores" / "c-switching"), "share-of-best")
    assert "not all of the paper's tasks" in found.caption
    assert "paper, Table 2" in found.sources


def test_mask_rates_are_drawn_for_models_that_are_named(tmp_path: Path) -> None:
    named: list[Path] = []
    for steps in (20, 40):
        for rate in (0.15, 0.3):
            name = f"{steps}-{rate}"
            model = make_model(tmp_path / name, steps=steps, mask_rate=rate)
            values = {"tf/0": [rate, rate + 0.02], "tf/1": [0.3, 0.3 + steps / 1000]}
            make_scores(tmp_path / f"s{name}", values, model=name, pretrained=model.digest)
            named += [tmp_path / name, tmp_path / f"s{name}"]
    found = picture(document_of(*named), "mask-rate-gue")
    assert found.alt == (
        "logo random, 15 %: 23.5 at 20 steps, 24 at 40 steps; logo random, 30 %: 31 at 20 steps, 31.5 at 40 steps."
    )
    assert set(found.sources) == {f"R{number}" for number in range(1, 9)}
    assert "mask-rate-gue" not in {one.name for one in document_of(*named[1:4:2]).pictures}


def test_a_task_has_an_interval_only_over_enough_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[figures.Difference] = []
    original = figures.differences
    monkeypatch.setattr(
        figures, "differences", lambda rows, *rest: drawn.extend(rows) or original(rows, *rest)
    )
    first = {"tf/0": [0.50, 0.51, 0.52, 0.50, 0.51], "tf/1": [0.5, 0.5]}
    second = {"tf/0": [0.55, 0.52, 0.58, 0.53, 0.54], "tf/1": [0.6, 0.61]}
    make_scores(tmp_path / "one", first, model="first")
    make_scores(tmp_path / "two", second, model="second")
    found = picture(document_of(tmp_path / "one", tmp_path / "two"), "differences-gue-R1-R2")
    many, few = drawn
    assert many.single == pytest.approx([5, 1, 6, 3, 3])
    columns = [[100 * value for value in column["tf/0"]] for column in (first, second)]
    assert many.interval == pytest.approx(compare(columns, seed=42)[0].interval)
    assert few.interval is None
    assert few.mean == pytest.approx(10.5)
    assert "No interval for tasks with under 5 pairs of runs" in found.caption
    assert found.alt.startswith("tf/0 +3.60; tf/1 +10.50; mean of 2 +7.05")


# Demšar 2006, Table 5(a): critical values of the two-tailed Nemenyi test at 0.05, by number of models
@pytest.mark.parametrize(
    ("models", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (10, 3.164)]
)
def test_critical_differences_are_nemenyis(models: int, q: float) -> None:
    expected = q * (models * (models + 1) / (6 * 14)) ** 0.5
    assert comparing.critical_difference(models, 14) == pytest.approx(expected, rel=3e-4)


@pytest.mark.parametrize(
    ("ranks", "critical", "bars"),
    [
        ([1.0, 2.0, 3.0], 0.5, []),
        ([1.0, 2.0, 3.0], 1.0, [(1.0, 2.0), (2.0, 3.0)]),
        ([1.0, 2.0, 3.0], 2.0, [(1.0, 3.0)]),
        ([1.5, 1.5, 3.0], 0.1, []),
        ([1.0, 1.2, 3.0, 3.4, 5.0], 0.5, [(1.0, 1.2), (3.0, 3.4)]),
    ],
)
def test_bars_join_what_lies_within_the_critical_difference(
    ranks: list[float], critical: float, bars: list[tuple[float, float]]
) -> None:
    assert _bars([(str(rank), rank) for rank in ranks], critical) == bars


def test_the_optimizer_in_words_is_that_of_pretraining() -> None:
    from cmgems_cli.training.pretrain_options import BETAS, CLIP_NORM, EPS, WEIGHT_DECAY

    assert (BETAS, EPS, WEIGHT_DECAY, CLIP_NORM) == ((0.9, 0.98), 1e-6, 0.01, 1.0)
    for words in ("betas 0.9 and 0.98", "epsilon 1e-6", "weight decay 0.01", "clipped at 1)"):
        assert words in PRETRAINING_OPTIMIZER


def test_published_columns_can_stand_in_a_report(reported: Reported) -> None:
    text = (reported("paper:dnabert-120k", "paper:dnabert-cm-gems-10k") / "report.md").read_text(
        encoding="utf-8"
    )
    # paper, Table 3: p 0.0207
    assert "| paper: dnabert-120k | 60.69 ± 17.72 | +2.40 | 0.0207 | 27 |" in text
    assert "Published values are those of \\[1\\]." in text


def test_a_model_never_evaluated_has_a_row_and_no_curve(tmp_path: Path) -> None:
    make_model(tmp_path / "short", steps=5)
    assert document_of(tmp_path / "short").pictures == []


def test_tasks_that_the_paper_does_not_have_stand_alone(tmp_path: Path) -> None:
    make_scores(tmp_path / "own", {"my-promoters": [0.5, 0.6]}, model="m", bench="fewshot")
    section = next(one for one in document_of(tmp_path / "own").sections if one.title == "Scores: Few-shot")
    table = section.parts[0]
    assert isinstance(table, Table)
    assert table.table.columns == ["task", "m (2 runs)"]
    assert table.table.rows == [["my-promoters, 10 shots", "0.550 ± 0.071"]]
    assert table.sources == ["R1"]
    assert isinstance(section.parts[1], Text)
    assert "paper" not in section.parts[1].text
    folded = next(part for part in section.parts if isinstance(part, Folded))
    assert [part.sources for part in folded.parts if isinstance(part, Table)] == [["R1"]]


def test_tables_with_values_of_the_paper_say_which(tmp_path: Path) -> None:
    make_scores(tmp_path / "tuned", {"tf/0": [0.5], "tf/1": [0.5]}, model="tuned")
    section = next(one for one in document_of(tmp_path / "tuned").sections if one.title == "Scores: GUE")
    assert isinstance(section.parts[1], Text)
    assert section.parts[1].text.endswith("The paper's values are as printed.")
    folded = next(part for part in section.parts if isinstance(part, Folded))
    sources = {part.table.title: part.sources for part in folded.parts if isinstance(part, Table)}
    assert sources["tuned: test scores by task"] == ["R1", "paper, Table 2"]
    assert sources["tuned: MCC × 100: mean ± sd over tasks"] == ["R1", "paper, Tables 2 and 6"]
    assert sources["tuned: MCC × 100, with Table 6 of the paper"] == ["R1", "paper, Table 6"]


def test_a_summary_counts_tasks_and_says_why_there_is_no_test(tmp_path: Path) -> None:
    for name, shift in (("one", 0.0), ("two", 0.1)):
        rows = [
            Score("fewshot", "a", "human", shots, 42, "accuracy", 0.5 + shots / 100 + shift, 9, 9, name, "")
            for shots in (10, 20)
        ]
        made = make_scores(tmp_path / name, {"a": [0.5]}, model=name, bench="fewshot")
        write_scores(tmp_path / name / "scores.csv", rows)
        (tmp_path / name / "manifest.json").unlink()
        finish_artifact(
            tmp_path / name,
            "scores",
            params=made.params,
            inputs=made.inputs,
            stats=made.stats,
            files=["scores.csv", "report.md"],
            environment={},
        )
    (text, notes) = document_of(tmp_path / "one", tmp_path / "two").sections[0].parts
    assert isinstance(notes, Notes)
    assert notes.notes == [
        "Few-shot, accuracy, mean over 2 rows (1 task at several numbers of shots): one 0.650, two 0.750.",
        "two minus one: +0.100 accuracy; the same difference in every row: it has no spread to be tested against.",
    ]
    assert isinstance(text, Text)
    assert text.text == "2 evaluations."


def test_a_summary_of_one_task_is_over_its_rows() -> None:
    tests = [
        RowTest(1000, (42, 42), 4.0, (1.004, 7.0), None, None),
        None,
        RowTest(1, (43, 42), -1.0, (-3.0, 0.5), None, None),
    ]
    key = TaskKey("own", "a", None)
    runs: list[Runs] = [{42: 1.0, 43: 9.0}, {42: 1.0}, {43: 1.0}, {42: 5.0}]
    compared = OneTask(key, "mcc", ["one", "two", "three", "last"], runs, tests, [None] * 3, [], 42)
    assert _over_rows(compared, metric_of("mcc")) == [
        "last minus one: +4.00 MCC × 100, 95 % interval 1.00 to 7.00 (1,000 test rows of the runs with seed 42"
        " alone).",
        "last minus three: -1.00 MCC × 100, 95 % interval -3.00 to 0.50, which contains 0 (1 test row of the runs"
        " with seeds 42 and 43).",
    ]
