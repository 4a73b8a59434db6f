"""Export over RPC and HTTP: Lotus' shapes and words, and bodies that end before their end where reading fails."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trio

from agent.rpc.jsonrpc import Call, ErrorObject
from agent.rpc.methods import Services, answer
from agent.rpc.peers import Caller, Permission
from agent.rpc.registry import Stream
from carlib.cid import Cid
from carlib.verify import Depth, verify
from tests.agent.export.worlds import roots_of, wait_stale
from tests.agent.imports.worlds import edit, tree_at
from tests.agent.serving import ADMIN, Served, ask, served_at, services_at
from tests.conftest import ExpectWarning

Json = Any  # any value that JSON can carry


async def imported(services: Services, path: Path) -> str:
    """The root of an import."""
    found = await ask(services, "Carfs.Import", {"Path": str(path)})
    root: str = found.root
    return root


async def get(served: Served, query: Json) -> tuple[bytes, bytes]:
    """Head and body of the answer to a download."""
    target = f"/rest/v0/export?{urlencode(query)}"
    request = f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    head, _, body = (await served.exchange(await served.unix(), request)).partition(b"\r\n\r\n")
    return head, body


def unchunked(body: bytes) -> tuple[bytes, bool]:
    """What is in a chunked body, and whether it has its end."""
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        if int(size, 16) == 0:
            return data, True
        data, body = data + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return data, False


async def test_lotus_client_export_has_its_parameters_and_gives_null(tmp_path: Path) -> None:
    source = tree_at(tmp_path / "set")
    async with services_at(tmp_path) as services:
        root = await imported(services, source)
        (listed,) = await ask(services, "Filecoin.ClientListImports")
        ref = {"Root": {"/": root}, "FromLocalCAR": listed.car_path, "DealID": 0}
        dags = [{"DataSelector": "/Links/0/Hash", "ExportMerkleProof": False}]
        file = {"Path": str(tmp_path / "out"), "IsCAR": False}
        assert await ask(services, "Filecoin.ClientExport", [{**ref, "DAGs": dags}, file]) is None
        assert (tmp_path / "out").read_bytes() == (source / "file0").read_bytes()
        again = await ask(services, "Filecoin.ClientExport", [{**ref, "DAGs": None}, file])
        assert isinstance(again, ErrorObject) and again.data["class"] == "exists"


async def test_c3_the_car_path_of_an_import_by_reference_exports_its_data(tmp_path: Path) -> None:
    source = tree_at(tmp_path / "set")
    async with services_at(tmp_path) as services:
        root = await imported(services, source)
        (listed,) = await ask(services, "Filecoin.ClientListImports")
        ref = {"Root": {"/": root}, "FromLocalCAR": listed.car_path}
        file = {"Path": str(tmp_path / "out.car"), "IsCAR": True}
        assert await ask(services, "Filecoin.ClientExport", [ref, file]) is None
        assert roots_of(tmp_path / "out.car") == [Cid.parse(root)]
        assert verify(tmp_path / "out.car", depth=Depth.FULL).complete
        out = {"Path": str(tmp_path / "out"), "IsCAR": False}  # any other CAR, too
        ref = {"Root": {"/": root}, "FromLocalCAR": str(tmp_path / "out.car")}
        assert await ask(services, "Filecoin.ClientExport", [ref, out]) is None
        assert (tmp_path / "out" / "file0").read_bytes() == (source / "file0").read_bytes()


@pytest.mark.parametrize(
    ("method", "level"),
    [("Filecoin.ClientExport", "admin"), ("Carfs.Export", "admin")],
)
async def test_who_may_only_write_writes_no_files_of_the_agent(
    tmp_path: Path, method: str, level: str
) -> None:
    async with services_at(tmp_path) as services:
        found = await answer(services, Caller(Permission.WRITE, "x"), Call(method, {}, 1))
        assert isinstance(found, ErrorObject) and f"need '{level}'" in found.message


async def test_a_deal_that_nobody_knows_is_not_found(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        root = await imported(services, tree_at(tmp_path / "set"))
        ref = {"Root": {"/": root}, "DealID": 7}
        found = await ask(services, "Filecoin.ClientExport", [ref, {"Path": str(tmp_path / "x")}])
        assert isinstance(found, ErrorObject) and "there is no retrieval deal 7 here" in found.message


async def test_a_listing_comes_line_by_line(tmp_path: Path) -> None:
    source = tmp_path / "set"
    source.mkdir()
    for number in range(3000):
        (source / f"{number:04}").write_text(str(number))
    async with services_at(tmp_path) as services:
        root = await imported(services, source)
        outcome = await answer(services, ADMIN, Call("Carfs.ListData", {"Root": root}, 1))
        assert isinstance(outcome, Stream)
        async with outcome.values as values:
            names = [one.name async for one in values]
        assert names == [f"{number:04}" for number in range(3000)]


async def test_a_file_and_a_car_are_downloaded(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data := os.urandom(3_000_000))
    async with served_at(tmp_path) as served:
        root = await imported(served.services, tmp_path / "x")
        head, body = await get(served, {"export": json.dumps({"Root": {"/": root}})})
        assert head.startswith(b"HTTP/1.1 200") and unchunked(body) == (data, True)
        head, body = await get(served, {"car": "true", "export": json.dumps({"Root": {"/": root}})})
        (tmp_path / "x.car").write_bytes(unchunked(body)[0])
        assert verify(tmp_path / "x.car", depth=Depth.FULL).complete


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ({"export": "{"}, b"400", "export: "),
        ({"export": '{"Root": {"/": "x"}}'}, b"400", "'x' is not a CID"),
        (
            {"export": '{"Root": "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"}'},
            b"404",
            "no import",
        ),
    ],
)
async def test_what_cannot_be_had_has_a_status_and_says_why(
    tmp_path: Path, query: Json, status: bytes, message: str
) -> None:
    async with served_at(tmp_path) as served:
        head, body = await get(served, query)
        assert head.split()[1] == status
        assert message in json.loads(body)["Error"]


async def test_a_download_that_fails_on_its_way_does_not_end_as_if_it_were_whole(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("broke off")
    expect_warning("FoundStale")
    (tmp_path / "x").write_bytes(os.urandom(4_000_000))
    async with served_at(tmp_path) as served:
        root = await imported(served.services, tmp_path / "x")
        edit(tmp_path / "x", b"other", at=3_500_000)
        head, body = await get(served, {"export": json.dumps({"Root": root})})
        assert served.services.importing is not None
        await wait_stale(served.services.importing.imports)
        data, has_end = unchunked(body)
        assert head.startswith(b"HTTP/1.1 200") and not has_end
        assert len(data) < 4_000_000


async def test_a_client_that_leaves_ends_its_download(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(os.urandom(20_000_000))
    async with served_at(tmp_path) as served:
        root = await imported(served.services, tmp_path / "x")
        stream = await served.unix()
        query = urlencode({"export": json.dumps({"Root": root})})
        async with stream:
            await stream.send_all(f"GET /rest/v0/export?{query} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            await stream.receive_some(1000)
        importing = served.services.importing
        assert importing is not None
        with trio.fail_after(30):
            while importing.imports.record(importing.imports.numbers()[0]).refs:
                await trio.sleep(0.01)
            while list((tmp_path / "staging").iterdir()):
                await trio.sleep(0.01)
