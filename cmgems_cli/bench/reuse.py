"""Finished runs of other evaluations that a run of the same data and options need not repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from cmgems_cli import workspace
from cmgems_cli.artifacts import Manifest, environment, is_finished
from cmgems_cli.comparing.scores import KMER_LINEAR
from cmgems_cli.output_state import Holds
from cmgems_cli.outputs import Output


def neighbours(folder: Path, runs: str, run: str) -> list[Path]:
    """Return a finished run's folder in all evaluations in a folder and in the workspace, models' and `kmer-linear`'s.

    Parameters
    ----------
    folder : Path
    runs : str
        Name of the folder of an evaluation's runs.
    run : str
        Name of the run's folder.
    """
    patterns = (f"*/{runs}/{run}", f"*/{runs}/{KMER_LINEAR}/{runs}/{run}")
    roots = (folder, workspace.workspace() / "scores")
    found = (path for root in roots for pattern in patterns for path in sorted(root.glob(pattern)))
    return [path for path in dict.fromkeys(found) if is_finished(path)]


def take_over(output: Output, folders: Iterable[Path], *, any_version: bool = False) -> Path | None:
    """Copy the first of these runs that is what `output` would be; return its folder, or None if there is no such run.

    It has to have the same parameters and inputs, be made by the same versions unless `any_version`, and have the files
    of its manifest.

    Parameters
    ----------
    output : Output
        Of the run to make.
    folders : iterable of Path
        Of finished runs.
    """
    versions = environment(0.0)["versions"]
    for folder in folders:
        other = Output(folder, output.kind, params=output.params, inputs=output.inputs())
        state = other.state()
        made = state.manifest
        if state.holds is not Holds.SAME or made is None:
            continue
        if not any_version and made.environment.get("versions") != versions:
            continue
        content = _content(folder, made)
        if content is None:
            continue
        with output.claim(overwrite=True, resume=False) as claim:
            if claim.done is None:
                for name, data in content.items():
                    (claim.folder / name).write_bytes(data)
                claim.finish(stats=made.stats, files=content, environment=made.environment)
        return folder
    return None


def _content(folder: Path, made: Manifest) -> dict[str, bytes] | None:
    """Return a run's files; None if they are no longer those of its manifest."""
    try:
        content = {name: (folder / name).read_bytes() for name in made.files}
    except OSError:
        return None
    same = all(
        hashlib.sha256(data).hexdigest() == made.files[name]["sha256"] for name, data in content.items()
    )
    return content if same else None
