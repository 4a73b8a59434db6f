"""The scrubber in a real dagstore over a real catalogue: records say what was found, bad indices are made anew."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest
import trio

from agent.catalogue import Catalogue
from agent.dagstore.access import RepairedAccess, TransientAccess
from agent.dagstore.dagstore import Dagstore
from agent.dagstore.events import Hub
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.mounts import BytesMount
from agent.dagstore.mounts.environment import Environment
from agent.dagstore.opening import open_dagstore
from agent.dagstore.scrub.opening import open_scrubber
from agent.dagstore.scrub.records import Depth, Outcome, ScrubEvent
from agent.dagstore.scrub.repairer import Repairer
from agent.dagstore.scrub.replicas import Replicas
from agent.dagstore.scrub.schedule import ScrubConfig
from agent.dagstore.scrub.scrubber import Scrubber
from agent.dagstore.scrub.shards import DagstoreShards, annotated
from carlib.cid import Cid
from carlib.options import WriteOptions
from carlib.writer import creating
from tests.agent.scrub.worlds import BLOCKS, rot, section_of, write_car
from tests.agent.stores import LocalWorkers
from tests.agent.test_indexers import payload, write_aggregate
from tests.conftest import ExpectWarning


@asynccontextmanager
async def agent_at(
    path: Path, indices: Path | None = None, repairs: Path | None = None
) -> AsyncIterator[tuple[Dagstore, Scrubber]]:
    """Dagstore and scrubber as the service puts them together; open it again there for a restart."""
    indices, repairs = indices or path / "index", repairs or path / "repairs"
    indices.mkdir(exist_ok=True)
    hub, workers, environment = Hub(buffer=100), LocalWorkers(), Environment()
    with closing(Catalogue.open(path / "carfs.db")) as store:
        async with open_dagstore(store=store, workers=workers, hub=hub, index_directory=indices) as dagstore:
            shards = DagstoreShards(dagstore, store)
            async with open_scrubber(
                shards=shards, store=store, workers=workers, hub=hub,
                repairer=Repairer(Replicas(environment, indices), repairs), index_directory=indices,
                config=ScrubConfig(interval_days=0),
            ) as scrubber:  # fmt: skip
                dagstore.annotate = partial(annotated, scrubber=scrubber)
                yield dagstore, scrubber


async def verified(scrubber: Scrubber, key: str, depth: Depth = Depth.FULL) -> ScrubEvent:
    return [event async for event in scrubber.verify([key], depth=depth)][-1]


async def test_a_record_says_what_is_bad_and_the_shard_stays_available(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    expect_warning("damaged, 1 bad")
    car = write_car(tmp_path / "a.car")
    async with agent_at(tmp_path) as (dagstore, scrubber):
        await dagstore.register("a", str(car), wait=True)
        assert dagstore.record("a").scrub is None
        rot(car, section_of(car, BLOCKS[7][0])[0] + 500)
        assert scrubber.quarantined() == {}
        await verified(scrubber, "a")
        assert list(scrubber.quarantined()) == ["a"]
    async with agent_at(tmp_path) as (dagstore, scrubber):
        record = dagstore.record("a")
        assert (scrubber.quarantined(), scrubber.statistics().damaged) == ({"a": record.quarantined}, 1)
        assert record.state == ShardState.AVAILABLE.value
        assert record.scrub is not None
        assert (record.scrub.bad, record.scrub.first_bad[0].cid) == (1, str(BLOCKS[7][0]))
        assert str(BLOCKS[7][0]) in record.quarantined
        assert (await dagstore.acquire("a")).refs == 1
        dagstore.release("a")
        await dagstore.destroy("a")
        await dagstore.register("a", str(car), wait=True)
        assert scrubber.quarantined() == {}


async def test_repairs_outlive_a_restart_and_a_lost_one_is_noticed(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    expect_warning("its repairs are gone")
    car, replica = write_car(tmp_path / "a.car"), write_car(tmp_path / "b.car")
    async with agent_at(tmp_path) as (dagstore, scrubber):
        await dagstore.register("a", str(car), wait=True, replicas=[replica.as_uri()])
        rot(car, section_of(car, BLOCKS[7][0])[0] + 500)
        await verified(scrubber, "a")
    async with agent_at(tmp_path) as (dagstore, _):
        summary = dagstore.record("a").scrub
        assert summary is not None
        assert (summary.bad, summary.repaired) == (0, 1)
    for file in (tmp_path / "repairs").iterdir():
        file.unlink()
    async with agent_at(tmp_path) as (dagstore, scrubber):
        summary = dagstore.record("a").scrub
        assert summary is not None
        assert (summary.bad, summary.repaired) == (1, 0)
        event = await verified(scrubber, "a")
        assert event.verdict is not None
        assert event.verdict.outcome is Outcome.REPAIRED


async def test_an_index_that_misleads_is_made_anew_by_itself(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("its index does not fit the data")
    car = write_car(tmp_path / "a.car")
    async with agent_at(tmp_path) as (dagstore, scrubber):
        await dagstore.register("a", str(car), wait=True)
        before = dagstore.record("a")
        assert before.index_path is not None
        index = Path(before.index_path)
        await dagstore.inverted.wait_complete()  # else the inverted index comes upon it first
        rot(index, index.read_bytes().index(BLOCKS[3][0].digest) + 33)
        event = await verified(scrubber, "a", Depth.INDEX)
        assert event.verdict is not None
        assert event.verdict.outcome is Outcome.REBUILT
        record = await dagstore.acquire("a")
        assert (record.generation, record.state) == (before.generation + 1, ShardState.SERVING.value)
        event = await verified(scrubber, "a", Depth.INDEX)
        assert event.verdict is not None
        assert event.verdict.outcome is Outcome.GOOD


async def test_a_shard_whose_container_is_broken_is_errored_and_its_index_kept(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("AVAILABLE -> ERRORED")
    car = write_car(tmp_path / "a.car")
    async with agent_at(tmp_path) as (dagstore, scrubber):
        await dagstore.register("a", str(car), wait=True)
        rot(car, 3)
        await verified(scrubber, "a", Depth.STRUCTURE)
        record = dagstore.record("a")
        assert (record.state, record.error_class) == (ShardState.ERRORED.value, "corrupt")
        assert record.index_path is not None


@pytest.mark.parametrize("how", ["cut", "replaced"])
async def test_a_file_that_is_cut_or_replaced_meanwhile_is_looked_at_by_the_dagstore(
    how: str, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("the data changed since it was indexed")
    car = write_car(tmp_path / "a.car")
    async with agent_at(tmp_path) as (dagstore, scrubber):
        await dagstore.register("a", str(car), wait=True)
        if how == "cut":
            expect_warning("RECOVERING -> ERRORED")
            car.write_bytes(car.read_bytes()[:3_000_000])
        else:
            (tmp_path / "new.car").write_bytes(write_car(tmp_path / "b.car", version=1).read_bytes())
            (tmp_path / "new.car").replace(car)
        event = await verified(scrubber, "a")
        assert (event.event, event.error_class) == ("error", "busy")
        while dagstore.upkeep.life("a").state is ShardState.RECOVERING:
            await trio.lowlevel.checkpoint()
        assert dagstore.record("a").error_class == ("corrupt" if how == "cut" else "")


async def test_a_destroyed_shard_takes_what_is_known_of_it_along(tmp_path: Path) -> None:
    car = write_car(tmp_path / "a.car")
    async with agent_at(tmp_path) as (dagstore, scrubber):
        await dagstore.register("a", str(car), wait=True)
        await verified(scrubber, "a", Depth.STRUCTURE)
        await dagstore.destroy("a")
        await dagstore.register("a", str(car), wait=True)
        assert dagstore.record("a").scrub is None


def small_car(path: Path, blocks: list[tuple[Cid, bytes]]) -> Path:
    """One that fits into a `bytes:` URL, whose data can only be read through a transient."""
    with creating(path, WriteOptions(version=1), roots=(blocks[0][0],)) as writer:
        for cid, data in blocks:
            writer.put(cid, data)
        writer.finish((blocks[0][0],))
    return path


SMALL = [(cid, data[:400]) for cid, data in ((Cid.of(data[:400]), data) for _, data in BLOCKS[:20])]


async def test_a_transient_that_rots_is_fetched_anew_and_is_good(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("did not match, they are fetched once more")
    car = small_car(tmp_path / "a.car", SMALL)
    async with agent_at(tmp_path) as (dagstore, scrubber):
        await dagstore.register("a", BytesMount(car.read_bytes()).url, wait=True)
        first = await verified(scrubber, "a")
        assert first.verdict is not None
        assert first.verdict.outcome is Outcome.GOOD
        async with dagstore.upkeep.reading("a") as (access, _):
            assert isinstance(access, TransientAccess)
            rot(Path(access.data), section_of(car, SMALL[7][0])[0] + 100)
        again = await verified(scrubber, "a")
        assert again.verdict is not None
        assert (again.verdict.outcome, scrubber.state("a").quarantined) == (Outcome.GOOD, ())


async def test_remote_data_that_are_bad_where_they_come_from_are_repaired_from_a_replica(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("bad block")
    expect_warning("did not match, they are fetched once more")
    car = small_car(tmp_path / "a.car", SMALL)
    good = small_car(tmp_path / "good.car", SMALL)
    rot(car, section_of(car, SMALL[7][0])[0] + 100)
    async with agent_at(tmp_path) as (dagstore, scrubber):
        url = BytesMount(car.read_bytes()).url
        await dagstore.register("a", url, wait=True, replicas=[good.as_uri()])
        event = await verified(scrubber, "a")
        assert event.verdict is not None
        assert event.verdict.outcome is Outcome.REPAIRED
        record = await dagstore.acquire("a")
        assert isinstance(record.access, RepairedAccess)
        assert isinstance(record.access.base, TransientAccess)


async def test_an_aggregate_of_cars_is_verified_to_every_depth(tmp_path: Path) -> None:
    parts = [payload(tmp_path, b"one"), b"no CAR", payload(tmp_path, b"two")]
    piece = write_aggregate(tmp_path / "piece", parts)
    async with agent_at(tmp_path) as (dagstore, scrubber):
        await dagstore.register("a", str(piece), wait=True, indexer="aggregate")
        for depth, blocks in ((Depth.STRUCTURE, 0), (Depth.INDEX, 6), (Depth.FULL, 6)):
            verdict = (await verified(scrubber, "a", depth)).verdict
            assert verdict is not None
            assert (verdict.outcome, verdict.bad, verdict.blocks) == (Outcome.GOOD, 0, blocks)
