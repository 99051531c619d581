"""How tests run `cmgems`: within this process or as a process of its own, with one shape of result."""

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
FASTA = REPOSITORY / "cmgems_cli" / "data" / "hg38_chr16_186964_397118.fa.gz"


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code and what it wrote to each stream."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The value on stdout, which holds nothing else."""
        return json.loads(self.stdout)

    @property
    def error(self) -> str:
        """The one line that an error is, on stderr and alone there."""
        assert self.stderr.startswith("error: ") and self.stderr.count("\n") == 1, self.stderr  # noqa: PT018
        assert self.stdout == ""
        return self.stderr.rstrip("\n")


def torchrun(processes: int) -> list[str]:
    """The launcher of that many processes on this machine, to be given to `CommandLine.process`."""
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


@dataclass(frozen=True)
class CommandLine:
    """Runs `cmgems` with arguments of any type that `str` turns into words.

    Every call names the exit code it needs, 0 unless told: another one fails the test with what the command said.
    """

    first: Sequence[object] = field(default=())
    # Another Typer application than that of `cmgems`.
    app: Any = None

    def of(self, *arguments: object) -> "CommandLine":
        """The same with these arguments before those of each call."""
        return CommandLine((*self.first, *arguments), self.app)

    def __call__(
        self, *arguments: object, code: int | None = 0, env: Mapping[str, str] | None = None
    ) -> Result:
        """Run within this process: fast, and what a test replaced is replaced for the command too."""
        from typer.testing import CliRunner

        from cmgems_cli.cli import app

        words = self._words(arguments)
        ran = CliRunner().invoke(self.app or app, words, env=env)
        result = Result(ran.exit_code, ran.stdout, ran.stderr)
        raised = ran.exc_info if ran.exception and not isinstance(ran.exception, SystemExit) else None
        return _checked(result, code, words, "".join(traceback.format_exception(*raised)) if raised else "")

    def process(
        self,
        *arguments: object,
        code: int | None = 0,
        launcher: Sequence[str] = (),
        timeout: float = 300,
        **options: Any,
    ) -> Result:
        """Run as a process of its own, to its end; `launcher` and `options` as `start` takes them."""
        running = self.start(*arguments, launcher=launcher, **options)
        return self.finish(running, code=code, timeout=timeout)

    def start(
        self,
        *arguments: object,
        launcher: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> "subprocess.Popen[str]":
        """Start a process of its own; `launcher` comes before `-m cmgems_cli`, `options` go to `Popen`."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [sys.executable, *launcher, "-m", "cmgems_cli", *self._words(arguments)],
            env={**environment(), **(env or {})},
            **(pipes | options),
        )

    def finish(
        self, process: "subprocess.Popen[str]", *, code: int | None = 0, timeout: float = 300
    ) -> Result:
        """Wait for a started process."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"no end within {timeout} s: {process.args}\n{err}") from None
        return _checked(Result(process.returncode, out or "", err or ""), code, process.args, "")

    def _words(self, arguments: Sequence[object]) -> list[str]:
        return [str(argument) for argument in (*self.first, *arguments)]


def run_python(code: str, *arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run `code` in a fresh interpreter that imports this checkout, to success."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        **({"capture_output": True, "text": True, "check": False, "env": environment()} | options),
    )
    assert done.returncode == 0, done.stderr
    return done


def wait_until(
    condition: Callable[[], object], process: "subprocess.Popen[str]", seconds: float = 120
) -> None:
    """Return once `condition` holds; fail where the process ends before, or the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None and not condition():
            raise AssertionError(f"ended before, with {process.returncode}: {process.communicate()}")
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.005)


def environment() -> dict[str, str]:
    """This process's environment, in which other interpreters too import this checkout from any folder."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _checked(result: Result, code: int | None, words: Any, trace: str) -> Result:
    if code is not None and result.code != code:
        raise AssertionError(
            f"exit code {result.code}, needed {code}: {words}\n{result.stdout}\n{result.stderr}\n{trace}"
        )
    return result
