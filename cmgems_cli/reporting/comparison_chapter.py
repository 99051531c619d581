"""Scores of two and more models against one another: tests, differences task by task, mean ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt

from cmgems_cli.comparing.pairing import Paired, Row, pair
from cmgems_cli.comparing.scores import PRINTED_DECIMALS, PRINTED_NAME, in_print, rounded
from cmgems_cli.comparing.statistics import CONFIDENCE, RESAMPLES, Comparison, compare, friedman
from cmgems_cli.comparing.tables import MAIN_METRIC, ReportTable
from cmgems_cli.errors import InputError
from cmgems_cli.reporting import figures
from cmgems_cli.reporting.elements import Notes, Part, Picture, Table
from cmgems_cli.reporting.plot_style import rendered, style
from cmgems_cli.reporting.sources import PUBLISHED, Run

# ours: fewer runs have too few different resamples for an interval to mean anything.
LEAST_SEEDS = 5

# ours: the usual level
ALPHA = 0.05


def comparison_parts(bench: str, runs: Sequence[Run], colours: Mapping[str, int], seed: int) -> list[Part]:
    """Compare the last run with each of the others on the tasks that all have.

    Parameters
    ----------
    bench : str
        gue or fewshot.
    runs : sequence of Run
        Two or more with scores on it; the last is the reference, as in `cmgems ttest`.
    colours : mapping, label -> int
        Which colour a model has in every picture.
    seed : int
        Of bootstrap and sign flips.
    """
    sources = [
        replace(run.source, model=run.label, scores=[s for s in run.source.scores if s.bench == bench])
        for run in runs
        if run.source
    ]
    try:
        paired = pair(sources, MAIN_METRIC[bench], common=True)
    except InputError as error:
        return [Notes([f"Not compared: {str(error).split('; needed')[0]}."])]
    found = compare(paired.columns, seed=seed)
    parts: list[Part] = [Table(_tests(paired, found), [run.tag for run in runs])]
    remarks = [f"{sentence}." for sentence in paired.left_out]
    for label, one in zip(paired.labels, found, strict=False):
        if one.note:
            remarks.append(f"{label}: {one.note}.")
    remarks.append(
        f"n = {len(paired.rows)} tasks, each a mean over its runs; difference: {paired.labels[-1]} minus the other."
        f" All tests are two-sided and paired by task. 95 % BCa: bootstrap interval of the mean difference"
        f" ({RESAMPLES:,} resamples of the tasks, seed {seed}). The tests treat tasks as independent draws, which"
        " tasks of one benchmark are not quite, and know nothing of the chance in pretraining."
    )
    if len(paired.rows) < LEAST_SEEDS + 1:
        remarks.append(f"With {len(paired.rows)} tasks no test can tell much: read the rows, not the p.")
    parts.append(Notes(remarks))
    for run, index in zip(runs[:-1], range(len(runs) - 1), strict=True):
        parts.append(_differences(bench, paired, index, run, runs[-1], found[index], seed))
    if len(runs) > 2:
        parts.append(_ranks(bench, paired, runs, colours))
    return parts


def _tests(paired: Paired, found: Sequence[Comparison]) -> ReportTable:
    decimals = PRINTED_DECIMALS[paired.metric]

    def p(value: float | None) -> str | None:
        return None if value is None else "<0.0001" if value < 0.00005 else rounded(value, 4)

    rows: list[list[str | None]] = []
    for label, one in zip(paired.labels, found, strict=False):
        interval = one.interval and " to ".join(signed(end, decimals) for end in one.interval)
        size = None if one.cohens_dz is None else signed(one.cohens_dz, 2)
        tests = [p(one.p), p(one.holm_p), p(one.wilcoxon_p), p(one.sign_flip_p)]
        rows.append([label, signed(one.difference, decimals), interval or None, *tests, size])
    columns = ["against", "difference", "95 % BCa", "t-test p", "Holm p", "Wilcoxon p", "sign flip p", "d_z"]
    title = f"{titled(paired.metric)}: {paired.labels[-1]} against the others"
    return ReportTable(title, columns, rows)


def titled(metric: str) -> str:
    """Return a metric's name as a title begins with it."""
    name = PRINTED_NAME[metric]
    return name[0].upper() + name[1:]


def signed(value: float, decimals: int) -> str:
    """Return a difference with its sign."""
    text = rounded(value, decimals)
    return f"+{text}" if value > 0 and float(text) else text


