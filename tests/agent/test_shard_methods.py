"""What can be asked of many shards and told about one: lists, pages, history, bulk, look-ups, garbage, traces."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.dagstore.mounts import TryLater
from agent.dagstore.scrub.records import BadBlock, Depth, Outcome, ScrubEvent, ScrubState, Verdict
from agent.dagstore.scrub.scrubber import Running, ScrubStatistics
from agent.doctor.findings import Finding, Severity
from agent.rpc.jsonrpc import Call, ErrorObject
from agent.rpc.methods import Services, answer
from agent.rpc.peers import Caller, Permission
from agent.rpc.registry import Stream
from tests.agent.cars import CID, write_broken_car, write_car
from tests.agent.serving import ADMIN, ask, services_at
from tests.agent.stores import register
from tests.conftest import ExpectWarning


async def values(services: Services, method: str, params: Any = None, *, at_most: int = 1000) -> list[Any]:
    """The first values of a stream."""
    stream = await answer(services, ADMIN, Call(method, params, 1))
    assert isinstance(stream, Stream)
    found: list[Any] = []
    async with stream.values as each:
        while len(found) < at_most:
            try:
                found.append(await anext(each))
            except StopAsyncIteration:
                break
    return found


async def three(services: Services, path: Path) -> None:
    """`a` Available, `b` New, `c` Errored."""
    car = write_car(path / "x.car")
    await register(services.dagstore, "a", car)
    await register(services.dagstore, "b", car, lazy=True)
    with pytest.raises(ShardError):
        await register(services.dagstore, "c", path / "none.car")


@pytest.fixture
def errored(expect_warning: ExpectWarning) -> None:
    expect_warning("ERRORED")


@pytest.mark.usefixtures("errored")
async def test_r3_lists_have_filters_pages_counts_sizes_refs_times_and_reasons(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await three(services, tmp_path)
        (first,) = await ask(services, "Carfs.ListShards", {"Limit": 1})
        assert (first["Key"], first["Refs"], first["Size"], first["Blocks"]) == (
            "a",
            0,
            (tmp_path / "x.car").stat().st_size,
            3,
        )
        assert first["Registered"] <= first["History"][-1]["At"]
        rest = await ask(services, "Carfs.ListShards", {"After": first["Key"]})
        assert [(one["Key"], one["ErrorClass"]) for one in rest] == [("b", ""), ("c", "gone")]
        counts = await ask(services, "Carfs.CountShards", {"ErrorClasses": ["gone"]})
        assert (counts.total, counts.states, counts.error_classes) == (
            1,
            {"ShardStateErrored": 1},
            {"gone": 1},
        )


@pytest.mark.usefixtures("errored")
async def test_a_walk_gives_the_same_as_a_list(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await three(services, tmp_path)
        walked = await values(services, "Carfs.WalkShards", {"Glob": "[ab]"})
        assert msgspec.json.decode(msgspec.json.encode(walked)) == await ask(
            services, "Carfs.ListShards", {"Glob": "[ab]"}
        )


async def test_registering_again_changes_nothing_as_in_lotus_unless_the_data_is_elsewhere(
    tmp_path: Path,
) -> None:
    async with services_at(tmp_path) as services:
        here, there = str(write_car(tmp_path / "x.car")), str(write_car(tmp_path / "y.car"))
        for _ in range(2):
            options = {"URL": here, "Lazy": True}
            assert await ask(services, "Filecoin.DagstoreRegisterShard", ["a", options]) is None
        refused = await ask(services, "Filecoin.DagstoreRegisterShard", ["a", {"URL": there}])
        assert (refused.code, refused.data) == (1, {"class": "exists", "key": "a"})


async def test_history_says_what_when_why_and_who_page_by_page(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        params = {"Key": "a", "URL": str(write_car(tmp_path / "x.car")), "Wait": True}
        await answer(
            services, Caller(Permission.ADMIN, "process 7 uid 8"), Call("Carfs.RegisterShard", params, 1)
        )
        last, first = await ask(services, "Carfs.ShardHistory", ["a"])
        assert (first.before, first.after, first.by) == (
            "ShardStateNew",
            "ShardStateInitializing",
            "rpc: process 7 uid 8",
        )
        assert (last.after, last.number > first.number, last.at >= first.at) == (
            "ShardStateAvailable",
            True,
            True,
        )
        assert await ask(services, "Carfs.ShardHistory", {"Key": "a", "Before": last.number, "Limit": 1}) == [
            first
        ]
        unknown = await ask(services, "Carfs.ShardHistory", ["none"])
        assert unknown.data["class"] == "not-found"


@pytest.mark.usefixtures("errored")
async def test_all_that_failed_for_one_reason_are_recovered_in_one_call(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await three(services, tmp_path)
        with pytest.raises(ShardError):
            await register(services.dagstore, "d", write_broken_car(tmp_path / "d.car"))
        write_car(tmp_path / "none.car")
        told = await values(services, "Carfs.RecoverShards", {"ErrorClasses": ["gone"], "MaxConcurrency": 1})
        assert [(one.key, one.event, one.success, one.total) for one in told] == [
            ("c", "start", False, 1),
            ("c", "end", True, 1),
        ]
        assert services.dagstore.counts() == {
            "ShardStateAvailable": 2,
            "ShardStateErrored": 1,
            "ShardStateNew": 1,
        }


async def test_r2_the_count_of_an_end_is_of_what_is_done_and_starts_come_in_order(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        for key in "cab":
            await register(services.dagstore, key, write_car(tmp_path / "x.car"), lazy=True)
        told = await values(services, "Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 0})
        assert [(one.key, one.current) for one in told if one.event == "start"] == [
            ("a", 1),
            ("b", 2),
            ("c", 3),
        ]
        assert [one.current for one in told if one.event == "end"] == [1, 2, 3]


async def test_r2_whoever_leaves_the_stream_leaves_the_rest_as_it_was(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        for key in "abc":
            await register(services.dagstore, key, write_car(tmp_path / "x.car"), lazy=True)
        await values(services, "Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 1}, at_most=1)
        assert services.dagstore.counts()["ShardStateNew"] >= 1
        rest = await values(services, "Filecoin.DagstoreInitializeAll", {"MaxConcurrency": 1})
        assert rest[-1].key == "c"


async def test_d6_listing_and_destroying_at_once_never_wait_for_each_other(tmp_path: Path) -> None:
    """In the dagstore eight pollers and a few destroys were enough to freeze it for ever."""
    async with services_at(tmp_path) as services:
        keys = [str(number) for number in range(40)]
        for key in keys:
            await register(services.dagstore, key, write_car(tmp_path / "x.car"), lazy=True)

        async def poll() -> None:
            while True:
                await ask(services, "Carfs.ListShards")
                await ask(services, "Filecoin.DagstoreListShards")
                await trio.lowlevel.checkpoint()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(poll)
                for key in keys:
                    assert await ask(services, "Filecoin.DagstoreDestroyShard", [key]) is None
                nursery.cancel_scope.cancel()


@dataclass(frozen=True)
class Copies:
    """Local copies of remote data: what is freed of which shard, or why it is not."""

    found: dict[str, int | str]

    @dataclass(frozen=True)
    class Outcome:
        key: str
        success: bool
        error: str
        freed_bytes: int

    async def tidy(self) -> int:
        return 0

    async def gc(self) -> Sequence[Outcome]:
        return [
            self.Outcome(key, True, "", what) if isinstance(what, int) else self.Outcome(key, False, what, 0)
            for key, what in self.found.items()
        ]


async def test_garbage_is_told_shard_by_shard_with_what_it_freed(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        assert await ask(services, "Filecoin.DagstoreGC") == []
        services.dagstore.collector = Copies({"b": "no permission", "a": 7})
        one, other = await ask(services, "Filecoin.DagstoreGC")
        assert (one.key, one.success, one.freed_bytes) == ("a", True, 7)
        assert (other.key, other.success, other.error) == ("b", False, "no permission")


@pytest.mark.parametrize("form", [str(CID), {"/": str(CID)}], ids=["text", "Lotus' form"])
async def test_pieces_are_looked_up_by_any_cid(tmp_path: Path, form: object) -> None:
    async with services_at(tmp_path) as services:
        await register(services.dagstore, "a", write_car(tmp_path / "x.car"))
        for method in ("Filecoin.DagstoreLookupPieces", "Carfs.LookupCid"):
            (found,) = await ask(services, method, [form])
            assert (found.key, found.state, found.error) == ("a", "ShardStateAvailable", "")
        other = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
        assert await ask(services, "Filecoin.DagstoreLookupPieces", [other]) == []
        refused = await ask(services, "Filecoin.DagstoreLookupPieces", ["no cid"])
        assert refused.data == {"class": "invalid"}


class Doctor:
    """Finds every shard good, and says at which depth and in whose name it has looked."""

    async def verify(
        self, keys: Sequence[str], *, depth: Depth, sample: int, by: str
    ) -> AsyncGenerator[ScrubEvent, None]:
        for key in keys:
            if key == "none":
                raise ShardError(ErrorClass.NOT_FOUND, "shard not found: 'none'", key=key)
            yield ScrubEvent(key, "progress", "slices", 1, 2)
            yield ScrubEvent(key, "verdict", verdict=verdict(depth, by))

    def state(self, key: str) -> ScrubState:
        if key == "none":
            raise ShardError(ErrorClass.NOT_FOUND, "shard not found: 'none'", key=key)
        at = "2026-01-31T12:00:00.000000Z"
        return ScrubState(None, verdict(Depth.INDEX, "schedule"), {"index": at}, (bad_block(at),))

    def quarantined(self) -> dict[str, str]:
        return {"a": "1 bad block"}

    def statistics(self) -> ScrubStatistics:
        running = (Running("a", Depth.FULL, "schedule", "slices", 1, 2),)
        return ScrubStatistics(3, 1, 1, "2026-01-31T12:00:00.000000Z", running)


def bad_block(at: str) -> BadBlock:
    return BadBlock(59, 100, str(CID), "1220…", "its hash does not match", at, "1")


def verdict(depth: Depth, by: str) -> Verdict:
    return Verdict("1", depth, 0, by, "2026", "2027", Outcome.GOOD, "", 234, 3, 0, 0)


async def test_verification_is_a_stream_in_the_name_of_its_caller(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        verifying = replace(services, verifier=Doctor())
        told = await values(verifying, "Carfs.VerifyShards", {"Keys": ["a", "b"], "Depth": "index"})
        assert [(one.key, one.event) for one in told] == [
            ("a", "progress"),
            ("a", "verdict"),
            ("b", "progress"),
            ("b", "verdict"),
        ]
        assert told[-1].verdict == verdict(Depth.INDEX, "rpc: a test")


async def test_a_part_that_was_not_set_up_is_named(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        refused = await ask(services, "Carfs.VerifyShards", [["a"]])
        assert isinstance(refused, ErrorObject)
        assert refused.message == "this agent has no verification"
        refused = await ask(services, "Carfs.ScrubState", ["a"])
        assert refused.message == "this agent has no verification"
        assert await ask(services, "Carfs.ListQuarantined") == []
        refused = await ask(services, "Carfs.Doctor")
        assert refused.message == "this agent has no doctor"
        assert (await ask(services, "Carfs.Status")).scrub is None


async def test_what_verifications_have_shown_is_told_in_full(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        verifying = replace(services, verifier=Doctor())
        found = await ask(verifying, "Carfs.ScrubState", ["a"])
        assert (found.verdict.depth, [one.offset for one in found.quarantined]) == (Depth.INDEX, [59])
        assert (await ask(verifying, "Carfs.ScrubState", ["none"])).data["class"] == "not-found"
        assert (await ask(verifying, "Carfs.Status")).scrub == Doctor().statistics()


async def findings(*, with_fix: bool) -> list[Finding]:
    """One, which is mended if asked for."""
    fixed = "removed" if with_fix else ""
    return [Finding(check="x", severity=Severity.NOTE, what="y", advice="z", fixable=True, fixed=fixed)]


async def test_whoever_may_read_may_ask_the_doctor_and_only_an_admin_have_things_mended(
    tmp_path: Path,
) -> None:
    async with services_at(tmp_path) as services:
        full = replace(services, doctor=findings)
        reader = Caller(Permission.READ, "a reader")
        assert await answer(full, reader, Call("Carfs.Doctor", None, 1)) == await findings(with_fix=False)
        refused = await answer(full, reader, Call("Carfs.Doctor", {"Fix": True}, 1))
        assert isinstance(refused, ErrorObject)
        assert refused.message == "missing permission to invoke 'Carfs.Doctor' (need 'admin')"
        assert await ask(full, "Carfs.Doctor", [True]) == await findings(with_fix=True)


async def test_status_names_the_origins_that_fail_and_until_when_they_are_left_alone(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        url = write_car(tmp_path / "x.car").as_uri()
        for _ in range(4):
            with pytest.raises(ShardError), services.dagstore._origins.visited(url):
                raise TryLater("no route")
        (one,) = (await ask(services, "Carfs.Status")).unhealthy_origins
        assert (one.state, one.failures, one.retry_in_seconds) == ("closed", 4, 0)
        with pytest.raises(ShardError), services.dagstore._origins.visited(url):
            raise TryLater("no route")
        (one,) = (await ask(services, "Carfs.Status")).unhealthy_origins
        assert (one.state, one.failures, one.retry_in_seconds > 0) == ("open", 5, True)


@pytest.mark.usefixtures("errored")
async def test_transitions_can_be_watched_and_failures_alone(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await three(services, tmp_path)
        told = await values(services, "Carfs.WatchShards", {"FailuresOnly": True, "Recent": True}, at_most=1)
        assert [(one.key, one.after, one.error_class) for one in told] == [("c", "ShardStateErrored", "gone")]
        stream = await ask(services, "Carfs.WatchShards")
        async with stream.values as events, trio.open_nursery() as nursery:
            nursery.start_soon(ask, services, "Filecoin.DagstoreInitializeShard", ["b"])
            one = await anext(events)
        assert (one.key, one.before, one.after, one.by) == (
            "b",
            "ShardStateNew",
            "ShardStateInitializing",
            "rpc: a test",
        )


async def test_a_watcher_that_does_not_read_holds_nothing_up(tmp_path: Path) -> None:
    """D-7: a trace channel that nobody drained stopped the dagstore."""
    async with services_at(tmp_path) as services:
        stream = await ask(services, "Carfs.WatchShards")
        async with stream.values, aclosing(_nothing()):
            with trio.fail_after(60):
                for number in range(50):
                    await register(services.dagstore, str(number), write_car(tmp_path / "x.car"), lazy=True)


async def _nothing() -> AsyncGenerator[None, None]:
    yield
