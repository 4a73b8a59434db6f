"""Taking shards in: many at once cost few transactions, and each gets its own answer once it is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from agent.catalogue import Catalogue
from agent.dagstore.failures import ErrorClass, Failure, ShardError
from agent.dagstore.records import ShardRow, Transition
from agent.dagstore.registering import IN_ONE_TRANSACTION, MAX_REPLICAS, Registration
from tests.agent.cars import write_broken_car, write_car
from tests.agent.stores import LocalWorkers, dagstore_at
from tests.conftest import ExpectWarning


class CountingStore(Catalogue):
    """A catalogue that counts its transactions, and refuses those with a certain key."""

    transactions = 0
    full_for = ""

    def put_new(self, changes: Sequence[tuple[ShardRow, Transition]]) -> None:
        self.transactions += 1
        if any(row.key == self.full_for for row, _ in changes):
            raise ShardError(ErrorClass.NO_SPACE, "disk full")
        super().put_new(changes)


def lazy(count: int, path: Path) -> list[Registration]:
    return [Registration(f"{number:04}", str(path), lazy=True) for number in range(count)]


async def test_what_is_registered_in_one_turn_is_one_transaction(tmp_path: Path) -> None:
    with closing(CountingStore.open(tmp_path / "carfs.db")) as store:
        async with dagstore_at(tmp_path, store=store) as dagstore:
            async with trio.open_nursery() as nursery:
                for one in lazy(100, tmp_path / "x.car"):
                    nursery.start_soon(partial(dagstore.register, one.key, one.url, lazy=True))
            assert isinstance(store, CountingStore)
            assert (store.transactions, len(store.shards())) == (1, 100)


async def test_nobody_is_answered_before_it_is_on_disk(tmp_path: Path) -> None:
    with closing(Catalogue.open(tmp_path / "carfs.db")) as store:
        async with dagstore_at(tmp_path, store=store) as dagstore:
            for one in lazy(3, tmp_path / "x.car"):
                await dagstore.register(one.key, one.url, lazy=True)
                assert store.row(one.key) is not None


async def test_many_are_written_a_few_at_a_time_and_all_are_there_afterwards(tmp_path: Path) -> None:
    count = 3 * IN_ONE_TRANSACTION + 1
    with closing(CountingStore.open(tmp_path / "carfs.db")) as store:
        async with dagstore_at(tmp_path, store=store) as dagstore:
            assert await dagstore.register_all(lazy(count, tmp_path / "x.car")) == [None] * count
        assert isinstance(store, CountingStore)
        assert store.transactions == 4
    async with dagstore_at(tmp_path) as dagstore:
        assert dagstore.list_keys() == [one.key for one in lazy(count, tmp_path)]


async def test_one_that_cannot_be_taken_in_does_not_keep_the_others_out(tmp_path: Path) -> None:
    url = str(tmp_path / "x.car")
    given = [("a", url), ("", url), ("b", "odd://x"), ("a", url), ("full", url), ("c", url)]
    with closing(CountingStore.open(tmp_path / "carfs.db")) as store:
        assert isinstance(store, CountingStore)
        store.full_for = "full"
        async with dagstore_at(tmp_path, store=store) as dagstore:
            failures = await dagstore.register_all([Registration(*one, lazy=True) for one in given])
            classes = [failure and failure.error_class.value for failure in failures]
            assert classes == [None, "invalid", "invalid", "exists", "no-space", None]
            assert dagstore.list_keys() == ["a", "c"]
            store.full_for = ""
            assert await dagstore.register_all([Registration("full", url, lazy=True)]) == [None]


async def test_a_registration_whose_caller_has_gone_stays(tmp_path: Path) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        with trio.CancelScope() as scope:
            scope.cancel()
            await dagstore.register("x", str(write_car(tmp_path / "x.car")), wait=True)
        while "x" not in dagstore.list_keys():
            await trio.lowlevel.checkpoint()
        assert (await dagstore.acquire("x")).refs == 1


async def test_whoever_registers_while_the_agent_stops_is_told_so(tmp_path: Path) -> None:
    async def late() -> None:
        with pytest.raises(ShardError, match="the agent is stopping"):
            await dagstore.register("x", str(tmp_path / "x.car"))

    async with trio.open_nursery() as nursery, dagstore_at(tmp_path) as dagstore:
        nursery.start_soon(late)
        await trio.lowlevel.checkpoint()
        dagstore.stop()


async def test_a_copy_that_the_user_has_already_is_read_in_place_of_the_url(tmp_path: Path) -> None:
    copy = write_car(tmp_path / "copy.car")
    async with dagstore_at(tmp_path) as dagstore:
        url = f"file://{tmp_path}/not-there.car"
        await dagstore.register("x", url, wait=True, existing_transient=str(copy))
        await dagstore.register("y", url, lazy=True, existing_transient=str(copy))
        record = await dagstore.acquire("y")
        assert (record.url, record.path, record.existing_transient) == (url, str(copy), str(copy))
        assert dagstore.record("x").blocks == 3
        await dagstore.destroy("x")
    assert copy.exists()


async def test_m4_a_copy_of_the_users_that_went_is_replaced_by_the_url_and_never_removed_by_us(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("AVAILABLE -> RECOVERING: the local copy is gone")
    copy, original = write_car(tmp_path / "copy.car"), write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.register("x", str(original), wait=True, existing_transient=str(copy))
        copy.unlink()
        record = await dagstore.acquire("x")
        assert (record.path, record.existing_transient) == (str(original), None)


async def test_replicas_are_kept_in_order_and_in_canonical_form(tmp_path: Path) -> None:
    replicas = [str(tmp_path / "b c.car"), f"file://localhost{tmp_path}/a.car"]
    expected = (f"file://{tmp_path}/b%20c.car", f"file://{tmp_path}/a.car")
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.register("x", str(tmp_path / "x.car"), lazy=True, replicas=replicas)
    async with dagstore_at(tmp_path) as dagstore:
        assert dagstore.record("x").replicas == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"replicas": ["odd://x"]},
        {"replicas": ["/x"] * (MAX_REPLICAS + 1)},
        {"existing_transient": "relative"},
    ],
    ids=["unknown scheme", "too many", "relative copy"],
)
async def test_what_makes_no_sense_is_refused_and_nothing_kept(
    tmp_path: Path, wrong: dict[str, object]
) -> None:
    async with dagstore_at(tmp_path) as dagstore:
        with pytest.raises(ShardError) as raised:
            await dagstore.register("x", str(tmp_path / "x.car"), **wrong)  # type: ignore[arg-type]  # on purpose
        assert (raised.value.error_class, dagstore.list_keys()) == (ErrorClass.INVALID, [])


async def test_a_key_whose_old_index_is_still_being_removed_gets_one_of_its_own(tmp_path: Path) -> None:
    """The name of an index holds when its shard was registered: nobody removes that of the next."""
    workers = LocalWorkers()
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        names = set()
        for _ in range(5):
            await dagstore.register("x", str(write_car(tmp_path / "x.car")), wait=True)
            names.add(dagstore.record("x").index_path)
            await dagstore.destroy("x")
        assert len(names) == 5


async def test_an_index_of_a_hundred_shards_is_made_at_most_so_many_at_once(tmp_path: Path) -> None:
    workers = LocalWorkers()
    workers.hold()
    path = write_car(tmp_path / "x.car")
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        eager = [Registration(f"{number:03}", str(path)) for number in range(100)]
        assert await dagstore.register_all(eager) == [None] * 100
        await wait_all_tasks_blocked()
        assert len(workers.begun) == 5
        assert len(dagstore.indexing()) == 100
        workers.gate.set()
        await dagstore.acquire("099")


async def test_whoever_needs_a_shard_now_does_not_wait_for_a_thousand_that_nobody_needs(
    tmp_path: Path,
) -> None:
    workers = LocalWorkers()
    workers.hold()
    path, wanted = write_car(tmp_path / "x.car"), write_car(tmp_path / "wanted.car")
    async with dagstore_at(tmp_path, workers=workers) as dagstore:
        await dagstore.register_all([Registration(str(number), str(path)) for number in range(50)])
        await dagstore.register("wanted", str(wanted))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dagstore.acquire, "wanted")
            await wait_all_tasks_blocked()
            workers.gate.set()
        assert workers.begun.index(str(wanted)) <= 10


async def test_a_broken_one_among_many_is_errored_and_the_others_are_not(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("shard bad: INITIALIZING -> ERRORED")
    good, bad = write_car(tmp_path / "x.car"), write_broken_car(tmp_path / "bad.car")
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.register_all([Registration("bad", str(bad)), Registration("good", str(good))])
        await dagstore.acquire("good")
        with pytest.raises(ShardError):
            await dagstore.acquire("bad")


def test_a_failure_says_whether_the_whole_origin_failed_and_is_equal_all_the_same() -> None:
    assert Failure(ErrorClass.GONE, "x", origin_failed=True) == Failure(ErrorClass.GONE, "x")
