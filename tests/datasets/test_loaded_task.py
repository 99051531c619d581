"""Paths to runs: which task and recipe a path means, what is read and drawn, what is refused."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli.artifacts import read_manifest
from cmgems_cli.bench.build import Finetuner
from cmgems_cli.datasets.benchmark import TaskDefinition
from cmgems_cli.datasets.benchmark_file import no_benchmark, shipped
from cmgems_cli.datasets.finetune_options import FinetuneOptions
from cmgems_cli.datasets.loaded_task import load_task
from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.datasets.task_files import TaskFiles, find_task
from cmgems_cli.errors import InputError, UsageError
from cmgems_cli.genome.tokenization import OverlappingKmers
from cmgems_cli.modeling.model_source import ModelSource
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.processes import start_processes
from tests.command_line import CommandLine, Result

TINY = ModelSource("tiny")
SIZES = {"train": 24, "dev": 8, "test": 10}


def table(path: Path, count: int, seed: int, *, bases: int = 30, separator: str = ",") -> None:
    """Write `count` random sequences, every second of class 1."""
    draw = random.Random(seed)
    lines = [f"sequence{separator}label"]
    lines += [f"{''.join(draw.choices('ACGT', k=bases))}{separator}{row % 2}" for row in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def gue(tmp_path: Path) -> Path:
    """A folder as GUE's mouse/0, with a few rows."""
    folder = tmp_path / "GUE" / "mouse" / "0"
    for seed, (split, count) in enumerate(SIZES.items()):
        table(folder / f"{split}.csv", count, seed)
    return folder


@pytest.fixture
def fewshot(tmp_path: Path) -> Path:
    """A few-shot file as Splice-40's for 10 shots: a pool of 12 rows a class, its test one folder up."""
    train = tmp_path / "fewshot" / "Splice-40" / "10" / "train_splice40_10.tsv"
    table(train, 24, 1, separator="\t")
    table(train.parents[1] / "test.tsv", 6, 2, separator="\t")
    return train


def test_one_file_of_a_folder_of_splits_means_the_folder(gue: Path, fewshot: Path) -> None:
    assert find_task(gue / "train.csv") == find_task(gue)
    assert find_task(gue / "train.csv", 5) != find_task(gue)
    assert find_task(fewshot).label == "splice-40-10"


def test_swapped_arguments_are_recognized(cmgems: CommandLine, gue: Path, tmp_path: Path) -> None:
    said = cmgems("finetune", gue, "tiny", code=2).error
    assert "they seem to be swapped; give MODEL first" in said
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    for command in ("predict", "embed", "explain"):
        assert "INPUT" in cmgems(command, gue / "test.csv", model, "-o", tmp_path / "x.npy", code=2).error
    swapped = cmgems("score-variants", gue / "test.csv", model, code=2).error
    assert "VARIANTS" in swapped
    assert "give MODEL first" in swapped


def opened(
    path: Path,
    shots: int | None = None,
    source: ModelSource = TINY,
    seed: int = 42,
    **settings: object,
) -> FinetuningRun:
    chosen = FinetuneOptions(**{"precision": "fp32", **settings})  # type: ignore[arg-type]
    finetuner = Finetuner(source, chosen, start_processes("cpu"))
    return finetuner.build_finetuning_run(find_task(path, shots), path / "out", seed)


# --- what a path means


def test_a_gue_folder_is_its_task(gue: Path) -> None:
    task = find_task(gue)
    assert (task.benchmark, task.definition) == (shipped("gue"), shipped("gue").task("mouse/0"))
    assert (task.name, task.label, task.shots, task.has_dev) == ("mouse/0", "mouse-0", None, True)
    assert {split: path.name for split, path in task.files.items()} == {
        "train": "train.csv",
        "dev": "dev.csv",
        "test": "test.csv",
    }


def test_a_few_shot_file_is_its_dataset_and_its_folder_the_shots(fewshot: Path) -> None:
    task = find_task(fewshot)
    assert (task.name, task.label, task.shots, task.has_dev) == ("splice-40", "splice-40-10", 10, False)
    assert find_task(fewshot, 5).label == "splice-40-5"


def test_data_of_no_known_task_go_by_their_names(tmp_path: Path) -> None:
    for split in SIZES:
        table(tmp_path / "enhancers" / f"{split}.csv", 4, 1)
    task = find_task(tmp_path / "enhancers")
    assert (task.benchmark, task.name) == (no_benchmark(), "enhancers")
    drawn = find_task(tmp_path / "enhancers", 2)
    assert (drawn.label, set(drawn.files)) == ("enhancers-2", {"pool", "test"})
    alone = find_task(tmp_path / "enhancers" / "train.csv")
    assert (alone.benchmark, alone.name, alone.shots) == (no_benchmark(), "enhancers", None)


