"""URLs may hold passwords and signatures: whole, they are for admins, and in what is told to people they never are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from agent.dagstore.dagstore import Dagstore
from agent.dagstore.failures import ShardError
from agent.dagstore.lifecycle import ShardState
from agent.dagstore.records import ShardRow
from agent.dagstore.scrub.records import ScrubState
from agent.doctor.diagnosis import diagnose
from agent.doctor.findings import Facts, FileFacts, ShardFacts
from agent.rpc.jsonrpc import Call
from agent.rpc.methods import METHODS, Services, answer
from agent.rpc.peers import Caller, Permission
from agent.rpc.registry import Stream
from fusefs.catalogue import ShardRecord
from tests.agent.cars import write_car
from tests.agent.serving import ask, served_at, services_at
from tests.agent.stores import dagstore_at
from tests.conftest import ExpectWarning

SECRET = "hunter2"
URL = f"https://me:{SECRET}@example.org/a.car?sig={SECRET}"
REPLICA = f"s3://bucket/a.car?X-Amz-Signature={SECRET}"
SHOWN = {"https://…@example.org/a.car?…"}


async def registered(dagstore: Dagstore) -> None:
    await dagstore.register("a", URL, lazy=True, replicas=[f"https://example.com/b.car?sig={SECRET}"])


async def asked(services: Services, permission: Permission, method: str, params: Any) -> bytes:  # Any: JSON
    """All that a caller gets, as it goes over the wire."""
    outcome = await answer(services, Caller(permission, "a test"), Call(method, params, 1))
    if not isinstance(outcome, Stream):
        return msgspec.json.encode(outcome)
    said = b""
    async with outcome.values as values:
        with trio.move_on_after(1):  # a stream that goes on for ever has said by then what there was
            async for value in values:
                said += msgspec.json.encode(value)
    return said


@pytest.mark.parametrize("permission", [Permission.READ, Permission.WRITE, Permission.SIGN])
async def test_below_admin_nobody_is_told_what_is_secret_in_a_url(
    tmp_path: Path, permission: Permission, autojump_clock: trio.testing.MockClock
) -> None:
    async with services_at(tmp_path) as services:
        await registered(services.dagstore)
        for method in ("Carfs.ListShards", "Carfs.WalkShards", "Carfs.ShardInfo", "Carfs.ShardHistory"):
            takes_key = "key" in METHODS[method].params.__struct_fields__
            said = await asked(services, permission, method, {"Key": "a"} if takes_key else {})
            assert b"a" in said
            assert SECRET.encode() not in said
        traces = await asked(services, permission, "Carfs.WatchShards", {"Recent": True})
        assert b"Register" in traces
        assert SECRET.encode() not in traces


async def test_an_admin_is_told_the_whole_url(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await registered(services.dagstore)
        record = await ask(services, "Carfs.ShardInfo", {"Key": "a"})
        assert record.url == URL
        (listed,) = await ask(services, "Carfs.ListShards")
        assert (listed["URL"], listed["Replicas"]) == (URL, list(record.replicas))


async def test_the_record_of_a_lease_is_as_its_holder_may_see_it(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        path = write_car(tmp_path / "x.car")
        await services.dagstore.register("x", str(path), wait=True, replicas=[URL])
        session = services.leases.open("a test")
        params = {"Session": session, "Key": "x"}
        told = await asked(services, Permission.READ, "Carfs.AcquireShard", params)
        assert json.loads(told)["Replicas"] == list(SHOWN)
        services.leases.close(session)


async def test_events_are_told_as_whoever_listens_may_see_them(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        await registered(served.services.dagstore)
        for levels, expected in ((["read"], SHOWN), (["read", "write", "sign", "admin"], {URL})):
            token = served.services.tokens.issue(levels)
            asked = f"GET /events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
            async with await served.tcp() as stream:
                await stream.send_all(asked.encode())
                told = b""
                while b'"ready"' not in told:
                    told += await stream.receive_some()
            assert {
                json.loads(line)["shard"]["URL"] for line in told.splitlines() if b'"shard":' in line
            } == expected
            assert (SECRET.encode() in told) == (expected == {URL})


async def test_what_took_the_place_of_a_local_copy_is_shown_without_secrets(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("the local copy is gone, https://…@example.org/a.car")
    expect_warning("ERRORED")
    mine = write_car(tmp_path / "mine.car")
    async with dagstore_at(tmp_path) as dagstore:
        await dagstore.register("a", URL, existing_transient=str(mine), wait=True)
        mine.unlink()
        with pytest.raises(ShardError):
            await dagstore.acquire("a")
        assert SECRET not in str(dagstore.history("a"))


def test_the_doctor_shows_no_secrets() -> None:
    row = ShardRow("a", URL, ShardState.AVAILABLE, False, "2027-01-15T07:00:00Z", 1, replicas=(REPLICA,))
    facts = ShardFacts(row, ScrubState(order=(URL, REPLICA)), FileFacts(error="ENOENT"), None)
    findings = diagnose(Facts(Path("/c"), False, shards=(facts,), now_s=1_800_000_000.0))
    assert {finding.check for finding in findings} >= {"data-gone", "stand-in"}
    assert SECRET not in str(findings)


def test_the_mount_shows_no_secrets_whoever_it_is_of() -> None:
    document = {
        "Key": "a", "State": "ShardStateNew", "URL": URL, "Replicas": [REPLICA], "Scrub": {"Home": URL, "Bad": 1},
    }  # fmt: skip
    record = ShardRecord.parse(document)
    assert SECRET not in json.dumps([record.url, record.document])
    assert record.document["Scrub"]["Bad"] == 1
    assert document["URL"] == URL
