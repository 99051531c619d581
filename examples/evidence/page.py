"""Write the results in docs/evidence.md, and the verdict in README.md, from the tables that the workflow collected.

python examples/evidence/page.py [RESULTS] [PAGE] [README]
"""

from __future__ import annotations

import csv
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from study import Study
from study_differences import NOT_PRETRAINED, Difference, compared, is_partial, over_seeds
from study_scores import (
    PLAIN,
    Cell,
    Values,
    by_arm,
    cell_mean,
    chosen_rows,
    rows_of,
    values_of,
    values_of_all,
)

from cmgems_cli.comparing.grouping import key_of
from cmgems_cli.comparing.published import published_scores
from cmgems_cli.markdown import table
from cmgems_cli.readable import counted

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "cpu"
PAGE = HERE.parents[1] / "docs" / "evidence.md"
README = HERE.parents[1] / "README.md"
STUDY = HERE / "studies" / "cpu.yaml"
HEADING = "## Results\n"
# Around the verdict in the README.
BEGIN, END = "<!-- verdict of docs/evidence.md -->\n", "<!-- end of the verdict -->\n"
README_WIDTH = 140

CONTENT = ("genemask", "global", "cm-step", "cm-gems", "random-mask")
# The pairs of arms that each question compares: first, second.
QUESTIONS = {
    "1. Does pretraining help": [("random-weights", arm) for arm in ("random", *CONTENT)]
    + [("kmer-linear", arm) for arm in ("random-weights", "random", "cm-gems")],
    "2. Content or position": [(f"{arm}-position", arm) for arm in ("genemask", "global", "cm-gems")],
    "3. Does the switch help": [(arm, "cm-gems") for arm in ("genemask", "global", "cm-step")],
    "4. Does anything beat random masks": [("random", arm) for arm in (*CONTENT, "random-30")],
}
# Published columns that stand below the means.
PAPER = ("dnabert-120k", "dnabert-cm-gems-10k")
JUDGED = ("fewshot", "curve", "curve-1e-3", "curve-3e-4", "frozen", "published", "fair", "tuned")
# Question 5: blocks with one change of the fine-tuning.
CHANGES = ("why-embedding-lr", "why-mean", "why-dropout", "why-rc")
# The rows of the table of two sizes.
FROZEN = ("random-weights", "random", "genemask", "cm-gems")
# The tasks of question 5.
TASKS = 4

# What the paper claims, where, and the pair of arms that would show it here: block, first, second. None where a model
# of 12 layers and the whole genome would be needed.
CLAIMS: list[tuple[str, str, tuple[str, str, str] | None]] = [
    ("with few labels GENEMASK beats random masks", "Table 4", ("fewshot", "random", "genemask")),
    ("with few labels GLOBAL beats GENEMASK", "section 1, Table 4", ("fewshot", "genemask", "global")),
    ("with few labels CM-GEMS beats GENEMASK", "RQ3", ("fewshot", "genemask", "cm-gems")),
    ("over all rows of GUE CM-GEMS beats GENEMASK", "RQ1", ("frozen", "genemask", "cm-gems")),
    ("random masks at a rate of 0.15 beat those at 0.30", "RQ4", ("fewshot", "random-30", "random")),
    ("CM-GEMS after 10,000 steps beats DNABERT after 120,000", "RQ1", None),
    ("CM-GEMS after 1,000 steps comes within 90 % of the best", "RQ2", None),
]


def p_value(p: float) -> str:
    """Return a p value as it is printed."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def comparisons(block: str, arms: Mapping[str, Values], pairs: Sequence[tuple[str, str]]) -> str:
    """Return the table of a question in a block; empty without data."""
    found = compared(block, arms, pairs)
    if not found:
        return ""
    rows = [
        [
            name,
            d.cell,
            str(d.n),
            f"{d.mean:+.2f}",
            f"{d.low:+.2f} to {d.high:+.2f}",
            p_value(d.p),
            p_value(p),
            f"{d.detectable:.2f}",
            d.signs.replace("-", "−"),
            d.verdict(p),
        ]
        for name, d, p in found
    ]
    columns = ["difference", "of", "n", "mean", "95 % interval", "p", "Holm", "detectable", "seeds", "answer"]
    return table(columns, rows)


def answers(block: str, arms: Mapping[str, Values], first: str, second: str) -> list[tuple[Difference, str]]:
    """Return the cells of one pair of arms, each with the protocol's answer."""
    # Holm's adjustment of a block with all rows is over the arms that a question compares.
    pairs = next((pairs for pairs in QUESTIONS.values() if (first, second) in pairs), [(first, second)])
    name = f"{second} − {first}"
    return [(d, d.verdict(p)) for other, d, p in compared(block, arms, pairs) if other == name]


