"""What a report shows of scores: models side by side, the paper's Figures 3 and 4, differences, mean ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from statistics import stdev

from cmgems_cli.comparing.published import GROUPS, published_column, published_tasks, sota_share
from cmgems_cli.comparing.scores import PRINTED_DECIMALS, PRINTED_NAME, Score, as_printed, in_print, rounded
from cmgems_cli.comparing.tables import FEWSHOT_TABLE, GUE_TABLES, MAIN_METRIC, ReportTable, make_report
from cmgems_cli.reporting import figures
from cmgems_cli.reporting.comparison_chapter import comparison_parts, titled
from cmgems_cli.reporting.elements import Folded, Notes, Part, Picture, Section, Table, Text
from cmgems_cli.reporting.plot_style import rendered, style
from cmgems_cli.reporting.sources import PUBLISHED, Run

TITLES = {"gue": "Scores: GUE", "fewshot": "Scores: few-shot"}

# The paper's own models to stand beside: its best large and its best small one, and what few-shot started from.
BESIDE_GUE = ("dnabert-cm-gems-10k", "logo-cm-gems-10k")
BESIDE_FEWSHOT = "dnabert-cm-gems-10k"

Key = tuple[str, int | None]


def score_sections(runs: Sequence[Run], colours: Mapping[str, int], seed: int) -> list[Section]:
    """Return a section a benchmark that any run has scores of.

    Parameters
    ----------
    runs : sequence of Run
        All of the report's: models too, since Figure 4 needs their mask rates.
    colours : mapping, label -> int
        Which colour a model has in every picture.
    seed : int
        Of bootstrap and sign flips.
    """
    sections = []
    for bench, title in TITLES.items():
        own = [run for run in runs if run.kind == "scores" and scores_of(run, bench)]
        published = [run for run in runs if run.kind == PUBLISHED and scores_of(run, bench)]
        # In the order given, since the last one named is the one that is compared.
        both = [run for run in runs if run in own or run in published]
        if not both:
            continue
        parts: list[Part] = [_side_by_side(bench, both)]
        parts += _meaning(bench, both)
        if bench == "gue" and own:
            parts += _shares(own, colours)
        parts += _mask_rates(bench, own, runs)
        if len(both) > 1:
            parts += comparison_parts(bench, both, colours, seed)
        reports = {run.label: _in_full(bench, run, runs) for run in own}
        parts += [
            Folded(f"{label}: all tables of its evaluation", tables) for label, (tables, _) in reports.items()
        ]
        parts += _notes({label: notes for label, (_, notes) in reports.items()})
        sections.append(Section(title, parts))
    return sections


def scores_of(run: Run, bench: str) -> list[Score]:
    """Return a run's scores on a benchmark; none if it has none."""
    return [score for score in run.source.scores if score.bench == bench] if run.source else []


def _by_key(scores: Sequence[Score], metric: str) -> dict[Key, dict[int | None, float]]:
    """Return task and shots -> seed -> value."""
    found: dict[Key, dict[int | None, float]] = {}
    for score in scores:
        if score.metric == metric:
            found.setdefault((score.task, score.shots), {})[score.seed] = score.value
    return found


def _mean(values: Sequence[float]) -> float:
    return fsum(values) / len(values)


def _cell(values: Sequence[float], metric: str) -> str | None:
    if not values:
        return None
    text = as_printed(_mean(values), metric)
    if len(values) == 1:
        return text
    return f"{text} ± {rounded(in_print(stdev(values), metric), PRINTED_DECIMALS[metric])}"


def name_of(key: Key) -> str:
    """Return how a task is called in tables and pictures."""
    return key[0] if key[1] is None else f"{key[0]}, {key[1]} shots"


def _side_by_side(bench: str, runs: Sequence[Run]) -> Table:
    """Return one row a task, one column a model, and the paper's beside."""
    metric = MAIN_METRIC[bench]
    columns = {run.label: _by_key(scores_of(run, bench), metric) for run in runs}
    own_keys = [key for run in runs if run.kind == "scores" for key in columns[run.label]]
    keys = list(dict.fromkeys(own_keys or [key for column in columns.values() for key in column]))
    titles = [f"{label} ({_runs(column, keys)})" for label, column in columns.items()]
    given = {run.source.model for run in runs if run.kind == PUBLISHED and run.source}
    beside = {name: cells for name, cells in _beside(bench, given).items() if set(cells) & set(keys)}
    rows: list[list[str | None]] = [
        [
            name_of(key),
            *(_cell(list(column.get(key, {}).values()), metric) for column in columns.values()),
            *(as_printed(cells[key], metric) if key in cells else None for cells in beside.values()),
        ]
        for key in keys
    ]
    if len(keys) > 1:
        means = [{key: _mean(list(values.values())) for key, values in c.items()} for c in columns.values()]
        rows.append(
            [f"mean of the {len(keys)}", *(_over(c, keys, metric) for c in [*means, *beside.values()])]
        )
    table = FEWSHOT_TABLE if bench == "fewshot" else GUE_TABLES[0]
    sources = [run.tag for run in runs] + ([f"paper, Table {table}"] if beside else [])
    title = f"{titled(metric)} on the test split"
    return Table(ReportTable(title, ["task", *titles, *(f"paper: {name}" for name in beside)], rows), sources)


