"""How the soak test judges and keeps its trials."""

import json
import sys
from pathlib import Path

import pytest

from tests.soak import trials
from tests.soak.forked import run_forked
from tests.soak.trials import Ledger, Outcome


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_forked_command_is_judged() -> None:
    def crash() -> int:
        raise ZeroDivisionError

    def hang() -> int:
        while True:
            pass

    def fill() -> int:
        return len(bytearray(1 << 30))

    def refuse() -> int:
        print("error: no such file", file=sys.stderr)
        return 3

    def garble() -> int:
        print("error: no such file \x1b[1m", file=sys.stderr)
        return 3

    assert trials.refused(run_forked(crash)) == trials.CRASH
    assert trials.refused(run_forked(hang, seconds=0.2)) == trials.HANG
    assert trials.refused(run_forked(fill, memory=1 << 28)) == trials.CRASH
    assert trials.refused(run_forked(refuse)) == trials.NOTICED
    assert trials.refused(run_forked(garble)) == trials.WORDS
    assert trials.refused(run_forked(lambda: 1)) == trials.REFUSED


def test_results_are_kept_and_failed_trials_are_repeated(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "results.jsonl")
    ledger.add("flips", 1, 0, Outcome("corpus", trials.NOTICED))
    ledger.add("flips", 1, 1, Outcome("pmi", trials.SILENT, "bit 3"))
    ledger.add_batch("fuzz", 1, 0, 10, {"table|read": 9})
    ledger.add("fuzz", 1, 4, Outcome("table", trials.CRASH, "Traceback"))
    with ledger.path.open("a") as stream:
        stream.write('{"kind": "flips", "se')
    again = Ledger(ledger.path)
    assert again.done("flips", 1) == {0}
    assert again.done("fuzz", 1) == set(range(10)) - {4}
    assert again.done("flips", 2) == set()
    assert [(line["kind"], line["number"]) for line in again.failures(1)] == [("flips", 1), ("fuzz", 4)]
    again.add("flips", 1, 1, Outcome("pmi", trials.NOTICED))
    assert again.counts(1)["flips", "pmi"] == {trials.NOTICED: 1}
    assert json.loads(ledger.path.read_text().splitlines()[-1])["number"] == 1
