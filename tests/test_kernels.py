"""Compiled functions on disk: right whoever writes them at once, and compiled again where they are damaged."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cmgems_cli import kernels
from tests.command_line import environment, run_python

HALF = "from cmgems_cli.kernels import kernel\n@kernel()\ndef half(x):\n    return x {operation} 2\n"
WHOLE = (
    "from cmgems_cli.kernels import kernel\nimport half\nfrom half import half as h\n@kernel()\n"
    "def whole(x):\n    return {called}(x) + x * 0\n"
)
CALL = (
    "import sys, time; sys.path.insert(0, sys.argv[1]); import numpy as np, whole;"
    "time.sleep(max(0, float(sys.argv[2]) - time.time()));"
    "types = np.array([np.dtype(t) for t in sys.argv[3].split(',')]);"
    "print([float(whole.whole(t.type(3))) for t in types], sum(whole.whole.stats.cache_hits.values()))"
)
TYPES = ["float64", "float32", "int64", "int32", "uint8", "int16"]


def write(folder: Path, operation: str = "*", called: str = "h") -> None:
    (folder / "half.py").write_text(HALF.format(operation=operation))
    (folder / "whole.py").write_text(WHOLE.format(called=called))


def call(folder: Path, *types: str) -> str:
    return run_python(CALL, folder, 0, ",".join(types)).stdout.strip()


def kept(folder: Path, name: str = "whole") -> list[Path]:
    return sorted((folder / "__pycache__").glob(f"{name}.*.nb?"))


@pytest.mark.subprocess
@pytest.mark.parametrize("called", ["h", "half.half"])
def test_a_kernel_is_kept_until_it_or_one_that_it_calls_changes(tmp_path: Path, called: str) -> None:
    write(tmp_path, called=called)
    assert call(tmp_path, "int64") == "[6.0] 0"
    assert call(tmp_path, "int64") == "[6.0] 1"
    write(tmp_path, operation="**", called=called)
    assert call(tmp_path, "int64") == "[9.0] 0"
    assert call(tmp_path, "int64") == "[9.0] 1"


@pytest.mark.subprocess
def test_processes_that_compile_at_once_keep_each_others_kernels(tmp_path: Path) -> None:
    import time

    write(tmp_path)
    at = time.time() + 4
    started = [
        subprocess.Popen([sys.executable, "-c", CALL, tmp_path, str(at), one], env=environment(), text=True)
        for one in TYPES
    ]
    assert [process.wait() for process in started] == [0] * len(TYPES)
    assert call(tmp_path, *TYPES) == f"{[6.0] * len(TYPES)} {len(TYPES)}"


@pytest.mark.subprocess
def test_a_damaged_file_is_compiled_again(tmp_path: Path) -> None:
    write(tmp_path)
    call(tmp_path, "int64", "float32")
    draw = random.Random(7)
    for path in (*kept(tmp_path), *kept(tmp_path, "half")):
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content if path.suffix == ".nbc" else content[: len(content) // 2])
    assert call(tmp_path, "int64", "float32") == "[6.0, 6.0] 0"
    assert call(tmp_path, "int64", "float32") == "[6.0, 6.0] 2"


def test_data_of_another_key_are_not_returned(tmp_path: Path) -> None:
    file = kernels._File(str(tmp_path), "name", "stamp")
    file.save("a", 1)
    file.save("b", 2)
    file._save_index({"a": file._data_name(2), "b": file._data_name(2)})
    assert (file.load("a"), file.load("b"), file.load("c")) == (None, 2, None)


def test_a_kill_between_two_writes_leaves_nothing_of_an_older_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    kernels._File(str(tmp_path), "name", "old").save("key", "old code")
    new = kernels._File(str(tmp_path), "name", "new")
    for stop in ("_save_data", "_save_index"):
        with monkeypatch.context() as patch:
            patch.setattr(new, stop, killed)
            with pytest.raises(KeyboardInterrupt):
                new.save("key", "new code")
        assert new.load("key") is None
    new.save("key", "new code")
    assert new.load("key") == "new code"


def test_a_full_disk_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    @kernels.kernel()
    def twice(x):  # type: ignore[no-untyped-def]
        return 2 * x

    monkeypatch.setattr(kernels._File, "_open_for_write", full)
    assert twice(np.int64(4)) == 8


def test_without_a_folder_to_write_to_a_function_is_compiled_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere(*_: object) -> None:
        raise RuntimeError("no locator available")

    monkeypatch.setattr(kernels._Cache, "__init__", nowhere)

    @kernels.kernel()
    def twice(x):  # type: ignore[no-untyped-def]
        return 2 * x

    assert twice(np.int64(4)) == 8
