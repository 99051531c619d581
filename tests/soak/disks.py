"""Full disks: each writing command runs out of space at a random point, and is repeated with enough."""

import contextlib
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.soak import trials
from tests.soak.forked import Ended, cmgems, run_cmgems, run_forked
from tests.soak.kills import OTHERWISE
from tests.soak.trials import Outcome
from tests.soak.world import STAGES, World, listing, remove_outs

ENOUGH_BYTES = 64 << 20


class Disks:
    """Trials of one world, on a small file system in memory where mounting is allowed, else with a limit of file sizes.

    Parameters
    ----------
    world : World
    scratch : Path
        Folder for the trials.
    """

    def __init__(self, world: World, scratch: Path) -> None:
        self.world, self.folder = world, scratch / "disk"

    def fill(self, rng: random.Random) -> Outcome:
        """Run a command without enough space, then again with it."""
        name = rng.choice(list(OTHERWISE))
        share = rng.random()
        with self._mounted() as resized:
            shutil.copytree(self.world.folder, self.folder, dirs_exist_ok=True)
            remove_outs(self.folder, STAGES[name])
            room = int(share * 1.5 * sum(_bytes_of(self.world.folder / out) for out in STAGES[name].outs))
            if resized:
                status = os.statvfs(self.folder)
                used = (status.f_blocks - status.f_bfree) * status.f_frsize
                _mount("-o", f"remount,size={used + room + 4096}", self.folder)
                ended = cmgems(*STAGES[name].words, folder=self.folder)
                _mount("-o", f"remount,size={ENOUGH_BYTES}", self.folder)
            else:
                ended = self._limited(name, room + 1)
            doing = f"{room:,} bytes of room: {trials.said(ended)}"
            if ended.code:
                verdict = trials.refused(ended, (1, 3))
                if verdict != trials.NOTICED:
                    return Outcome(name, verdict, doing)
            return self._repeated(name, doing, first=ended)

    def _repeated(self, name: str, doing: str, first: Ended) -> Outcome:
        if first.code:
            ended = cmgems(*STAGES[name].words, folder=self.folder)
            if ended.code:
                return Outcome(
                    name, trials.fault(ended) or trials.REFUSED, f"{doing}; again: {trials.said(ended)}"
                )
        litter = listing(self.folder) ^ listing(self.world.folder)
        if litter:
            return Outcome(name, trials.LITTER, f"{doing}: {sorted(litter)[:5]}")
        difference = self.world.same(name, self.folder)
        if difference:
            return Outcome(name, trials.SILENT, f"{doing}: {difference}")
        return Outcome(name, trials.RECOVERED if first.code else trials.NO_EFFECT)

    def _limited(self, name: str, size: int) -> Ended:
        def work() -> int:
            os.chdir(self.folder)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            return run_cmgems(STAGES[name].words)

        return run_forked(work)

    @contextlib.contextmanager
    def _mounted(self) -> Iterator[bool]:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        mounted = _mount("-t", "tmpfs", "-o", f"size={ENOUGH_BYTES}", "soak", self.folder)
        try:
            yield mounted
        finally:
            if mounted:
                subprocess.run(["umount", str(self.folder)], check=True)


def _mount(*words: object) -> bool:
    """Return whether this user may mount."""
    with contextlib.suppress(OSError):
        return subprocess.run(["mount", *map(str, words)], capture_output=True, check=False).returncode == 0
    return False


def _bytes_of(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(-(-file.stat().st_size // 4096) * 4096 for file in files if file.is_file())
