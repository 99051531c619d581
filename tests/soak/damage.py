"""Bit flips and truncations of artifacts, checkpoints and partial files, each followed by a command that reads them."""

import random
import shutil
from pathlib import Path

from tests.soak import trials
from tests.soak.forked import Ended, cmgems
from tests.soak.trials import Outcome
from tests.soak.world import ARTIFACTS, STAGES, STOPPED, World, out_of, remove_outs

# What reads an artifact. "again" and "replace" are the command that made it, without and with --overwrite.
READERS = {
    "corpus": ("pmi", "model", "masks", "again", "replace", "info"),
    "pmi": ("model", "masks", "report", "again", "replace", "info"),
    "counted": ("again", "replace", "info"),
    "model": ("classifier", "embedded", "report", "scores", "shot", "again", "replace", "info"),
    "classifier": ("predicted", "scored", "explained", "hits", "again", "replace", "info"),
    "fewshot": ("shot", "again", "replace", "info"),
    "shot": ("again", "info"),
    "divided": ("again", "replace", "info"),
    "matched": ("again", "replace", "info"),
    "scores": ("ttest", "report", "again", "replace", "info"),
    "report": ("again", "replace", "info"),
}
# ours: a report takes five times as long as the others.
RARELY = ("report",)


class Damage:
    """Trials of one world.

    Parameters
    ----------
    world : World
    scratch : Path
        Folder for the trials.
    """

    def __init__(self, world: World, scratch: Path) -> None:
        self.world, self.folder = world, scratch / "trial"

    def flip(self, rng: random.Random) -> Outcome:
        """Flip one bit."""

        def change(content: bytearray) -> str:
            at, bit = rng.randrange(len(content)), rng.randrange(8)
            content[at] ^= 1 << bit
            return f"bit {bit} of byte {at}"

        return self._trial(rng, change)

    def truncate(self, rng: random.Random) -> Outcome:
        """Cut a file off; also to nothing, and by one byte."""

        def change(content: bytearray) -> str:
            kept = rng.choice((0, len(content) - 1, rng.randrange(len(content))))
            del content[kept:]
            return f"cut to {kept} bytes"

        return self._trial(rng, change)

    def _trial(self, rng: random.Random, change) -> Outcome:  # type: ignore[no-untyped-def]
        stopped = rng.random() < 0.35
        name = rng.choice(STOPPED if stopped else ARTIFACTS)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.world.stopped / name if stopped else self.world.folder, self.folder)
        path = self._damaged(rng, name, change, stopped=stopped)
        file = path[0].relative_to(self.folder)
        if stopped:
            return self._judged(name, f"stopped {name}", f"{file}, {path[1]}", ())
        readers = [one for one in READERS[name] if one not in RARELY or rng.random() < 0.2]
        reader = rng.choice(readers)
        doing = f"{file}, {path[1]}, then {reader}"
        if reader == "info":
            ended = cmgems("info", out_of(name), "--verify", "--json", folder=self.folder)
            return self._verdict(ended, name, doing, "" if self._environment_only(name) else "verified")
        if reader in ("again", "replace"):
            # A file that the damaged manifest no longer names may be the user's: it is kept under another name.
            return self._judged(
                name, name, doing, ("--overwrite",) if reader == "replace" else (), kept="*.kept"
            )
        remove_outs(self.folder, STAGES[reader])
        return self._judged(reader, name, doing, ())

    def _damaged(self, rng: random.Random, name: str, change, *, stopped: bool) -> tuple[Path, str]:  # type: ignore[no-untyped-def]
        """Damage a file of an artifact or of a stopped run; return it and what was done."""
        paths = sorted(path for path in self.folder.rglob("*") if path.is_file() and path.stat().st_size)
        if stopped:
            before = {path.relative_to(self.world.folder) for path in self.world.folder.rglob("*")}
            out = self.folder / out_of(name)
            paths = [
                path
                for path in paths
                if path.relative_to(self.folder) not in before or path.is_relative_to(out)
            ]
        else:
            paths = [path for path in paths if path.is_relative_to(self.folder / out_of(name))]
        path = rng.choice(paths)
        content = bytearray(path.read_bytes())
        done = change(content)
        path.write_bytes(content)
        return path, done

    def _environment_only(self, name: str) -> bool:
        """Return whether the damage is where nothing but times and versions are."""
        return not self.world.same(name, self.folder)

    def _judged(self, name: str, group: str, doing: str, more: tuple[str, ...], kept: str = "") -> Outcome:
        ended = cmgems(*STAGES[name].words, *more, folder=self.folder)
        for path in self.folder.rglob(kept) if kept else ():
            path.unlink()
        if STAGES[name].outs:
            difference = self.world.same(name, self.folder)
        else:
            difference = "stdout differs" if ended.stdout != self.world.printed[name] else ""
        return self._verdict(ended, group, doing, difference)

    def _verdict(self, ended: Ended, group: str, doing: str, difference: str) -> Outcome:
        if ended.code != 0:
            verdict = trials.refused(ended)
            return Outcome(
                group, verdict, doing if verdict in trials.PASSED else f"{doing}: {trials.said(ended)}"
            )
        if difference:
            return Outcome(group, trials.SILENT, f"{doing}: {difference}; {trials.said(ended)}")
        return Outcome(group, trials.fault(ended) or trials.NO_EFFECT, doing)