def test_a_path_to_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist; needed a folder .*`cmgems fetch gue`"):
        find_task(tmp_path / "nowhere")
    table(tmp_path / "train.csv", 4, 1)
    with pytest.raises(InputError, match=r"no dev\.csv"):
        find_task(tmp_path)


# --- recipes


def test_a_known_task_is_trained_as_published(gue: Path) -> None:
    run = opened(gue)
    recipe = run.recipe
    assert (recipe.learning_rate, recipe.weight_decay, recipe.global_batch) == (3e-5, 0.01, 32)
    assert (run.warmup_steps, recipe.eval_every, recipe.selects) == (30, 200, "best")
    assert run.steps == 5  # 24 rows are one step an epoch
    assert run.params["bench"] == "gue"
    assert run.params["task"] == "mouse/0"


@pytest.mark.parametrize(("shots", "rate", "epochs"), [(10, 4e-4, 20), (12, 4e-4, 20)])
def test_few_shot_runs_keep_the_last_model(fewshot: Path, shots: int, rate: float, epochs: int) -> None:
    run = opened(fewshot, shots)
    recipe = run.recipe
    steps = epochs * -(-2 * shots // 5)
    assert (run.steps, run.warmup_steps) == (steps, steps // 10)
    assert (recipe.learning_rate, recipe.global_batch) == (rate, 5)
    assert (recipe.eval_every, recipe.selects) == (None, "last")
    assert run.module.model.dropout.p == 0.1
    assert run.task.dev is None


def test_the_few_shot_recipe_goes_by_the_number_of_shots(tmp_path: Path) -> None:
    paths = {"pool": tmp_path / "train.csv", "test": tmp_path / "test.csv"}
    for path in paths.values():
        table(path, 240, 1)
    task = TaskFiles(no_benchmark(), TaskDefinition("own", ""), paths, None)
    recipes = {
        shots: load_task(
            replace(task, shots=shots), {}, tokenization=OverlappingKmers(6), positions=512
        ).recipe
        for shots in (100, 101, None)
    }
    (_, few), (_, many) = no_benchmark().recipe_by_shots
    # All 240 rows are 120 per class.
    assert recipes == {100: few, 101: many, None: many}


def test_options_replace_the_published_values(gue: Path, fewshot: Path) -> None:
    recipe = Recipe().changed(FinetuneOptions(epochs=2, learning_rate=1e-4, eval_every=7).changes())
    assert (recipe.epochs, recipe.learning_rate, recipe.eval_every, recipe.global_batch) == (2, 1e-4, 7, 32)
    assert opened(gue, epochs=2).recipe.epochs == 2
    with pytest.raises(UsageError, match="`eval_every`: this run has no dev split"):
        opened(fewshot, eval_every=5)


def test_a_warm_up_as_long_as_the_run_is_refused_where_it_was_asked_for(gue: Path) -> None:
    with pytest.raises(UsageError, match="`warmup_steps=5` leaves nothing of 5 steps"):
        opened(gue, warmup_steps="5")


# --- rows


def test_shots_are_drawn_by_the_seed_in_equal_numbers(fewshot: Path) -> None:
    draws = [opened(fewshot, 10, seed=seed).task.train for seed in (1, 1, 2)]
    assert all(np.bincount(train.labels).tolist() == [10, 10] for train in draws)
    assert np.array_equal(draws[0].token_ids, draws[1].token_ids)
    assert not np.array_equal(draws[0].token_ids, draws[2].token_ids)


def test_notes_tell_of_row_counts_repeats_overlap_and_pools(gue: Path, fewshot: Path) -> None:
    lines = (gue / "train.csv").read_text().splitlines()
    (gue / "dev.csv").write_text("\n".join([*lines[:9], lines[1]]) + "\n")
    notes = opened(gue).task.notes
    assert "train has 24 rows, published are 6,478" in notes
    assert "dev rows that repeat an earlier sequence: 1" in notes
    assert "leakage, equal + near-duplicate rows: 9 + 0 of 9 dev rows in train" in notes
    assert "drawn from a pool of 12 rows per class" in opened(fewshot).task.notes


def test_too_long_sequences_are_refused_or_cut_with_a_note(gue: Path) -> None:
    table(gue / "test.csv", 10, 5, bases=200)
    with pytest.raises(InputError, match="10 of 10 sequences are longer than 108 tokens"):
        opened(gue)
    assert max(opened(gue, max_tokens=195).task.test.lengths()) == 197
    cut = opened(gue, truncate=True).task
    assert "test sequences cut to the longest input: 10" in cut.notes
    assert max(cut.test.lengths()) == 110


def test_more_tokens_than_the_model_has_positions_are_refused(gue: Path) -> None:
    with pytest.raises(UsageError, match="`max_tokens=511`: the model has 512 positions, 510 without"):
        opened(gue, max_tokens=511)


def test_inputs_are_the_files_and_the_model_folder(gue: Path, tmp_path: Path) -> None:
    assert set(opened(gue).inputs) == {"train", "dev", "test"}
    folder = tmp_path / "somewhere"
    folder.mkdir()
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 69, **shape}))
    run = opened(gue, source=ModelSource(str(folder), "random"))
    assert set(run.inputs) == {"train", "dev", "test", "model"}
    assert run.params["k"] == 3
    # No path is among what the digest is taken of.
    assert str(tmp_path) not in json.dumps([run.params, run.inputs])


