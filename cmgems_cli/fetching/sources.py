"""The downloads of `cmgems fetch`: their sources, licences and folders in the workspace."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmgems_cli import workspace
from cmgems_cli.datasets.benchmark import SPLITS
from cmgems_cli.datasets.benchmark_file import shipped
from cmgems_cli.errors import CmgemsError, UsageError
from cmgems_cli.fetching.transfer import TIMEOUT_S, Checksum, RemoteFile, is_there, is_web_address
from cmgems_cli.files import write_json
from cmgems_cli.structured_text import read_json

# File in the folder of a download that records the sources and checksums of its files.
RECORD = "fetched.json"

# UCSC's bigZips/md5sum.txt; the size is the server's.
GRCH38_URL = "https://hgdownload.soe.ucsc.edu/goldenPath/hg38/bigZips/hg38.fa.gz"
GRCH38_BYTES = 983_659_424
GRCH38_MD5 = "1c9dcaddfa41027f17cd8f7a82c7293b"

# Variables of huggingface_hub, read at each call instead of at import.
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_YES = {"1", "ON", "YES", "TRUE"}


# What stands behind the content of a mirror.
MD5_NOTE = (
    "the file is checked by the size and MD5 that UCSC publishes; MD5 finds accidents, not every forgery: use a mirror"
    " that you trust"
)
UNVERIFIED_NOTE = (
    "unverified: the checksums come from the mirror itself, so they find accidents and no forgery; use a mirror that"
    " you trust"
)


@dataclass(frozen=True)
class Download:
    """A download whose files are known, before it begins.

    Attributes
    ----------
    title : str
        Description for the user.
    source : str
        The page it comes from.
    revision : str or None
        The commit, if the source is a repository on a hub.
    licence : str
        The licence given by the source, or a note that it gives none.
    files : tuple of RemoteFile
    out : Path
        The file, or the folder that holds the files.
    notes : tuple of str
        Problems with the download, if any.
    verified : bool
        Whether the checksums come from somewhere else than the files.
    reference : str or None
        The tag, branch or commit that was asked for.
    """

    title: str
    source: str
    revision: str | None
    licence: str
    files: tuple[RemoteFile, ...]
    out: Path
    notes: tuple[str, ...] = ()
    verified: bool = True
    reference: str | None = None

    @property
    def size_bytes(self) -> int:
        """Total size of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class Repository:
    """Files of a repository on the Hugging Face hub.

    Attributes
    ----------
    title, licence : str
        As in `Download`; `licence` is used if the repository names none.
    repo_id, repo_type : str
        `repo_type` is model or dataset.
    revision : str
        A commit, or main for the latest commit.
    local_path : callable
        Maps a file of the repository to its path below the folder; None if the file is not fetched.
    expected : frozenset of str
        The local paths of all required files.
    """

    title: str
    licence: str
    repo_id: str
    repo_type: str
    revision: str
    local_path: Callable[[str], str | None]
    expected: frozenset[str]

    @property
    def page(self) -> str:
        """URL of the repository on the hub."""
        return f"https://huggingface.co/{'datasets/' if self.repo_type == 'dataset' else ''}{self.repo_id}"


_GUE_TASKS = [task.path for task in shipped("gue").tasks]


def _gue_folders() -> dict[str, str]:
    """Return the task of each folder of GUE, as the hub's copy names it (`human_tf_0`) and as its authors do."""
    renamed = {"EMP": "emp", "tf": "human_tf"}
    tasks = {}
    for task in _GUE_TASKS:
        group, name = task.split("/")
        short = name if group == "prom" else f"{renamed.get(group, group)}_{name}"
        tasks[short.casefold()] = tasks[task.casefold()] = task
    return tasks


_GUE_FOLDERS = _gue_folders()


