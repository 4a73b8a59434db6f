"""Imports over RPC and HTTP: shapes, levels, leases, events, uploads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from agent.dagstore.events import ImportKey
from agent.rpc.jsonrpc import Call, ErrorObject
from agent.rpc.methods import answer
from agent.rpc.peers import Caller, Permission
from carlib.pack import pack
from carlib.unixfs.profile import LOTUS
from tests.agent.imports.worlds import everything_below, tree_at
from tests.agent.serving import Served, ask, served_at, services_at
from tests.conftest import ExpectWarning


def put(body: bytes, query: str = "", *, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    lines = [f"PUT /rest/v0/import{query} HTTP/1.1", "host: localhost", "connection: close"]
    return "\r\n".join([*lines, f"content-length: {size}", "", ""]).encode() + body


async def uploaded(served: Served, request: bytes) -> tuple[int, dict[str, object]]:
    """Status and answer."""
    with trio.fail_after(60):
        reply = await served.exchange(await served.unix(), request)
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])


async def test_an_import_by_lotus_methods_has_lotus_shapes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x" * 3_000_000)
    root = pack(tmp_path / "x", tmp_path / "x.car", profile=LOTUS).root
    async with services_at(tmp_path) as services:
        made = await ask(services, "Filecoin.ClientImport", [{"Path": str(tmp_path / "x"), "IsCAR": False}])
        assert (made.root.cid, made.import_id) == (str(root), made.import_id)
        (one,) = await ask(services, "Filecoin.ClientListImports", [])
        assert (one.key, one.err, one.source, one.file_path) == (
            made.import_id,
            "",
            "import",
            str(tmp_path / "x"),
        )
        assert await ask(services, "Filecoin.ClientHasLocal", [{"/": str(root)}]) is True
        assert await ask(services, "Filecoin.ClientRemoveImport", [made.import_id]) is None
        assert await ask(services, "Filecoin.ClientHasLocal", [{"/": str(root)}]) is False  # C-10


async def test_importing_a_path_is_for_admins(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        writer = Caller(Permission.WRITE, "a test")
        refused = await answer(services, writer, Call("Carfs.Import", {"Path": "/etc/hostname"}, 1))
        assert isinstance(refused, ErrorObject)
        assert refused.data == {"class": "denied"}


async def test_a_lease_keeps_an_import_and_ends_with_its_session(tmp_path: Path) -> None:
    async with services_at(tmp_path) as services:
        await ask(services, "Carfs.Import", {"Path": str(tree_at(tmp_path / "set"))})
        session = services.leases.open("a mount")
        for _ in range(2):
            record = await ask(services, "Carfs.AcquireImport", {"Session": session, "Import": "set"})
        assert record.refs == 1
        refused = await ask(services, "Carfs.RemoveImport", ["set"])
        assert refused.data["class"] == "busy"
        services.leases.close(session)
        assert await ask(services, "Carfs.RemoveImport", ["set"]) is None


async def test_a_path_is_a_url_where_it_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(b"x" * 500)
    async with services_at(tmp_path) as services:
        made = await ask(services, "Carfs.Import", {"Path": f"file://{tmp_path}/a%20b", "Kind": "ref"})
        assert made.name == "a b"
        for path in ("relative", "file://host/x"):
            refused = await ask(services, "Carfs.Import", {"Path": path})
            assert refused.data["class"] == "invalid"


async def test_events_begin_with_all_imports_and_tell_what_changes(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        imports = served.services.importing.imports  # type: ignore[union-attr]
        made = await ask(served.services, "Carfs.Import", {"Path": str(tree_at(tmp_path / "set"))})
        stream = await served.unix()
        await stream.send_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
        seen = b""
        with trio.fail_after(30):
            while b'"ready"' not in seen:
                seen += await stream.receive_some()
            assert b'"event":"import","record":{"ID":%d' % made.id in seen
            imports.rename(made.id, "other")
            while b'"Name":"other"' not in seen:
                seen += await stream.receive_some()
            await imports.remove(made.id)
            while b'{"event":"import-removed","id":%d,"name":"other"}' % made.id not in seen:
                seen += await stream.receive_some()
        await stream.aclose()


def test_a_key_is_one_for_each_name() -> None:
    assert len({ImportKey(1, "a"), ImportKey(1, "b"), ImportKey(1, "a")}) == 2


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
async def test_an_upload_becomes_an_import_as_it_comes(tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(bytes(range(256)) * (size // 256) + b"y" * (size % 256))
    root = pack(tmp_path / "x", tmp_path / "x.car", profile=LOTUS).root
    async with served_at(tmp_path) as served:
        status, reply = await uploaded(served, put((tmp_path / "x").read_bytes(), "?name=up"))
        assert (status, reply["Cid"], reply["Name"]) == (200, {"/": str(root)}, "up")
        (one,) = await ask(served.services, "Filecoin.ClientListImports", [])
        assert one.source == "import-local"


@pytest.mark.parametrize("version", [1, 2])
async def test_a_car_that_is_uploaded_is_known_by_its_content(tmp_path: Path, version: int) -> None:
    root = pack(tree_at(tmp_path / "set"), tmp_path / "x.car", version=version).root
    async with served_at(tmp_path) as served:
        status, reply = await uploaded(served, put((tmp_path / "x.car").read_bytes(), "?kind=auto"))
        assert (status, reply["Cid"]) == (200, {"/": str(root)})
        (record,) = await ask(served.services, "Carfs.Imports", [])
        assert (record["Kind"], record["CAROwner"]) == ("car", "importmgr")


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        stream = await served.unix()
        await stream.send_all(put(b"x" * 100_000, length=10_000_000))
        imports = served.services.importing.imports  # type: ignore[union-attr]
        with trio.fail_after(30):
            while not imports.numbers():
                await trio.sleep(0.01)
            await stream.aclose()
            while imports.numbers():
                await trio.sleep(0.01)
            while everything_below(tmp_path):
                await trio.sleep(0.01)


async def test_an_upload_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    async with served_at(tmp_path) as served:
        status, reply = await uploaded(served, put(b"x", "?kind=none"))
        assert (status, reply["Class"]) == (400, "invalid")
        status, reply = await uploaded(served, put(b"no car at all", "?kind=car"))
        assert (status, reply["Class"]) == (422, "corrupt")
        assert not everything_below(tmp_path)


async def test_verifying_tells_how_far_it_is_and_ends_with_a_verdict(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("FoundStale")
    async with services_at(tmp_path) as services:
        source = tree_at(tmp_path / "set")
        await ask(services, "Carfs.Import", {"Path": str(source)})
        (source / "file0").unlink()
        stream = await ask(services, "Carfs.VerifyImport", {"Import": "set", "Deep": True})
        async with stream.values as values:
            steps = [step async for step in values]
        verdict = steps[-1].verdict
        assert (verdict.good, verdict.stale_count, verdict.changed_blocks) == (False, 1, 1)
        assert verdict.record.state == "ImportStateStale"
        stream = await ask(services, "Carfs.VerifyImport", {"Import": "set"})
        async with stream.values:
            pass  # whoever leaves calls it off
