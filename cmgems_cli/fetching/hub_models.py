"""A model of a hub, brought into the workspace; one that would not open is refused before its weights are fetched."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cmgems_cli.errors import InputError, OverwriteError, UsageError
from cmgems_cli.fetching.sources import (
    RECORD,
    Download,
    Repository,
    look_up_repository,
    read_record,
    write_record,
)
from cmgems_cli.fetching.transfer import Checksum, RemoteFile, fetch
from cmgems_cli.files import exchange, hidden_name, is_own_folder

CONFIG = "config.json"
SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LICENCES = ("LICENSE", "LICENSE.md", "LICENSE.txt")
# Weights in several files.
_PARTS = {
    SAFETENSORS: re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors", re.ASCII),
    PICKLED: re.compile(r"pytorch_model-(\d{5})-of-(\d{5})\.bin", re.ASCII),
}


@dataclass(frozen=True)
class HubModel:
    """A model of a hub whose settings were read and accepted.

    Attributes
    ----------
    download : Download
        The files that are needed, in a staging folder next to `out`.
    out : Path
        The model's folder.
    """

    download: Download
    out: Path

    @property
    def weights(self) -> list[RemoteFile]:
        """The files of weights."""
        return [file for file in self.download.files if file.path.suffix in (".safetensors", ".bin")]

    @property
    def pickled(self) -> list[Path]:
        """Those that become one `model.safetensors`."""
        return [file.path for file in self.weights if file.path.suffix == ".bin"]


def check_hub_id(hub_id: str | None) -> str:
    """Return a model's name on a hub, `OWNER/NAME`.

    Raises
    ------
    UsageError
        If it is something else.
    """
    if hub_id is None or not _HUB_ID.fullmatch(hub_id) or ".." in hub_id:
        said = "no model is named" if hub_id is None else f"{hub_id!r} is not the name of a model on a hub"
        raise UsageError(
            f"{said}; needed OWNER/NAME, for example `cmgems fetch model zhihan1996/DNABERT-2-117M`"
        )
    return hub_id


def recorded_model(hub_id: str, out: Path, revision: str | None, *, overwrite: bool) -> Download | None:
    """Return what an earlier fetch recorded in `out`, if it is this model and whole; None if it is to be fetched.

    Raises
    ------
    OverwriteError
        If `out` holds something else, or is to be overwritten and was not made by a fetch.
    """
    if not out.exists():
        return None
    if overwrite:
        # A mistaken path must not cost a folder of the user's.
        if not (is_own_folder(out) and (out / RECORD).is_file()):
            raise OverwriteError(f"{out} was not made by fetch; remove it yourself or choose another `out`")
        return None
    record = read_record(out)
    if record is None:
        raise OverwriteError(
            f"{out} exists and is not a whole model that was fetched; remove it or choose another `out`"
        )
    if hub_id not in record.source:
        raise OverwriteError(f"{out} holds {record.source}; add `overwrite=True` or choose another `out`")
    if revision not in (None, record.revision, record.reference):
        raise OverwriteError(
            f"{out} holds commit {record.revision}; add `overwrite=True` or choose another `out`"
        )
    return record


def look_up_model(
    hub_id: str, out: Path, *, mirror: str | None = None, revision: str | None = None
) -> HubModel:
    """Determine the files of a model, and read its settings.

    Parameters
    ----------
    hub_id : str
        As returned by `check_hub_id`.
    out : Path
        The model's folder.
    mirror : str, optional
        URL of another hub.
    revision : str, optional
        A commit, tag or branch, of which the commit is used; by default the main branch.

    Raises
    ------
    CmgemsError
        If the hub cannot be reached or does not have the model.
    InputError
        If the model lacks settings or weights that can be read, or would not open here.
    """
    from cmgems_cli.modeling.folder import check_settings, read_settings
    from cmgems_cli.modeling.own_tokenizer import TOKENIZER_FILES

    repository = Repository(
        title=f"{hub_id}, a model",
        licence="not given by its page; ask its authors",
        repo_id=hub_id,
        repo_type="model",
        revision=revision or "main",
        local_path=lambda path: None if "/" in path else path,
        expected=frozenset({CONFIG}),
    )
    # The same at every call, so that a stopped transfer resumes.
    found = look_up_repository(repository, out.parent / hidden_name(out.name, "fetching"), mirror)
    files = {file.path.name: file for file in found.files}
    tokenizer = [name for name in TOKENIZER_FILES if name in files]
    with TemporaryDirectory() as folder:
        config = replace(files[CONFIG], path=Path(folder) / CONFIG)
        fetch(config)
        settings = read_settings(config.path)
    check_settings(settings, Path(hub_id) / CONFIG, has_tokenizer=bool(tokenizer))
    weights = _weights_among(files, repository.page)
    names = [CONFIG, *tokenizer, *(name for name in _LICENCES if name in files), *weights]
    return HubModel(replace(found, files=tuple(files[name] for name in names)), out)


def _weights_among(names: Collection[str], page: str) -> list[str]:
    """Return the files of weights to fetch: safetensors before pickles, one file before several."""
    for whole, pattern in _PARTS.items():
        if whole in names:
            return [whole]
        parts = {match[0]: (int(match[1]), int(match[2])) for match in map(pattern.fullmatch, names) if match}
        if parts:
            listed = sorted(parts)
            index = [f"{whole}.index.json"] if whole == SAFETENSORS else []
            complete = [parts[name] for name in listed] == [
                (number, len(parts)) for number in range(1, len(parts) + 1)
            ]
            if not complete or not set(index) <= set(names):
                raise InputError(f"{page} has only a part of the files of its weights ({', '.join(listed)})")
            return [*index, *listed]
    raise InputError(
        f"{page} has no weights that can be read without running code; needed {SAFETENSORS} or {PICKLED}"
    )


def check_opens(model: HubModel) -> None:
    """Check settings and tokenizer in the staging folder, before the weights are fetched.

    Raises
    ------
    InputError
        If the model would not open: the staging folder is removed.
    """
    from cmgems_cli.modeling.folder import read_architecture

    staging = model.download.out
    try:
        read_architecture(staging)
    except InputError as error:
        shutil.rmtree(staging)
        raise InputError(str(error).replace(str(staging), model.download.source)) from None


def publish(model: HubModel, *, overwrite: bool) -> Download:
    """Convert pickled weights, record the files, and give the staging folder its name.

    Returns
    -------
    Download
        What is in the model's folder now.

    Raises
    ------
    InputError
        If a pickle holds more than tensors, or is damaged.
    OverwriteError
        If something appeared at the model's folder.
    """
    download, staging = model.download, model.download.out
    if pickled := model.pickled:
        from cmgems_cli.modeling.weights import convert_pickled

        path = staging / SAFETENSORS
        convert_pickled(pickled, path)
        sha256 = Checksum("sha256", Checksum("sha256", "").of(path))
        made = RemoteFile(model.weights[0].url, path, path.stat().st_size, sha256)
        files = (*(file for file in download.files if file.path not in pickled), made)
        download = replace(download, files=files)
        write_record(download, made_from=[file for file in model.weights if file.path in pickled])
        for one in pickled:
            one.unlink()
    else:
        write_record(download)
    known = {RECORD, *(file.path.name for file in download.files)}
    for left in staging.iterdir():  # of a fetch of another revision that was stopped
        if left.name not in known:
            left.unlink()
    if not model.out.exists():
        staging.rename(model.out)
    elif not overwrite:
        raise OverwriteError(f"{model.out} appeared meanwhile; remove it or choose another `out`")
    else:
        if not exchange(staging, model.out):
            shutil.rmtree(model.out)
            staging.rename(model.out)
        shutil.rmtree(staging, ignore_errors=True)
    moved = (replace(file, path=model.out / file.path.name) for file in download.files)
    return replace(download, out=model.out, files=tuple(moved))
