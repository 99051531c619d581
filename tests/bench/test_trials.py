"""Several values of options: what is tried, chosen, recorded and resumed."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cmgems_cli
import cmgems_cli.errors
from cmgems_cli.artifacts import read_manifest
from cmgems_cli.datasets.finetune_options import FinetuneOptions, from_recipe, recipe_checks
from cmgems_cli.datasets.recipe import Recipe
from cmgems_cli.errors import DivergedError, Interrupted
from cmgems_cli.metrics import score
from cmgems_cli.training import trials as trials_module
from cmgems_cli.training.classifier_run import finetune
from cmgems_cli.training.event_files import EventFiles
from cmgems_cli.training.finetune_run import FinetuningRun
from cmgems_cli.training.metrics_log import METRICS, read_metrics
from cmgems_cli.training.trials import ChosenRun, drawn_combinations
from tests.bench.conftest import small_runs
from tests.bench.test_ways import train
from tests.command_line import CommandLine
from tests.training.conftest import StopAfter
from tests.training.test_event_files import scalars

MakeRun = Callable[..., FinetuningRun]
GRID: dict[str, Any] = {
    "rc": ("none", "both"),
    "class_weights": ("balanced", "none"),
}
VALUES = [{"rc": rc, "class_weights": weights} for rc in GRID["rc"] for weights in GRID["class_weights"]]


@pytest.fixture(scope="module")
def chosen(
    labelled: Path,
    small_bert: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A finished run of four combinations, whose metrics TensorBoard gets too."""
    folder, observer = tmp_path_factory.mktemp("chosen"), StopAfter()
    if find_spec("tensorboard"):
        observer.events = EventFiles(folder / "tensorboard")
    return train(small_runs(labelled, small_bert, folder)(**GRID), observer=observer)


# --- what is tried


def test_combinations_are_all_or_as_many_as_the_seed_draws() -> None:
    recipe = Recipe().changed({**GRID, "dropout": 0.1})
    found = drawn_combinations(recipe, 1)
    assert [{name: getattr(one, name) for name in GRID} for one in found] == VALUES
    assert {one.dropout for one in found} == {0.1}
    assert not any(one.choices for one in found)
    drawn = [drawn_combinations(recipe.changed({"trials": 2}), seed) for seed in range(20)]
    assert all(
        len(one) == 2 and [found.index(each) for each in one] == sorted(map(found.index, one))
        for one in drawn
    )
    assert len({tuple(map(found.index, one)) for one in drawn}) > 4
    assert drawn_combinations(recipe.changed({"trials": 2}), 4) == drawn[4]
    assert drawn_combinations(recipe.changed({"trials": 4}), 4) == [*found]
    # One value instead of several, as an option replaces a recipe's.
    assert len(drawn_combinations(recipe.changed({"rc": "augment"}), 1)) == 2


def test_a_recipe_of_a_file_may_list_values() -> None:
    assert from_recipe({"lr": [3e-5, 3e-4, 3e-5], "rc": ["none"]}) == FinetuneOptions(
        learning_rate=(3e-5, 3e-4), rc="none"
    )
    words, fits = recipe_checks()["rc"]
    assert words == "one of none, augment, average, both, or a list of these"
    assert fits(["none", "both"])
    assert not fits(["none", "some"])
    assert not fits([])
    assert not recipe_checks()["epochs"][1]([1, 2])


# --- what is chosen


def test_the_best_on_dev_is_what_a_run_with_its_values_alone_is(
    chosen: Path,
    make_small_run: MakeRun,
    tmp_path: Path,
) -> None:
    manifest = read_manifest(chosen, "classifier", verify=True)
    trials = manifest.stats["trials"]
    assert [{name: trial[name] for name in GRID} for trial in trials] == VALUES
    best = max(range(4), key=lambda at: (trials[at]["dev_mcc"], -trials[at]["dev_loss"], -at))
    values = VALUES[best]
    assert manifest.stats["chosen"] == values
    assert {name: manifest.params[name] for name in GRID} == values
    assert manifest.params["choices"] == {name: list(known) for name, known in GRID.items()}
    alone = train(make_small_run("alone", **values))
    for name in ("model.safetensors", "predictions.csv", "metrics.jsonl", "config.json"):
        assert (alone / name).read_bytes() == (chosen / name).read_bytes(), name
    stats = read_manifest(alone).stats
    of_choice = {"chosen", "trials", "notes"}
    assert {name: value for name, value in manifest.stats.items() if name not in of_choice} == {
        name: value for name, value in stats.items() if name not in of_choice
    }
    assert manifest.stats["notes"][0].startswith("chosen on dev from 4 trials: rc ")
    assert not (chosen / "checkpoints").exists()
    # Its dev score is that of the classifier in the folder.
    run = make_small_run("again", **values)
    assert run.task.dev is not None
    texts = [line.split(",") for line in (run.task.tables["dev"].path).read_text().splitlines()[1:]]
    found = cmgems_cli.predict(cmgems_cli.load_model(chosen, device="cpu"), [text for text, _ in texts])
    dev = score(np.array([int(label) for _, label in texts]), found.probabilities)
    assert trials[best]["dev_mcc"] == pytest.approx(dev["mcc"])


