"""What `cmgems fetch` brings: from where, under which licence, and to where in the workspace."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cmgems_cli import workspace
from cmgems_cli.datasets.task_files import SPLITS
from cmgems_cli.datasets.tasks import GUE
from cmgems_cli.errors import CmgemsError
from cmgems_cli.fetching.transfer import TIMEOUT_S, Checksum, RemoteFile, is_there
from cmgems_cli.files import write_json

# Beside fetched files: where they came from and what they must hash to.
RECORD = "fetched.json"

# UCSC's bigZips/md5sum.txt; the size is the server's.
GRCH38_URL = "https://hgdownload.soe.ucsc.edu/goldenPath/hg38/bigZips/hg38.fa.gz"
GRCH38_BYTES = 983_659_424
GRCH38_MD5 = "1c9dcaddfa41027f17cd8f7a82c7293b"

# huggingface_hub's own, read when asked for and not when imported.
_OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_YES = {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True)
class Download:
    """One thing to fetch, looked up but not begun.

    Attributes
    ----------
    title : str
        What it is, for people.
    source : str
        The page it comes from.
    revision : str or None
        The commit, of a hub's repository.
    licence : str
        As the source says it, or that it says nothing.
    files : tuple of RemoteFile
    out : Path
        The file, or the folder that holds the files.
    notes : tuple of str
        What is wrong with it, if anything is.
    """

    title: str
    source: str
    revision: str | None
    licence: str
    files: tuple[RemoteFile, ...]
    out: Path
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True)
class Repository:
    """Files of a repository on the Hugging Face hub.

    Attributes
    ----------
    title, licence : str
        As of `Download`; the licence where the repository names none.
    repo_id, repo_type : str
        repo_type is model or dataset.
    revision : str
        A commit, or main: the commit that is then the last.
    place : callable
        Where below the folder a file of the repository goes; None: it is not fetched.
    wanted : frozenset of str
        What `place` gives for all files there should be.
    """

    title: str
    licence: str
    repo_id: str
    repo_type: str
    revision: str
    place: Callable[[str], str | None]
    wanted: frozenset[str]

    @property
    def page(self) -> str:
        """Its page on the hub."""
        return f"https://huggingface.co/{'datasets/' if self.repo_type == 'dataset' else ''}{self.repo_id}"


def _gue_folders() -> dict[str, str]:
    """Return the task of each folder of GUE, as the hub's copy names it (`human_tf_0`) and as its authors do."""
    renamed = {"EMP": "emp", "tf": "human_tf"}
    tasks = {}
    for task in GUE:
        group, name = task.split("/")
        short = name if group == "prom" else f"{renamed.get(group, group)}_{name}"
        tasks[short.casefold()] = tasks[task.casefold()] = task
    return tasks


_GUE_FOLDERS = _gue_folders()


def place_of_gue(path: str) -> str | None:
    """Return where a file of GUE's repository goes: `EMP/H3/train.csv`; None for what is of no task.

    >>> place_of_gue("GUE/human_tf_0/dev.csv"), place_of_gue("GUE/EPI_K562/dev.csv")
    ('tf/0/dev.csv', None)
    """
    *folder, name = path.split("/")
    task = _GUE_FOLDERS.get("/".join(folder).removeprefix("GUE/").casefold())
    return f"{task}/{name}" if task and name in {f"{split}.csv" for split in SPLITS} else None


# Everything but the code beside the weights, which nothing here runs.
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
    licence="none named there; GUE's authors publish it with DNABERT-2, under Apache-2.0",
    repo_id="leannmlindsey/GUE",
    repo_type="dataset",
    revision="main",
    place=place_of_gue,
    wanted=frozenset(f"{task}/{split}.csv" for task in GUE for split in SPLITS),
)
DNABERT6_REPOSITORY = Repository(
    title="DNABERT-6, its authors' weights after 120,000 steps",
    licence="Apache-2.0 (the LICENSE file beside the weights)",
    repo_id="zhihan1996/DNA_bert_6",
    repo_type="model",
    revision="55e0c0eb7b734c8b9b77bc083bf89eb6fbda1341",
    place=lambda path: path if path in _DNABERT6_FILES else None,
    wanted=_DNABERT6_FILES,
)
REPOSITORIES = {"gue": GUE_REPOSITORY, "dnabert6": DNABERT6_REPOSITORY}


