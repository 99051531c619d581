"""`cmgems info`: what an artifact is, how it was made and whether it is intact."""

from pathlib import Path
from typing import Annotated

import typer

from cmgems_cli.artifact_parts import verify_parts
from cmgems_cli.artifacts import is_finished, read_manifest
from cmgems_cli.commands.overview import progress_of
from cmgems_cli.errors import InputError
from cmgems_cli.option_fields import option
from cmgems_cli.options import Shared, takes
from cmgems_cli.readable import counted, size


@takes("json quiet config")
def info(
    artifact: Annotated[Path, typer.Argument(help="Folder that a cmgems command wrote.", show_default=False)],
    verify: bool = option(False, "--verify", "Hash every file and compare with the manifest."),
    *,
    io: Shared,
) -> None:
    """Show an artifact's manifest and lineage.

    Example: cmgems info cmgems-work/corpus --verify
    """
    from cmgems_cli.training.per_class import PER_CLASS, read_per_class, shown_per_class

    console = io.console()
    if not is_finished(artifact) and (words := progress_of(artifact)):
        raise InputError(f"{artifact}: {words}; the command that began it resumes it")
    manifest = read_manifest(artifact, verify=verify)
    if verify:
        count = len(manifest.files) + verify_parts(artifact, manifest)
        console.lines(
            [[(f"verified: {counted(count, 'file')} with the sha256 that the manifest says", "")], [("", "")]]
        )
    console.result({**manifest.__dict__, "verified": verify})
    console.table(
        f"{artifact}: {manifest.kind}, schema {manifest.schema}",
        ["field", "name", "value"],
        [
            ["digest", "", manifest.digest],
            *[["made from", name, digest] for name, digest in manifest.inputs.items()],
            *[["params", name, value] for name, value in manifest.params.items()],
            *[["stats", name, value] for name, value in manifest.stats.items()],
            *[["files", name, size(entry["bytes"])] for name, entry in manifest.files.items()],
            *[["environment", name, _flat(value)] for name, value in manifest.environment.items()],
        ],
    )
    if PER_CLASS in manifest.files:
        columns, rows = shown_per_class(read_per_class(artifact / PER_CLASS))
        console.table("test split by class", columns, rows)


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, list):
        return " ".join(str(inner) for inner in value)
    return str(value)