def test_each_trial_has_event_files_of_its_own(chosen: Path) -> None:
    names = [f"trial_{number:03d}" for number in range(len(VALUES))]
    found = {name: scalars(chosen.parent / "tensorboard" / name) for name in names}
    records = read_metrics(chosen / METRICS)
    kept = {record["step"]: float(np.float32(record["loss"])) for record in records}
    assert kept in [dict(one["loss"]) for one in found.values()]
    assert all([step for step, _ in one["loss"]] == list(kept) for one in found.values())
    assert sorted(path.name for path in (chosen.parent / "tensorboard").iterdir()) == names


def test_test_labels_of_losing_trials_are_never_read(
    make_small_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_small_run(learning_rate=(1e-2, 1e-3), max_steps=2)
    applied: list[tuple[str, str]] = []
    plain = FinetuningRun.applied_to

    def applied_to(self: FinetuningRun, data: Any, where: str) -> Any:
        applied.append((self.out.name, where))
        return plain(self, data, where)

    monkeypatch.setattr(FinetuningRun, "applied_to", applied_to)
    out = train(run)
    rates = [trial["learning_rate"] for trial in read_manifest(out).stats["trials"]]
    best = rates.index(read_manifest(out).stats["chosen"]["learning_rate"])
    assert applied == [
        ("trial_000", "the dev split"),
        ("trial_001", "the dev split"),
        (f"trial_00{best}", "the test split"),
    ]


def test_of_equal_scores_the_lowest_loss_wins_and_then_the_first(make_small_run: MakeRun) -> None:
    run = make_small_run(learning_rate=(1e-2, 1e-3))
    assert isinstance(run, ChosenRun)

    def best(*scores: tuple[float, float] | None) -> int | None:
        run._stats_of = [
            {"diverged": "…"} if one is None else {"dev": {"mcc": one[0], "loss": one[1]}} for one in scores
        ]
        return run._best()

    assert best((0.1, 0.1), (0.2, 9.0)) == 1
    assert best((0.2, 0.5), (0.2, 0.4)) == 1
    assert best((0.2, 0.4), (0.2, 0.4)) == 0
    assert best(None, (-0.2, 0.4)) == 1
    assert best(None, None) is None


def test_a_trial_that_diverges_loses_and_all_of_them_fail(make_small_run: MakeRun) -> None:
    out = train(make_small_run(learning_rate=(1e30, 1e-2)))
    trials = read_manifest(out).stats["trials"]
    assert trials[0] == {"learning_rate": 1e30, "diverged": True}
    assert read_manifest(out).params["learning_rate"] == 1e-2
    with pytest.raises(DivergedError, match="all 2 trials diverged, the first: the "):
        train(make_small_run("worse", learning_rate=(1e30, 2e30)))


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "null", '{"diverged": "x"}', '{"diverged": 3, "sha256": "x"}']
)
def test_s2_a_damaged_record_of_a_trial_that_diverged_repeats_the_trial(
    make_small_run: MakeRun, content: str
) -> None:
    grid = {"learning_rate": (1e30, 1e-2)}
    with pytest.raises(Interrupted):
        train(make_small_run(**grid), observer=StopAfter(8))
    run = make_small_run(**grid)
    (record,) = run.out.rglob("trial_000.json")
    kept = record.read_text()
    record.write_text(content)
    out = train(run)
    assert read_manifest(out).stats["trials"][0] == {"learning_rate": 1e30, "diverged": True}
    assert kept != content


# --- stopping and going on


