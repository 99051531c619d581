"""The results of docs/evidence.md follow from the scores that are committed."""

import csv
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from scipy import stats

REPOSITORY = Path(__file__).resolve().parents[1]
EVIDENCE = REPOSITORY / "examples" / "evidence"


@pytest.fixture(scope="module", autouse=True)
def workflow() -> Iterator[None]:
    """The folder of the workflow's own modules."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(EVIDENCE)
        yield


@pytest.fixture(scope="module")
def page() -> ModuleType:
    return importlib.import_module("page")


@pytest.fixture(scope="module")
def scores() -> ModuleType:
    return importlib.import_module("study_scores")


@pytest.fixture(scope="module")
def differences() -> ModuleType:
    return importlib.import_module("study_differences")


def test_the_page_is_made_from_the_committed_scores(page: ModuleType) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.page(page.RESULTS, text) == text


def test_the_numbers_said_in_words_are_in_the_tables(page: ModuleType) -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    said = text.partition("## What it says\n")[2].partition(page.HEADING)[0]
    lines = text.partition(page.HEADING)[2].splitlines()
    cells = " ".join(line for line in lines if line.startswith("|"))
    printed = {f"{float(number):.1f}" for number in re.findall(r"\d+\.\d+", cells)}
    words = re.findall(r"(?<![\d.])\d+\.\d(?![\d.])", said)
    assert len(words) > 20
    assert [number for number in words if number not in printed] == []


def test_the_verdict_of_the_readme_is_made_from_the_committed_scores(page: ModuleType) -> None:
    text = page.README.read_text(encoding="utf-8")
    assert page.readme(page.RESULTS, text) == text
    assert len(text.partition(page.BEGIN)[2].partition(page.END)[0]) > 200


def write_scores(folder: Path, name: str, values: dict[tuple[str, str, int], float], metric: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"tiny-{name}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["bench", "task", "shots", "seed", "metric", "value", "note"])
        writer.writerows(
            ["x", task, shots, seed, metric, value, ""] for (task, shots, seed), value in values.items()
        )


# Accuracies of five draws; the second arm has two models.
DRAWS = (42, 43, 44, 45, 46)
WEIGHTS = (0.60, 0.58, 0.63, 0.55, 0.61)
MODELS = {1: (0.66, 0.64, 0.70, 0.60, 0.69), 2: (0.64, 0.66, 0.66, 0.64, 0.67)}


def few_shot_results(folder: Path) -> Path:
    block = folder / "fewshot"
    rows = {("prom-core", "10", draw): value for draw, value in zip(DRAWS, WEIGHTS, strict=True)}
    write_scores(block, "random-weights-s1", rows, "accuracy")
    for seed, values in MODELS.items():
        rows = {("prom-core", "10", draw): value for draw, value in zip(DRAWS, values, strict=True)}
        write_scores(block, f"random-s{seed}", rows, "accuracy")
    return folder


def test_two_arms_are_compared_over_draws(
    scores: ModuleType, differences: ModuleType, tmp_path: Path
) -> None:
    arms = scores.values_of(few_shot_results(tmp_path), "fewshot")
    (found,) = differences.few_shot(arms["random-weights"], arms["random"])
    means = [100 * (a + b) / 2 for a, b in zip(*MODELS.values(), strict=True)]
    weights = [100 * value for value in WEIGHTS]
    test = stats.ttest_rel(means, weights)
    interval = test.confidence_interval(0.95)
    assert (found.n, found.signs) == (5, "++")
    assert found.mean == pytest.approx(sum(means) / 5 - sum(weights) / 5)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.verdict(found.p) == "yes"


def test_a_pretrained_arm_with_fewer_than_three_seeds_gets_no_yes(
    page: ModuleType, scores: ModuleType, tmp_path: Path
) -> None:
    for seeds, answer in (({}, "undecided"), ({3: MODELS[1]}, "yes")):
        block = few_shot_results(tmp_path) / "fewshot"
        for seed, values in seeds.items():
            rows = {("prom-core", "10", draw): value for draw, value in zip(DRAWS, values, strict=True)}
            write_scores(block, f"random-s{seed}", rows, "accuracy")
        arms = scores.values_of(tmp_path, "fewshot")
        ((difference, found),) = page.answers("fewshot", arms, "random-weights", "random")
        assert difference.p < 0.05
        assert found == answer


def test_a_cell_is_compared_over_seeds_by_welchs_test(differences: ModuleType) -> None:
    first, second = {1: 50.0, 2: 53.0, 3: 51.0}, {1: 58.0, 2: 66.0, 3: 59.0}
    found = differences.welch("x", first, second)
    test = stats.ttest_ind(list(second.values()), list(first.values()), equal_var=False)
    interval = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.mean, found.signs) == (pytest.approx(29 / 3), "+++")
    assert differences.welch("x", {1: 0.0, 2: 0.0}, {1: 0.0, 2: 0.0}).p == 1.0


TASKS = ("mouse/0", "mouse/2", "prom/prom_core_tata", "tf/2")


def write_trials(folder: Path, name: str, values: dict[tuple[str, int], tuple[float, float, float]]) -> None:
    """Write chosen trials: test MCC, dev MCC and dev loss by task and seed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"tiny-{name}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        columns = [
            "bench",
            "task",
            "shots",
            "seed",
            "metric",
            "value",
            "note",
            "chosen",
            "dev_mcc",
            "dev_loss",
        ]
        writer.writerow(columns)
        writer.writerows(
            ["gue", task, "", seed, "mcc", value, "", "learning_rate 0.001", dev, loss]
            for (task, seed), (value, dev, loss) in values.items()
        )