def default_out(name: str) -> Path:
    """Return where a download goes: where the commands that use it look."""
    places = {
        "grch38": workspace.downloads_folder() / "hg38.fa.gz",
        "gue": workspace.benchmark_folder("gue"),
        "dnabert6": workspace.pretrained_folder("dnabert6"),
    }
    return places[name]


def offline() -> str | None:
    """Return the variable that forbids the network, as it is set (`HF_HUB_OFFLINE=1`); None if none does."""
    for name in _OFFLINE_VARIABLES:
        if os.environ.get(name, "").upper() in _YES:
            return f"{name}={os.environ[name]}"
    return None


def look_up(name: str, out: Path, mirror: str | None = None) -> Download:
    """Find out what has to be fetched; of a hub's repository, by asking the hub.

    Parameters
    ----------
    name : str
        grch38, gue or dnabert6.
    out : Path
    mirror : str, optional
        Another address: of the file (grch38), or of a hub.

    Raises
    ------
    CmgemsError
        If the hub cannot be asked, or lacks a file that has to be there.
    """
    if name == "grch38":
        file = RemoteFile(mirror or GRCH38_URL, out, GRCH38_BYTES, Checksum("md5", GRCH38_MD5))
        return Download(
            title="human genome GRCh38, UCSC hg38: soft-masked FASTA, all contigs",
            source=file.url,
            revision=None,
            licence="UCSC: freely usable for any purpose (https://genome.ucsc.edu/goldenPath/credits.html)",
            files=(file,),
            out=out,
        )
    return _look_up(REPOSITORIES[name], out, mirror)


def _look_up(repository: Repository, out: Path, mirror: str | None) -> Download:
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import HTTPError

    try:
        # No token: nothing here is private, and none should go to a mirror.
        info: Any = HfApi(endpoint=mirror, token=False).repo_info(
            repository.repo_id,
            repo_type=repository.repo_type,
            revision=repository.revision,
            files_metadata=True,
            timeout=TIMEOUT_S,
        )
    except (HTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CmgemsError(
            f"cannot ask the hub for {repository.repo_id} ({reason}); check the network (HTTPS_PROXY?), or give"
            " another hub as --mirror"
        ) from None
    files = {}
    for entry in info.siblings:
        place = repository.place(entry.rfilename)
        if place is not None:
            url = hf_hub_url(
                repository.repo_id,
                entry.rfilename,
                repo_type=repository.repo_type,
                revision=info.sha,
                endpoint=mirror,
            )
            checksum = Checksum("sha256", entry.lfs.sha256) if entry.lfs else Checksum("git", entry.blob_id)
            files[place] = RemoteFile(url, out / place, entry.size, checksum)
    missing = sorted(repository.wanted - files.keys())
    if not files or (missing and repository.repo_type == "model"):
        raise CmgemsError(f"{repository.page} has no {', '.join(missing)} any more; update cmgems")
    licence = getattr(info.card_data, "license", None)
    return Download(
        title=repository.title,
        source=repository.page if mirror is None else f"{mirror} ({repository.repo_id})",
        revision=info.sha,
        licence=f"{licence} (as its page says)" if licence else repository.licence,
        files=tuple(files[place] for place in sorted(files)),
        out=out,
        notes=tuple(f"the hub no longer has {place}" for place in missing),
    )


def write_record(download: Download) -> None:
    """Write where the files of a folder came from, once all are there."""
    write_json(
        download.out / RECORD,
        {
            "title": download.title,
            "source": download.source,
            "revision": download.revision,
            "licence": download.licence,
            "files": {
                file.path.relative_to(download.out).as_posix(): {
                    "url": file.url,
                    "bytes": file.size_bytes,
                    file.checksum.algorithm: file.checksum.hexdigest,
                }
                for file in download.files
            },
        },
    )


def read_record(out: Path) -> Download | None:
    """Return what was fetched into a folder, if every file is still there as it came; None otherwise."""
    try:
        held = json.loads((out / RECORD).read_text(encoding="utf-8"))
        files = []
        for place, entry in held["files"].items():
            (algorithm,) = entry.keys() - {"url", "bytes"}
            files.append(
                RemoteFile(entry["url"], out / place, entry["bytes"], Checksum(algorithm, entry[algorithm]))
            )
        download = Download(
            held["title"], held["source"], held["revision"], held["licence"], tuple(files), out
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return download if all(is_there(file) for file in files) else None