@pytest.mark.parametrize("stop", [5, 15])
def test_an_interrupted_choice_resumes_to_the_same_bytes_and_repeats_no_trial(
    make_small_run: MakeRun,
    chosen: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    with pytest.raises(Interrupted, match="the same command resumes"):
        train(make_small_run(**GRID), observer=StopAfter(stop))
    steps: list[int] = []

    class Steps(StopAfter):
        def stepped(self, record: dict[str, Any], n_tokens: int) -> None:
            steps.append(record["step"])

    out = train(make_small_run(**GRID), observer=Steps())
    assert steps == list(range(stop + 1, 25))
    assert read_manifest(out).digest == read_manifest(chosen).digest


def test_a_finished_choice_is_not_repeated_and_another_grid_is_refused(
    make_small_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = train(make_small_run(learning_rate=(1e-2, 1e-3), max_steps=2))
    before = (out / "manifest.json").read_bytes()
    monkeypatch.setattr(trials_module.TrialRun, "complete", None)
    train(make_small_run(learning_rate=(1e-2, 1e-3), max_steps=2))
    assert (out / "manifest.json").read_bytes() == before
    with pytest.raises(cmgems_cli.errors.OverwriteError, match="was made with choices = "):
        finetune(make_small_run(learning_rate=(1e-2, 1e-4), max_steps=2), score, resume=True, overwrite=False)


def test_weights_that_were_damaged_are_made_again(
    make_small_run: MakeRun,
    chosen: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = ChosenRun.outcome

    def outcome(self: ChosenRun) -> Any:
        best = self._best()
        assert best is not None
        kept = [path.name for path in (self.folder / "checkpoints").glob("*.safetensors")]
        assert kept == [f"trial_{best:03d}.safetensors"]
        self._trial(best).weights_file.write_bytes(b"damaged")
        return plain(self)

    monkeypatch.setattr(ChosenRun, "outcome", outcome)
    assert read_manifest(train(make_small_run(**GRID))).digest == read_manifest(chosen).digest


# --- the commands


def test_evaluate_names_values_and_budget_and_knows_its_runs_again(
    cmgems: CommandLine,
    labelled: Path,
    small_bert: Path,
    tmp_path: Path,
) -> None:
    bench = labelled.parent / "tried.toml"
    bench.write_text('name = "tried"\n[recipe]\nlr = [1e-2, 1e-3]\n[[task]]\nname = "task"\n')
    out = tmp_path / "scores"
    words = ["--init", "random", "--bench", bench, "--max-steps", "1", "--device", "cpu", "--jobs", "1"]
    evaluate = cmgems.of("evaluate", small_bert, *words, "--no-kmer-linear", "--out", out)
    grid = ["--rc", "none,augment", "--trials", "3"]
    plan = evaluate(*grid, "--dry-run", "--json")
    assert plan.json["plan"]["trials_per_run"] == 3
    evaluate(*grid)
    report = (out / "report.md").read_text()
    assert "rc none or augment, chosen on dev from 2 trials." in report
    run = read_manifest(out / "runs" / "task-seed-42")
    assert len(run.stats["trials"]) == 3
    assert read_manifest(out).params["rc"] == ["none", "augment"]
    assert "task: chosen on dev from 3 trials: learning_rate" in report
    table = report.split("## Trials, of which the best on dev was tested")[1].split("\n## ")[0]
    assert "| run | learning rate | rc | dev MCC × 100 | dev loss | chosen |" in table
    shown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()[2:]]
    assert [row[-1] for row in shown].count("yes") == 1
    for row, trial in zip(shown, run.stats["trials"], strict=True):
        chosen = {name: trial[name] for name in ("learning_rate", "rc")} == run.stats["chosen"]
        assert row[-1] == ("yes" if chosen else "no")
        assert row[1:5] == [
            f"{trial['learning_rate']:g}",
            trial["rc"],
            f"{100 * trial['dev_mcc']:.2f}",
            f"{trial['dev_loss']:.4f}",
        ]
    assert "1 done before" in evaluate(*grid).stderr
    assert "was made with" in evaluate("--rc", "augment", code=4).error
    baseline = tmp_path / "baseline"
    evaluate(*grid, "--out", baseline)
    evaluate(*grid, "--baseline", baseline, "--overwrite")
    assert "same recipe" not in (out / "report.md").read_text()


def test_values_are_separated_by_commas_and_checked(
    cmgems: CommandLine, labelled: Path, tmp_path: Path
) -> None:
    words = ["finetune", "tiny", labelled, "--device", "cpu", "--out", tmp_path / "out"]
    plan = cmgems(*words, "--lr", "1e-4, 3e-4", "--pool", "cls,mean", "--dry-run", "--json").json["plan"]
    assert (plan["trials"], plan["learning_rate"]) == (4, [1e-4, 3e-4])
    assert "'x' is not a number from 0" in cmgems(*words, "--lr", "1e-4,x", code=2).error
    assert "'some' is not one of cls, mean, max" in cmgems(*words, "--pool", "cls,some", code=2).error
    config = tmp_path / "c.toml"
    config.write_text("[finetune]\nlr = [1e-4, 2e-4, 3e-4]\n")
    plan = cmgems(*words, "--config", config, "--dry-run", "--json").json["plan"]
    assert plan["trials"] == 3
    (tmp_path / "few").mkdir()
    rows = [line.replace(",", "\t") for line in (labelled / "train.csv").read_text().splitlines()]
    for name in ("train", "test"):
        (tmp_path / "few" / f"{name}.tsv").write_text("\n".join(rows) + "\n")
    few = cmgems("finetune", "tiny", tmp_path / "few", "--shots", "3", "--lr", "1e-4,3e-4", code=2)
    assert "--lr 0.0001,0.0003: this run has no dev split to choose on; give one value" in few.error