# --- the command


@pytest.mark.parametrize(
    ("write", "words"),
    [
        ("sequence,label\nNNNNNNNNNN,0\nNNNNNNNNNN,1\n", "every token would be [UNK]"),
        ("sequence,label\nACGTACGTAC,0\nACGTACGTAC,0\n", "label '0' in every row"),
        ("sequence,class\nACGTACGTAC,0\n", "no column 'label'"),
    ],
)
def test_bad_data_are_one_line_and_exit_code_3(
    cmgems: CommandLine, gue: Path, tmp_path: Path, write: str, words: str
) -> None:
    (gue / "train.csv").write_text(write)
    done = cmgems("finetune", "tiny", str(gue), "--out", str(tmp_path / "out"), code=3)
    assert words in done.error
    assert not (tmp_path / "out").exists()


def test_an_unknown_model_is_exit_code_3(cmgems: CommandLine, gue: Path) -> None:
    done = cmgems("finetune", "hugebert", str(gue), code=3)
    assert "hugebert does not exist; needed a model's name (dnabert, logo, tiny)" in done.stderr


def test_a_dry_run_plans_and_writes_nothing(cmgems: CommandLine, gue: Path, tmp_path: Path) -> None:
    options = ["--dry-run", "--json", "--precision", "fp32", "--out", str(tmp_path / "out")]
    done = cmgems("finetune", "tiny", str(gue), *options)
    plan = done.json["plan"]
    assert (plan["n_train"], plan["n_dev"], plan["n_test"], plan["steps"]) == (24, 8, 10, 5)
    assert "within the recipe's warm-up of 30" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_command_writes_a_classifier_into_the_workspace(
    cmgems: CommandLine, gue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path / "ws"))
    done = cmgems("finetune", "tiny", str(gue), "--max-steps", "2", "--precision", "fp32", "--quiet")
    manifest = read_manifest(tmp_path / "ws" / "finetuned" / "tiny-mouse-0", "classifier", verify=True)
    accuracy = f"{manifest.stats['accuracy']:.3f}"
    for words in ("test MCC × 100", "test accuracy", accuracy, "24, 8, 10", "published are 6,478"):
        assert words in done.stdout, words
    again = cmgems("finetune", "tiny", str(gue), "--max-steps", "2", "--precision", "fp32", "--json")
    assert again.json["digest"] == manifest.digest
    assert "nothing to do" in again.stderr
    other = cmgems("finetune", "tiny", str(gue), "--max-steps", "3", "--json", code=4)
    assert other.stdout == ""
    assert "was made with max_steps = 2, this command has 3; add --overwrite" in other.stderr


# --- data that are most likely a mistake, through the command


def rewrite(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *change(lines[1:])]) + "\n")


def plan(cmgems: CommandLine, folder: Path, *options: str, code: int = 0) -> Result:
    return cmgems(
        "finetune",
        "tiny",
        folder,
        "--dry-run",
        "--precision",
        "fp32",
        "--out",
        folder / "out",
        *options,
        code=code,
    )


