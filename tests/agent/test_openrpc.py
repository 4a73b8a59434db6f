"""The OpenRPC document: complete, consistent in itself, and its examples do what they show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from agent.dagstore.failures import ShardError
from agent.dagstore.mounts.bytes import BytesMount
from agent.imports.requests import Request
from agent.market.migrating import Migration
from agent.network.kernel import Announcing, KernelLink
from agent.network.state import Address, Change, Interface
from agent.retrievals.records import Wanted
from agent.rpc.examples import EXAMPLES
from agent.rpc.jsonrpc import Call
from agent.rpc.methods import METHODS, Services, answer
from agent.rpc.openrpc import document
from agent.rpc.registry import Stream
from agent.workers.remote.joining import RemoteWorkers
from agent.workers.remote.messages import Welcome
from tests.agent.cars import CID, write_car
from tests.agent.market.worlds import PIECE, AllUnsealed, some_deals
from tests.agent.remote.joining import Board, hello
from tests.agent.scheduling import SNAPSHOT, FakeScheduler, running, waiting
from tests.agent.serving import ADMIN, services_at
from tests.agent.stores import register
from tests.agent.test_shard_methods import Copies, Doctor, findings
from tests.conftest import ExpectWarning

Json = Any  # any value that JSON can carry
DOCUMENT = json.loads(msgspec.json.encode(document(METHODS, "1.2")))
SHOWN = {one["name"]: one for one in DOCUMENT["methods"]}
WITHOUT_EXAMPLE = {"rpc.discover", "Filecoin.Discover"}  # this document is theirs
OPEN_ENDED = {
    "Carfs.WorkerJoin",
    "Carfs.WatchShards",
    "Carfs.WatchTasks",
    "Filecoin.ClientGetRetrievalUpdates",
}


def references(value: Json) -> Iterator[str]:
    """Every `$ref` in it."""
    if isinstance(value, dict):
        yield from [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from references(one)


def like(example: Json, found: Json) -> bool:
    """Whether both are of one shape: same keys, same types, and lists alike where the example has values."""
    if isinstance(example, dict) and isinstance(found, dict):
        return example.keys() == found.keys() and all(like(example[key], found[key]) for key in example)
    if isinstance(example, list) and isinstance(found, list):
        return not example or (bool(found) and all(like(example[0], one) for one in found))
    return type(example) is type(found)


def test_every_method_is_there_with_parameters_result_and_permission() -> None:
    assert SHOWN.keys() == METHODS.keys()
    register_shard = SHOWN["Carfs.RegisterShard"]
    assert [(one["name"], one["required"]) for one in register_shard["params"]][:3] == [
        ("Key", True),
        ("URL", True),
        ("Lazy", False),
    ]
    assert register_shard["result"]["schema"] == {"$ref": "#/components/schemas/ShardRecord"}
    assert (register_shard["x-permission"], register_shard["x-stream"]) == ("admin", False)
    assert SHOWN["Filecoin.DagstoreInitializeAll"]["x-stream"] is True


def test_every_method_says_what_it_does() -> None:
    assert [name for name, one in SHOWN.items() if not one["summary"].endswith(".")] == []


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        found = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            assert part in found, reference
            found = found[part]


def test_every_method_has_an_example_of_its_types() -> None:
    assert EXAMPLES.keys() == METHODS.keys() - WITHOUT_EXAMPLE
    for name, example in EXAMPLES.items():
        msgspec.convert(example.params, METHODS[name].params)
        if METHODS[name].result not in (bytes, type(None)):
            msgspec.convert(example.result, METHODS[name].result)


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_does_what_it_shows(
    name: str, tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("lost")
    (tmp_path / "deals.json").write_text(json.dumps([{"PieceCID": PIECE, "State": 7}]))
    async with services_at(tmp_path) as services:
        await _prepare(services, tmp_path)
        if any(word in name for word in ("mport", ".Client", ".Export", "Data")):
            await _prepare_imports(services, tmp_path)
        if "etriev" in name or name == "Carfs.WantBlocks":
            assert services.retrievals is not None
            await services.retrievals.wait(services.retrievals.start(Wanted("bafkqaaa")))
            if "Cancel" in name:
                services.retrievals.start(Wanted("bafkqabtimvwgy3yk", lazy=True))
        full = replace(
            services,
            verifier=Doctor(),
            doctor=findings,
            scheduler=FakeScheduler((running(7), waiting(9)), replace(SNAPSHOT, facts=SNAPSHOT.facts[:2])),
            addresses=["127.0.0.1:3453"],
            deals=some_deals(1 if name == "Carfs.ListDeals" else 3),  # which are of one shape
            sealing=AllUnsealed(),
            migration=Migration(services.dagstore, tmp_path, tmp_path / "pieces", lambda _piece: False),
            announcing=Announcing(_link(), ("0.0.0.0:8480",), "http"),
            remote=RemoteWorkers(Board(), tmp_path, tmp_path, "proof", version="1.2", heartbeat_s=5.0),
        )
        services.dagstore.collector = Copies({"remote": 1})
        services.dagstore._origins._breakers.failed("https://example.org:443", trio.current_time())
        params = await _adapted(EXAMPLES[name].params, services, tmp_path)
        async with _joined(full, params):
            found = await _ask(full, name, params)
    expected = EXAMPLES[name].result
    assert like(expected, found), found


def _link() -> KernelLink:
    link = KernelLink()
    link.network.apply(Change((Interface(2, "eth0", True, False), Address(2, ip_address("192.0.2.7")))))
    return link


async def _prepare(services: Services, path: Path) -> None:
    car = write_car(path / "photos.car")
    await register(services.dagstore, "photos", car)
    await register(services.dagstore, "later", car, lazy=True)
    with pytest.raises(ShardError):
        await register(services.dagstore, "lost", path / "lost.car")
    write_car(path / "lost.car")


async def _prepare_imports(services: Services, path: Path) -> None:
    for number, name in enumerate(("album", "trip", "slow"), 5):
        (path / name).write_bytes(bytes(number * 1000))
    (path / "lotus").mkdir()
    (path / "lotus" / "7").write_text('{"Labels": {"source": "import"}}')
    assert services.importing is not None
    await services.importing.imports.add(path / "album", Request("ref"), wait=True)


async def _adapted(params: Json, services: Services, path: Path) -> Json:
    """The example's parameters with what differs each time: a folder, a session, a token, a CID that is there."""
    text = json.dumps(params).replace("/srv/", f"{path}/")
    values = json.loads(text)
    if "Session" in values:
        values["Session"] = services.leases.open("a mount")
    if values.get("Key") == "remote":
        url = BytesMount((path / "photos.car").read_bytes()).url
        await services.dagstore.register("remote", url, wait=True)
        if "Session" in values:
            await services.leases.acquire(values["Session"], "remote")
    for name in ("Ref", "ExportRef"):
        if name in values and "Root" in values[name]:
            assert services.importing is not None
            (number,) = services.importing.imports.numbers()
            values[name]["Root"] = {"/": _root(services, number)}
    if "DealID" in values or isinstance(values.get("Retrieval"), int):
        assert services.retrievals is not None
        key = "DealID" if "DealID" in values else "Retrieval"
        values[key] = services.retrievals.numbers()[values[key] - 1]
    if ("ImportID" in values or "Root" in values) and "From" not in values:
        assert services.importing is not None
        (number,) = services.importing.imports.numbers()
        own = {"ImportID": number} if "ImportID" in values else {"Root": {"/": _root(services, number)}}
        values |= own
    if values.get("Import") == "slow":
        assert services.importing is not None
        await services.importing.imports.add(path / "slow", Request("ref"), wait=False)
    if "Token" in values:
        values["Token"] = services.tokens.issue(["read"])
    if "Cid" in values:
        values["Cid"] = {"/": str(CID)} if isinstance(values["Cid"], dict) else str(CID)
    return values


def _root(services: Services, number: int) -> str | None:
    assert services.importing is not None
    return services.importing.imports.record(number).root


@asynccontextmanager
async def _joined(services: Services, params: Json) -> AsyncIterator[None]:
    """With the worker that reports, where one does."""
    if "Ticket" not in params:
        yield
        return
    assert services.remote is not None
    async with services.remote.joined(hello(params["Session"])) as messages:
        welcome = await anext(messages)
        assert isinstance(welcome, Welcome)
        params["Ticket"] = welcome.ticket
        yield


async def _ask(services: Services, name: str, params: Json) -> Json:
    """The result as a client sees it; of a stream the last value, or the first of one without an end."""
    outcome = await answer(services, ADMIN, Call(name, params, 1))
    if isinstance(outcome, Stream):
        given = []
        async with outcome.values as values:
            async for value in values:
                given.append(value)
                if name in OPEN_ENDED:
                    break
        outcome = given[-1]
    return json.loads(msgspec.json.encode(outcome))
