"""Distributed faults: one of two torchrun processes is killed, stopped or asked to end; then the run is repeated."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.command_line import CommandLine, torchrun
from tests.soak import trials
from tests.soak.forked import Ended
from tests.soak.trials import Outcome
from tests.soak.world import STAGES, World, differs, listing, remove_outs

# A collective ends after 60 s at most; torchrun then ends the others within 30 s.
SECONDS = 120.0
# Long enough to be disturbed at work, and not before it.
LONGER = ("--steps", "80", "--eval-every", "20", "--save-every", "10")
FAULTS = ("SIGKILL", "SIGSTOP", "SIGTERM")


class Ranks:
    """Trials of one world.

    Parameters
    ----------
    world : World
    scratch : Path
        Folder for the trials.
    """

    def __init__(self, world: World, scratch: Path) -> None:
        self.world, self.folder, self.whole = world, scratch / "ranks", scratch / "ranks-undisturbed"

    def disturb(self, rng: random.Random) -> Outcome:
        """Send a signal to a process at a random moment of its work, and repeat the command."""
        if not self.whole.exists():
            self._fresh(self.whole)
            ended = self._run(self.whole)
            if ended.code:
                shutil.rmtree(self.whole)
                raise RuntimeError(str(ended))
        self._fresh(self.folder)
        fault, rank = rng.choice(FAULTS), rng.randrange(2)
        steps = rng.randrange(70)
        group = f"{fault} of one of two"
        ended = self._run(self.folder, getattr(signal, fault), rank, steps)
        doing = (
            f"{fault} of rank {rank} after step {steps}: {ended.seconds:.0f} s, {trials.said(ended)[-500:]}"
        )
        if ended.late:
            return Outcome(group, trials.HANG, doing)
        again = self._run(self.folder)
        if again.code:
            return Outcome(group, trials.REFUSED, f"{doing}; again: {trials.said(again)}")
        if listing(self.folder) != listing(self.whole):
            litter = sorted(listing(self.folder) ^ listing(self.whole))
            return Outcome(group, trials.LITTER, f"{doing}: {litter[:5]}")
        difference = differs(self.whole / "model", self.folder / "model")
        return Outcome(group, trials.SILENT if difference else trials.RECOVERED, f"{doing}: {difference}")

    def _fresh(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.world.folder, folder)
        remove_outs(folder, STAGES["model"])

    def _run(self, folder: Path, number: int = 0, rank: int = 0, steps: int = 0) -> Ended:
        """Run two processes, and send a signal to one of them once so many steps are logged."""
        words = [*STAGES["model"].words, *LONGER]
        started = time.monotonic()
        running = CommandLine().start(*words, launcher=torchrun(2), cwd=folder, start_new_session=True)
        try:
            if number:
                metrics = folder / "model" / "metrics.jsonl"
                while running.poll() is None and _lines(metrics) < steps + 1:
                    time.sleep(0.005)
                ranks = _children(running.pid)
                if running.poll() is None and len(ranks) == 2:
                    os.kill(ranks[rank], number)
            out, err = running.communicate(timeout=SECONDS)
            late = False
        except subprocess.TimeoutExpired:
            late = True
        finally:
            for process in [*_children(running.pid), running.pid] if running.poll() is None else []:
                os.kill(process, signal.SIGKILL)
        if late:
            out, err = running.communicate()
        return Ended(running.returncode, out, err, time.monotonic() - started, late)


def _children(process: int) -> list[int]:
    path = Path(f"/proc/{process}/task/{process}/children")
    return sorted(map(int, path.read_text().split())) if path.exists() else []


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0