def claims(blocks: Mapping[str, Mapping[str, Values]]) -> str:
    """Return the table of the paper's claims."""
    rows = []
    for claim, where, pair in CLAIMS:
        found = answers(pair[0], blocks[pair[0]], *pair[1:]) if pair else []
        counts = Counter(answer for _, answer in found)
        if not pair:
            result = "not testable here"
        elif not found:
            result = "not run yet"
        elif not counts["yes"]:
            result = "not confirmed"
        else:
            result = "mixed" if counts["no"] + counts["worse"] else "confirmed"
        shown = ", ".join(
            f"{counts[answer]} {answer}" for answer in ("yes", "no", "worse", "undecided") if counts[answer]
        )
        rows.append([claim, where, f"{pair[0]}: {shown}" if shown and pair else "–", span(found), result])
    return table(["claim", "in the paper", "answers", "difference", "here"], rows)


def span(found: Sequence[tuple[Difference, str]]) -> str:
    """Return the smallest and the largest mean of some differences."""
    values = sorted(difference.mean for difference, _ in found)
    if not values:
        return "–"
    return f"{values[0]:+.1f}" if len(values) == 1 else f"{values[0]:+.1f} to {values[-1]:+.1f}"


def way_of(block: str) -> str:
    """Return the name of a way of fine-tuning in the tables of question 5."""
    return {"published": "published recipe", PLAIN: "rate chosen on dev"}.get(
        block, f"+ {block.removeprefix('why-')}"
    )


def interventions(blocks: Mapping[str, Mapping[str, Values]]) -> str:
    """Return the table of question 5: pretrained against random weights, with each change and without any."""
    rows = []
    for block in ("published", PLAIN, *CHANGES):
        for arm in blocks.get(block, {}):
            if arm in NOT_PRETRAINED or "random-weights" not in blocks[block]:
                continue
            weights, values = blocks[block]["random-weights"], blocks[block][arm]
            against = {d.cell: d for d in over_seeds(weights, values)}
            base = blocks.get("published" if block == PLAIN else PLAIN, {}).get(arm, {})
            without = {d.cell: d for d in over_seeds(base, values)}
            shown = []
            for cell, d in against.items():
                gain = without.get(cell)
                shown.append(
                    [
                        way_of(block),
                        arm,
                        cell,
                        *(cell_mean(one, Cell(cell, "")) for one in (weights, values)),
                        f"{d.mean:+.1f}",
                        f"{d.low:+.1f} to {d.high:+.1f}",
                        f"{d.detectable:.1f}",
                        f"{gain.mean:+.1f}" if gain and block != "published" else "–",
                    ]
                )
            answer = "–"
            if block in CHANGES and len(without) == len(against) == TASKS and not is_partial(arm, values):
                level = all(d.low > -1 for d in against.values())
                answer = "yes" if level and all(d.mean > 0 for d in without.values()) else "no"
            rows += [[*row, answer if row is shown[-1] else ""] for row in shown]
    columns = [
        "change",
        "arm",
        "task",
        "random weights",
        "pretrained",
        "difference",
        "95 % interval",
        "detectable",
    ]
    return table([*columns, "gain of the change", "confirmed"], rows) if rows else ""


def choices(results: Path, planned: Mapping[str, Any]) -> str:
    """Return the table of question 6: the means of each way of fine-tuning, and what was chosen on dev."""
    ways = {"published": by_arm(rows_of(results, "published"))}
    picked = {}
    for block, how in planned["blocks"].items():
        if "best_of" in how:
            picked[block] = chosen_rows(results, how["best_of"])
            ways[block] = by_arm(picked[block])
    cells = sorted({cell for block in picked for values in ways[block].values() for cell in values})
    rows = []
    for cell in cells:
        for arm in ways["published"] | ways["fair"]:
            if arm == "kmer-linear" or cell not in ways["fair"].get(arm, {}):
                continue
            means = [cell_mean(values.get(arm, {}), cell) for values in ways.values()]
            said = [
                "; ".join(row["chosen"] for run, row in rows.items() if (run.arm, run.cell) == (arm, cell))
                or "–"
                for rows in picked.values()
            ]
            rows.append([str(cell), arm, *means, *said])
    return table(["task", "arm", *ways, *(f"chosen: {block}" for block in picked)], rows) if rows else ""


def with_all_labels(blocks: Mapping[str, Mapping[str, Values]], first: str, second: str) -> str:
    """Return the end of a sentence of the verdict: two arms, fine-tuned fairly on all rows; empty without scores."""
    found = answers("fair", blocks.get("fair", {}), first, second)
    return "".join(
        f"; with all labels of {d.n} tasks the difference is {d.mean:+.1f} MCC × 100 (95 % interval {d.low:+.1f} to"
        f" {d.high:+.1f}: {answer})"
        for d, answer in found
    )


