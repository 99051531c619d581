"""One owner of an output: what is at a path, who may write there, and how an artifact comes to be there.

output = Output(out, "pmi", params=params, inputs=inputs)
with output.claim(overwrite=overwrite) as claim:
    if claim.done is not None:
        return claim.done
    write(claim.folder / "kmers.csv")
    return claim.finish(stats=stats, files=["kmers.csv"], environment=environment(started))
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from cmgems_cli.artifacts import (
    MANIFEST,
    Manifest,
    canonical_json,
    finish_artifact,
    is_finished,
    parse_manifest,
    read_manifest,
)
from cmgems_cli.errors import CmgemsError, InputError, OverwriteError
from cmgems_cli.files import exclusive_lock
from cmgems_cli.staging import (
    MARKER,
    Staging,
    is_hidden_work,
    lock_of,
    publish,
    read_marker,
    remove_inside,
    stagings,
    write_marker,
)

# Longest value of a parameter in a message.
_SHOWN = 60


class Holds(Enum):
    """What an output path holds."""

    NOTHING = "nothing, or an empty folder"
    SAME = "a finished artifact of the same parameters and inputs"
    OTHER = "a finished artifact of other parameters or inputs, or a damaged one"
    UNFINISHED = "an unfinished run of the same parameters and inputs"
    OTHER_UNFINISHED = "an unfinished run of other parameters or inputs"
    FOREIGN = "something that no command of this kind wrote"


@dataclass(frozen=True)
class State:
    """The answer to "what is at this path?".

    Attributes
    ----------
    holds : Holds
    sentence : str
        What is in the way: empty for NOTHING, SAME and UNFINISHED.
    manifest : Manifest or None
        Of a finished artifact.
    """

    holds: Holds
    sentence: str = ""
    manifest: Manifest | None = None


class Claim:
    """An output that this process is the only one to write.

    Attributes
    ----------
    done : Manifest or None
        Of the artifact that is there already: nothing is to be done.
    folder : Path
        Where to write.
    """

    def __init__(
        self, output: Output, folder: Path, staging: Staging | None, done: Manifest | None = None
    ) -> None:
        self.folder, self.done, self._output, self._staging = folder, done, output, staging
        self.finished = done is not None

    def finish(
        self,
        *,
        stats: Mapping[str, Any],
        files: Iterable[str],
        environment: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Force the files to disk, write the manifest and publish the artifact.

        `stats`, `files` and `environment` are those of `finish_artifact`; `inputs` those of the work just done, where
        they were not known before.
        """
        output = self._output
        work = next((self.folder / name for name in output.work), None)
        if work is not None:
            work.mkdir(exist_ok=True)
        manifest = finish_artifact(
            self.folder,
            output.kind,
            params=output.params,
            inputs=output.inputs() if inputs is None else inputs,
            stats=stats,
            files=files,
            environment=environment,
            aside=work,
        )
        clear_work(self.folder, output.work)
        if self._staging is not None:
            publish(self._staging, output.path, output.work)
        self.finished = True
        return manifest