def _runs(column: Mapping[Key, Mapping[int | None, float]], keys: Sequence[Key]) -> str:
    counts = sorted({len(column[key]) for key in keys if key in column})
    if not counts or any(None in column[key] for key in keys if key in column):
        return "published"
    span = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{span} run{'' if counts == [1] else 's'}"


def _beside(bench: str, given: set[str]) -> dict[str, dict[Key, float]]:
    names = BESIDE_GUE if bench == "gue" else (BESIDE_FEWSHOT,)
    table = GUE_TABLES[0] if bench == "gue" else FEWSHOT_TABLE
    return {
        name: {key: cell.score.value for key, cell in published_column(name, table).items()}
        for name in names
        if name not in given
    }


def _over(values: Mapping[Key, float], keys: Sequence[Key], metric: str) -> str | None:
    """Return the mean over tasks, of a model that has them all."""
    if any(key not in values for key in keys):
        return None
    return as_printed(_mean([values[key] for key in keys]), metric)


def _meaning(bench: str, runs: Sequence[Run]) -> list[Part]:
    seeds = sorted({score.seed for run in runs for score in scores_of(run, bench) if score.seed is not None})
    words = "± is the sample standard deviation over fine-tuning runs"
    words += f" (seeds {', '.join(map(str, seeds))}); each model was pretrained once." if seeds else "."
    if len(seeds) == 1:
        words = f"One fine-tuning run each (seed {seeds[0]}): a difference of a point or two may be chance."
    if bench == "fewshot":
        words += " A few-shot run draws its own training rows where the pool allows it."
    words += (
        " A dash: no value. Means are given where a model has every task. The paper's values are as printed."
    )
    return [Text(words)]


# ------------------------------------------------------------------ Figure 3


def _shares(runs: Sequence[Run], colours: Mapping[str, int]) -> list[Part]:
    """Draw the paper's Figure 3 for these models; the published ones over the same tasks."""
    task_sets = {run.label: {key[0] for key in _by_key(scores_of(run, "gue"), "mcc")} for run in runs}
    common = set.intersection(*task_sets.values())
    groups: dict[str, tuple[str, list[figures.Bar]]] = {}
    said = []
    for group in GROUPS:
        bars = []
        for run in runs:
            by_task = {
                key[0]: v for key, v in _by_key(scores_of(run, "gue"), "mcc").items() if key[0] in common
            }
            share = sota_share(
                {task: _mean(list(values.values())) for task, values in by_task.items()}, group
            )
            if share is None:
                continue
            bars.append(figures.Bar(run.label, colours[run.label], share.share, _share_sd(by_task, group)))
            title = f"{group}, {share.n_tasks} task{'' if share.n_tasks == 1 else 's'}"
            best = f"{share.best_model}, {as_printed(share.best_mean, 'mcc')}"
        if not bars:
            continue
        for name in BESIDE_GUE:
            cells = published_column(name, GUE_TABLES[0])
            share = sota_share(
                {task: c.score.value for (task, _), c in cells.items() if task in common}, group
            )
            if share is not None:
                bars.append(figures.Bar(f"paper: {name}", 0, share.share, None, own=False))
        groups[title] = (best, bars)
        said.append(f"{group}: " + ", ".join(f"{bar.label} {100 * bar.value:.1f} %" for bar in bars))
    if not groups:
        return []
    with style():
        svg, png = rendered(figures.shares(groups))
    caption = (
        "Share of the best published model (the paper's Figure 3, from these runs): mean MCC over the tasks of a"
        " species group, divided by the best mean over the same tasks among dnabert-120k, nt-500m-human and"
        " dnabert2-kmer-120k as published. Bars: mean over fine-tuning seeds; whiskers: ± sample standard deviation"
        " over the seeds that every task has, where there are two or more. Dashed: 90 %, the paper's mark. Hatched:"
        " the paper's CM-GEMS models over the same tasks."
    )
    if any(len(common & set(published_tasks(group))) < len(published_tasks(group)) for group in GROUPS):
        caption += " These are not all of the paper's tasks (12 human, 15 non-human)."
    if any(tasks != common for tasks in task_sets.values()):
        caption += f" Only the {len(common)} tasks that all of the models have are counted."
    sources = [*(run.tag for run in runs), "paper, Table 2"]
    title = "Share of the best published model"
    return [Picture("share-of-best", title, caption, "; ".join(said) + ".", svg, png, sources)]