def local_path_of_gue(path: str) -> str | None:
    """Return the local path of a file in GUE's repository: `EMP/H3/train.csv`; None if it belongs to no task.

    >>> local_path_of_gue("GUE/human_tf_0/dev.csv"), local_path_of_gue("GUE/EPI_K562/dev.csv")
    ('tf/0/dev.csv', None)
    """
    *folder, name = path.split("/")
    task = _GUE_FOLDERS.get("/".join(folder).removeprefix("GUE/").casefold())
    return f"{task}/{name}" if task and name in {f"{split}.csv" for split in SPLITS} else None


# All files of the repository except its code, which this package never runs.
_DNABERT6_FILES = frozenset(
    {
        "LICENSE",
        "config.json",
        "pytorch_model.bin",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "vocab.txt",
    }
)

GUE_REPOSITORY = Repository(
    title="GUE, the Genome Understanding Evaluation benchmark: train, dev and test of 28 tasks",
    licence="not given there; GUE's authors publish it with DNABERT-2, under Apache-2.0",
    repo_id="leannmlindsey/GUE",
    repo_type="dataset",
    revision="main",
    local_path=local_path_of_gue,
    expected=frozenset(f"{task}/{split}.csv" for task in _GUE_TASKS for split in SPLITS),
)
DNABERT6_REPOSITORY = Repository(
    title="DNABERT-6, its authors' weights after 120,000 steps",
    licence="Apache-2.0 (LICENSE file in the repository)",
    repo_id="zhihan1996/DNA_bert_6",
    repo_type="model",
    revision="55e0c0eb7b734c8b9b77bc083bf89eb6fbda1341",
    local_path=lambda path: path if path in _DNABERT6_FILES else None,
    expected=_DNABERT6_FILES,
)
REPOSITORIES = {"gue": GUE_REPOSITORY, "dnabert6": DNABERT6_REPOSITORY}


def default_out(name: str) -> Path:
    """Return the default location of a download, where the commands that use it look for it."""
    if name == "grch38":
        return workspace.downloads_folder() / "hg38.fa.gz"
    return workspace.pretrained_folder(name) if name == "dnabert6" else workspace.benchmark_folder(name)


def offline() -> str | None:
    """Return the variable setting that forbids network access (`HF_HUB_OFFLINE=1`), or None."""
    for name in _OFFLINE_VARIABLES:
        if os.environ.get(name, "").upper() in _YES:
            return f"{name}={os.environ[name]}"
    return None


def look_up(name: str, out: Path, mirror: str | None = None) -> Download:
    """Determine the files of a download; for a repository on a hub, by querying the hub.

    Parameters
    ----------
    name : str
        grch38, gue or dnabert6.
    out : Path
    mirror : str, optional
        Alternative URL: of the file (grch38), or of a hub.

    Raises
    ------
    CmgemsError
        If the hub cannot be reached or lacks a required file.
    UsageError
        If the mirror is not an address of the web.
    """
    if name == "grch38":
        _check_mirror(mirror)
        file = RemoteFile(mirror or GRCH38_URL, out, GRCH38_BYTES, Checksum("md5", GRCH38_MD5))
        return Download(
            title="human genome GRCh38, UCSC hg38: soft-masked FASTA, all contigs",
            source=file.url,
            revision=None,
            licence="UCSC: freely usable for any purpose (https://genome.ucsc.edu/goldenPath/credits.html)",
            files=(file,),
            out=out,
            notes=() if mirror is None else (MD5_NOTE,),
        )
    return look_up_repository(REPOSITORIES[name], out, mirror)


def _check_mirror(mirror: str | None) -> None:
    if mirror is not None and not is_web_address(mirror):
        raise UsageError(f"`mirror` {mirror!r} is not an address of the web; needed https:// or http://")


