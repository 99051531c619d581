"""A report on disk: a folder that appears whole or not at all, and never replaces anything but a report."""

from __future__ import annotations

import os
from pathlib import Path

from cmgems_cli.errors import OverwriteError
from cmgems_cli.files import move_files, staging_folder
from cmgems_cli.reporting.elements import Document
from cmgems_cli.reporting.html import GENERATOR, page
from cmgems_cli.reporting.markdown import PICTURES, markdown
from cmgems_cli.reporting.methods import bibtex

PAGE, TEXT, REFERENCES = "report.html", "report.md", "references.bib"

# Far enough into the page for its head.
_HEAD_BYTES = 2000


def check_out(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder before any work is done on its behalf.

    Raises
    ------
    OverwriteError
        If `out` is a report and `overwrite` is false, or holds anything that no report holds: then
        whatever `overwrite` says.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    foreign = _foreign(out)
    if foreign is not None:
        raise OverwriteError(
            f"{out} exists and is not a report ({foreign}); choose another --out or remove it yourself"
        )
    if not overwrite:
        raise OverwriteError(
            f"{out} already holds a report; add --overwrite to replace it or choose another --out"
        )


def _foreign(out: Path) -> str | None:
    """Say what of `out` no report wrote, or nothing."""
    if not out.is_dir():
        return "it is a file"
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        picture = path.parent == out / PICTURES and path.suffix in (".svg", ".png")
        if name not in (PAGE, TEXT, REFERENCES, PICTURES) and not picture:
            return f"it holds {name}"
    try:
        with (out / PAGE).open("rb") as stream:
            known = GENERATOR.encode() in stream.read(_HEAD_BYTES + len(GENERATOR))
    except OSError:
        known = False
    return None if known else f"it has no {PAGE} that a report wrote"


def write_report(document: Document, out: Path, *, overwrite: bool) -> list[str]:
    """Write the page, the Markdown, the references and the pictures.

    Parameters
    ----------
    document : Document
    out : Path
        The folder; the report is written beside it and moved there when it is whole.
    overwrite : bool
        Replace a report that is there.

    Returns
    -------
    list of str
        The files, relative to `out`.

    Raises
    ------
    OverwriteError
        As `check_out`, and if another command is writing to `out`.
    """
    check_out(out, overwrite=overwrite)
    # A byte of a file's name that is no UTF-8 is shown as an escape.
    files: dict[str, bytes] = {
        PAGE: page(document).encode(errors="backslashreplace"),
        TEXT: markdown(document).encode(errors="backslashreplace"),
        REFERENCES: bibtex().encode(),
    }
    for picture in document.pictures:
        files[f"{PICTURES}/{picture.name}.svg"] = picture.svg
        files[f"{PICTURES}/{picture.name}.png"] = picture.png
    target = Path(os.path.realpath(out))
    with staging_folder(target) as aside:
        check_out(out, overwrite=overwrite)
        for name, content in files.items():
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_bytes(content)
        if target.exists():
            # All of it a report's: `check_out`.
            for old in sorted(target.rglob("*"), reverse=True):
                old.rmdir() if old.is_dir() else old.unlink()
            # The page last: it is what tells a report from other folders.
            move_files(aside, target, reversed(files))
        else:
            aside.replace(target)
    return list(files)
