"""Benchmarks from a name, a TOML file and a folder: what they hold, and what is refused in one line."""

from pathlib import Path

import pytest

from cmgems_cli.datasets.benchmark_file import find_benchmark, no_benchmark, shipped, shipped_names
from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.errors import CmgemsError, InputError, UsageError

WHOLE = """
name = "my-bench"
title = "My bench"
metric = "accuracy"
seeds = [1, 2]
shots = [5]
[recipe]
epochs = 9
[[task]]
name = "promoters"
path = "data/prom_text"
group = "human"
classes = 3
rows = { train = 10 }
recipe = { lr = 1e-3, max_steps = 7 }
[[task]]
name = "other"
default = false
"""


def written(folder: Path, text: str) -> str:
    path = folder / "bench.toml"
    path.write_text(text)
    return str(path)


def test_the_shipped_benchmarks_are_found_in_any_case() -> None:
    assert shipped_names() == ("fewshot", "genomic-benchmarks", "gue", "nt18")
    assert find_benchmark("GUE") is shipped("gue")
    assert shipped("gue").shipped


def test_a_file_gives_every_part_of_a_benchmark(tmp_path: Path) -> None:
    bench = find_benchmark(written(tmp_path, WHOLE))
    assert (bench.name, bench.title, bench.metric) == ("my-bench", "My bench", "accuracy")
    assert (bench.seeds, bench.shots, bench.root, bench.shipped) == ((1, 2), (5,), tmp_path, False)
    promoters, other = bench.tasks
    assert (promoters.path, promoters.group, promoters.classes) == ("data/prom_text", "human", 3)
    assert (other.path, other.group, other.classes, other.rows) == ("other", "", None, {})
    assert bench.selected(None) == [promoters]
    assert bench.recipe_of(promoters) == Recipe(epochs=9, learning_rate=1e-3, max_steps=7)
    assert bench.recipe_of(other) == Recipe(epochs=9)


def test_a_file_that_says_nothing_else_has_the_defaults(tmp_path: Path) -> None:
    bench = find_benchmark(written(tmp_path, 'name = "mine"\n[[task]]\nname = "a"\n'))
    assert (bench.title, bench.metric, bench.seeds, bench.shots) == ("mine", "mcc", (42,), (None,))
    assert bench.recipe == Recipe()
    assert bench.recipe_by_shots == shipped("fewshot").recipe_by_shots


def test_a_tasks_recipe_holds_for_the_runs_that_its_benchmark_does_by_default(tmp_path: Path) -> None:
    drawn = find_benchmark(written(tmp_path, WHOLE))
    assert drawn.recipe_of(drawn.tasks[0], 5).learning_rate == 1e-3
    whole = find_benchmark(written(tmp_path, WHOLE.replace("shots = [5]", "")))
    assert whole.recipe_of(whole.tasks[0], 5) == no_benchmark().recipe_by_shots[0][1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('nam = "x"', "unknown key 'nam'; did you mean name?"),
        ('name = "x"', "has no task; needed a list of tables"),
        ("[[task]]\nname = 'a'", "has no name"),
        (WHOLE.replace("classes = 3", "classes = 1"), "task 1 (promoters): classes is 1; needed a whole number"),
        (WHOLE.replace("lr = 1e-3", "lrr = 1e-3"), "recipe: unknown key 'lrr'; did you mean lr?"),
        (WHOLE.replace("lr = 1e-3", "lr = '1e-3'"), "recipe: lr is '1e-3'; needed a number from 0"),
        (WHOLE.replace("epochs = 9", "epochs = true"), "recipe: epochs is True; needed a whole number from 1"),
        (WHOLE.replace("seeds = [1, 2]", "seeds = []"), "seeds is []; needed a list of whole numbers"),
        (WHOLE.replace("{ train = 10 }", "{ trian = 10 }"), "rows: unknown key 'trian'; did you mean train?"),
        (WHOLE.replace('"other"', '"Promoters"'), "task 2 (Promoters) is named like the task promoters"),
        (WHOLE.replace('"other"', '"a,b"'), "task 2 (a,b): name is 'a,b'; needed a text"),
        (WHOLE.replace('"my-bench"', '"GUE"'), "'GUE' is the name of a benchmark of this package"),
        (WHOLE + "[[recipe_by_shots]]\nup_to = 3\nrecipe = {}\n", "the last recipe_by_shots has an up_to"),
        ("name = [", "is not readable TOML"),
    ],
)  # fmt: skip
def test_errors_are_one_line_that_names_the_file_and_the_key(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as caught:
        find_benchmark(path)
    assert words in str(caught.value)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_are_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no benchmark is called 'guee'; did you mean gue\?"):
        find_benchmark("guee")
    with pytest.raises(InputError, match=r"nowhere\.toml does not exist"):
        find_benchmark(str(tmp_path / "nowhere.toml"))


def test_a_folders_subfolders_are_its_tasks(tmp_path: Path) -> None:
    for name in (
        "a/train.csv",
        "group/b/train.tsv",
        "shots/full-dataset/train.tsv",
        "notes/x.txt",
        ".c/train.csv",
    ):
        (tmp_path / "bench" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bench" / name).touch()
    bench = find_benchmark(str(tmp_path / "bench"))
    assert [task.name for task in bench.tasks] == ["a", "group/b", "shots"]
    assert (bench.name, bench.root) == ("bench", tmp_path / "bench")
    with pytest.raises(CmgemsError, match="has no task folders"):
        find_benchmark(str(tmp_path / "bench" / "notes"))
