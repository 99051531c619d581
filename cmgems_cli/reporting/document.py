"""The whole report: chapters on data, models, scores and classifiers, methods, and provenance."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence

from cmgems_cli import __version__
from cmgems_cli.artifacts import MANIFEST, Manifest
from cmgems_cli.comparing.tables import ReportTable
from cmgems_cli.reporting.classifiers_chapter import classifiers_section
from cmgems_cli.reporting.comparison_chapter import compare_runs
from cmgems_cli.reporting.elements import Code, Document, Folded, Part, Section, Table, Text
from cmgems_cli.reporting.methods import methods_section
from cmgems_cli.reporting.pretraining_chapter import data_section, models_section, ranking_section
from cmgems_cli.reporting.scores_chapter import score_sections
from cmgems_cli.reporting.sources import PUBLISHED, Run
from cmgems_cli.reporting.summary import summary_section

# Longest list of inputs that is shown; the manifest, collapsed below, has all of them.
INPUTS_SHOWN = 6

TITLE = "cmgems report"


def make_document(
    runs: Sequence[Run], *, seed: int, title: str = TITLE, advance: Callable[[float], None]
) -> Document:
    """Make the report of these runs.

    Parameters
    ----------
    runs : sequence of Run
        From `read_runs`; at least one.
    seed : int
        Of bootstrap and sign flips.
    title : str, optional
    advance : callable
        Called with 1 after each of six parts.

    Returns
    -------
    Document
        The same for the same runs, seed and title: its dates are those of the runs.

    Raises
    ------
    InputError
        If a file of a run cannot be read.
    """
    colours = _colours(runs)
    chapters: list[Section | None] = []
    for part in (data_section, ranking_section):
        chapters.append(part(runs))
        advance(1)
    chapters.append(models_section(runs, colours))
    advance(1)
    comparisons = compare_runs(runs, seed)
    chapters += score_sections(runs, colours, comparisons)
    advance(1)
    chapters += [classifiers_section(runs), methods_section(runs, comparisons, seed)]
    advance(1)
    sections = [chapter for chapter in chapters if chapter]
    document = Document(
        title, [summary_section(runs, comparisons), *sections, _list_of_runs(runs), *_provenance(runs)]
    )
    advance(1)
    return document


def _colours(runs: Sequence[Run]) -> dict[str, int]:
    """Return a number per label: a model has one colour in every picture."""
    drawn = [run.label for run in runs if run.kind in ("model", "scores")]
    return {label: index for index, label in enumerate(dict.fromkeys(drawn))}


def _list_of_runs(runs: Sequence[Run]) -> Section:
    rows: list[list[str | None]] = [
        [run.tag, run.label, run.kind, run.manifest.digest[:12] if run.manifest else None] for run in runs
    ]
    return Section(
        "Runs",
        [
            Table(ReportTable("", ["run", "name", "kind", "digest"], rows), []),
            Text(
                "R1, R2, … under tables and pictures give the runs that their numbers come from; “Where the numbers"
                " come from”, at the end, has each run's command, versions, seeds and digests. A digest names a result"
                " by its content: equal digests, equal results."
            ),
        ],
    )


# ------------------------------------------------------------------ provenance


def _provenance(runs: Sequence[Run]) -> list[Section]:
    opening = Text(
        "What each run's manifest records. The digest is the sha256 of its kind, parameters, inputs, files and counts;"
        " cmgems info FOLDER --verify checks it. Command, versions and machine are recorded too, but not part of it."
    )
    by_digest = {run.manifest.digest: run for run in reversed(runs) if run.manifest}
    sections = [Section("Where the numbers come from", [opening])]
    for run in runs:
        sections.append(Section(f"{run.tag}: {run.label}", _origin(run, by_digest), level=3, anchor=run.tag))
    return sections


def _origin(run: Run, by_digest: dict[str, Run]) -> list[Part]:
    if run.kind == PUBLISHED or run.manifest is None:
        model = run.source.model if run.source else run.named
        return [
            Text(
                f"{model}: values as printed in the paper's Tables 2, 4 and 6, shipped with cmgems {__version__}."
            )
        ]
    made, around = run.manifest, run.manifest.environment
    versions = around.get("versions", {})
    rows: list[tuple[str, str | None]] = [
        ("folder", run.named),
        ("kind", f"{made.kind}, schema {made.schema}"),
        ("digest", made.digest),
        ("command", shlex.join(map(str, around.get("command", []))) or None),
        ("seed", _seeds(run)),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items()) or None),
        ("machine", "; ".join(str(around[name]) for name in ("platform", "device") if around.get(name)) or None),
        ("precision", around.get("precision")),
        ("processes", None if around.get("processes") is None else str(around["processes"])),
        ("finished", around.get("finished_at")),
        ("seconds", None if around.get("elapsed_s") is None else f"{around['elapsed_s']:,.1f}"),
        *((f"input {name}", _input(digest, by_digest)) for name, digest in _inputs(made.inputs)),
    ]  # fmt: skip
    if len(made.inputs) > INPUTS_SHOWN:
        rows.append(
            (
                "further inputs",
                f"{len(made.inputs) - len(_inputs(made.inputs))} fine-tuning runs, in the manifest",
            )
        )
    shown: list[list[str | None]] = [[name, value] for name, value in rows if value is not None]
    return [
        Table(ReportTable("", ["", "recorded"], shown), []),
        Folded(f"The whole {MANIFEST}", [Code(_json(made), "json")]),
    ]


def _json(made: Manifest) -> str:
    # `fresh` is not stored.
    recorded = {name: value for name, value in made.__dict__.items() if name != "fresh"}
    return json.dumps(recorded, indent=1, ensure_ascii=False)


def _seeds(run: Run) -> str | None:
    params = run.made.params
    if params.get("seeds"):
        return ", ".join(map(str, params["seeds"]))
    return None if params.get("seed") is None else str(params["seed"])


def _inputs(inputs: dict[str, str]) -> list[tuple[str, str]]:
    """Return all of a few inputs; of many, those that are not single fine-tuning runs."""
    if len(inputs) <= INPUTS_SHOWN:
        return list(inputs.items())
    return [(name, digest) for name, digest in inputs.items() if not name.startswith("runs/")]


def _input(digest: str, by_digest: dict[str, Run]) -> str:
    known = by_digest.get(digest)
    return f"{digest} ({known.tag}: {known.label})" if known else digest
