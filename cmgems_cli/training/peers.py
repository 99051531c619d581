"""The other processes of a run: meeting them, comparing with them, and noticing that one is dead.

Collective operations cannot wait long without hiding a dead process, nor end early without killing a slow one. So each
process shows every second that it is alive, in the store by which torch's processes find each other; waits that may be
long are made there, and collectives need not wait. All processes end once one is silent, and one of them says which.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from cmgems_cli.errors import CmgemsError
from cmgems_cli.signals import under_torchrun

# ours: a beat a second costs nothing; a process that computes or is swapped out for a while is not silent for 30.
SECONDS_PER_BEAT = 1.0
SILENT_BEATS = 30
# ours: torchrun kills 30 s after SIGTERM, and an error of a collective means that a process is dead.
SILENT_BEATS_AFTER_A_SIGNAL = 10
SILENT_BEATS_AFTER_AN_ERROR = 5
# ours: time to end in order once another process has said why the run ends.
BEATS_AFTER_A_REPORT = 10
# ours: the slowest import of torch from a network file system, several times over.
START_SECONDS = 600.0

_LEFT = "left"


class Peers:
    """The processes of a run as one of them sees the others.

    Parameters
    ----------
    rank, world_size : int
    store, watched : torch.distributed.Store
        Two connections to the same store: one for this thread, one for the thread that watches.

    Attributes
    ----------
    report : (int, int) or None
        Rank and exit code of the process that has said why the run ends.
    """

    def __init__(self, rank: int, world_size: int, store: dist.Store, watched: dist.Store) -> None:
        self.rank, self.world_size = rank, world_size
        self._store, self._watched = store, watched
        self.report: tuple[int, int] | None = None
        self._meetings = 0
        self._left: set[int] = set()
        self._silent_beats = SILENT_BEATS
        self._alone = self._ended = False
        self._stop = threading.Event()
        self._signals, self._wakeup = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(ValueError):  # not the main thread
            signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        self._store.set(f"beat/{rank}", "0")
        self._homes = self.gather(f"{os.environ.get('GROUP_RANK')} {os.getppid()} {os.getpid()}")
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @staticmethod
    def join() -> tuple[Peers, dist.Store]:
        """Return the peers of this process of torchrun, and the store for torch's process group."""
        from torch.distributed.rendezvous import rendezvous

        patience = timedelta(seconds=START_SECONDS)
        (store, rank, world_size), (other, _, _) = (
            next(rendezvous("env://", timeout=patience)) for _ in range(2)
        )
        # torchrun's store outlives its processes: those that it starts again must not read what the first have left.
        start = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{world_size}"
        ours, watched = (dist.PrefixStore(f"cmgems/{start}", one) for one in (store, other))
        return Peers(rank, world_size, ours, watched), dist.PrefixStore(f"cmgems/{start}/torch", store)

    # ------------------------------------------------------------------ meetings

    def gather(self, value: str = "") -> list[str]:
        """Wait until every process has come here, however long that takes, and return the values by rank.

        Raises
        ------
        CmgemsError
            If one has ended instead.
        """
        self._meetings += 1
        keys = [f"{self._meetings}/{rank}" for rank in range(self.world_size)]
        begun, pause = time.monotonic(), 0.0005
        self._store.set(keys[self.rank], value)
        while not self._store.check(keys):
            late = self._meetings == 1 and time.monotonic() - begun > START_SECONDS
            if self.report is not None or self._left or late:
                missing = [rank for rank, key in enumerate(keys) if not self._store.check([key])]
                ended = self._ended_by(self._left.intersection(missing))
                if ended is not None:
                    raise ended
                if late:
                    raise CmgemsError(f"{self._named(missing)} did not start within {START_SECONDS:.0f} s")
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return [value.decode() for value in self._store.multi_get(keys)]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While the block runs, this process does not need the others: what it writes is finished first."""
        self._alone = True
        try:
            yield
        finally:
            self._alone = False

    # ------------------------------------------------------------------ ends

    def speaks(self, exit_code: int) -> bool:
        """Return whether this process is the one to say why the run ends; the first that asks is."""
        own = f"{self.rank} {exit_code}"
        try:
            return bool(self._store.compare_set("report", "", own).decode() == own)
        except RuntimeError:
            return self.rank == (0 if _torchrun_holds_the_store() else 1)

    def lost(self, error: Exception) -> CmgemsError:
        """Return what to say of an error of a collective; usually the watching thread ends the process first."""
        self._silent_beats = min(self._silent_beats, SILENT_BEATS_AFTER_AN_ERROR)
        for _ in range(3 * SILENT_BEATS_AFTER_AN_ERROR):
            ended = self._ended_by(self._left)
            if ended is not None:
                return ended
            time.sleep(SECONDS_PER_BEAT)
        return CmgemsError(f"the processes lost each other ({str(error).splitlines()[0]}); {_RESUME}")

    def _ended_by(self, left: Collection[int]) -> CmgemsError | None:
        """Return the error of this process where another one has said why the run ends, or has left too early."""
        if self.report is None and not left:
            return None
        error = CmgemsError(f"{self._named(sorted(left))} ended before the others; {_RESUME}")
        error.exit_code = self.report[1] if self.report else 1
        return error

    def leave(self) -> None:
        """Tell the others that this process has done its part."""
        self._ended = True
        self._stop.set()
        self._thread.join()
        with suppress(RuntimeError):
            self._store.set(f"beat/{self.rank}", _LEFT)
            if self.rank == 0 and not _torchrun_holds_the_store():
                # The store ends with this process.
                deadline = time.monotonic() + SILENT_BEATS * SECONDS_PER_BEAT
                while time.monotonic() < deadline and any(beat != _LEFT.encode() for beat in self._beats()):
                    time.sleep(0.05)
        with suppress(ValueError):
            signal.set_wakeup_fd(-1)
        os.close(self._wakeup)
        os.close(self._signals)

    # ------------------------------------------------------------------ the watching thread

    def _beats(self) -> Sequence[bytes]:
        return self._watched.multi_get([f"beat/{rank}" for rank in range(self.world_size)])

    def _watch(self) -> None:
        """Show that this process is alive, and end it when another one is not."""
        before: Sequence[bytes] = []
        silent: Counter[int] = Counter()
        reported = number = 0
        while not self._stop.wait(SECONDS_PER_BEAT):
            number += 1
            with suppress(BlockingIOError):
                if os.read(self._signals, 4096):
                    self._silent_beats = min(self._silent_beats, SILENT_BEATS_AFTER_A_SIGNAL)
            try:
                self._watched.set(f"beat/{self.rank}", str(number))
                beats = self._beats()
                if self._watched.check(["report"]):
                    by, code = self._watched.get("report").split()
                    self.report = int(by), int(code)
            except RuntimeError:
                holder = "torchrun" if _torchrun_holds_the_store() else "rank 0"
                self._end(f"no answer from {holder}; {_RESUME}", [])
                continue
            self._left = {rank for rank, beat in enumerate(beats) if beat == _LEFT.encode()}
            # Counted in beats of its own: a process that was stopped itself has not missed any.
            for rank, beat in enumerate(beats):
                quiet = rank != self.rank and rank not in self._left and beat in before[rank : rank + 1]
                silent[rank] = silent[rank] + 1 if quiet else 0
            before = beats
            missing = [rank for rank in range(self.world_size) if silent[rank] >= self._silent_beats]
            if missing:
                self._end(
                    f"no answer from {self._named(missing)}, as when a process is killed or stopped or a machine fails;"
                    f" {_RESUME}",
                    missing,
                )
            if self.report is not None and self.report[0] != self.rank:
                reported += 1
                if reported >= BEATS_AFTER_A_REPORT and not self._alone:
                    os._exit(self.report[1])

    def _end(self, message: str, missing: Sequence[int]) -> None:
        """End this process, unless it is writing, and those on this machine that are stopped."""
        if self._alone or self._ended:
            return
        if self.speaks(1):
            before = "\n" if sys.stderr.isatty() else ""
            with suppress(OSError):
                os.write(2, f"{before}error: {message}\n".encode())
        for rank in missing:
            self._kill(rank)
        os._exit(1)

    def _kill(self, rank: int) -> None:
        """Kill a stopped process of the same torchrun, which would wait 30 s before it does."""
        home, launcher, number = self._homes[rank].split()
        if under_torchrun() and [home, launcher] == self._homes[self.rank].split()[:2]:
            with suppress(OSError, ValueError):
                status = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
                if status[1] == launcher:
                    os.kill(int(number), signal.SIGKILL)

    def _named(self, ranks: Sequence[int]) -> str:
        """Name some ranks.

        >>> peers = Peers.__new__(Peers)
        >>> peers.world_size = 4
        >>> peers._named([1]), peers._named([1, 3])
        ('rank 1 of 4', 'ranks 1, 3 of 4')
        """
        listed = ", ".join(map(str, ranks))
        return f"rank{'s' if len(ranks) > 1 else ''} {listed} of {self.world_size}"


_RESUME = "the same command resumes from the last checkpoint"


def _torchrun_holds_the_store() -> bool:
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
