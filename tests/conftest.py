"""Fixtures shared by all tests, and how hypothesis runs here."""

import os
import shutil
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from tests.command_line import REPOSITORY, CommandLine
from tests.planted import planted_classifier

# Before anything imports torch: the models here are small, and tests run beside each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# In memory where there is room: commands force what they write to the disk, and most tests wait for nothing else.
_MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 8 << 30:
    os.environ["TMPDIR"] = str(_MEMORY)
    tempfile.tempdir = None

# A first call compiles: time limits per example would judge the compiler. CI repeats the same examples,
# so that a red run is a change's doing; everywhere else each run looks at new ones.
settings.register_profile("cmgems", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("cmgems")


_running: list[pytest.Item] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.pop()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that start the most processes, or one of them would run alone at the end."""
    slow = Counter(item.path for item in items if any(map(item.get_closest_marker, ("subprocess", "soak"))))
    items.sort(key=lambda item: -slow[item.path])


def _only_marked_tests_start_interpreters(event: str, arguments: tuple[object, ...]) -> None:
    if event != "subprocess.Popen" or not _running or _running[-1].get_closest_marker("subprocess"):
        return
    words = arguments[1]
    if any(sys.executable in str(word) for word in (words if isinstance(words, list | tuple) else [words])):
        raise AssertionError("this test starts an interpreter: mark it with @pytest.mark.subprocess")


sys.addaudithook(_only_marked_tests_start_interpreters)


@pytest.fixture(scope="session")
def cmgems() -> CommandLine:
    """The command line: `cmgems("info", folder, code=3).error`, `cmgems.process(...)` for a real process."""
    return CommandLine()


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier fine-tuned to find `tests.planted.MOTIF` on either strand."""
    return planted_classifier(tmp_path_factory.mktemp("planted") / "task")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a command's default paths lie, a folder that does not exist yet."""
    monkeypatch.setenv("CMGEMS_WORKSPACE", str(tmp_path / "work"))
    return tmp_path / "work"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data too large, or not ours, to commit: in $CMGEMS_TEST_DATA, else in ../shared/data."""
    named = os.environ.get("CMGEMS_TEST_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; name its folder with CMGEMS_TEST_DATA")
    return folder


@pytest.fixture
def room_for() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which no file, of this process or one it starts, grows beyond so many bytes.

    The system then refuses to write as it does when a disk is full; a full disk takes an administrator to make.
    """
    resource = pytest.importorskip("resource")

    @contextmanager
    def room(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return room


def _unpacked(archive: Path, wanted: tuple[str, ...], into: Path) -> Path:
    if not archive.is_file():
        pytest.skip(f"no real data at {archive}")
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.isfile() and member.name.startswith(wanted)]
        tar.extractall(into, members, filter="data")
    return into


@pytest.fixture(scope="session")
def gue_data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GUE folder with six of its tasks, EMP/H3 without train."""
    wanted = (
        "GUE/tf/0/",
        "GUE/mouse/0/",
        "GUE/mouse/2/",
        "GUE/prom/prom_core_all/",
        "GUE/prom/prom_core_tata/",
        "GUE/EMP/H3/",
    )
    return _unpacked(shared_data / "gue_subset.tar.xz", wanted, tmp_path_factory.mktemp("gue")) / "GUE"


@pytest.fixture(scope="session")
def fewshot_data(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The few-shot folder: prom-core and splice-40 with tests, prom-300 without."""
    archive = shared_data / "fewshot_subset.tar.xz"
    return _unpacked(archive, ("fewshot/",), tmp_path_factory.mktemp("fewshot")) / "fewshot"
