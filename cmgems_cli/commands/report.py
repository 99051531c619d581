"""`cmgems report`: finished runs as one page, with pictures, methods and provenance."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from cmgems_cli import workspace
from cmgems_cli.extras import need
from cmgems_cli.option_fields import option
from cmgems_cli.options import Shared, takes


@takes("out seed overwrite json quiet config", out="the workspace's report")
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders that cmgems wrote, of any kind, and paper:NAME for published scores; default: all of the"
            " workspace's. The last scores are compared with each of the others.",
            metavar="RUN…",
            show_default=False,
        ),
    ] = None,
    title: str | None = option(None, "--title", "First heading of the report.", shown="cmgems report"),
    *,
    io: Shared,
) -> None:
    """Write a report of finished runs: one HTML page, and Markdown with pictures.

    Models give learning curves, pmi folders the NPMI ranking, scores their tables, the paper's Figures 3 and 4
    (for 4 name the models too), differences and mean ranks; runs that kept their predictions give ROC, precision and
    recall, calibration and confusion matrices, task by task. With a methods paragraph, BibTeX and provenance.
    Needs matplotlib: pip install 'cmgems\\[plots]'

    Example: cmgems report cmgems-work/models/logo-cm-gems cmgems-work/scores/logo-cm-gems-gue --out report
    """
    started = time.perf_counter()
    console = io.console()
    from cmgems_cli.output_state import check_place
    from cmgems_cli.reporting.document import TITLE
    from cmgems_cli.reporting.output import PAGE, write_report
    from cmgems_cli.reporting.sources import read_runs, runs_of_workspace

    need("matplotlib", "plots", "a report with pictures")
    out = io.out or workspace.report_folder()
    check_place(out, "report")
    opened = read_runs(runs or runs_of_workspace(workspace.workspace()))
    with console.progress("report", 6, "parts") as bar:
        manifest = write_report(
            opened,
            out,
            seed=io.seed,
            title=title or TITLE,
            overwrite=io.overwrite,
            advance=bar.advance,
        )
    named = [
        {"tag": run.tag, "named": run.named, "kind": run.kind, "digest": run.manifest and run.manifest.digest}
        for run in opened
    ]
    console.finished(manifest, out, started, files=list(manifest.files), runs=named)
    counts = [(manifest.stats["runs"], "run"), (manifest.stats["pictures"], "picture")]
    words = " with ".join(f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counts)
    console.say(f"report of {words}: open {out / PAGE}")
