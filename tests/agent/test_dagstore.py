"""What the dagstore promises to its callers; the defect numbers are those of Lotus' dagstore."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agent.catalogue import Catalogue
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.events import Hub
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.records import MAX_KEY_BYTES, ShardRecord, Transition
from agent.dagstore.registering import Registration
from carlib.blockstore import ReadOnlyBlockstore
from tests.agent.cars import CID, DATA, write_broken_car, write_car
from tests.agent.stores import LocalWorkers, StoreAround, dagstore_at, register
from tests.conftest import ExpectWarning

AVAILABLE, SERVING, ERRORED = "ShardStateAvailable", "ShardStateServing", "ShardStateErrored"
NEW, INITIALIZING, RECOVERING = "ShardStateNew", "ShardStateInitializing", "ShardStateRecovering"


def indices(path: Path) -> list[str]:
    return sorted(found.name for found in (path / "index").rglob("*") if found.is_file())


async def failure_of(dagstore: Dagstore, key: str) -> ErrorClass:
    with pytest.raises(ShardError) as raised:
        await dagstore.acquire(key)
    return raised.value.error_class


def assert_serves(record: ShardRecord) -> None:
    """The index that the record names finds the block in the file that it names."""
    assert record.path is not None and record.index_path is not None
    with ReadOnlyBlockstore.open(Path(record.path), index=Path(record.index_path)) as blocks:
        assert blocks.get(CID) == DATA


# Registering


async def test_a_registered_shard_becomes_available_and_its_index_serves_its_blocks(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", path)
        record = dagstore.record("x")
    assert (record.state, record.blocks, record.version, record.roots) == (AVAILABLE, 3, 1, (str(CID),))
    assert (record.size, record.data_size, record.data_offset) == (
        path.stat().st_size,
        path.stat().st_size,
        0,
    )
    assert [(line.before, line.after) for line in record.history] == [
        (NEW, INITIALIZING),
        (INITIALIZING, AVAILABLE),
    ]
    assert_serves(record)


async def test_registering_answers_when_the_record_is_on_disk_and_not_when_it_is_indexed(
    tmp_path: Path,
) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), wait=False)
        assert dagstore.record("x").state == INITIALIZING
    async with dagstore_at(tmp_path) as dagstore:
        assert dagstore.list_keys() == ["x"]


async def test_a_key_can_be_registered_once(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        before = dagstore.record("x")
        with pytest.raises(ShardError, match="exists already") as raised:
            await register(dagstore, "x", tmp_path / "y.car")
        assert raised.value.error_class is ErrorClass.EXISTS
        assert dagstore.record("x") == before


@pytest.mark.parametrize("key", ["", "x" * (MAX_KEY_BYTES + 1), "\udcff"])
async def test_what_cannot_be_a_key_is_refused(tmp_path: Path, key: str) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        with pytest.raises(ShardError) as raised:
            await register(dagstore, key, tmp_path / "x.car")
        assert raised.value.error_class is ErrorClass.INVALID
        assert dagstore.list_keys() == []


@pytest.mark.parametrize("key", ["a/../../b", "..", "/etc/passwd", "A", "a", "x" * MAX_KEY_BYTES, "é\n\0"])
async def test_m6_any_other_key_will_do(tmp_path: Path, key: str) -> None:
    """M-6: a `/` in a key made indexing fail."""
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, key, write_car(tmp_path / "x.car"))
        assert dagstore.record(key).state == AVAILABLE
    assert len(indices(tmp_path)) == 1


async def test_d12_a_missing_file_is_gone_and_a_damaged_one_corrupt(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    """D-12: errors were kept as text only."""
    expect_warning("INITIALIZING -> ERRORED")
    (tmp_path / "text").write_text("no CAR at all")
    write_broken_car(tmp_path / "cut.car")
    expected = {"none": ErrorClass.GONE, "text": ErrorClass.CORRUPT, "cut.car": ErrorClass.CORRUPT}
    async with dagstore_at(tmp_path) as dagstore:
        for name, error_class in expected.items():
            with pytest.raises(ShardError, match=name) as raised:
                await register(dagstore, name, tmp_path / name)
            assert raised.value.error_class is error_class
            record = dagstore.record(name)
            assert (record.state, record.error_class) == (ERRORED, error_class.value)
            assert record.error == str(raised.value)
    async with dagstore_at(tmp_path) as dagstore:
        assert {key: await failure_of(dagstore, key) for key in dagstore.list_keys()} == expected
    assert indices(tmp_path) == []


async def test_a_shard_recovers_when_its_file_was_repaired(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED")
    path = write_broken_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        with pytest.raises(ShardError):
            await register(dagstore, "x", path)
        with pytest.raises(ShardError):
            await dagstore.recover("x")
        write_car(path)
        await dagstore.recover("x")
        record = dagstore.record("x")
        assert (record.state, record.error, record.error_class, record.generation) == (AVAILABLE, "", "", 3)
        assert_serves(record)


async def test_operations_in_the_wrong_state_are_refused_in_lotus_words(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        with pytest.raises(ShardError, match=f"expected state {ERRORED}, was: {AVAILABLE}"):
            await dagstore.recover("x")
        with pytest.raises(ShardError, match=f"expected state {NEW}, was: {AVAILABLE}"):
            await dagstore.initialise("x")
        for operation in (dagstore.recover, dagstore.initialise, dagstore.acquire, dagstore.destroy):
            with pytest.raises(ShardError, match="shard not found: 'none'"):
                await operation("none")


async def test_a_lazy_shard_is_not_looked_at_before_it_is_used(tmp_path: Path) -> None:
    workers = LocalWorkers()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), lazy=True)
        await register(dagstore, "y", write_car(tmp_path / "y.car"), lazy=True)
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        assert (dagstore.record("x").state, workers.begun) == (NEW, [])
        assert_serves(await dagstore.acquire("x"))
        await dagstore.initialise("y")
        assert dagstore.counts() == {AVAILABLE: 1, SERVING: 1}


async def test_sixteen_who_come_at_once_cost_one_index(tmp_path: Path) -> None:
    workers = LocalWorkers()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), lazy=True)
        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(dagstore.acquire, "x")
        assert (dagstore.record("x").refs, len(workers.begun)) == (16, 1)


# References


async def test_references_are_counted_and_end_with_the_process(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        await dagstore.acquire("x")
        assert (await dagstore.acquire("x")).refs == 2
        dagstore.release("x")
        assert dagstore.record("x").state == SERVING
    async with dagstore_at(tmp_path) as dagstore:
        assert (dagstore.record("x").state, dagstore.record("x").refs) == (AVAILABLE, 0)


async def test_x1_a_cancelled_acquire_gives_back_what_it_took(tmp_path: Path) -> None:
    """D-5, X-1: a cancelled acquire left its reader open and its reference counted."""
    workers = LocalWorkers()
    workers.hold()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), wait=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dagstore.acquire, "x")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        workers.gate.set()
        assert (await dagstore.acquire("x")).refs == 1


async def test_m2_the_cancel_of_the_first_who_came_harms_nobody_else(tmp_path: Path) -> None:
    """M-2: the first caller's cancel failed all others."""
    workers = LocalWorkers()
    workers.hold()
    first_scope = trio.CancelScope()
    records: list[ShardRecord] = []

    async def first() -> None:
        with first_scope:
            await dagstore.acquire("x")

    async def second() -> None:
        records.append(await dagstore.acquire("x"))

    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), lazy=True)
        async with trio.open_nursery() as nursery:
            for come in (first, second):
                nursery.start_soon(come)
                await wait_all_tasks_blocked()
            first_scope.cancel()
            await wait_all_tasks_blocked()
            workers.gate.set()
    assert [record.refs for record in records] == [1]


