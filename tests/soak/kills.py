"""Kills and signals: at any moment and around any file operation, on a free path or with --overwrite."""

import os
import random
import shutil
import signal
from pathlib import Path

from tests.soak import trials
from tests.soak.forked import Ended, cmgems, run_cmgems, run_forked
from tests.soak.trials import Outcome
from tests.soak.world import STAGES, Stage, World, content, differs, kill_at, listing, out_of, remove_outs

# For each stage that writes, an option that makes something else of it.
OTHERWISE = {
    "corpus": ("--seed", "7"),
    "pmi": ("--min-count", "7"),
    "counted": ("--min-count", "7"),
    "model": ("--seed", "7"),
    "classifier": ("--seed", "7"),
    "fewshot": ("--seed", "7"),
    "shot": ("--seed", "7"),
    "scores": ("--lr", "0.01"),
    "predicted": ("--no-header",),
    "embedded": ("--pooling", "cls"),
    "scored": ("--window", "21"),
    "explained": ("--strand", "reverse"),
    "hits": ("--strand", "forward"),
    "track": ("--stride", "20"),
    "divided": ("--seed", "7"),
    "matched": ("--seed", "7"),
    "masks": ("--seed", "7"),
    "report": ("--seed", "7"),
}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTES = "notes.txt"
# These are two files, replaced one by one: in between neither the old nor the new is whole, and the next command
# completes the new one.
IN_PLACE = ("embedded", "explained")


