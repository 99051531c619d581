"""Soak test: kills, signals, bit flips, full disks, fuzzed inputs and bombs, each trial a function of seed and number.

python -m tests.soak --seed 1 --minutes 30
python -m tests.soak --seed 1 --only flips --trials 1000
python -m tests.soak --seed 1 --only flips --number 17

Results are kept in a file of JSON lines; trials that passed are skipped when the same command runs again. The exit
code is 1 if any trial failed.
"""

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Before torch is imported: trials are forked, which threads do not survive.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.soak.bombs import Bombs, bombs, shuffled
from tests.soak.damage import Damage
from tests.soak.disks import Disks
from tests.soak.fuzz import Fuzz, passed_of
from tests.soak.kills import Kills
from tests.soak.ranks import Ranks
from tests.soak.trials import PASSED, Ledger, Outcome
from tests.soak.world import World, world_folder

# Trials of each kind that a full soak has (issue 12 asked for the first three).
TRIALS = {
    "kills": 300,
    "signals": 100,
    "flips": 1000,
    "cuts": 200,
    "disk": 100,
    "bombs": 0,
    "ranks": 10,
    "fuzz": 100_000,
}
BATCH = 250

# Called with the number and the draws of a trial.
Trial = Callable[[int, random.Random], Outcome]


def main() -> int:
    """Run what the command line asks for."""
    words = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--minutes", type=float, default=30.0, help="stop after this time")
    words.add_argument("--only", action="append", choices=list(TRIALS), help="one kind; may be repeated")
    words.add_argument("--trials", type=int, help="of each kind, instead of its usual number")
    words.add_argument("--number", type=int, help="repeat one trial and print what it does")
    words.add_argument("--results", type=Path, default=Path("soak-results.jsonl"))
    words.add_argument("--work", type=Path, help="folder of the trials; default: in memory if the system can")
    chosen = words.parse_args()
    ledger = Ledger(chosen.results)
    with _work_folder(chosen.work) as scratch:
        world = _warm_world(scratch)
        kinds = _kinds(world, scratch)
        deadline = time.monotonic() + 60 * chosen.minutes
        for kind in chosen.only or list(TRIALS):
            if kind == "fuzz":
                _fuzz(Fuzz(world, scratch, chosen.results.with_suffix(".inputs")), ledger, chosen, deadline)
                continue
            if chosen.number is not None:
                print(_trial(kinds[kind], kind, chosen.seed, chosen.number))
                continue
            done = ledger.done(kind, chosen.seed)
            order = list(range(TRIALS[kind]))
            if kind == "bombs":  # all of them, in an order of the seed
                order = shuffled(chosen.seed, len(list(bombs())))
            elif chosen.trials:
                order = list(range(chosen.trials))
            for number in order[: chosen.trials]:
                if time.monotonic() > deadline:
                    break
                if number not in done:
                    outcome = _trial(kinds[kind], kind, chosen.seed, number)
                    ledger.add(kind, chosen.seed, number, outcome)
                    if not outcome.passed:
                        print(
                            f"{kind} {number} {outcome.group}: {outcome.verdict}: {outcome.words}", flush=True
                        )
    return _table(ledger, chosen.seed)


def _fuzz(fuzz: "Fuzz", ledger: Ledger, chosen: argparse.Namespace, deadline: float) -> None:
    if chosen.number is not None:
        print(*fuzz.batch(chosen.seed, [chosen.number]))
        return
    done = ledger.done("fuzz", chosen.seed)
    for first in range(0, chosen.trials or TRIALS["fuzz"], BATCH):
        numbers = [number for number in range(first, first + BATCH) if number not in done]
        if not numbers or time.monotonic() > deadline:
            continue
        outcomes = dict(fuzz.batch(chosen.seed, numbers))
        if len(numbers) == BATCH:
            ledger.add_batch("fuzz", chosen.seed, first, BATCH, passed_of(list(outcomes.values())))
        for number, outcome in outcomes.items():
            if not outcome.passed or len(numbers) < BATCH:
                ledger.add("fuzz", chosen.seed, number, outcome)
            if not outcome.passed:
                print(f"fuzz {number} {outcome.group}: {outcome.verdict}: {outcome.words}", flush=True)


def _trial(trial: Trial, kind: str, seed: int, number: int) -> Outcome:
    return trial(number, random.Random(f"{seed}/{kind}/{number}"))


def _kinds(world: World, scratch: Path) -> dict[str, Trial]:
    kills, damage = Kills(world, scratch), Damage(world, scratch)
    disks, all_bombs = Disks(world, scratch), Bombs(world, scratch)
    return {
        "kills": lambda number, rng: kills.kill(rng),
        "signals": lambda number, rng: kills.interrupt(rng),
        "flips": lambda number, rng: damage.flip(rng),
        "cuts": lambda number, rng: damage.truncate(rng),
        "disk": lambda number, rng: disks.fill(rng),
        "bombs": lambda number, rng: all_bombs.read(number),
        "ranks": lambda number, rng: Ranks(world, scratch).disturb(rng),
    }


@contextlib.contextmanager
def _work_folder(given: Path | None) -> Iterator[Path]:
    memory = Path("/dev/shm")
    base = given or Path(tempfile.mkdtemp(prefix="soak-", dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield base
    finally:
        if given is None:
            shutil.rmtree(base, ignore_errors=True)


def _warm_world(scratch: Path) -> World:
    """Return the undisturbed world of this version of the code, with all that its commands import imported."""
    import torch  # noqa: F401

    world = World(world_folder(scratch))
    world.warm()
    return world


def _table(ledger: Ledger, seed: int) -> int:
    print(f"{'kind':10}{'what':34}{'trials':>8}  verdicts")
    totals: dict[str, int] = {}
    for (kind, group), verdicts in sorted(ledger.counts(seed).items()):
        total = sum(verdicts.values())
        totals[kind] = totals.get(kind, 0) + total
        shown = ", ".join(f"{verdict} {n}" for verdict, n in sorted(verdicts.items()))
        print(f"{kind:10}{group:34}{total:>8}  {shown}")
    for kind, total in totals.items():
        print(f"{kind:10}{'all':34}{total:>8}")
    failures = ledger.failures(seed)
    print(f"{len(failures)} failed; passed: {', '.join(PASSED)}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