async def test_all_who_wait_get_the_same_answer_once(tmp_path: Path, expect_warning: ExpectWarning) -> None:
    expect_warning("ERRORED")
    workers = LocalWorkers()
    workers.hold()
    answers: list[str] = []

    async def acquire(dagstore: Dagstore) -> None:
        with pytest.raises(ShardError) as raised:
            await dagstore.acquire("x")
        answers.append(str(raised.value))

    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_broken_car(tmp_path / "x.car"), wait=False)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(acquire, dagstore)
            await wait_all_tasks_blocked()
            workers.gate.set()
        assert answers == [dagstore.record("x").error] * 5


async def test_stopping_answers_all_who_wait(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), wait=False)
        async with trio.open_nursery() as nursery:

            async def acquire() -> None:
                assert await failure_of(dagstore, "x") is ErrorClass.BUSY

            nursery.start_soon(acquire)
            await wait_all_tasks_blocked()
            dagstore.stop()
        assert await failure_of(dagstore, "x") is ErrorClass.BUSY
    assert workers.cancelled == 1


def descriptors() -> set[str]:
    """What this process has open, by what it leads to; threads' and trio's own come and go, and so do those of the
    inverted index, which is made in the background."""
    gc.collect()  # of tests before: what is mapped is closed when nobody can read it any more
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except OSError:  # closed since
            continue
    return {one for one in found if "/proc/" not in one and "/inverted/" not in one}


