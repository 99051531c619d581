"""Models that share one task only: compared over its rows and over the seeds of their runs (method, section 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cmgems_cli.artifacts import PREDICTIONS, read_manifest
from cmgems_cli.comparing.comparison import p_text, signed
from cmgems_cli.comparing.evaluated_runs import EvaluatedRun, evaluated_runs
from cmgems_cli.comparing.grouping import Runs, TaskKey, by_task, mean, standard_deviation
from cmgems_cli.comparing.pairing import Paired, Source
from cmgems_cli.comparing.row_tests import RowTest, row_test
from cmgems_cli.comparing.scores import as_printed, in_print, rounded
from cmgems_cli.comparing.seed_tests import SeedTest, seed_test
from cmgems_cli.comparing.statistics import holm
from cmgems_cli.comparing.tables import ReportTable
from cmgems_cli.metrics import METRICS
from cmgems_cli.training.run_files import Tested, read_predictions


@dataclass(frozen=True)
class OneTask:
    """Every model against the last one on one task.

    Attributes
    ----------
    key : TaskKey
    metric : str
    labels : list of str
    runs : list of mapping, seed -> float
        Values of the metric on the printed scale, per model.
    row_tests : list of RowTest or None
        One for each model but the last; None without predictions for the same rows.
    seed_tests : list of SeedTest or None
        Likewise; None if a model has one run only.
    notes : list of str
        Why a test is missing, and what the tests are.
    seed : int
        Of the bootstraps.
    """

    key: TaskKey
    metric: str
    labels: list[str]
    runs: list[Runs]
    row_tests: list[RowTest | None]
    seed_tests: list[SeedTest | None]
    notes: list[str]
    seed: int

    @property
    def reference(self) -> str:
        """The label of the last model."""
        return self.labels[-1]

    @property
    def has_tests(self) -> bool:
        """Whether there is any test."""
        return any(self.row_tests) or any(self.seed_tests)


def compare_on_one_task(sources: Sequence[Source], paired: Paired, *, seed: int) -> OneTask:
    """Compare the last model with each of the others on the one task that they share.

    Parameters
    ----------
    sources : sequence of Source
    paired : Paired
        Of these, with one row.
    seed : int
        Of the bootstraps.
    """
    (key,), metric = paired.rows, paired.metric
    runs: list[Runs] = [
        {one: in_print(value, metric) for one, value in by_task(source.scores, metric)[key].items()}
        for source in sources
    ]
    tested = [_runs_of(source, key) for source in sources]
    row_tests: list[RowTest | None] = []
    notes: list[str] = []
    for label, own in zip(paired.labels[:-1], tested[:-1], strict=True):
        test, why = _over_rows(own, tested[-1], metric, seed)
        row_tests.append(test)
        if why:
            notes.append(f"{label} and {paired.labels[-1]}: not compared over rows, {why}")
    seed_tests = [seed_test(one, runs[-1]) for one in runs[:-1]]
    for label, found in zip(paired.labels, seed_tests, strict=False):
        if found is None:
            notes.append(
                f"{label} and {paired.labels[-1]}: not compared over seeds, which needs two runs or more of each"
            )
    return OneTask(key, metric, paired.labels, runs, row_tests, seed_tests, notes, seed)


def _runs_of(source: Source, key: TaskKey) -> dict[int, EvaluatedRun]:
    if source.folder is None:
        return {}
    return {
        run.seed: run
        for run in evaluated_runs(source.folder)
        # A run of `finetune` may be named otherwise: see `with_tasks_named_alike`.
        if source.single or run.key == key
    }


def _predictions_of(run: EvaluatedRun) -> Tested:
    """Read the predictions of a run, whose files are verified.

    Raises
    ------
    InputError
        If they are damaged.
    """
    read_manifest(run.folder, verify=True)
    return read_predictions(run.folder / PREDICTIONS)


def _over_rows(
    model: dict[int, EvaluatedRun], reference: dict[int, EvaluatedRun], metric: str, seed: int
) -> tuple[RowTest | None, str]:
    if not model or not reference:
        return None, "since one has no predictions on disk"
    shared = sorted(model.keys() & reference.keys())
    first, second = (shared[0], shared[0]) if shared else (min(model), min(reference))
    one, other = model[first], reference[second]
    if one.test != other.test:
        return None, "since their test files differ"
    rows, others = _predictions_of(one), _predictions_of(other)
    if len(rows.right) != len(others.right):
        return None, "since they kept different numbers of rows"
    return row_test(rows, others, METRICS[metric], seeds=(first, second), seed=seed), ""


# ------------------------------------------------------------------ tables and JSON


def one_task_tables(compared: OneTask) -> list[ReportTable]:
    """Return the table of the tests over rows, and that over seeds, as far as there are any."""
    tables = []
    if any(compared.row_tests):
        tables.append(_rows_table(compared))
    if any(compared.seed_tests):
        tables.append(_seeds_table(compared))
    return tables


def _rows_table(compared: OneTask) -> ReportTable:
    metric = METRICS[compared.metric]
    several = len(compared.row_tests) > 1
    adjusted = _holm_of_rows(compared)
    with_auroc = any(test and test.delong for test in compared.row_tests)
    columns = ["model", "difference", "95 % bootstrap", "only it right", "only the other", "McNemar p"]
    columns += [*(["Holm p"] if several else [])]
    columns += [*(["AUROC", "the other's", "DeLong p"] if with_auroc else [])]
    columns += [*(["Holm p"] if several and with_auroc else [])]
    rows: list[list[str | None]] = []
    for label, test, (mcnemar_holm, delong_holm) in zip(
        compared.labels, compared.row_tests, adjusted, strict=False
    ):
        if test is None:
            continue
        interval = test.interval and " to ".join(signed(end, metric.decimals) for end in test.interval)
        cells: list[str | None] = [
            label,
            None if test.difference is None else signed(test.difference, metric.decimals),
            interval or None,
            *(
                (f"{test.mcnemar.only_first:,}", f"{test.mcnemar.only_second:,}")
                if test.mcnemar
                else (None, None)
            ),
            p_text(test.mcnemar.p) if test.mcnemar else None,
        ]
        cells += [p_text(mcnemar_holm)] if several else []
        if with_auroc:
            found = test.delong
            cells += [rounded(found.first, 3), rounded(found.second, 3)] if found else [None, None]
            cells += [p_text(found.p) if found else None]
            cells += [p_text(delong_holm)] if several else []
        rows.append(cells)
    n_rows = next(test.n_rows for test in compared.row_tests if test)
    seeds = sorted({seed for test in compared.row_tests if test for seed in test.seeds})
    title = (
        f"{metric.heading} on {compared.key}: over {n_rows:,} rows of the test split, of the runs with seed"
        f" {', '.join(map(str, seeds))}, against {compared.reference}"
    )
    return ReportTable(title, columns, rows)


def _seeds_table(compared: OneTask) -> ReportTable:
    metric = METRICS[compared.metric]
    several = len(compared.seed_tests) > 1
    adjusted = holm([test.p if test else None for test in compared.seed_tests])
    columns = ["model", "mean ± sd", "seeds", "difference", "95 % interval", "p"]
    columns += [*(["Holm p"] if several else []), "test"]
    rows: list[list[str | None]] = []
    tests: list[SeedTest | None] = [*compared.seed_tests, None]
    for label, runs, test, holm_p in zip(
        compared.labels, compared.runs, tests, [*adjusted, None], strict=True
    ):
        sd = standard_deviation(list(runs.values()), sample=True)
        shown = rounded(mean(runs.values()), metric.decimals)
        shown += "" if sd is None else f" ± {rounded(sd, metric.decimals)}"
        interval = (
            test and test.interval and " to ".join(signed(end, metric.decimals) for end in test.interval)
        )
        cells: list[str | None] = [label, shown, str(len(runs))]
        cells += (
            [signed(test.difference, metric.decimals), interval or None, p_text(test.p)]
            if test
            else [None] * 3
        )
        cells += [p_text(holm_p)] if several else []
        rows.append([*cells, test.test if test else None])
    return ReportTable(
        f"{metric.heading} on {compared.key}: over seeds, against {compared.reference}", columns, rows
    )


def _holm_of_rows(compared: OneTask) -> list[tuple[float | None, float | None]]:
    of_mcnemar = holm([test.mcnemar.p if test and test.mcnemar else None for test in compared.row_tests])
    of_delong = holm([test.delong.p if test and test.delong else None for test in compared.row_tests])
    return list(zip(of_mcnemar, of_delong, strict=True))


def one_task_json(compared: OneTask, named: list[str]) -> dict[str, Any]:
    """Return the JSON object of `ttest` for one task: one row per model, the reference last and without tests.

    Parameters
    ----------
    compared : OneTask
    named : list of str
        What the user wrote for each model.
    """
    of_rows = [*_holm_of_rows(compared), (None, None)]
    of_seeds = [*holm([test.p if test else None for test in compared.seed_tests]), None]
    rows = []
    tests = zip([*compared.row_tests, None], [*compared.seed_tests, None], strict=True)
    for index, (over_rows, over_seeds) in enumerate(tests):
        runs = list(compared.runs[index].values())
        rows.append(
            {
                "model": compared.labels[index],
                "mean": mean(runs),
                "sd": standard_deviation(runs, sample=True),
                "runs": len(runs),
                "over_rows": over_rows and _rows_json(over_rows, *of_rows[index]),
                "over_seeds": over_seeds
                and {
                    "test": over_seeds.test,
                    "difference": over_seeds.difference,
                    "p": over_seeds.p,
                    "holm_p": of_seeds[index],
                    **_ends(over_seeds.interval),
                },
                "source": named[index],
            }
        )
    return {
        "metric": compared.metric,
        "n": 1,
        "task": str(compared.key),
        "compared_over": [
            *(["rows"] if any(compared.row_tests) else []),
            *(["seeds"] if any(compared.seed_tests) else []),
        ],
        "reference": compared.reference,
        "rows": rows,
        "scale": METRICS[compared.metric].scale,
        "friedman": None,
        "seed": compared.seed,
        "notes": compared.notes,
    }


def _rows_json(test: RowTest, mcnemar_holm: float | None, delong_holm: float | None) -> dict[str, Any]:
    return {
        "n_rows": test.n_rows,
        "seeds": list(test.seeds),
        "difference": test.difference,
        **_ends(test.interval),
        "mcnemar": test.mcnemar and {**test.mcnemar._asdict(), "holm_p": mcnemar_holm},
        "delong": test.delong and {**test.delong._asdict(), "holm_p": delong_holm},
    }


def _ends(interval: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {"interval_low": low, "interval_high": high}


def announcement(compared: OneTask) -> str:
    """Return what the models are compared over, and by which tests."""
    over = []
    if rows := next((test for test in compared.row_tests if test), None):
        tests = [
            *(["exact McNemar"] if rows.mcnemar else []),
            *(["paired bootstrap"] if rows.interval else []),
            *(["DeLong for AUROC"] if rows.delong else []),
        ]
        over.append(f"over its {rows.n_rows:,} test rows ({', '.join(tests)})")
    if seeds := next((test for test in compared.seed_tests if test), None):
        over.append(f"over seeds ({seeds.test})")
    value = ", ".join(
        f"{label} {as_printed(mean(runs.values()) / METRICS[compared.metric].scale, compared.metric)}"
        for label, runs in zip(compared.labels, compared.runs, strict=True)
    )
    return f"one task in common, {compared.key} ({value}): compared {' and '.join(over)}"