def verdict(blocks: Mapping[str, Mapping[str, Values]]) -> str:
    """Return the verdict in two sentences; empty before the few-shot block has its arms."""
    arms = blocks["fewshot"]
    weights, linear, curriculum = (
        answers("fewshot", arms, first, second)
        for first, second in (("random-weights", "random"), ("kmer-linear", "random"), ("random", "cm-gems"))
    )
    if not (weights and linear and curriculum):
        return ""

    def better(found: Sequence[tuple[Difference, str]]) -> str:
        return f"in {sum(answer == 'yes' for _, answer in found)} of {len(found)}"

    pretraining, masks = (
        with_all_labels(blocks, *pair) for pair in (("random-weights", "random"), ("random", "cm-gems"))
    )
    return (
        "With 10 and 50 labels per class on two tasks, a `tiny` pretrained with random masks is better than random"
        f" weights {better(weights)} settings (by {span(weights)} points of accuracy) and better than logistic"
        f" regression on k-mer counts {better(linear)} ({span(linear)}){pretraining}."
        f" At equal tokens, CM-GEMS is better than random masks {better(curriculum)}"
        f" ({span(curriculum)}){masks}."
    )


def means(block: str, arms: Mapping[str, Values]) -> str:
    """Return the table of all means: mean and standard deviation over runs."""
    cells = sorted(
        {cell for values in arms.values() for cell in values}, key=lambda c: (c.task, int(c.shots or 0))
    )
    rows = []
    for arm, values in arms.items():
        row = [arm]
        for cell in cells:
            runs = [value for draws in values.get(cell, {}).values() for value in draws.values()]
            spread = f" ± {np.std(runs, ddof=1):.1f}" if len(runs) > 1 else ""
            row.append(f"{np.mean(runs):.1f}{spread}" if runs else "–")
        rows.append(row)
    for model in PAPER:
        published = {key_of(score).label: score.value for score in published_scores(model)}
        printed = [published.get(str(cell)) for cell in cells]
        if any(printed):
            rows.append(
                [f"paper: {model}", *("–" if value is None else f"{100 * value:.1f}" for value in printed)]
            )
    return table(["arm", *map(str, cells)], rows)


def of_logo(results: Path) -> Path:
    """Return the results of the study's larger model."""
    return results.with_name(f"{results.name}-logo")


def side_by_side(results: Path) -> str:
    """Return the table of frozen models of both sizes; empty without the larger one."""
    larger = values_of(of_logo(results), "frozen")
    if not larger:
        return ""
    smaller = values_of(results, "frozen")
    shown = {"kmer-linear": smaller["kmer-linear"]}
    for size, arms in (("tiny", smaller), ("logo", larger)):
        shown |= {f"{size}, {arm}": arms[arm] for arm in FROZEN if arm in arms}
    return means("frozen", shown)


def ways_of_logo(results: Path) -> str:
    """Return the table of question 5 with the larger model, run by run; empty without scores."""
    rows = []
    for block in ("published", PLAIN, *CHANGES):
        found = rows_of(of_logo(results), block)
        weights = {run.cell: row for run, row in found.items() if run.arm == "random-weights"}
        for run, row in found.items():
            if run.arm in NOT_PRETRAINED or run.cell not in weights:
                continue
            both = (weights[run.cell], row)
            first, second = (100 * float(one["value"]) for one in both)
            chosen = [one["chosen"] or "–" for one in both]
            shown = (f"{first:.1f}", f"{second:.1f}", f"{second - first:+.1f}")
            rows.append([way_of(block), run.arm, str(run.cell), *shown, *chosen])
    columns = ["change", "arm", "task", "random weights", "pretrained", "difference"]
    return table([*columns, "chosen: random weights", "chosen: pretrained"], rows) if rows else ""


def lacking(results: Path, planned: Mapping[str, Any]) -> str:
    """Return the arms whose seeds a block with results lacks."""
    study = Study(dict(planned))
    found = []
    for block in study.judged:
        if (results / block).is_dir():
            pieces = [
                piece for piece in study.pieces(block) if not (results / block / f"{piece.name}.csv").exists()
            ]
            counts = Counter(piece.arm for piece in pieces)
            arms = ", ".join(f"{arm} ({counted(n, 'seed')})" for arm, n in counts.items())
            found += [f"in `{block}` {arms}"] if arms else []
    return "; ".join(found)


def pretrained(results: Path) -> str:
    """Return the table of the pretrained models."""
    path = results / "pretraining.csv"
    if not path.exists():
        return ""
    of_arm: dict[str, list[dict[str, str]]] = {}
    with path.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            arm = row["model"].partition("-")[2].rpartition("-s")[0]
            of_arm.setdefault(arm, []).append(row)
    rows = []
    for arm, models in of_arm.items():
        perplexity = [float(model["perplexity"]) for model in models]
        masked = np.mean([float(model["masked"]) for model in models])
        switched = (
            ", ".join(model["switched_at_step"] or "never" for model in models) if "cm-gems" in arm else "–"
        )
        rows.append(
            [arm, str(len(models)), f"{np.mean(perplexity):,.0f}", f"{min(perplexity):,.0f} to {max(perplexity):,.0f}",
             f"{100 * masked:.1f} %", switched]
        )  # fmt: skip
    return table(["arm", "models", "perplexity", "range", "masked", "switched at step"], rows)


