"""Labels as people and programs write them: their order, and what is wrong or odd about them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Sequence

from cmgems_cli.structured_text import plain_number

# What pandas, R and databases write where a value is missing, in any case of letters.
_MISSING = {
    "#n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>", "n/a", "na", "nan", "nat", "none",
    "null", "?",
}  # fmt: skip

# ours: the name of a class, which becomes a column of every table of predictions.
_LONGEST = 200

_LIST = re.compile(r"[\[(]?\d+(?:[,;| ]\s*\d+)*[\])]?|\[\]")
_TRUTH = {"true": 1.0, "false": 0.0}


def problem_of_label(label: str) -> str | None:
    """Return what is wrong with a label, and what to do about it; None if nothing is.

    >>> problem_of_label("NaN")
    "has the label 'NaN', which marks a missing value; correct it, remove the line or name the class otherwise"
    """
    if not label:
        return "has no label; add one or remove the line"
    if label.casefold() in _MISSING:
        return (
            f"has the label {label!r}, which marks a missing value; correct it, remove the line or name the class"
            " otherwise"
        )
    if len(label) > _LONGEST:
        return f"has a label of {len(label):,} characters; needed the name of a class, of at most {_LONGEST}"
    return None


def ordered(labels: Collection[str]) -> tuple[str, ...]:
    """Order labels by number where all are plain whole numbers, else as text.

    >>> ordered({"10", "9", "0"}), ordered({"10", "9", "09"})
    (('0', '9', '10'), ('09', '10', '9'))
    """
    if all(label.isascii() and label.isdecimal() and (label == "0" or label[0] != "0") for label in labels):
        return tuple(sorted(labels, key=lambda label: (len(label), label)))
    return tuple(sorted(labels))


def value_of(label: str) -> float | str:
    """Return what a label says, however it is spelled: a number, a truth value as 0 or 1, or its words.

    >>> value_of("1.0") == value_of("01") == value_of("TRUE") == 1, value_of("Enhancer")
    (True, 'enhancer')
    """
    plain = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
    if plain in _TRUTH:
        return _TRUTH[plain]
    try:
        number = float(plain_number(plain))
    except ValueError:
        return plain
    return number if math.isfinite(number) else plain


def spelled_differently(labels: Sequence[str]) -> list[list[str]]:
    """Return the groups of labels that say the same.

    >>> spelled_differently(["0", "1", "1.0", "yes", "Yes"])
    [['1', '1.0'], ['yes', 'Yes']]
    """
    groups: dict[float | str, list[str]] = {}
    for label in labels:
        groups.setdefault(value_of(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def are_measured(labels: Sequence[str]) -> bool:
    """Return whether all labels are numbers, and one at least no whole number: measured values, most likely."""
    values = [value_of(label) for label in labels]
    return all(isinstance(value, float) for value in values) and any(
        isinstance(value, float) and value != int(value) for value in values
    )


def are_lists(labels: Sequence[str]) -> bool:
    """Return whether all labels are whole numbers or lists of them (`[]`: an empty one), and at least one is a list.

    >>> are_lists(["0", "0;2", "[1, 2]"]), are_lists(["0", "10"]), are_lists(["donor", "a;b"])
    (True, False, False)
    """
    return all(_LIST.fullmatch(label) for label in labels) and not all(map(str.isalnum, labels))


def listed(labels: Sequence[str], most: int = 6) -> str:
    """Return labels for a message, no more than fit a line.

    >>> listed([str(number) for number in range(60)])
    '0, 1, 2, 3, 4, 5, … (60 labels)'
    """
    shown = ", ".join(label if len(label) <= 30 else f"{label[:30]}…" for label in labels[:most])
    return shown if len(labels) <= most else f"{shown}, … ({len(labels):,} labels)"
