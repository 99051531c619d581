"""Paired models compared with the last of them: the tests, their tables, and their JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from cmgems_cli.comparing.grouping import mean, standard_deviation
from cmgems_cli.comparing.pairing import Paired
from cmgems_cli.comparing.scores import rounded
from cmgems_cli.comparing.statistics import Comparison, Friedman, compare, friedman
from cmgems_cli.comparing.tables import ReportTable
from cmgems_cli.metrics import METRICS, metric_of


@dataclass(frozen=True)
class ModelComparison:
    """Every model against the reference, which is the last one.

    Attributes
    ----------
    paired : Paired
    tests : list of Comparison
        One for each model but the last.
    ranking : Friedman or None
        Of three or more models.
    seed : int
        Of the sign flips and the bootstrap.
    """

    paired: Paired
    tests: list[Comparison]
    ranking: Friedman | None
    seed: int

    @property
    def reference(self) -> str:
        """The label of the last model."""
        return self.paired.labels[-1]

    def notes(self) -> list[str]:
        """Return why answers are missing or trivial, one sentence per model."""
        return [
            f"{label}: {test.note}"
            for label, test in zip(self.paired.labels, self.tests, strict=False)
            if test.note
        ]


def compare_models(paired: Paired, *, seed: int) -> ModelComparison:
    """Compare the last model with each of the others.

    Parameters
    ----------
    paired : Paired
        Of two or more models.
    seed : int
        Of the sign flips and the bootstrap.
    """
    sign = metric_of(paired.metric).sign
    ranks = [[sign * value for value in column] for column in paired.columns]
    ranking = friedman(ranks) if len(ranks) > 2 else None
    return ModelComparison(paired, compare(paired.columns, seed=seed), ranking, seed)


def comparison_tables(compared: ModelComparison) -> list[ReportTable]:
    """Return the table of means and t-tests (paper, Table 3), and the table of the other tests."""
    paired, ranking = compared.paired, compared.ranking
    metric = METRICS[paired.metric]
    tests: list[Comparison | None] = [*compared.tests, None]
    means: list[list[str | None]] = []
    others: list[list[str | None]] = []
    for index, (label, column, test) in enumerate(zip(paired.labels, paired.columns, tests, strict=True)):
        sd = standard_deviation(column, sample=False)
        spread = f"{rounded(mean(column), metric.decimals)} ± {'–' if sd is None else rounded(sd, metric.decimals)}"
        difference, p = (signed(test.difference, metric.decimals), p_text(test.p)) if test else (None, None)
        means.append([label, spread, difference, p, str(len(paired.rows))])
        cells: list[str | None] = [None] * 5
        if test:
            interval = test.interval and " to ".join(signed(end, metric.decimals) for end in test.interval)
            size = None if test.cohens_dz is None else signed(test.cohens_dz, 2)
            p_values = [p_text(p) for p in (test.holm_p, test.wilcoxon_p, test.sign_flip_p)]
            cells = [*p_values, interval or None, size]
        if ranking:
            cells.append(rounded(ranking.mean_ranks[index], 2))
        if test or ranking:
            others.append([label, *cells])
    title = "p by other tests; interval and size of the difference"
    if ranking:
        title += f"; Friedman test: chi² {rounded(ranking.chi2, 2)}, p {p_text(ranking.p) or '–'}"
    columns = ["model", "Holm p", "Wilcoxon", "sign flip", "95 % BCa", "d_z", *(["rank"] if ranking else [])]
    return [
        ReportTable(
            f"{metric.heading}; p of the paired t-test against {compared.reference}",
            ["model", "mean ± sd", "difference", "p", "n"],
            means,
        ),
        ReportTable(title, columns, others),
    ]


def p_text(p: float | None) -> str | None:
    """Return a p-value with four decimals, or that it is below what these show."""
    return None if p is None else "<0.0001" if p < 0.00005 else rounded(p, 4)


def signed(value: float, decimals: int) -> str:
    """Return a difference with its sign.

    >>> signed(2.4, 2), signed(-0.001, 2)
    ('+2.40', '0.00')
    """
    text = rounded(value, decimals)
    return f"+{text}" if value > 0 and float(text) else text


def as_json(compared: ModelComparison, named: list[str]) -> dict[str, Any]:
    """Return the JSON object of `ttest`: one row per model, the reference last and without tests.

    Parameters
    ----------
    compared : ModelComparison
    named : list of str
        What the user wrote for each model.
    """
    paired, ranking = compared.paired, compared.ranking
    tests = [*map(asdict, compared.tests), dict.fromkeys(field.name for field in fields(Comparison))]
    rows = []
    for index, (label, column, test) in enumerate(zip(paired.labels, paired.columns, tests, strict=True)):
        low, high = test.pop("interval") or (None, None)
        rows.append(
            {
                "model": label,
                "mean": mean(column),
                "sd": standard_deviation(column, sample=False) or 0.0,
                **test,
                "interval_low": low,
                "interval_high": high,
                "mean_rank": ranking and ranking.mean_ranks[index],
                "note": test["note"] or "",
                "source": named[index],
            }
        )
    return {
        "metric": paired.metric,
        "n": len(paired.rows),
        "reference": compared.reference,
        "rows": rows,
        "scale": METRICS[paired.metric].scale,
        "lower_is_better": METRICS[paired.metric].lower_is_better,
        "friedman": ranking and {"chi2": ranking.chi2, "p": ranking.p},
        "seed": compared.seed,
    }
