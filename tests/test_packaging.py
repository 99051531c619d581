"""The container file, the conda recipe and the citation agree with pyproject.toml. They are not built here."""

import re
import shlex
import tomllib
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from cmgems_cli import __version__
from tests.command_line import REPOSITORY

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT: dict[str, Any] = PYPROJECT["project"]
RECIPE: dict[str, Any] = yaml.safe_load((REPOSITORY / "recipe" / "recipe.yaml").read_text(encoding="utf-8"))

# The words of each instruction, lines that end in \ joined, comments left out.
CONTAINER = [
    line.split(maxsplit=1)
    for line in (REPOSITORY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]

# conda's names that differ from PyPI's.
CONDA = {"torch": "pytorch"}


def normalised(name: str, specifier: SpecifierSet) -> tuple[str, str]:
    return CONDA.get(name, name), str(specifier)


def test_versions_are_the_packages() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == __version__ == RECIPE["package"]["version"] == citation["version"]


def test_the_recipe_requires_what_the_package_requires() -> None:
    wanted = {normalised(one.name, one.specifier) for one in map(Requirement, PROJECT["dependencies"])}
    wanted.add(("python", PROJECT["requires-python"]))
    run = [line.split(maxsplit=1) for line in RECIPE["requirements"]["run"]]
    assert {(name, str(SpecifierSet(bounds))) for name, bounds in run} == wanted
    (build,) = map(Requirement, PYPROJECT["build-system"]["requires"])
    assert f"{build.name} {build.specifier}" in RECIPE["requirements"]["host"]
    assert RECIPE["build"]["python"]["entry_points"] == [f"{k} = {v}" for k, v in PROJECT["scripts"].items()]
    assert (RECIPE["about"]["summary"], RECIPE["about"]["license"]) == (
        PROJECT["description"],
        PROJECT["license"],
    )


def test_the_container_installs_the_package_on_a_python_that_it_supports() -> None:
    known = {"FROM", "ARG", "RUN", "COPY", "ENV", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert {words[0] for words in CONTAINER} == known
    (base,) = [words[1] for words in CONTAINER if words[0] == "FROM"]
    version = re.search(r"python:(\d+\.\d+)", base)
    assert version
    assert version[1] in SpecifierSet(PROJECT["requires-python"])
    installs = [
        word
        for words in CONTAINER
        if words[0] == "RUN"
        for word in shlex.split(words[1])
        if word.startswith(("torch", "/source["))
    ]
    torch, package = installs
    assert torch in PROJECT["dependencies"]
    extras = set(package.removeprefix("/source[").removesuffix("]").split(","))
    assert extras <= PROJECT["optional-dependencies"].keys()
    copied = [shlex.split(words[1]) for words in CONTAINER if words[0] == "COPY"]
    for *sources, _ in copied:
        assert all((REPOSITORY / source).exists() for source in sources)
    packages = {
        one.removesuffix("*") for one in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    }
    needed = {PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", *packages}
    assert needed == {source for *sources, _ in copied for source in sources}
    (entry,) = [words[1] for words in CONTAINER if words[0] == "ENTRYPOINT"]
    assert yaml.safe_load(entry) == list(PROJECT["scripts"])