class Kills:
    """Trials of one world.

    Parameters
    ----------
    world : World
    scratch : Path
        Folder for the trials.
    """

    def __init__(self, world: World, scratch: Path) -> None:
        self.world, self.scratch = world, scratch
        self._operations: dict[tuple[str, bool], tuple[int, float]] = {}

    def kill(self, rng: random.Random) -> Outcome:
        """Kill a command with SIGKILL, once or again in its repetition, then repeat it to its end."""
        name = rng.choice(list(OTHERWISE))
        overwrite = rng.random() < 0.5
        more = ("--overwrite",) if overwrite else ()
        operations, seconds = self._extent(name, overwrite=overwrite)
        folder = self._folder(name, overwrite=overwrite)
        stage, group = STAGES[name], f"{name}{' --overwrite' if overwrite else ''}"
        before = self._old(name) if overwrite else None
        doings = []
        for _ in range(1 + (rng.random() < 0.3)):
            if rng.random() < 0.7:
                at, after = rng.randrange(operations), rng.random() < 0.5
                ended = kill_at(stage, folder, at, *more, after=after)
                doings.append(
                    f"{'after' if after else 'before'} operation {at} of {operations} (exit {ended.code})"
                )
            else:
                at_s = rng.uniform(0, seconds)
                ended = _run(stage, folder, more, at=at_s)
                doings.append(f"at {at_s:.3f} of {seconds:.3f} s (exit {ended.code})")
            if self._is_finished(name, folder, ended):
                break
            if ended.code not in (0, -signal.SIGKILL):
                return Outcome(
                    group, trials.fault(ended) or trials.REFUSED, f"{doings}: {trials.said(ended)}"
                )
            problem = self._is_whole(name, folder, before) if before and name not in IN_PLACE else ""
            if problem:
                return Outcome(group, trials.LOST, f"{doings}: {problem}")
        return self._repeated(
            name, folder, more, group, f"killed {', then '.join(doings)}", overwrite=overwrite
        )

    def interrupt(self, rng: random.Random) -> Outcome:
        """Send SIGINT or SIGTERM at a random moment, then repeat the command."""
        name = rng.choice(list(OTHERWISE))
        overwrite = rng.random() < 0.3
        more = ("--overwrite",) if overwrite else ()
        number = rng.choice(SIGNALS)
        at = rng.uniform(0, self._extent(name, overwrite=overwrite)[1])
        folder = self._folder(name, overwrite=overwrite)
        group = f"{name} {signal.Signals(number).name}"
        ended = _run(STAGES[name], folder, more, at=at, number=number)
        if ended.code != 0:
            verdict = trials.fault(ended) or ("" if _stopped(ended, number) else trials.REFUSED)
            if verdict:
                return Outcome(group, verdict, f"{at:.3f} s: {trials.said(ended)}")
        return self._repeated(name, folder, more, group, f"at {at:.3f} s", overwrite=overwrite)

    def _repeated(
        self, name: str, folder: Path, more: tuple[str, ...], group: str, doing: str, *, overwrite: bool
    ) -> Outcome:
        """Repeat the command, and compare all that is there with the undisturbed world."""
        ended = _run(STAGES[name], folder, more)
        if self._is_finished(name, folder, ended):
            ended = _run(STAGES[name], folder, ("--overwrite",))
        if ended.code:
            return Outcome(
                group, trials.fault(ended) or trials.REFUSED, f"{doing}; again: {trials.said(ended)}"
            )
        return self._compared(name, folder, group, doing, overwrite=overwrite)

    def _is_finished(self, name: str, folder: Path, ended: Ended) -> bool:
        """Return whether a command refused to write its file since it is complete: that is no artifact."""
        return ended.code == 4 and "." in out_of(name) and not self.world.same(name, folder)

    def _compared(
        self, name: str, folder: Path, group: str, doing: str, *, overwrite: bool = False
    ) -> Outcome:
        out = folder / STAGES[name].outs[0]
        if overwrite and out.is_dir():
            if not (out / NOTES).exists():
                return Outcome(group, trials.LOST, f"{doing}: {NOTES} is missing")
            (out / NOTES).unlink()
        litter = listing(folder) ^ listing(self.world.folder)
        if litter:
            return Outcome(group, trials.LITTER, f"{doing}: {sorted(litter)[:5]}")
        difference = self.world.same(name, folder)
        if difference:
            return Outcome(group, trials.SILENT, f"{doing}: {difference}")
        return Outcome(group, trials.RECOVERED)

    def _folder(self, name: str, *, overwrite: bool) -> Path:
        folder = self.scratch / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.world.folder, folder)
        remove_outs(folder, STAGES[name])
        if overwrite:
            old = self._old(name)
            for out in STAGES[name].outs:
                copy = shutil.copytree if (old / out).is_dir() else shutil.copyfile
                copy(old / out, folder / out)
            if (folder / STAGES[name].outs[0]).is_dir():
                (folder / STAGES[name].outs[0] / NOTES).write_text("mine")
        return folder

    def _old(self, name: str) -> Path:
        """Return a world in which a stage has written something else."""
        folder = self.scratch / "otherwise" / name
        if not folder.exists():
            shutil.copytree(self.world.folder, folder)
            remove_outs(folder, STAGES[name])
            ended = _run(STAGES[name], folder, OTHERWISE[name])
            if ended.code or not self.world.same(name, folder):
                raise RuntimeError(f"{name} {OTHERWISE[name]} makes nothing else: {ended}")
        return folder

    def _extent(self, name: str, *, overwrite: bool) -> tuple[int, float]:
        """Return how many file operations and seconds a command takes."""
        if (name, overwrite) not in self._operations:
            source = self._folder(name, overwrite=overwrite)
            more = ("--overwrite",) if overwrite else ()
            operations = self.world.operations(name, *more, folder=source)
            ended = _run(STAGES[name], source, more)
            self._operations[name, overwrite] = operations, 1.2 * ended.seconds
        return self._operations[name, overwrite]

    def _is_whole(self, name: str, folder: Path, before: Path) -> str:
        """Return what is wrong with an output that must be the old or the new one; empty if it is whole."""
        found = []
        for source in (before, self.world.folder):
            for out in STAGES[name].outs:
                one, other = source / out, folder / out
                if one.is_dir():
                    found.append(_lacks(one, other))
                else:
                    found.append(differs(one, other))
        half = len(found) // 2
        old, new = any(found[:half]), any(found[half:])
        return f"neither the old nor the new is there ({found})" if old and new else ""


def _stopped(ended: Ended, number: int) -> bool:
    """Return whether a command ended as a signal asked, with one line that says so after its warnings."""
    lines = [line for line in ended.stderr.splitlines() if not line.startswith("warning: ")]
    return ended.code == 128 + number and len(lines) == 1 and lines[0].startswith("stopped")


def _lacks(one: Path, other: Path) -> str:
    """Return which files of `one` are missing in `other` or differ there; an evaluation's runs are artifacts too."""
    for name in sorted(listing(one)):
        if (one / name).is_file() and not name.startswith("runs/"):
            if not (other / name).is_file():
                return f"{name} is missing"
            if content(one / name) != content(other / name):
                return f"{name} differs"
    return ""


def _run(
    stage: Stage,
    folder: Path,
    more: tuple[str, ...] = (),
    at: float | None = None,
    number: int = signal.SIGKILL,
) -> Ended:
    if at is None:
        return cmgems(*stage.words, *more, folder=folder)

    def work() -> int:
        os.chdir(folder)
        return run_cmgems([*stage.words, *more])

    return run_forked(work, at=at, number=number)