async def test_d5_acquires_that_are_cancelled_at_any_moment_leave_nothing_open(tmp_path: Path) -> None:
    """D-5: twenty cancelled acquires left twenty readers open."""
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        await dagstore.acquire("x")
        before = descriptors()
        for checkpoints in range(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(dagstore.acquire, "x")
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert descriptors() == before


async def test_d9_stopping_ends_the_index_of_a_lazy_shard_too(tmp_path: Path) -> None:
    """D-9: it was made in the background, and closing the store neither ended nor awaited it."""
    workers = LocalWorkers()
    workers.hold()
    async with trio.open_nursery() as nursery:
        async with dagstore_at(tmp_path, workers=workers) as dagstore:
            await register(dagstore, "x", write_car(tmp_path / "x.car"), lazy=True)

            async def acquire() -> None:
                assert await failure_of(dagstore, "x") is ErrorClass.BUSY

            nursery.start_soon(acquire)
            await wait_all_tasks_blocked()
        assert (len(workers.begun), workers.cancelled) == (1, 1)
    assert [name for name in indices(tmp_path) if name.endswith(".idx")] == []


async def test_d10_of_shards_that_have_nothing_to_remove_nothing_is_said(tmp_path: Path) -> None:
    """D-10: each shard that is used in place was reported as collected."""
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        assert list(await dagstore.gc()) == []


async def test_d11_listing_a_thousand_shards_leaves_others_their_turn(tmp_path: Path) -> None:
    """D-11: everything was in memory and copied at once; here rows are read when they are needed."""
    async with dagstore_at(tmp_path) as dagstore:
        path = str(tmp_path / "x.car")
        await dagstore.register_all([Registration(f"{number:04}", path, lazy=True) for number in range(1000)])
        assert not hasattr(dagstore._shards["0000"], "__dict__")
        assert dagstore.lives()[500][1] is dagstore.lives()[501][1]
        assert dagstore.record("0999").url == f"file://{path}"


async def test_x4_what_could_not_be_registered_is_said_and_can_be_registered_again(tmp_path: Path) -> None:
    """X-4: a migration was marked as complete though some of it had failed, and could not be run again."""
    path = str(tmp_path / "x.car")
    shards = [Registration("a", path, lazy=True), Registration("b", "odd://x", lazy=True)]
    async with dagstore_at(tmp_path) as dagstore:
        first = await dagstore.register_all(shards)
        assert [one and one.error_class.value for one in first] == [None, "invalid"]
        second = await dagstore.register_all([shards[0], Registration("b", path, lazy=True)])
        assert [one and one.error_class.value for one in second] == ["exists", None]


# Destroying


async def test_destroying_removes_record_and_index_and_leaves_the_data(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", path)
        await dagstore.destroy("x")
        assert (dagstore.list_keys(), indices(tmp_path), path.exists()) == ([], [], True)
    async with dagstore_at(tmp_path) as dagstore:
        assert dagstore.list_keys() == []
        await register(dagstore, "x", path)


async def test_d3_destroying_what_is_leased_is_refused_and_keeps_its_record(tmp_path: Path) -> None:
    """D-3: a refused destroy deleted the persisted record."""
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        await dagstore.acquire("x")
        with pytest.raises(ShardError, match="active references: 1") as raised:
            await dagstore.destroy("x")
        assert raised.value.error_class is ErrorClass.BUSY
    async with dagstore_at(tmp_path) as dagstore:
        assert dagstore.record("x").state == AVAILABLE


async def test_d4_destroying_while_indexing_cancels_the_work_and_nothing_comes_back(tmp_path: Path) -> None:
    """D-4: the work went on, and its end brought the shard back; parked acquirers waited for ever."""
    workers = LocalWorkers()
    workers.hold()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), wait=False)
        async with trio.open_nursery() as nursery:

            async def acquire() -> None:
                assert await failure_of(dagstore, "x") is ErrorClass.NOT_FOUND

            nursery.start_soon(acquire)
            await wait_all_tasks_blocked()
            await dagstore.destroy("x")
        assert (workers.cancelled, indices(tmp_path), dagstore.list_keys()) == (1, [], [])
    async with dagstore_at(tmp_path) as dagstore:
        assert dagstore.list_keys() == []


