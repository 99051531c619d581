"""Sole reader and writer of `scores.csv`: one measured value a row, long form (docs/artifacts.md).

Values are kept in their natural unit: MCC in [-1, 1], accuracy and macro-F1 in [0, 1]. The paper prints MCC
× 100 (Tables 2, 3 and 6) and accuracy as a fraction (Table 4); `in_print` and `as_printed` do the same.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from cmgems_cli.errors import InputError

# The columns a table of scores cannot do without; the others may be missing from other people's files.
NEEDED_COLUMNS = ("bench", "task", "metric", "value", "model")

# In the order in which they are written and offered.
METRICS = ("mcc", "accuracy", "f1")

# What a value may be: everything outside is a percentage, a loss or a slip.
VALUE_RANGE = {"mcc": (-1.0, 1.0), "accuracy": (0.0, 1.0), "f1": (0.0, 1.0)}

# Names under which other tables hold a metric times 100. Table 2 and 6 of the paper hold mcc_x100.
TIMES_100 = {f"{metric}_x100": metric for metric in METRICS}

# paper, Tables 2 to 4: MCC is printed × 100 with two decimals, accuracy as a fraction with three. F1 is
# not in the paper; it is printed like accuracy.
PRINTED_NAME = {"mcc": "MCC × 100", "accuracy": "accuracy", "f1": "macro-F1"}
PRINTED_SCALE = {"mcc": 100, "accuracy": 1, "f1": 1}
PRINTED_DECIMALS = {"mcc": 2, "accuracy": 3, "f1": 3}

# Scores are rounded here before they are printed or compared, so that 0.6103 × 100 is 61.03 and equal
# differences are ties: far below what any test set resolves, far above the noise of float64.
NOISE_DECIMALS = 9


@dataclass(frozen=True)
class Score:
    """One measured value.

    Attributes
    ----------
    bench : str
        gue or fewshot.
    task : str
        For example tf/0 or prom-core.
    species : str
        human, mouse, yeast, virus, or empty where unknown.
    shots : int or None
        Training examples a class; None where the whole training set was used.
    seed : int or None
        None where the value is not of one seeded run, as in published tables.
    metric : str
        mcc, accuracy or f1; other names are kept as they are and never compared.
    value : float
        In the natural unit of the metric. Finite.
    n_train, n_test : int or None
        Sequences trained and tested on.
    model : str
        Whose value it is.
    note : str
        What a reader of the number must know, for example that one class only was predicted.
    """

    bench: str
    task: str
    species: str
    shots: int | None
    seed: int | None
    metric: str
    value: float
    n_train: int | None
    n_test: int | None
    model: str
    note: str = ""


# The contract's order, which is that of the record.
COLUMNS = tuple(field.name for field in fields(Score))


def in_print(value: float, metric: str) -> float:
    """Return `value` on the scale the paper prints `metric` on, free of float noise.

    >>> in_print(0.6103, "mcc"), in_print(0.64, "accuracy")
    (61.03, 0.64)
    """
    return round(value * PRINTED_SCALE.get(metric, 1), NOISE_DECIMALS)


def as_printed(value: float, metric: str) -> str:
    """Format a natural value as the paper's tables do, halves rounded up (67.205 is printed 67.21).

    >>> as_printed(0.67205, "mcc"), as_printed(0.6395, "accuracy")
    ('67.21', '0.640')
    """
    return rounded(in_print(value, metric), PRINTED_DECIMALS.get(metric, 3))


def rounded(value: float, decimals: int) -> str:
    """Format `value` with halves rounded away from zero, as people do, after dropping float noise.

    >>> rounded(67.205, 2), rounded(-0.0004, 2)
    ('67.21', '0.00')
    """
    step = Decimal(1).scaleb(-decimals)
    number = Decimal(repr(round(value, NOISE_DECIMALS))).quantize(step, ROUND_HALF_UP)
    return f"{number if number else abs(number):f}"


def write_scores(path: Path, scores: Iterable[Score]) -> None:
    """Write `scores.csv`: sorted, floats in full, LF line ends, so that equal scores give equal bytes.

    Parameters
    ----------
    path : Path
        The file; replaced if it exists.
    scores : iterable of Score
        In any order; the file's order is model, bench, task, shots, seed, metric.

    Raises
    ------
    ValueError
        If a value is not finite or outside the range of its metric, or a row stands twice: no reader
        would take the file.
    """
    rows = sorted(scores, key=_order)
    seen: set[tuple[str, ...]] = set()
    for score in rows:
        complaint = _complaint(score.metric, score.value)
        if complaint:
            raise ValueError(f"{_name(score)}: {complaint}")
        if _key(score) in seen:
            raise ValueError(f"{_name(score)} stands twice")
        seen.add(_key(score))
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        for score in rows:
            cells = [getattr(score, column) for column in COLUMNS]
            writer.writerow(["" if cell is None else cell for cell in cells])


def read_scores(path: Path) -> list[Score]:
    """Read a table of scores, ours or anybody's with the needed columns.

    Parameters
    ----------
    path : Path
        CSV in UTF-8, with or without byte order mark, comma-separated, with a header. The columns
        `NEEDED_COLUMNS` must be there; further columns of `COLUMNS` are read, any others ignored.
        A metric named mcc_x100 (accuracy_x100, f1_x100) is divided by 100.

    Returns
    -------
    list of Score
        In file order, at least one.

    Raises
    ------
    InputError
        Naming the line: unreadable file, missing columns, a row that is too short or too long, an empty
        name, a number that is none, NaN or out of range, a row that stands twice; or no rows at all.
    """
    scores: list[Score] = []
    first_line: dict[tuple[str, ...], int] = {}
    for line, cells in _rows(path):
        score = _parsed(f"{path} line {line}", cells)
        earlier = first_line.setdefault(_key(score), line)
        if earlier != line:
            raise InputError(
                f"{path} line {line} repeats line {earlier} ({_name(score)}); keep one of the two"
            )
        scores.append(score)
    if not scores:
        raise InputError(f"{path} has a header but no scores; needed at least one row")
    return scores


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, column -> stripped cell) of each row that is not blank."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark in front of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    raise InputError(
                        f"{path} line {reader.line_num} has {len(row)} fields, the header {len(header)};"
                        " mend the line (quote cells that hold commas)"
                    )
                yield reader.line_num, {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; needed a CSV of scores") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path} is not UTF-8 text; needed a CSV of scores: save it as CSV in UTF-8"
        ) from None
    except csv.Error as error:
        raise InputError(f"{path} is not a readable CSV ({error}); needed a CSV of scores") from None


def _check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise InputError(
            f"{path} is empty; needed a CSV of scores with the columns {','.join(NEEDED_COLUMNS)}"
        )
    missing = [name for name in NEEDED_COLUMNS if name not in header]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)} (it has: {', '.join(header)[:200]});"
            f" needed a comma-separated table with at least {','.join(NEEDED_COLUMNS)}"
        )
    twice = sorted({name for name in header if name in COLUMNS and header.count(name) > 1})
    if twice:
        raise InputError(f"{path} has the column {', '.join(twice)} twice; keep one")


def _parsed(where: str, cells: dict[str, str]) -> Score:
    for name in ("bench", "task", "metric", "model"):
        if not cells[name]:
            raise InputError(f"{where} has no {name}; needed one in every row")
    row = " ".join(cells[name] for name in ("model", "bench", "task", "metric"))
    metric, text = cells["metric"], cells["value"]
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where} ({row}): {text!r} is not a number; needed the value of {metric}") from None
    if metric in TIMES_100:
        metric, value = TIMES_100[metric], value / 100
    complaint = _complaint(metric, value)
    if complaint:
        raise InputError(f"{where} ({row}): {complaint}")
    return Score(
        bench=cells["bench"],
        task=cells["task"],
        species=cells.get("species", ""),
        shots=_whole(where, cells, "shots"),
        seed=_whole(where, cells, "seed"),
        metric=metric,
        value=value,
        n_train=_whole(where, cells, "n_train"),
        n_test=_whole(where, cells, "n_test"),
        model=cells["model"],
        note=cells.get("note", ""),
    )


def _complaint(metric: str, value: float) -> str:
    """Say what is wrong with a value in its natural unit, or nothing."""
    if not math.isfinite(value):
        return f"{metric} is {value}; needed a finite number: leave the row out or run it again"
    low, high = VALUE_RANGE.get(metric, (-math.inf, math.inf))
    if not low <= value <= high:
        return f"{metric} is {value:g}; needed {low:g} to {high:g}: values times 100 are called {metric}_x100"
    return ""


def _whole(where: str, cells: dict[str, str], name: str) -> int | None:
    text = cells.get(name, "")
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        raise InputError(f"{where}: {name} is {text!r}; needed a whole number or nothing") from None
    if number < 0:
        raise InputError(f"{where}: {name} is {number}; needed a whole number from 0, or nothing")
    return number


def _key(score: Score) -> tuple[str, ...]:
    return (score.model, score.bench, score.task, str(score.shots), str(score.seed), score.metric)


def _order(score: Score) -> tuple[str, str, str, int, int, int, str]:
    shots = -1 if score.shots is None else score.shots
    seed = -1 if score.seed is None else score.seed
    rank = METRICS.index(score.metric) if score.metric in METRICS else len(METRICS)
    return (score.model, score.bench, score.task, shots, seed, rank, score.metric)


def _name(score: Score) -> str:
    shots = "" if score.shots is None else f" {score.shots} shots"
    seed = "" if score.seed is None else f" seed {score.seed}"
    return f"{score.model} {score.bench} {score.task}{shots}{seed} {score.metric}"
