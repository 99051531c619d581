"""Signals from the first instant of a command to its last: one line, exit code 130 or 143, and nothing left behind."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from cmgems_cli import cli, signals
from cmgems_cli.artifacts import read_manifest
from cmgems_cli.staging import is_hidden_work, stagings
from tests.command_line import FASTA, CommandLine, Result, environment, wait_until

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc"),
]

# As the console script starts it, and as torchrun does.
SCRIPT = ["-c", "from cmgems_cli.__main__ import main; main()"]
MODULE = ["-m", "cmgems_cli"]

SEED = 20241
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def handles_signals(process: "subprocess.Popen[str]") -> bool:
    """Tell whether the process has a handler of SIGTERM, which Python itself installs none of."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def signalled(
    cmgems: CommandLine,
    arguments: Sequence[object],
    moments: Sequence[float],
    number: signal.Signals,
    program: Sequence[str] = MODULE,
) -> Result:
    """Send a signal at moments counted in seconds from the first lines of cmgems."""
    process = subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        # A shell starts what it puts in the background deaf to SIGINT; these tests may run there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    wait_until(lambda: handles_signals(process), process)
    begun = time.monotonic()
    for moment in moments:
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        process.send_signal(number)
    return cmgems.finish(process, code=None)


def stopped_by(number: signal.Signals) -> Result:
    by = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    return Result(128 + number, "", f"stopped by {by}; nothing half-written was kept\n")


@BOTH
@pytest.mark.parametrize("program", [SCRIPT, MODULE], ids=["script", "module"])
def test_c4_a_signal_in_the_first_second_is_one_line(
    cmgems: CommandLine, number: signal.Signals, program: list[str]
) -> None:
    draw = random.Random(f"{SEED} {number} {program}")
    for moment in (0.0, *(draw.uniform(0, 1.5) for _ in range(3))):
        done = signalled(cmgems, ["doctor"], [moment], number, program)
        assert done == stopped_by(number), moment


@pytest.mark.soak
@BOTH
def test_c4_a_signal_at_any_moment_of_a_short_command(
    cmgems: CommandLine, number: signal.Signals, tmp_path: Path
) -> None:
    draw = random.Random(f"{SEED} {number}")
    whole = tmp_path / "whole"
    arguments = ["prepare-genome", FASTA, "--contigs", "all", "--quiet", "--out"]
    cmgems.process(*arguments, whole)
    for _ in range(12):
        out, moment = tmp_path / "out", draw.uniform(0, 2.5)
        done = signalled(cmgems, [*arguments, out], [moment], number)
        # Its table may be printed by then.
        assert done.code == 0 or (done.code, done.stderr) == (128 + number, stopped_by(number).stderr), moment
        assert "Traceback" not in done.stderr
        if done.code:
            # Nothing, or a whole artifact: published, or complete beside its place, which the command then takes up.
            assert not out.exists() or read_manifest(out, "corpus", verify=True), moment
            for staging in stagings(out):
                assert read_manifest(staging.folder, "corpus", verify=True), moment
            others = {entry.name for entry in tmp_path.iterdir() if not is_hidden_work(entry, out)}
            assert others <= {"whole", "out"}, moment
            cmgems.process(*arguments, out)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out", "whole"], moment
        assert (out / "bases.npy").read_bytes() == (whole / "bases.npy").read_bytes()
        for entry in out.iterdir():
            entry.unlink()
        out.rmdir()


@BOTH
@pytest.mark.parametrize("late", [False, True], ids=["during", "after"])
def test_c1_a_signal_while_llvm_makes_a_kernel_waits_for_it(
    cmgems: CommandLine, number: signal.Signals, late: bool, tmp_path: Path
) -> None:
    """Stopped between a module's making and its registration, llvmlite frees it twice.

    On a busy machine the command may be over when the signal comes again.
    """
    program = (
        "import signal\n"
        "from cmgems_cli import __main__, signals\n"
        f"signals.SECONDS_BETWEEN_SIGNALS = {60 if late else signals.SECONDS_BETWEEN_SIGNALS}\n"
        "from numba.core import codegen\n"
        "made = codegen.JITCodeLibrary._finalize_specific\n"
        "def interrupted(self):\n"
        f"    exec('signal.raise_signal({int(number)})', {{**vars(codegen), 'signal': signal}})\n"
        "    print('registered', flush=True)\n"
        "    return made(self)\n"
        "codegen.JITCodeLibrary._finalize_specific = interrupted\n"
        "__main__.main()\n"
    )
    arguments = ["prepare-genome", FASTA, "--contigs", "all", "--quiet", "--out", tmp_path / "out"]
    done = signalled(cmgems, arguments, [], number, ["-c", program])
    assert (done.code, done.stderr) == (128 + number, stopped_by(number).stderr)
    assert "registered" in done.stdout
    if late or list(tmp_path.iterdir()):
        assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
        assert read_manifest(tmp_path / "out", "corpus", verify=True)


