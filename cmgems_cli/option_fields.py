"""Options as fields of dataclasses: one declaration gives the option, its config key, its documentation and the recipe.

    @dataclass(frozen=True)
    class Options:
        steps: int = option(10_000, "--steps", "Optimizer steps.", min=1)
        precision: Precision = option("auto", "--precision", "bf16 or fp32.", machine=True)

The command line gives such fields to Typer (`options.takes`); `recipe_fields` are what a manifest records. This
module imports nothing heavy and no Typer, so that every layer may declare options.

Errors of library functions name a parameter in backticks, `steps` or `steps=5`; the command line shows it as the
option that sets it, --steps or --steps 5 (`cli`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import cache
from sys import float_info, maxsize
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

_KEY = "option"

# Heading in --help of the options that describe the machine.
MACHINE = "Machine"

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class Option:
    """What the command line needs to know of a field.

    Attributes
    ----------
    flag : str
        `--lr`, or `--resume/--no-resume`.
    help : str
    panel : str or None
        Heading in --help; None: the general one.
    min, max : float or None
        The range of a number, both included.
    choices : sequence of str
        The values of a text whose type does not name them.
    shown : str or None
        Description of a default that depends on something else.
    metavar : str or None
        Placeholder of the value in --help.
    short : str or None
        One letter: `-o`.
    machine : bool
        Describes the machine rather than the recipe: it may differ between runs of the same result.
    alias : str or None
        Another flag for it, as another command calls it: `--pool`.
    several : bool
        Takes several values too, a tuple in the field: separated by commas, in files a list.
    """

    flag: str
    help: str
    panel: str | None = None
    min: float | None = None
    max: float | None = None
    choices: Sequence[str] = ()
    shown: str | None = None
    metavar: str | None = None
    machine: bool = False
    short: str | None = None
    alias: str | None = None
    several: bool = False

    @property
    def spelling(self) -> str:
        """The flag that sets the option: `--resume` of `--resume/--no-resume`."""
        return self.flag.split("/")[0]

    @property
    def key(self) -> str:
        """The name in config files, environment variables and recipes: `max_tokens` for --max-tokens."""
        return self.spelling.removeprefix("--").replace("-", "_")


def option(default: Any, flag: str, help: str, **more: Any) -> Any:
    """Return a dataclass field with an option; parameters as `Option`.

    A default of None means that the program chooses: the option may be left out whatever the field's type.
    """
    return field(default=default, metadata={_KEY: Option(flag, help, **more)})


def same_option(cls: type, name: str, *, default: Any = MISSING, **changed: Any) -> Any:
    """Return the option of another class's field; its default and attributes of `Option` may be changed."""
    (declared,) = (one for one in fields(cls) if one.name == name)
    default = declared.default if default is MISSING else default
    return field(default=default, metadata={_KEY: replace(options_of(cls)[name], **changed)})


def option_of(declared: Field[Any]) -> Option | None:
    """Return the option of a field, None if it has none."""
    found: Option | None = declared.metadata.get(_KEY)
    return found


@cache
def options_of(cls: type) -> dict[str, Option]:
    """Return the options of a dataclass by field name, in their order."""
    declared = {one.name: option_of(one) for one in fields(cls)}
    return {name: found for name, found in declared.items() if found is not None}


def machine_fields(cls: type) -> frozenset[str]:
    """Return the names of the fields that describe the machine rather than the recipe."""
    return frozenset(name for name, found in options_of(cls).items() if found.machine)


def recipe_fields(options: Any) -> dict[str, Any]:
    """Return the values of all fields that do not describe the machine, by field name: what a manifest records."""
    left_out = machine_fields(type(options))
    return {one.name: getattr(options, one.name) for one in fields(options) if one.name not in left_out}


def choices_of(cls: type, name: str) -> tuple[Any, ...]:
    """Return the values that a field may have, empty if they are not listed."""
    kind = _type_of(cls, name)
    return get_args(kind) if get_origin(kind) is Literal else tuple(options_of(cls)[name].choices)


def _type_of(cls: type, name: str) -> Any:
    """Return the type of a field's value, without None."""
    kind = get_type_hints(cls)[name]
    return next(one for one in get_args(kind) if one is not NoneType) if NoneType in get_args(kind) else kind


def value_check(cls: type, name: str) -> tuple[str, Callable[[Any], bool]]:
    """Return what a value in a file must be, in words and as a check: the option's own type, range and choices.

    >>> @dataclass(frozen=True)
    ... class Options:
    ...     steps: int = option(5, "--steps", "Optimizer steps.", min=1)
    >>> needed, fits = value_check(Options, "steps")
    >>> needed, fits(3), fits(0), fits("3")
    ('a whole number from 1', True, False, False)
    """
    declared, kind = options_of(cls)[name], _type_of(cls, name)
    words, fits = _check_of_one(declared, kind)
    if not declared.several:
        return words, fits
    return (
        f"{words}, or a list of these",
        lambda value: all(map(fits, value)) and bool(value) if isinstance(value, list) else fits(value),
    )


def _check_of_one(declared: Option, kind: Any) -> tuple[str, Callable[[Any], bool]]:
    choices = get_args(kind) if get_origin(kind) is Literal else tuple(declared.choices)
    if choices:
        return f"one of {', '.join(map(str, choices))}", lambda value: value in choices
    if kind is bool:
        return "true or false", lambda value: isinstance(value, bool)
    if kind not in (int, float):
        return "a text", lambda value: isinstance(value, str)
    low, high = declared.min, declared.max
    words = "a whole number" if kind is int else "a number"
    words += "" if low is None else f" from {low:g}" if high is None else f" from {low:g} to {high:g}"
    largest = maxsize if kind is int else float_info.max
    least, most = -largest if low is None else low, largest if high is None else high
    # `type`: true is not a number here.
    return words, lambda value: type(value) in {int, kind} and least <= value <= most


def one_or_several(values: Sequence[Any]) -> Any:
    """Return the different values as a field holds them: one alone, or a tuple."""
    different = tuple(dict.fromkeys(values))
    return different if len(different) > 1 else different[0]


def read_several(declared: Option, kind: Any, text: str) -> Any:
    """Return the value, or the tuple of values, in a text of numbers or choices separated by commas.

    Parameters
    ----------
    declared : Option
        Takes several.
    kind : type
        Of the field.
    text : str

    Raises
    ------
    ValueError
        If a part is not such a value; the message says what is needed.
    """
    one = next(part for part in get_args(kind) if part is not NoneType)
    needed, fits = _check_of_one(declared, one)
    values: list[Any] = []
    for part in map(str.strip, text.split(",")):
        try:
            # Choices in either case of letters.
            value = float(part) if one is float else part.casefold()
        except ValueError:
            value = None
        if value is None or not fits(value):
            raise ValueError(f"{part!r} is not {needed}")
        values.append(value)
    return one_or_several(values)


@dataclass(frozen=True)
class MachineOptions:
    """The machine options of all commands that use a model; their classes take them by `same_option`."""

    max_batch_tokens: int | None = option(
        None,
        "--max-batch-tokens",
        "Maximum padded tokens per micro-batch; lower it if you run out of memory.",
        panel=MACHINE,
        min=8,
        # Of training: `micro_batch.batch_tokens`.
        shown="2048 on CPU, 32768 on CUDA; models up to 256 wide 8192, 131072",
        machine=True,
    )
    precision: Precision = option(
        "auto", "--precision", "auto: bf16 if the hardware has it.", panel=MACHINE, machine=True
    )
