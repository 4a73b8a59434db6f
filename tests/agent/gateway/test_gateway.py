"""The trustless gateway over real HTTP: every row of the table of requests, and what must not be believed of it."""

from __future__ import annotations

import hashlib
import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from agent.imports.requests import Request
from agent.local.blocks import open_local_blocks
from carlib import unixfs
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import DAG_PB, Cid
from carlib.pack import pack
from carlib.unixfs.file import Inner
from tests.agent.export.worlds import world_at, write_blocks
from tests.agent.gateway.worlds import Served, gateway_at
from tests.agent.stores import register
from tests.conftest import ExpectWarning

RAW = "application/vnd.ipld.raw"
CAR = "application/vnd.ipld.car"


def make_tree(folder: Path) -> tuple[Path, Cid]:
    """A CAR of a directory with a file of several blocks, one of one block, and a directory below."""
    source = folder / "tree"
    (source / "below").mkdir(parents=True)
    (source / "big.bin").write_bytes(os.urandom(3 << 20))
    (source / "hello.txt").write_bytes(b"hello")
    (source / "below" / "ü ?.txt").write_bytes(b"deep")
    car = folder / "tree.car"
    report = pack(source, car)
    return car, report.root


async def serve_tree(served: Served, path: Path) -> tuple[Path, Cid]:
    car, root = await trio.to_thread.run_sync(make_tree, path)
    await served.world.dagstore.register("tree", str(car), wait=True)
    return car, root


def cids_of(car: Path) -> list[Cid]:
    with ReadOnlyBlockstore.open(car) as store:
        return [cid for cid, _ in store.cids()]


async def test_a_raw_block_has_all_headers(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        car, _root = await serve_tree(served, tmp_path)
        cid = next(cid for cid in cids_of(car) if cid.codec != DAG_PB)
        found = await served.ask(f"/ipfs/{cid}?format=raw")
        assert found.status == 200
        assert Cid.of(found.body) == cid
        headers = found.headers
        assert headers["content-type"] == RAW
        assert headers["content-length"] == str(len(found.body))
        assert headers["content-disposition"] == f'attachment; filename="{cid}.bin"'
        assert headers["etag"] == f'"{cid}.raw"'
        assert headers["cache-control"] == "public, max-age=29030400, immutable"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-ipfs-path"] == f"/ipfs/{cid}"
        assert headers["x-ipfs-roots"] == str(cid)
        named_ = await served.ask(f"/ipfs/{cid}?format=raw&filename=a%20b.bin", "HEAD")
        assert named_.headers["content-disposition"] == 'attachment; filename="a b.bin"'
        assert (named_.status, named_.body) == (200, b"")
        assert named_.headers["content-length"] == str(len(found.body))
        again = await served.ask(f"/ipfs/{cid}", Accept=RAW)
        assert again.body == found.body
        unchanged = await served.ask(f"/ipfs/{cid}?format=raw", If_None_Match=headers["etag"])
        assert (unchanged.status, unchanged.body) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [("bytes=0-3", 206, 0, 4), ("bytes=2-", 206, 2, None), ("bytes=-2", 206, -2, None),
     ("bytes=1-999999999", 206, 1, None), ("bytes=0-1,3-4", 200, 0, None), ("lines=1-2", 200, 0, None),
     ("bytes=99999999-", 416, 0, 0)],
)  # fmt: skip
async def test_ranges_of_a_raw_block(
    tmp_path: Path, asked: str, status: int, start: int, stop: int | None
) -> None:
    data = b"0123456789"
    cid = Cid.of(data)
    async with gateway_at(tmp_path) as served:
        car = write_blocks(tmp_path / "x.car", [cid], [(cid, data)])
        await served.world.dagstore.register("x", str(car), wait=True)
        found = await served.ask(f"/ipfs/{cid}?format=raw", Range=asked)
        assert found.status == status
        if status != 416:
            assert found.body == data[start:stop]
        assert (found.headers.get("content-range") is not None) == (status == 206)
        other = await served.ask(f"/ipfs/{cid}?format=raw", Range="bytes=0-3", If_Range='"other"')
        assert (other.status, other.body) == (200, data)