def test_f4_rna_is_refused_by_finetune(cmgems: CommandLine, gue: Path) -> None:
    rewrite(gue / "train.csv", lambda rows: [row.replace("T", "U") for row in rows])
    assert "train.csv has the letter U" in plan(cmgems, gue, code=3).error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [*rows[:4], "sequence,label", *rows[4:]], "line 6 repeats the header"),
        (lambda rows: [*rows[:4], "ACGTACGTAC,NaN", *rows[4:]], "line 6 has the label 'NaN'"),
        (lambda rows: [*rows[:4], "ACGTACGTAC,", *rows[4:]], "line 6 has no label"),
    ],
)
def test_f5_headers_and_missing_labels_are_refused_by_finetune(
    cmgems: CommandLine, gue: Path, change: Callable[[list[str]], list[str]], words: str
) -> None:
    for split in ("train", "test"):
        before = (gue / f"{split}.csv").read_text()
        rewrite(gue / f"{split}.csv", change)
        assert words in plan(cmgems, gue, code=3).error
        (gue / f"{split}.csv").write_text(before)


def test_f5_equal_spellings_are_warned_of_by_finetune(cmgems: CommandLine, gue: Path) -> None:
    rewrite(gue / "train.csv", lambda rows: [*rows, "ACGTACGTAC,1.0"])
    done = cmgems("finetune", "tiny", gue, "--max-steps", "1", "--precision", "fp32", "--out", gue / "out")
    warning = "labels that say the same and are classes of their own: 1, 1.0"
    assert f"warning: {warning}" in done.stderr
    assert warning in " ".join(done.stdout.split())


def test_f6_s11_a_test_split_of_one_class_is_named_everywhere(cmgems: CommandLine, gue: Path) -> None:
    rewrite(gue / "test.csv", lambda rows: [row for row in rows if row.endswith(",1")])
    words = "test has one class only, '1', in its 5 row(s)"
    options = ("--max-steps", "1", "--precision", "fp32", "--out")
    done = cmgems("finetune", "tiny", gue, *options, gue / "out")
    assert words in done.stderr
    assert words in " ".join(done.stdout.split())
    assert words in (gue / "out" / "README.md").read_text()
    manifest = read_manifest(gue / "out", "classifier")
    assert any(note.startswith(words) for note in manifest.stats["notes"])
    assert ("too few steps, or --lr" in done.stdout) == (manifest.stats["accuracy"] == 0)
    cmgems("finetune", "tiny", gue, *options, gue / "out")


@pytest.mark.parametrize("letters", [131_073, 200_000])
def test_f7_long_fields_are_truncated_on_demand(cmgems: CommandLine, tmp_path: Path, letters: int) -> None:
    for seed, (split, count) in enumerate(SIZES.items()):
        table(tmp_path / f"{split}.csv", count // 4, seed, bases=letters)
    assert "--truncate" in plan(cmgems, tmp_path, code=3).error
    assert plan(cmgems, tmp_path, "--truncate", "--json").json["plan"]["n_train"] == 6


@pytest.mark.parametrize("name", ["4/train.tsv", "test.tsv", "manifest.json"])
@pytest.mark.parametrize("change", ["a letter", "a label", "a row less"])
def test_s13_a_fewshot_set_that_differs_from_its_manifest_is_refused(
    cmgems: CommandLine, tmp_path: Path, name: str, change: str
) -> None:
    draw = random.Random(5)
    records = (f">{number}\n{''.join(draw.choices('ACGT', k=60))}\n" for number in range(40))
    (tmp_path / "x.fa").write_text("".join(records))
    cmgems("build-fewshot", tmp_path / "x.fa", "--shots", "4", "--out", tmp_path / "set", "--quiet")
    data = tmp_path / "set" / "4" / "train.tsv"
    assert cmgems("finetune", "tiny", data, "--dry-run", "--out", tmp_path / "out").code == 0
    path = tmp_path / "set" / name
    text = path.read_text()
    if name == "manifest.json":
        place = text.index('"sha256": "') + {"a letter": 20, "a label": 30, "a row less": 40}[change]
        path.write_text(text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :])
    elif change == "a letter":  # the first one, which no other k-mer shares
        place = text.index("\n") + 1 + text.splitlines()[1].startswith('"')
        path.write_text(text[:place] + ("A" if text[place] != "A" else "C") + text[place + 1 :])
    elif change == "a label":
        last = text.rstrip()[-1]
        path.write_text(text.rstrip()[:-1] + {"0": "1", "1": "0"}.get(last, last) + "\n")
    else:
        path.write_text("\n".join(text.splitlines()[:-1]) + "\n")
    error = cmgems("finetune", "tiny", data, "--dry-run", "--out", tmp_path / "out", code=3).error
    assert "manifest" in error
    assert "make it again with `cmgems build-fewshot`" in error