def test_the_best_trial_of_several_blocks_is_chosen_on_dev(scores: ModuleType, tmp_path: Path) -> None:
    """By MCC, then by loss, and never by the test; runs that one of the blocks lacks are left out."""
    plain = {
        ("a", 1): (0.9, 0.5, 0.6),
        ("b", 1): (0.9, 0.5, 0.6),
        ("c", 1): (0.1, 0.5, 0.6),
        ("d", 1): (1, 1, 1),
    }
    strands = {("a", 1): (0.2, 0.6, 0.7), ("b", 1): (0.2, 0.5, 0.5), ("c", 1): (0.9, 0.4, 0.1)}
    write_trials(tmp_path / "why-plain", "random-s1", plain)
    write_trials(tmp_path / "why-rc", "random-s1", strands)
    found = scores.chosen_rows(tmp_path, ["why-plain", "why-rc"])
    assert {run.cell.task: (row["value"], row["chosen"]) for run, row in found.items()} == {
        "a": ("0.2", "learning_rate 0.001, rc"),
        "b": ("0.2", "learning_rate 0.001, rc"),
        "c": ("0.1", "learning_rate 0.001"),
    }
    assert scores.by_arm(found)["random"][scores.Cell("a", "")] == {1: {1: 20.0}}


@pytest.mark.parametrize(("worst", "answer"), [(0.62, "yes"), (0.52, "no"), (0.58, "no")])
def test_a_change_is_confirmed_if_it_holds_on_all_four_tasks(
    page: ModuleType, scores: ModuleType, tmp_path: Path, worst: float, answer: str
) -> None:
    """With it random weights have 58 everywhere and pretrained ones 62, on tf/2 62, 52 or as little as without it."""

    def of(level: float, last: float) -> dict[tuple[str, int], tuple[float, float, float]]:
        return {
            (task, seed): ((last if task == "tf/2" else level) + seed / 1000, 0.5, 0.5)
            for task in TASKS
            for seed in (1, 2, 3)
        }

    for block, weights, pretrained in (
        ("why-plain", 0.58, of(0.5, 0.58)),
        ("why-mean", 0.58, of(0.62, worst)),
    ):
        for seed in (1, 2, 3):
            for arm, values in (("random-weights", of(weights, weights)), ("random", pretrained)):
                rows = {key: value for key, value in values.items() if key[1] == seed}
                write_trials(tmp_path / block, f"{arm}-s{seed}", rows)
    blocks = {block: scores.values_of(tmp_path, block) for block in (page.PLAIN, *page.CHANGES)}
    lines = page.interventions(blocks).splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    assert [row[2] for row in cells] == [*TASKS, *TASKS]
    assert cells[0][:6] == ["rate chosen on dev", "random", "mouse/0", "58.2", "50.2", "-8.0"]
    assert cells[4][:6] == ["+ mean", "random", "mouse/0", "58.2", "62.2", "+4.0"]
    assert cells[4][8] == "+12.0"
    assert [row[9] if len(row) > 9 else "" for row in cells] == ["", "", "", "–", "", "", "", answer]


def test_the_smallest_difference_that_would_be_found_is_found_four_times_in_five(
    differences: ModuleType,
) -> None:
    """Draws of the difference with that mean and the measured spread: the two-sided test finds 80 % of them."""
    n = 10
    first = [0.0] * n
    second = [float(value) for value in stats.norm.ppf([(i + 0.5) / n for i in range(n)])]
    found = differences.paired("x", first, second, "+")
    spread = stats.tstd(second)
    trials = stats.norm.rvs(found.detectable, spread, size=(4000, n), random_state=1)
    power = float((stats.ttest_1samp(trials, 0, axis=1).pvalue < 0.05).mean())
    assert power == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize(
    ("mean", "high", "adjusted", "signs", "answer"),
    [
        (2.0, 3.0, 0.01, "+++", "yes"),
        (2.0, 3.0, 0.01, "++-", "undecided"),
        (2.0, 3.0, 0.06, "+++", "undecided"),
        (0.1, 0.9, 0.5, "+-+", "no"),
        (-2.0, -1.0, 0.01, "---", "worse"),
        (-2.0, 0.5, 0.2, "---", "no"),
    ],
)
def test_the_answer_follows_the_protocol(
    differences: ModuleType, mean: float, high: float, adjusted: float, signs: str, answer: str
) -> None:
    assert (
        differences.Difference("x", 10, mean, mean - 1, high, adjusted, 1.0, signs).verdict(adjusted)
        == answer
    )