class Output:
    """The one place that a command writes, and what it is going to write there.

    Parameters
    ----------
    path : Path
        A folder, or a link to one.
    kind : str
        Of the artifact.
    params : mapping
        Everything that was chosen.
    inputs : mapping, name -> digest, or callable that returns it
        A callable is called only if the parameters are those of what is there.
    machine : collection of str
        Parameters that describe the machine: they never make a difference.
    unmatched : str
        Beginning of the names of inputs that are not compared, since they are known only once the work is done.
    work : sequence of str
        Folders that an unfinished run keeps beside its files. An output with any is resumable: its first run works in
        `path` itself, and only a run that replaces an artifact works in a staging folder.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        *,
        params: Mapping[str, Any],
        inputs: Mapping[str, str] | Callable[[], Mapping[str, str]],
        machine: Collection[str] = (),
        unmatched: str | None = None,
        work: tuple[str, ...] = (),
    ) -> None:
        self.given, self.path, self.kind = path, Path(os.path.realpath(path)), kind
        # Through JSON once, as a manifest is.
        self.params: dict[str, Any] = json.loads(canonical_json(dict(params)))
        self._inputs, self.machine, self.unmatched, self.work = inputs, machine, unmatched, work

    def inputs(self) -> dict[str, str]:
        """Return the digests of the inputs."""
        if callable(self._inputs):
            self._inputs = self._inputs()
        return dict(self._inputs)

    # ------------------------------------------------------------------ what is there

    def state(self) -> State:
        """Say what the path holds; nothing is changed."""
        early = place_state(self.given, self.kind)
        if early is not None:
            return early
        if is_finished(self.path):
            return self._finished_state()
        marker = read_marker(self.path)
        assert marker is not None
        difference = self._difference(marker["params"], marker["inputs"])
        if difference:
            return State(Holds.OTHER_UNFINISHED, f"{self.given} holds an unfinished run that {difference}")
        return State(Holds.UNFINISHED)

    def _finished_state(self) -> State:
        try:
            manifest = read_manifest(self.path, self.kind)
            difference = self._difference(manifest.params, manifest.inputs)
            if difference:
                return State(Holds.OTHER, f"{self.given} {difference}", manifest)
            return State(Holds.SAME, manifest=read_manifest(self.path, self.kind, verify=True))
        except InputError as error:
            return State(Holds.OTHER, f"{self.given} is damaged or of another version: {error}")

    def _difference(self, params: Mapping[str, Any], inputs: Mapping[str, str]) -> str | None:
        """Say what was different when something was made, None if nothing was."""
        for name in sorted({*params, *self.params} - set(self.machine)):
            old, new = params.get(name), self.params.get(name)
            if old != new:
                return f"was made with {name} = {_short(old)}, this command has {_short(new)}"
        now = self.inputs()
        for name in sorted({*inputs, *now}):
            if inputs.get(name) != now.get(name) and not (self.unmatched and name.startswith(self.unmatched)):
                return f"was made from {_named(name, inputs.get(name))}, this command has {_named(name, now.get(name))}"
        return None

    def finished(self, *, overwrite: bool = False) -> Manifest | None:
        """Return the manifest if there is nothing to do; refuse what may not be replaced.

        Raises
        ------
        OverwriteError
            If something different is there: always for what is not ours, without `overwrite` for an artifact.
        """
        state = self.state()
        _refuse(state, overwrite=overwrite, resume=True)
        if state.holds is not Holds.SAME or overwrite:
            return None
        if any((self.path / name).exists() for name in (MARKER, *self.work)) or stagings(self.path):
            with suppress(CmgemsError, OSError), self._locked():  # what a killed command left
                self._recover()
                clear_work(self.path, self.work)
        return state.manifest

    # ------------------------------------------------------------------ writing there

    @contextmanager
    def claim(self, *, overwrite: bool = False, resume: bool = True) -> Iterator[Claim]:
        """Lock the output and give a folder to write in; the caller ends with `Claim.finish`.

        A failure leaves the path as it was. Of a resumable output the unfinished work stays for the same command.

        Parameters
        ----------
        overwrite : bool
            Replace a finished artifact of this kind, once its successor is complete.
        resume : bool
            Resume an unfinished run; otherwise it is removed.

        Raises
        ------
        OverwriteError
            If another command is writing there, or something different is there that may not be replaced.
        """
        _refuse(self.state(), overwrite=overwrite, resume=resume)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked():
            recovered = self._recover()
            state = self.state()
            _refuse(state, overwrite=overwrite, resume=resume)
            if state.holds is Holds.SAME and (recovered or not overwrite):
                yield Claim(self, self.path, None, state.manifest)
            elif self.work and state.manifest is None and state.holds is not Holds.OTHER:
                self._begin_here(resume=resume)
                yield Claim(self, self.path, None)
            else:
                yield from self._claim_aside(resume=resume)

    def _locked(self) -> AbstractContextManager[None]:
        return exclusive_lock(lock_of(self.path), self.given)

    def _begin_here(self, *, resume: bool) -> None:
        if not resume:
            clear_work(self.path, self.work)
        self.path.mkdir(exist_ok=True)
        # What was to replace an artifact that is gone now, or an earlier command's beginning.
        staging = self._unfinished_staging(resume=resume)
        if staging is None and (self.path / MARKER).exists():
            return
        staging = staging or self._stage()
        if not (self.path / MARKER).exists():
            write_marker(staging.folder, self.kind, self.params, self.inputs())
            (staging.folder / MARKER).replace(self.path / MARKER)
        for entry in list(staging.folder.iterdir()):
            if not entry.name.startswith(".") and not os.path.lexists(self.path / entry.name):
                entry.rename(self.path / entry.name)
        staging.remove()

    def _claim_aside(self, *, resume: bool) -> Iterator[Claim]:
        staging = self._unfinished_staging(resume=resume) or self._stage()
        claim = Claim(self, staging.folder, staging)
        try:
            yield claim
            if not claim.finished:
                raise RuntimeError(f"{claim.folder} was left without a manifest")
        finally:
            if not self.work and staging.path.exists() and not is_finished(staging.folder):
                staging.remove()

    def _stage(self) -> Staging:
        return Staging.create(self.path, self.kind, self.params, self.inputs() if self.work else {})

    def _unfinished_staging(self, *, resume: bool) -> Staging | None:
        """Return the run that was to replace the artifact and was stopped; remove what cannot be resumed."""
        kept = None
        for staging in stagings(self.path):
            resumable = (
                self.work and resume and staging.marker["kind"] == self.kind and staging.folder.is_dir()
            )
            difference = (
                self._difference(staging.marker["params"], staging.marker["inputs"]) if resumable else None
            )
            if difference and any((staging.folder / name).exists() for name in self.work):
                raise OverwriteError(
                    f"{self.given} was about to be replaced by a run, now at {staging.folder}, that {difference}:"
                    " repeat the old parameters to resume it, or add `resume=False` to start again"
                )
            if resumable and not difference and kept is None:
                kept = staging
            else:
                staging.remove()
        return kept

    def work_folder(self) -> Path:
        """Return the folder that another process of the same run has claimed."""
        aside = [staging.folder for staging in stagings(self.path) if not is_finished(staging.folder)]
        return aside[0] if is_finished(self.path) and aside else self.path

    def _recover(self) -> bool:
        """Finish what killed commands began to publish; tell whether there was anything."""
        recovered = False
        for staging in stagings(self.path, clean=True):
            ready = "successor" in staging.marker
            if not ready and staging.marker["kind"] == self.kind and is_finished(staging.folder):
                state = place_state(self.path, self.kind)
                with suppress(InputError):
                    read_manifest(staging.folder, self.kind, verify=True)
                    ready = state is None or state.holds is Holds.NOTHING
            if ready:
                publish(staging, self.path, self.work)
                recovered = True
        if is_finished(self.path):
            clear_work(self.path, self.work)
        return recovered


def place_state(out: Path, kind: str) -> State | None:
    """Say what a path holds as far as it can be told without parameters; None for an artifact or run of this kind."""
    path = Path(os.path.realpath(out))
    if not path.exists():
        return State(Holds.NOTHING)
    if not path.is_dir():
        return State(Holds.FOREIGN, f"{out} is a file, not a folder")
    if is_finished(path):
        try:
            held = parse_manifest(path / MANIFEST).kind
        except InputError:
            return State(
                Holds.FOREIGN,
                f"{out / MANIFEST} cannot be read, so it is unknown which files of {out} may be replaced",
            )
        return None if held == kind else State(Holds.FOREIGN, f"{out} holds a {held} artifact, not a {kind}")
    marker = read_marker(path)
    if marker is not None:
        held = marker["kind"]
        if held == kind:
            return None
        return State(Holds.FOREIGN, f"{out} holds an unfinished {held} artifact, not a {kind}")
    if all(is_hidden_work(entry, path) for entry in path.iterdir()):
        return State(Holds.NOTHING)
    if any("successor" in staging.marker and staging.marker["kind"] == kind for staging in stagings(path)):
        return State(Holds.NOTHING)  # a killed command was moving its artifact in; the next one finishes that
    return State(Holds.FOREIGN, f"{out} exists and is not a {kind} artifact")


def check_place(out: Path, kind: str) -> None:
    """Refuse a path that this kind of command may never write, before any work is done.

    Raises
    ------
    OverwriteError
    """
    _refuse(place_state(out, kind) or State(Holds.NOTHING), overwrite=True, resume=True)


def clear_work(folder: Path, work: Iterable[str]) -> None:
    """Remove what only an unfinished run needs; the marker last."""
    for name in (*work, MARKER):
        remove_inside(folder, name)


def _refuse(state: State, *, overwrite: bool, resume: bool) -> None:
    """Raise OverwriteError unless the path may be written."""
    if state.holds is Holds.FOREIGN:
        raise OverwriteError(f"{state.sentence}; choose another `out` or remove it yourself")
    if state.holds is Holds.OTHER and not overwrite:
        raise OverwriteError(f"{state.sentence}; add `overwrite=True` to replace it or choose another `out`")
    if state.holds is Holds.OTHER_UNFINISHED and resume:
        raise OverwriteError(
            f"{state.sentence}: repeat the old parameters to resume it, or add `resume=False` to start again"
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _named(name: str, digest: str | None) -> str:
    return f"{name} {digest[:12]}" if digest else f"no {name}"
