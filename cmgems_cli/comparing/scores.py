"""Sole reader and writer of `scores.csv`: one measured value per row, long form (docs/artifacts.md).

Values are kept in their natural unit: MCC in [-1, 1], accuracy and macro-F1 in [0, 1]. `in_print` and `as_printed`
convert them to the scale of `METRICS`, which is the paper's.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

from cmgems_cli.errors import InputError
from cmgems_cli.metrics import METRICS, metric_of
from cmgems_cli.row_writer import RowWriter
from cmgems_cli.safe_text import from_spreadsheet_cell
from cmgems_cli.structured_text import plain_number

# The baseline that `evaluate` shows with every model (`bench.kmer_linear`).
KMER_LINEAR = "kmer-linear"

# The table of a scores artifact.
SCORES = "scores.csv"

# The required columns; the others may be missing from other people's files.
NEEDED_COLUMNS = ("bench", "task", "metric", "value", "model")

# Suffix of the names under which other tables hold a metric times 100. Tables 2 and 6 of the paper hold mcc_x100.
TIMES_100 = "_x100"

# Scores are rounded to this before they are printed or compared, so that 0.6103 × 100 is 61.03 and equal
# differences are ties: far below what any test set resolves, far above the noise of float64.
NOISE_DECIMALS = 9


@dataclass(frozen=True)
class Score:
    """One measured value.

    Attributes
    ----------
    bench : str
        Name of the benchmark.
    task : str
        For example tf/0 or prom-core.
    species : str
        Species or other group of the task; empty without one.
    shots : int or None
        Training rows per class; None: all rows.
    seed : int or None
        None: not the value of a single run, as in published tables.
    metric : str
        A name of `METRICS`; other names are kept unchanged and never compared.
    value : float
        In the natural unit of the metric. Finite.
    n_train, n_test : int or None
        Sequences trained and tested on.
    model : str
        Name of the model.
    note : str
        Remarks on the value, for example that a single class was predicted.
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


def natural(metric: str, value: float) -> tuple[str, float]:
    """Return the name and value of a metric in its natural unit.

    >>> natural("mcc_x100", 50.0), natural("accuracy", 0.64)
    (('mcc', 0.5), ('accuracy', 0.64))
    """
    name = metric.removesuffix(TIMES_100)
    return (name, value / 100) if name != metric and name in METRICS else (metric, value)


def in_print(value: float, metric: str) -> float:
    """Return `value` on the printed scale of `metric`, free of float noise.

    >>> in_print(0.6103, "mcc"), in_print(0.64, "accuracy")
    (61.03, 0.64)
    """
    return round(value * metric_of(metric).scale, NOISE_DECIMALS)


def as_printed(value: float, metric: str) -> str:
    """Format a natural value as the paper's tables do, halves rounded up (67.205 is printed 67.21).

    >>> as_printed(0.67205, "mcc"), as_printed(0.6395, "accuracy")
    ('67.21', '0.640')
    """
    return rounded(in_print(value, metric), metric_of(metric).decimals)


def rounded(value: float, decimals: int) -> str:
    """Format `value` with halves rounded away from zero, after dropping float noise.

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
        If a value is not finite or outside the range of its metric, or a row is repeated: `read_scores` would
        refuse the file.
    """
    rows = sorted(scores, key=_order)
    seen: set[tuple[str, ...]] = set()
    for score in rows:
        complaint = _complaint(score.metric, score.value)
        if complaint:
            raise ValueError(f"{_name(score)}: {complaint}")
        if _key(score) in seen:
            raise ValueError(f"{_name(score)} is repeated")
        seen.add(_key(score))
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = RowWriter(stream)
        writer.row(COLUMNS)
        writer.rows([getattr(score, column) for column in COLUMNS] for score in rows)


def read_scores(path: Path) -> list[Score]:
    """Read a table of scores: of `write_scores`, or any other with the required columns.

    Parameters
    ----------
    path : Path
        CSV in UTF-8, with or without byte order mark, comma-separated, with a header. The columns
        `NEEDED_COLUMNS` are required; further columns of `COLUMNS` are read, any others ignored.
        A metric named mcc_x100 (accuracy_x100, f1_x100) is divided by 100.

    Returns
    -------
    list of Score
        In file order, at least one.

    Raises
    ------
    InputError
        Naming the line: unreadable file, missing columns, a row that is too short or too long, an empty
        name, text that is not a number, NaN or a number out of range, a repeated row; or no rows at all.
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
                        " correct the line (quote cells that contain commas)"
                    )
                yield (
                    reader.line_num,
                    {
                        name: from_spreadsheet_cell(cell.strip())
                        for name, cell in zip(header, row, strict=True)
                    },
                )
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
        value = float(plain_number(text))
    except ValueError:
        raise InputError(f"{where} ({row}): {text!r} is not a number; needed the value of {metric}") from None
    metric, value = natural(metric, value)
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
    """Return what is wrong with a value in its natural unit; empty if nothing is."""
    if not math.isfinite(value):
        return f"{metric} is {value}; needed a finite number: leave the row out or run it again"
    known = metric_of(metric)
    if not known.lowest <= value <= known.highest:
        return (
            f"{metric} is {value:g}; needed {known.lowest:g} to {known.highest:g}: values times 100 are called"
            f" {metric}{TIMES_100}"
        )
    return ""


def _whole(where: str, cells: dict[str, str], name: str) -> int | None:
    text = cells.get(name, "")
    if not text:
        return None
    try:
        number = int(plain_number(text))
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
    rank = list(METRICS).index(score.metric) if score.metric in METRICS else len(METRICS)
    return (score.model, score.bench, score.task, shots, seed, rank, score.metric)


def _name(score: Score) -> str:
    shots = "" if score.shots is None else f" {score.shots} shots"
    seed = "" if score.seed is None else f" seed {score.seed}"
    return f"{score.model} {score.bench} {score.task}{shots}{seed} {score.metric}"
