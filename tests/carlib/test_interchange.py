"""CARs go both ways between carfs and Kubo, @ipld/car, ipfs-car and go-car's library, where `make peers` has them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from carlib import indexing
from carlib.blockstore import ReadOnlyBlockstore
from carlib.export import Export
from carlib.extract import extract
from carlib.options import WriteOptions
from carlib.pack import pack
from carlib.traversal import Traversal
from carlib.verify import verify
from carlib.writer import creating
from tests.carlib.cars import BLOCKS, HELLO, many_blocks
from tests.peers import Kubo, program, run

pytestmark = pytest.mark.peers


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    source = tmp_path / "tree"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "large").write_bytes(b"".join(bytes([number]) * (1 << 20) for number in range(4)))
    (source / "deep" / "er" / "small").write_bytes(b"small")
    (source / "empty").write_bytes(b"")
    return source


def dense(path: Path, version: int) -> Path:
    """A CAR with a block of every kind but identity, which @ipld/car cannot verify."""
    with creating(path, WriteOptions(version=version), roots=[HELLO]) as writer:
        for cid, data in (*BLOCKS[:-1], *many_blocks(200, 300)):
            writer.put(cid, data)
        writer.finish()
    return path


@pytest.mark.parametrize("version", [1, 2])
def test_kubo_imports_ours_and_exports_what_we_would(tmp_path: Path, tree: Path, version: int) -> None:
    kubo = Kubo(tmp_path / "kubo")
    root = pack(tree, tmp_path / "ours.car", version=version).root
    imported = kubo("dag", "import", "--stats=false", tmp_path / "ours.car")
    assert str(root) in imported
    kubo.export(str(root), tmp_path / "theirs.car")
    with ReadOnlyBlockstore.open(tmp_path / "ours.car") as store:
        ours = b"".join(Export.plan(Traversal.of(store, root)).chunks())
    assert (tmp_path / "theirs.car").read_bytes() == ours
    assert verify(tmp_path / "theirs.car").good
    with ReadOnlyBlockstore.open(tmp_path / "theirs.car") as store:
        assert extract(store, root, tmp_path / "out").is_complete


JS_READ = """
import { readFileSync } from 'node:fs'
import { CarReader, CarIndexer } from '@ipld/car'
const bytes = readFileSync(process.argv[2])
const reader = await CarReader.fromBytes(bytes)
const places = []
for await (const { cid, length, offset, blockLength, blockOffset } of await CarIndexer.fromBytes(bytes))
  places.push([cid.toString(), offset, length, blockOffset, blockLength])
const blocks = []
for await (const { cid, bytes } of reader.blocks()) blocks.push([cid.toString(), Buffer.from(bytes).toString('hex')])
console.log(JSON.stringify({ roots: (await reader.getRoots()).map(String), places, blocks }))
"""
JS_WRITE = """
import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { CarWriter, CarReader } from '@ipld/car'
import { readFileSync } from 'node:fs'
const reader = await CarReader.fromBytes(readFileSync(process.argv[2]))
const { writer, out } = CarWriter.create(await reader.getRoots())
const file = Readable.from(out).pipe(createWriteStream(process.argv[3]))
for await (const block of reader.blocks()) await writer.put(block)
await writer.close()
await finished(file)
"""


def javascript(script: str, *arguments: Path) -> str:
    """What a script prints that may import what ipfs-car was installed with."""
    modules = program("ipfs_car").parents[1]
    node = shutil.which("node")
    assert node is not None, "ipfs-car is there, so node was"
    file = modules.parent / f"carfs-{abs(hash(script))}.mjs"
    file.write_text(script)
    try:
        return run([node, file, *arguments])
    finally:
        file.unlink()


@pytest.mark.parametrize("version", [1, 2])
def test_ipld_car_reads_ours_block_by_block(tmp_path: Path, version: int) -> None:
    car = dense(tmp_path / "ours.car", version)
    theirs = json.loads(javascript(JS_READ, car))
    with ReadOnlyBlockstore.open(car) as store:
        found = list(store.cids())
        assert theirs["roots"] == [str(root) for root in store.roots]
        assert theirs["blocks"] == [[str(cid), store.get(cid).hex()] for cid, _ in found]
    places = [
        [str(cid), at.section_offset, at.data_offset - at.section_offset + at.size, at.data_offset, at.size]
        for cid, at in found
    ]
    assert theirs["places"] == places


def test_we_read_what_ipld_car_writes(tmp_path: Path) -> None:
    car = dense(tmp_path / "ours.car", 1)
    javascript(JS_WRITE, car, tmp_path / "theirs.car")
    assert (tmp_path / "theirs.car").read_bytes() == car.read_bytes()
    assert verify(tmp_path / "theirs.car").good


def test_ipfs_car_unpacks_ours_and_we_extract_its(tmp_path: Path, tree: Path) -> None:
    ipfs_car = program("ipfs_car")
    pack(tree, tmp_path / "ours.car")
    run([ipfs_car, "unpack", tmp_path / "ours.car", "-o", tmp_path / "theirs"])
    run([ipfs_car, "pack", tree, "--no-wrap", "-o", tmp_path / "theirs.car"])
    assert verify(tmp_path / "theirs.car").good
    with ReadOnlyBlockstore.open(tmp_path / "theirs.car") as store:
        assert extract(store, store.roots[0], tmp_path / "ours").is_complete
    for copy in ("theirs", "ours"):
        assert subprocess.run(["diff", "-r", tree, tmp_path / copy], check=False).returncode == 0


def test_our_index_is_go_cars_to_the_byte(tmp_path: Path) -> None:
    car = dense(tmp_path / "a.car", 1)
    run([program("go_car"), "index", car, tmp_path / "theirs.idx"])
    indexing.build(car, tmp_path / "ours.idx")
    assert (tmp_path / "ours.idx").read_bytes() == (tmp_path / "theirs.idx").read_bytes()
