"""The scrubber against real CARs and the real task: what is bad is found, named, kept and repaired."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from agent.dagstore.access import Access, FileAccess, RepairedAccess, open_source
from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.records import ShardRow
from agent.dagstore.scrub import schedule
from agent.dagstore.scrub.records import Depth, Outcome, ScrubEvent, Verdict
from agent.dagstore.scrub.schedule import DAY_S, ScrubConfig
from agent.scheduler.tasks import BACKGROUND_PRIORITY
from carlib.blockstore import ReadOnlyBlockstore
from carlib.container import read_container
from carlib.errors import HashMismatch
from carlib.index import Index
from carlib.source import FileSource
from tests.agent.scrub.worlds import BLOCKS, START_S, World, rot, section_of, write_car
from tests.conftest import ExpectWarning


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(schedule, "MAX_SLICE_BYTES", 1 << 20)
    return World(tmp_path)


@pytest.fixture
def car(tmp_path: Path) -> Path:
    return write_car(tmp_path / "a.car")


def verdict(events: list[ScrubEvent]) -> Verdict:
    assert events[-1].verdict is not None, events[-1]
    return events[-1].verdict


def blocks_through(world: World, access: Access) -> list[bytes]:
    """All blocks as a reader gets them."""
    source = open_source(access, lambda _offset, _length: None)
    index = FileSource(world.indices / "a.1.idx")
    with ReadOnlyBlockstore(source, read_container(source), Index.open(index), owned=(index,)) as blocks:
        return [blocks.get(cid) for cid, _ in BLOCKS]


@pytest.mark.parametrize("depth", Depth)
async def test_a_good_shard_is_good_to_every_depth(depth: Depth, world: World, car: Path) -> None:
    world.add("a", car)
    found = verdict(await world.verify("a", depth))
    assert (found.outcome, found.bad, found.depth) == (Outcome.GOOD, 0, depth)
    assert (found.links is not None) == (depth is Depth.FULL)
    state = world.store.scrub("a")
    assert (state.run, state.verdict, state.quarantined) == (None, found, ())
    assert set(state.verified) == {one.value for one in Depth if one.rank <= depth.rank}
    assert world.shards.quarantined == {}


async def test_a_flipped_bit_is_found_named_and_kept(
    world: World, car: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    expect_warning("damaged, 1 bad")
    world.add("a", car)
    offset, size = section_of(car, BLOCKS[7][0])
    rot(car, offset + 5000)
    events = await world.verify("a")
    (bad,) = [event.block for event in events if event.event == "bad"]
    assert bad is not None
    assert (bad.offset, bad.size, bad.cid) == (offset, size, str(BLOCKS[7][0]))
    assert (verdict(events).outcome, verdict(events).bad) == (Outcome.DAMAGED, 1)
    assert world.store.scrub("a").quarantined == (bad,)
    assert str(BLOCKS[7][0]) in world.shards.quarantined["a"]
    assert bad.run in world.shards.quarantined["a"]
    assert world.shards.condemned == []  # its other blocks can be read


async def test_a_bad_block_comes_from_a_replica_and_the_users_file_stays(
    world: World, car: Path, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    replica = write_car(tmp_path / "b.car")
    world.add("a", car, replicas=(replica,))
    offset, size = section_of(car, BLOCKS[7][0])
    rot(car, offset + 5000)
    damaged = car.read_bytes()
    events = await world.verify("a")
    (block,) = [event.block for event in events if event.event == "repaired"]
    assert block is not None
    assert (block.offset, block.repaired_from) == (offset, replica.as_uri())
    found = verdict(events)
    assert (found.outcome, found.bad, found.repaired) == (Outcome.REPAIRED, 0, 1)
    assert car.read_bytes() == damaged
    assert world.shards.quarantined["a"] == ""
    plain = FileAccess(str(car))
    with pytest.raises(HashMismatch):
        blocks_through(world, plain)
    async with world.scrubber() as scrubber:
        access = scrubber.readable("a", plain)
    assert isinstance(access, RepairedAccess)
    assert [(start, length) for start, length, _ in access.patches] == [(offset, size)]
    assert blocks_through(world, access) == [data for _, data in BLOCKS]


async def test_two_damaged_replicas_make_one_whole_shard(
    world: World, car: Path, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    expect_warning("not repaired: replica .*b.car")
    first, second = write_car(tmp_path / "b.car"), write_car(tmp_path / "c.car")
    world.add("a", car, replicas=(first, second))
    places = [section_of(car, BLOCKS[n][0])[0] for n in (3, 9)]
    for place in places:
        rot(car, place + 100)
    rot(first, places[0] + 200)
    rot(second, places[1] + 300)
    found = verdict(await world.verify("a"))
    assert (found.outcome, found.repaired) == (Outcome.REPAIRED, 2)
    urls = {one.offset: one.repaired_from for one in world.store.scrub("a").quarantined}
    assert urls == {places[0]: second.as_uri(), places[1]: first.as_uri()}


async def test_a_damaged_head_is_repaired_too_and_a_later_damage_is_added(
    world: World, car: Path, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    world.add("a", car, replicas=(write_car(tmp_path / "b.car"),))
    first, second = (section_of(car, BLOCKS[n][0])[0] for n in (20, 2))
    rot(car, first, 0x7F)
    assert verdict(await world.verify("a")).repaired == 1
    rot(car, second + 10)
    assert verdict(await world.verify("a")).repaired == 2
    async with world.scrubber() as scrubber:
        assert blocks_through(world, scrubber.readable("a", FileAccess(str(car)))) == [d for _, d in BLOCKS]


async def test_a_repair_that_rots_is_repaired_anew(
    world: World, car: Path, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    world.add("a", car, replicas=(write_car(tmp_path / "b.car"),))
    rot(car, section_of(car, BLOCKS[7][0])[0] + 5000)
    await world.verify("a")
    (name,) = [one.name for one in world.repairs.iterdir()]
    rot(world.repairs / name, 1000)
    assert verdict(await world.verify("a")).outcome is Outcome.REPAIRED
    async with world.scrubber() as scrubber:
        assert blocks_through(world, scrubber.readable("a", FileAccess(str(car)))) == [d for _, d in BLOCKS]


async def test_a_replica_of_other_bytes_is_not_believed(
    world: World, car: Path, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    expect_warning("damaged, 1 bad")
    expect_warning("replica .*short.car: it has 10 bytes")
    expect_warning("replica .*zeros.car: .* no whole section")
    (tmp_path / "short.car").write_bytes(b"0123456789")
    (tmp_path / "zeros.car").write_bytes(bytes(car.stat().st_size))
    world.add("a", car, replicas=(tmp_path / "short.car", tmp_path / "zeros.car"))
    rot(car, section_of(car, BLOCKS[7][0])[0] + 5000)
    found = verdict(await world.verify("a"))
    assert (found.outcome, found.bad, found.repaired) == (Outcome.DAMAGED, 1, 0)


async def test_a_run_that_was_cut_short_goes_on_where_it_was(world: World, car: Path) -> None:
    world.add("a", car)
    async with world.scrubber() as scrubber:
        events = scrubber.verify(["a"], depth=Depth.FULL)
        async for event in events:
            if event.done > 2 << 20:
                break
        await events.aclose()
    run = world.store.scrub("a").run
    assert run is not None
    assert 2 << 20 < run.position < car.stat().st_size
    begun = len(world.workers.begun)
    again = await world.verify("a")
    assert verdict(again).run == run.id
    assert min(event.done for event in again if event.done) >= run.position
    assert len(world.workers.begun) - begun < 6  # of seven slices and the links


async def test_other_data_begins_anew(world: World, car: Path) -> None:
    world.add("a", car)
    async with world.scrubber() as scrubber:
        events = scrubber.verify(["a"], depth=Depth.FULL)
        async for event in events:
            if event.done:
                break
        await events.aclose()
    kept = world.store.scrub("a").run
    assert kept is not None
    world.add("a", write_car(car, version=1))
    row = world.shards.rows["a"]
    assert row.index is not None
    (world.indices / "a.1.idx").rename(world.indices / "a.2.idx")
    facts = msgspec.structs.replace(row.index, name="a.2.idx")
    world.shards.rows["a"] = msgspec.structs.replace(row, index=facts, generation=2)
    found = verdict(await world.verify("a"))
    assert found.outcome is Outcome.GOOD
    assert found.run != kept.id


async def test_a_file_that_is_replaced_meanwhile_is_no_verdict_but_a_look(world: World, car: Path) -> None:
    world.add("a", car)
    car.write_bytes(b"something else")
    found = verdict(await world.verify("a"))
    assert (found.outcome, "size" in found.detail) == (Outcome.CHANGED, True)
    assert world.shards.looks == 2
    assert world.store.scrub("a").run is None


async def test_an_index_that_misleads_is_made_anew(world: World, car: Path) -> None:
    world.add("a", car)
    index = world.indices / "a.1.idx"
    rot(index, index.read_bytes().index(BLOCKS[3][0].digest) + 33)
    found = verdict(await world.verify("a", Depth.INDEX))
    assert found.outcome is Outcome.REBUILT
    assert "its index does not fit the data" in world.shards.distrusted[0]


async def test_an_index_that_cannot_be_read_is_made_anew(world: World, car: Path) -> None:
    for damage in (lambda path: path.write_bytes(b"\x81"), Path.unlink):
        world.add("a", car)
        damage(world.indices / "a.1.idx")
        world.store.rows.clear()
        assert verdict(await world.verify("a", Depth.STRUCTURE)).outcome is Outcome.REBUILT
    assert len(world.shards.distrusted) == 2


async def test_an_index_is_not_made_anew_for_ever(
    world: World, car: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("just made anew and does not fit the data")
    world.add("a", car)
    (world.indices / "a.1.idx").write_bytes(b"\x81")
    for _ in range(3):
        await world.verify("a", Depth.STRUCTURE)
    assert len(world.shards.distrusted) == 1


async def test_a_container_that_cannot_be_read_is_corrupt(world: World, car: Path) -> None:
    world.add("a", car)
    rot(car, 3)
    found = verdict(await world.verify("a", Depth.STRUCTURE))
    assert found.outcome is Outcome.BROKEN
    assert [failure.error_class for failure in world.shards.condemned] == [ErrorClass.CORRUPT]


async def test_a_sample_that_finds_nothing_is_good_and_one_that_does_looks_at_all(
    world: World, car: Path, expect_warning: ExpectWarning
) -> None:
    world.add("a", car)
    found = verdict(await world.verify("a", Depth.INDEX, sample=5))
    assert (found.outcome, found.blocks, found.sample) == (Outcome.GOOD, 5, 5)
    index = world.indices / "a.1.idx"
    rot(index, index.read_bytes().index(BLOCKS[3][0].digest) + 33)
    assert verdict(await world.verify("a", Depth.INDEX, sample=1000)).outcome is Outcome.REBUILT


async def test_blocks_that_are_good_again_leave_the_quarantine(
    world: World, car: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    expect_warning("damaged, 1 bad")
    world.add("a", car)
    place = section_of(car, BLOCKS[7][0])[0] + 5000
    rot(car, place)
    await world.verify("a")
    rot(car, place)
    assert (
        verdict(await world.verify("a", Depth.STRUCTURE)).outcome is Outcome.DAMAGED
    )  # it has read no block
    assert verdict(await world.verify("a")).outcome is Outcome.GOOD
    assert world.shards.quarantined["a"] == ""


async def test_a_shard_that_is_none_or_not_indexed_is_refused(world: World, car: Path) -> None:
    async with world.scrubber() as scrubber:
        with pytest.raises(ShardError, match="not found"):
            [event async for event in scrubber.verify(["b"], depth=Depth.FULL)]
    world.shards.rows["a"] = msgspec.structs.replace(world.add("a", car), state=ShardState.ERRORED)
    (event,) = [one for one in await world.verify("a") if one.event == "error"]
    assert (event.error_class, "expected state ShardStateAvailable" in event.error) == ("busy", True)


async def test_a_second_caller_joins_the_run(world: World, car: Path) -> None:
    world.add("a", car)
    seen: list[list[ScrubEvent]] = []
    async with world.scrubber() as scrubber, trio.open_nursery() as nursery:

        async def watch() -> None:
            seen.append([event async for event in scrubber.verify(["a"], depth=Depth.FULL)])

        nursery.start_soon(watch)
        nursery.start_soon(watch)
    assert verdict(seen[0]) == verdict(seen[1])


async def test_what_is_due_is_verified_and_what_is_not_waits(
    world: World, car: Path, autojump_clock: trio.testing.MockClock
) -> None:
    world.clock = lambda: START_S + trio.current_time()  # type: ignore[method-assign]
    world.add("a", car)
    async with world.scrubber(scheduled=True) as scrubber:
        await trio.sleep(14.9 * DAY_S)
        assert world.store.writes == 0
        assert scrubber.statistics().scheduled == 1
        await trio.sleep(0.2 * DAY_S)  # half of the interval, as chance will have it
        first = world.store.scrub("a").verdict
        assert first is not None
        assert (first.by, first.outcome) == ("schedule", Outcome.GOOD)
        await trio.sleep(27 * DAY_S)
        assert world.store.scrub("a").verdict == first
        await trio.sleep(2 * DAY_S)
        assert world.store.scrub("a").verdict != first


async def test_the_schedule_stands_back_behind_all_others_and_a_request_does_not(
    world: World, car: Path, autojump_clock: trio.testing.MockClock
) -> None:
    world.clock = lambda: START_S + trio.current_time()  # type: ignore[method-assign]
    world.add("a", car)
    async with world.scrubber(scheduled=True) as scrubber:
        await trio.sleep(20 * DAY_S)
        assert set(world.workers.priorities) == {BACKGROUND_PRIORITY}
        world.workers.priorities.clear()
        events = [event async for event in scrubber.verify(["a"], depth=Depth.FULL)]
        assert verdict(events).outcome is Outcome.GOOD
        assert set(world.workers.priorities) == {0}


async def test_a_kill_of_the_schedule_goes_on_at_once_after_the_start(
    world: World, car: Path, autojump_clock: trio.testing.MockClock
) -> None:
    world.clock = lambda: START_S + trio.current_time()  # type: ignore[method-assign]
    world.add("a", car)
    slow = ScrubConfig(bandwidth=1000)  # 10 minutes a slice
    async with world.scrubber(slow, scheduled=True):
        await trio.sleep(15 * DAY_S + 1500)
    run = world.store.scrub("a").run
    assert run is not None
    assert 0 < run.position < run.total
    async with world.scrubber(scheduled=True):
        await trio.sleep(60)
    found = world.store.scrub("a").verdict
    assert found is not None
    assert (found.run, found.outcome) == (run.id, Outcome.GOOD)


async def test_a_catalogue_that_fails_for_a_while_does_not_end_the_routine(
    world: World, car: Path, autojump_clock: trio.testing.MockClock, expect_warning: ExpectWarning
) -> None:
    world.clock = lambda: START_S + trio.current_time()  # type: ignore[method-assign]
    expect_warning(
        "shard a could not be verified: disk full|not all shards are in the schedule|is not in the schedule"
    )
    world.add("a", car)
    row, broken = world.shards.row, True

    def failing(key: str) -> ShardRow:
        if broken:
            raise ShardError(ErrorClass.NO_SPACE, "disk full")
        return row(key)

    world.shards.row = failing  # type: ignore[method-assign]
    async with world.scrubber(scheduled=True):
        await trio.sleep(16 * DAY_S)
        world.hub.publish("a")
        await trio.sleep(1)
        broken = False
        await trio.sleep(DAY_S)
        assert world.store.scrub("a").verdict is not None
