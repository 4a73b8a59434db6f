"""A worker that reads remote data: it asks for what is missing, waits for it, and says what it will need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.dagstore.access import TransientAccess
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import Fingerprint
from agent.workers import WorkerFailed
from carlib import indexing
from tests.agent.cars import write_car
from tests.agent.machines import working
from tests.agent.transients.remote import RemoteMount, Server, opened


def task(tmp_path: Path, access: TransientAccess) -> dict[str, Any]:
    return {
        "access": msgspec.to_builtins(access),
        "fingerprint": asdict(Fingerprint(access.size)),
        "scratch": str(tmp_path / "scratch"),
        "out": str(tmp_path / "out.idx"),
    }


@pytest.mark.parametrize("blocks", [3, 20_000])
async def test_a_transient_is_indexed_as_the_file_would_be(tmp_path: Path, blocks: int) -> None:
    car = write_car(tmp_path / "x.car", blocks=blocks)
    indexing.build(car, tmp_path / "expected")
    (tmp_path / "transients").mkdir()
    mount = RemoteMount(Server(car.read_bytes()))
    async with opened(tmp_path / "transients", mount) as (_, transient), working(limit=1) as pool:
        facts = await pool.run("index", task(tmp_path, transient.access), needs=transient)
    assert facts["blocks"] == blocks
    assert (tmp_path / "out.idx").read_bytes() == (tmp_path / "expected").read_bytes()
    assert set(mount.server.given.values()) <= {1}


@dataclass
class Refusing:
    """Has nothing, and says why."""

    error: Exception
    asked: list[tuple[int, int]] = field(default_factory=list)

    async def ensure(self, offset: int, length: int) -> None:
        self.asked.append((offset, length))
        raise self.error

    async def renew(self, offset: int, length: int) -> None:
        raise self.error

    def hint(self, ranges: Sequence[tuple[int, int]]) -> None:
        pass


async def test_what_cannot_be_had_fails_the_task_with_its_class_and_the_worker_lives_on(
    tmp_path: Path,
) -> None:
    car = write_car(tmp_path / "x.car")
    (tmp_path / "transients").mkdir()
    mount = RemoteMount(Server(car.read_bytes()))
    async with opened(tmp_path / "transients", mount) as (_, transient), working(limit=1) as pool:
        refusing = Refusing(ShardError(ErrorClass.GONE, "the server is away"))
        with pytest.raises(WorkerFailed, match="the server is away") as raised:
            await pool.run("index", task(tmp_path, transient.access), needs=refusing)
        assert raised.value.error_class is ErrorClass.GONE
        assert len(refusing.asked) == 1
        assert (await pool.run("index", task(tmp_path, transient.access), needs=transient))["blocks"] == 3


async def test_a_task_that_was_given_no_transient_says_so(tmp_path: Path) -> None:
    car = write_car(tmp_path / "x.car")
    (tmp_path / "transients").mkdir()
    async with (
        opened(tmp_path / "transients", RemoteMount(Server(car.read_bytes()))) as (_, transient),
        working(limit=1) as pool,
    ):
        with pytest.raises(WorkerFailed, match="this task has no transient to read"):
            await pool.run("index", task(tmp_path, transient.access))
