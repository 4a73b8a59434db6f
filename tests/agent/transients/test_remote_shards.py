"""Shards whose data are elsewhere, in the dagstore: indexed from a few chunks, read as they are asked for, kept."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from agent.dagstore import mounts
from agent.dagstore.access import Access, FileAccess, SectorAccess, TransientAccess, open_source
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.leases import Leases
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.settings import DagstoreConfig
from agent.dagstore.transients import GcResult
from carlib import indexing
from carlib.cid import Cid
from carlib.index import INDEX_SORTED, MULTIHASH_INDEX_SORTED
from carlib.options import WriteOptions
from carlib.piece.fr32 import pad
from carlib.writer import creating
from tests.agent.cars import write_car
from tests.agent.stores import BY_HAND, dagstore_at
from tests.agent.test_indexers import payload, write_aggregate
from tests.agent.transients.remote import CHUNK, RemoteMount, Server
from tests.conftest import ExpectWarning

BLOCKS = [(Cid.of(data), data) for data in (bytes([number]) * (300_000 + number) for number in range(60))]
AWAY = ShardError(ErrorClass.GONE, "nobody answers", origin_failed=True)


def write_v2(
    path: Path, blocks: list[tuple[Cid, bytes]] = BLOCKS, *, codec: int = MULTIHASH_INDEX_SORTED
) -> bytes:
    with creating(path, WriteOptions(version=2, index_codec=codec), roots=(blocks[0][0],)) as writer:
        for cid, data in blocks:
            writer.put(cid, data)
        writer.finish((blocks[0][0],))
    return path.read_bytes()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with a CARv2 of 18 MB, at `test:/remote`."""
    server = Server(write_v2(tmp_path / "x.car"))
    monkeypatch.setitem(mounts.SCHEMES, "test", lambda url: RemoteMount(server, url))
    return server


async def register(dagstore: Dagstore, key: str = "key", **more: str) -> None:
    await dagstore.register(key, "test:/remote", wait=True, **more)  # type: ignore[arg-type]  # options of each test


def access_of(dagstore: Dagstore, key: str = "key") -> TransientAccess:
    access = dagstore.record(key).access
    assert isinstance(access, TransientAccess)
    return access


async def read(dagstore: Dagstore, offset: int, length: int, *, key: str = "key") -> bytes:
    """As the mount reads it: in a thread, through the access of the record."""

    def ensure(offset: int, length: int) -> None:
        trio.from_thread.run(dagstore.fetch_range, key, offset, length)

    def pread() -> bytes:
        source = open_source(access_of(dagstore, key), ensure)
        try:
            return source.pread(offset, length)
        finally:
            source.close()

    return await trio.to_thread.run_sync(pread)


async def test_a_carv2_is_available_after_a_few_requests_with_its_own_index(
    tmp_path: Path, server: Server
) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        record = dagstore.record("key")
    indexing.build(tmp_path / "x.car", tmp_path / "expected")
    assert record.index_path is not None
    assert Path(record.index_path).read_bytes() == (tmp_path / "expected").read_bytes()
    assert (record.state, record.blocks, record.version) == ("ShardStateAvailable", 60, 2)
    assert record.path is None
    assert record.fingerprint is not None
    assert record.fingerprint.etag == '"1"'
    assert server.sent_bytes < 14 * CHUNK


async def test_a_carv1_is_scanned_by_hops(tmp_path: Path, server: Server) -> None:
    car = tmp_path / "one.car"
    with creating(car, WriteOptions(version=1), roots=(BLOCKS[0][0],)) as writer:
        for cid, data in BLOCKS:
            writer.put(cid, data)
        writer.finish((BLOCKS[0][0],))
    server.data = car.read_bytes()
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        assert dagstore.record("key").blocks == 60
    assert server.sent_bytes < 0.7 * len(server.data)