def parts(results: Path) -> Iterator[str]:
    """Yield the parts of the results: what is done, the models, each question, all means."""
    planned = yaml.safe_load(STUDY.read_text(encoding="utf-8"))
    blocks = values_of_all(results, planned)
    runs = sum(
        len(draws)
        for block, arms in blocks.items()
        if "best_of" not in planned["blocks"][block]
        for arm, values in arms.items()
        if arm != "kmer-linear"
        for seeds in values.values()
        for draws in seeds.values()
    )
    models = pretrained(results)
    summary = verdict(blocks)
    if not models and not runs:
        yield "None yet."
        return
    done = [block for block, arms in blocks.items() if arms]
    missing = [block for block, arms in blocks.items() if not arms]
    yield f"Fine-tuning runs so far: {runs:,}. Blocks with results: {', '.join(done) or 'none'}." + (
        f" Not run yet: {', '.join(missing)}." if missing else ""
    )
    if partial := lacking(results, planned):
        yield f"Still to be run: {partial}."
    if summary:
        rule = (
            "A claim is *confirmed* here if an answer is yes and none no or worse, *mixed* if there are both, and"
            " *not confirmed* without a yes."
        )
        yield f"### Verdict\n\n{summary}\n\n### The paper's claims\n\n{rule}\n\n{claims(blocks)}"
    if models:
        shown = "Perplexity on the validation sample under fixed GENEMASK masks: mean and range over seeds."
        yield f"### The models\n\n{shown}\n\n{models}"
    for title, pairs in QUESTIONS.items():
        found = {block: comparisons(block, blocks[block], pairs) for block in JUDGED}
        if any(found.values()):
            yield f"### {title}\n\n" + "\n\n".join(
                f"`{block}`:\n\n{text}" for block, text in found.items() if text
            )
    if changes := interventions(blocks):
        shown = (
            "Means over seeds. The published recipe has one rate, 3e-5; all others have the best of 1e-4, 3e-4 and 1e-3"
            " on dev, alone or with one change. The gain is that of pretrained weights: of the rate over the published"
            " recipe, of a change over the rate alone."
        )
        larger = ways_of_logo(results)
        larger = larger and f"\n\n`logo`, one seed, which answers nothing:\n\n{larger}"
        yield f"### 5. Why do pretrained weights lose\n\n{shown}\n\n{changes}{larger}"
    if ways := choices(results, planned):
        yield f"### 6. Which way of fine-tuning is fair\n\nMeans over seeds, and what each seed chose.\n\n{ways}"
    if both := side_by_side(results):
        shown = (
            "MCC × 100 of frozen models, mean ± standard deviation over seeds: `tiny` has three, `logo` one. The"
            " paper's models have 89 million parameters and were fine-tuned as a whole."
        )
        models = f"The pretrained `logo`:\n\n{pretrained(of_logo(results))}"
        yield f"### Two sizes, frozen\n\n{shown}\n\n{both}\n\n{models}"
    for block, values in blocks.items():
        if values:
            name = "Accuracy" if block == "fewshot" else "MCC"
            shown = (
                f"{name} × 100, mean ± standard deviation over runs. The paper's models have 89 million parameters,"
                " were fine-tuned as a whole and, with few labels, on other draws of rows."
            )
            yield f"### All means: `{block}`\n\n{shown}\n\n{means(block, values)}"


def page(results: Path, text: str) -> str:
    """Return the page with its results written anew."""
    before, heading, _ = text.partition(HEADING)
    if not heading:
        raise SystemExit(f"the page has no heading {HEADING.strip()!r}")
    return f"{before}{HEADING}\n" + "\n\n".join(parts(results)) + "\n"


def readme(results: Path, text: str) -> str:
    """Return the README with the verdict written anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"the README has no lines {BEGIN.strip()} and {END.strip()}")
    summary = verdict(values_of_all(results, yaml.safe_load(STUDY.read_text(encoding="utf-8"))))
    return (
        before + begin + "".join(f"{line}\n" for line in textwrap.wrap(summary, README_WIDTH)) + end + after
    )


if __name__ == "__main__":
    given = [Path(path) for path in sys.argv[1:]]
    results, target, first_page = [*given, *(RESULTS, PAGE, README)[len(given) :]]
    for file, write in ((target, page), (first_page, readme)):
        file.write_text(write(results, file.read_text(encoding="utf-8")), encoding="utf-8")
