"""The checks of `tests/machine/checks`, each a test: in one boot of each kind of machine."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests import machine
from tests.machine import Kind, Result, checks, guest

TIMEOUT_S = 1800  # for all checks; on a quiet machine they take one or two minutes
NAMES = sorted(found.name for found in pkgutil.iter_modules(checks.__path__))


def machines(name: str) -> tuple[Kind, ...]:
    given: tuple[Kind, ...] = importlib.import_module(f"tests.machine.checks.{name}").MACHINES
    return given


CASES = [(kind, name) for kind in machine.KINDS for name in NAMES if kind in machines(name)]


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> Callable[[Kind], dict[str, Any]]:
    """What came of the checks of a kind that were asked for; boots when the first of them wants to know."""
    wanted = {
        item.callspec.params["name"]  # as below
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_check
    }

    @cache
    def boot(kind: Kind) -> dict[str, Any]:
        names = [name for given, name in CASES if given == kind and name in wanted]
        with TemporaryDirectory() as out:
            # A boot takes ten seconds in `run`, so what every machine is to give back is held in this one.
            command = f"{guest.PYTHON} -m tests.machine.guest /out/results.json {' '.join(names)} && "
            command += "carfs --version; echo oh >&2; exit 7"
            done = getattr(machine, kind)(command, out=Path(out), timeout_s=TIMEOUT_S)
            assert done == Result(7, f"carfs {version('carfs')}\n", "oh\n")
            found: dict[str, Any] = json.loads((Path(out) / "results.json").read_text())
            return found

    return boot


@pytest.mark.slow
@pytest.mark.machine
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_check(kind: Kind, name: str, results: Callable[[Kind], dict[str, Any]]) -> None:
    if why_not := machine.why_not(kind):
        pytest.skip(why_not)
    result = results(kind)[name]
    assert result["code"] == 0, result["output"]


@pytest.mark.parametrize("name", NAMES)
def test_a_check_says_what_it_holds_and_where(name: str) -> None:
    module = importlib.import_module(f"tests.machine.checks.{name}")
    assert module.__doc__
    assert module.MACHINES
    assert set(module.MACHINES) <= set(machine.KINDS)
    assert callable(module.check)
