"""What a report shows of pretraining: the corpus, the ranking, the runs and their learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from cmgems_cli.artifacts import Manifest
from cmgems_cli.comparing.scores import rounded
from cmgems_cli.comparing.tables import ReportTable
from cmgems_cli.genome.vocabulary import kmers
from cmgems_cli.pmi.ranking import Ranking, read_ranking
from cmgems_cli.readable import name_of
from cmgems_cli.reporting import figures
from cmgems_cli.reporting.elements import Part, Picture, Section, Table, Text, listed
from cmgems_cli.reporting.plot_style import rendered, style
from cmgems_cli.reporting.sources import Run
from cmgems_cli.training.metrics_log import METRICS, read_metrics

# Number of k-mers named at each end of a ranking: in the table, in the picture.
ENDS_IN_TABLE, ENDS_IN_PICTURE = 5, 3


def data_section(runs: Sequence[Run]) -> Section | None:
    """Return the counts of corpora, few-shot sets and divided tables; None without any."""
    chosen = [run for run in runs if run.kind in ("corpus", "fewshot", "task")]
    parts: list[Part] = []
    for run in chosen:
        rows: list[list[str | None]] = [
            [name_of(name), _counted(value)]
            for name, value in run.made.stats.items()
            if not isinstance(value, dict | list)
        ]
        parts.append(Table(ReportTable(f"{run.label} ({run.kind})", ["counted", ""], rows), [run.tag]))
    return Section("Data", parts) if parts else None


def _counted(value: object) -> str | None:
    if isinstance(value, bool) or value is None:
        return None if value is None else "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


# ------------------------------------------------------------------ ranking


def ranking_section(runs: Sequence[Run]) -> Section | None:
    """Return the rankings of k-mers; None without any."""
    parts: list[Part] = []
    chosen = [run for run in runs if run.kind == "pmi"]
    for run in chosen:
        parts += _ranking(run, f"npmi-{run.tag}")
    return Section("Ranking of k-mers", parts) if parts else None


def _ranking(run: Run, name: str) -> list[Part]:
    ranking = read_ranking(run.folder)
    params, stats = run.made.params, run.made.stats
    words = (
        f"{ranking.n_ranked:,} of {4**ranking.k:,} {ranking.k}-mers ranked by normalised pointwise mutual"
        f" information (definition: {params['definition']}), counted at {stats['positions_counted']:,} positions;"
        f" {stats['unranked']:,} seen under {params['min_count']} times are not ranked."
    )
    if not ranking.n_ranked:
        return [Text(f"{run.label}: {words}")]
    names = kmers(ranking.k)
    codes = ranking.codes_by_rank().tolist()
    with style():
        svg, png = rendered(
            figures.ranking(
                ranking.npmi_nats[codes].tolist(),
                ["CG" in names[code] for code in codes],
                [(rank, names[codes[rank - 1]]) for rank in _ends(len(codes), ENDS_IN_PICTURE)],
            )
        )
    caption = (
        f"NPMI by rank (left) and its distribution (right), k-mers with and without the dinucleotide CG apart."
        f" {words}"
    )
    return [
        Picture(name, f"NPMI: {run.label}", caption, f"NPMI falls along the ranking. {words}", svg, png, [run.tag]),
        Table(_extremes(run, ranking, names, codes), [run.tag]),
    ]  # fmt: skip


def _extremes(run: Run, ranking: Ranking, names: Sequence[str], codes: list[int]) -> ReportTable:
    rows: list[list[str | None]] = []
    for rank in _ends(len(codes), ENDS_IN_TABLE):
        code = codes[rank - 1]
        values = (float(ranking.pmi_nats[code]), float(ranking.npmi_nats[code]))
        count = f"{int(ranking.counts[code]):,}"
        rows.append([f"{rank:,}", names[code], count, *(rounded(value, 4) for value in values)])
    title = f"{run.label}: both ends of the ranking"
    return ReportTable(title, ["rank", "k-mer", "occurrences", "PMI (nats)", "NPMI (nats)"], rows)


def _ends(count: int, each: int) -> list[int]:
    """Return the first and last `each` ranks of 1 … count, none twice."""
    return [rank for rank in range(1, count + 1) if rank <= each or rank > count - each]


# ------------------------------------------------------------------ models


def models_section(runs: Sequence[Run], colours: dict[str, int]) -> Section | None:
    """Return the pretrained models, their learning curves first; None without any.

    Parameters
    ----------
    runs : sequence of Run
        All of the report's.
    colours : dict, label -> int
        Colour number of a model in every picture.
    """
    chosen = [run for run in runs if run.kind == "model"]
    if not chosen:
        return None
    evaluated = {run.tag: _evaluations(run) for run in chosen}
    parts: list[Part] = []
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in chosen:
        if evaluated[run.tag]:
            groups.setdefault(_comparable(run.made), []).append(run)
    for number, group in enumerate(groups.values(), start=1):
        parts.append(_curves(group, evaluated, colours, f"learning-curves-{number}", len(groups)))
    parts.append(Table(_models(chosen, evaluated), [run.tag for run in chosen]))
    parts.append(
        Text(
            "Perplexity is exp(mean loss over masked tokens) of validation sequences. Under the fixed masks it"
            " compares strategies trained on the same corpus; under the active masks it does not, since each"
            " strategy masks other tokens. k-mer frequencies: the perplexity of a model that knows how"
            " often each k-mer occurs but not its context."
        )
    )
    return Section("Pretraining", parts)


def _evaluations(run: Run) -> list[dict[str, float]]:
    return [record for record in read_metrics(run.folder / METRICS) if "valid_perplexity" in record]


def _comparable(made: Manifest) -> tuple[object, ...]:
    """Return what two runs must share for their perplexities under the fixed masks to compare."""
    masks = made.params.get("validation_masks")
    ranks = (made.inputs.get("pmi"), made.params.get("rank_by")) if masks != "random" else ()
    return (made.inputs.get("corpus"), made.params.get("k"), masks, *ranks)


def _curves(
    group: Sequence[Run],
    evaluated: dict[str, list[dict[str, float]]],
    colours: dict[str, int],
    name: str,
    n_groups: int,
) -> Picture:
    params = [run.made.params for run in group]
    by_sequences = len({one["global_batch"] for one in params}) > 1
    curves = []
    for run in group:
        scale = run.made.params["global_batch"] if by_sequences else 1
        records, switched = evaluated[run.tag], run.made.stats.get("switched_at_step")
        curves.append(
            figures.Curve(
                run.label,
                colours[run.label],
                [int(record["step"]) * scale for record in records],
                [record["valid_perplexity"] for record in records],
                [record.get("valid_perplexity_active", float("nan")) for record in records],
                None if switched is None else switched * scale,
            )
        )
    unigram = sorted(
        {round(value, 6) for run in group if (value := run.made.stats.get("unigram_perplexity")) is not None}
    )
    unit = "sequences seen" if by_sequences else "step"
    with style():
        svg, png = rendered(figures.learning_curves(curves, unigram, unit))
    masks = params[0].get("validation_masks")
    sizes = listed(sorted({_n_held_out(run) for run in group}))
    seeds = sorted({str(one["seed"]) for one in params})
    switches = [curve for curve in curves if curve.switched_at is not None]
    caption = (
        f"Validation perplexity of {listed([run.label for run in group])} by {unit}, log scale, on {sizes} held-out"
        f" sequences; one run each, seed {listed(seeds)}, so variation between runs is not shown."
        f" Left: under fixed {masks} masks, the same for every curve. Right: under the masks of the strategy in"
        " force; these differ in difficulty and do not compare across strategies, nor across a switch."
    )
    if switches:
        caption += " Dotted: the evaluation after which CM-GEMS switched from GENEMASK to GLOBAL."
    if len(seeds) > 1:
        caption += " Runs with different seeds are evaluated on different draws of sequences and masks."
    if n_groups > 1:
        caption += " Runs on another corpus or under other fixed masks are in pictures of their own."
    alt = "; ".join(
        f"{curve.label}: from {curve.fixed[0]:,.0f} to {curve.fixed[-1]:,.0f}" for curve in curves
    )
    title = "Learning curves" + (f": {masks} masks" if n_groups > 1 else "")
    return Picture(name, title, caption, f"Perplexity, fixed masks. {alt}.", svg, png, [r.tag for r in group])


def _n_held_out(run: Run) -> str:
    """Return the number of validation sequences of a run; earlier versions recorded only the limit."""
    wanted, evaluated = run.made.params["eval_sequences"], run.made.stats.get("eval_sequences")
    return f"at most {wanted:,}" if evaluated is None else f"{evaluated:,}"


def _models(runs: Sequence[Run], evaluated: dict[str, list[dict[str, float]]]) -> ReportTable:
    rows: list[list[str | None]] = []
    for run in runs:
        params, stats = run.made.params, run.made.stats
        records = evaluated[run.tag]
        fixed = [record["valid_perplexity"] for record in records]
        active = [record.get("valid_perplexity_active") for record in records]
        unigram = stats.get("unigram_perplexity")
        rows.append(
            [
                run.label,
                str(params["strategy"]),
                f"{params['steps']:,} × {params['global_batch']:,}",
                f"{100 * params['mask_rate']:g} %",
                str(params["seed"]),
                None if stats.get("switched_at_step") is None else f"{stats['switched_at_step']:,}",
                f"{fixed[-1]:,.1f}" if fixed else None,
                f"{min(fixed):,.1f}" if fixed else None,
                f"{active[-1]:,.1f}" if active and active[-1] is not None else None,
                None if unigram is None else f"{unigram:,.1f}",
            ]
        )
    columns = ["model", "strategy", "steps × sequences", "mask rate", "seed", "switch after"]
    columns += ["perplexity, fixed masks", "its lowest", "active masks", "k-mer frequencies"]
    return ReportTable("Pretraining runs", columns, rows)