async def test_an_index_that_was_taken_over_tells_which_blocks_there_are(
    tmp_path: Path, server: Server
) -> None:
    """One without hash codes, too."""
    for codec in (INDEX_SORTED, MULTIHASH_INDEX_SORTED):
        server.data = write_v2(tmp_path / "x.car", codec=codec)
        async with dagstore_at(tmp_path) as dagstore:
            await register(dagstore)
            assert await dagstore.lookup(BLOCKS[7][0]) == ["key"]
            assert await dagstore.lookup(Cid.of(b"none")) == []
            assert dagstore.record("key").index_codec == codec
            await dagstore.destroy("key")
            assert await dagstore.lookup(BLOCKS[7][0]) == []


async def test_a_remote_aggregate_is_indexed_as_one_that_lies_here(tmp_path: Path, server: Server) -> None:
    parts = [payload(tmp_path, b"one"), payload(tmp_path, b"two", version=2)]
    piece = write_aggregate(tmp_path / "piece", parts, 1 << 20)
    server.data = piece.read_bytes()
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, indexer="aggregate")
        await dagstore.register("here", str(piece), wait=True, indexer="aggregate")
        remote, local = dagstore.record("key"), dagstore.record("here")
        assert remote.index_path is not None
        assert local.index_path is not None
        assert Path(remote.index_path).read_bytes() == Path(local.index_path).read_bytes()
        assert (remote.blocks, remote.roots) == (local.blocks, local.roots)
        assert sorted(await dagstore.lookup(Cid.of(b"two"))) == ["here", "key"]
    assert set(server.given.values()) == {1}