async def test_destroying_removes_the_index_though_the_caller_is_cancelled(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        with trio.CancelScope() as scope:
            scope.cancel()
            await dagstore.destroy("x")
        assert (dagstore.list_keys(), indices(tmp_path)) == ([], [])


async def test_a_key_can_be_used_again_while_the_old_work_still_ends(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), wait=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dagstore.destroy, "x")
            await wait_all_tasks_blocked()
            workers.gate.set()
            await register(dagstore, "x", write_car(tmp_path / "y.car", blocks=5))
        assert_serves(dagstore.record("x"))
        assert dagstore.record("x").blocks == 5


async def test_d6_looking_at_all_shards_while_they_are_destroyed_hangs_nobody(tmp_path: Path) -> None:
    """D-6: AllShardsInfo against DestroyShard froze the store within a few rounds."""
    async with dagstore_at(tmp_path) as dagstore:
        for number in range(20):
            await register(dagstore, str(number), write_car(tmp_path / "x.car"), lazy=True)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(dagstore.destroy, str(number))
                while dagstore.list_keys():
                    assert [dagstore.record(key).key for key in dagstore.list_keys()] == dagstore.list_keys()
                    await trio.lowlevel.checkpoint()


# Data that changes


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


async def test_a_file_that_changed_is_not_served_with_the_old_index(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("AVAILABLE -> RECOVERING: the data changed since it was indexed: size")
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", path)
        old = dagstore.record("x").index_path
        write_car(path, blocks=50)
        record = await dagstore.acquire("x")
        assert (record.blocks, record.state, record.generation) == (50, SERVING, 2)
        assert record.index_path != old
        assert "size" in record.history[-2].reason
        assert_serves(record)
    assert len(indices(tmp_path)) == 1


async def test_a_file_that_changed_while_the_agent_was_down_is_indexed_again_at_the_start(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("RECOVERING: the data changed")
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", path)
    touch(path)
    hub = Hub(buffer=10)
    news = hub.subscribe(lambda: None)
    async with dagstore_at(tmp_path, hub=hub) as dagstore:
        while dagstore.record("x").generation == 1 or dagstore.record("x").state != AVAILABLE:
            await news.wait_changed()
        assert_serves(dagstore.record("x"))


async def test_a_file_that_vanished_is_gone_and_comes_back_by_recovering(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("AVAILABLE -> ERRORED: .*x.car: No such file")
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", path)
        path.rename(tmp_path / "elsewhere")
        assert await failure_of(dagstore, "x") is ErrorClass.GONE
        (tmp_path / "elsewhere").rename(path)
        await dagstore.recover("x")
        assert_serves(await dagstore.acquire("x"))


async def test_a_file_that_comes_back_unchanged_is_served_again_without_indexing(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    """A disk that was mounted too late must not cost an operator a `recover-shard` for each of its shards."""
    expect_warning("AVAILABLE -> ERRORED: .*x.car: No such file")
    path = write_car(tmp_path / "x.car")
    workers = LocalWorkers()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", path)
        path.rename(tmp_path / "elsewhere")
        for _ in range(2):
            assert await failure_of(dagstore, "x") is ErrorClass.GONE
        (tmp_path / "elsewhere").rename(path)
        record = await dagstore.acquire("x")
        assert (record.generation, record.history[-1].event, len(workers.begun)) == (1, "Returned", 1)
        assert_serves(record)


async def test_a_file_that_comes_back_changed_stays_errored(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("AVAILABLE -> ERRORED")
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", path)
        path.unlink()
        assert await failure_of(dagstore, "x") is ErrorClass.GONE
        write_car(path, blocks=9)
        assert await failure_of(dagstore, "x") is ErrorClass.GONE
        await dagstore.recover("x")
        assert dagstore.record("x").blocks == 9


async def test_a_file_that_changes_under_its_readers_is_indexed_again_and_they_keep_their_references(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("SERVING -> RECOVERING")
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", path)
        await dagstore.acquire("x")
        touch(path)
        assert (await dagstore.acquire("x")).refs == 2


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"short")])
@pytest.mark.parametrize("restart", [True, False])
async def test_i1_an_index_that_is_missing_or_cut_is_made_again(
    tmp_path: Path, damage: object, restart: bool, expect_warning: ExpectWarning
) -> None:
    """I-1: whatever lay under the index's name was taken for the index."""
    expect_warning("AVAILABLE -> RECOVERING: its index file")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
        index = Path(dagstore.record("x").index_path or "")
        if not restart:
            damage(index)  # type: ignore[operator]  # one of two functions of a path
            assert_serves(await dagstore.acquire("x"))
    if restart:
        damage(index)  # type: ignore[operator]
        async with dagstore_at(tmp_path) as dagstore:
            assert_serves(await dagstore.acquire("x"))


class FullDisk(StoreAround):
    """A catalogue that has no room for the next write of an event."""

    def __init__(self, store: Catalogue, event: str) -> None:
        super().__init__(store)
        self.event = event

    def around(self, write: Callable[[], None], lines: Sequence[Transition]) -> None:
        if any(line.event == self.event for line in lines):
            self.event = ""
            raise ShardError(ErrorClass.NO_SPACE, "disk full")
        write()


async def test_a_registration_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "carfs.db")) as catalogue:
        async with dagstore_at(tmp_path, store=FullDisk(catalogue, "Initialise")) as dagstore:
            with pytest.raises(ShardError) as raised:
                await register(dagstore, "x", write_car(tmp_path / "x.car"))
            assert raised.value.error_class is ErrorClass.NO_SPACE
            assert dagstore.list_keys() == []
            await register(dagstore, "x", tmp_path / "x.car")


async def test_d11_an_outcome_that_does_not_fit_on_the_disk_is_an_error_that_can_be_recovered(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    """D-11: a failure to persist was logged, and memory went on as if nothing had happened."""
    expect_warning("shard x: disk full; it is out of use until it is recovered")
    with closing(Catalogue.open(tmp_path / "carfs.db")) as catalogue:
        async with dagstore_at(tmp_path, store=FullDisk(catalogue, "Indexed")) as dagstore:
            with pytest.raises(ShardError) as raised:
                await register(dagstore, "x", write_car(tmp_path / "x.car"))
            assert raised.value.error_class is ErrorClass.NO_SPACE
            assert dagstore.record("x").state == ERRORED
            assert [life.failure for _, life in dagstore.lives()] == [raised.value.failure]
            await dagstore.recover("x")
            assert_serves(await dagstore.acquire("x"))
    assert len(indices(tmp_path)) == 1


# Restarting


async def test_d1_what_was_being_indexed_is_indexed_after_a_restart(tmp_path: Path) -> None:
    """D-1 for Initializing."""
    workers = LocalWorkers()
    workers.hold()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"), wait=False)
    async with dagstore_at(tmp_path) as dagstore:
        record = await dagstore.acquire("x")
        assert record.history[1].event == "Restarted"
        assert_serves(record)


async def test_d1_what_was_recovering_recovers_after_a_restart(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    """D-1: Recovering at shutdown was never resumed; acquirers parked for ever."""
    expect_warning("ERRORED")
    path = write_broken_car(tmp_path / "x.car")
    workers = LocalWorkers()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        with pytest.raises(ShardError):
            await register(dagstore, "x", path)
        workers.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dagstore.recover, "x")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    write_car(path)
    async with dagstore_at(tmp_path) as dagstore:
        assert dagstore.record("x").state == RECOVERING
        assert_serves(await dagstore.acquire("x"))


async def test_m5_odd_paths_survive_a_restart(tmp_path: Path) -> None:
    """M-5: the shard was silently gone."""
    names = ["a b", "50%", "#?", os.fsdecode(b"\xff"), "é"]
    async with dagstore_at(tmp_path) as dagstore:
        for number, name in enumerate(names):
            await register(dagstore, str(number), write_car(tmp_path / name))
    async with dagstore_at(tmp_path) as dagstore:
        for number in range(len(names)):
            assert (await dagstore.acquire(str(number))).state == SERVING
        assert dagstore.record("3").path is None
        assert dagstore.record("3").url.endswith("/%FF")


async def test_indices_that_no_record_names_are_swept_and_other_files_stay(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "x", write_car(tmp_path / "x.car"))
    (kept,) = indices(tmp_path)
    (tmp_path / "index" / kept.replace(".1.", ".2.")).write_bytes(b"orphan")
    (tmp_path / "index" / "note.txt").write_bytes(b"somebody else's")
    async with dagstore_at(tmp_path):
        assert indices(tmp_path) == sorted([kept, "note.txt"])


async def test_a_hundred_shards_come_back_as_they_were(tmp_path: Path) -> None:
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        for number in range(100):
            await register(dagstore, f"{number:03}", path)
        for number in range(20):
            await dagstore.acquire(f"{number:03}")
        for number in range(80, 100):
            await dagstore.destroy(f"{number:03}")
    async with dagstore_at(tmp_path) as dagstore:
        assert dagstore.list_keys() == [f"{number:03}" for number in range(80)]
        assert dagstore.counts() == {AVAILABLE: 80}


async def test_what_is_in_memory_is_what_a_restart_finds(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("ERRORED")
    async with dagstore_at(tmp_path) as dagstore:
        await register(dagstore, "available", write_car(tmp_path / "x.car"))
        await register(dagstore, "new", tmp_path / "x.car", lazy=True)
        with pytest.raises(ShardError):
            await register(dagstore, "errored", tmp_path / "none")
        before = [dagstore.record(key) for key in dagstore.list_keys()]
    async with dagstore_at(tmp_path) as dagstore:
        assert [dagstore.record(key) for key in dagstore.list_keys()] == before
