"""Sole reader and writer of `manifest.json`, which makes a folder a finished artifact.

An artifact is a folder. `manifest.json` is written last, by atomic rename, so a folder without one is
unfinished. docs/artifacts.md is the specification; `tests/test_artifacts.py` checks that it matches.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmgems_cli.errors import InputError
from cmgems_cli.files import NAME_BYTES, check_no_lfs_pointer, force_to_disk, write_json
from cmgems_cli.invocation import command_line
from cmgems_cli.metrics import METRICS
from cmgems_cli.structured_text import read_json

MANIFEST = "manifest.json"
# What a fine-tuned model predicted for the rows of a test split.
PREDICTIONS = "predictions.csv"

# Increased whenever a reader of the older layout would misread the newer one. Compared for equality.
SCHEMA = {
    "corpus": 2,
    "pmi": 1,
    "model": 1,
    "classifier": 1,
    "scores": 1,
    "fewshot": 1,
    "task": 1,
    "report": 1,
    "embeddings": 1,
}

# The command that makes each kind, for error messages.
MADE_BY = {
    "corpus": "cmgems prepare-genome",
    "pmi": "cmgems build-pmi",
    "model": "cmgems pretrain",
    "classifier": "cmgems finetune",
    "scores": "cmgems evaluate",
    "fewshot": "cmgems build-fewshot",
    "task": "cmgems split or build-task",
    "report": "cmgems report",
    "embeddings": "cmgems evaluate --freeze",
}

# The digest is the sha256 of the canonical JSON of these fields, which hold no paths, times or versions.
DIGESTED = ("kind", "schema", "params", "inputs", "files", "stats")


# The form of what readers compute with; None is allowed, as for an option that was not given. Scores record the
# options as they were given, also as lists and percentages.
_WHOLE = [
    "k", "max_tokens", "min_tokens", "steps", "global_batch", "eval_every", "eval_sequences", "warmup_steps",
    "max_steps", "epochs", "seed", "min_count", "bases", "sequences", "train_sequences", "valid_sequences", "ranked",
    "unranked", "positions_counted", "parameters", "switched_at_step", "n_train", "n_dev", "n_test", "best_step",
]  # fmt: skip
_REAL = ["mask_rate", "learning_rate", "unigram_perplexity", "best_dev_loss", *METRICS]
_TEXT = [
    "definition", "model", "strategy", "rank_by", "validation_masks", "init", "keeps", "precision", "device",
    "platform", "metric", "title", "bench", "finished_at", "data",
]  # fmt: skip
_FORMS: dict[str, Any] = {
    **dict.fromkeys(_WHOLE, int),
    **dict.fromkeys(_REAL, (int, float)),
    **dict.fromkeys(_TEXT, str),
    "elapsed_s": (int, float),
    "versions": dict,
    **dict.fromkeys(["command", "seeds", "missing_tasks", "notes"], list),
}


def _sealed(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Return the environment with its own sha256: it is not part of the digest, but reports print it."""
    return {**environment, "sha256": sha256_of_bytes(canonical_json(environment).encode())}


