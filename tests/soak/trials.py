"""What a trial gives, how it is judged, and the file in which results are kept, so that a soak can be resumed."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.soak.forked import UNCAUGHT, Ended

# Verdicts that pass: refused with one line; the result is the undisturbed one; the next command made it so; read.
NOTICED, NO_EFFECT, RECOVERED, READ = "noticed", "no effect", "recovered", "read"
PASSED = (NOTICED, NO_EFFECT, RECOVERED, READ)
SILENT, CRASH, HANG, MEMORY = "SILENT", "CRASH", "HANG", "MEMORY"
LOST, LITTER, REFUSED, WORDS = "LOST", "LITTER", "REFUSED", "WORDS"

# Exit codes of input, usage, and something in the way.
REFUSALS = (2, 3, 4)


@dataclass(frozen=True)
class Outcome:
    """The result of one trial.

    Attributes
    ----------
    group : str
        What was disturbed, for the table.
    verdict : str
        One of `PASSED`, or a failure in capitals.
    words : str
        What was done, and what the command said if the trial failed.
    """

    group: str
    verdict: str
    words: str = ""

    @property
    def passed(self) -> bool:
        """Whether the verdict is one of `PASSED`."""
        return self.verdict in PASSED


def fault(ended: Ended) -> str:
    """Return the verdict on a command that crashed, hung or used too much memory; empty for any other."""
    if ended.late:
        return HANG
    if ended.code < 0 or ended.code == UNCAUGHT or "Traceback (most recent" in ended.stderr:
        return CRASH
    return MEMORY if "the memory is full" in ended.stderr else ""


def speaks_plainly(ended: Ended) -> bool:
    """Return whether a refusal is one `error:` line, without control characters."""
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    raw = any((ord(letter) < 32 and letter not in "\n\t\r") or letter == "\x7f" for letter in ended.stderr)
    return len(errors) == 1 and not raw


def refused(ended: Ended, codes: Iterable[int] = REFUSALS) -> str:
    """Return the verdict on a command that did not succeed."""
    if fault(ended):
        return fault(ended)
    if ended.code not in codes:
        return REFUSED
    return NOTICED if speaks_plainly(ended) else WORDS


def said(ended: Ended) -> str:
    """Return the end of what a command wrote, with its exit code."""
    return f"exit {ended.code}: {ended.stderr[-1500:] or ended.stdout[-300:]}"


class Ledger:
    """Results as JSON lines: `kind, seed, number, count, group, verdict, words`.

    A trial that failed is repeated by the next run; its last line counts. A line of a batch (`count` > 1) has the
    numbers of passed trials by group and verdict.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.lines = [json.loads(line) for line in lines if line.endswith("}")]

    def add(self, kind: str, seed: int, number: int, outcome: Outcome) -> None:
        """Record one trial."""
        self._write({"kind": kind, "seed": seed, "number": number, "count": 1, **asdict(outcome)})

    def add_batch(self, kind: str, seed: int, number: int, count: int, passed: Mapping[str, int]) -> None:
        """Record trials `number … number + count - 1`, of which those not counted in `passed` have failed."""
        self._write({"kind": kind, "seed": seed, "number": number, "count": count, "passed": dict(passed)})

    def _write(self, line: dict[str, object]) -> None:
        self.lines.append(line)
        # A line that a kill cut off must not join this one.
        begun = self.path.exists() and self.path.read_bytes()[-1:] not in (b"", b"\n")
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write("\n" * begun + json.dumps(line) + "\n")

    def last(self, kind: str, seed: int) -> dict[int, dict]:
        """Return the last line of each trial or batch of a kind."""
        return {
            line["number"]: line
            for line in self.lines
            if (line["kind"], line["seed"]) == (kind, seed) and line["count"] == 1
        }

    def done(self, kind: str, seed: int) -> set[int]:
        """Return the numbers of the trials that need not be repeated."""
        numbers = {
            line["number"] + i
            for line in self.lines
            if (line["kind"], line["seed"]) == (kind, seed) and line["count"] > 1
            for i in range(line["count"])
        }
        last = self.last(kind, seed)
        numbers |= {number for number, line in last.items() if line["verdict"] in PASSED}
        return numbers - {number for number, line in last.items() if line["verdict"] not in PASSED}

    def counts(self, seed: int) -> dict[tuple[str, str], Counter[str]]:
        """Return how many trials had which verdict, by kind and group."""
        found: dict[tuple[str, str], Counter[str]] = {}
        for line in self.lines:
            if line["seed"] == seed and line["count"] > 1:
                for name, n in line["passed"].items():
                    group, verdict = name.split("|")
                    found.setdefault((line["kind"], group), Counter())[verdict] += n
        for kind in {line["kind"] for line in self.lines}:
            for line in self.last(kind, seed).values():
                found.setdefault((kind, line["group"]), Counter())[line["verdict"]] += 1
        return found

    def failures(self, seed: int) -> list[dict]:
        """Return the last lines of the trials that fail."""
        kinds = sorted({line["kind"] for line in self.lines})
        return [
            line for kind in kinds for line in self.last(kind, seed).values() if line["verdict"] not in PASSED
        ]
