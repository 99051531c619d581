"""What people see: results to stdout, words and progress to stderr; plain lines off a terminal."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from cmgems_cli.readable import duration, progress
from cmgems_cli.safe_text import printable, printable_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from cmgems_cli.artifacts import Manifest

# Off a terminal: a line at every tenth of the work, or after this long without one.
SECONDS_BETWEEN_LINES = 30.0

# ours: characters that a column of text keeps on a narrow terminal.
LEAST_WIDTH = 16
UNLIMITED = 1 << 20


class Bar:
    """Progress of one piece of work. `advance` may be called from any thread, as often as wanted.

    `total` 0: unknown; only the amount done is shown.
    """

    def __init__(self, title: str, total: float, unit: str) -> None:
        self.title = title
        self.total = total
        self.unit = unit
        self.done = self.skipped = 0.0
        self.note = ""
        self.started = time.perf_counter()

    def advance(self, amount: float, note: str = "") -> None:
        """Add `amount` units of work done; `note` replaces the words at the end of the line."""
        self.done += amount
        self.note = note or self.note
        self.show()

    def start_at(self, done: float) -> None:
        """Begin with `done` units finished by an earlier run: they count, but not towards the speed."""
        self.done = self.skipped = done
        self.started = time.perf_counter()

    def rate(self, amount: float = 0.0) -> float:
        """Return the units done per second, `amount` more included; those of an earlier run do not count."""
        return (self.done - self.skipped + amount) / max(1e-6, time.perf_counter() - self.started)

    def show(self) -> None:
        """Draw nothing: the quiet bar."""


class _RichBar(Bar):
    def __init__(self, progress: Progress, task: TaskID, title: str, total: float, unit: str) -> None:
        super().__init__(title, total, unit)
        self._progress, self._task = progress, task

    def show(self) -> None:
        self._progress.update(self._task, completed=self.done, note=printable(self.note))


class _LineBar(Bar):
    def __init__(self, title: str, total: float, unit: str) -> None:
        super().__init__(title, total, unit)
        self._last_tenth, self._last_time = 0, self.started

    def show(self) -> None:
        tenth = int(10 * self.done / self.total) if self.total else 0
        now = time.perf_counter()
        if tenth <= self._last_tenth and now - self._last_time < SECONDS_BETWEEN_LINES:
            return
        self._last_tenth, self._last_time = tenth, now
        elapsed = now - self.started
        fresh = self.done - self.skipped
        left = elapsed * (self.total - self.done) / fresh if fresh else 0.0
        done = progress(self.done, self.total, self.unit)
        words = [f"{100 * self.done / self.total:.0f} %", done] if self.total else [done]
        words.append(f"elapsed {duration(elapsed)}")
        if self.total:
            words.append(f"remaining {duration(left)}")
        print_line(f"{self.title}: {', '.join(word for word in (*words, self.note) if word)}")


class _Settings:
    """Of --log-file and --verbose."""

    log: TextIO | None = None
    verbose = False


def prepare(*, log_file: Path | None, verbose: bool) -> None:
    """Set for the command that begins where what goes to stderr is kept, and whether errors show their place."""
    if _Settings.log is not None:
        _Settings.log.close()
    _Settings.log, _Settings.verbose = None, verbose
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        _Settings.log = log_file.open("a", encoding="utf-8", errors="backslashreplace")


def is_verbose() -> bool:
    """Return whether the command shows where errors come from."""
    return _Settings.verbose


def print_line(text: str, *, stream: TextIO | None = None) -> None:
    """Print a line to stderr, or another stream, at once, without characters that a terminal obeys."""
    line = printable(text)
    # Words that cannot be shown change nothing of what the command does, nor its exit code.
    with suppress(OSError) if stream is None else nullcontext():
        print(_wrapped(line, stream or sys.stderr), file=stream or sys.stderr, flush=True)
    if _Settings.log is not None and stream is None:
        try:
            print(time.strftime("%Y-%m-%d %H:%M:%S"), line, file=_Settings.log, flush=True)
        except OSError as error:
            name, _Settings.log = _Settings.log.name, None
            print_line(f"warning: cannot write to {name} ({error.strerror}); it ends here")


def _wrapped(line: str, stream: TextIO) -> str:
    """Break a line for a terminal between words: the terminal itself would break within numbers."""
    if not stream.isatty():
        return line
    width = shutil.get_terminal_size().columns
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


class _Terminal:
    def write(self, content: bytes) -> int:
        return sys.stdout.write(printable(content.decode()))


class Console:
    """The only writer to the terminal.

    Parameters
    ----------
    quiet : bool, default False
        Show warnings and errors only; results still go to stdout.
    json : bool, default False
        stdout gets exactly one JSON object and no tables.
    """

    def __init__(self, *, quiet: bool = False, json: bool = False) -> None:
        self.quiet = quiet
        self.json = json

    def say(self, message: str) -> None:
        """Tell what is being done (stderr; not with --quiet)."""
        if not self.quiet:
            print_line(message)

    def warn(self, message: str) -> None:
        """Tell what may be wrong (stderr, always)."""
        print_line(f"warning: {message}")

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a result table to stdout; numbers are right-aligned. Nothing with --json."""
        if self.json:
            return
        from rich import box
        from rich.console import Console as RichConsole
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        cells = [[printable(cell(value)) for value in row] for row in rows]
        for index, name in enumerate(columns):
            numeric = all(looks_numeric(row[index]) for row in rows)
            longest = max((len(row[index]) for row in cells), default=0)
            # Numbers stay whole: if a terminal is too narrow, texts are folded, down to a width that holds most words.
            table.add_column(
                printable(name),
                justify="right" if numeric else "left",
                overflow="fold",
                no_wrap=numeric,
                min_width=longest if numeric else min(longest, LEAST_WIDTH),
            )
        for row in cells:
            table.add_row(*row)
        # Off a terminal no window limits the width: never fold what a program or a file will hold.
        width = None if sys.stdout.isatty() else 200
        console = RichConsole(file=sys.stdout, width=width, highlight=False, markup=False)
        anywhere = console.options.update(max_width=UNLIMITED)
        console.width = max(console.width, console.measure(table, options=anywhere).minimum)
        # Through a capture: rich itself would end the process when the reader of a pipe leaves.
        with console.capture() as capture:
            console.print(printable(title), style="bold", soft_wrap=True)
            console.print(table)
        sys.stdout.write(capture.get())

    def lines(self, lines: Sequence[Sequence[tuple[str, str]]]) -> None:
        """Print lines of (text, rich style) pieces to stdout, styled on a terminal. Nothing with --json."""
        if self.json:
            return
        from rich.console import Console as RichConsole
        from rich.text import Text

        console = RichConsole(file=sys.stdout, highlight=False, markup=False)
        with console.capture() as capture:
            for line in lines:
                pieces = [(printable(text), style) for text, style in line]
                console.print(Text.assemble(*pieces), soft_wrap=True)
        sys.stdout.write(capture.get())

    def result(self, value: dict[str, Any]) -> None:
        """Print the one JSON object of --json; nothing without it."""
        if self.json:
            print(printable_json(json.dumps(value, ensure_ascii=False)), flush=True)

    def stdout(self) -> IO[bytes]:
        """Return standard output for rows of a file: as they are, but without control characters on a terminal."""
        return cast("IO[bytes]", _Terminal()) if sys.stdout.isatty() else sys.stdout.buffer

    def finished(self, manifest: Manifest, out: Path, started: float, **more: Any) -> None:
        """Close a stage: print the JSON object of its artifact, `more` included, and say where it is."""
        elapsed_s = round(time.perf_counter() - started, 3)
        self.result(
            {
                "kind": manifest.kind,
                "digest": manifest.digest,
                "stats": manifest.stats,
                "out": str(out),
                **more,
                "elapsed_s": elapsed_s,
            }
        )
        if not manifest.fresh:
            self.say(
                f"{out} is already the finished {manifest.kind} of these parameters and inputs: nothing to do"
                f" (digest {manifest.digest[:12]})"
            )
            return
        self.say(f"{manifest.kind} written to {out} in {duration(elapsed_s)} (digest {manifest.digest[:12]})")

    @contextmanager
    def progress(self, title: str, total: float, unit: str) -> Iterator[Bar]:
        """Show progress on stderr: a bar on a terminal, a line now and then elsewhere, nothing with --quiet."""
        title = printable(title)
        if self.quiet:
            yield Bar(title, total, unit)
            return
        if not sys.stderr.isatty():
            yield _LineBar(title, total, unit)
            return
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=RichConsole(stderr=True), transient=True) as progress:
            task = progress.add_task(title, total=total or None, note="")
            yield _RichBar(progress, task, title, total, unit)


def looks_numeric(value: Any) -> bool:
    """Return whether a cell belongs in a right-aligned column: a number, a formatted one, or nothing."""
    if isinstance(value, str):
        return re.fullmatch(r"…?|[-−+]?[\d,]+(\.\d+)?( ± [\d.,]+)?( ?%)?", value) is not None
    return value is None or isinstance(value, int | float)


def cell(value: Any) -> str:
    """Format one table cell: thousands separated, floats as given by their caller, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return str(value)
