"""Local export: whole and in part, out of imports and shards, complete or not at all; with Lotus' words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from agent.dagstore.failures import ErrorClass, ShardError
from agent.export.orders import Order
from carlib import unixfs
from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import RAW, Cid
from carlib.pack import pack
from carlib.references import ReferenceBlockstore
from carlib.verify import Depth, verify
from tests.agent.export.worlds import (
    World,
    blocks_of,
    nothing_else,
    roots_of,
    wait_stale,
    world_at,
    write_blocks,
)
from tests.agent.imports.worlds import add, edit, raising, tree_at
from tests.agent.stores import register
from tests.conftest import ExpectWarning


async def refused(world: World, order: Order, out: Path, error_class: ErrorClass) -> str:
    with raising(error_class) as messages:
        await world.exporter.to_file(order, out, replacing=False)
    return messages[0]


async def tree_in(world: World, path: Path) -> tuple[Path, Cid]:
    """An import of a tree, and its root."""
    source = tree_at(path / "set")
    record = await add(world.imports, source)
    assert record.root is not None
    return source, Cid.parse(record.root)


def same(one: Path, other: Path) -> bool:
    """As `diff -r` would say."""
    return {
        path.relative_to(one): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in one.rglob("*")
        if path.is_symlink() or path.is_file()
    } == {
        path.relative_to(other): path.readlink() if path.is_symlink() else path.read_bytes()
        for path in other.rglob("*")
        if path.is_symlink() or path.is_file()
    }


async def test_a_directory_and_a_file_of_it_come_out_as_they_went_in(tmp_path: Path) -> None:
    async with world_at(tmp_path) as world:
        source, root = await tree_in(world, tmp_path)
        (tmp_path / "out").mkdir()
        told = await world.exporter.to_file(Order(root), tmp_path / "out" / "all", replacing=False)
        assert (told.kind, told.files, told.bytes) == ("directory", 3, 15000)
        assert same(source, tmp_path / "out" / "all")
        order = Order(root, ((b"sub", b"file1"),))
        await world.exporter.to_file(order, tmp_path / "out" / "one", replacing=False)
        assert (tmp_path / "out" / "one").read_bytes() == (source / "sub" / "file1").read_bytes()
        assert nothing_else(tmp_path / "out", "all", "one")


async def test_c3_a_car_of_an_import_by_reference_holds_data_and_no_references(tmp_path: Path) -> None:
    async with world_at(tmp_path) as world:
        source, root = await tree_in(world, tmp_path)
        out = tmp_path / "out.car"
        told = await world.exporter.to_file(Order(root, is_car=True), out, replacing=False)
        assert (told.roots, told.bytes, roots_of(out)) == ((str(root),), out.stat().st_size, [root])
        found = verify(out, depth=Depth.FULL)
        assert found.good and found.complete and found.version == 1
        assert blocks_of(out) == blocks_of_packed(source, tmp_path / "packed.car")
        for each in source.rglob("file*"):  # nothing is read from there any more
            each.unlink()
        assert verify(out, depth=Depth.FULL).good


def blocks_of_packed(source: Path, path: Path) -> dict[Cid, bytes]:
    pack(source, path)
    return blocks_of(path)


async def test_c8_an_identity_root_comes_out_as_a_file_and_as_a_car(tmp_path: Path) -> None:
    (tmp_path / "tiny").write_bytes(b"tiny")
    async with world_at(tmp_path) as world:
        record = await add(world.imports, tmp_path / "tiny", "ref", profile="lotus")
        assert record.root is not None
        root = Cid.parse(record.root)
        assert root.is_identity
        await world.exporter.to_file(Order(root), tmp_path / "back", replacing=False)
        assert (tmp_path / "back").read_bytes() == b"tiny"
        await world.exporter.to_file(Order(root, is_car=True), tmp_path / "x.car", replacing=False)
        assert (roots_of(tmp_path / "x.car"), blocks_of(tmp_path / "x.car")) == ([root], {root: b"tiny"})
        await world.imports.remove(record.id)
        again = await add(world.imports, tmp_path / "x.car", "car")
        assert again.root == record.root
        assert await world.streamed(Order(root)) == b"tiny"


async def test_a_proof_has_the_blocks_on_the_way_and_without_one_only_what_is_below(tmp_path: Path) -> None:
    async with world_at(tmp_path) as world:
        source, root = await tree_in(world, tmp_path)
        leaf = Cid.of((source / "sub" / "file1").read_bytes(), RAW)
        path = ((b"sub", b"file1"),)
        bare, proof = tmp_path / "bare.car", tmp_path / "proof.car"
        await world.exporter.to_file(Order(root, path, is_car=True), bare, replacing=False)
        await world.exporter.to_file(Order(root, path, proof=True, is_car=True), proof, replacing=False)
        assert (roots_of(bare), list(blocks_of(bare))) == ([leaf], [leaf])
        assert roots_of(proof) == [root]
        with ReadOnlyBlockstore.open(proof) as blocks:
            assert len(list(blocks.cids())) == 3
            assert unixfs.resolve(blocks, root, path[0]) == leaf


async def test_a_selector_of_lotus_leads_to_a_file_and_several_make_a_car_of_several_roots(
    tmp_path: Path,
) -> None:
    async with world_at(tmp_path) as world:
        source, root = await tree_in(world, tmp_path)
        order = Order(root, selectors=("/Links/0/Hash",))
        await world.exporter.to_file(order, tmp_path / "first", replacing=False)
        assert (tmp_path / "first").read_bytes() == (source / "file0").read_bytes()
        both = Order(root, selectors=("Links/0/Hash", "Links/1/Hash"), is_car=True)
        await world.exporter.to_file(both, tmp_path / "both.car", replacing=False)
        with ReadOnlyBlockstore.open(tmp_path / "both.car") as blocks:
            assert len(blocks.roots) == 2
            assert blocks.get(blocks.roots[0]) == (source / "file0").read_bytes()


@pytest.mark.parametrize(
    ("selectors", "error_class", "message"),
    [
        (
            ("/Links/0/Hash", "/Links/1/Hash"),
            ErrorClass.INVALID,
            "unixfs retrieval requires one root node, got 2",
        ),
        (("/Links/9/Hash",), ErrorClass.NOT_FOUND, "path selection does not match a node within bafy"),
        (("/Links/0",), ErrorClass.NOT_FOUND, "does not correspond to a block boundary (a.k.a. CID link)"),
        (("{",), ErrorClass.INVALID, "parsing dag spec: failed to parse json-selector '{'"),
        (("a//b",), ErrorClass.INVALID, "parsing dag spec: failed to parse text-selector 'a//b'"),
    ],
)
async def test_errors_of_selectors_are_in_lotus_words(
    tmp_path: Path, selectors: tuple[str, ...], error_class: ErrorClass, message: str
) -> None:
    async with world_at(tmp_path) as world:
        _, root = await tree_in(world, tmp_path)
        (tmp_path / "out").mkdir()
        order = Order(root, selectors=selectors)
        assert message in await refused(world, order, tmp_path / "out" / "x", error_class)
        assert nothing_else(tmp_path / "out")


async def test_a_range_of_a_file_is_cut_out_and_in_a_car_has_its_blocks_alone(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    (tmp_path / "big").write_bytes(data)
    async with world_at(tmp_path) as world:
        record = await add(world.imports, tmp_path / "big")
        root = Cid.parse(record.root or "")
        assert await world.streamed(Order(root)) == data
        assert await world.streamed(Order(root, byte_range="1000000:3000000")) == data[1_000_000:3_000_001]
        assert await world.streamed(Order(root, byte_range="-10:*")) == data[-10:]
        order = Order(root, byte_range="1100000:1200000", is_car=True)
        await world.exporter.to_file(order, tmp_path / "part.car", replacing=False)
        assert sorted(map(len, blocks_of(tmp_path / "part.car").values()))[1:] == [1 << 20]


async def test_what_is_there_is_replaced_only_if_that_was_said(tmp_path: Path) -> None:
    async with world_at(tmp_path) as world:
        source, root = await tree_in(world, tmp_path)
        out = tmp_path / "out"
        out.mkdir()
        (out / "file").write_bytes(b"mine")
        (out / "folder").mkdir()
        for name, order in (
            ("file", Order(root, ((b"file0",),))),
            ("folder", Order(root)),
            ("file", Order(root, is_car=True)),
        ):
            assert "--force" in await refused(world, order, out / name, ErrorClass.EXISTS)
            assert (out / "file").read_bytes() == b"mine"
            await world.exporter.to_file(order, out / name, replacing=True)
            (out / "file").write_bytes(b"mine")
        assert same(source, out / "folder")
        assert nothing_else(out, "file", "folder")


async def test_what_nobody_holds_is_said_so(tmp_path: Path) -> None:
    async with world_at(tmp_path) as world:
        unknown = Cid.of(b"nowhere", RAW)
        message = await refused(world, Order(unknown), tmp_path / "x", ErrorClass.NOT_FOUND)
        assert message.startswith(f"no import and no shard here holds {unknown}; import it")


async def test_a_dag_in_two_shards_is_exported_from_both(tmp_path: Path) -> None:
    async with world_at(tmp_path) as world:
        source = tree_at(tmp_path / "set")
        root = pack(source, tmp_path / "whole.car").root
        blocks = blocks_of(tmp_path / "whole.car")
        inner = {cid: data for cid, data in blocks.items() if cid.codec != RAW}
        leaves = {cid: data for cid, data in blocks.items() if cid.codec == RAW}
        await register(world.dagstore, "inner", write_blocks(tmp_path / "i.car", [root], inner.items()))
        await register(world.dagstore, "leaves", write_blocks(tmp_path / "l.car", [root], leaves.items()))
        told = await world.exporter.to_file(Order(root), tmp_path / "out", replacing=False)
        assert same(source, tmp_path / "out")
        assert told.sources == ("shard inner", "shard leaves")
        assert await world.streamed(Order(root, ((b"file0",),))) == (source / "file0").read_bytes()
        await world.dagstore.destroy("leaves")  # it is in use no more
        message = await refused(world, Order(root), tmp_path / "again", ErrorClass.NOT_FOUND)
        assert f"below {root}, is in no import and no shard here" in message


async def test_a_directory_inside_of_an_import_is_found_and_exported_by_its_own_cid(tmp_path: Path) -> None:
    async with world_at(tmp_path) as world:
        source, root = await tree_in(world, tmp_path)
        with ReferenceBlockstore.open(next((tmp_path / "imports").glob("*.car")), Path("/")) as blocks:
            sub = unixfs.resolve(blocks, root, [b"sub"])
        await world.exporter.to_file(Order(sub), tmp_path / "out", replacing=False)
        assert same(source / "sub", tmp_path / "out")


async def test_c6_of_a_source_that_has_changed_nothing_wrong_comes_out(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    expect_warning("FoundStale")
    async with world_at(tmp_path) as world:
        source, root = await tree_in(world, tmp_path)
        edit(source / "file0", b"other")
        (tmp_path / "out").mkdir()
        message = await refused(world, Order(root), tmp_path / "out" / "x", ErrorClass.CORRUPT)
        assert "carfs client verify" in message
        await wait_stale(world.imports)
        assert nothing_else(tmp_path / "out")
        assert await world.streamed(Order(root, ((b"sub", b"file1"),))) == bytes([2]) * 5000


async def test_an_export_that_is_called_off_leaves_nothing_and_holds_nothing(tmp_path: Path) -> None:
    async with world_at(tmp_path) as world:
        _, root = await tree_in(world, tmp_path)
        (tmp_path / "out").mkdir()
        world.workers.hold()
        for run in (
            lambda: world.exporter.to_file(Order(root), tmp_path / "out" / "x", replacing=False),
            lambda: world.streamed(Order(root, is_car=True)),
        ):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                with trio.fail_after(10):
                    while world.imports.record(world.imports.numbers()[0]).refs == 0:
                        await trio.sleep(0)
                    nursery.cancel_scope.cancel()
        assert nothing_else(tmp_path / "out")
        assert list((tmp_path / "staging").iterdir()) == []
        world.workers.gate.set()
        await world.imports.remove(world.imports.numbers()[0])


async def test_a_damaged_block_in_one_shard_is_taken_from_another(
    tmp_path: Path, expect_warning: ExpectWarning
) -> None:
    source = tree_at(tmp_path / "set")
    root = pack(source, tmp_path / "good.car").root
    data = bytearray((tmp_path / "good.car").read_bytes())
    at = data.index(bytes([1]) * 5000)
    data[at : at + 4] = b"evil"
    (tmp_path / "bad.car").write_bytes(data)
    async with world_at(tmp_path) as world:
        await register(world.dagstore, "a-bad", tmp_path / "bad.car")
        await register(world.dagstore, "good", tmp_path / "good.car")
        await world.exporter.to_file(Order(root), tmp_path / "out", replacing=False)
        assert same(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (Order(Cid.of(b"", RAW), ((b"a",),), ("a",)), "not both"),
        (Order(Cid.of(b"", RAW), proof=True), "a merkle proof is of a path or a data selector"),
        (Order(Cid.of(b"", RAW), ((b"a",), (b"b",))), "unixfs retrieval requires one root node, got 2"),
        (Order(Cid.of(b"", RAW), byte_range="x"), "not a byte range"),
        (Order(Cid.of(b"", RAW), ((b"a",), (b"b",)), byte_range="0:1", is_car=True), "of one file"),
        (Order(Cid.of(b"", RAW), version=3), "no CAR version 3"),
    ],
)
def test_what_makes_no_sense_is_refused(order: Order, message: str) -> None:
    with pytest.raises(ShardError, match=message) as raised:
        order.checked()
    assert raised.value.error_class is ErrorClass.INVALID