def test_several_tasks_are_compared_by_their_means_over_seeds(
    scores: ModuleType, differences: ModuleType, tmp_path: Path
) -> None:
    block = tmp_path / "published"
    mcc = {"a": (0.5, 0.6), "b": (0.3, 0.2), "c": (0.7, 0.8)}
    for seed in (1, 2):
        weights = {(task, "", seed): values[0] + seed / 100 for task, values in mcc.items()}
        trained = {(task, "", seed): values[1] - seed / 50 for task, values in mcc.items()}
        write_scores(block, f"random-weights-s{seed}", weights, "mcc")
        write_scores(block, f"random-s{seed}", trained, "mcc")
    arms = scores.values_of(tmp_path, "published")
    (found,) = differences.over_tasks(arms["random-weights"], arms["random"])
    differences = [100 * (values[1] - 0.03 - values[0] - 0.015) for values in mcc.values()]
    assert found.n == 3
    assert found.mean == pytest.approx(sum(differences) / 3)
    assert found.signs == "+-"  # means over tasks: +0.33 and −2.67
    assert found.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_parts_that_are_not_run_yet_are_named(page: ModuleType, tmp_path: Path) -> None:
    text = page.page(few_shot_results(tmp_path), "# Evidence\n\n## Results\n\nold\n")
    assert "Fine-tuning runs so far: 15." in text
    assert "Not run yet: frozen, published" in text
    assert "old" not in text
    assert "| random − random-weights | prom-core, 10 shots | 5 |" in text


def test_the_verdict_and_the_claims_count_the_answers(
    page: ModuleType, scores: ModuleType, tmp_path: Path
) -> None:
    """Random masks are 10 points better than random weights in both cells, CM-GEMS better in one and worse in one."""
    block, noise = tmp_path / "fewshot", (0.0, 0.01, -0.01, 0.005, -0.005)
    level = {
        "random-weights": (0.5, 0.5),
        "random": (0.6, 0.6),
        "kmer-linear": (0.7, 0.6),
        "cm-gems": (0.7, 0.5),
    }
    for number, (arm, values) in enumerate(level.items()):
        rows = {
            ("prom-core", shots, draw): value + noise[(index + number) % 5] / 10
            for shots, value in zip(("10", "50"), values, strict=True)
            for index, draw in enumerate(DRAWS)
        }
        for name in (arm, "genemask") if arm == "cm-gems" else (arm,):
            for seed in (1, 2, 3):
                write_scores(block, f"{name}-s{seed}", rows, "accuracy")
    arms = scores.values_of(tmp_path, "fewshot")
    blocks = {"fewshot": arms, "frozen": {}}
    text = page.verdict(blocks)
    assert "random weights in 2 of 2 settings (by +10.0 to +10.0 points" in text
    assert (
        "k-mer counts in 0 of 2 (-10.0 to +0.0)" in text or "k-mer counts in 0 of 2 (-10.0 to -0.0)" in text
    )
    assert "masks in 1 of 2 (-10.0 to +10.0)" in text
    rows = {line.split(" | ")[0].strip("| "): line for line in page.claims(blocks).splitlines()}
    found = rows["with few labels GENEMASK beats random masks"]
    assert "1 yes" in found
    assert found.rstrip(" |").endswith("mixed")
    assert rows["with few labels GLOBAL beats GENEMASK"].rstrip(" |").endswith("not run yet")
    assert (
        rows["CM-GEMS after 10,000 steps beats DNABERT after 120,000"]
        .rstrip(" |")
        .endswith("not testable here")
    )
    assert page.verdict({"fewshot": {}}) == ""

    for index, task in enumerate(TASKS):
        for seed in (1, 2, 3):
            for arm, value in (("random-weights", 0.5), ("random", 0.55 + index / 1000), ("cm-gems", 0.5523)):
                cell = {(task, "", seed): value}
                write_scores(tmp_path / "fair" / task.replace("/", "-"), f"{arm}-s{seed}", cell, "mcc")
    fair: dict[str, dict[object, object]] = {}
    for folder in (tmp_path / "fair").iterdir():
        for arm, values in scores.values_of(tmp_path / "fair", folder.name).items():
            fair.setdefault(arm, {}).update(values)
    text = page.verdict({**blocks, "fair": fair})
    assert (
        "; with all labels of 4 tasks the difference is +5.2 MCC × 100 (95 % interval +4.9 to +5.4: yes). At"
        in text
    )
    assert text.endswith(
        "; with all labels of 4 tasks the difference is +0.1 MCC × 100 (95 % interval -0.1 to +0.3: no)."
    )
