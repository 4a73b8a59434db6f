"""Fetching: each byte once whoever wants it, nobody hurt by who goes, and everything resumed."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from agent.dagstore.access import TransientAccess
from agent.dagstore.chunk_map import MapReader
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.mounts import Fingerprint, TryLater
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.transients import GcResult, Limits, Settings, Transients
from agent.dagstore.transients.transient import Transient
from tests.agent.transients.remote import (
    CHUNK,
    RemoteMount,
    Server,
    opened,
    random_data,
    read,
    transients_at,
)

GONE = ShardError(ErrorClass.GONE, "the server is gone")


async def test_only_what_is_read_is_fetched_and_it_is_what_the_server_has(tmp_path: Path) -> None:
    server = Server(random_data(100, short=11))
    mount = RemoteMount(server)
    async with transients_at(tmp_path) as (transients, _):
        assert await read(transients, mount, 5 * CHUNK + 3, 10) == server.data[5 * CHUNK + 3 : 5 * CHUNK + 13]
        last = len(server.data) - 5
        assert await read(transients, mount, last, 5) == server.data[-5:]
        assert server.sees() == [(5, 6), (99, 100)]
        assert transients.statistics().used_bytes == 2 * CHUNK - 11
        assert transients.size_of("key") == 2 * CHUNK - 11


async def test_twenty_readers_of_the_same_bytes_cost_one_fetch(tmp_path: Path) -> None:
    server = Server(random_data(100))
    mount = RemoteMount(server)
    read_all: list[bool] = []
    async with transients_at(tmp_path) as (transients, _):

        async def reader() -> None:
            read_all.append(await read(transients, mount, 0, 30 * CHUNK) == server.data[: 30 * CHUNK])

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(reader)
    assert read_all == [True] * 20
    assert set(server.given.values()) == {1}


async def test_m1_a_failed_fetch_is_begun_anew_by_the_next_who_asks(tmp_path: Path) -> None:
    server = Server(random_data(3))
    mount = RemoteMount(server)
    async with transients_at(tmp_path) as (transients, _):
        await read(transients, mount, 0, 1)
        server.fail = [GONE]
        with pytest.raises(ShardError, match="the server is gone") as raised:
            await read(transients, mount, 2 * CHUNK, 1)
        assert (raised.value.error_class, raised.value.key) == (ErrorClass.GONE, "key")
        assert await read(transients, mount, 2 * CHUNK, 9) == server.data[2 * CHUNK : 2 * CHUNK + 9]


async def test_a_server_that_is_away_for_a_moment_is_asked_again_before_anybody_is_told(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server(random_data(3))
    mount = RemoteMount(server)
    async with transients_at(tmp_path, Settings(pauses_s=(0.25, 1.0))) as (transients, _):
        await read(transients, mount, 0, 1)
        server.fail = [TryLater("try again"), TryLater("try again")]
        assert await read(transients, mount, 2 * CHUNK, 9) == server.data[2 * CHUNK : 2 * CHUNK + 9]
        assert (server.fail, trio.current_time()) == ([], 1.25)


@pytest.mark.parametrize(
    "error", [GONE, TryLater("in a minute", after_s=60)], ids=["not there", "in a minute"]
)
async def test_what_will_not_pass_so_soon_is_told_at_once(
    error: ShardError, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server(random_data(3))
    mount = RemoteMount(server)
    async with transients_at(tmp_path, Settings(pauses_s=(0.25, 1.0))) as (transients, _):
        await read(transients, mount, 0, 1)
        server.fail = [error]
        with pytest.raises(ShardError):
            await read(transients, mount, 2 * CHUNK, 9)
        assert trio.current_time() == 0


async def test_m2_the_first_who_asked_may_go_and_the_others_get_their_bytes(tmp_path: Path) -> None:
    server = Server(random_data(3))
    mount = RemoteMount(server)
    got: list[bytes] = []
    async with transients_at(tmp_path) as (transients, _):
        await read(transients, mount, 2 * CHUNK, 1)
        server.hold()
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def first() -> None:
                with scope:
                    await read(transients, mount, 0, 5)

            async def second() -> None:
                got.append(await read(transients, mount, 0, 5))

            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(second)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            server.gate.set()
    assert got == [server.data[:5]]
    assert server.given[0] == 1


async def test_m3_what_could_not_be_made_is_not_taken_for_ready(tmp_path: Path) -> None:
    server = Server(random_data(3))
    directory = tmp_path / "transients"
    directory.mkdir()
    async with transients_at(directory) as (transients, _):
        directory.rmdir()
        directory.symlink_to("nowhere/at/all")
        with pytest.raises(ShardError, match="cannot be made or opened"):
            await read(transients, RemoteMount(server), 0, 1)
        directory.unlink()
        directory.mkdir()
        assert await read(transients, RemoteMount(server), 0, 9) == server.data[:9]


@pytest.mark.parametrize("key", ["a/b", "..", "a" * 1000, "\n", "A", "a", "é"])
async def test_m6_any_key_has_files_of_its_own(tmp_path: Path, key: str) -> None:
    server = Server(random_data(2))
    async with transients_at(tmp_path, keys=(key, "other")) as (transients, _):
        await read(transients, RemoteMount(server), 0, 1, key=key)
        await read(transients, RemoteMount(server), 0, 1, key="other")
        names = [path.name for path in tmp_path.iterdir()]
        assert (len(names), len({name.lower() for name in names})) == (4, 4)


def data_of(directory: Path) -> Path:
    (found,) = directory.glob("*.data")
    return found


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 3 * CHUNK),
        lambda path: os.truncate(path, 9 * CHUNK),
        lambda path: path.unlink(),
        lambda path: path.with_suffix(".map").write_bytes(b"x" * 500),
    ],
)
async def test_m7_a_transient_that_is_not_what_it_should_be_is_fetched_anew(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    server = Server(random_data(4))
    async with transients_at(tmp_path) as (transients, _):
        await read(transients, RemoteMount(server), 0, CHUNK)
    damage(data_of(tmp_path))
    async with transients_at(tmp_path) as (transients, _):
        assert await read(transients, RemoteMount(server), 0, 4 * CHUNK) == server.data
        assert transients.statistics().used_bytes == 4 * CHUNK


async def test_m7_data_that_changed_are_not_mixed_with_what_was_there(tmp_path: Path) -> None:
    server = Server(random_data(4))
    mount = RemoteMount(server)
    async with transients_at(tmp_path) as (transients, _):
        before = await mount.look(Environment())
        await read(transients, mount, 0, CHUNK)
        server.data, server.etag = random_data(4), '"2"'
        async with transients.use("key", [mount], before) as transient:
            with pytest.raises(ShardError, match="changed") as raised:
                await transient.ensure(2 * CHUNK, 1)
            assert raised.value.error_class is ErrorClass.CORRUPT
        assert await read(transients, mount, 0, 4 * CHUNK) == server.data
        assert len(list(tmp_path.iterdir())) == 2  # of the older data nothing is left


async def test_m10_a_line_that_is_cut_costs_nothing_that_came_through(tmp_path: Path) -> None:
    server = Server(random_data(60), cut_after=[20 * CHUNK, 25 * CHUNK + 5])
    async with transients_at(tmp_path) as (transients, _):
        assert await read(transients, RemoteMount(server), 0, 60 * CHUNK) == server.data
    assert server.sees() == [(0, 60), (20, 60), (45, 60)]


async def test_m10_a_new_agent_goes_on_where_the_last_one_was(tmp_path: Path) -> None:
    server = Server(random_data(60))
    for stop in (20, 30, 60):
        async with transients_at(tmp_path) as (transients, _):
            assert await read(transients, RemoteMount(server), 0, stop * CHUNK) == server.data[: stop * CHUNK]
    assert set(server.given.values()) == {1}
    assert server.sees() == [(0, 20), (20, 30), (30, 60)]


async def test_after_a_power_cut_what_was_not_on_disk_is_fetched_again(tmp_path: Path) -> None:
    server = Server(random_data(10))
    async with transients_at(tmp_path) as (transients, _):
        await read(transients, RemoteMount(server), 0, 3 * CHUNK)  # put on disk when it is closed
    async with transients_at(tmp_path) as (transients, _):
        mount = RemoteMount(server)
        async with transients.use("key", [mount], await mount.look(Environment())) as transient:
            await transient.ensure(5 * CHUNK, CHUNK)
            maps = {path: path.read_bytes() for path in tmp_path.glob("*.map")}  # as if the power went now
    for path, content in maps.items():
        path.write_bytes(content)
    with data_of(tmp_path).open("r+b") as file:
        file.seek(5 * CHUNK)
        file.write(bytes(CHUNK))
    async with transients_at(tmp_path, boot=b"n" * 16) as (transients, _):
        assert transients.statistics().used_bytes > 0
        assert (
            await read(transients, RemoteMount(server), 5 * CHUNK, CHUNK)
            == server.data[5 * CHUNK : 6 * CHUNK]
        )
        assert await read(transients, RemoteMount(server), 0, 3 * CHUNK) == server.data[: 3 * CHUNK]
    assert (server.given[0], server.given[5]) == (1, 2)


async def test_a_server_without_ranges_is_read_once_from_the_start(tmp_path: Path) -> None:
    server = Server(random_data(20), ranges=False)
    async with transients_at(tmp_path) as (transients, _):
        assert (
            await read(transients, RemoteMount(server), 15 * CHUNK, 9)
            == server.data[15 * CHUNK : 15 * CHUNK + 9]
        )
        assert await read(transients, RemoteMount(server), 0, 20 * CHUNK) == server.data
    assert server.sees() == [(0, 20)]


async def test_all_of_it_can_be_asked_for_at_leisure(tmp_path: Path) -> None:
    server = Server(random_data(200))
    mount = RemoteMount(server)
    async with opened(tmp_path, mount) as (_, transient):
        await transient.ensure(70 * CHUNK, 3 * CHUNK)
        await transient.finish()
        assert transient.complete
        await transient.finish()
    assert server.given == dict.fromkeys(range(200), 1)


async def test_a_block_that_does_not_match_is_fetched_once_more(
    tmp_path: Path, expect_warning: Callable[[str], None]
) -> None:
    expect_warning("bytes at 3 did not match, they are fetched once more")
    right = random_data(3)
    server = Server(bytes(3 * CHUNK))
    mount = RemoteMount(server)
    async with opened(tmp_path, mount) as (transients, transient):
        await transient.ensure(0, 3 * CHUNK)
        server.data = right
        await transient.renew(3, 5)
        assert data_of(tmp_path).read_bytes() == right[:CHUNK] + bytes(2 * CHUNK)
        await transient.renew(3, 5)  # it is what the server has: once is enough
        assert transients.statistics().used_bytes == 3 * CHUNK
    assert server.given == {0: 2, 1: 1, 2: 1}


async def test_no_more_requests_at_once_than_are_allowed(tmp_path: Path) -> None:
    server = Server(random_data(400))
    mount = RemoteMount(server)
    keys = ("a", "b", "c")
    async with transients_at(tmp_path, Settings(fetches=2), keys=keys) as (transients, _):
        for key in keys:
            await read(transients, mount, 0, 1, key=key)
        async with trio.open_nursery() as nursery:
            for key in keys:
                nursery.start_soon(partial(read, transients, mount, 0, 400 * CHUNK, key=key))
    assert server.most_streams == 2


async def test_a_server_that_falls_silent_is_given_up(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    server = Server(random_data(3))
    async with transients_at(tmp_path, Settings(stall_s=20)) as (transients, _):
        await read(transients, RemoteMount(server), 0, 1)
        server.hold()
        with pytest.raises(ShardError, match="sent nothing for 20 s") as raised:
            await read(transients, RemoteMount(server), CHUNK, 1)
        assert raised.value.failure.origin_failed
        assert server.streams == 0


async def test_a_replica_serves_what_the_first_mount_does_not(tmp_path: Path) -> None:
    data = random_data(30)
    first, second = Server(data, cut_after=[10 * CHUNK]), Server(data, etag='"of another host"')
    mounts = [RemoteMount(first, "test:/first"), RemoteMount(second, "test:/second")]
    async with opened(tmp_path, *mounts) as (_, transient):
        await transient.ensure(0, 30 * CHUNK)
        assert data_of(tmp_path).read_bytes() == data
    assert (first.sees(), second.sees()) == ([(0, 30)], [(10, 30)])


async def test_what_is_read_by_another_process_is_there_when_the_map_says_so(tmp_path: Path) -> None:
    server = Server(random_data(50))
    mount = RemoteMount(server)
    async with opened(tmp_path, mount) as (_, transient):
        reader = MapReader(Path(transient.access.map))
        assert not reader.holds(0, 1)
        await transient.ensure(0, 50 * CHUNK)
        assert reader.holds(0, 50 * CHUNK)
        reader.close()


async def test_a_range_that_is_not_there_is_refused(tmp_path: Path) -> None:
    mount = RemoteMount(Server(random_data(1)))
    async with opened(tmp_path, mount) as (_, transient):
        for offset, length in ((-1, 1), (0, -1), (CHUNK, 1)):
            with pytest.raises(ShardError, match="there is no range") as raised:
                await transient.ensure(offset, length)
            assert raised.value.error_class is ErrorClass.INVALID


async def test_an_empty_shard_has_nothing_to_fetch(tmp_path: Path) -> None:
    async with transients_at(tmp_path) as (transients, _):
        assert await read(transients, RemoteMount(Server(b"")), 0, 0) == b""


async def test_d5_cancelled_readers_leave_no_descriptor_and_no_stream_open(tmp_path: Path) -> None:
    server = Server(random_data(50))
    before = len(list(Path("/proc/self/fd").iterdir()))
    async with transients_at(tmp_path) as (transients, _):
        await read(transients, RemoteMount(server), 0, 1)
        during = len(list(Path("/proc/self/fd").iterdir()))
        for number in range(20):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read, transients, RemoteMount(server), number * CHUNK, 9)
                    await trio.lowlevel.checkpoint()
                    scope.cancel()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(list(Path("/proc/self/fd").iterdir())) == during
        assert transients.statistics().reserved_bytes == 0
    assert server.streams == 0
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# Room


async def fill(transients: Transients, key: str, chunks: int) -> Server:
    server = Server(random_data(chunks))
    await read(transients, RemoteMount(server), 0, chunks * CHUNK, key=key)
    return server


def quota(chunks: int, *, high: float = 0.9, low: float = 0.5) -> Settings:
    return Settings(Limits(chunks * CHUNK, high, low))


KEYS = tuple("abcdef")


async def test_the_longest_unused_goes_first_and_what_is_in_use_stays(tmp_path: Path) -> None:
    async with transients_at(tmp_path, quota(10), keys=KEYS) as (transients, used):
        for key in "abc":
            await fill(transients, key, 3)
        used.add("a")
        await read(transients, RemoteMount(Server(b"x" * CHUNK)), 0, 1, key="d")
        assert {key: transients.size_of(key) // CHUNK for key in "abcd"} == {"a": 3, "b": 0, "c": 0, "d": 1}


async def test_d10_gc_says_what_it_freed_and_only_of_shards_that_had_something(tmp_path: Path) -> None:
    async with transients_at(tmp_path, keys=KEYS) as (transients, used):
        await fill(transients, "a", 3)
        await fill(transients, "b", 2)
        mount = RemoteMount(Server(random_data(9)))
        async with transients.use("c", [mount], await mount.look(Environment())):
            pass
        used.add("b")
        assert await transients.gc() == [GcResult("a", True, "", 3 * CHUNK)]
        used.clear()
        assert await transients.gc() == [GcResult("b", True, "", 2 * CHUNK)]
        assert await transients.gc() == []
        assert transients.statistics().used_bytes == 0


async def test_m4_gc_and_discard_touch_no_file_that_is_not_ours(tmp_path: Path) -> None:
    theirs = [tmp_path / name for name in ("transient-key.complete", "a.car", "a" * 52 + ".car", ".hidden")]
    for path in theirs:
        path.write_bytes(b"precious")
    (tmp_path / ("a" * 52 + ".0123456789abcdef.data")).symlink_to(theirs[0])
    (tmp_path / ("a" * 52 + ".0123456789abcdef.map")).mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    async with transients_at(tmp_path) as (transients, _):
        await fill(transients, "key", 2)
        await transients.gc()
        assert await transients.discard("unknown") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert all(path.read_bytes() == b"precious" for path in theirs)


async def test_m9_all_fetches_together_never_cross_the_limit(tmp_path: Path) -> None:
    """Reservations before bytes: sixteen at once that want three times what there is."""
    server = Server(random_data(12))
    refused, got = [], []
    async with transients_at(tmp_path, quota(64, high=1.0), keys=tuple("abcdefghijklmnop")) as (
        transients,
        used,
    ):

        async def reader(key: str) -> None:
            used.add(key)
            try:
                got.append(await read(transients, RemoteMount(server), 0, 12 * CHUNK, key=key) == server.data)
            except ShardError as error:
                assert error.error_class is ErrorClass.NO_SPACE
                refused.append(key)
            assert transients.statistics().used_bytes + transients.statistics().reserved_bytes <= 64 * CHUNK

        async with trio.open_nursery() as nursery:
            for key in "abcdefghijklmnop":
                nursery.start_soon(reader, key)
        assert (len(got), len(refused), all(got)) == (5, 11, True)
        used.clear()
        assert await read(transients, RemoteMount(server), 0, 12 * CHUNK, key=refused[0]) == server.data
        assert sum(path.stat().st_blocks * 512 for path in tmp_path.glob("*.data")) <= 64 * CHUNK


async def test_what_finds_no_room_says_how_much_there_is_and_what_to_do(tmp_path: Path) -> None:
    async with transients_at(tmp_path, quota(4), keys=KEYS) as (transients, used):
        used.add("a")
        await fill(transients, "a", 3)
        with pytest.raises(
            ShardError, match=f"no room for {3 * CHUNK} more bytes .* {3 * CHUNK} of {4 * CHUNK}"
        ):
            await fill(transients, "b", 3)


async def test_the_limit_holds_over_a_restart(tmp_path: Path) -> None:
    async with transients_at(tmp_path, keys=KEYS) as (transients, _):
        for key in "abc":
            await fill(transients, key, 3)
    async with transients_at(tmp_path, quota(10), keys=KEYS) as (transients, _):
        assert transients.statistics().used_bytes == 9 * CHUNK
        await fill(transients, "d", 3)
        assert transients.statistics().used_bytes <= 10 * CHUNK
        assert transients.size_of("d") == 3 * CHUNK


async def test_orphans_of_ours_are_swept_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with transients_at(tmp_path, keys=KEYS) as (transients, _):
        for key in "ab":
            await fill(transients, key, 1)
    (tmp_path / ("b" * 52 + ".0123456789abcdef.data")).write_bytes(b"half of one")
    (tmp_path / ".carfs-tmp-1").write_bytes(b"a map that was being made")
    with caplog.at_level(logging.INFO):
        async with transients_at(tmp_path, keys=("b",)) as (transients, _):
            assert (transients.size_of("a"), transients.size_of("b")) == (0, CHUNK)
    assert "removed 3 transients that no shard needs" in caplog.text
    assert len(list(tmp_path.iterdir())) == 2


async def test_a_shard_that_goes_takes_its_transient_along_and_tells_who_waits(tmp_path: Path) -> None:
    server = Server(random_data(3))
    mount = RemoteMount(server)
    failures: list[ErrorClass] = []
    async with transients_at(tmp_path) as (transients, _):
        await read(transients, mount, 0, 1)
        server.hold()

        async def waiter() -> None:
            with pytest.raises(ShardError) as raised:
                await read(transients, mount, 2 * CHUNK, 1)
            failures.append(raised.value.error_class)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiter)
            await trio.testing.wait_all_tasks_blocked()
            assert await transients.discard("key") == CHUNK
        assert failures == [ErrorClass.CANCELLED]
        assert list(tmp_path.iterdir()) == []
        server.gate.set()
        assert await read(transients, mount, 2 * CHUNK, 9) == server.data[2 * CHUNK : 2 * CHUNK + 9]


async def test_an_end_answers_all_that_wait(tmp_path: Path) -> None:
    server = Server(random_data(3))
    mount = RemoteMount(server)
    async with opened(tmp_path, mount) as (_, transient):
        server.hold()
        told: list[str] = []

        async def waiter(transient: Transient) -> None:
            with pytest.raises(ShardError) as raised:
                await transient.finish()
            told.append(str(raised.value))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiter, transient)
            await trio.testing.wait_all_tasks_blocked()
            transient.end(Failure(ErrorClass.BUSY, "stopping"))
        assert told == ["stopping"]


async def test_where_a_transient_is_can_be_told_before_it_is_there(tmp_path: Path) -> None:
    mount = RemoteMount(Server(random_data(3)))
    fingerprint = await mount.look(Environment())
    async with transients_at(tmp_path) as (transients, _):
        due = transients.access_for("key", fingerprint)
        assert isinstance(due, TransientAccess)
        async with transients.use("key", [mount], fingerprint) as transient:
            assert transient.access == due
        assert transients.access_for("key", Fingerprint(3 * CHUNK)) != due
