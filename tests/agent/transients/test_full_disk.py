"""A disk that is full in the middle of a fetch: a clear error that may be tried again, and nothing corrupt."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.dagstore.failures import ErrorClass, ShardError
from tests.agent.transients.remote import CHUNK, RemoteMount, Server, random_data, read, transients_at

pytestmark = pytest.mark.privileged


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for some 14 chunks."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "carfs-test", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


async def test_m9_a_full_disk_is_no_space_and_what_came_before_stays(small_disk: Path) -> None:
    server = Server(random_data(30))
    mount = RemoteMount(server)
    filler = small_disk / "somebody else's"
    filler.write_bytes(bytes(2 * CHUNK))
    async with transients_at(small_disk) as (transients, used):
        used.add("key")
        assert await read(transients, mount, 0, 8 * CHUNK) == server.data[: 8 * CHUNK]
        with pytest.raises(
            ShardError, match=r"no space for .* make room on that file system and try again"
        ) as raised:
            await read(transients, mount, 8 * CHUNK, 22 * CHUNK)
        assert raised.value.error_class is ErrorClass.NO_SPACE
        assert transients.statistics().reserved_bytes == 0
        assert await read(transients, mount, 0, 8 * CHUNK) == server.data[: 8 * CHUNK]
        filler.unlink()
        reached = transients.size_of("key") // CHUNK
        assert await read(transients, mount, reached * CHUNK, CHUNK) == server.data[reached * CHUNK :][:CHUNK]
    async with transients_at(small_disk) as (transients, _):
        assert await read(transients, mount, 0, (reached + 1) * CHUNK) == server.data[: (reached + 1) * CHUNK]
    assert set(server.given.values()) <= {1, 2}


async def test_a_full_disk_is_made_room_on_by_what_nobody_uses(small_disk: Path) -> None:
    server = Server(random_data(9))
    async with transients_at(small_disk, keys=("old", "new")) as (transients, _):
        await read(transients, RemoteMount(server), 0, 9 * CHUNK, key="old")
        assert await read(transients, RemoteMount(server), 0, 9 * CHUNK, key="new") == server.data
        assert (transients.size_of("old"), transients.size_of("new")) == (0, 9 * CHUNK)


async def test_a_disk_that_one_transient_fills_has_room_for_another_once_nobody_uses_the_first(
    small_disk: Path,
) -> None:
    async with transients_at(small_disk, keys=("old", "new")) as (transients, _):
        with pytest.raises(ShardError, match="no space"):
            await read(transients, RemoteMount(Server(random_data(30))), 0, 30 * CHUNK, key="old")
        (small_disk / "somebody else's").write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
        server = Server(random_data(3))
        assert await read(transients, RemoteMount(server), 0, 3 * CHUNK, key="new") == server.data
        assert transients.size_of("old") == 0


async def test_a_disk_without_room_for_an_empty_transient_says_so(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(1 << 20))
    async with transients_at(small_disk) as (transients, _):
        with pytest.raises(ShardError, match="cannot be made or opened: No space left") as raised:
            await read(transients, RemoteMount(Server(random_data(1))), 0, 1)
        assert raised.value.error_class is ErrorClass.NO_SPACE
        assert sorted(path.name for path in small_disk.iterdir()) == ["filler"]