async def test_the_index_in_the_first_car_of_a_remote_aggregate_is_not_taken_for_that_of_all(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED")
    parts = [payload(tmp_path, b"one", version=2), payload(tmp_path, b"two")]
    server.data = write_aggregate(tmp_path / "piece", parts).read_bytes()
    async with dagstore_at(tmp_path) as dagstore:
        with pytest.raises(ShardError, match="begins with a CARv2") as raised:
            await register(dagstore, indexer="aggregate")
        assert raised.value.error_class is ErrorClass.CORRUPT


async def test_what_is_asked_for_is_fetched_and_is_what_the_server_has(
    tmp_path: Path, server: Server
) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        await dagstore.acquire("key")
        before = server.sent_bytes
        assert await read(dagstore, 40 * CHUNK + 7, 1000) == server.data[40 * CHUNK + 7 :][:1000]
        assert server.sent_bytes - before <= CHUNK
        dagstore.release("key")


async def test_a_folder_of_transients_that_was_removed_under_the_agent_is_made_anew(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    """What is lost is fetched again, by who reads already and by who comes."""
    expect_warning("was removed by somebody")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        await dagstore.acquire("key")
        path = Path(access_of(dagstore).data)
        assert await read(dagstore, 40 * CHUNK, 1000) == server.data[40 * CHUNK :][:1000]

        def ensure(offset: int, length: int) -> None:
            trio.from_thread.run(dagstore.fetch_range, "key", offset, length)

        with closing(open_source(access_of(dagstore), ensure)) as source:
            shutil.rmtree(path.parent)
            for chunk in (40, 60):
                got = await trio.to_thread.run_sync(source.pread, chunk * CHUNK, 1000)
                assert got == server.data[chunk * CHUNK :][:1000]
        assert await read(dagstore, 40 * CHUNK, 1000) == server.data[40 * CHUNK :][:1000]
        dagstore.release("key")


async def test_who_waits_for_bytes_of_a_transient_that_is_removed_gets_them_all_the_same(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("was removed by somebody")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        await dagstore.acquire("key")
        server.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dagstore.fetch_range, "key", 40 * CHUNK, 1)
            await trio.testing.wait_all_tasks_blocked()
            shutil.rmtree(Path(access_of(dagstore).data).parent)
            nursery.start_soon(dagstore.fetch_range, "key", 60 * CHUNK, 1)
            await trio.testing.wait_all_tasks_blocked()
            server.gate.set()
        dagstore.release("key")


async def test_a_server_that_lied_while_a_shard_was_indexed_is_believed_when_it_is_recovered(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    """The wrong bytes are in the transient, and what says whether data have changed is the same."""
    expect_warning("INITIALIZING -> ERRORED")
    right, server.data = server.data, bytes(len(server.data))
    async with dagstore_at(tmp_path) as dagstore:
        with pytest.raises(ShardError) as raised:
            await register(dagstore)
        assert raised.value.error_class is ErrorClass.CORRUPT
        server.data = right
        await dagstore.recover("key")
        assert dagstore.record("key").blocks == len(BLOCKS)


async def test_ranges_are_fetched_for_sessions_that_hold_the_shard_alone(
    tmp_path: Path, server: Server
) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        leases = Leases(dagstore)
        session = leases.open("test")
        with pytest.raises(ShardError, match="does not hold") as raised:
            await leases.fetch_range(session, "key", 0, 1, again=False)
        assert raised.value.error_class is ErrorClass.DENIED
        await leases.acquire(session, "key")
        await leases.fetch_range(session, "key", 50 * CHUNK, 1, again=False)
        leases.close(session)


async def test_m10_an_index_that_was_cut_short_goes_on_with_what_was_fetched(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.hold()
    async with dagstore_at(tmp_path) as dagstore, trio.open_nursery() as nursery:
        nursery.start_soon(dagstore.register, "key", "test:/remote")
        await trio.testing.wait_all_tasks_blocked(0.01)
    server.gate.set()
    async with dagstore_at(tmp_path) as dagstore:
        while dagstore.record("key").state != "ShardStateAvailable":
            await trio.lowlevel.checkpoint()
        sent = server.sent_bytes
    async with dagstore_at(tmp_path) as dagstore:
        assert dagstore.transients().used_bytes > 0
        await dagstore.acquire("key")
        assert await read(dagstore, 0, 100) == server.data[:100]
    assert server.sent_bytes == sent
    assert set(server.given.values()) == {1}


async def test_d10_gc_reports_what_was_freed_and_says_nothing_of_local_shards(
    tmp_path: Path, server: Server
) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        await register(dagstore, "held")
        await dagstore.register("local", str(write_car(tmp_path / "local.car")), wait=True)
        await dagstore.acquire("held")
        before = dagstore.transients().used_bytes
        results = await dagstore.gc()
        freed = before - dagstore.transients().used_bytes
        assert freed > 4 * CHUNK
        assert results == [GcResult("key", True, "", freed)]
        dagstore.release("held")
        assert [result.key for result in await dagstore.gc()] == ["held"]
        await dagstore.acquire("key")
        assert await read(dagstore, 5, 100) == server.data[5:105]


async def test_m4_a_copy_that_the_user_brought_is_used_in_place_and_outlives_the_shard(
    tmp_path: Path, server: Server
) -> None:
    mine = tmp_path / "mine.car"
    mine.write_bytes(server.data)
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, existing_transient=str(mine))
        assert (await dagstore.acquire("key")).access == FileAccess(str(mine))
        dagstore.release("key")
        assert await dagstore.gc() == []
        await dagstore.destroy("key")
    assert mine.read_bytes() == server.data
    assert server.sent_bytes == 0
    assert list((tmp_path / "transients").iterdir()) == []


async def test_m4_when_the_copy_is_gone_the_data_come_from_the_mount(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("the local copy is gone")
    mine = tmp_path / "mine.car"
    mine.write_bytes(server.data)
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, existing_transient=str(mine))
        mine.unlink()
        assert isinstance((await dagstore.acquire("key")).access, TransientAccess)
        assert await read(dagstore, 9, 100) == server.data[9:109]


async def test_a_copy_that_was_changed_is_no_longer_taken_for_what_is_at_the_url(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("the local copy was changed, test:/remote takes its place: the data changed .*size")
    mine = tmp_path / "mine.car"
    mine.write_bytes(server.data)
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, existing_transient=str(mine))
        write_car(mine)
        record = await dagstore.acquire("key")
        assert isinstance(record.access, TransientAccess)
        assert (record.blocks, record.existing_transient) == (60, None)
        assert await read(dagstore, 9, 100) == server.data[9:109]
        assert [line.event for line in record.history][-2:] == ["Changed", "Indexed"]
    assert mine.exists()


async def test_a_copy_that_was_changed_is_indexed_where_it_is_all_there_is(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("RECOVERING: the data changed since it was indexed")
    mine = tmp_path / "mine.car"
    mine.write_bytes(server.data)
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, existing_transient=str(mine))
        write_car(mine, blocks=7)
        server.away = ShardError(ErrorClass.GONE, "the object is no longer there")
        record = await dagstore.acquire("key")
        assert (record.access, record.blocks) == (FileAccess(str(mine)), 7)


async def test_a_copy_whose_index_is_missing_is_indexed_again_and_kept(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("its index file is missing")
    mine = tmp_path / "mine.car"
    mine.write_bytes(server.data)
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, existing_transient=str(mine))
        Path(str(dagstore.record("key").index_path)).unlink()
        assert (await dagstore.acquire("key")).access == FileAccess(str(mine))
    assert server.looks == 0


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_server_that_says_when_to_come_back_is_left_alone_till_then(
    tmp_path: Path,
    server: Server,
    mock_clock: trio.testing.MockClock,
    expect_warning: ExpectWarning,
    is_late: bool,
) -> None:
    """Whether it says so when it is looked at, or in the middle of making the index."""
    expect_warning("ERRORED: .*overloaded")
    overloaded = mounts.TryLater("overloaded", after_s=40)
    if is_late:
        server.fail_late = [overloaded] * 9
    else:
        server.away = overloaded
    async with dagstore_at(tmp_path, settings=DagstoreConfig(breaker_failures=0)) as dagstore:
        with pytest.raises(ShardError, match="overloaded"):
            await register(dagstore)
        server.away, server.fail_late = None, []
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(39)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert dagstore.record("key").state == "ShardStateErrored"
        mock_clock.jump(2)
        while dagstore.record("key").state != "ShardStateAvailable":
            await trio.lowlevel.checkpoint()


async def test_d4_a_destroyed_shard_leaves_nothing_behind(tmp_path: Path, server: Server) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        assert len(list((tmp_path / "transients").iterdir())) == 2
        await dagstore.destroy("key")
        assert list((tmp_path / "transients").iterdir()) == []
        assert dagstore.transients().used_bytes == 0


async def test_data_that_change_are_an_error_to_readers_and_indexed_anew(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("the data changed since it was indexed")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        await dagstore.acquire("key")
        server.data, server.etag = write_v2(tmp_path / "y.car", BLOCKS[:40]), '"2"'
        with pytest.raises(ShardError, match="changed since it was looked at") as raised:
            await dagstore.fetch_range("key", 40 * CHUNK, 1)
        assert raised.value.error_class is ErrorClass.CORRUPT
        while dagstore.record("key").blocks != 40:
            await trio.lowlevel.checkpoint()
        assert await read(dagstore, 40 * CHUNK, 9) == server.data[40 * CHUNK :][:9]


async def test_while_the_server_is_away_what_was_fetched_is_read_and_the_rest_is_an_error(
    tmp_path: Path, server: Server
) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        server.away = AWAY
        await dagstore.acquire("key")
        assert await read(dagstore, 0, 100) == server.data[:100]
        with pytest.raises(ShardError, match="nobody answers"):
            await read(dagstore, 40 * CHUNK, 1)
        assert dagstore.record("key").state == "ShardStateServing"
        server.away = None
        assert await read(dagstore, 40 * CHUNK, 1) == server.data[40 * CHUNK :][:1]


async def test_nothing_of_it_here_and_the_server_away_a_shard_is_acquired_all_the_same(
    tmp_path: Path, server: Server
) -> None:
    """Ranges alone fail, until the server is back; that it gives none is found out then."""
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        await dagstore.gc()
        server.away = AWAY
        await dagstore.acquire("key")
        with pytest.raises(ShardError, match="nobody answers") as raised:
            await read(dagstore, 0, 1)
        assert raised.value.error_class is ErrorClass.GONE
        server.away, server.ranges = None, False
        assert await read(dagstore, 40 * CHUNK, 9) == server.data[40 * CHUNK :][:9]
        assert dagstore.record("key").state == "ShardStateServing"


@pytest.mark.parametrize("away", [AWAY, mounts.TryLater("overloaded")])
async def test_a_shard_that_could_not_be_indexed_anew_is_served_with_the_index_that_it_has(
    tmp_path: Path, server: Server, away: ShardError, expect_warning: ExpectWarning
) -> None:
    expect_warning(f"ERRORED: {away}")
    expect_warning("ERRORED: it is odd")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        dagstore.fail("key", Failure(ErrorClass.BUSY, "it is odd"))
        server.away = away
        with pytest.raises(ShardError, match=str(away)):
            await dagstore.recover("key")
        await dagstore.acquire("key")
        assert await read(dagstore, 0, 100) == server.data[:100]


async def test_an_origin_that_is_left_alone_keeps_no_shard_from_being_acquired(
    tmp_path: Path, server: Server
) -> None:
    settings = msgspec.structs.replace(BY_HAND, breaker_failures=1, breaker_pause_s=300)
    async with dagstore_at(tmp_path, settings=settings) as dagstore:
        await register(dagstore)
        server.away = AWAY
        await dagstore.acquire("key")
        await dagstore.gc()
        await dagstore.acquire("key")
        assert server.looks == 2  # the second was spared
        with pytest.raises(ShardError, match="is left alone") as raised:
            await read(dagstore, 40 * CHUNK, 1)
        assert raised.value.error_class is ErrorClass.BUSY


async def test_what_is_here_as_a_whole_needs_no_server_and_its_history_says_so_once(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("all of the data are here, and are read from here alone")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        await dagstore.complete("key", wait=True)
        server.away = ShardError(ErrorClass.GONE, "the object is no longer there")
        await dagstore.acquire("key")
        record = await dagstore.acquire("key")
        assert await read(dagstore, 0, len(server.data)) == server.data
    assert [line.event for line in record.history] == ["Initialise", "Indexed", "LastCopy"]
    assert record.history[-1].reason.endswith("the object is no longer there")


async def test_data_that_are_gone_and_not_here_as_a_whole_are_an_error(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("AVAILABLE -> ERRORED: the object is no longer there")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        server.away = ShardError(ErrorClass.GONE, "the object is no longer there")
        with pytest.raises(ShardError, match="no longer there"):
            await dagstore.acquire("key")
        record = dagstore.record("key")
    assert (record.state, record.error_class) == ("ShardStateErrored", "gone")


async def test_what_is_here_as_a_whole_is_indexed_anew_when_the_data_change(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("the data changed since it was indexed")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        await dagstore.complete("key", wait=True)
        server.data, server.etag = write_v2(tmp_path / "y.car", BLOCKS[:40]), '"2"'
        assert (await dagstore.acquire("key")).blocks == 40


async def test_data_that_were_looked_at_a_moment_ago_are_not_looked_at_again(
    tmp_path: Path, server: Server, mock_clock: trio.testing.MockClock, expect_warning: ExpectWarning
) -> None:
    expect_warning("the data changed since it was indexed")
    settings = msgspec.structs.replace(BY_HAND, remote_fresh_s=30)
    async with dagstore_at(tmp_path, settings=settings) as dagstore:
        await register(dagstore)
        await dagstore.acquire("key")
        looks, requests = server.looks, len(server.requests)
        server.data, server.etag = write_v2(tmp_path / "y.car", BLOCKS[:40]), '"2"'
        mock_clock.jump(29)
        assert (await dagstore.acquire("key")).blocks == 60
        assert (server.looks, len(server.requests)) == (looks, requests)
        mock_clock.jump(2)
        assert (await dagstore.acquire("key")).blocks == 40


async def test_an_index_that_is_missing_is_made_anew_however_fresh_the_data(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("its index file is missing")
    settings = msgspec.structs.replace(BY_HAND, remote_fresh_s=3600)
    async with dagstore_at(tmp_path, settings=settings) as dagstore:
        await register(dagstore)
        Path(str((await dagstore.acquire("key")).index_path)).unlink()
        assert Path(str((await dagstore.acquire("key")).index_path)).exists()


async def test_all_of_a_shard_is_fetched_in_the_background_if_asked(tmp_path: Path, server: Server) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        server.hold()
        await dagstore.complete("key")
        await dagstore.complete("key")
        await trio.testing.wait_all_tasks_blocked()
        (progress,) = dagstore.fetching()
        assert (progress.key, progress.total) == ("key", len(server.data))
        assert 0 < progress.done < progress.total
        server.gate.set()
        while dagstore.transients().used_bytes < len(server.data):
            await trio.lowlevel.checkpoint()
        await dagstore.complete("key", wait=True)
        with trio.fail_after(30):
            while dagstore.fetching():  # the one in the background hears of it in a turn of its own
                await trio.lowlevel.checkpoint()
    assert set(server.given.values()) == {1}


async def test_what_keeps_a_shard_from_being_whole_is_said(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("shard key could not be fetched as a whole: nobody answers; ask again")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        await dagstore.register("local", str(write_car(tmp_path / "local.car")), wait=True)
        with pytest.raises(ShardError, match="local: there is nothing to fetch"):
            await dagstore.complete("local", wait=True)
        server.fail = [AWAY] * 50
        with pytest.raises(ShardError, match="nobody answers"):
            await dagstore.complete("key", wait=True)
        await dagstore.complete("key")
        await trio.testing.wait_all_tasks_blocked(0.01)
        server.fail = []
        await dagstore.complete("key", wait=True)


async def test_a_quota_that_is_too_small_fails_the_shard_with_no_space(
    tmp_path: Path, server: Server, expect_warning: ExpectWarning
) -> None:
    expect_warning("no room for")
    settings = msgspec.structs.replace(BY_HAND, transients_max_bytes=CHUNK)
    async with dagstore_at(tmp_path, settings=settings) as dagstore:
        with pytest.raises(ShardError, match="no room for") as raised:
            await register(dagstore)
        assert raised.value.error_class is ErrorClass.NO_SPACE


async def test_what_is_too_much_goes_by_itself_after_a_while(
    tmp_path: Path, server: Server, mock_clock: trio.testing.MockClock
) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        used = dagstore.transients().used_bytes
        assert used > 2 * CHUNK
    settings = msgspec.structs.replace(BY_HAND, transients_max_bytes=2 * CHUNK, gc_interval_s=60)
    async with dagstore_at(tmp_path, settings=settings) as dagstore:
        assert dagstore.transients().used_bytes == used
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(61)
        while dagstore.transients().used_bytes:
            await trio.lowlevel.checkpoint()


async def test_a_piece_in_a_sector_is_indexed_and_read_in_place(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    car = write_car(tmp_path / "y.car", blocks=500).read_bytes()
    payload = car + bytes(127 * 512 - len(car))
    (tmp_path / "sector").write_bytes(bytes(1 << 16) + pad(payload))
    access = SectorAccess(str(tmp_path / "sector"), 1 << 16, len(car))
    server.data = car

    def in_place(mount: RemoteMount, environment: Environment | None = None) -> Access | None:
        return access

    monkeypatch.setattr(RemoteMount, "access", in_place)
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore)
        record = await dagstore.acquire("key")
        assert (record.access, record.blocks) == (access, 500)
        assert dagstore.transients().transients == 0
