"""Run the tests with the oldest or newest torch and transformers that pyproject.toml admits, in a fresh environment.

    python tests/compat/run.py --torch oldest --transformers newest --python 3.12 [arguments of pytest]

`oldest` is the lower bound in pyproject.toml, of which pip takes the newest patch release; `newest` is the newest
release within its range; any other value is a version. `--others oldest` installs the lower bounds of the other
dependencies too. torch's releases on PyPI for Linux bring gigabytes of CUDA libraries: to do without, name an index of
CPU builds in PIP_EXTRA_INDEX_URL, and a version with `+cpu`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CHOSEN = ("torch", "transformers")


def requirements(pyproject: Path) -> dict[str, str]:
    """Return the version ranges of the dependencies by name."""
    listed = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    return {match[1]: match[2] for match in (re.fullmatch(r"([\w-]+)(.*)", one) for one in listed) if match}


def requirement(name: str, bounds: str, wanted: str) -> str:
    """Return what pip is to install of a dependency: `oldest`, `newest` or a version."""
    if wanted == "newest":
        return f"{name}{bounds}"
    if wanted != "oldest":
        return f"{name}=={wanted}"
    lowest = re.search(r">=([\w.]+)", bounds)
    assert lowest, f"{name} has no lower bound"
    # The lower bound 1.15 means 1.15.*, the lower bound 0.8.1 means that release.
    return f"{name}=={lowest[1]}" + ("" if lowest[1].count(".") > 1 else ".*")


def interpreter(python: str) -> str:
    """Return the path of an interpreter given as a path or as a version (found on PATH, or among pyenv's)."""
    if not re.fullmatch(r"3\.\d+", python):
        return python
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    installed = sorted(root.glob(f"versions/{python}.*/bin/python{python}"))
    found = str(installed[-1]) if installed else shutil.which(f"python{python}")
    if found is None:
        sys.exit(f"no Python {python} here; give the path of one with --python")
    return found


@contextmanager
def environment(folder: Path | None) -> Iterator[Path]:
    """Yield the folder of the environment: the one given, which is kept, or one that is removed."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def main() -> int:
    """Install, show the versions, run pytest; return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in CHOSEN:
        parser.add_argument(f"--{name}", default="newest", help="oldest, newest or a version")
    parser.add_argument("--others", default="newest", choices=("oldest", "newest"))
    parser.add_argument("--python", default=f"3.{sys.version_info.minor}", help="3.11, 3.12, 3.13 or a path")
    parser.add_argument("--keep", type=Path, help="folder for the environment, used again if it exists")
    options, arguments = parser.parse_known_args()

    bounds = requirements(REPOSITORY / "pyproject.toml")
    wanted = {name: getattr(options, name) if name in CHOSEN else options.others for name in bounds}
    with environment(options.keep) as folder:
        subprocess.run([interpreter(options.python), "-m", "venv", str(folder)], check=True)
        python = folder / "bin" / "python"
        listed = [requirement(name, bounds[name], wanted[name]) for name in bounds]
        subprocess.run([python, "-m", "pip", "install", "-q", *listed, f"{REPOSITORY}[test]"], check=True)
        subprocess.run([python, "--version"], check=True)
        subprocess.run([python, "-m", "pip", "list", "--format=freeze"], check=True)
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [python, "-m", "pytest", "-m", "not soak", *arguments], cwd=REPOSITORY, env=clean, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
