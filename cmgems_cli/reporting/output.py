"""A report on disk: the artifact that `cmgems report` writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from cmgems_cli.artifacts import Manifest, environment
from cmgems_cli.files import as_bytes
from cmgems_cli.outputs import Output
from cmgems_cli.reporting.document import TITLE, make_document
from cmgems_cli.reporting.elements import Document
from cmgems_cli.reporting.html import page
from cmgems_cli.reporting.markdown import PICTURES, markdown
from cmgems_cli.reporting.methods import bibtex
from cmgems_cli.reporting.sources import Run

PAGE, TEXT, REFERENCES = "report.html", "report.md", "references.bib"


def write_report(
    runs: Sequence[Run],
    out: Path,
    *,
    seed: int,
    title: str = TITLE,
    overwrite: bool = False,
    advance: Callable[[float], None] = lambda amount: None,
) -> Manifest:
    """Write the page, the Markdown, the references and the pictures of a report.

    Parameters
    ----------
    runs : sequence of Run
        From `read_runs`; at least one.
    out : Path
        The artifact's folder.
    seed : int
        Of bootstrap and sign flips.
    title : str, optional
        First heading.
    overwrite : bool, default False
        Replace a finished report at `out`.
    advance : callable, optional
        Called with 1 after each of six parts.

    Raises
    ------
    OverwriteError
        If something different is at `out`.
    """
    started = time.perf_counter()
    output = Output(
        out,
        "report",
        # Labels are shown; published columns have no digest.
        params={"seed": seed, "title": title, "runs": [f"{run.kind} {run.label}" for run in runs]},
        inputs={run.tag: run.manifest.digest for run in runs if run.manifest},
    )
    with output.claim(overwrite=overwrite) as claim:
        if claim.done is not None:
            return claim.done
        document = make_document(runs, seed=seed, title=title, advance=advance)
        files = _content(document)
        for name, content in files.items():
            (claim.folder / name).parent.mkdir(exist_ok=True)
            (claim.folder / name).write_bytes(content)
        stats = {"runs": len(runs), "pictures": len(document.pictures)}
        return claim.finish(stats=stats, files=files, environment=environment(started))


def _content(document: Document) -> dict[str, bytes]:
    files = {
        PAGE: as_bytes(page(document)),
        TEXT: as_bytes(markdown(document)),
        REFERENCES: bibtex().encode(),
    }
    for picture in document.pictures:
        files[f"{PICTURES}/{picture.name}.svg"] = picture.svg
        files[f"{PICTURES}/{picture.name}.png"] = picture.png
    return files