def look_up_repository(repository: Repository, out: Path, mirror: str | None = None) -> Download:
    """Determine the files of a repository by querying its hub; parameters as `look_up`.

    Raises
    ------
    CmgemsError
        If the hub cannot be reached, or lacks the repository, its revision or a required file.
    UsageError
        If the mirror is not an address of the web.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    _check_mirror(mirror)
    try:
        # No token: the repositories are public, and a mirror should not receive one.
        info: Any = HfApi(endpoint=mirror, token=False).repo_info(
            repository.repo_id,
            repo_type=repository.repo_type,
            revision=repository.revision,
            files_metadata=True,
            timeout=TIMEOUT_S,
        )
    except RepositoryNotFoundError:
        raise CmgemsError(
            f"the hub has no {repository.repo_type} {repository.repo_id} that is public; check its name"
        ) from None
    except RevisionNotFoundError:
        raise CmgemsError(
            f"{repository.repo_id} has no commit, tag or branch {repository.revision!r}; check `revision`"
        ) from None
    except (HTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CmgemsError(
            f"cannot reach the hub for {repository.repo_id} ({reason}); check the network (HTTPS_PROXY?), or give"
            " another hub as `mirror`"
        ) from None
    if getattr(info, "gated", False):
        raise CmgemsError(
            f"{repository.page} gives its files only to users who accepted its terms; download it with your account"
        )
    files = {}
    for entry in info.siblings:
        local_path = repository.local_path(entry.rfilename)
        if local_path is not None:
            url = hf_hub_url(
                repository.repo_id,
                entry.rfilename,
                repo_type=repository.repo_type,
                revision=info.sha,
                endpoint=mirror,
            )
            checksum = Checksum("sha256", entry.lfs.sha256) if entry.lfs else Checksum("git", entry.blob_id)
            files[local_path] = RemoteFile(url, out / local_path, entry.size, checksum)
    missing = sorted(repository.expected - files.keys())
    if not files or (missing and repository.repo_type == "model"):
        raise CmgemsError(f"{repository.page} does not have {', '.join(missing)}; update cmgems")
    licence = getattr(info.card_data, "license", None)
    return Download(
        title=repository.title,
        source=repository.page if mirror is None else f"{mirror} ({repository.repo_id})",
        revision=info.sha,
        licence=f"{licence} (as its page says)" if licence else repository.licence,
        files=tuple(files[name] for name in sorted(files)),
        out=out,
        notes=(
            *(f"the hub no longer has {name}" for name in missing),
            *(() if mirror is None else (UNVERIFIED_NOTE,)),
        ),
        verified=mirror is None,
        reference=repository.revision,
    )


def write_record(download: Download, *, made_from: Sequence[RemoteFile] = ()) -> None:
    """Record the sources of a folder's files once all of them are present.

    Parameters
    ----------
    download : Download
    made_from : sequence of RemoteFile, optional
        Files that were fetched and converted, and are no longer there.
    """
    write_json(
        download.out / RECORD,
        {
            "title": download.title,
            "source": download.source,
            "revision": download.revision,
            "reference": download.reference,
            "licence": download.licence,
            "verified": download.verified,
            "files": _entries(download.files, download.out),
            **({"made_from": _entries(made_from, download.out)} if made_from else {}),
        },
    )


def _entries(files: Iterable[RemoteFile], folder: Path) -> dict[str, dict[str, Any]]:
    return {
        file.path.relative_to(folder).as_posix(): {
            "url": file.url,
            "bytes": file.size_bytes,
            file.checksum.algorithm: file.checksum.hexdigest,
        }
        for file in files
    }


def read_record(out: Path) -> Download | None:
    """Return the download in a folder if every file is present and unchanged, otherwise None."""
    try:
        record = read_json(out / RECORD)
        files = []
        for name, entry in record["files"].items():
            (algorithm,) = entry.keys() - {"url", "bytes"}
            files.append(
                RemoteFile(entry["url"], out / name, entry["bytes"], Checksum(algorithm, entry[algorithm]))
            )
        download = Download(
            record["title"],
            record["source"],
            record["revision"],
            record["licence"],
            tuple(files),
            out,
            verified=record.get("verified") is True,
            reference=record.get("reference"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return download if all(is_there(file) for file in files) else None
