"""The arrows between the packages: carlib ← agent ← fusefs, read from the import statements themselves."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.fixtures import REPOSITORY

CARLIB_NEVER = {
    "agent",
    "fusefs",
    "trio",
    "pyfuse3",
    "logging",
    "socket",
    "asyncio",
    "anyio",
    "click",
    "rich",
}
AGENT_NEVER = {"fusefs", "pyfuse3"}
OURS = {"agent", "carlib", "fusefs", "tests"}
PYFUSE3_HOME = Path("fusefs/operations.py")


def modules(package: str) -> list[Path]:
    return sorted(path.relative_to(REPOSITORY) for path in (REPOSITORY / package).rglob("*.py"))


def imported(module: Path) -> Iterator[str]:
    """The top-level packages that a module imports, anywhere in it, type-checking blocks included."""
    for node in ast.walk(ast.parse((REPOSITORY / module).read_text(), str(module))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name.partition(".")[0] for alias in names)
            case ast.ImportFrom(module=str(name), level=0):
                yield name.partition(".")[0]
            case ast.ImportFrom(level=level):
                depth = len(module.parts) - level
                assert depth > 0, f"{module}: a relative import leaves its package"
                yield module.parts[0]


@pytest.mark.parametrize("module", modules("carlib"), ids=str)
def test_carlib_knows_bytes_and_values_only(module: Path) -> None:
    assert not CARLIB_NEVER & set(imported(module))


@pytest.mark.parametrize("module", modules("agent"), ids=str)
def test_agent_knows_nothing_of_fuse(module: Path) -> None:
    assert not AGENT_NEVER & set(imported(module))


def test_pyfuse3_is_imported_in_one_place() -> None:
    users = [module for module in modules("fusefs") if "pyfuse3" in imported(module)]
    assert set(users) <= {PYFUSE3_HOME}


def declared(*lists: list[str]) -> set[str]:
    """The names of the distributions in lists of requirements."""
    return {re.split(r"[<>=!~ ;\[]", requirement, maxsplit=1)[0] for one in lists for requirement in one}


@pytest.mark.parametrize("package", sorted(OURS))
def test_every_import_from_outside_is_declared(package: str) -> None:
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    project = settings["project"]
    optional = [*project["optional-dependencies"].values(), *settings["dependency-groups"].values()]
    allowed = declared(project["dependencies"], *(optional if package == "tests" else []))
    distributions = packages_distributions()
    foreign = (
        {name for module in modules(package) for name in imported(module)}
        - OURS
        - set(sys.stdlib_module_names)
    )
    known = {
        name: {one.lower().replace("_", "-") for one in distributions.get(name, [name])} for name in foreign
    }  # PyJWT is pyjwt, prometheus_client prometheus-client
    assert {name for name in foreign if not allowed & known[name]} == set()