def _differences(
    bench: str, paired: Paired, index: int, other: Run, reference: Run, found: Comparison, seed: int
) -> Picture:
    metric = paired.metric
    rows, intervals = [], 0
    for place, row in enumerate(paired.rows):
        mean = paired.columns[-1][place] - paired.columns[index][place]
        theirs, ours = (_by_seed(run, row, metric) for run in (other, reference))
        seeds = sorted(set(theirs) & set(ours) - {None}, key=str)
        alike = bool(seeds) and set(theirs) == set(ours)
        single = [ours[one] - theirs[one] for one in seeds] if alike else []
        interval = None
        if len(single) >= LEAST_SEEDS:
            interval = compare([[theirs[one] for one in seeds], [ours[one] for one in seeds]], seed=seed)[
                0
            ].interval
            intervals += interval is not None
        name = row.task if row.shots is None else f"{row.task}, {row.shots} shots"
        rows.append(figures.Difference(name, mean, interval, single))
    n = len(rows)
    overall = figures.Difference(f"mean of {n}" if n > 1 else "mean", found.difference, found.interval, [])
    first, last = paired.labels[index], paired.labels[-1]
    with style():
        drawn = figures.differences(rows, overall, f"{titled(metric)}: {last} minus {first}")
        svg, png = rendered(drawn)
    caption = (
        f"{titled(metric)} of {last} minus {first}, task by task; right of the line {last} is better. Dots:"
        f" differences of means over fine-tuning runs ({first}: {_n_runs(other, paired, index)}; {last}:"
        f" {_n_runs(reference, paired, -1)}). "
    )
    if any(row.single for row in rows):
        caption += "Small strokes: runs of the same seed. "
    if intervals:
        caption += f"Lines: {100 * CONFIDENCE:.0f} % BCa bootstrap intervals over these runs. "
    if intervals < n:
        caption += (
            f"No interval where a task has under {LEAST_SEEDS} pairs of runs, or they all differ alike. "
        )
    caption += "Diamond: mean over tasks"
    caption += f" with the {100 * CONFIDENCE:.0f} % BCa interval over tasks." if found.interval else "."
    alt = "; ".join(f"{row.label} {signed(row.mean, PRINTED_DECIMALS[metric])}" for row in (*rows, overall))
    name = f"differences-{bench}-{other.tag}-{reference.tag}"
    title = f"Differences: {last} minus {first}"
    return Picture(name, title, caption, f"{alt}.", svg, png, [reference.tag, other.tag])


def _n_runs(run: Run, paired: Paired, index: int) -> str:
    return "as published" if run.kind == PUBLISHED else f"{paired.seeds[index]} a task"


def _by_seed(run: Run, row: Row, metric: str) -> dict[int | None, float]:
    scores = run.source.scores if run.source else []
    return {
        score.seed: in_print(score.value, metric)
        for score in scores
        if (score.bench, score.task, score.shots, score.metric) == (*row, metric)
    }


def critical_difference(n_models: int, n_rows: int) -> float:
    """Return how far two mean ranks must lie apart to differ by Nemenyi's test at the 5 % level.

    Parameters
    ----------
    n_models, n_rows : int
        Ranked models, at least 2, and the tasks they were ranked on.

    Returns
    -------
    float
        q · sqrt(k (k + 1) / (6 n)), q from the studentised range (Demšar 2006, J. Mach. Learn. Res. 7).

    Examples
    --------
    >>> round(critical_difference(4, 14), 2)  # Demšar's worked example prints 1.25, with q rounded to 2.569
    1.25
    """
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - ALPHA, n_models, float("inf"))) / sqrt(2)
    return q * sqrt(n_models * (n_models + 1) / (6 * n_rows))


def _ranks(bench: str, paired: Paired, runs: Sequence[Run], colours: Mapping[str, int]) -> Picture:
    found = friedman(paired.columns)
    critical = critical_difference(len(runs), len(paired.rows))
    ranks = dict(zip(paired.labels, found.mean_ranks, strict=True))
    with style():
        svg, png = rendered(figures.mean_ranks(ranks, colours, critical))
    p = "has no answer for one task" if found.p is None else f"p = {rounded(found.p, 4)}"
    caption = (
        f"Mean ranks by {PRINTED_NAME[paired.metric]} over {len(paired.rows)} tasks (1 = best, ties share). Friedman"
        f" test: chi² = {rounded(found.chi2, 2)}, {p}. Thick bars join models whose mean ranks lie within Nemenyi's"
        f" critical difference at the 5 % level, {critical:.2f}: these tasks do not tell them apart."
    )
    alt = "; ".join(f"{label} {rank:.2f}" for label, rank in ranks.items())
    return Picture(
        f"mean-ranks-{bench}", "Mean ranks", caption, f"{alt}.", svg, png, [run.tag for run in runs]
    )
