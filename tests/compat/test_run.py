"""What the compatibility runs install."""

import sys
from pathlib import Path

import pytest

from tests.compat.run import CHOSEN, REPOSITORY, interpreter, requirement, requirements


def test_the_project_bounds_what_the_runs_choose() -> None:
    bounds = requirements(REPOSITORY / "pyproject.toml")
    assert set(CHOSEN) < set(bounds)
    assert all(requirement(name, bounds[name], "oldest") for name in bounds)


@pytest.mark.parametrize(
    ("bounds", "wanted", "installed"),
    [
        (">=2.6", "oldest", "torch==2.6.*"),
        (">=5.17,<6", "oldest", "torch==5.17.*"),
        (">=0.8.1", "oldest", "torch==0.8.1"),
        (">=5.17,<6", "newest", "torch>=5.17,<6"),
        (">=2.6", "2.13.0+cpu", "torch==2.13.0+cpu"),
    ],
)
def test_oldest_newest_or_a_version(bounds: str, wanted: str, installed: str) -> None:
    assert requirement("torch", bounds, wanted) == installed


def test_an_interpreter_is_found_by_its_version_or_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert interpreter(sys.executable) == sys.executable
    with pytest.raises(SystemExit, match=r"no Python 3\.99 here"):
        interpreter("3.99")
    found = tmp_path / "versions" / "3.99.1" / "bin" / "python3.99"
    found.parent.mkdir(parents=True)
    found.touch()
    assert interpreter("3.99") == str(found)
