"""The only reader of JSON, TOML and numbers: any text gives a value of bounded size and depth, or a ValueError."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

# ours: far above any file of this package; a parsed value takes up to 20 times the memory of its text.
JSON_BYTES = 1 << 25
TOML_BYTES = 1 << 20

# ours: the deepest file of this package has six levels. Deeper ones can overflow the stack of whatever handles them.
_DEEPEST = 100

# ours: tomllib needs time in proportion to the square of the number of parts of a key.
_DOTS_PER_LINE = 1000


def plain_number(text: str) -> str:
    """Return the text of a number in a cell.

    Raises
    ------
    ValueError
        If it is a number to Python alone.

    Examples
    --------
    >>> float(plain_number("-1.5e3"))
    -1500.0
    >>> plain_number("0.0_9")
    Traceback (most recent call last):
    ValueError: '0.0_9' is not a number
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"{text!r} is not a number")
    return text


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises
    ------
    ValueError
        As `parse_json`, or if the file is too large.
    OSError
        If it cannot be read.
    """
    return parse_json(_content(path, JSON_BYTES))


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text.

    Raises
    ------
    ValueError
        If it is not UTF-8 or not JSON, holds a number that is not finite, or is nested too deeply.
    """
    try:
        value = json.loads(_text(content), parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise _too_deep() from None
    _check(value)
    return value


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises
    ------
    ValueError
        If it is too large, is not UTF-8 or not TOML, holds a number that is not finite or needs more than
        64 bits, or is nested too deeply.
    OSError
        If it cannot be read.
    """
    import tomllib

    text = _text(_content(path, TOML_BYTES))
    if any(line.count(".") > _DOTS_PER_LINE for line in text.splitlines()):
        raise ValueError(f"a line has more than {_DOTS_PER_LINE:,} dots")
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise _too_deep() from None
    _check(tables, largest=2**63 - 1)
    return tables


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:  # whose own message has two lines since Python 3.13
        raise ValueError(f"it is not UTF-8: {error.reason} at byte {error.start:,}") from None


def _content(path: Path, limit: int) -> bytes:
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit >> 20} MiB")
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _check(value: Any, largest: int | None = None) -> None:
    """Check the depth of a value and the numbers in it, level by level: without recursion."""
    level = [value]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, float) and not math.isfinite(one):
                raise ValueError(f"{one} is not a finite number")
            elif largest and isinstance(one, int) and not -largest <= one <= largest:
                raise ValueError("a whole number needs more than 64 bits")
        level = inner
        if not level:
            return
    raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {_DEEPEST} levels deep")
