"""The inverted index: taking multihashes in, looking them up, and what that costs in space and memory.

The same random multihashes go into a SQLite table, on fewer of them since it takes hours otherwise, and into one
sorted numpy array in memory, which no index can beat.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from carlib.index import MULTIHASH_INDEX_SORTED, SortedBucket, write
from tests.bench.data import Data
from tests.bench.inverted_process import LOOKUPS, each_s
from tests.bench.library import go_car
from tests.bench.peers import Peers
from tests.bench.table import Table, milliseconds, rate, seconds_text

SHARD_ENTRIES = 1_000_000
SQL_ENTRIES = 1_000_000
BYTES_AN_ENTRY = 3 * 40
"""Of disk, while a segment is made: the shards' indices, the segment, and the one that it takes the place of."""
MIB = 1 << 20
COLUMNS = (
    "taken in at once", "shard by shard", "bytes an entry", "segments then", "hit", "miss", "not page cache",
    "made anew", "remove a shard", "opened, nothing cached", "hit, from storage",
)  # fmt: skip


def measure(data: Data, peers: Peers, *, huge: bool) -> None:
    """Prints the tables; `huge`: also 100 million multihashes, where the disk has room."""
    entries = data.sizes.most_blocks
    table = Table("Inverted index: random multihashes of 32 bytes", COLUMNS)
    table.begin()
    for count in (entries, 10 * entries) if huge else (entries,):
        if shutil.disk_usage(data.folder).free < count * BYTES_AN_ENTRY:
            print(
                f"{count:,} multihashes are left out: they take {count * BYTES_AN_ENTRY / 1e9:.0f} GB of disk"
            )
            continue
        _measure_ours(data, table, count)
    _measure_sqlite(data, table, min(SQL_ENTRIES, entries))
    _measure_array(table, entries)
    _measure_acquire(data, peers)


def _measure_ours(data: Data, table: Table, count: int) -> None:
    folder = data.scratch("inverted")
    folder.mkdir(parents=True)
    shards = write_shards(folder, count)
    try:
        # A process of its own, so that what it holds is its memory and not the benchmark's.
        command = [sys.executable, "-m", "tests.bench.inverted_process", "inverted", str(folder)]
        figures = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        by_shard, hit, miss, segments, memory, at_once, size, rebuilt, removed, opened, cold = map(
            float, figures
        )
        table.row(
            f"carfs, {count:,} in {shards} shards", rate(count, at_once, "entries"), rate(count, by_shard, "entries"),
            f"{size / count:.1f}", f"{segments:.0f}", _micros(hit), _micros(miss), f"{memory / MIB:.0f} MiB",
            seconds_text(rebuilt), milliseconds(removed), seconds_text(opened), _micros(cold),
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)


def write_shards(folder: Path, count: int) -> int:
    """Index files of `count` random multihashes, a million each; gives how many files."""
    shards = -(-count // SHARD_ENTRIES)
    for number in range(shards):
        size = min(SHARD_ENTRIES, count - number * SHARD_ENTRIES)
        rows = np.frombuffer(np.random.Generator(np.random.SFC64(number)).bytes(size * 40), np.uint8).reshape(
            size, 40
        )
        order = np.argsort(rows[:, :8].copy().view(">u8").reshape(-1).astype(np.uint64))
        with (folder / f"{number}.idx").open("wb") as file:
            write(file, MULTIHASH_INDEX_SORTED, [SortedBucket(0x12, 32, size, [rows[order].tobytes()])])
    return shards


def sample(folder: Path) -> list[bytes]:
    """Some of the multihashes that are in, in random order."""
    paths = sorted(folder.glob("*.idx"))
    found = []
    for path in paths:
        rows = np.memmap(path, np.uint8, "r")
        entries = rows[len(rows) % 40 :].reshape(-1, 40)
        places = np.random.Generator(np.random.SFC64(1)).integers(0, len(entries), LOOKUPS // len(paths))
        found += [b"\x12\x20" + entries[place, :32].tobytes() for place in places]
    random.Random(1).shuffle(found)
    return found


def absent(count: int) -> list[bytes]:
    """Multihashes that are in no shard."""
    data = np.random.Generator(np.random.SFC64(12345678)).bytes(count * 32)
    return [b"\x12\x20" + data[start : start + 32] for start in range(0, count * 32, 32)]


def _measure_sqlite(data: Data, table: Table, count: int) -> None:
    path = data.scratch("inverted.db")
    rows = [(raw, 1) for raw in absent(count)]
    begun = time.perf_counter()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA cache_size=-65536")
        database.execute("CREATE TABLE held (mh BLOB, shard INTEGER, PRIMARY KEY (mh, shard)) WITHOUT ROWID")
        for start in range(0, count, 100_000):
            database.executemany("INSERT INTO held VALUES (?, ?)", rows[start : start + 100_000])
            database.commit()
    filled = time.perf_counter() - begun
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    query = "SELECT shard FROM held WHERE mh = ?"
    wanted = [raw for raw, _ in random.Random(1).sample(rows, min(LOOKUPS, count))]
    missing = [raw[:-1] + b"\7" for raw in wanted]
    hit, miss = (
        each_s(lambda raw: database.execute(query, (raw,)).fetchall(), some) for some in (wanted, missing)
    )
    begun = time.perf_counter()
    with database:
        database.execute("DELETE FROM held WHERE shard = 1")
    table.row(
        f"SQLite, {count:,}", None, rate(count, filled, "entries"), f"{path.stat().st_size / count:.1f}", None,
        _micros(hit), _micros(miss), None, None, milliseconds(time.perf_counter() - begun),
    )  # fmt: skip
    database.close()


def _measure_array(table: Table, count: int) -> None:
    """All digests in one sorted array: what numpy's own search takes, without shards and without a disk."""
    digests = np.frombuffer(np.random.Generator(np.random.SFC64(1)).bytes(count * 32), "S32")
    begun = time.perf_counter()
    ordered = np.sort(digests)
    filled = time.perf_counter() - begun
    wanted = [ordered[place] for place in np.random.Generator(np.random.SFC64(2)).integers(0, count, LOOKUPS)]
    missing = [np.bytes_(raw[2:]) for raw in absent(LOOKUPS)]
    hit, miss = (each_s(ordered.searchsorted, some) for some in (wanted, missing))
    table.row(
        f"sorted array, {count:,}",
        rate(count, filled, "entries"),
        None,
        "32.0",
        None,
        _micros(hit),
        _micros(miss),
    )


def _measure_acquire(data: Data, peers: Peers) -> None:
    table = Table("Acquire a shard whose index exists, and find a block", ("carfs", "go-car: load the index"))
    table.begin()
    for count in (data.sizes.many_blocks, data.sizes.most_blocks):
        car = data.blocks(count, 1)
        folder = data.scratch("acquire")
        command = [
            sys.executable,
            "-m",
            "tests.bench.inverted_process",
            "acquire",
            str(folder),
            str(car),
            str(count // 2),
        ]
        run = subprocess.run(command, check=True, capture_output=True, text=True)
        theirs = go_car(peers, "load", next((folder / "index").glob("*.idx")))
        table.row(f"{count:,} blocks", milliseconds(float(run.stdout)), milliseconds(theirs))
        shutil.rmtree(folder)


def _micros(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} µs"