@BOTH
def test_a_signal_after_the_artifact_is_published_leaves_it_whole(
    cmgems: CommandLine, number: signal.Signals, tmp_path: Path
) -> None:
    program = (
        "import signal\n"
        "from cmgems_cli import __main__, console\n"
        f"console.Console.finished = lambda *_, **__: signal.raise_signal({int(number)})\n"
        "__main__.main()\n"
    )
    arguments = ["prepare-genome", FASTA, "--contigs", "all", "--quiet", "--out", tmp_path / "out"]
    done = signalled(cmgems, arguments, [], number, ["-c", program])
    assert (done.code, done.stderr) == (128 + number, stopped_by(number).stderr)
    assert read_manifest(tmp_path / "out", "corpus", verify=True).stats["bases"] == 210_155
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert "nothing to do" in cmgems.process(*arguments[:4], *arguments[5:]).stderr


def test_a_second_ctrl_c_ends_a_command_at_once(cmgems: CommandLine) -> None:
    program = (
        "import signal, time\n"
        "from cmgems_cli import __main__, cli\n"
        "def show(console):\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    finally:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        time.sleep(60)\n"
        "cli.overview.show_overview = show\n"
        "__main__.main()\n"
    )
    begun = time.monotonic()
    assert signalled(cmgems, [], [], signal.SIGINT, ["-c", program]) == stopped_by(signal.SIGINT)
    assert time.monotonic() - begun < 50


@BOTH
@pytest.mark.parametrize("where", ["library", "command"])
def test_a_signal_amid_an_import_is_not_lost(
    cmgems: CommandLine, number: signal.Signals, where: str, tmp_path: Path
) -> None:
    """As some libraries do, this one goes on without a part whose import fails, whatever the failure is."""
    (tmp_path / "deaf.py").write_text(
        f"import signal\ntry:\n    signal.raise_signal({int(number)})\nexcept BaseException:\n    pass\n"
    )
    importer = "cmgems_cli.commands.doctor" if where == "command" else "some_library"
    program = (
        "import sys, time\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from cmgems_cli import __main__, cli\n"
        "def show(console):\n"
        f"    exec('import deaf', {{'__name__': {importer!r}}})\n"
        "    time.sleep(20)\n"
        "    print('it went on')\n"
        "cli.overview.show_overview = show\n"
        "__main__.main()\n"
    )
    assert signalled(cmgems, [], [], number, ["-c", program]) == stopped_by(number)


@BOTH
def test_what_a_library_makes_of_a_signal_is_no_error(cmgems: CommandLine, number: signal.Signals) -> None:
    program = (
        "import signal\n"
        "from cmgems_cli import __main__, cli\n"
        "def show(console):\n"
        "    try:\n"
        f"        signal.raise_signal({int(number)})\n"
        "    except BaseException as error:\n"
        "        raise RuntimeError('a callback failed') from error\n"
        "cli.overview.show_overview = show\n"
        "__main__.main()\n"
    )
    assert signalled(cmgems, [], [], number, ["-c", program]) == stopped_by(number)


def test_a_program_that_calls_the_command_keeps_its_own_handlers(
    cmgems: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = []
    monkeypatch.setattr(
        cli.overview, "show_overview", lambda console: handlers.append(signal.getsignal(signal.SIGTERM))
    )
    before = signal.getsignal(signal.SIGTERM)
    cli.app([], standalone_mode=False)
    cmgems()
    assert handlers[0] == before == signal.getsignal(signal.SIGTERM)
    assert handlers[1] != before
