"""Sources to columns: what pairs, what is refused, and with which words."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmgems_cli.artifacts import finish_artifact
from cmgems_cli.comparing.grouping import TaskKey
from cmgems_cli.comparing.pairing import Source, benchmark_of, pair, read_source, recorded_of
from cmgems_cli.comparing.scores import Score, write_scores
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.errors import InputError, UsageError


def score(task: str, value: float, *, seed: int = 1, metric: str = "mcc", model: str = "ours") -> Score:
    return Score("gue", task, "human", None, seed, metric, value, 100, 10, model)


def source(named: str, values: dict[str, float], metric: str = "mcc") -> Source:
    return Source(
        named, named, [score(task, value, metric=metric, model=named) for task, value in values.items()]
    )


def scores_artifact(folder: Path, scores: list[Score]) -> Path:
    folder.mkdir()
    write_scores(folder / "scores.csv", scores)
    finish_artifact(folder, "scores", params={}, inputs={}, stats={}, files=["scores.csv"], environment={})
    return folder


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.lists(st.floats(-1, 1), min_size=1), min_size=1)
)
def test_seeds_are_averaged_before_pairing(values: dict[str, list[float]]) -> None:
    scores = [
        score(task, value, seed=seed) for task, found in values.items() for seed, value in enumerate(found)
    ]
    ours = Source("ours", "ours", list(reversed(scores)))
    other = source("other", dict.fromkeys(values, 0.5))
    paired = pair([other, ours])
    assert paired.rows == [TaskKey("gue", task, None) for task in sorted(values)]
    expected = [100 * sum(values[task]) / len(values[task]) for task in sorted(values)]
    assert paired.columns == [[50.0] * len(values), pytest.approx(expected, abs=1e-8)]
    counts = [len(found) for found in values.values()]
    assert paired.seeds[0] == "1"
    assert paired.seeds[1] == (str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}")


def test_shots_are_rows_of_their_own() -> None:
    tables = [
        Source(
            name,
            name,
            [replace(score("prom-core", 0.1 * shots, metric="accuracy"), shots=shots) for shots in (2, 1)],
        )
        for name in ("a", "b")
    ]
    paired = pair(tables, "accuracy")
    assert [str(row) for row in paired.rows] == ["gue prom-core 1 shots", "gue prom-core 2 shots"]
    assert paired.columns == [[0.1, 0.2], [0.1, 0.2]]


def test_rows_that_do_not_pair_are_refused_by_name_and_number() -> None:
    left = source("left", {"a": 0.1, "b": 0.2})
    right = source("right", {"b": 0.1, **{f"only{number}": 0.0 for number in range(5)}})
    with pytest.raises(InputError) as caught:
        pair([left, right])
    message = str(caught.value)
    assert "left lacks 5 rows (gue only0, gue only1, gue only2 and 2 more)" in message
    assert "right lacks 1 row (gue a)" in message
    assert "`common=True` to compare on the 1 they have in common" in message


def test_common_compares_what_all_have_and_says_what_not() -> None:
    left, right = source("left", {"a": 0.1, "b": 0.2}), source("right", {"b": 0.3})
    paired = pair([left, right], common=True)
    assert (paired.rows, paired.columns) == ([TaskKey("gue", "b", None)], [[20.0], [30.0]])
    assert paired.left_out == ["right lacks 1 row (gue a): left out for all"]
    assert pair([left, left], common=True).left_out == []


def test_common_cannot_compare_nothing() -> None:
    with pytest.raises(InputError, match=r"left lacks 1 row \(gue b\); right lacks 1 row \(gue a\)"):
        pair([source("left", {"a": 0.1}), source("right", {"b": 0.3})], common=True)


def test_metric_left_out_is_mcc_or_the_one_that_is_shared() -> None:
    both = [score("a", 0.1), score("a", 0.9, metric="accuracy"), score("a", 0.8, metric="f1")]
    assert pair([Source("x", "x", both), Source("y", "y", both)]).metric == "mcc"
    assert pair([Source("x", "x", both), source("y", {"a": 0.5}, "accuracy")]).metric == "accuracy"
    assert pair([Source("x", "x", both), source("y", {"a": 0.5}, "f1")]).metric == "f1"


def few_shot(model: str, shift: float) -> Source:
    scores = [
        Score("fewshot", task, "human", 10, 1, metric, value + shift, 100, 10, model)
        for task in ("a", "b")
        for metric, value in (("mcc", 0.1), ("accuracy", 0.5))
    ]
    return Source(model, model, scores)


def test_the_default_metric_is_the_benchmarks() -> None:
    assert pair([few_shot("x", 0.0), few_shot("y", 0.1)]).metric == "accuracy"
    # Of several benchmarks, the first that all models have.
    both = replace(few_shot("x", 0.0), scores=[score("a", 0.1), *few_shot("x", 0.0).scores])
    assert pair([both, few_shot("y", 0.1)], common=True).metric == "accuracy"
    assert pair([both, source("y", {"a": 0.2})], common=True).metric == "mcc"


def test_a_benchmark_of_ones_own_has_what_its_artifact_recorded() -> None:
    recorded = {"title": "My benchmark", "metric": "f1", "bench": "mine"}
    scores = [replace(score("a", 0.5, metric=name), bench="mine") for name in ("mcc", "accuracy", "f1")]
    mine, other = (Source(name, name, scores, recorded) for name in ("mine", "other"))
    assert [(b.title, b.metric, b.published.tables) for b in mine.benchmarks().values()] == [
        ("My benchmark", "f1", ())
    ]
    assert pair([mine, other]).metric == "f1"
    assert recorded_of(mine.benchmarks()["mine"]) == {"title": "My benchmark", "metric": "f1"}
    # The package knows its own.
    assert recorded_of(shipped("gue")) == {}
    assert benchmark_of("gue", {"title": "not", "metric": "f1"}) == shipped("gue")
    # A table of scores records nothing.
    assert benchmark_of("else", {}).title == "else"
    assert benchmark_of("else", {}).metric == "mcc"


def test_metric_asked_for_is_never_replaced() -> None:
    tables = [source("x", {"a": 0.5}, "accuracy"), source("y", {"a": 0.5}, "accuracy")]
    with pytest.raises(InputError, match=r"x has no mcc \(it has: accuracy\); .*try `metric=accuracy`"):
        pair(tables, "mcc")


def test_a_missing_row_does_not_change_the_metric() -> None:
    whole = [score(task, 0.5, metric=metric) for task in "ab" for metric in ("mcc", "accuracy")]
    torn = [one for one in whole if (one.task, one.metric) != ("a", "mcc")]
    with pytest.raises(InputError, match=r"rows of mcc do not pair: y lacks 1 row \(gue a\)"):
        pair([Source("x", "x", whole), Source("y", "y", torn)])


def test_models_of_one_name_are_told_apart_by_their_source() -> None:
    first, second = source("m", {"a": 0.1}), source("m", {"a": 0.2})
    assert pair([replace(first, named="runs/1"), replace(second, named="runs/2")]).labels == [
        "runs/1",
        "runs/2",
    ]
    assert pair([first, first]).labels == ["m (1)", "m (2)"]
    assert pair([first, source("n", {"a": 0.2})]).labels == ["m", "n"]


def test_published_columns_pair_by_benchmark() -> None:
    sources = [read_source("paper:dnabert-120k"), read_source("paper:dnabert-cm-gems-10k")]
    assert len(pair(sources).rows) == 27
    fewshot = pair(sources, "accuracy")
    assert len(fewshot.rows) == 10
    assert fewshot.columns[0][0] == 0.582


def test_folder_file_and_chosen_model_are_read(tmp_path: Path) -> None:
    ours, theirs = [score("a", 0.5)], [score("a", 0.25, model="org/their:v2")]
    folder = scores_artifact(tmp_path / "run:1", ours)
    assert read_source(str(folder)) == Source(str(folder), "ours", ours, folder=folder)
    assert read_source(f"{folder}:ours").scores == ours
    path = tmp_path / "both.csv"
    write_scores(path, ours + theirs)
    assert read_source(f"{path}:org/their:v2").scores == theirs
    with pytest.raises(UsageError, match=r"holds 2 models \(org/their:v2, ours\)|holds 2 models \(ours, org"):
        read_source(str(path))
    with pytest.raises(InputError, match="has no model 'others'; it holds: "):
        read_source(f"{path}:others")


def test_an_unfinished_or_other_artifact_is_refused(tmp_path: Path) -> None:
    folder = scores_artifact(tmp_path / "run", [score("a", 0.5)])
    (folder / "manifest.json").unlink()
    with pytest.raises(InputError, match="has no manifest"):
        read_source(str(folder))
    finish_artifact(folder, "pmi", params={}, inputs={}, stats={}, files=["scores.csv"], environment={})
    with pytest.raises(
        InputError,
        match=r"is a pmi artifact; needed a scores folder .*, a folder of `cmgems finetune`, a scores CSV",
    ):
        read_source(str(folder))


def test_nothing_there_is_refused_with_a_hint_at_the_paper(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist; needed .* or paper:NAME$"):
        read_source(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"did you mean paper:dnabert-120k\?"):
        read_source("DNABERT-120k")
