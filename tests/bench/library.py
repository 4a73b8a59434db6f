"""Opening, indexing, verifying, packing and unpacking CARs, without a mount."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from carlib.blockstore import ReadOnlyBlockstore
from carlib.cid import Cid
from carlib.extract import extract
from carlib.indexing import build
from carlib.pack import pack
from carlib.selection import filtered
from carlib.verify import verify
from tests.bench.data import SMALL_BLOCK_BYTES, Data, small_block, small_cid
from tests.bench.peers import Peers
from tests.bench.table import Table, best_s, milliseconds, rate, seconds_text

MB = 1e6
MIB = 1 << 20
_GETS = 20_000


def measure(data: Data, peers: Peers) -> None:
    """Prints the tables; figures of other programs include their start-up where a command line is all they have."""
    _measure_open(data, peers)
    _measure_index(data, peers)
    _measure_verify(data, peers)
    _measure_get(data, peers)
    _measure_filter(data, peers)
    _measure_pack(data, peers)


def _measure_open(data: Data, peers: Peers) -> None:
    table = Table("Open a CAR and read one block", ("carfs", "go-car (open alone)"))
    table.begin()
    for count in (data.sizes.few_blocks, data.sizes.many_blocks):
        for version, what in ((2, "its own index"), (1, "no index")):
            car = data.blocks(count, version)
            ours = best_s(partial(_open, car, count))
            table.row(
                f"{count:,} blocks, {what}", milliseconds(ours), milliseconds(go_car(peers, "open", car))
            )


def _open(car: Path, count: int) -> None:
    with ReadOnlyBlockstore.open(car) as blocks:
        assert blocks.get(small_cid(count // 2)) == small_block(count // 2)


def _measure_index(data: Data, peers: Peers) -> None:
    table = Table("Build a detached index", ("carfs", "go-car"))
    table.begin()
    small, big, out = data.blocks(data.sizes.many_blocks, 1), data.car("one"), data.scratch("index")
    for name, car in (
        (f"{data.sizes.many_blocks:,} blocks of {SMALL_BLOCK_BYTES} B", small),
        ("blocks of 1 MiB", big),
    ):
        count = build(car, out).block_count
        ours = best_s(partial(build, car, out))
        theirs = go_car(peers, "index", car, out)
        table.row(f"{name}: {count:,}", rate(count, ours, "blocks"), rate(count, theirs, "blocks"))


def _measure_verify(data: Data, peers: Peers) -> None:
    table = Table(
        "Verify: hash every block, check the index", ("carfs", "hashlib alone", "go-car", "ipfs-car blocks")
    )
    table.begin()
    cases = [
        ("blocks of 1 MiB", data.car("one"), MIB),
        ("blocks of 200 B", data.blocks(data.sizes.many_blocks), SMALL_BLOCK_BYTES),
        ("blocks of 200 B, no index", data.blocks(data.sizes.many_blocks, 1), SMALL_BLOCK_BYTES),
    ]
    for name, car, block_bytes in cases:
        size = verify(car).data_bytes
        ours = best_s(partial(verify, car))
        floor = best_s(partial(_hash, bytes(block_bytes), size // block_bytes))
        theirs = (go_car(peers, "verify", car), command_s(peers.ipfs_car, "blocks", str(car)))
        table.row(name, *(rate(size / MB, seconds, "MB") for seconds in (ours, floor, *theirs)))


def _hash(block: bytes, count: int) -> None:
    for _ in range(count):
        hashlib.sha256(block).digest()


def _measure_get(data: Data, peers: Peers) -> None:
    table = Table("Get blocks of 200 B at random", ("carfs", "go-car (unverified, index in memory)"))
    table.begin()
    count, listed = data.sizes.many_blocks, data.scratch("cids")
    car = data.blocks(count)
    numbers = random.Random(1).sample(range(count), min(count, _GETS))
    cids = [small_cid(number) for number in numbers]
    listed.write_text("\n".join(map(str, cids)))
    with ReadOnlyBlockstore.open(car) as blocks:
        ours = best_s(partial(_get, blocks, cids))
    theirs = go_car(peers, "get", car, listed)
    table.row(f"of {count:,} blocks", rate(len(cids), ours, "blocks"), rate(len(cids), theirs, "blocks"))


def _get(blocks: ReadOnlyBlockstore, cids: Sequence[Cid]) -> None:
    for cid in cids:
        blocks.get(cid)


def _measure_filter(data: Data, peers: Peers) -> None:
    table = Table("Filter: every other block into a new CAR", ("carfs", "go-car's car"))
    table.begin()
    count, listed = data.sizes.few_blocks, data.scratch("cids")
    car, cids = data.blocks(count), [small_cid(number) for number in range(0, count, 2)]
    listed.write_text("\n".join(map(str, cids)))
    wanted = {cid.raw for cid in cids}
    ours = best_s(partial(filtered, car, data.scratch("ours.car"), wanted))
    theirs = command_s(
        peers.go_car_tool, "filter", "--cid-file", str(listed), str(car), str(data.scratch("theirs.car"))
    )
    table.row(f"{count:,} blocks", seconds_text(ours), seconds_text(theirs))


def _measure_pack(data: Data, peers: Peers) -> None:
    table = Table("Pack and unpack", ("carfs", "ipfs-car"))
    table.begin()
    for name, source, car in (
        ("one big file", data.source("one"), data.car("one")),
        (f"{data.sizes.files:,} files", data.source("tree"), data.car("tree")),
    ):
        out = data.scratch("out")
        ours = best_s(partial(pack, source, out), 1)
        theirs = command_s(
            peers.ipfs_car, "pack", str(source), "--no-wrap", "-o", str(data.scratch("theirs.car"))
        )
        table.row(f"pack {name}", seconds_text(ours), seconds_text(theirs))
        ours = best_s(partial(_extract, car, data.scratch("out")), 1)
        theirs = command_s(peers.ipfs_car, "unpack", str(car), "-o", str(data.scratch("theirs")))
        table.row(f"unpack {name}", seconds_text(ours), seconds_text(theirs))


def _extract(car: Path, out: Path) -> None:
    with ReadOnlyBlockstore.open(car) as blocks:
        extract(blocks, blocks.roots[0], out)


def go_car(peers: Peers, what: str, *paths: Path) -> float | None:
    """Seconds that go-car's library took, as our program around it measured them: the best of some runs."""
    if peers.go_car is None:
        return None
    command = [str(peers.go_car), what, *map(str, paths)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(3)]
    return min(float(run.stdout) for run in runs) if all(run.returncode == 0 for run in runs) else None


def command_s(program: Path | None, *arguments: str) -> float | None:
    """Seconds that a command took as a whole, None where it is absent or failed."""
    if program is None:
        return None
    command: Sequence[str] = [str(program), *arguments]
    failed: list[int] = []

    def run() -> None:
        failed.append(subprocess.run(command, capture_output=True, check=False).returncode)

    seconds = best_s(run, 1)
    return None if any(failed) else seconds
