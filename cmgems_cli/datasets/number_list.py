"""Lists of whole numbers as options and files write them."""

from __future__ import annotations

from cmgems_cli.errors import UsageError

# A seed has 63 bits.
_DIGITS = 19
# ours: far more runs than anyone waits for.
_MOST = 100_000


def parse_numbers(parameter: str, text: str, *, least: int) -> list[int]:
    """Return the whole numbers of a list such as `42,50-52`, each once, in its order.

    Raises
    ------
    UsageError

    Examples
    --------
    >>> parse_numbers("seeds", "42,50-52", least=0)
    [42, 50, 51, 52]
    """
    numbers: dict[int, None] = {}
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        ends = [first, last] if dash else [first]
        known = all(end.isdecimal() and len(end) <= _DIGITS for end in ends)
        if not known or int(ends[-1]) < int(first) or int(first) < least:
            raise UsageError(
                f"`{parameter}` {text!r}: needed whole numbers from {least}, such as 42,43 or 42-51"
            )
        if int(ends[-1]) - int(first) >= _MOST:
            raise UsageError(f"`{parameter}` {text!r}: needed at most {_MOST:,} numbers")
        numbers |= dict.fromkeys(range(int(first), int(ends[-1]) + 1))
    return list(numbers)
