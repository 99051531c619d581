"""Outputs: the state of an output path, the right to write there, and the publication of an artifact.

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
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from cmgems_cli.artifacts import (
    Manifest,
    canonical_json,
    finish_artifact,
    is_finished,
    read_manifest,
)
from cmgems_cli.errors import InputError, OverwriteError
from cmgems_cli.files import output_lock
from cmgems_cli.output_state import Holds, State, place_state, refuse
from cmgems_cli.staging import (
    MARKER,
    Staging,
    lock_of,
    publish,
    read_marker,
    remove_inside,
    stagings,
    write_marker,
)

# As `write_whole` names a file until it is complete.
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{16}\.tmp$")

# Longest value of a parameter in a message.
_SHOWN = 60


class Claim:
    """The exclusive right of this process to write an output.

    Attributes
    ----------
    done : Manifest or None
        Manifest of an existing equal artifact: there is nothing to do.
    folder : Path
        Folder to write to.
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

        `stats`, `files` and `environment` are as for `finish_artifact`; give `inputs` if they were unknown
        before.
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
            publish(self._staging, output.path, output.work, parts=output.parts)
            clear_work(output.path, output.work)
        self.finished = True
        return manifest


class Output:
    """The output path of a command, and the artifact it is going to write there.

    Parameters
    ----------
    path : Path
        A folder, or a link to one.
    kind : str
        Kind of the artifact.
    params : mapping
        All choices that affect the result.
    inputs : mapping, name -> digest, or callable that returns it
        A callable is called only if the parameters equal those of an existing artifact.
    machine : collection of str
        Names of parameters and inputs that depend on the machine or the workspace and are not compared.
    revisable : collection of str
        Parameters that are not compared with those of an unfinished run: the command itself decides what of the
        unfinished work it can use.
    parts : str
        Subfolder in which other commands write the artifacts that are inputs `PARTS/NAME` of this one. These inputs
        are not compared. The parts of a first artifact are written in `path`; those that replace finished ones in a
        staging folder, until the new artifact is complete.
    work : sequence of str
        Folders that an unfinished run needs in addition to its files. Such an output is resumable: its first run works
        in `path` itself, and only a run that replaces an artifact works in a staging folder.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        *,
        params: Mapping[str, Any],
        inputs: Mapping[str, str] | Callable[[], Mapping[str, str]],
        machine: Collection[str] = (),
        revisable: Collection[str] = (),
        parts: str | None = None,
        work: tuple[str, ...] = (),
    ) -> None:
        self.given, self.path, self.kind = path, Path(os.path.realpath(path)), kind
        # Converted through JSON, as in a manifest.
        self.params: dict[str, Any] = json.loads(canonical_json(dict(params)))
        self._inputs, self.machine, self.parts, self.work = inputs, machine, parts, work
        self.revisable = revisable

    def inputs(self) -> dict[str, str]:
        """Return the digests of the inputs."""
        if callable(self._inputs):
            self._inputs = self._inputs()
        return dict(self._inputs)

    # ------------------------------------------------------------------ state of the path

    def state(self) -> State:
        """Return what the path holds; change nothing."""
        early = place_state(self.given, self.kind, self.parts)
        if early is not None:
            return early
        if is_finished(self.path):
            return self._finished_state()
        marker = read_marker(self.path)
        assert marker is not None
        difference = self.difference(marker["params"], marker["inputs"], unfinished=True)
        if difference:
            return State(Holds.OTHER_UNFINISHED, f"{self.given} holds an unfinished run that {difference}")
        return State(Holds.UNFINISHED)

    def _finished_state(self) -> State:
        try:
            manifest = read_manifest(self.path, self.kind)
            difference = self.difference(manifest.params, manifest.inputs)
            if difference:
                return State(Holds.OTHER, f"{self.given} {difference}", manifest)
            return State(Holds.SAME, manifest=read_manifest(self.path, self.kind, verify=True))
        except InputError as error:
            return State(Holds.OTHER, f"{self.given} is damaged or of another version: {error}")

    def difference(
        self, params: Mapping[str, Any], inputs: Mapping[str, str], *, unfinished: bool = False
    ) -> str | None:
        """Describe the first difference to the parameters and inputs of an artifact or run; None without one."""
        ignored = {*self.machine, *(self.revisable if unfinished else ())}
        for name in sorted({*params, *self.params} - ignored):
            old, new = params.get(name), self.params.get(name)
            if old != new:
                return f"was made with {name} = {_short(old)}, this command has {_short(new)}"
        now = self.inputs()
        for name in sorted({*inputs, *now}):
            is_part = self.parts is not None and name.startswith(f"{self.parts}/")
            if inputs.get(name) != now.get(name) and name not in ignored and not is_part:
                return f"was made from {_named(name, inputs.get(name))}, this command has {_named(name, now.get(name))}"
        return None

    def finished(self, *, overwrite: bool = False, repair: bool = True) -> Manifest | None:
        """Return the manifest if there is nothing to do.

        With `repair`, finish or remove what a killed command left.

        Raises
        ------
        OverwriteError
            If the path holds an artifact that differs and `overwrite` is false, or something else.
        """
        recovered = False
        left = lock_of(self.path).is_file() or (is_finished(self.path) and read_marker(self.path))
        if repair and (left or stagings(self.path)):
            with suppress(OverwriteError), self._locked():  # another command may be writing there
                recovered = self._recover()
        state = self.state()
        refuse(state, overwrite=overwrite, resume=False)
        return state.manifest if state.holds is Holds.SAME and (recovered or not overwrite) else None

    # ------------------------------------------------------------------ writing

    @contextmanager
    def claim(self, *, overwrite: bool = False, resume: bool = True, wait: bool = False) -> Iterator[Claim]:
        """Lock the output and yield a folder to write to; the caller ends with `Claim.finish`.

        A failure leaves the path unchanged, except that a resumable output keeps the unfinished work.

        Parameters
        ----------
        overwrite : bool
            Replace a finished artifact of this kind once the new one is complete.
        resume : bool
            Resume an unfinished run; otherwise it is removed.
        wait : bool
            Wait for another command that is writing there.

        Raises
        ------
        OverwriteError
            If another command is writing there, or the path holds something that may not be replaced.
        """
        refuse(self.state(), overwrite=overwrite, resume=resume)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(wait=wait):
            recovered = self._recover()
            state = self.state()
            refuse(state, overwrite=overwrite, resume=resume)
            if state.holds is Holds.SAME and (recovered or not overwrite):
                yield Claim(self, self.path, None, state.manifest)
            elif self.work and state.manifest is None and state.holds is not Holds.OTHER:
                self._begin_here(resume=resume)
                yield Claim(self, self.path, None)
            else:
                yield from self._claim_aside(resume=resume)

    def _locked(self, *, wait: bool = False) -> AbstractContextManager[None]:
        return output_lock(lock_of(self.path), self.given, wait=wait)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Keep `building`, where parts are written, from `clean`. Several commands may be at work on parts."""
        assert self.parts is not None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            with self._locked(wait=True):
                self._recover()
                staging = self._parts_aside()
                if not is_finished(self.path):
                    self.path.mkdir(exist_ok=True)
                    self._mark(staging or self._stage())
                elif staging is None:
                    (self._stage().folder / self.parts).mkdir()
                held.enter_context(output_lock(self._guard(), self.given, wait=True, shared=True))
            yield

    def alone(self) -> bool:
        """Return whether no command is at work on parts."""
        try:
            with output_lock(self._guard(), self.given):
                return True
        except OverwriteError:
            return False

    def building(self) -> Path:
        """Return the folder below which parts are written: the path, or where its successor is built."""
        staging = self._parts_aside() if is_finished(self.path) else None
        return staging.folder if staging else self.path

    def _guard(self) -> Path:
        """Return the folder that is locked while parts are written: what `clean` would remove, or a folder in it."""
        building = self.building()
        if building != self.path:
            return building
        folder = self.path / str(self.parts)
        folder.mkdir(exist_ok=True)
        return folder

    def _parts_aside(self) -> Staging | None:
        """Return the staging folder in which parts are written."""
        return next((staging for staging in stagings(self.path) if self._holds_parts(staging)), None)

    def _holds_parts(self, staging: Staging) -> bool:
        within = self.parts is not None and (staging.folder / self.parts).is_dir()
        return within and staging.marker["kind"] == self.kind and "successor" not in staging.marker

    def _begin_here(self, *, resume: bool) -> None:
        if not resume:
            clear_work(self.path, self.work)
        self.path.mkdir(exist_ok=True)
        # A run that was to replace an artifact that no longer exists, or that an earlier command began.
        staging = self._unfinished_staging(resume=resume)
        if staging is None and (self.path / MARKER).exists():
            return
        self._mark(staging or self._stage())

    def _mark(self, staging: Staging) -> None:
        """Mark the path as an unfinished run, and move there what an earlier command left in a staging folder."""
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
            lost = staging.path.exists() and not is_finished(staging.folder)
            if lost and not self.work and not self._holds_parts(staging):
                staging.remove()

    def _stage(self) -> Staging:
        return Staging.create(self.path, self.kind, self.params, self.inputs() if self.work else {})

    def _unfinished_staging(self, *, resume: bool) -> Staging | None:
        """Return the stopped run that was to replace the artifact; remove those that cannot be resumed."""
        kept = None
        for staging in stagings(self.path):
            if self._holds_parts(staging):
                kept = staging
                continue
            resumable = (
                self.work and resume and staging.marker["kind"] == self.kind and staging.folder.is_dir()
            )
            difference = (
                self.difference(staging.marker["params"], staging.marker["inputs"], unfinished=True)
                if resumable
                else None
            )
            if difference and any((staging.folder / name).exists() for name in self.work):
                raise OverwriteError(
                    f"{self.given} was to be replaced by a run, now at {staging.folder}, that {difference}:"
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
        """Finish publications that killed commands began; return whether there were any."""
        recovered = False
        for staging in stagings(self.path, clean=True):
            ready = "successor" in staging.marker
            if not ready and staging.marker["kind"] == self.kind and is_finished(staging.folder):
                state = place_state(self.path, self.kind, self.parts)
                with suppress(InputError):
                    read_manifest(staging.folder, self.kind, verify=True)
                    ready = state is None or state.holds is Holds.NOTHING
            if ready:
                publish(staging, self.path, self.work, parts=self.parts)
                recovered = True
            elif not self.work and staging.marker["kind"] == self.kind and not self._holds_parts(staging):
                staging.remove()
        if is_finished(self.path):
            clear_work(self.path, self.work)
        return recovered


def clear_work(folder: Path, work: Iterable[str]) -> None:
    """Remove the files that only an unfinished run needs, and those half written at a kill; the marker last."""
    for left in folder.glob(".*.tmp"):
        if _HALF_WRITTEN.search(left.name):
            remove_inside(folder, left.name)
    for name in (*work, MARKER):
        remove_inside(folder, name)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _named(name: str, digest: str | None) -> str:
    return f"{name} {digest[:12]}" if digest else f"no {name}"
