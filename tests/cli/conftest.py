"""The CAR that tests of `carfs car` work on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.carlib.cars import write_car
from tests.cli.cars import ALL, ROOT


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CARv1 of a node below three leaves, and an identity section; the working directory is its folder."""
    monkeypatch.chdir(tmp_path)
    return write_car(Path("a.car"), ALL, (ROOT,))
