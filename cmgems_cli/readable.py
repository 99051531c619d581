"""Numbers and names as people read them: `expected_s: 664320` is "expected time: 184 h 32 min"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

# Of the names in plans, manifests and metrics.jsonl that do not explain themselves.
_NAMES = {
    "dropped_iupac": "dropped: other IUPAC letters",
    "dropped_n": "dropped: N",
    "dropped_other": "dropped: anything else",
    "embedding_s": "time to embed",
    "eval_every": "steps between evaluations",
    "eval_sequences": "validation sequences",
    "expected_s": "expected time",
    "global_batch": "rows per step",
    "human_names": "names of human chromosomes",
    "keeps": "model that is tested",
    "memory_bytes": "memory",
    "n_dev": "dev rows",
    "n_test": "test rows",
    "n_train": "train rows",
    "padding_share": "padding",
    "switched_at_step": "switched after step",
    "tokens_per_s": "tokens per second",
    "training_s": "training time",
    "valid_perplexity": "perplexity, fixed masks",
    "valid_perplexity_active": "perplexity, active masks",
    "warmup_steps": "warm-up steps",
}


def name_of(key: str) -> str:
    """Return what a key means.

    >>> name_of("expected_s"), name_of("unigram_perplexity")
    ('expected time', 'unigram perplexity')
    """
    return _NAMES.get(key, key.replace("_", " "))


def value_of(key: str, value: Any) -> Any:
    """Return a value as a person would say it if its key has a unit, else as it is.

    >>> value_of("expected_s", 664_320), value_of("memory_bytes", 1.1e9), value_of("padding_share", 0.0312)
    ('184 h 32 min', '1.1 GB', '3.1 %')
    """
    if not isinstance(value, int | float):
        return value
    if key.endswith("_bytes") or key.startswith("bytes"):
        return size(value)
    if key.endswith("_share"):
        return f"{100 * value:.1f} %"
    return duration(value) if key.endswith("_s") and not key.endswith("_per_s") else value


def named_rows(values: dict[str, Any]) -> list[list[Any]]:
    """Return names and values as the rows of a table."""
    return [[name_of(key), value_of(key, value)] for key, value in values.items()]


def amount(number: float) -> str:
    """Format a count with a unit prefix: 59.5 M."""
    scale, prefix = _prefix(number)
    return f"{number / scale:,.1f} {prefix}" if prefix else f"{number:,.0f}"


def size(n_bytes: float) -> str:
    """Format a number of bytes: 1.1 GB."""
    scale, prefix = _prefix(n_bytes)
    return f"{n_bytes / scale:,.{1 if prefix else 0}f} {prefix}B"


def progress(done: float, total: float, unit: str) -> str:
    """Format what is done of a total, which is 0 if it is unknown.

    >>> progress(2_100_000, 12_300_000, "B"), progress(150, 10_000, "steps"), progress(3e6, 0, "bases")
    ('2.1/12.3 MB', '150/10,000 steps', '3.0 M bases')
    """
    scale, prefix = _prefix(total or done) if unit == "B" or max(done, total) >= 1e6 else (1, "")
    numbers = [f"{number / scale:,.{1 if prefix else 0}f}" for number in (done, *([total] if total else []))]
    return f"{'/'.join(numbers)} {prefix}{'' if unit == 'B' or not prefix else ' '}{unit}"


def rate(per_second: float, unit: str) -> str:
    """Format a speed.

    >>> rate(6361.2, "tokens"), rate(0.52, "sequences")
    ('6,361 tokens/s', '0.5 sequences/s')
    """
    return f"{per_second:,.{0 if per_second >= 10 else 1}f} {unit}/s"


def _prefix(number: float) -> tuple[float, str]:
    for limit, scale, prefix in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(number) >= limit:
            return scale, prefix
    return 1, ""


def duration(seconds: float) -> str:
    """Format a time span as a person would say it: 0.8 s, 42 s, 3 min 10 s, 2 h 5 min.

    >>> duration(0.84), duration(42), duration(190), duration(7500)
    ('0.8 s', '42 s', '3 min 10 s', '2 h 5 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def meant(word: str, names: Iterable[str]) -> str:
    """Return the end of a message about a misspelt word: the name it is nearest to; empty if none is near.

    >>> meant("tinny", ["tiny", "logo"]), meant("Globl", ["random", "global"]), meant("x", ["random"])
    ('; did you mean tiny?', '; did you mean global?', '')
    """
    close = difflib.get_close_matches(word.casefold(), names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def counted(number: int, noun: str, several: str = "") -> str:
    """Return a number and its noun; `several` is the plural if it is not the noun with an s.

    >>> counted(1, "task"), counted(1200, "task"), counted(2, "entry", "entries")
    ('1 task', '1,200 tasks', '2 entries')
    """
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def none_of(number: int, noun: str, whose: str = "the") -> str:
    """Return the subject of a sentence that is true of not one of some things.

    >>> none_of(12, "record"), none_of(1, "allele", "its")
    ('none of the 12 records', 'no allele')
    """
    return f"no {noun}" if number == 1 else f"none of {whose} {counted(number, noun)}"
