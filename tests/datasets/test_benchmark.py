from pathlib import Path

import pytest

from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.errors import UsageError
from cmgems_cli.fewshot_builder.building import SHOTS

GUE, FEWSHOT = shipped("gue"), shipped("fewshot")


def test_28_tasks_of_which_the_paper_has_27():
    assert len(GUE.tasks) == 28
    names = [task.name for task in GUE.selected(None)]
    assert len(names) == 27
    assert {task.name for task in GUE.tasks} - set(names) == {"virus/covid"}


def test_species_of_the_paper():
    groups = [task.group == "human" for task in GUE.selected(None)]
    assert (groups.count(True), groups.count(False)) == (12, 15)
    species = [task.group for task in GUE.tasks]
    assert {name: species.count(name) for name in set(species)} == {
        "human": 12,
        "yeast": 10,
        "mouse": 5,
        "virus": 1,
    }


def test_what_all_recipes_of_gue_share():
    # What they do not share is compared with the table of docs/method.md in test_method_page.
    for task in GUE.tasks:
        recipe = GUE.recipe_of(task)
        assert (recipe.learning_rate, recipe.weight_decay, recipe.global_batch) == (3e-5, 0.01, 32)
        assert recipe.selects == "best"


def test_classes():
    assert {task.name: task.classes for task in GUE.tasks if task.classes != 2} == {
        "splice/reconstructed": 3,
        "virus/covid": 9,
    }
    assert {task.name: task.classes for task in FEWSHOT.tasks if task.classes != 2} == {"splice-40": 3}


def test_published_rows_only_where_they_are_known():
    assert GUE.task("tf/0").rows == {"train": 32378, "dev": 1000, "test": 1000}
    assert sorted(task.name for task in GUE.tasks if task.rows) == [
        "EMP/H3",
        "mouse/0",
        "prom/prom_core_all",
        "splice/reconstructed",
        "tf/0",
    ]
    assert FEWSHOT.task("sil-300").rows == {"train": 14909, "test": 1657}


def test_steps_of_a_recipe():
    # tf/0: 32,378 rows in batches of 32 are 1,012 steps an epoch, three of them.
    tf = GUE.recipe_of(GUE.task("tf/0"))
    assert (tf.total_steps(32378), tf.warmup(3036)) == (3036, 30)
    # mouse/1's rows would make more than 1,000 steps of five epochs.
    assert GUE.recipe_of(GUE.task("mouse/1")).total_steps(53952) == 1000
    few = FEWSHOT.recipe_of(FEWSHOT.task("prom-core"), 10)
    assert (few.total_steps(20), few.warmup(80)) == (80, 8)


@pytest.mark.parametrize("shots", SHOTS)
def test_few_shot_recipes(shots):
    recipe = FEWSHOT.recipe_of(FEWSHOT.task("splice-40"), shots)
    assert (recipe.epochs, recipe.learning_rate) == ((20, 4e-4) if shots <= 100 else (5, 5e-5))
    assert (recipe.global_batch, recipe.dropout, recipe.warmup_steps, recipe.weight_decay) == (
        5,
        0.1,
        "10%",
        0.01,
    )
    assert (recipe.selects, recipe.eval_every) == ("last", None)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("tf/0", "tf/0"),
        ("prom_core_tata", "prom/prom_core_tata"),
        (" emp/h3k4ME1 ", "EMP/H3K4me1"),
        ("H4", "EMP/H4"),
        ("splice", "splice/reconstructed"),
        ("covid", "virus/covid"),
    ],
)
def test_short_names_and_other_cases_find_their_task(name, full):
    assert GUE.task(name).name == full


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("0", "could be tf/0, mouse/0"),
        ("tf", "could be tf/0, tf/1"),
        ("prom_core_tat", "prom/prom_core_tata"),
        ("H3K4me9", "EMP/H3K4me1"),
        ("mouse/7", "mouse/0"),
        ("xyzzy", "known are: EMP/H3, "),
    ],
)
def test_unknown_and_ambiguous_names_are_refused_with_what_is_close(name, words):
    with pytest.raises(UsageError, match=words):
        GUE.task(name)


def test_lists_of_names():
    assert [task.name for task in GUE.selected("mouse/0, tf/0,mouse/0,")] == ["mouse/0", "tf/0"]
    assert [task.name for task in FEWSHOT.selected("Splice_40,prom-core")] == ["splice-40", "prom-core"]
    with pytest.raises(UsageError, match="names no task"):
        GUE.selected(" , ")


def test_few_shot_names():
    assert FEWSHOT.task("Prom-Core").name == "prom-core"
    with pytest.raises(UsageError, match="close are: prom-300"):
        FEWSHOT.task("prom-200")


def test_a_folder_is_known_by_the_end_of_its_path(tmp_path, monkeypatch):
    assert GUE.task_at(tmp_path / "GUE" / "emp" / "H3").name == "EMP/H3"
    assert GUE.task_at(Path("somewhere/else")) is None
    for place in ("Prom_core", "Prom-core/10/train.tsv", "prom-core/full-dataset/train.tsv"):
        assert FEWSHOT.task_at(tmp_path / place).name == "prom-core"
    assert FEWSHOT.task_at(tmp_path / "prom-core" / "mine" / "train.tsv") is None
    # A relative path of one part is completed before it is compared.
    (tmp_path / "tf").mkdir()
    monkeypatch.chdir(tmp_path / "tf")
    assert GUE.task_at(Path("3")).name == "tf/3"


def test_folders_of_ones_own_are_tasks_under_their_names():
    assert [task.name for task in FEWSHOT.selected("Mine,sil-300", ["mine", "SIL_300"])] == [
        "mine",
        "sil-300",
    ]
    with pytest.raises(UsageError, match=r"'\.\./data/prom_text' is not a task of Few-shot"):
        FEWSHOT.selected("../data/prom_text", ["mine"])