def _share_sd(by_task: Mapping[str, Mapping[int | None, float]], group: str) -> float | None:
    seeds = set.intersection(*(set(values) for values in by_task.values()))
    if len(seeds) < 2:
        return None
    each = [sota_share({task: v[seed] for task, v in by_task.items()}, group) for seed in seeds]
    return stdev(share.share for share in each if share)


# ------------------------------------------------------------------ Figure 4


def _mask_rates(bench: str, own: Sequence[Run], runs: Sequence[Run]) -> list[Part]:
    """Draw the paper's Figure 4 where scored models of several mask rates are among the runs."""
    metric = MAIN_METRIC[bench]
    model_of = {run.made.digest: run for run in runs if run.kind == "model"}
    scored = [(run, m) for run in own if (m := model_of.get(run.made.inputs.get("model", "")))]
    if len({model.made.params["mask_rate"] for _, model in scored}) < 2:
        return []
    columns = [_by_key(scores_of(run, bench), metric) for run, _ in scored]
    keys = sorted(set.intersection(*(set(column) for column in columns)), key=name_of)
    if not keys:
        return [Notes(["The models of different mask rates share no task: no picture of the mask rate."])]
    lines: dict[str, list[tuple[int, float, float | None]]] = {}
    for (_, model), column in zip(scored, columns, strict=True):
        params = model.made.params
        label = f"{params['model']} {params['strategy']}, {100 * params['mask_rate']:g} %"
        mean = in_print(_mean([_mean(list(column[key].values())) for key in keys]), metric)
        seeds = set.intersection(*(set(column[key]) for key in keys))
        each = [in_print(_mean([column[key][seed] for key in keys]), metric) for seed in seeds]
        spread = stdev(each) if len(each) > 1 else None
        lines.setdefault(label, []).append((params["steps"], mean, spread))
    with style():
        svg, png = rendered(figures.mask_rates(lines, f"mean {PRINTED_NAME[metric]}"))
    shown = "; ".join(
        f"{label}: " + ", ".join(f"{mean:.3g} at {steps:,} steps" for steps, mean, _ in sorted(points))
        for label, points in lines.items()
    )
    caption = (
        f"Mask rate (the paper's Figure 4, from these runs): mean {PRINTED_NAME[metric]} over {len(keys)} tasks"
        f" ({', '.join(map(name_of, keys))}) by steps of pretraining, one line a model, strategy and mask rate."
        " Whiskers: ± sample standard deviation over fine-tuning seeds; each model was pretrained once."
    )
    sources = [tag for run, model in scored for tag in (run.tag, model.tag)]
    name = f"mask-rate-{bench}"
    return [Picture(name, "Mask rate", caption, f"{shown}.", svg, png, list(dict.fromkeys(sources)))]


# ------------------------------------------------------------------ each model in full


def _in_full(bench: str, run: Run, runs: Sequence[Run]) -> tuple[list[Part], list[str]]:
    """Return the evaluation's own tables, folded, and its notes."""
    baseline = _baseline(bench, run, runs)
    report = make_report(
        bench,
        run.label,
        scores_of(run, bench),
        scores_of(baseline, bench) if baseline else None,
        dict.fromkeys(run.made.stats.get("missing_tasks", []), "no data"),
    )
    sources = [run.tag, *([baseline.tag] if baseline else [])]
    paper = f"paper, Table{'s 2 and 6' if bench == 'gue' else ' 4'}"
    tables: list[Part] = [
        Table(ReportTable(_titled(run, table.title), table.columns, table.rows), [*sources, paper])
        for table in report.tables
    ]
    # Those about the setting as a whole are said above once, for all models.
    notes = [note for note in report.notes if not note.startswith(("±", "One seed", "No baseline"))]
    return tables, notes


def _notes(notes: Mapping[str, Sequence[str]]) -> list[Part]:
    """Return the notes of all models, those that all share once."""
    shared = [
        note for note in next(iter(notes.values()), []) if all(note in found for found in notes.values())
    ]
    own = [f"{label}: {note}" for label, found in notes.items() for note in found if note not in shared]
    return [Notes([*shared, *own])] if shared or own else []


def _titled(run: Run, title: str) -> str:
    return title if run.label in title else f"{run.label}: {title}"


def _baseline(bench: str, run: Run, runs: Sequence[Run]) -> Run | None:
    """Return the scores of random weights of the same architecture, if they are among the runs."""
    model = next(
        (r for r in runs if r.kind == "model" and r.made.digest == run.made.inputs.get("model")), None
    )
    if run.from_random_weights or model is None:
        return None
    fitting = (
        other
        for other in runs
        if other.kind == "scores"
        and other.from_random_weights
        and scores_of(other, bench)
        and other.made.params.get("model") == model.made.params.get("model")
    )
    return next(fitting, None)
