"""What several test modules share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.cars import write_car


@pytest.fixture(scope="session")
def big_car(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CAR that takes a worker a few seconds; for reading only, and for tests that cut the work short."""
    return write_car(tmp_path_factory.mktemp("big") / "big.car", blocks=4_000_000)