class _Fields(dict[str, Any]):
    """Parameters, statistics or the environment of a manifest; InputError for one that is missing."""

    def __init__(self, path: Path, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._where = f"{path} has no {name}"

    def __missing__(self, key: str) -> Any:
        raise InputError(f"{self._where} {key!r}; make the artifact again")


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes
    ----------
    kind : str
        corpus, pmi, model, classifier, scores, fewshot, task, report or embeddings.
    schema : int
        Layout of this kind; readers accept exactly the one they know.
    params : dict
        All choices that affect the result, including the seed.
    inputs : dict, name -> digest
        The artifacts (their `digest`) and plain files (their sha256) that were read.
    files : dict, name -> {"bytes": int, "sha256": str}
        Every file of the artifact except the manifest.
    stats : dict
        Counts and results.
    digest : str
        sha256 of the canonical JSON of the fields above.
    environment : dict
        Versions, device, command, seconds: never part of the digest.
    fresh : bool
        Whether this process has just made the artifact; not stored.
    """

    kind: str
    schema: int
    params: dict[str, Any]
    inputs: dict[str, str]
    files: dict[str, dict[str, Any]]
    stats: dict[str, Any]
    digest: str
    environment: dict[str, Any] = field(default_factory=dict)
    fresh: bool = field(default=False, compare=False)


def canonical_json(value: Any) -> str:
    """Return the canonical JSON text of `value`: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(fields: Mapping[str, Any]) -> str:
    """Return the sha256 (hex) of the canonical JSON of the digested fields of a manifest."""
    return sha256_of_bytes(canonical_json({name: fields[name] for name in DIGESTED}).encode())


def sha256_of_bytes(content: bytes) -> str:
    """Return the sha256 (hex) of `content`."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# sha256 of files by device, inode, size and times, which change with the content.
_hashed: dict[tuple[int, ...], str] = {}


def _sha256_once(path: Path) -> str:
    """Return the sha256 of a file, from memory if this process has hashed it and it has not changed since."""
    status = path.stat()
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if identity not in _hashed:
        _hashed[identity] = sha256_of_file(path)
    return _hashed[identity]


def finish_artifact(
    folder: Path,
    kind: str,
    *,
    params: Mapping[str, Any],
    inputs: Mapping[str, str],
    stats: Mapping[str, Any],
    files: Iterable[str],
    environment: Mapping[str, Any],
    aside: Path | None = None,
) -> Manifest:
    """Hash `files` of `folder`, force them to disk and write the manifest that makes the folder finished.

    Parameters
    ----------
    folder : Path
        The folder whose files are complete.
    kind : str
        One of `SCHEMA`.
    params, inputs, stats, environment : mappings
        As in `Manifest`, without NaN.
    files : iterable of str
        Names relative to `folder`, with forward slashes.
    aside : Path, optional
        Folder for the unfinished manifest, as for `write_whole`.

    Returns
    -------
    Manifest
        The manifest written.
    """
    names = sorted(files)
    hashed = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of_file(folder / name)}
        for name in names
    }
    # The manifest vouches for them after a power failure too.
    force_to_disk(*(folder / name for name in names), *{(folder / name).parent for name in names}, folder)
    fields: dict[str, Any] = {
        "kind": kind,
        "schema": SCHEMA[kind],
        "params": dict(params),
        "inputs": dict(inputs),
        "files": hashed,
        "stats": dict(stats),
    }
    # Convert through JSON, so that the value in memory equals the one a reader gets.
    fields = {name: json.loads(canonical_json(value)) for name, value in fields.items()}
    manifest = Manifest(**fields, digest=digest_of(fields), environment=dict(environment), fresh=True)
    content = {**fields, "digest": manifest.digest, "environment": _sealed(manifest.environment)}
    write_json(folder / MANIFEST, content, aside=aside)
    return manifest


def read_manifest(folder: Path, kind: str | None = None, *, verify: bool = False) -> Manifest:
    """Read and check an artifact's manifest.

    Parameters
    ----------
    folder : Path
        The artifact.
    kind : str, optional
        Required kind. Default: any.
    verify : bool, default False
        Also hash every file, once per process and version of the file. Their sizes, and the manifest's own
        digest, are always checked.

    Raises
    ------
    InputError
        With a separate message for each case: missing folder, unfinished, unreadable manifest, another
        kind, schema too new or too old, file missing, of another size, or (`verify`) with other content.
    """
    needed = f"a {kind} artifact" if kind else "an artifact"
    make = f"make one with `{MADE_BY[kind]}`" if kind else "give a folder that a cmgems command wrote"
    if not folder.exists():
        raise InputError(f"{folder} does not exist; needed {needed}: {make}")
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; needed {needed}, which is a folder: {make}")
    if not is_finished(folder):
        raise InputError(f"{folder} has no {MANIFEST}, so it is unfinished or not {needed}: {make}")
    manifest = parse_manifest(folder / MANIFEST)
    if manifest.kind not in SCHEMA:
        raise InputError(
            f"{folder} holds a {manifest.kind!r}, a kind this version does not know; update cmgems"
        )
    if kind is not None and manifest.kind != kind:
        raise InputError(f"{folder} is a {manifest.kind} artifact; needed {needed}: {make}")
    known = SCHEMA[manifest.kind]
    if manifest.schema != known:
        newer = isinstance(manifest.schema, int) and manifest.schema > known
        remedy = "update cmgems" if newer else f"make it again with `{MADE_BY[manifest.kind]}`"
        raise InputError(
            f"{folder} has schema {manifest.schema}, too {'new' if newer else 'old'} for this version,"
            f" which reads {known}: {remedy}"
        )
    _check_content(folder, manifest, verify=verify)
    return manifest


def parse_manifest(path: Path) -> Manifest:
    """Read a manifest and check only its form.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        raw = read_json(path)
        fields = {name: raw[name] for name in (*DIGESTED, "digest")}
        fields["environment"] = raw.get("environment", {})
        for name in ("params", "stats", "environment"):
            fields[name] = _Fields(path, name, fields[name])
        manifest = Manifest(**fields)
        # Artifacts of earlier versions have no such field.
        if manifest.environment.pop("sha256", None) not in (None, _sealed(manifest.environment)["sha256"]):
            raise ValueError("the sha256 of environment differs")
        for value, form in (
            (manifest.kind, str),
            (manifest.schema, int),
            (manifest.digest, str),
            *((raw[name], dict) for name in ("params", "inputs", "files", "stats")),
            (manifest.environment, dict),
        ):
            if not isinstance(value, form):
                raise TypeError(f"{str(value)[:60]!r} where it needs a {form.__name__}")
        if not all(isinstance(digest, str) for digest in manifest.inputs.values()):
            raise TypeError("a digest of the inputs is not a text")
        as_given = set(raw["params"]) - {"seeds", "metric", "title", "bench", "model"}
        left_out = as_given if manifest.kind == "scores" else set()
        _check_forms({name: value for name, value in raw["params"].items() if name not in left_out})
        _check_forms(raw["stats"])
        _check_forms(manifest.environment)
        for name, entry in manifest.files.items():
            if not isinstance(entry["bytes"], int) or not isinstance(entry["sha256"], str):
                raise TypeError(f"no size or sha256 of {name}")
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{name} is outside the folder")
            if any(len(part.encode()) > NAME_BYTES for part in Path(name).parts):
                raise ValueError(f"{name[:60]}… is too long for the name of a file")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{path} is not a readable manifest ({error}); make the artifact again") from None
    return manifest


def _check_forms(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        form = _FORMS.get(name)
        if (
            form is None
            or (value is None and form not in (list, dict))
            or (value is None and name == "seeds")
        ):
            continue
        is_large = isinstance(value, int | float) and abs(value) >= 2**63
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        nested = any(isinstance(one, list | dict) for one in inside)
        if isinstance(value, bool) or not isinstance(value, form) or is_large or nested:
            raise TypeError(f"{name} is {str(value)[:60]!r}")


def _check_content(folder: Path, manifest: Manifest, *, verify: bool) -> None:
    again = f"the artifact is damaged; make it again with `{MADE_BY[manifest.kind]}`"
    if digest_of(manifest.__dict__) != manifest.digest:
        raise InputError(f"{folder / MANIFEST} was changed after it was written (digest differs): {again}")
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{path} is missing: {again}")
        size = path.stat().st_size
        if size != expected["bytes"]:
            check_no_lfs_pointer(path)
            raise InputError(f"{path} has {size:,} bytes, its manifest says {expected['bytes']:,}: {again}")
        if verify and _sha256_once(path) != expected["sha256"]:
            raise InputError(f"{path} does not have the sha256 its manifest says: {again}")


def is_finished(folder: Path) -> bool:
    """Return whether `folder` holds a manifest."""
    return (folder / MANIFEST).is_file()


def environment(started: float, **more: Any) -> dict[str, Any]:
    """Describe the run for the manifest: versions, platform, command line, time (UTC), seconds since `started`.

    `started` is a value of `time.perf_counter()`. Versions come from the metadata of installed distributions, so that
    nothing heavy is imported.
    """
    import platform
    from importlib import metadata

    names = ("cmgems", "torch", "transformers", "numpy", "scikit-learn", "numba", "pyfaidx")
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "platform": platform.platform(),
        "command": command_line(),
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "elapsed_s": round(time.perf_counter() - started, 3),
        **more,
    }
