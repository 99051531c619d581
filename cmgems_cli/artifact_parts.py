"""Artifacts inside an artifact that was made from them: the runs of an evaluation, and theirs."""

from __future__ import annotations

from pathlib import Path

from cmgems_cli.artifacts import Manifest, read_manifest
from cmgems_cli.errors import InputError


def verify_parts(folder: Path, manifest: Manifest) -> int:
    """Hash the files of the artifacts inside an artifact that it was made from, and of those inside them.

    Returns
    -------
    int
        How many files there are. A part that was removed as a whole is passed over.

    Raises
    ------
    InputError
        If one is damaged, or is not the one that the manifest names.
    """
    count = 0
    for name in manifest.inputs:
        if "/" in name and ".." not in Path(name).parts and not Path(name).is_absolute():
            found = read_part(folder, manifest, name, verify=True)
            count += len(found.files) + verify_parts(folder / name, found) if found else 0
    return count


def read_part(folder: Path, manifest: Manifest, name: str, *, verify: bool = False) -> Manifest | None:
    """Read the manifest of an artifact inside an artifact that it was made from.

    Returns
    -------
    Manifest or None
        None if the whole was not made from it, or it was removed as a whole.

    Raises
    ------
    InputError
        As `read_manifest`, and if the part is not the one that the manifest of the whole names.
    """
    part = folder / name
    if name not in manifest.inputs or not part.is_dir():
        return None
    found = read_manifest(part, verify=verify)
    if found.digest != manifest.inputs[name]:
        raise InputError(f"{part} is not the one that {folder} was made from: make {folder} again")
    return found
