"""Opening, indexing, verifying, reading, filtering and decoding CARs, without a mount."""

from __future__ import annotations

import hashlib
import math
import os
import random
import subprocess
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from carlib import dagcbor
from carlib.blockstore import ReadOnlyBlockstore
from carlib.checked import CheckedBlocks
from carlib.cid import Cid
from carlib.container import read_container
from carlib.indexing import build
from carlib.selection import filtered
from carlib.source import FileSource
from carlib.verify import verify
from tests.bench import packing
from tests.bench.data import SMALL_BLOCK_BYTES, Data, small_block, small_cid
from tests.bench.peers import Peers
from tests.bench.table import REPEATS, Table, best_s, command_s, milliseconds, rate, seconds_text

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
    _measure_records(data, peers)
    packing.measure(data, peers)


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
        "Verify: hash every block, check the index",
        ("carfs", "hashlib alone", "hashlib, a thread a processor", "go-car", "ipfs-car blocks"),
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
        blocks = size // block_bytes
        floor = best_s(partial(_hash, bytes(block_bytes), blocks))
        wide = best_s(partial(_hash_in_threads, bytes(block_bytes), blocks))
        theirs = (go_car(peers, "verify", car), command_s(peers.ipfs_car, "blocks", str(car)))
        table.row(name, *(rate(size / MB, seconds, "MB") for seconds in (ours, floor, wide, *theirs)))


def _hash(block: bytes, count: int) -> None:
    for _ in range(count):
        hashlib.sha256(block).digest()


def _hash_in_threads(block: bytes, count: int) -> None:
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(partial(_hash, block), [count // threads] * threads))


def _measure_get(data: Data, peers: Peers) -> None:
    table = Table(
        "Get blocks of 200 B at random",
        ("carfs, each verified", "carfs, the same again", "go-car and a hash", "go-car, unverified"),
    )
    table.begin()
    count, listed = data.sizes.many_blocks, data.scratch("cids")
    car = data.blocks(count)
    numbers = random.Random(1).sample(range(count), min(count, _GETS))
    cids = [small_cid(number) for number in numbers]
    listed.write_text("\n".join(map(str, cids)))
    first, again = math.inf, math.inf
    for _ in range(
        REPEATS
    ):  # opened anew, as what was verified once is not again; go-car loads its index meanwhile
        with ReadOnlyBlockstore.open(car) as blocks:
            first = min(first, best_s(partial(_get, blocks, cids), 1))
            again = min(again, best_s(partial(_get, blocks, cids), 1))
    theirs = [go_car(peers, what, car, listed) for what in ("get-verified", "get")]
    figures = (rate(len(cids), seconds, "blocks") for seconds in (first, again, *theirs))
    table.row(f"of {count:,} blocks, open store", *figures)


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


def _measure_records(data: Data, peers: Peers) -> None:
    table = Table(
        "Decode all records of a dag-cbor CAR",
        ("carfs, verified, strict", "carfs, links only", "libipld, unverified, all in memory"),
    )
    table.begin()
    car, count = data.records(), data.sizes.few_blocks
    ours, links = best_s(partial(_decode, car, dagcbor.decode)), best_s(partial(_decode, car, dagcbor.links))
    theirs = None
    if peers.libipld is not None:
        run = subprocess.run(
            [peers.libipld, "-c", _LIBIPLD, car], capture_output=True, text=True, check=False
        )
        theirs = float(run.stdout) if run.returncode == 0 else None
    table.row(
        f"{count:,} records, {car.stat().st_size / MB:.0f} MB",
        *(rate(count, seconds, "records") for seconds in (ours, links, theirs)),
    )


_LIBIPLD: Final = """
import sys, time, libipld
def run():
    begun = time.perf_counter()
    with open(sys.argv[1], "rb") as file:
        libipld.decode_car(file.read())
    return time.perf_counter() - begun
print(min(run() for _ in range(3)))
"""


def _decode(car: Path, decode: Callable[[memoryview], object]) -> None:
    with FileSource(car) as source:
        for block in CheckedBlocks(source, read_container(source)):
            assert block.problem is None
            found = decode(block.data)
            if isinstance(found, Iterator):
                deque(found, 0)


def go_car(peers: Peers, what: str, *paths: Path) -> float | None:
    """Seconds that go-car's library took, as our program around it measured them: the best of some runs."""
    if peers.go_car is None:
        return None
    command = [str(peers.go_car), what, *map(str, paths)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=False) for _ in range(3)]
    return min(float(run.stdout) for run in runs) if all(run.returncode == 0 for run in runs) else None