async def test_a_car_of_everything_is_depth_first_and_each_block_once(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        car, root = await serve_tree(served, tmp_path)
        found = await served.ask(f"/ipfs/{root}?format=car")
        assert found.status == 200
        assert found.whole
        blocks = found.blocks()
        assert blocks[0][0] == root
        assert {cid for cid, _ in blocks} == set(cids_of(car))
        assert len(blocks) == len(set(blocks))
        assert found.headers["content-type"] == f"{CAR}; version=1; order=dfs; dups=n"
        assert found.headers["accept-ranges"] == "none"
        assert found.headers["content-disposition"] == f'attachment; filename="{root}.car"'


async def test_the_tag_differs_by_all_that_the_body_differs_by(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        _car, root = await serve_tree(served, tmp_path)
        targets = [
            "?format=car", "/below?format=car", "/below?format=car&dag-scope=block", "?format=car&dag-scope=entity",
            "/big.bin?format=car&entity-bytes=0:1", "/big.bin?format=car&entity-bytes=1:*", "?format=car&car-dups=y",
        ]  # fmt: skip
        answers = [await served.ask(f"/ipfs/{root}{target}", "HEAD") for target in targets]
        assert [answer.status for answer in answers] == [200] * len(targets)
        assert len({answer.headers["etag"] for answer in answers}) == len(targets)


async def test_a_path_comes_first_and_then_what_it_leads_to(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        car, root = await serve_tree(served, tmp_path)
        with ReadOnlyBlockstore.open(car) as store:
            below = unixfs.resolve(store, root, (b"below",))
            name = "ü ?.txt".encode()
            leaf = unixfs.resolve(store, root, (b"below", name))
        found = await served.ask(f"/ipfs/{root}/below/%C3%BC%20%3F.txt?format=car")
        assert [cid for cid, _ in found.blocks()] == [root, below, leaf]
        assert found.headers["x-ipfs-path"] == f"/ipfs/{root}/below/%C3%BC%20%3F.txt"
        assert found.headers["x-ipfs-roots"] == f"{root},{below},{leaf}"


async def test_scopes(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        _car, root = await serve_tree(served, tmp_path)
        block = await served.ask(f"/ipfs/{root}?format=car&dag-scope=block")
        assert [cid for cid, _ in block.blocks()] == [root]
        entity = await served.ask(f"/ipfs/{root}?format=car&dag-scope=entity")
        assert [cid for cid, _ in entity.blocks()] == [root]
        file = await served.ask(f"/ipfs/{root}/big.bin?format=car&dag-scope=entity")
        assert len(file.blocks()) == 1 + 1 + 3


async def test_bytes_of_a_file_whose_other_blocks_are_missing(tmp_path: Path) -> None:
    """Both cases of the conformance suite: a range at the start, and one at the end."""
    car, root = make_tree(tmp_path)
    with ReadOnlyBlockstore.open(car) as store:
        big = unixfs.resolve(store, root, (b"big.bin",))
        inner = Inner.parse(big, store.get(big))
        assert inner is not None
        order = [Cid(cid) for cid in inner.cids]
        kept = [(cid, store.get(cid)) for cid, _ in store.cids()]
    assert len(order) == 3
    async with gateway_at(tmp_path / "agent") as served:
        few = [(cid, data) for cid, data in kept if cid not in set(order[1:])]
        part = write_blocks(tmp_path / "part.car", [root], few)
        await served.world.dagstore.register("part", str(part), wait=True)
        found = await served.ask(f"/ipfs/{root}/big.bin?format=car&entity-bytes=0:1023")
        assert found.whole
        assert [cid for cid, _ in found.blocks()] == [root, big, order[0]]
        cut = await served.ask(f"/ipfs/{root}/big.bin?format=car&entity-bytes=0:*")
        assert not cut.whole
        beyond = await served.ask(f"/ipfs/{root}/big.bin?format=car&entity-bytes=99999999:*")
        assert [cid for cid, _ in beyond.blocks()] == [root, big]


async def test_what_is_missing_after_the_first_byte_ends_the_connection_and_not_the_body(
    tmp_path: Path,
) -> None:
    car, root = make_tree(tmp_path)
    with ReadOnlyBlockstore.open(car) as store:
        kept = [(cid, store.get(cid)) for cid, _ in store.cids()]
    async with gateway_at(tmp_path / "agent") as served:
        lost = max(kept, key=lambda one: len(one[1]))[0]
        part = write_blocks(tmp_path / "part.car", [root], [one for one in kept if one[0] != lost])
        await served.world.dagstore.register("part", str(part), wait=True)
        found = await served.ask(f"/ipfs/{root}?format=car")
        assert not found.whole


@pytest.mark.parametrize(
    ("target", "accept", "status"),
    [
        ("/ipfs/{root}", "", 400), ("/ipfs/{root}", "*/*", 400), ("/ipfs/{root}", "text/html", 400),
        ("/ipfs/{root}?format=html", "", 406), ("/ipfs/{root}?format=dag-json", RAW, 406),
        ("/ipfs/{root}", "application/vnd.ipld.dag-json", 406), ("/ipfs/{root}?format=tar", "", 406),
        ("/ipfs/{root}/below?format=raw", "", 400), ("/ipfs/nonsense?format=raw", "", 400),
        ("/ipfs/?format=raw", "", 400), ("/ipfs/{root}?format=car&car-version=2", "", 406),
        ("/ipfs/{root}?format=car&car-order=bfs", "", 406), ("/ipfs/{root}?format=car&car-dups=maybe", "", 406),
        ("/ipfs/{root}?format=car&dag-scope=some", "", 400), ("/ipfs/{root}?format=car&entity-bytes=x", "", 400),
        ("/ipfs/{root}?format=car&entity-bytes=5:3", "", 400), ("/ipfs/{root}/none?format=car", "", 404),
        ("/ipfs/{root}/hello.txt/more?format=car", "", 404), ("/ipfs/{root}/../x?format=car", "", 400),
        ("/ipfs/{other}?format=car", "", 404), ("/ipfs/{other}?format=raw", "", 404),
        ("/ipfs/{root}", f"{CAR}; version=2", 406), ("/ipfs/{root}", f"{CAR}; order=unk; dups=y", 200),
        ("/ipfs/{root}", f"text/html, {CAR};q=0.5", 200), ("/ipfs/{root}?format=car", RAW, 200),
        ("/ipfs/{root}?format=car&car-order=unk", "", 200), ("/ipfs/bafkqaaa?format=raw", "", 200),
        ("/ipfs/bafkqaaa?format=car", "", 200), ("/ipfs/{root}?format=car&filename=a%0Ab", "", 400),
    ],
)  # fmt: skip
async def test_statuses(tmp_path: Path, target: str, accept: str, status: int) -> None:
    async with gateway_at(tmp_path) as served:
        _car, root = await serve_tree(served, tmp_path)
        other = Cid.of(b"nobody has this")
        for method in ("GET", "HEAD"):
            headers = {"Accept": accept} if accept else {}
            found = await served.ask(target.format(root=root, other=other), method, **headers)
            assert found.status == status, (method, found.body)
            if method == "HEAD":
                assert found.body == b""


async def test_the_probe_is_an_empty_block_and_a_car_of_nothing(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        raw = await served.ask("/ipfs/bafkqaaa?format=raw")
        assert (raw.status, raw.body, raw.headers["content-length"]) == (200, b"", "0")
        car = await served.ask("/ipfs/bafkqaaa?format=car")
        assert car.blocks() == []


async def test_only_what_is_cached_is_412_where_it_is_not(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        _car, root = await serve_tree(served, tmp_path)
        other = Cid.of(b"nobody has this")
        asked = {"Cache_Control": "only-if-cached"}
        assert (await served.ask(f"/ipfs/{other}?format=raw", **asked)).status == 412
        assert (await served.ask(f"/ipfs/{root}?format=raw", **asked)).status == 200


async def test_duplicates_come_each_time_they_are_reached(tmp_path: Path) -> None:
    source = tmp_path / "twice"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_bytes(b"the same")
    report = pack(source, tmp_path / "twice.car")
    async with gateway_at(tmp_path / "agent") as served:
        await served.world.dagstore.register("twice", str(tmp_path / "twice.car"), wait=True)
        once = await served.ask(f"/ipfs/{report.root}?format=car")
        twice = await served.ask(f"/ipfs/{report.root}?format=car&car-dups=y")
        assert (len(once.blocks()), len(twice.blocks())) == (2, 3)
        assert "dups=y" in twice.headers["content-type"]


async def test_a_dag_that_lies_in_two_shards_is_one_car(tmp_path: Path) -> None:
    car, root = make_tree(tmp_path)
    with ReadOnlyBlockstore.open(car) as store:
        blocks = [(cid, store.get(cid)) for cid, _ in store.cids()]
    async with gateway_at(tmp_path / "agent") as served:
        for number in range(2):
            part = write_blocks(tmp_path / f"{number}.car", [root], blocks[number::2])
            await served.world.dagstore.register(str(number), str(part), wait=True)
        with trio.fail_after(30):
            while not (found := await served.ask(f"/ipfs/{root}?format=car")).whole or found.status != 200:
                await trio.sleep(0.05)  # until both are in the inverted index
        assert {cid for cid, _ in found.blocks()} == {cid for cid, _ in blocks}


async def test_an_import_by_reference_is_served_and_what_changed_is_not(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("what lies there is no longer")
    source = tmp_path / "data.bin"
    source.write_bytes(os.urandom(1 << 20))
    async with gateway_at(tmp_path / "agent") as served:
        outcome = await served.world.imports.add(source, Request("ref"), wait=True)
        root = served.world.imports.record(outcome.number).root
        served.world.imports.suspected = lambda _number: (
            None
        )  # who reads finds out before any look at the file does
        found = await served.ask(f"/ipfs/{root}?format=raw")
        assert found.body == source.read_bytes()
        source.write_bytes(os.urandom(1 << 20))
        changed = await served.ask(f"/ipfs/{root}?format=raw")
        assert changed.status == 502


async def test_a_block_whose_hash_does_not_match_never_leaves(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("does not match its CID")
    data = b"what was promised"
    cid = Cid.of(data)
    car = write_blocks(tmp_path / "x.car", [cid], [(cid, data)])
    async with gateway_at(tmp_path / "agent") as served:
        await served.world.dagstore.register("x", str(car), wait=True)
        raw = bytearray(car.read_bytes())
        position = raw.index(data)
        found = car.stat()
        with car.open("r+b") as file:
            file.seek(position)
            file.write(b"W")
        os.utime(car, ns=(found.st_atime_ns, found.st_mtime_ns))
        answer = await served.ask(f"/ipfs/{cid}?format=raw")
        assert answer.status == 502
        assert data[1:] not in answer.body


async def test_what_is_denied_is_gone_and_the_list_is_read_anew(tmp_path: Path) -> None:
    deny = tmp_path / "deny.txt"
    async with gateway_at(tmp_path, deny_list="deny.txt") as served:
        _car, root = await serve_tree(served, tmp_path)
        hashed = hashlib.sha256(f"{root}/below".encode()).hexdigest()
        deny.write_text(f"# ours\n//{hashed}\n/ipfs/{root}/hello* status_code=451\nnonsense\n")
        with trio.fail_after(30):
            while (await served.ask(f"/ipfs/{root}/below?format=car")).status != 410:
                await trio.sleep(0.1)
        assert (await served.ask(f"/ipfs/{root}/hello.txt?format=car")).status == 451
        assert (await served.ask(f"/ipfs/{root}?format=car")).status == 200
        deny.write_text(f"/ipfs/{root}\n")
        with trio.fail_after(30):
            while (await served.ask(f"/ipfs/{root}?format=car")).status != 410:
                await trio.sleep(0.1)


async def test_too_many_are_told_when_to_come_again(tmp_path: Path) -> None:
    async with gateway_at(tmp_path, max_per_client=1, retry_after_s=7) as served:
        _car, root = await serve_tree(served, tmp_path)
        with served.serving.answering.in_flight.one("127.0.0.1"):
            found = await served.ask(f"/ipfs/{root}?format=car")
        assert (found.status, found.headers["retry-after"]) == (429, "7")
        assert (await served.ask(f"/ipfs/{root}?format=car")).status == 200
    async with gateway_at(tmp_path / "all", max_requests=1) as served:
        with served.serving.answering.in_flight.one("somebody else"):
            assert (await served.ask("/ipfs/bafkqaaa?format=raw")).status == 429


async def test_web_pages_of_other_names_are_refused(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        page = {"Host": "evil.example", "Origin": "http://evil.example"}
        assert (await served.ask("/ipfs/bafkqaaa?format=raw", **page)).status == 403
        assert (await served.ask("/ipfs/bafkqaaa?format=raw", Origin="http://a.example")).status == 200


async def test_stores_are_closed_a_while_after_they_were_used(tmp_path: Path) -> None:
    async with gateway_at(tmp_path) as served:
        _car, root = await serve_tree(served, tmp_path)
        assert (await served.ask(f"/ipfs/{root}?format=car")).status == 200
        assert len(served.serving.local.shelf) == 1
        with trio.fail_after(30):
            while len(served.serving.local.shelf):
                await trio.sleep(0.1)
        await served.world.dagstore.destroy("tree")


async def test_the_next_block_of_a_dag_needs_no_look_up_and_idle_stores_close_beside_used_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.local.shelf.IDLE_S", 1.0)
    monkeypatch.setattr("agent.local.shelf.SWEPT_S", 0.1)
    for name, inside in (("first", (b"one", b"two")), ("second", (b"other",))):
        write_blocks(tmp_path / f"{name}.car", [], [(Cid.of(data), data) for data in inside])
    async with world_at(tmp_path) as world, open_local_blocks(world.holders, readers=2) as local:
        for name in ("first", "second"):
            await register(world.dagstore, name, tmp_path / f"{name}.car")

        async def get(data: bytes) -> bytes:
            async with local.session(warm=4) as session:
                return await trio.to_thread.run_sync(session.get, Cid.of(data))

        assert (await get(b"other"), await get(b"one")) == (b"other", b"one")
        looked_up: list[Cid] = []
        at_once = local.quickly

        async def quickly(cid: Cid) -> list[str]:
            looked_up.append(cid)
            return await at_once(cid)

        monkeypatch.setattr(local, "quickly", quickly)
        assert await get(b"two") == b"two"
        assert looked_up == []
        with trio.fail_after(30):
            while len(local.shelf) > 1:  # "second" is borrowed, and gives nothing
                await trio.sleep(0.1)
                assert await get(b"two") == b"two"
        async with AsyncExitStack() as stack:
            assert [name for name, _ in local.shelf.borrow(4, stack)] == ["shard first"]


async def test_so_many_threads_read_as_configured(tmp_path: Path) -> None:
    async with gateway_at(tmp_path, readers=3) as served:
        assert served.serving.local.limiter.total_tokens == served.serving.local.opening.total_tokens == 3
